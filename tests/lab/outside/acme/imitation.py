"""What ACME answers in tests: the imitation's own market, in ACME's words."""

from datetime import datetime

from stagingest.sim.imitation import Answer, Headers, Imitation
from stagingest.sim.market.bars import Spec, Timeframe
from stagingest.sim.market.calendar import Moment
from stagingest.sim.market.market import Market
from stagingest.sim.policy import Policy
from stagingest.sim.questions import Query, Refusal, instant_ns


def _key(headers: Headers, target: str) -> tuple[str, str]:
    key = headers.get("x-acme", "")
    return key, key


def _daily(market: Market, policy: Policy, path: str, query: Query, now: datetime) -> Answer | None:
    first_ns, last_ns = instant_ns(query, "from", late=False), instant_ns(query, "to", late=True)
    timeframe = Timeframe.parse("1Day")
    if first_ns is None or last_ns is None or timeframe is None:
        raise Refusal(400, "from and to are required")
    first_s, last_s = first_ns // 10**9, last_ns // 10**9
    rows = []
    for run in market.stock_bars(path.rpartition("/")[2], Spec(timeframe), first_s, last_s, Moment.at(now)):
        i, j = run.span(first_s, last_s)
        rows += [run.cut(k, k + 1) for k in range(i, j)]
    start = int(query.get("page_token") or 0)
    end = start + int(query["limit"])
    token = b'"%d"' % end if end < len(rows) else b"null"
    page = rows[start:end]
    return Answer(200, b'{"bars":[%s],"next_page_token":%s}' % (b",".join(page), token), len(page))


IMITATION = Imitation(
    "acme", ("/acme/",), _key, _daily, (("ACME_BASE_URL",), ("ACME_PASS",)), forbidden="no such pass", key_status=401
)

"""The answers to requests for snapshots, of chains and of named contracts, as each provider gives them."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import islice

import orjson

from stagingest.sim import questions
from stagingest.sim.market.calendar import Moment
from stagingest.sim.market.contracts import ListedContract
from stagingest.sim.market.market import Market
from stagingest.sim.market.snapshots import Snapshot
from stagingest.sim.policy import Policy, next_member, rows_member
from stagingest.sim.questions import Query, Refusal, choice, day_of, decoded, instant_ns, limit_of, number, symbols_of

_MOST_ROWS = 1_000
_MOST_MASSIVE = 250
FEEDS = ("indicative", "opra")


@dataclass(frozen=True, slots=True)
class ChainFilter:
    """Which contracts of a chain are wanted; None and '' stand for no bound."""

    least: Decimal | None
    most: Decimal | None
    first: date | None
    last: date | None
    type: str
    root: str = ""

    def hold(self, one: ListedContract) -> bool:
        """Whether the contract lies within."""
        return (
            (self.least is None or one.strike >= self.least)
            and (self.most is None or one.strike <= self.most)
            and (self.first is None or one.expiry >= self.first)
            and (self.last is None or one.expiry <= self.last)
            and self.type in ("", one.type)
            and self.root in ("", one.root)
        )


@dataclass(frozen=True, slots=True)
class ChainPage:
    """One page: its rows, and the symbol after which the next one begins, '' at the end."""

    rows: tuple[Snapshot, ...]
    after: str


def cut(found: Sequence[Snapshot], bounds: ChainFilter, after: str, most: int) -> ChainPage:
    """The page of at most `most` snapshots that follows `after`, in the order of symbols."""
    wanted = (one for one in found if one.contract.symbol > after and bounds.hold(one.contract))
    rows = tuple(islice(wanted, most))
    return ChainPage(rows, rows[-1].contract.symbol if next(wanted, None) else "")


def alpaca(market: Market, policy: Policy, query: Query, now: datetime, underlying: str = "") -> tuple[bytes, int]:
    """Body and rows of `GET /v1beta1/options/snapshots`, with `/{underlying}` of a chain. Raises Refusal."""
    moment = Moment.at(now)
    if choice(query, "feed", FEEDS) == "opra" and not policy.opra:
        raise Refusal(403, "OPRA agreement is not signed")
    most = min(limit_of(query, 100, _MOST_ROWS), policy.page_cap or _MOST_ROWS)
    if underlying:
        found: Sequence[Snapshot] = market.snapshots(underlying, moment)
    else:
        chains = {
            symbol: market.contract(symbol, moment.today)
            for symbol in symbols_of(query.get("symbols", ""), option=True)
        }
        parents = {one.underlying for one in chains.values() if one}
        every = (one for parent in parents for one in market.snapshots(parent, moment))
        found = sorted((one for one in every if one.contract.symbol in chains), key=lambda one: one.contract.symbol)
    since_ns = instant_ns(query, "updated_since", late=False)
    if since_ns is not None:
        found = [one for one in found if max(_touched(one)) >= since_ns]
    expiry, kind = day_of(query, "expiration_date"), query.get("type", "")
    if kind not in ("", "call", "put"):
        raise Refusal(400, f"invalid type: {kind}")
    bounds = ChainFilter(
        number(query, "strike_price_gte"), number(query, "strike_price_lte"),
        expiry or day_of(query, "expiration_date_gte"), expiry or day_of(query, "expiration_date_lte"), kind,
        query.get("root_symbol", ""),
    )  # fmt: skip
    after, mark, _ = decoded(query["page_token"]).partition("|") if query.get("page_token") else ("", "|", "")
    if not mark:
        raise Refusal(400, "invalid page_token")
    page = cut(found, bounds, after, most)
    return _body(policy, page), len(page.rows)


def massive(market: Market, policy: Policy, query: Query, path: str, now: datetime) -> tuple[bytes, int]:
    """Body and rows of `GET /v3/snapshot/options/{underlying}`; a cursor holds the whole question. Raises Refusal."""
    if not policy.opra:
        raise Refusal(403, "You are not entitled to this data. Please upgrade your plan.")
    query = questions.asked(query)
    after = query.pop("after", "")
    most = min(limit_of(query, 10, _MOST_MASSIVE), policy.page_cap or _MOST_MASSIVE)
    bounds = ChainFilter(
        number(query, "strike_price.gte"), number(query, "strike_price.lte"), day_of(query, "expiration_date.gte"),
        day_of(query, "expiration_date.lte"), choice(query, "contract_type", ("", "call", "put", "other")),
    )  # fmt: skip
    if after == questions.END:
        return b"{}", 0
    page = cut(market.snapshots(path.rpartition("/")[2].removeprefix("I:"), Moment.at(now)), bounds, after, most)
    return questions.body_of(policy, [one.massive() for one in page.rows], path, query, page.after)


def _touched(one: Snapshot) -> tuple[int, ...]:
    return (0, *(part.at_ns for part in (one.quote, one.trade) if part))


def _body(policy: Policy, page: ChainPage) -> bytes:
    rows = b",".join(b'"%s":%s' % (one.contract.symbol.encode(), orjson.dumps(one.alpaca())) for one in page.rows)
    token = b64encode(f"{page.after}|1".encode()).decode() if page.after else None
    members = [rows_member(policy, b"snapshots", rows, lists=False), next_member(policy, token)]
    return b"{%s}" % b",".join(filter(None, members))

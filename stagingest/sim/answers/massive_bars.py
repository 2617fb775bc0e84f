"""The answers to requests for Massive's aggregates, cut where so many minutes or days have been looked through."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from stagingest.model import calendar
from stagingest.sim import questions
from stagingest.sim.market.bars import Bars, Spec, Timeframe
from stagingest.sim.market.calendar import Moment, stamp
from stagingest.sim.market.market import Market
from stagingest.sim.policy import Policy
from stagingest.sim.questions import Query, Refusal, choice, limit_of

PATH = "/v2/aggs/ticker/"
_MOST_BASE = 50_000
_SPANS = {"minute": ("Min", 1), "hour": ("Hour", 1), "day": ("Day", 1), "week": ("Week", 1)}
_SPANS |= {"month": ("Month", 1), "quarter": ("Month", 3), "year": ("Month", 12)}
_RECENT_S = 900
_STAMP = re.compile(rb'"t":"[^"]+"')
_VOLUME = re.compile(rb'"v":(\d+)')

Run = tuple[Bars, int, int]


@dataclass(frozen=True, slots=True)
class _Ask:
    """A checked request; first and last are stamps in seconds, both included."""

    ticker: str
    spec: Spec
    adjusted: bool
    first_s: int
    last_s: int
    limit: int

    @property
    def option(self) -> bool:
        """Whether it is a contract."""
        return self.ticker.startswith("O:")

    @property
    def base(self) -> Spec:
        """The bars that the limit counts."""
        return Spec(Timeframe(1, "Min" if self.spec.timeframe.intraday else "Day"), adjustment=self.spec.adjustment)


def aggregates(market: Market, policy: Policy, query: Query, path: str, now: datetime) -> tuple[bytes, int, str] | None:
    """Body, rows and how long they last of `GET /v2/aggs/ticker/{T}/range/{n}/{span}/{from}/{to}`. Raises Refusal."""
    parts = path.removeprefix(PATH).split("/")
    if len(parts) != 6 or parts[1] != "range":
        return None
    query = questions.asked(query)
    if query.get("after") == questions.END:
        return b"{}", 0, "day"
    ask = _ask(parts, query)
    if ask.option and not policy.opra:
        raise Refusal(403, "You are not entitled to this data. Please upgrade your plan at https://massive.com/pricing")
    moment = Moment.at(now)
    last_s = min(ask.last_s, int(now.timestamp()) - _RECENT_S) if policy.massive_delayed else ask.last_s
    runs, base, next_s = _page(market, policy, ask, last_s, moment)
    stamps = [at_s for run, i, j in runs for at_s in run.stamps[i:j]]
    text = _text(ask, runs, stamps)
    if policy.massive_repeats and text:
        first = text[: text.index(b"}") + 1]
        text, stamps = b",".join([first, first, text]), [*stamps[:1], *stamps[:1], *stamps]
    address = _next(policy, ask, parts, next_s, stamps)
    closed = last_s < stamp(ask.spec.timeframe.period(moment.session))
    return _body(policy, ask, text, len(stamps), base, address), len(stamps), "day" if closed else "minute"


def _ask(parts: list[str], query: Query) -> _Ask:
    ticker, _, multiplier, span, first, last = parts
    unit, months = _SPANS.get(span, ("", 1))
    timeframe = Timeframe.parse(f"{int(multiplier) * months}{unit}") if multiplier.isdecimal() and unit else None
    if timeframe is None:
        raise Refusal(400, f"The timespan {multiplier} {span} is none of the imitation's.")
    adjusted = choice(query, "adjusted", ("true", "false")) == "true"
    choice(query, "sort", ("asc",))  # the imitation knows no other order
    first_ms, last_ms = _instant_ms(first, late=False), _instant_ms(last, late=True)
    if last_ms < first_ms:
        raise Refusal(400, "The parameter 'to' cannot be a time that occurs before 'from'")
    splits = frozenset({"split"}) if adjusted and not ticker.startswith("O:") else frozenset[str]()
    spec = Spec(timeframe, adjustment=splits)
    limit = limit_of(query, 5_000, _MOST_BASE)
    return _Ask(ticker, spec, adjusted, -(-first_ms // 1000), last_ms // 1000, limit)


def _instant_ms(text: str, *, late: bool) -> int:
    """Milliseconds, or a day's first or last one in New York. Raises Refusal."""
    if text.isdecimal():
        return int(text)
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise Refusal(400, "Could not parse the date.") from None
    return int(calendar.instant(day + timedelta(days=late)).timestamp()) * 1000 - late


def _page(market: Market, policy: Policy, ask: _Ask, last_s: int, moment: Moment) -> tuple[list[Run], int, int | None]:
    """The rows of a page, of how many base bars they are, and the stamp that the next page begins with."""
    limit = min(ask.limit, policy.page_cap or ask.limit)
    edge_s, base = _edge(_runs(market, ask, ask.base, last_s, moment), limit)
    if not base:  # a replayed market may have these bars alone
        edge_s, base = _edge(_runs(market, ask, ask.spec, last_s, moment), limit)
    runs: list[Run] = []
    next_s = None
    for run, i, j in _runs(market, ask, ask.spec, last_s, moment):
        end = j if edge_s is None else bisect_right(run.stamps, edge_s, i, j)
        runs += [(run, i, end)] if i < end else []
        if end < j:
            next_s = run.stamps[end]
            break
    if edge_s is not None and sum(j - i for _, i, j in runs) > 1:
        run, i, j = runs.pop()  # its last row would be half a bar
        next_s = run.stamps[j - 1]
        runs += [(run, i, j - 1)] if i < j - 1 else []
    return runs, base, next_s


def _edge(runs: Iterator[Run], limit: int) -> tuple[int | None, int]:
    """The stamp of the first base bar beyond the limit, and how many are before it."""
    seen = 0
    for run, i, j in runs:
        if seen + j - i > limit:
            return run.stamps[i + limit - seen], limit
        seen += j - i
    return None, seen


def _runs(market: Market, ask: _Ask, spec: Spec, last_s: int, moment: Moment) -> Iterator[Run]:
    if ask.option:
        bars = market.option_bars(ask.ticker.removeprefix("O:"), spec.timeframe, moment)
        found = iter([bars] if bars else [])
    else:
        found = market.stock_bars(ask.ticker, spec, ask.first_s, last_s, moment)
    for run in found:
        i, j = run.span(ask.first_s, last_s)
        if i < j:
            yield run, i, j


def _text(ask: _Ask, runs: list[Run], stamps: list[int]) -> bytes:
    """The rows as this provider writes them: milliseconds, and an adjusted volume is no integer any more."""
    pieces = _STAMP.split(b",".join(run.cut(i, j) for run, i, j in runs))
    millis = [b'"t":%d000' % at_s for at_s in stamps]
    text = b"".join(part for pair in zip(pieces, [*millis, b""], strict=True) for part in pair)
    return _VOLUME.sub(rb'"v":\1.0', text) if ask.spec.adjustment else text


def _next(policy: Policy, ask: _Ask, parts: list[str], next_s: int | None, stamps: list[int]) -> str:
    """The address of the next page, which begins where this one ends; '' when there is none."""
    query = {"limit": str(ask.limit), "sort": "asc"} | ({} if ask.adjusted else {"adjusted": "false"})
    if next_s is None:
        if policy.empty_pages != "last" or not stamps:
            return ""
        next_s, query = ask.last_s, {**query, "after": questions.END}
    return questions.next_url(PATH + "/".join([*parts[:4], str(next_s * 1000), parts[5]]), query)


def _body(policy: Policy, ask: _Ask, text: bytes, rows: int, base: int, address: str) -> bytes:
    page = {"ticker": ask.ticker, "adjusted": ask.adjusted, "queryCount": base, "resultsCount": rows, "count": rows}
    page |= questions.envelope(policy)
    members = [orjson.dumps(page)[1:-1]]
    if text:
        members.append(b'"results":[%s]' % text)
    if address:
        members.append(b'"next_url":%s' % orjson.dumps(address))
    return b"{%s}" % b",".join(members)

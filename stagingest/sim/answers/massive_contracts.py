"""The answers to requests for Massive's option contracts: all of an underlying, or one."""

from dataclasses import dataclass
from datetime import date
from itertools import islice

import orjson

from stagingest.sim import questions
from stagingest.sim.answers.chains import ChainFilter
from stagingest.sim.market.calendar import Moment
from stagingest.sim.market.market import Market
from stagingest.sim.policy import Policy
from stagingest.sim.questions import Query, Refusal, choice, day_of, limit_of, number

PATH = "/v3/reference/options/contracts"
_MOST_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class _Ask:
    """A checked request: contracts as of a day, after a symbol."""

    underlyings: tuple[str, ...]
    expired: bool
    day: date
    bounds: ChainFilter
    after: str
    limit: int


def contracts(market: Market, policy: Policy, query: Query, moment: Moment) -> tuple[bytes, int]:
    """Body and rows of `GET /v3/reference/options/contracts`; a cursor holds the whole question. Raises Refusal."""
    query = questions.asked(query)
    after = query.pop("after", "")
    if after == questions.END:
        return b"{}", 0
    ask = _ask(query, market, moment, after)
    found = (one for name in ask.underlyings for one in market.contracts(name, ask.day))
    wanted = (
        one
        for one in sorted(found, key=lambda one: one.symbol)
        if one.symbol > after and one.active(ask.day) != ask.expired and ask.bounds.hold(one)
    )
    page = list(islice(wanted, min(ask.limit, policy.page_cap or ask.limit)))
    last = page[-1].symbol if page and next(wanted, None) is not None else ""
    return questions.body_of(policy, [one.massive() for one in page], PATH, query, last)


def contract(market: Market, symbol: str, moment: Moment) -> tuple[bytes, int]:
    """Body and rows of `GET /v3/reference/options/contracts/{ticker}`. Raises Refusal."""
    found = market.contract(symbol.removeprefix("O:"), moment.today)
    if not found:
        raise Refusal(404, "Ticker not found.")
    return orjson.dumps({"results": found.massive(), "status": "OK"}), 1


def _ask(query: Query, market: Market, moment: Moment, after: str) -> _Ask:
    choice(query, "order", ("asc",))
    choice(query, "sort", ("ticker",))
    expiry = day_of(query, "expiration_date")
    parent = query.get("underlying_ticker", "").removeprefix("I:")
    bounds = ChainFilter(
        number(query, "strike_price.gte"), number(query, "strike_price.lte"),
        expiry or day_of(query, "expiration_date.gte"), expiry or day_of(query, "expiration_date.lte"),
        choice(query, "contract_type", ("", "call", "put", "other")),
    )  # fmt: skip
    return _Ask(
        (parent,) if parent else tuple(market.underlyings),
        choice(query, "expired", ("false", "true")) == "true",
        day_of(query, "as_of") or moment.today,
        bounds,
        after,
        limit_of(query, 10, _MOST_ROWS),
    )

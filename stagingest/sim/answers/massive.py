"""Massive's host: answers as a function of market, policy and time."""

from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice

import orjson

from stagingest.sim import questions
from stagingest.sim.answers import chains, massive_bars
from stagingest.sim.answers.chains import ChainFilter
from stagingest.sim.imitation import Answer, Headers, Imitation, split_target
from stagingest.sim.market.calendar import Moment
from stagingest.sim.market.market import Market
from stagingest.sim.policy import Policy
from stagingest.sim.questions import Query, Refusal, bearer, choice, day_of, limit_of, number

_CONTRACTS = "/v3/reference/options/contracts"
_MOST_ROWS = 1_000
_CHAINS = "/v3/snapshot/options/"
_LIMITED = "You've exceeded the maximum requests per minute, please wait or upgrade your subscription."


def _key(headers: Headers, target: str) -> tuple[str, str]:
    if sent := bearer(headers):
        return sent
    given = dict(split_target(target)[1]).get("apiKey", "")
    return given, given


def _refused(refusal: Refusal) -> Answer:
    known = {403: ("NOT_AUTHORIZED", "message"), 404: ("NOT_FOUND", "message")}
    word, name = known.get(refusal.status, ("ERROR", "error"))
    body = {"status": word, "request_id": "708a1c2b3d4e5f60718293a4b5c6d7e8", name: refusal.message}
    return Answer(refusal.status, orjson.dumps(body), lasting="never" if refusal.status == 403 else "day")


def _answer(market: Market, policy: Policy, path: str, query: Query, now: datetime) -> Answer | None:
    moment = Moment.at(now)
    if path.startswith(massive_bars.PATH):
        found = massive_bars.aggregates(market, policy, query, path, now)
        return Answer(200, *found) if found else None
    if path == _CONTRACTS:
        return Answer(200, *_contracts(market, policy, query, moment))
    if path.startswith(f"{_CONTRACTS}/"):
        return Answer(200, *_contract(market, path.removeprefix(f"{_CONTRACTS}/"), moment))
    if path.startswith(_CHAINS) and path.count("/") == _CHAINS.count("/"):
        return Answer(200, *chains.massive(market, policy, query, path, now), "minute")
    return None


@dataclass(frozen=True, slots=True)
class _Ask:
    """A checked request: contracts as of a day, after a symbol."""

    underlyings: tuple[str, ...]
    expired: bool
    day: date
    bounds: ChainFilter
    after: str
    limit: int


def _contracts(market: Market, policy: Policy, query: Query, moment: Moment) -> tuple[bytes, int]:
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
    return questions.body_of(policy, [one.massive() for one in page], _CONTRACTS, query, last)


def _contract(market: Market, symbol: str, moment: Moment) -> tuple[bytes, int]:
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


MASSIVE = Imitation(
    "massive", ("/v3/", "/v2/aggs/"), _key, _answer, (("MASSIVE_API_BASE_URL",), ("MASSIVE_API_KEY",)), _refused,
    forbidden="Unknown API Key", limited=_LIMITED, unknown=b"404 page not found", tells_rate=False, key_status=401,
)  # fmt: skip

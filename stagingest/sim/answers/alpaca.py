"""Alpaca's two hosts: answers as a function of market, policy and time."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import orjson

from stagingest.sim.answers import chains
from stagingest.sim.imitation import Answer, Headers, Imitation
from stagingest.sim.market.bars import Bars
from stagingest.sim.market.calendar import Moment, stamp
from stagingest.sim.market.contracts import ListedContract
from stagingest.sim.market.market import Market
from stagingest.sim.policy import Policy, next_member, rows_member
from stagingest.sim.questions import (
    BarsAsk,
    ContractsAsk,
    Query,
    Refusal,
    Token,
    bars_ask,
    bearer,
    contracts_ask,
    offset_token,
)  # fmt: skip

_RECENT = timedelta(minutes=15)
_CONTRACTS = "/v2/options/contracts"
_STOCKS = "/v2/stocks/"
_SNAPSHOTS = "/v1beta1/options/snapshots"
_KEYS = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")


def _key(headers: Headers, target: str) -> tuple[str, str]:
    return bearer(headers) or (headers.get("apca-api-key-id", ""), headers.get("apca-api-secret-key", ""))


def _refused(refusal: Refusal) -> Answer:
    code = {} if refusal.code is None else {"code": refusal.code}
    body = orjson.dumps({**code, "message": refusal.message})
    return Answer(refusal.status, body, lasting="never" if refusal.status == 403 else "day")


def _refused_trading(refusal: Refusal) -> Answer:
    code = 40010001 if refusal.status == 400 else None
    return _refused(Refusal(refusal.status, refusal.message, refusal.code or code))


def _data(market: Market, policy: Policy, path: str, query: Query, now: datetime) -> Answer | None:
    moment = Moment.at(now)
    if path == "/v1beta1/options/bars":
        if not policy.opra:
            raise Refusal(403, "OPRA agreement is not signed")
        return _bars(market, policy, bars_ask(query, now, option=True), now, moment)
    underlying = path.removeprefix(_SNAPSHOTS)
    if underlying == "" or (path.startswith(f"{_SNAPSHOTS}/") and underlying.count("/") == 1):
        body, rows = chains.alpaca(market, policy, query, now, underlying.removeprefix("/"))
        return Answer(200, body, rows, "minute")
    single = path.removeprefix(_STOCKS).removesuffix("/bars")
    if path == f"{_STOCKS}bars":
        return _bars(market, policy, bars_ask(query, now), now, moment)
    if path == f"{_STOCKS}{single}/bars" and "/" not in single:
        return _bars(market, policy, bars_ask(query, now, single=single), now, moment)
    return None


def _trading(market: Market, policy: Policy, path: str, query: Query, now: datetime) -> Answer | None:
    moment = Moment.at(now)
    if path == _CONTRACTS:
        return _contracts(market, policy, contracts_ask(query, moment.today), moment)
    if path.startswith(f"{_CONTRACTS}/"):
        return _contract(market, path.removeprefix(f"{_CONTRACTS}/"), moment)
    return None


# --- bars


def _bars(market: Market, policy: Policy, ask: BarsAsk, now: datetime, moment: Moment) -> Answer:
    last_s = ask.last_s
    limited = not policy.recent_sip and not ask.option and ask.spec.feed == "sip"
    if limited and last_s > (now - _RECENT).timestamp():
        if not ask.to_now:
            raise Refusal(403, "subscription does not permit querying recent SIP data", 42210000)
        last_s = int((now - _RECENT).timestamp())
    pieces, rows, token = _page(market, policy, ask, last_s, moment)
    closed = last_s < stamp(ask.spec.timeframe.period(moment.session))
    lasting = "never" if limited and ask.to_now else "day" if closed else "minute"
    return Answer(200, _bars_body(policy, ask, pieces, token), rows, lasting)


Pieces = list[tuple[str, list[bytes]]]


def _page(
    market: Market, policy: Policy, ask: BarsAsk, last_s: int, moment: Moment
) -> tuple[Pieces, int, Token | None]:
    """The rows of one page by symbol, their number, and where the next page begins."""
    token = ask.token
    if token and token.idle:
        return [], 0, Token(token.symbol, token.at_s) if token.symbol else None
    limit = min(ask.limit, policy.page_cap or ask.limit)
    pieces: Pieces = []
    left = limit
    for symbol in ask.symbols:
        if token and symbol < token.symbol:
            continue
        first, last = ask.first_s, last_s
        if token and symbol == token.symbol:
            first, last = (first, min(last, token.at_s)) if ask.descending else (max(first, token.at_s), last)
        cuts: list[bytes] = []
        for run, i, j in _runs(market, ask, symbol, first, last, moment):
            count = min(left, j - i)
            start = j - count if ask.descending else i
            if count:
                cuts.append(run.cut(start, start + count, descending=ask.descending))
            left -= count
            if count < j - i:
                next_s = run.stamps[j - count - 1] if ask.descending else run.stamps[i + count]
                return _with(pieces, symbol, cuts), limit, Token(symbol, next_s, policy.empty_pages == "between")
        pieces = _with(pieces, symbol, cuts)
    return pieces, limit - left, Token("", 0, idle=True) if policy.empty_pages == "last" else None


def _with(pieces: Pieces, symbol: str, cuts: list[bytes]) -> Pieces:
    return [*pieces, (symbol, cuts)] if cuts else pieces


def _runs(
    market: Market, ask: BarsAsk, symbol: str, first_s: int, last_s: int, moment: Moment
) -> Iterator[tuple[Bars, int, int]]:
    """Runs of a symbol with the indices of the wanted bars, those without any left out."""
    if ask.option:
        found = market.option_bars(symbol, ask.spec.timeframe, moment)
        runs = iter([found] if found else [])
    else:
        runs = market.stock_bars(symbol, ask.spec, first_s, last_s, moment, descending=ask.descending)
    for run in runs:
        i, j = run.span(first_s, last_s)
        if i < j:
            yield run, i, j


def _bars_body(policy: Policy, ask: BarsAsk, pieces: Pieces, token: Token | None) -> bytes:
    letter = "M" if ask.spec.timeframe.intraday else "D"
    text = token.text(letter, descending=ask.descending) if token else None
    lists = [b'"%s":[%s]' % (symbol.encode(), b",".join(cuts)) for symbol, cuts in pieces]
    members = [rows_member(policy, b"bars", b",".join(lists), lists=ask.single)]
    if ask.single:
        rows = b",".join(pieces[0][1]) if pieces else b""
        members = [rows_member(policy, b"bars", rows, lists=True), b'"symbol":"%s"' % ask.symbols[0].encode()]
    if ask.spec.currency != "USD":
        members.append(b'"currency":"%s"' % ask.spec.currency.encode())
    return b"{%s}" % b",".join(filter(None, [*members, next_member(policy, text)]))


# --- contracts


def _contracts(market: Market, policy: Policy, ask: ContractsAsk, moment: Moment) -> Answer:
    underlyings = ask.underlyings or market.underlyings
    found = (contract for name in underlyings for contract in market.contracts(name, moment.today))
    rows = sorted((one for one in found if _wanted(ask, one, moment)), key=lambda one: one.symbol)
    limit = min(ask.limit, policy.page_cap or ask.limit)
    page = rows[ask.offset : ask.offset + limit]
    end = ask.offset + limit
    text = b",".join(orjson.dumps(one.row(moment.today, deliverables=ask.deliverables)) for one in page)
    token = offset_token(end) if end < len(rows) else None
    if token is None and policy.empty_pages == "last" and page:
        token = offset_token(max(end, len(rows)))
    members = [rows_member(policy, b"option_contracts", text, lists=True), next_member(policy, token)]
    return Answer(200, b"{%s}" % b",".join(filter(None, members)), len(page))


def _wanted(ask: ContractsAsk, one: ListedContract, moment: Moment) -> bool:
    return (
        one.active(moment.today) == (ask.status == "active")
        and (ask.expiry is None or one.expiry == ask.expiry)
        and (ask.first is None or one.expiry >= ask.first)
        and (ask.last is None or one.expiry <= ask.last)
        and ask.root in ("", one.root)
        and ask.type in ("", one.type)
        and ask.style in ("", one.style)
        and (ask.least is None or one.strike >= ask.least)
        and (ask.most is None or one.strike <= ask.most)
        and ask.penny in (None, one.penny)
    )


def _contract(market: Market, symbol: str, moment: Moment) -> Answer:
    found = market.contract(symbol, moment.today)
    if not found:
        raise Refusal(404, f"option contract {symbol} not found", 40410000)
    return Answer(200, orjson.dumps(found.row(moment.today, deliverables=True)), 1)


DATA = Imitation("data", ("/",), _key, _data, (("APCA_API_DATA_URL",), _KEYS), _refused)
TRADING = Imitation("trading", ("/v2/options",), _key, _trading, (("APCA_API_BASE_URL",), _KEYS), _refused_trading)

"""What a request asks for, checked as the provider checks it."""

import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson

from stagingest.model import calendar
from stagingest.sim.market.bars import Spec, Timeframe
from stagingest.sim.market.contracts import OCC
from stagingest.sim.market.walks import FEEDS
from stagingest.sim.policy import Policy

MOST_ROWS = 10_000
MOST_OPTIONS = 100
_NS = 1_000_000_000
_FAR = 2**63 - 1
_SYMBOL = re.compile(r"[A-Z]+([.\-][A-Z]+)?")
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
_ADJUSTMENTS = {"split", "dividend", "spin-off"}

Query = dict[str, str]


class Refusal(Exception):  # noqa: N818
    """The answer to a request that is not served: a status and a message."""

    def __init__(self, status: int, message: str, code: int | None = None) -> None:
        super().__init__(status, message, code)
        self.status = status
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class Token:
    """Where the next page of bars begins: at `at_s` of `symbol`; `idle` means first a page without rows.

    The last page's follower, which has no rows at all, has no symbol.
    """

    symbol: str
    at_s: int
    idle: bool = False

    def text(self, letter: str, *, descending: bool) -> str:
        """The token as it travels; the form is the provider's, the mark of an idle page ours."""
        ns = _FAR - self.at_s * _NS if descending else self.at_s * _NS
        raw = f"{'~' if self.idle else ''}{self.symbol}|{letter}|{ns}"
        return b64encode(raw.encode()).decode()

    @classmethod
    def parse(cls, text: str, letter: str, *, descending: bool) -> "Token":
        """The token in `text`. Raises Refusal when it is not one of ours."""
        raw = decoded(text)
        idle = raw.startswith("~")
        symbol, found, ns = [*raw.removeprefix("~").split("|"), "", ""][:3]
        if found != letter or not ns.isdecimal() or raw.count("|") != 2:
            raise Refusal(400, "invalid page_token")
        return cls(symbol, (_FAR - int(ns) if descending else int(ns)) // _NS, idle)


@dataclass(frozen=True, slots=True)
class BarsAsk:
    """A checked request for bars.

    Args:
        symbols: sorted, each once.
        spec: what beside symbol and time changes a bar.
        first_s, last_s: stamps wanted, seconds, both included.
        limit: most rows.
        descending: newest first.
        token: where to go on, None at the start.
        single: whether the symbol came in the path.
        option: whether the symbols are contracts.
        to_now: whether no end was named.
    """

    symbols: tuple[str, ...]
    spec: Spec
    first_s: int
    last_s: int
    limit: int
    descending: bool
    token: Token | None
    single: bool
    option: bool
    to_now: bool


@dataclass(frozen=True, slots=True)
class ContractsAsk:
    """A checked request for contracts; None and empty stand for no filter."""

    underlyings: tuple[str, ...]
    status: str
    expiry: date | None
    first: date | None
    last: date | None
    root: str
    type: str
    style: str
    least: Decimal | None
    most: Decimal | None
    penny: bool | None
    deliverables: bool
    limit: int
    offset: int


def bearer(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """Key id and secret in an `authorization` header: a bearer token stands for both; None where there is none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme == "Bearer":
        return given, given
    if scheme != "Basic":
        return None
    try:
        key, _, secret = b64decode(given, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return key, secret


def bars_ask(query: Query, now: datetime, *, single: str = "", option: bool = False) -> BarsAsk:
    """The request for bars in a query. Raises Refusal."""
    symbols = symbols_of(single or query.get("symbols", ""), option=option)
    spec = _spec({"timeframe": query.get("timeframe", "")} if option else query)
    descending = choice(query, "sort", ("asc", "desc")) == "desc"
    limit = limit_of(query, 1000)
    today = calendar.new_york(now).date()
    first_ns = instant_ns(query, "start", late=False) or int(calendar.instant(today).timestamp()) * _NS
    end_ns = instant_ns(query, "end", late=True)
    last_ns = int(now.timestamp()) * _NS if end_ns is None else end_ns
    if first_ns > last_ns and (end_ns is not None or query.get("start")):
        raise Refusal(400, "end should not be before start")
    token = None
    if query.get("page_token"):
        letter = "M" if spec.timeframe.intraday else "D"
        token = Token.parse(query["page_token"], letter, descending=descending)
        if token.symbol and token.symbol not in symbols:
            raise Refusal(400, "invalid page_token")
    first_s, last_s = -(-first_ns // _NS), last_ns // _NS
    return BarsAsk(
        symbols, spec, first_s, last_s, limit, descending, token, bool(single), option, to_now=end_ns is None
    )


def contracts_ask(query: Query, today: date) -> ContractsAsk:
    """The request for contracts in a query. Raises Refusal."""
    expiry, last = day_of(query, "expiration_date"), day_of(query, "expiration_date_lte")
    if last is None and expiry is None:
        last = today + timedelta(days=6 - today.weekday())
    ppind = query.get("ppind")
    return ContractsAsk(
        underlyings=tuple(sorted(set(filter(None, query.get("underlying_symbols", "").split(","))))),
        status=choice(query, "status", ("active", "inactive")),
        expiry=expiry,
        first=day_of(query, "expiration_date_gte"),
        last=last,
        root=query.get("root_symbol", ""),
        type=choice(query, "type", ("", "call", "put")),
        style=choice(query, "style", ("", "american", "european")),
        least=number(query, "strike_price_gte"),
        most=number(query, "strike_price_lte"),
        penny=None if ppind is None else ppind.lower() == "true",
        deliverables=query.get("show_deliverables", "").lower() == "true",
        limit=limit_of(query, 100),
        offset=_offset(query.get("page_token", "")),
    )


def symbols_of(text: str, *, option: bool) -> tuple[str, ...]:
    """The symbols in a list, sorted, each once. Raises Refusal."""
    symbols = text.split(",") if text else []
    if not symbols:
        raise Refusal(400, "symbols is required")
    pattern = OCC if option else _SYMBOL
    for symbol in symbols:
        if not pattern.fullmatch(symbol):
            raise Refusal(400, f"invalid symbol: {symbol}")
    if option and len(set(symbols)) > MOST_OPTIONS:
        raise Refusal(400, f"symbols limit exceeded: at most {MOST_OPTIONS} symbols in a request")
    return tuple(sorted(set(symbols)))


def _spec(query: Query) -> Spec:
    timeframe = Timeframe.parse(query.get("timeframe", ""))
    if timeframe is None:
        raise Refusal(400, f"invalid timeframe: {query.get('timeframe', '')}")
    asof, currency = query.get("asof", "-"), query.get("currency") or "USD"
    if asof != "-":
        day_of(query, "asof")
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise Refusal(400, f"invalid currency: {currency}")
    return Spec(timeframe, choice(query, "feed", tuple(FEEDS)), _adjustment(query), currency)


def _adjustment(query: Query) -> frozenset[str]:
    named = frozenset(query.get("adjustment", "raw").split(","))
    if named - _ADJUSTMENTS - {"raw", "all"}:
        raise Refusal(400, f"invalid adjustment: {query['adjustment']}")
    return frozenset(_ADJUSTMENTS) if "all" in named else named - {"raw"}


def choice(query: Query, name: str, known: tuple[str, ...]) -> str:
    """The value of a parameter that has few, the first by default. Raises Refusal."""
    value = query.get(name) or known[0]
    if value not in known:
        raise Refusal(400, f"invalid {name}: {value}")
    return value


def limit_of(query: Query, default: int, most: int = MOST_ROWS) -> int:
    """How many rows a page may have. Raises Refusal."""
    text = query.get("limit", str(default))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise Refusal(400, f"invalid limit: {text} (1 to {most})")
    return int(text)


def day_of(query: Query, name: str) -> date | None:
    """The day in a parameter, None without it. Raises Refusal."""
    text = query.get(name)
    if not text:
        return None
    try:
        return date.fromisoformat(text) if len(text) == 10 else date.fromisoformat("")
    except ValueError:
        raise Refusal(400, f"invalid {name}: {text}") from None


def number(query: Query, name: str) -> Decimal | None:
    """The number in a parameter, None without it. Raises Refusal."""
    try:
        return Decimal(query[name]) if query.get(name) else None
    except InvalidOperation:
        raise Refusal(400, f"invalid {name}: {query[name]}") from None


def instant_ns(query: Query, name: str, *, late: bool) -> int | None:
    """An RFC 3339 instant, or a date: the start of New York's day, or its last nanosecond."""
    text = query.get(name)
    if not text:
        return None
    if len(text) == 10:
        day = day_of(query, name)
        assert day is not None
        edge = calendar.instant(day + timedelta(days=1)) if late else calendar.instant(day)
        return int(edge.timestamp()) * _NS - late
    found = _INSTANT.fullmatch(text)
    try:
        moment = datetime.fromisoformat((found[1] + found[3]).upper()) if found else None
    except ValueError:
        moment = None
    if not found or moment is None:
        raise Refusal(400, f"invalid {name}: {text} is not RFC 3339")
    return int(moment.astimezone(UTC).timestamp()) * _NS + int((found[2] or "0").ljust(9, "0"))


def decoded(text: str) -> str:
    """What a page token says. Raises Refusal."""
    try:
        return b64decode(text, validate=True).decode()
    except ValueError:
        raise Refusal(400, "invalid page_token") from None


def _offset(text: str) -> int:
    raw = decoded(text) if text else "0"
    if not raw.isdecimal():
        raise Refusal(400, "invalid page_token")
    return int(raw)


def offset_token(offset: int) -> str:
    """The token of the contracts page that begins at row `offset`."""
    return b64encode(str(offset).encode()).decode()


END = "~"
"""The `after` of the page that follows the last one and has no rows."""
# The provider's addresses still bear its old name.
HOST = "https://api.polygon.io"
_REQUEST_ID = "0d350849a1b2c3d4e5f60718293a4b5c"


def envelope(policy: Policy) -> dict[str, Any]:
    """What every page says."""
    return {"status": "DELAYED" if policy.massive_delayed else "OK", "request_id": _REQUEST_ID}


def body_of(policy: Policy, rows: Sequence[dict[str, Any]], path: str, query: Query, after: str) -> tuple[bytes, int]:
    """A page of rows that follow a key, and their number; `after` is the last row's key, '' at the end.

    The query rides in the cursor; nothing of it stands beside.
    """
    after = after or (END if policy.empty_pages == "last" and rows else "")
    rows = [*rows[:1], *rows[:1], *rows] if policy.massive_repeats else rows
    page = envelope(policy)
    if rows or policy.empty_shape != "missing":
        page["results"] = rows
    if after:
        page["next_url"] = next_url(path, {**query, "after": after})
    return orjson.dumps(page), len(rows)


def next_url(path: str, query: Query) -> str:
    """The address of a page: a query, seen from outside as a cursor."""
    cursor = urlsafe_b64encode(urlencode(query).encode()).decode().rstrip("=")
    return f"{HOST}{path}?cursor={cursor}"


def asked(query: Query) -> Query:
    """The query in a cursor, or the one that has none. Raises Refusal."""
    if "cursor" not in query:
        return query
    cursor = query["cursor"]
    try:
        found = dict(parse_qsl(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode(), strict_parsing=True))
    except ValueError:
        found = {}
    if not found:
        raise Refusal(400, "invalid cursor")
    return found

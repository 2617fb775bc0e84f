"""A response body of an option chain as a page: of every field what the provider said, null where it said nothing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.errors import PageError
from stagingest.model import Chunk, OptionSymbol, Page, Request, Series
from stagingest.providers.columns import Fields, columns_of, objects_of
from stagingest.providers.paging import envelope_of, following

_ALPACA: Fields = {
    "implied_volatility": ("", "impliedVolatility", "double"),
    **{greek: ("greeks", greek, "double") for greek in ("delta", "gamma", "theta", "vega", "rho")},
    "bid": ("latestQuote", "bp", "double"),
    "bid_size": ("latestQuote", "bs", "count"),
    "ask": ("latestQuote", "ap", "double"),
    "ask_size": ("latestQuote", "as", "count"),
    "quote_ts": ("latestQuote", "t", "text"),
    "last_price": ("latestTrade", "p", "double"),
    "last_size": ("latestTrade", "s", "count"),
    "trade_ts": ("latestTrade", "t", "text"),
    "day_open": ("dailyBar", "o", "double"),
    "day_high": ("dailyBar", "h", "double"),
    "day_low": ("dailyBar", "l", "double"),
    "day_close": ("dailyBar", "c", "double"),
    "day_volume": ("dailyBar", "v", "count"),
    "day_vwap": ("dailyBar", "vw", "double"),
}
_MASSIVE: Fields = {
    "implied_volatility": ("", "implied_volatility", "double"),
    **{greek: ("greeks", greek, "double") for greek in ("delta", "gamma", "theta", "vega")},
    "bid": ("last_quote", "bid", "double"),
    "bid_size": ("last_quote", "bid_size", "count"),
    "ask": ("last_quote", "ask", "double"),
    "ask_size": ("last_quote", "ask_size", "count"),
    "quote_ts": ("last_quote", "last_updated", "epoch"),
    "last_price": ("last_trade", "price", "double"),
    "last_size": ("last_trade", "size", "count"),
    "trade_ts": ("last_trade", "sip_timestamp", "epoch"),
    "day_open": ("day", "open", "double"),
    "day_high": ("day", "high", "double"),
    "day_low": ("day", "low", "double"),
    "day_close": ("day", "close", "double"),
    "day_volume": ("day", "volume", "count"),
    "day_vwap": ("day", "vwap", "double"),
    "open_interest": ("", "open_interest", "count"),
    "underlying_price": ("underlying_asset", "price", "double"),
    "underlying_value": ("underlying_asset", "value", "double"),
}
# Columns that one of the providers has nothing for.
_ELSEWHERE = {"rho": pa.float64(), "open_interest": pa.int64(), "underlying_price": pa.float64()}
# Fields of a row that are stored, or known and deliberately not.
_KNOWN = frozenset(
    [
        *("impliedVolatility", "greeks", "latestQuote", "latestTrade", "dailyBar", "minuteBar", "prevDailyBar"),
        *("implied_volatility", "last_quote", "last_trade", "day", "open_interest", "details", "underlying_asset"),
        *("break_even_price", "fmv", "fmv_last_updated"),
    ]
)


def of_alpaca(chunk: Chunk, request: Request, body: bytes) -> Page:
    """The page in a body of Alpaca's chain.

    Args:
        chunk: of one underlying; its series has the bounds that every row is held to.
        request: says the limit; the next one repeats it with the page's token.
        body: a whole response body.

    Raises PageError when the body is no page of a chain, or holds a contract that was not asked for.
    """
    envelope = envelope_of(body, "snapshots")
    found = envelope.get("snapshots") or {}
    if not isinstance(found, dict):
        raise PageError("The answer's snapshots are not an object by contract.")
    names, rows = list(found), [{} if row is None else row for row in found.values()]
    check_rows(rows, int(request.param("limit")))
    bounds = _Bounds.of(chunk.series)
    if bounds:
        for name in names:
            parts = OptionSymbol.parse(name)
            if parts is None or not bounds.hold(float(parts.strike), parts.expiry.isoformat(), parts.type):
                raise _stranger(name, chunk)
    table = _table(names, columns_of(names, rows, body, _ALPACA)) if rows else None
    return Page(table, following(request, envelope), frozenset[str]().union(*rows) - _KNOWN)


def massive_table(chunk: Chunk, rows: Sequence[dict[str, Any]], text: bytes) -> tuple[pa.Table | None, frozenset[str]]:
    """The rows of a page of Massive's chain (read from `text`) as page columns, and the fields that have no column.

    A row's `details` say which contract it is, whatever its ticker looks like. Raises PageError for a contract that was
    not asked for, naming it.
    """
    if not rows:
        return None, frozenset()
    names = _names(rows)
    bounds = _Bounds.of(chunk.series)
    if bounds:
        for name, row in zip(names, rows, strict=True):
            if not _within(bounds, row["details"]):
                raise _stranger(name, chunk)
    parents = {str(each["ticker"]) for each in objects_of(names, rows, "underlying_asset") if "ticker" in each}
    if {_bare(parent) for parent in parents} - {_bare(chunk.symbols[0])}:
        raise PageError(f"The page has contracts of {', '.join(sorted(parents))}; {chunk.symbols[0]} was asked for.")
    columns = columns_of(names, rows, text, _MASSIVE)
    # Stocks have a price, indices a value.
    value = columns.pop("underlying_value")
    if value.null_count < len(value):
        columns["underlying_price"] = pc.coalesce(columns["underlying_price"], value)
    return _table(names, columns), frozenset[str]().union(*rows) - _KNOWN


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The contract of each row. Raises PageError for a row that does not say."""
    try:
        names = [row["details"]["ticker"].removeprefix("O:") for row in rows]
    except (KeyError, TypeError, AttributeError):
        names = [""]
    if "" in names:
        odd = next((row for row in rows if not _is_named(row.get("details"))), rows[0])
        raise PageError(f"A snapshot has no details.ticker: its details are {odd.get('details')!r:.80}.")
    return names


def _is_named(details: Any) -> bool:
    ticker = details.get("ticker") if isinstance(details, dict) else None
    return isinstance(ticker, str) and ticker.removeprefix("O:") != ""


def _within(bounds: "_Bounds", detail: dict[str, Any]) -> bool:
    strike, expiry, kind = (detail.get(key) for key in ("strike_price", "expiration_date", "contract_type"))
    if type(strike) not in (int, float):
        return False
    return bounds.hold(float(str(strike)), str(expiry), str(kind))


def _bare(symbol: str) -> str:
    return symbol.removeprefix("I:")


class _Bounds(NamedTuple):
    """What was asked of a chain; strikes in dollars, days as text, '' for any."""

    strike_gte: float
    strike_lte: float
    expiry_gte: str
    expiry_lte: str
    option_type: str

    @classmethod
    def of(cls, series: Series) -> "_Bounds | None":
        """The bounds of a series, None when there are none."""
        given = {name: series[name] for name in cls._fields}
        if not any(given.values()):
            return None
        low, high = (float(given[f"strike_{end}"] or other) for end, other in (("gte", "-inf"), ("lte", "inf")))
        return cls(low, high, given["expiry_gte"], given["expiry_lte"] or "9999", given["option_type"])

    def hold(self, strike: float, expiry: str, option_type: str) -> bool:
        """Whether a contract lies within them."""
        strikes = self.strike_gte <= strike <= self.strike_lte
        return strikes and self.expiry_gte <= expiry <= self.expiry_lte and self.option_type in ("", option_type)


def check_rows(rows: Sequence[Any], most: int) -> None:
    """Raise PageError unless there are at most so many rows, all objects."""
    if len(rows) > most:
        raise PageError(f"The page has {len(rows)} contracts where {most} is the most.")
    for row in rows:
        if type(row) is not dict:
            raise PageError(f"A snapshot is a {type(row).__name__} instead of an object.")


def _stranger(name: str, chunk: Chunk) -> PageError:
    asked = ", ".join(f"{key} {value}" for key, value in chunk.series.params if value and key != "feed")
    return PageError(f"The page has {name!r:.40}, which was not asked for: {asked or chunk.symbols[0]} was.")


def _table(names: Sequence[str], columns: dict[str, pa.Array]) -> pa.Table:
    """The columns as a page, those that the provider has nothing for left null."""
    nulls = {column: pa.nulls(len(names), kind) for column, kind in _ELSEWHERE.items() if column not in columns}
    symbols = pa.array(names, pa.string())
    if len(set(names)) == len(names):
        encoded = pa.DictionaryArray.from_arrays(pa.array(range(len(names)), pa.int32()), symbols)
    else:
        encoded = symbols.dictionary_encode()
    every = {"contract_symbol": encoded, **columns, **nulls}
    return pa.Table.from_arrays(list(every.values()), list(every))

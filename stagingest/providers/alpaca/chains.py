"""A page of Alpaca's option chain as rows."""

from stagingest.errors import PageError
from stagingest.model.chunk import Chunk
from stagingest.model.option_symbol import OptionSymbol
from stagingest.model.page import Page, Request
from stagingest.providers.decode.chains import (
    KNOWN_FIELDS,
    ChainBounds,
    Fields,
    check_rows,
    columns_of,
    stranger,
    table_of,
)
from stagingest.providers.decode.paging import envelope_of, following

_ALPACA: Fields = {
    "implied_volatility": ("", "impliedVolatility", "double"),
    **{greek: ("greeks", greek, "double") for greek in ("delta", "gamma", "theta", "vega", "rho")},
    "bid": ("latestQuote", "bp", "double"),
    "bid_size": ("latestQuote", "bs", "size"),
    "ask": ("latestQuote", "ap", "double"),
    "ask_size": ("latestQuote", "as", "size"),
    "quote_ts": ("latestQuote", "t", "text"),
    "last_price": ("latestTrade", "p", "double"),
    "last_size": ("latestTrade", "s", "size"),
    "trade_ts": ("latestTrade", "t", "text"),
    "day_open": ("dailyBar", "o", "double"),
    "day_high": ("dailyBar", "h", "double"),
    "day_low": ("dailyBar", "l", "double"),
    "day_close": ("dailyBar", "c", "double"),
    "day_volume": ("dailyBar", "v", "size"),
    "day_vwap": ("dailyBar", "vw", "double"),
}


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
    bounds = ChainBounds.of(chunk.series)
    if bounds:
        for name in names:
            parts = OptionSymbol.parse(name)
            if parts is None or not bounds.hold(float(parts.strike), parts.expiry.isoformat(), parts.type):
                raise stranger(name, chunk)
    table = table_of(names, columns_of(names, rows, body, _ALPACA)) if rows else None
    return Page(table, following(request, envelope), frozenset[str]().union(*rows) - KNOWN_FIELDS)

"""A page of Massive's option chain as rows."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.errors import PageError
from stagingest.model.chunk import Chunk
from stagingest.providers.decode.chains import (
    KNOWN_FIELDS,
    ChainBounds,
    Fields,
    bare,
    columns_of,
    names_of,
    objects_of,
    stranger,
    table_of,
    within_bounds,
)

_MASSIVE: Fields = {
    "implied_volatility": ("", "implied_volatility", "double"),
    **{greek: ("greeks", greek, "double") for greek in ("delta", "gamma", "theta", "vega")},
    "bid": ("last_quote", "bid", "double"),
    "bid_size": ("last_quote", "bid_size", "size"),
    "ask": ("last_quote", "ask", "double"),
    "ask_size": ("last_quote", "ask_size", "size"),
    "quote_ts": ("last_quote", "last_updated", "epoch"),
    "last_price": ("last_trade", "price", "double"),
    "last_size": ("last_trade", "size", "size"),
    "trade_ts": ("last_trade", "sip_timestamp", "epoch"),
    "day_open": ("day", "open", "double"),
    "day_high": ("day", "high", "double"),
    "day_low": ("day", "low", "double"),
    "day_close": ("day", "close", "double"),
    "day_volume": ("day", "volume", "size"),
    "day_vwap": ("day", "vwap", "double"),
    "open_interest": ("", "open_interest", "count"),
    "underlying_price": ("underlying_asset", "price", "double"),
    "underlying_value": ("underlying_asset", "value", "double"),
}


def massive_table(chunk: Chunk, rows: Sequence[dict[str, Any]], text: bytes) -> tuple[pa.Table | None, frozenset[str]]:
    """The rows of a page of Massive's chain (read from `text`) as page columns, and the fields that have no column.

    A row's `details` say which contract it is, whatever its ticker looks like. Raises PageError for a contract that was
    not asked for, naming it.
    """
    if not rows:
        return None, frozenset()
    names = names_of(rows)
    bounds = ChainBounds.of(chunk.series)
    if bounds:
        for name, row in zip(names, rows, strict=True):
            if not within_bounds(bounds, row["details"]):
                raise stranger(name, chunk)
    parents = {str(each["ticker"]) for each in objects_of(names, rows, "underlying_asset") if "ticker" in each}
    if {bare(parent) for parent in parents} - {bare(chunk.symbols[0])}:
        raise PageError(f"The page has contracts of {', '.join(sorted(parents))}; {chunk.symbols[0]} was asked for.")
    columns = columns_of(names, rows, text, _MASSIVE)
    # Stocks have a price, indices a value.
    value = columns.pop("underlying_value")
    if value.null_count < len(value):
        columns["underlying_price"] = pc.coalesce(columns["underlying_price"], value)
    return table_of(names, columns), frozenset[str]().union(*rows) - KNOWN_FIELDS

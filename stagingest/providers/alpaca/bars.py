"""A response body of bars as a page: read, and held to what was asked.

Every page can be read by field name (`named`); one whose shape can be proved is read by `proved`, faster. Both give
equal rows, and what `proved` declines `named` judges.
"""

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.errors import PageError
from stagingest.model.chunk import Chunk
from stagingest.model.page import Page, Request
from stagingest.providers.alpaca import fast_bars
from stagingest.providers.decode import bars as decode_bars
from stagingest.providers.decode.bars import Rows
from stagingest.providers.decode.paging import envelope_of, following
from stagingest.providers.timeframe import BarTimeframe

# A short page is read by name before its proof is compiled.
PROVED_FROM_BYTES = 100_000


def read(chunk: Chunk, request: Request, body: bytes, symbol: str) -> Page:
    """The page in `body`.

    Args:
        chunk: its symbols are the ones a row may have.
        request: says the bounds (both inclusive) and the limit; the next one repeats it with the page's token.
        body: a whole response body.
        symbol: name of the symbol column.

    Raises PageError when the body is no page of bars, or not of the bars asked for.
    """
    minutes = BarTimeframe.parse(chunk.series["interval"]).unit == "min"
    rows = (fast_bars.read(body, minutes=minutes) if len(body) >= PROVED_FROM_BYTES else None) or named(body)
    _check(rows, chunk, request)
    return Page(rows.table(symbol) if len(rows.ts) else None, following(request, rows.envelope), rows.unknown)


def named(body: bytes) -> Rows:
    """The rows of a body, by field name. Raises PageError naming the field and the symbol."""
    envelope = envelope_of(body, "bars")
    by_symbol = _by_symbol(envelope.get("bars"))
    return decode_bars.rows_of(envelope, by_symbol, body, decode_bars.RFC_3339)


def _by_symbol(data: Any) -> dict[str, list[Any]]:
    """The bars of each symbol that has any; null, [] and {} hold none."""
    if not data:
        if data is None or isinstance(data, list | dict):
            return {}
    elif isinstance(data, dict) and all(bars is None or isinstance(bars, list) for bars in data.values()):
        return {name: bars for name, bars in data.items() if bars}
    raise PageError("The answer's bars are not lists by symbol.")


def _check(rows: Rows, chunk: Chunk, request: Request) -> None:
    """Raises PageError unless the rows have asked symbols, lie within the asked bounds, and are no more than asked."""
    if not len(rows.ts):
        return
    if len(rows.ts) > int(request.param("limit")):
        raise PageError(f"The page has {len(rows.ts)} bars where {request.param('limit')} is the most.")
    strangers = set(rows.symbols.dictionary.to_pylist()).difference(chunk.symbols)
    if strangers:
        raise PageError(f"The page has bars of {min(strangers)}, which was not asked for.")
    start, end = (pa.scalar(_bound(request, name), rows.ts.type) for name in ("start", "end"))
    within = pc.min_max(rows.ts)
    if within["min"].value < start.value or within["max"].value > end.value:
        outside = pc.or_(pc.less(rows.ts, start), pc.greater(rows.ts, end))
        first = pc.index(outside, True).as_py()
        raise PageError(
            f"A bar of {rows.symbols[first]} is stamped {rows.ts[first].cast(pa.string())}, outside of what was "
            f"asked: {request.param('start')} to {request.param('end')}."
        )


def _bound(request: Request, name: str) -> datetime:
    return datetime.fromisoformat(request.param(name)).replace(tzinfo=None)

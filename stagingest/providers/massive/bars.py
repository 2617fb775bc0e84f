"""A response body of Massive's aggregates as a page of bars: read by field name, and held to what was asked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.errors import PageError
from stagingest.model import calendar, windows
from stagingest.model.calendar import DAY
from stagingest.model.chunk import Chunk
from stagingest.model.page import Page, Request
from stagingest.providers.decode import bars as decode_bars
from stagingest.providers.decode.bars import Rows
from stagingest.providers.massive.paging import envelope_of, following, rows_of
from stagingest.providers.timeframe import BarTimeframe

# Whether a stock trades over the counter, said only when it does.
_NOT_STORED = frozenset({"otc"})


@dataclass(frozen=True, slots=True)
class Said:
    """What a page has to say of itself.

    Args:
        ticker: whose bars they are.
        adjusted: whether for splits.
        most: rows, or what they are made of.
    """

    ticker: str
    adjusted: bool
    most: int


def read(chunk: Chunk, request: Request, body: bytes, symbol: str, said: Said) -> Page:
    """The page in `body`.

    Args:
        chunk: of one symbol; its window bounds the rows.
        request: says the last instant asked, in its path.
        body: a whole response body.
        symbol: name of the symbol column.
        said: what the page must say.

    Raises PageError when the body is no page of bars, or not of the bars asked for.
    """
    envelope = envelope_of(body)
    bars = rows_of(envelope, said.most)
    _check_envelope(envelope, bars, said)
    page = Page(None, following(request, envelope), counted=_count(envelope, "queryCount") or 0)
    if not bars:
        return page
    rows = decode_bars.rows_of(envelope, {chunk.symbols[0]: bars}, body, decode_bars.MILLISECONDS, _NOT_STORED)
    if BarTimeframe.parse(chunk.series["interval"]).unit == "w":
        rows = replace(rows, ts=_mondays(rows.ts))
    _check_window(rows, chunk, request)
    return replace(page, table=rows.table(symbol), unknown=rows.unknown)


def _check_envelope(envelope: Mapping[str, Any], bars: list[Any], said: Said) -> None:
    count = _count(envelope, "resultsCount")
    if count is not None and count != len(bars):
        raise PageError(f"The page has {len(bars)} bars and says that there are {count}.")
    if envelope.get("ticker", said.ticker) != said.ticker:
        raise PageError(f"The page has bars of {envelope['ticker']!r:.40}, {said.ticker} was asked for.")
    if bars and envelope.get("adjusted") is not said.adjusted:
        asked = "adjusted" if said.adjusted else "raw"
        raise PageError(f"The page says adjusted is {envelope.get('adjusted')!r:.40}, {asked} bars were asked for.")


def _count(envelope: Mapping[str, Any], key: str) -> int | None:
    value = envelope.get(key)
    if value is not None and type(value) is not int:
        raise PageError(f"The answer's {key} is {value!r:.40} instead of a count.")
    return value


def _mondays(ts: pa.Array) -> pa.Array:
    """The Monday that each week begins with, whether the provider stamps it or the Sunday before."""
    found = []
    for moment in ts.to_pylist():
        day = calendar.new_york(moment.replace(tzinfo=UTC)).date()
        monday = windows.floor(BarTimeframe(1, "w").grid, day + DAY if day.weekday() == 6 else day)
        found.append(calendar.instant(monday).astimezone(UTC).replace(tzinfo=None))
    return pa.array(found, ts.type)


def _check_window(rows: Rows, chunk: Chunk, request: Request) -> None:
    """Raises PageError unless the rows lie within the window and before the last instant asked."""
    start = calendar.instant(chunk.window.start).astimezone(UTC).replace(tzinfo=None)
    end = _last_asked(request)
    within = pc.min_max(rows.ts).as_py()
    if within["min"] < start or within["max"] > end:
        odd = within["min"] if within["min"] < start else within["max"]
        raise PageError(f"A bar of {chunk.symbols[0]} is stamped {odd}, outside of what was asked: {start} to {end}.")


def _last_asked(request: Request) -> datetime:
    millis = int(request.path.rpartition("/")[2])
    return datetime(1970, 1, 1) + timedelta(milliseconds=millis)

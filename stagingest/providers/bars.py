"""A response body of bars as a page: read, and held to what was asked.

Every page can be read by field name (`named`); one whose shape can be proved is read by `proved`, faster. Both give
equal rows, and what `proved` declines `named` judges.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import accumulate, chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stagingest import sessions
from stagingest.errors import PageError
from stagingest.model import Chunk, Page, Request, Series, Window
from stagingest.providers import proved
from stagingest.providers.paging import envelope_of, following
from stagingest.providers.rows import COUNTS, DOUBLES, KEYS, REQUIRED, Rows, runs
from stagingest.providers.timeframe import Timeframe

# A short page is read by name before its proof is compiled.
PROVED_FROM_BYTES = 100_000
# Counts are read as doubles first: Arrow cuts the fraction off a double read as an integer, without a word.
_WIRE = pa.struct([("t", pa.string()), *((key, pa.float64()) for key in (*DOUBLES, *COUNTS))])
_CLEAN = pa.struct(
    [
        ("t", pa.timestamp("us")),
        *((key, pa.float64()) for key in DOUBLES),
        *((key, pa.int64()) for key in COUNTS),
    ]
)
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_PLAIN_STAMP = len("2024-01-02T05:00:00Z")


def read(chunk: Chunk, request: Request, body: bytes, symbol: str) -> Page:
    """The page in `body`.

    Args:
        chunk: its symbols are the ones a row may have.
        request: says the bounds (both inclusive) and the limit; the next one repeats it with the page's token.
        body: a whole response body.
        symbol: name of the symbol column.

    Raises PageError when the body is no page of bars, or not of the bars asked for.
    """
    minutes = Timeframe.parse(chunk.series["interval"]).unit == "min"
    rows = (proved.read(body, minutes=minutes) if len(body) >= PROVED_FROM_BYTES else None) or named(body)
    _check(rows, chunk, request)
    return Page(rows.table(symbol) if len(rows.ts) else None, following(request, rows.envelope), rows.unknown)


def session_dates(ts: pa.Array, series: Series, window: Window) -> pa.Array:
    """The New York day (date32) of each instant.

    Args:
        ts: timestamp('us'), UTC.
        series: its interval decides; days, weeks and months are stamped New York midnight, 04:00 or 05:00 UTC.
        window: holds all of `ts`; changes of New York's clock are looked up in it.
    """
    if not Timeframe.parse(series["interval"]).intraday:
        return _shifted(ts, -4).cast(pa.date32())
    (_, offset_h), *switches = sessions.switches(window.start, window.end)
    local = _shifted(ts, offset_h)
    for moment, hours in switches:
        before = pc.less(ts, pa.scalar(moment.replace(tzinfo=None), ts.type))
        local = pc.if_else(before, local, _shifted(ts, hours))
    return local.cast(pa.date32())


def _shifted(ts: pa.Array, hours: int) -> pa.Array:
    return pc.add(ts, pa.scalar(hours * 3_600, pa.duration("s")))


def named(body: bytes) -> Rows:
    """The rows of a body, by field name. Raises PageError naming the field and the symbol."""
    envelope = envelope_of(body, "bars")
    by_symbol = _by_symbol(envelope.get("bars"))
    bars = list(chain.from_iterable(by_symbol.values()))
    columns = None if _has_boolean(body) else _columns(bars)
    if columns is None:
        columns = _split(pa.array([_clean(name, bar) for name, bars in by_symbol.items() for bar in bars], _CLEAN))
    symbols = runs(list(by_symbol), list(accumulate(map(len, by_symbol.values()))))
    unknown = _unknown(bars, columns)
    return Rows(envelope, symbols, columns.pop("t"), columns, unknown)


def _unknown(bars: list[Any], columns: Mapping[str, pa.Array]) -> frozenset[str]:
    """Fields that have no column: none where every column is full and no bar has more fields, which is soon seen."""
    if max(map(len, bars), default=0) <= len(KEYS) and not any(column.null_count for column in columns.values()):
        return frozenset()
    return frozenset[str]().union(*bars) - KEYS


def _by_symbol(data: Any) -> dict[str, list[Any]]:
    """The bars of each symbol that has any; null, [] and {} hold none."""
    if not data:
        if data is None or isinstance(data, list | dict):
            return {}
    elif isinstance(data, dict) and all(bars is None or isinstance(bars, list) for bars in data.values()):
        return {name: bars for name, bars in data.items() if bars}
    raise PageError("The answer's bars are not lists by symbol.")


def _has_boolean(body: bytes) -> bool:
    """Whether true or false stands among the bars, where Arrow would read 1.0; their common letter is found sooner."""
    start, end = body.find(b"["), body.rfind(b"]")
    return body.find(b"e", start, end) >= 0 and any(body.find(word, start, end) >= 0 for word in (b"true", b"false"))


def _columns(bars: list[Any]) -> dict[str, pa.Array] | None:
    """The columns of plain bars at once; None when one is to be looked at by itself."""
    try:
        read = pa.array(bars, _WIRE)
        columns = _split(read)
        columns["t"] = _stamps(columns["t"])
        for key in COUNTS:
            columns[key] = columns[key].cast(pa.int64())
    except (pa.ArrowException, OverflowError):
        return None
    return None if read.null_count or any(columns[key].null_count for key in REQUIRED) else columns


def _split(bars: pa.StructArray) -> dict[str, pa.Array]:
    return dict(zip((field.name for field in bars.type), bars.flatten(), strict=True))


def _stamps(text: pa.Array) -> pa.Array:
    lengths = pc.min_max(pc.binary_length(text)).as_py()
    if lengths["min"] != _PLAIN_STAMP or lengths["max"] != _PLAIN_STAMP:
        raise pa.ArrowInvalid("not every stamp has whole seconds and a Z")
    return text.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))


def _clean(symbol: str, bar: Any) -> dict[str, Any]:
    if not isinstance(bar, dict):
        raise PageError(f"A bar of {symbol} is a {type(bar).__name__} instead of an object.")
    doubles = {key: _double(symbol, bar, key) for key in DOUBLES}
    counts = {key: _whole(symbol, bar, key) for key in COUNTS}
    return {"t": _instant(symbol, bar), **doubles, **counts}


def _number(symbol: str, bar: dict[str, Any], key: str) -> int | float | None:
    value = bar.get(key)
    if value is None and key not in REQUIRED:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(symbol, bar, key, "a number")
    return value


def _double(symbol: str, bar: dict[str, Any], key: str) -> float | None:
    value = _number(symbol, bar, key)
    return None if value is None else float(value)


def _whole(symbol: str, bar: dict[str, Any], key: str) -> int | None:
    value = _number(symbol, bar, key)
    if value is None:
        return None
    if int(value) != value or not -(2**63) <= value < 2**63:
        raise _refused(symbol, bar, key, "a whole number of 64 bits")
    return int(value)


def _instant(symbol: str, bar: dict[str, Any]) -> datetime:
    value = bar.get("t")
    if isinstance(value, str) and _STAMP.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            pass
    raise _refused(symbol, bar, "t", "an RFC 3339 timestamp")


def _refused(symbol: str, bar: dict[str, Any], key: str, wanted: str) -> PageError:
    has = f"is {bar[key]!r:.40}" if key in bar else "is missing"
    return PageError(f"In a bar of {symbol}, stamped {bar.get('t')!r:.40}, field {key!r} {has} instead of {wanted}.")


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

"""The fields of bars, by name: every number held to be one, every stamp to be of its provider's form."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.errors import PageError

COUNTS = {"n": "trade_count"}

DOUBLES = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vw": "vwap"}

_CLEAN = pa.struct(
    [
        ("t", pa.timestamp("us")),
        *((key, pa.float64()) for key in DOUBLES),
        *((key, pa.int64()) for key in COUNTS),
    ]
)
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_PLAIN_STAMP = len("2024-01-02T05:00:00Z")
_EPOCH = datetime(1970, 1, 1)
_MILLI_US = pa.scalar(1_000, pa.int64())
_FAR_MS = 2**43  # in the year 2248; a stamp of nanoseconds is further away


class Stamps(NamedTuple):
    """How a provider writes the instant a bar begins.

    Args:
        wire: the Arrow type they are read as.
        column: many at once, as timestamp('us'); raises ArrowException when one is to be looked at by itself.
        one: a single one, UTC without zone, or None when it is not of this form.
        wanted: the form, in words.
    """

    wire: pa.DataType
    column: Callable[[pa.Array], pa.Array]
    one: Callable[[Any], datetime | None]
    wanted: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What a page holds.

    Args:
        envelope: the page's top level; what stands under `bars` in it is not to be used.
        symbols: dictionary<int32, string>, one value per row; no name is there twice or without a row.
        ts: timestamp('us'), UTC.
        values: float64 (counts: int64) by wire key; `n` and `vw` may be missing or hold nulls.
        unknown: other keys that bars have.
    """

    envelope: Mapping[str, Any]
    symbols: pa.DictionaryArray
    ts: pa.Array
    values: Mapping[str, pa.Array]
    unknown: frozenset[str] = frozenset()

    def table(self, symbol: str) -> pa.Table:
        """The rows as page columns: `symbol`, ts, open, high, low, close, volume, trade_count, vwap."""
        columns = {symbol: self.symbols, "ts": self.ts}
        for key in ("o", "h", "l", "c", "v", "n", "vw"):
            name, kind = (COUNTS[key], pa.int64()) if key in COUNTS else (DOUBLES[key], pa.float64())
            columns[name] = self.values[key] if key in self.values else pa.nulls(len(self.ts), kind)
        return pa.table(columns)


def rows_of(
    envelope: Mapping[str, Any],
    by_symbol: Mapping[str, list[Any]],
    body: bytes,
    stamps: Stamps,
    known: frozenset[str] = frozenset(),
) -> Rows:
    """The rows of some bars.

    Args:
        envelope: the page's top level.
        by_symbol: the bars of each symbol, at least one.
        body: the text they were read from.
        stamps: how instants are written.
        known: fields that are deliberately not stored.

    Raises PageError naming the field and the symbol.
    """
    bars = list(chain.from_iterable(by_symbol.values()))
    columns = None if _has_boolean(body) else _columns(bars, stamps)
    if columns is None:
        clean = [_clean(name, bar, stamps) for name, bars in by_symbol.items() for bar in bars]
        columns = _split(pa.array(clean, _CLEAN))
    symbols = runs(list(by_symbol), list(accumulate(map(len, by_symbol.values()))))
    unknown = _unknown(bars, columns) - known
    return Rows(envelope, symbols, columns.pop("t"), columns, unknown)


def _unknown(bars: list[Any], columns: Mapping[str, pa.Array]) -> frozenset[str]:
    """Fields that have no column: none where every column is full and no bar has more fields, which is soon seen."""
    if max(map(len, bars), default=0) <= len(KEYS) and not any(column.null_count for column in columns.values()):
        return frozenset()
    return frozenset[str]().union(*bars) - KEYS


def _has_boolean(body: bytes) -> bool:
    """Whether true or false stands among the bars, where Arrow would read 1.0; their common letter is found sooner."""
    start, end = body.find(b"["), body.rfind(b"]")
    return body.find(b"e", start, end) >= 0 and any(body.find(word, start, end) >= 0 for word in (b"true", b"false"))


def _columns(bars: list[Any], stamps: Stamps) -> dict[str, pa.Array] | None:
    """The columns of plain bars at once; None when one is to be looked at by itself."""
    # Counts are read as doubles first: Arrow cuts the fraction off a double read as an integer, without a word.
    wire = pa.struct([("t", stamps.wire), *((key, pa.float64()) for key in (*DOUBLES, *COUNTS))])
    try:
        read = pa.array(bars, wire)
        columns = _split(read)
        columns["t"] = stamps.column(columns["t"])
        for key in COUNTS:
            columns[key] = columns[key].cast(pa.int64())
    except (pa.ArrowException, OverflowError):
        return None
    return None if read.null_count or any(columns[key].null_count for key in REQUIRED) else columns


def _split(bars: pa.StructArray) -> dict[str, pa.Array]:
    return dict(zip((field.name for field in bars.type), bars.flatten(), strict=True))


def _texts(text: pa.Array) -> pa.Array:
    lengths = pc.min_max(pc.binary_length(text)).as_py()
    if lengths["min"] != _PLAIN_STAMP or lengths["max"] != _PLAIN_STAMP:
        raise pa.ArrowInvalid("not every stamp has whole seconds and a Z")
    return text.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))


def _text(value: Any) -> datetime | None:
    if isinstance(value, str) and _STAMP.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            pass
    return None


def _millis(numbers: pa.Array) -> pa.Array:
    ends = pc.min_max(numbers).as_py()
    if not 0 <= (ends["min"] or 0) <= (ends["max"] or 0) < _FAR_MS:
        raise pa.ArrowInvalid("not every stamp is one of milliseconds")
    return pc.multiply(numbers.cast(pa.int64()), _MILLI_US).cast(pa.timestamp("us"))


def _milli(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FAR_MS or value % 1:
        return None
    return _EPOCH + timedelta(milliseconds=int(value))


RFC_3339 = Stamps(pa.string(), _texts, _text, "an RFC 3339 timestamp")
MILLISECONDS = Stamps(pa.float64(), _millis, _milli, "milliseconds since 1970")


def _clean(symbol: str, bar: Any, stamps: Stamps) -> dict[str, Any]:
    if not isinstance(bar, dict):
        raise PageError(f"A bar of {symbol} is a {type(bar).__name__} instead of an object.")
    doubles = {key: _double(symbol, bar, key) for key in DOUBLES}
    counts = {key: _whole(symbol, bar, key) for key in COUNTS}
    begins = stamps.one(bar.get("t"))
    if begins is None:
        raise _refused(symbol, bar, "t", stamps.wanted)
    return {"t": begins, **doubles, **counts}


def _number(symbol: str, bar: dict[str, Any], key: str) -> int | float | None:
    value = bar.get(key)
    if value is None and key not in REQUIRED:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(symbol, bar, key, "a number")
    return value


def _double(symbol: str, bar: dict[str, Any], key: str) -> float | None:
    value = _number(symbol, bar, key)
    if value is None:
        return None
    try:
        if isinstance(value, float) or int(float(value)) == value:
            return float(value)
    except OverflowError:
        pass
    raise _refused(symbol, bar, key, "a number that a double holds exactly")


def _whole(symbol: str, bar: dict[str, Any], key: str) -> int | None:
    value = _number(symbol, bar, key)
    if value is None:
        return None
    if int(value) != value or not -(2**63) <= value < 2**63:
        raise _refused(symbol, bar, key, "a whole number of 64 bits")
    return int(value)


def _refused(symbol: str, bar: dict[str, Any], key: str, wanted: str) -> PageError:
    has = f"is {bar[key]!r:.40}" if key in bar else "is missing"
    return PageError(f"In a bar of {symbol}, stamped {bar.get('t')!r:.40}, field {key!r} {has} instead of {wanted}.")


REQUIRED = frozenset("ohlcvt")
KEYS = REQUIRED | {"n", "vw"}


def runs(names: Sequence[str], ends: Sequence[int]) -> pa.DictionaryArray:
    """The symbol of every row: `names[i]` from where the one before it ends up to row `ends[i]`."""
    lengths = [end - start for start, end in pairwise((0, *ends))]
    codes = b"".join(code.to_bytes(4, sys.byteorder) * length for code, length in enumerate(lengths))
    indices = pa.Array.from_buffers(pa.int32(), sum(lengths), [None, pa.py_buffer(codes)])
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))

"""A response body of an option chain as a page: of every field what the provider said, null where it said nothing."""

import re
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.errors import PageError
from stagingest.model.chunk import Chunk, Series

# Columns that one of the providers has nothing for.
_ELSEWHERE = {"rho": pa.float64(), "open_interest": pa.int64(), "underlying_price": pa.float64()}
# Fields of a row that are stored, or known and deliberately not.
KNOWN_FIELDS = frozenset(
    [
        *("impliedVolatility", "greeks", "latestQuote", "latestTrade", "dailyBar", "minuteBar", "prevDailyBar"),
        *("implied_volatility", "last_quote", "last_trade", "day", "open_interest", "details", "underlying_asset"),
        *("break_even_price", "fmv", "fmv_last_updated"),
    ]
)


def names_of(rows: Sequence[dict[str, Any]]) -> list[str]:
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


def within_bounds(bounds: "ChainBounds", detail: dict[str, Any]) -> bool:
    """Whether the provider's own details of a contract lie within what was asked."""
    strike, expiry, kind = (detail.get(key) for key in ("strike_price", "expiration_date", "contract_type"))
    if type(strike) not in (int, float):
        return False
    return bounds.hold(float(str(strike)), str(expiry), str(kind))


def bare(symbol: str) -> str:
    """The symbol of an index without its mark."""
    return symbol.removeprefix("I:")


class ChainBounds(NamedTuple):
    """What was asked of a chain; strikes in dollars, days as text, '' for any."""

    strike_gte: float
    strike_lte: float
    expiry_gte: str
    expiry_lte: str
    option_type: str

    @classmethod
    def of(cls, series: Series) -> "ChainBounds | None":
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


def stranger(name: str, chunk: Chunk) -> PageError:
    """What is said of a contract that nobody asked for."""
    asked = ", ".join(f"{key} {value}" for key, value in chunk.series.params if value and key != "feed")
    return PageError(f"The page has {name!r:.40}, which was not asked for: {asked or chunk.symbols[0]} was.")


def table_of(names: Sequence[str], columns: dict[str, pa.Array]) -> pa.Table:
    """The columns as a page, those that the provider has nothing for left null."""
    nulls = {column: pa.nulls(len(names), kind) for column, kind in _ELSEWHERE.items() if column not in columns}
    symbols = pa.array(names, pa.string())
    if len(set(names)) == len(names):
        encoded = pa.DictionaryArray.from_arrays(pa.array(range(len(names)), pa.int32()), symbols)
    else:
        encoded = symbols.dictionary_encode()
    every = {"contract_symbol": encoded, **columns, **nulls}
    return pa.Table.from_arrays(list(every.values()), list(every))


_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_NEVER = "0001-01-01T"  # how a server written in Go says that there was none
_NUMBERS: frozenset[type] = frozenset({int, float, type(None)})
_WHOLE: frozenset[type] = frozenset({int, type(None)})
_TEXTS: frozenset[type] = frozenset({str, type(None)})
# An integer stamp counts seconds, milli-, micro- or nanoseconds since 1970: its size tells (WIRE section 1.6).
_UNITS_US = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
_NS = pa.scalar(1_000, pa.int64())
_EXACT = 2.0**53
_BOOLEAN = pc.MatchSubstringOptions(r":\s*(?:true|false)")


class Place(NamedTuple):
    """A field of a row: `part` (an object in the row, '' the row itself) and `key` in it."""

    part: str
    key: str

    def __str__(self) -> str:
        return ".".join(filter(None, self))


Fields = Mapping[str, tuple[str, str, str]]
"""Column -> the part of a row that has it, its key there, and its kind: `double`, `size` (one that is not negative),
`count`; `text`, `epoch` (stamps).
"""


def columns_of(
    names: Sequence[str], rows: Sequence[dict[str, Any]], text: bytes, fields: Fields
) -> dict[str, pa.Array]:
    """The columns of some rows: float64, int64 and timestamp('us'); null where a row, or its part, lacks the field.

    Args:
        names: of the rows, to tell them by.
        rows: at least one.
        text: the JSON they were read from.
        fields: where each column stands.

    Raises PageError naming the field and the row.
    """
    columns: dict[str, pa.Array] = {}
    at_once = {} if _has_boolean(text) else _at_once(rows, fields)
    objects: dict[str, Sequence[dict[str, Any]]] = {"": rows}
    for column, (part, key, kind) in fields.items():
        if column in at_once and (kind != "size" or (pc.min(at_once[column]).as_py() or 0) >= 0):
            columns[column] = at_once[column]
            continue
        if part not in objects:
            objects[part] = objects_of(names, rows, part)
        columns[column] = _COLUMNS[kind](names, Place(part, key), [each.get(key) for each in objects[part]])
    return columns


def _at_once(rows: Sequence[dict[str, Any]], fields: Fields) -> dict[str, pa.Array]:
    """The numbers of plain rows, three times as fast as field by field; none when one is to be looked at by itself."""
    wire = _wire(tuple(fields.items()))
    try:
        parts = pa.array(rows, wire.type).flatten()
        numbers = [number for part in parts for number in (part.flatten() if pa.types.is_struct(part.type) else [part])]
        found = dict(zip(wire.columns, numbers, strict=True))
        return found | _whole({column: found[column] for column in wire.counts})
    except (pa.ArrowException, OverflowError):
        return {}


def _whole(numbers: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Doubles as counts, all at once: a call costs more than its numbers. Raises ArrowInvalid when one is no count."""
    if not numbers:
        return {}
    every = pa.concat_arrays(numbers.values())
    ends = [end for end in pc.min_max(every).as_py().values() if end is not None]
    if not all(0 <= end < _EXACT for end in ends):
        raise pa.ArrowInvalid("no count, or one that a double may have rounded")
    counts, size = every.cast(pa.int64()), len(every) // len(numbers)
    return {column: counts.slice(number * size, size) for number, column in enumerate(numbers)}


def _has_boolean(text: bytes) -> bool:
    """Whether a member of JSON's may be true or false, where Arrow would read 1.0 or 0.0."""
    offsets = pa.py_buffer(struct.pack("=ii", 0, len(text)))
    page = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(text)])
    return bool(pc.match_substring_regex(page, options=_BOOLEAN)[0].as_py())


class _Wire(NamedTuple):
    """How the numbers of some fields are read at once.

    Args:
        type: of a row. Counts are read as doubles: Arrow cuts the fraction off a double read as an integer, silently.
        columns: the column of each number of it, parts first.
        counts: those that are counts.
    """

    type: pa.StructType
    columns: list[str]
    counts: list[str]


@cache
def _wire(fields: tuple[tuple[str, tuple[str, str, str]], ...]) -> _Wire:
    numbers = [(column, part, key) for column, (part, key, kind) in fields if kind in ("double", "size", "count")]
    numbers.sort(key=lambda number: (not number[1], number[1]))
    parts = dict.fromkeys(part for _, part, _ in numbers if part)
    nested = [(part, pa.struct([(key, pa.float64()) for _, of, key in numbers if of == part])) for part in parts]
    plain = [(key, pa.float64()) for _, part, key in numbers if not part]
    counts = [column for column, (_, _, kind) in fields if kind == "count"]
    return _Wire(pa.struct([*nested, *plain]), [column for column, _, _ in numbers], counts)


def objects_of(names: Sequence[str], rows: Sequence[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    """The object of that name in every row, empty where there is none. Raises PageError."""
    found = [row.get(part) or {} for row in rows]
    if set(map(type, found)) != {dict}:
        at = next(at for at, each in enumerate(found) if type(each) is not dict)
        raise refused(names[at], Place("", part), found[at], "an object")
    return found


def _double(names: Sequence[str], place: Place, values: list[Any]) -> pa.Array:
    _check_types(names, place, values, _NUMBERS, "a number")
    try:
        return pa.array(values, pa.float64())
    except (pa.ArrowInvalid, OverflowError):  # an integer that no double holds
        return pa.array([None if value is None else float(value) for value in values], pa.float64())


def _size(names: Sequence[str], place: Place, values: list[Any]) -> pa.Array:
    sizes = _double(names, place, values)
    for at, value in enumerate(values):
        if value is not None and value < 0:
            raise refused(names[at], place, value, "a size")
    return sizes


def _count(names: Sequence[str], place: Place, values: list[Any]) -> pa.Array:
    _check_types(names, place, values, _NUMBERS, "a number")
    counts = _integers(values)
    if counts is not None and (pc.min(counts).as_py() or 0) >= 0:
        return counts
    for at, value in enumerate(values):
        if value is not None and not (0 <= value < 2**63 and int(value) == value):
            raise refused(names[at], place, value, "a count")
    return pa.array([None if value is None else int(value) for value in values], pa.int64())


def _integers(values: list[Any]) -> pa.Array | None:
    """The values, None when one of them is no integer of 64 bits: Arrow would cut a fraction off without a word."""
    if float in set(map(type, values)):
        return None
    try:
        return pa.array(values, pa.int64())
    except (pa.ArrowInvalid, OverflowError):
        return None


def _epoch(names: Sequence[str], place: Place, values: list[Any]) -> pa.Array:
    """Integer stamps as timestamp('us'); 0 is none, and a double would have lost the digits."""
    _check_types(names, place, values, _WHOLE, "a whole number")
    stamps = _integers(values)
    if stamps is not None and (pc.min(stamps).as_py() or 0) >= _UNITS_US[-1][0]:
        return pc.divide(stamps, _NS).view(pa.timestamp("us"))
    micros = [_micros(names[at], place, value) for at, value in enumerate(values)]
    return pa.array(micros, pa.int64()).cast(pa.timestamp("us"))


def _micros(name: str, place: Place, value: int | None) -> int | None:
    if not value:
        return None
    if not 0 < value < 2**63:
        raise refused(name, place, value, "an instant since 1970")
    unit_us = next((unit for most, unit in _UNITS_US if value < most), 0)
    return value * unit_us if unit_us else value // 1_000


def _text(names: Sequence[str], place: Place, values: list[Any]) -> pa.Array:
    """RFC 3339 stamps as timestamp('us'), further digits cut off."""
    _check_types(names, place, values, _TEXTS, "an RFC 3339 timestamp")
    try:
        stamps = pa.array(values, pa.string()).cast(pa.timestamp("ns", "UTC"))
        return pc.floor_temporal(stamps, unit="microsecond").cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        found = [_instant(names[at], place, value) for at, value in enumerate(values)]
        return pa.array(found, pa.timestamp("us"))


def _instant(name: str, place: Place, value: str | None) -> datetime | None:
    if value is None or value.startswith(_NEVER):
        return None
    if _STAMP.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            pass
    raise refused(name, place, value, "an RFC 3339 timestamp")


def _check_types(names: Sequence[str], place: Place, values: list[Any], valid: frozenset[type], wanted: str) -> None:
    if not set(map(type, values)) <= valid:
        at = next(at for at, value in enumerate(values) if type(value) not in valid)
        raise refused(names[at], place, values[at], wanted)


def refused(name: str, place: Place, value: Any, wanted: str) -> PageError:
    """What to raise for a field that is not what is wanted."""
    return PageError(f"In the snapshot of {name!r:.40} field '{place}' is {value!r:.40} instead of {wanted}.")


_COLUMNS = {"double": _double, "size": _size, "count": _count, "epoch": _epoch, "text": _text}

"""Which folder of a hive tree a row belongs to, and what a folder holds after rows are merged into it."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.errors import TargetError
from stagingest.model import calendar
from stagingest.model.datasets import Dataset, Table

_PLAIN = re.compile(rb"[A-Z0-9.-]")
_LONGEST = 120
_RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL", "__HIVE_DEFAULT_PARTITION__"]
    + [f"{device}{number}" for device in ("COM", "LPT") for number in range(1, 10)]
)
_OCC_TAIL = 15  # yymmdd, C or P, eight digits of strike


def encoded(symbol: str) -> str:
    """A symbol as part of a path: percent-encoded but for capitals, digits, dot and dash, so that no two that differ
    in case meet, and none leads elsewhere.

    Raises TargetError for a symbol that cannot be one.
    """
    if symbol in ("", ".", ".."):
        raise TargetError(f"A symbol {symbol!r} cannot be a folder.")
    text = "".join(chr(byte) if _PLAIN.match(bytes([byte])) else f"%{byte:02X}" for byte in symbol.encode())
    if text.partition(".")[0] in _RESERVED:
        text = f"%{ord(text[0]):02X}{text[1:]}"
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 17]}-{hashlib.sha256(symbol.encode()).hexdigest()[:16].upper()}"


def home_of(interval: str, symbol: str, data: Dataset, table: Table) -> str:
    """The folder above all years of a symbol's bars."""
    of = f"symbol={encoded(symbol)}" if data.symbol == "symbol" else f"underlying={encoded(symbol[:-_OCC_TAIL])}"
    return f"{table.name.replace('_', '-')}/interval={interval}/{of}"


def partitions(rows: pa.Table, data: Dataset, table: Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows by folder (relative, with slashes), each stretch of the same folder as a slice.

    Bars lie in months when they are intraday and in years when they are not, by the New York day they belong to; the
    bars of options and their listings lie by underlying, which the contract's symbol begins with. Captures lie in
    months by the underlying that was asked.
    """
    if not rows.num_rows:
        return
    columns = list(_columns(rows, data))
    starts = _starts([column for _, column in columns])
    values = [(name, column.take(pa.array(starts)).to_pylist()) for name, column in columns]
    for at, (start, end) in enumerate(zip(starts, [*starts[1:], rows.num_rows], strict=True)):
        names = [f"{name}={_text(name, found[at])}" for name, found in values if found[at] is not None]
        yield "/".join([table.name.replace("_", "-"), *names]), rows.slice(start, end - start)


def _columns(rows: pa.Table, data: Dataset) -> Iterator[tuple[str, pa.Array]]:
    if data.symbol == "universe":
        yield "universe", _flat(rows["universe"])
        return
    if not data.time:
        yield "underlying", _underlying(rows["contract_symbol"])
        return
    if data.captured:
        days = _new_york_days(_flat(rows[data.time]))
        yield from (("underlying", _flat(rows[data.symbol])), ("year", pc.year(days)), ("month", pc.month(days)))
        return
    interval, days = _flat(rows["interval"]), _flat(rows["session_date"])
    yield "interval", interval
    yield (
        ("symbol", _flat(rows["symbol"])) if data.symbol == "symbol" else ("underlying", _underlying(rows[data.symbol]))
    )
    yield "year", pc.year(days)
    intraday = pc.match_substring_regex(interval, "(min|h)$")
    yield "month", pc.if_else(intraday, pc.month(days), pa.scalar(None, pa.int64()))


def _new_york_days(stamps: pa.Array) -> pa.Array:
    """The New York day of each stamp (UTC without zone), of which there are few different ones."""
    coded = stamps.dictionary_encode()
    days = [calendar.new_york(stamp.replace(tzinfo=UTC)).date() for stamp in coded.dictionary.to_pylist()]
    return pa.array(days, pa.date32()).take(coded.indices)


def _underlying(contracts: pa.ChunkedArray) -> pa.Array:
    return pc.utf8_slice_codeunits(_flat(contracts), 0, -_OCC_TAIL)


def _flat(column: pa.ChunkedArray) -> pa.Array:
    """One array of plain values."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _text(name: str, value: Any) -> str:
    if name in ("symbol", "underlying", "universe"):
        return encoded(value)
    return f"{value:02}" if name == "month" else str(value)


def _starts(columns: Sequence[pa.Array]) -> list[int]:
    """Where a row differs from the one before it in one of the columns."""
    size = len(columns[0])
    differs = pa.array([False] * (size - 1), pa.bool_())
    for column in columns:
        other = pc.not_equal(column.slice(1), column.slice(0, size - 1))
        differs = pc.or_(differs, pc.fill_null(other, False))
    return [0, *(index + 1 for index in pc.indices_nonzero(differs).to_pylist())]


def merged(held: pa.Table | None, news: Sequence[pa.Table], table: Table, *, newest: bool) -> pa.Table:
    """What a folder holds after the rows of `news` (oldest first) came: one row for each key, sorted by key.

    Args:
        held: what it holds; None for nothing.
        news: tables of the same columns.
        table: says the key.
        newest: of one key the row that was answered last wins, not the one that comes last.
    """
    tables = [*([held] if held is not None else []), *news]
    if len(tables) == 1 and not newest:
        return tables[0]  # staged rows are sorted and of different keys
    ranks = [pa.array([rank] * each.num_rows, pa.int32()) for rank, each in enumerate(tables)]
    both = pa.concat_tables(tables).append_column("rank", pa.chunked_array(ranks))
    order = [*table.key, *(["updated_at"] if newest else []), "rank"]
    both = both.take(pc.sort_indices(both, sort_keys=[(name, "ascending") for name in order]))
    last = pc.indices_nonzero(_last_of_key([_flat(both[name]) for name in table.key]))
    return both.drop_columns(["rank"]).take(last)


def _last_of_key(keys: Sequence[pa.Array]) -> pa.Array:
    size = len(keys[0])
    same = pa.array([True] * max(0, size - 1), pa.bool_())
    for key in keys:
        same = pc.and_(same, pc.equal(key.slice(1), key.slice(0, size - 1)))
    return pa.concat_arrays([pc.invert(same), pa.array([True][:size], pa.bool_())])

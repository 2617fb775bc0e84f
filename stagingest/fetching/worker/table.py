"""The pages of one chunk as one staged table: sorted, without duplicates, counted; pure Arrow."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.model import calendar
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import Dataset, arrow_schema, dataset
from stagingest.model.task import PartFile, SessionDigest, Task, footer
from stagingest.model.windows import Window
from stagingest.providers.endpoint import Endpoint
from stagingest.providers.timeframe import BarTimeframe
from stagingest.staging import parts

if TYPE_CHECKING:
    from collections.abc import Iterator


def session_dates(ts: pa.Array, series: Series, window: Window) -> pa.Array:
    """The New York day (date32) of each instant.

    Args:
        ts: timestamp('us'), UTC.
        series: its interval decides; days, weeks and months are stamped New York midnight, 04:00 or 05:00 UTC.
        window: holds all of `ts`; changes of New York's clock are looked up in it.
    """
    if not BarTimeframe.parse(series["interval"]).intraday:
        return _shifted(ts, -4).cast(pa.date32())
    (_, offset_h), *switches = calendar.switches(window.start, window.end)
    local = _shifted(ts, offset_h)
    for moment, hours in switches:
        before = pc.less(ts, pa.scalar(moment.replace(tzinfo=None), ts.type))
        local = pc.if_else(before, local, _shifted(ts, hours))
    return local.cast(pa.date32())


def _shifted(ts: pa.Array, hours: int) -> pa.Array:
    return pc.add(ts, pa.scalar(hours * 3_600, pa.duration("s")))


Constant = str | date | datetime


class ConflictError(Exception):
    """Two rows of one key say different things; the text names a key of each symbol that has such rows.

    Args:
        keys: of those rows, the symbol first.
    """

    def __init__(self, keys: Sequence[Sequence[object]]) -> None:
        first = {str(key[0]): " ".join(map(str, key)) for key in reversed(keys)}
        self.symbols = tuple(sorted(first))
        super().__init__("; ".join(f"two rows for {first[symbol]} differ" for symbol in self.symbols[:_NAMED]))


_NAMED = 5


@dataclass(frozen=True, slots=True)
class Run:
    """Rows `[start, end)` of a table belong to one symbol."""

    symbol: str
    start: int
    end: int


def joined(tables: Sequence[pa.Table], key: Sequence[str]) -> pa.Table:
    """The rows of all pages, strictly ascending by key, identical duplicates collapsed.

    Raises ConflictError when rows of one key differ.
    """
    table = (pa.concat_tables(tables).unify_dictionaries() if len(tables) > 1 else tables[0]).combine_chunks()
    if _ascending(table, key):
        return table
    # Arrow sorts no dictionaries: this path, for pages out of task, works on plain text.
    table = _plain_table(table).sort_by([(name, "ascending") for name in key])
    same = _same_as_before(table, key)
    if not pc.any(same).as_py():
        return _encoded(table)
    equal = _same_as_before(table, table.column_names)
    odd = pc.and_(same, pc.invert(equal))
    if pc.any(odd).as_py():
        rows = table.slice(1).select(list(key)).filter(odd).to_pylist()
        raise ConflictError([tuple(row.values()) for row in rows])
    keep = pa.concat_arrays([pa.array([True]), pc.invert(same).combine_chunks()])
    return _encoded(table.filter(keep))


def _plain_table(table: pa.Table) -> pa.Table:
    return pa.table({name: _plain(table.column(name)) for name in table.column_names})


def _encoded(table: pa.Table) -> pa.Table:
    """The table in one piece, its first column as dictionary again."""
    name = table.column_names[0]
    return table.combine_chunks().set_column(0, name, table.column(0).combine_chunks().dictionary_encode())


def _ascending(table: pa.Table, key: Sequence[str]) -> bool:
    if table.num_rows < 2:
        return True
    symbol = table.column(0).chunk(0)
    names = symbol.dictionary
    if not pc.all(pc.greater(names.slice(1), names.slice(0, len(names) - 1))).as_py():
        return False
    codes = symbol.indices
    grows = pc.greater(codes.slice(1), codes.slice(0, len(codes) - 1))
    if len(key) == 1:
        return bool(pc.all(grows).as_py())
    same = pc.equal(codes.slice(1), codes.slice(0, len(codes) - 1))
    clock = table.column(key[1]).chunk(0)
    later = pc.greater(clock.slice(1), clock.slice(0, len(clock) - 1))
    return bool(pc.all(pc.or_(grows, pc.and_(same, later))).as_py())


def _same_as_before(table: pa.Table, columns: Sequence[str]) -> pa.ChunkedArray:
    """For each row but the first: whether it equals the row before in these columns (null equals null)."""
    after, before = table.slice(1), table.slice(0, table.num_rows - 1)
    result = None
    for name in columns:
        left, right = after.column(name), before.column(name)
        both_null = pc.and_(pc.is_null(left), pc.is_null(right))
        equal = pc.or_(pc.fill_null(pc.equal(left, right), False), both_null)
        result = equal if result is None else pc.and_(result, equal)
    return result if isinstance(result, pa.ChunkedArray) else pa.chunked_array([result])


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def staged(
    table: pa.Table, dataset: Dataset, constants: Mapping[str, Constant], session_date: pa.Array | None
) -> pa.Table:
    """The table in the dataset's schema: page columns, constant columns, and the session date where it has one.

    A column that the dataset has got later and the provider's pages do not have is NULL.
    """
    schema = arrow_schema(dataset)
    later = {column.name for column in dataset.columns if column.since > 1}
    arrays = []
    for field in schema:
        if field.name in table.column_names:
            column = table.column(field.name)
            arrays.append(column if column.type == field.type else column.cast(field.type))
        elif field.name == "session_date" and session_date is not None:
            arrays.append(session_date)
        elif field.name in later and field.name not in constants:
            arrays.append(pa.nulls(table.num_rows, field.type))
        else:
            arrays.append(_repeat(constants[field.name], table.num_rows, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _repeat(value: Constant, rows: int, type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type_):
        indices = pa.Array.from_buffers(pa.int32(), rows, [None, pa.py_buffer(bytes(4 * rows))])
        return pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))
    if isinstance(value, datetime):
        value = value.replace(tzinfo=None)
    return pa.repeat(pa.scalar(value, type_), rows)


def symbol_runs(column: pa.ChunkedArray) -> list[Run]:
    """The stretches of equal symbols in a dictionary column (of a combined table)."""
    array = column.chunk(0)
    ends = pc.run_end_encode(array.indices)
    names = array.dictionary.to_pylist()
    found = []
    start = 0
    for code, end in zip(ends.values.to_pylist(), ends.run_ends.to_pylist(), strict=True):
        found.append(Run(names[code], start, end))
        start = end
    return found


def symbol_rows(found: Sequence[Run]) -> tuple[tuple[str, int], ...]:
    """Rows of each symbol."""
    counts: dict[str, int] = {}
    for run in found:
        counts[run.symbol] = counts.get(run.symbol, 0) + run.end - run.start
    return tuple(counts.items())


_DIGESTED = ("ts", "open", "high", "low", "close", "volume", "trade_count", "vwap")


def edges(table: pa.Table, found: Sequence[Run]) -> tuple[SessionDigest, ...]:
    """Digests of the rows of each symbol's first and last session, for adjusted series."""
    return tuple(edge for run in found for edge in _edges_of(table.slice(run.start, run.end - run.start), run.symbol))


def _edges_of(rows: pa.Table, symbol: str) -> "Iterator[SessionDigest]":
    days = rows.column("session_date")
    first, last = days[0].as_py(), days[-1].as_py()
    for day in (first, last) if first != last else (first,):
        session = rows.filter(pc.equal(days, pa.scalar(day, pa.date32()))).select(_DIGESTED)
        said = session.to_pydict()
        # As volumes were written when they were integers: manifests remember the digests of those.
        said["volume"] = [int(v) if v is not None and v == int(v) else v for v in said["volume"]]
        text = repr(said)
        yield SessionDigest(symbol, day, hashlib.blake2b(text.encode(), digest_size=8).hexdigest())


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A written file, the rows of each symbol in it, and its edges when the task wants them."""

    part: PartFile
    symbol_rows: tuple[tuple[str, int], ...]
    edges: tuple[SessionDigest, ...]


def stage(
    root: Path, staging_id: str, task: Task, endpoint: Endpoint, pages: Sequence[pa.Table], asked_at: datetime
) -> WrittenPart:
    """Write the pages of a task as its part.

    Raises:
        ConflictError: rows of one key that differ.
        OSError: the part cannot be written.
    """
    kind = dataset(endpoint.dataset)
    history = endpoint.kind.has_days
    rows = joined(pages, (kind.columns[0].name, kind.time) if history else (kind.columns[0].name,))
    days = _session_dates(rows, kind, task) if history else None
    table = staged(rows, kind, _constants(endpoint, task.chunk, asked_at), days)
    runs = symbol_runs(table.column(kind.symbol))
    part = parts.write_part(root, task.part, table, footer(staging_id, task, kind.schema, asked_at))
    return WrittenPart(part, symbol_rows(runs), edges(table, runs) if task.adjusted else ())


def _constants(endpoint: Endpoint, chunk: Chunk, asked_at: datetime) -> dict[str, Constant]:
    return {**endpoint.constants(chunk.series), "updated_at": asked_at, **endpoint.kind.constants(chunk, asked_at)}


def _session_dates(rows: pa.Table, kind: Dataset, task: Task) -> pa.Array:
    return session_dates(rows.column(kind.time).combine_chunks(), task.chunk.series, task.chunk.window)

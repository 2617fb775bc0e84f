"""Rows as Arrow, out of a staging directory or a database, a batch at a time."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stagingest.errors import StagingError, UsageError, choices
from stagingest.model.calendar import day, instant
from stagingest.model.datasets import DATASETS, Dataset, arrow_schema, check_schema, widened
from stagingest.model.task import Entry
from stagingest.model.windows import Window
from stagingest.staging import storage
from stagingest.staging.manifest import Manifest, has_manifest

if TYPE_CHECKING:
    import pyarrow as pa


_BATCH_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows.

    Args:
        symbols: of the dataset's symbol column; empty is all.
        window: of New York days, None is all time.
        same: key column -> the one value it must have.
    """

    symbols: frozenset[str]
    window: Window | None
    same: Mapping[str, str]


def scan(
    dataset: str,
    *,
    symbols: Iterable[str] = (),
    start: str | date | None = None,
    end: str | date | None = None,
    timeframe: str | None = None,
    provider: str | None = None,
    feed: str | None = None,
    adjustment: str | None = None,
    currency: str | None = None,
    asof: str | None = None,
    columns: Iterable[str] | None = None,
    staging: str | Path = "staging",
    db: str | Path | None = None,
) -> "pa.RecordBatchReader":
    """Rows of a dataset that were staged, or with `db` loaded, as a stream of Arrow batches; each key once.

    Of staged rows the one that was answered last counts; what no answer overlaps is read a file at a time, answers that
    overlap are held in memory together. Rows come file by file, within one sorted by key.

    Args:
        dataset: `stock-bars`, `option-bars`, `option-contracts`, `option-snapshots` or `universe-members`.
        symbols: stocks; of option bars OCC symbols, of contracts and snapshots underlyings; all when empty.
        start, end: first and last New York day (YYYY-MM-DD), both included; only for bars and snapshots.
        timeframe: of bars, in any spelling of `fetch`.
        provider, feed, adjustment, currency, asof: where the dataset has that column; needed where what is there
            differs in it, for rows of several series do not belong into one table.
        columns: which columns, in which order; all of the dataset when not given.
        staging: the staging directory.
        db: a DuckDB file that `load` filled, instead of the staging directory.

    Returns a reader whose columns have the types of `datasets`: text as string, ts and other instants as timestamp[us]
    in UTC without zone, prices as double in the currency of the row, volumes as double, strikes as decimal128(18, 3).

    Raises UsageError for a dataset, column or day that is none and for rows of several series, with the choices there
    are; StagingError or TargetError for what cannot be read.
    """
    if dataset not in DATASETS:
        raise UsageError(f"There is no dataset {dataset!r}.", choices(dataset, sorted(DATASETS)))
    data = DATASETS[dataset]
    names = list(columns) if columns is not None else [column.name for column in data.columns]
    given = {
        "interval": _interval(timeframe), "provider": provider, "feed": feed, "adjustment": adjustment,
        "currency": currency, "asof": asof,
    }  # fmt: skip
    same = {name: value for name, value in given.items() if value is not None}
    known = {column.name for column in data.columns}
    for name in (*names, *same):
        if name not in known:
            raise UsageError(f"{dataset} has no column {name!r}.", choices(name, sorted(known)))
    wanted = RowFilter(frozenset(symbols), _window(data, start, end), same)
    if db is not None:
        return _loaded(Path(db), data, wanted, names)
    return _staged(Path(staging), data, wanted, names)


_KEYWORDS = {"interval": "timeframe"}


def _refuse_several(data: Dataset, found: Iterable[Mapping[str, str]], same: Mapping[str, str]) -> None:
    """Raise UsageError when series (key column -> value) that are all chosen differ in a key column."""
    key = {name for table in data.tables for name in table.key}
    chosen = [series for series in found if all(series.get(name, value) == value for name, value in same.items())]
    for name in ("interval", "provider", "feed", "adjustment", "currency", "asof"):
        there = sorted({series[name] for series in chosen if name in series and name in key})
        if len(there) > 1:
            word = _KEYWORDS.get(name, name)
            said = ", ".join(repr(each) for each in there)
            raise UsageError(f"There are {data.name} of several series, of {word} {said}.", f"Choose one with {word}=.")


def _interval(timeframe: str | None) -> str | None:
    from stagingest.providers.timeframe import BarTimeframe

    return None if timeframe is None else BarTimeframe.parse(timeframe).interval


def _window(data: Dataset, start: str | date | None, end: str | date | None) -> Window | None:
    if start is None and end is None:
        return None
    if not data.time:
        raise UsageError(f"{data.name} has no time to choose by.", "Leave start and end out.")
    first = day("start", str(start)) if start is not None else date(1900, 1, 1)
    last = day("end", str(end)) if end is not None else date(2200, 1, 1)
    return Window(first, date.fromordinal(last.toordinal() + 1))


def _schema(data: Dataset, names: Sequence[str]) -> "pa.Schema":
    import pyarrow as pa

    fields = arrow_schema(data)
    plain = [(name, fields.field(name).type) for name in names]
    return pa.schema([(name, pa.string() if pa.types.is_dictionary(kind) else kind) for name, kind in plain])


# --- staged


def _staged(root: Path, data: Dataset, wanted: RowFilter, names: Sequence[str]) -> "pa.RecordBatchReader":
    import pyarrow as pa

    schema = _schema(data, names)
    groups = _together(_entries(root, data, wanted)) if has_manifest(root) else []
    tables = (table for group in groups for table in _rows(root, data, wanted, group))
    batches = (
        batch for table in tables for batch in table.select(names).cast(schema).to_batches(max_chunksize=_BATCH_ROWS)
    )
    return pa.RecordBatchReader.from_batches(schema, batches)


def _entries(root: Path, data: Dataset, wanted: RowFilter) -> list[Entry]:
    with Manifest.read(root, unseen=True) as manifest:
        found = [entry for entry in manifest.entries() if entry.path and _may_hold(entry, data, wanted)]
    for entry in found:
        check_schema(data, entry.schema, StagingError)
    _refuse_several(data, {entry.chunk.series: _said(entry) for entry in found}.values(), wanted.same)
    return found


def _said(entry: Entry) -> dict[str, str]:
    """What the series of an entry says of each of its rows, by column."""
    series = entry.chunk.series
    return {"provider": series.endpoint.partition("/")[0], **dict(series.params)}


def _may_hold(entry: Entry, data: Dataset, wanted: RowFilter) -> bool:
    chunk, said = entry.chunk, _said(entry)
    name = chunk.series.endpoint.partition("/")[2]
    if name != data.name or any(said.get(key, value) != value for key, value in wanted.same.items()):
        return False
    if wanted.symbols and wanted.symbols.isdisjoint(chunk.symbols):
        return False
    window = wanted.window
    return window is None or (chunk.window.start < window.end and window.start < chunk.window.end)


def _together(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries that may hold rows of one key in one list, in the order they were acknowledged."""
    leader = list(range(len(entries)))

    def find(at: int) -> int:
        while leader[at] != at:
            leader[at] = leader[leader[at]]
            at = leader[at]
        return at

    seen: dict[tuple[str, str], list[int]] = {}
    for at, entry in enumerate(entries):
        window = entry.chunk.window
        for symbol in entry.chunk.symbols:
            others = seen.setdefault((entry.chunk.series.endpoint, symbol), [])
            for other in others:
                held = entries[other].chunk.window
                if held.start < window.end and window.start < held.end:
                    leader[find(at)] = find(other)
            others.append(at)
    groups: dict[int, list[Entry]] = {}
    for at, entry in enumerate(entries):
        groups.setdefault(find(at), []).append(entry)
    return list(groups.values())


def _rows(root: Path, data: Dataset, wanted: RowFilter, group: Sequence[Entry]) -> Iterator["pa.Table"]:
    import pyarrow.parquet as pq

    from stagingest.targets.parquet.partitions import merged

    condition = _condition(data, wanted)
    files = storage.at(root)
    tables = [
        widened(pq.read_table(files.address(entry.path), partitioning=None, filters=condition), data, entry.schema)
        for entry in group
    ]
    if len(tables) == 1:
        yield tables[0]
        return
    every = [column.name for column in data.columns]
    widest = max(data.tables, key=lambda table: len(table.key))
    yield merged(None, [table.select(every).cast(_schema(data, every)) for table in tables], widest, newest=True)


def _condition(data: Dataset, wanted: RowFilter) -> "pa.compute.Expression | None":
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [pc.field(name) == value for name, value in wanted.same.items()]
    if wanted.symbols:
        parts.append(pc.field(data.symbol).isin(sorted(wanted.symbols)))
    if wanted.window is not None:
        since, until = (pa.scalar(_at(each), pa.timestamp("us")) for each in (wanted.window.start, wanted.window.end))
        parts += [pc.field(data.time) >= since, pc.field(data.time) < until]
    found = None
    for part in parts:
        found = part if found is None else found & part
    return found


def _at(at: date) -> datetime:
    return instant(at).replace(tzinfo=None)


# --- loaded

_SERIES = 'SELECT DISTINCT provider, params::VARCHAR FROM ledger WHERE dataset = $dataset AND "rows" > 0'


def _loaded(path: Path, data: Dataset, wanted: RowFilter, names: Sequence[str]) -> "pa.RecordBatchReader":
    from stagingest.targets.duckdb import sql
    from stagingest.targets.duckdb.connection import read, stream

    table = max(data.tables, key=lambda table: len(set(names) & {column.name for column in table.columns}))
    missing = set(names) - {column.name for column in table.columns}
    kept = [name for name in names if name not in missing]
    since, until = (_at(each) for each in (wanted.window.start, wanted.window.end)) if wanted.window else (None, None)
    values = {**wanted.same, "symbols": sorted(wanted.symbols), "since": since, "until": until}
    held = {name for (name,) in read(path, sql.HELD, name=table.name)[1]}
    series = read(path, _SERIES, dataset=data.name)[1]
    _refuse_several(data, ({"provider": provider, **json.loads(params)} for provider, params in series), wanted.same)
    text = sql.choose(data, table, kept, tuple(wanted.same), bounded=wanted.window is not None, held=held)
    used = {name: value for name, value in values.items() if f"${name}" in text}
    return stream(path, text, _schema(data, kept), _BATCH_ROWS, **used)

"""What a target is, and the frozen values that travel to and from it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from stagingest.datasets import DATASETS, Dataset, Table
from stagingest.errors import FullError, TargetError
from stagingest.model import Chunk, Entry, Window, to_json
from stagingest.sessions import instant
from stagingest.targets.spans import Near, Span, moment

Step = tuple[int, tuple[str, ...]]
"""A version of a target's tables, and the statements that lead to it from the one before."""

# Bars are stamped inside their window; a day more on both sides costs nothing and forgives a provider's stamp.
_MARGIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of a staging directory, as a target takes it.

    Args:
        staging: id of the staging directory.
        root: its absolute path.
        dataset: what the entry's rows are.
    """

    staging: str
    root: Path
    dataset: Dataset
    entry: Entry

    @property
    def file(self) -> Path | None:
        """The staged file, None for an entry without rows."""
        return self.root / self.entry.path if self.entry.path else None

    @property
    def line(self) -> tuple[str, Window]:
        """Where its rows lie: entries of one name that share a symbol and time may hold the same keys.

        Of history it is the series (its id) and the window; a capture meets others of its endpoint, whatever their
        bounds, at its own instant only.
        """
        chunk = self.entry.chunk
        if not self.dataset.captured:
            return chunk.series.id, chunk.window
        return chunk.series.endpoint, moment(self.entry.asked_at)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First and last instant (UTC without zone, the last not included) a row of it may be stamped with."""
        window = moment(self.entry.asked_at) if self.dataset.captured else self.entry.chunk.window
        if isinstance(window.start, datetime) and isinstance(window.end, datetime):
            return window.start, window.end
        start, end = (instant(day).replace(tzinfo=None) for day in (window.start, window.end))
        return start, end

    def windows(self, table: Table) -> Iterator[dict[str, Any]]:
        """As in `Batch`."""
        chunk, data = self.entry.chunk, self.dataset
        since, until = self.span
        params = {"provider": chunk.series.endpoint.partition("/")[0], **dict(chunk.series.params)}
        others = {name: params[name] for name in data.told_by(table) if name != data.symbol}
        for symbol, rows in self.entry.symbol_rows:
            if rows:
                yield {data.symbol: symbol, **others, "since": since, "until": until, "whole": self.entry.covers}

    def ledger_row(self, loaded_at: datetime) -> dict[str, Any]:
        """The item as a row of the ledger; `loaded_at` in UTC without zone."""
        entry, chunk, series = self.entry, self.entry.chunk, self.entry.chunk.series
        rows = dict(entry.symbol_rows)
        return {
            "staging": self.staging,
            "seq": entry.seq,
            "sha256": entry.sha256,
            "dataset": self.dataset.name,
            "provider": series.endpoint.partition("/")[0],
            "endpoint": series.endpoint,
            "series": series.id,
            "params": to_json(dict(series.params)),
            "symbols": chunk.symbols,
            "symbol_rows": [rows.get(symbol, 0) for symbol in chunk.symbols],
            "rows": entry.rows,
            "window_start": chunk.window.start,
            "window_end": chunk.window.end,
            "outcome": entry.outcome.value,
            "reason": entry.reason,
            "covers": entry.covers,
            "asked_at": entry.asked_at.astimezone(UTC).replace(tzinfo=None),
            "loaded_at": loaded_at,
        }


def columns_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows of the same names as columns; of a hundred thousand rows this keeps only what differs in memory."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        if not found:
            found = {name: [] for name in row}
        for values, value in zip(found.values(), row.values(), strict=True):
            values.append(value)
    return found


def open_window(chunk: Chunk) -> dict[str, Any]:
    """A planned chunk as a row of what is expected."""
    series = chunk.series
    provider, _, name = series.endpoint.partition("/")
    return {
        "dataset": name, "provider": provider, "endpoint": series.endpoint, "series": series.id,
        "params": to_json(dict(series.params)), "symbols": list(chunk.symbols), "window_start": chunk.window.start,
        "window_end": chunk.window.end,
    }  # fmt: skip


class Mode(StrEnum):
    """What a batch does to rows already there.

    `append` meets none; `replace` replaces those of the same key; `newest` keeps, of each key, the row that was
    answered last.
    """

    APPEND = "append"
    REPLACE = "replace"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries of one dataset and schema number that are loaded in one transaction; no two of them overlap."""

    dataset: Dataset
    schema: int
    mode: Mode
    items: tuple[Item, ...]

    @property
    def files(self) -> tuple[Item, ...]:
        """The items that have a file, in loading order."""
        return tuple(item for item in self.items if item.entry.path)

    @property
    def rows(self) -> int:
        """Rows the manifest promises."""
        return sum(item.entry.rows for item in self.items)

    def halves(self) -> "tuple[Batch, ...]":
        """The batch in two, or itself when it is one entry."""
        middle = len(self.items) // 2
        cut = (self.items[:middle], self.items[middle:]) if middle else (self.items,)
        return tuple(replace(self, items=items) for items in cut)

    def ranks(self) -> list[int]:
        """The place of each of `files` when they are put in the order they were asked."""
        files = self.files
        asked = sorted(range(len(files)), key=lambda i: (files[i].entry.asked_at, files[i].entry.seq))
        places = {at: place for place, at in enumerate(asked)}
        return [places[at] for at in range(len(files))]

    def windows(self, table: Table) -> Iterator[dict[str, Any]]:
        """What the files answered: a row for each symbol that has any, with the key columns but the time, `since` and
        `until` (UTC without zone), and `whole`, whether the answer was the last word on its window.
        """
        return (row for item in self.files for row in item.windows(table))

    def bounds(self) -> dict[str, Any]:
        """`low high` (symbols) and `since until` (UTC without zone) around every key the files may hold."""
        chunks, spans = [item.entry.chunk for item in self.files], [item.span for item in self.files]
        return {
            "low": min(min(chunk.symbols) for chunk in chunks),
            "high": max(max(chunk.symbols) for chunk in chunks),
            "since": min(since for since, _ in spans) - _MARGIN,
            "until": max(until for _, until in spans) + _MARGIN,
        }

    def __str__(self) -> str:
        first = next((item.entry.path for item in self.files), "no files")
        return f"{len(self.items)} entries of {self.dataset.name}, {self.rows} rows, from {first}"


@dataclass(frozen=True, slots=True)
class Changes:
    """How answers differ from what was loaded for the same windows before: rows added, changed, and vanished (loaded
    before and not answered again).
    """

    added: int = 0
    changed: int = 0
    vanished: int = 0

    def __add__(self, other: "Changes") -> "Changes":
        """Both together."""
        return Changes(self.added + other.added, self.changed + other.changed, self.vanished + other.vanished)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a batch did to the dataset's tables together.

    Args:
        inserted, deleted: rows.
        changes: where windows were asked again that were loaded before; None when it was not counted.
    """

    inserted: int
    deleted: int
    changes: Changes | None = None

    def __add__(self, other: "Receipt") -> "Receipt":
        """Both together."""
        counted = [each.changes for each in (self, other) if each.changes]
        changes = sum(counted, Changes()) if counted else None
        return Receipt(self.inserted + other.inserted, self.deleted + other.deleted, changes)


@contextmanager
def naming(batch: Batch) -> Iterator[None]:
    """A TargetError raised within names the batch; that the disk is full is not about one."""
    try:
        yield
    except FullError:
        raise
    except TargetError as error:
        raise type(error)(f"A batch was not loaded ({batch}): {error.message}", error.next_step) from None


def datasets_where(holds: Callable[[Table], bool]) -> frozenset[str]:
    """Names of the datasets of which this holds for some table."""
    return frozenset(data.name for data in DATASETS.values() if any(map(holds, data.tables)))


def steps_from(version: int, steps: Sequence[Step], name: str) -> Sequence[Step]:
    """The numbered steps that lead on from a version of the target of that name.

    Raises TargetError when it is newer than the last step.
    """
    newest = steps[-1][0]
    if version > newest:
        raise TargetError(f"{name} is of version {version}, this one knows {newest}.", "Update stagingest.")
    return [step for step in steps if step[0] > version]


class Target(Protocol):
    """Where rows are loaded; rows and ledger commit together.

    Every method may raise TargetError; after one the target has to be closed, opened and asked what it has taken.
    """

    name: str

    def open(self, roots: Iterable[Path]) -> None:
        """Open it, creating or migrating what is missing; it may read files below `roots` only.

        Raises HeldError when another process has it.
        """

    def close(self) -> None:
        """Give it back; it may be opened again."""

    def taken(self, staging: str) -> frozenset[tuple[int, str]]:
        """(seq, sha256) of every entry of that staging directory in the ledger."""

    def spans(self, near: Near) -> Iterator[Span]:
        """The windows that the ledger has rows for; at least those near by."""

    def newest(self, staging: str) -> datetime | None:
        """When (UTC) the newest entry of any *other* staging directory in the ledger was asked."""

    def unexplained(self) -> frozenset[str]:
        """Names of the datasets whose tables hold rows that the ledger does not explain."""

    def wrong(self) -> Iterator[str]:
        """What is wrong with the tables in themselves, a sentence each."""

    def take(self, batch: Batch) -> Receipt:
        """Load a batch, rows and ledger, or nothing of it."""

    def expect(self, staging: str, windows: Sequence[dict[str, Any]]) -> None:
        """Remember what a staging directory has planned and no answer for (rows as of `open_window`)."""

    def settle(self) -> None:
        """Make everything taken so far durable in its final form."""

    def size_bytes(self) -> int:
        """Size on disk."""

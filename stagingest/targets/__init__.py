"""What a target is, and the frozen values that travel to and from it.

Imports: errors model system

A target is a folder: a class that keeps the promises of `Target`, and its declaration, which imports no library:

    TARGET = TargetKind(("acme",), lambda address, how: ..., lambda address: None)

`api.target` lists those of this package; another distribution announces its own in pyproject.toml, and
`load --to acme:...` leads to it:

    [project.entry-points."stagingest.targets"]
    acme = "acme:TARGET"
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from stagingest.errors import FullError, TargetError
from stagingest.model.chunk import Chunk, to_json
from stagingest.model.datasets import DATASETS, Column, Table
from stagingest.targets.batch import Batch, Near, Span

Step = tuple[int, tuple[str, ...]]
"""A version of a target's tables, and the statements that lead to it from the one before."""


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


def lacking(held: Collection[tuple[str, str]]) -> list[tuple[Table, Column]]:
    """The columns that datasets have got since the tables of a target were made, given its (table, column) pairs."""
    tables = (table for data in DATASETS.values() for table in data.tables)
    return [(table, column) for table in tables for column in table.columns if (table.name, column.name) not in held]


def raised(recorded: Mapping[str, int], name: str) -> dict[str, int]:
    """Datasets (by name) whose schema number is greater than the target has recorded, where no record is 1.

    Raises TargetError when the target of that name has recorded one that this version does not know.
    """
    for data in DATASETS.values():
        if recorded.get(data.name, 1) > data.schema:
            said = f"{data.name} in {name} has schema {recorded[data.name]}, this one knows {data.schema}."
            raise TargetError(said, "Update stagingest.")
    return {data.name: data.schema for data in DATASETS.values() if data.schema > recorded.get(data.name, 1)}


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How a target is to work; each heeds what it knows of.

    Args:
        memory_limit: DuckDB's, as it writes it.
        threads: DuckDB's, None for one per core.
        temp_dir: where DuckDB spills, None for a folder beside the database.
        storage_version: the oldest DuckDB that can read a database made here.
        fast: rows need not keep the order of their files.
        replace: a whole answer removes rows of its window that it does not repeat.
        schema: where the tables are in a database, `main` unless it is named.
        lock_timeout_s: how long to wait for another process that has the target.
    """

    memory_limit: str = "1GB"
    threads: int | None = None
    temp_dir: Path | None = None
    storage_version: str = "v1.5.0"
    fast: bool = False
    replace: bool = False
    schema: str = "main"
    lock_timeout_s: float = 0.0


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

    def loaded_entries(self, staging: str) -> frozenset[tuple[int, str]]:
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

    def record_open(self, staging: str, windows: Sequence[dict[str, Any]]) -> None:
        """Remember what a staging directory has planned and no answer for (rows as of `open_window`)."""

    def finish(self) -> None:
        """Make everything taken so far durable in its final form."""

    def size_bytes(self) -> int:
        """Size on disk."""

    def free_bytes(self) -> int | None:
        """Room on its disk, None when that is not known here."""


def _nothing(address: str) -> None:
    """Any address may be typed."""


@dataclass(frozen=True, slots=True)
class TargetKind:
    """What a target declares of itself.

    Args:
        schemes: what stands before the colon of its addresses.
        make: (address, options) -> the target, not yet open; imports its library. Raises UsageError.
        folder: address -> the folder that it writes, None for a server.
        refuse: raises UsageError for an address that does not belong into a command line.
    """

    schemes: tuple[str, ...]
    make: Callable[[str, TargetOptions], Target]
    folder: Callable[[str], Path | None]
    refuse: Callable[[str], None] = _nothing

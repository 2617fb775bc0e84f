"""A hive tree of Parquet files as a target: each folder replaced atomically, the ledger last."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stagingest.errors import FullError, TargetError
from stagingest.model.datasets import DATASETS, Dataset, Table, check_schema, dataset, widened
from stagingest.system import disk, parquet
from stagingest.system.locks import Lock, patiently
from stagingest.system.platform import free_bytes
from stagingest.targets import Receipt, naming, raised
from stagingest.targets.batch import Batch, Group, Mode, Near, Span, StagedEntry
from stagingest.targets.parquet.ledger import ParquetLedger
from stagingest.targets.parquet.partitions import home_of, merged, partitions

_OWN = "_stagingest"
_FILE = "data.parquet"
# Rows held in memory at a time; a folder that is cut by it is written twice.
_AT_A_TIME = 400_000
_FEW = 2
# The least schema number: a folder's file may hold rows of several.
_ANY = 1


class ParquetTree:
    """A folder of `TABLE/interval=.../symbol=.../year=.../month=.../data.parquet`, files sorted by key.

    Rows are there before the ledger names them: a kill in between leaves rows that the next load merges again, to the
    same end.

    Args:
        root: the folder; made with the first `open` when absent.
        replace: a whole answer removes rows of its window that it does not repeat.
        lock_timeout_s: how long to wait for another process that has it.
        sleep, clock: for tests.
    """

    def __init__(
        self,
        root: Path,
        *,
        replace: bool = False,
        lock_timeout_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.root = root.absolute()
        self.name = f"parquet:{self.root}"
        self._replace, self._lock_timeout_s, self._sleep, self._clock = replace, lock_timeout_s, sleep, clock
        self._lock: Lock | None = None
        self._ledger: ParquetLedger | None = None

    def open(self, roots: Iterable[Path]) -> None:
        """Take it, making it when absent. Raises HeldError naming the holder, TargetError for a folder of others."""
        own = self.root / _OWN
        if not own.exists() and self.root.exists() and any(self.root.iterdir()):
            raise TargetError(f"{self.root} holds files that stagingest did not put there.", "Name an empty folder.")
        self.root.parent.mkdir(parents=True, exist_ok=True)
        disk.make_folder(self.root)
        disk.make_folder(own)
        self._lock = patiently(partial(Lock.take, own / "lock", "loading"), self._lock_timeout_s, self._sleep)
        self._ledger = ParquetLedger(own, writable=True)
        if news := raised(self._ledger.schemas(), self.name):
            self._widen(news)
            self._ledger.record(news)

    def _widen(self, names: Iterable[str]) -> None:
        """Write files anew whose numbers are narrower than the dataset's now: readers take one type for a folder.

        A kill leaves some of them as they were; until this is recorded, all are looked at again.
        """
        for data in map(dataset, names):
            for table in data.tables:
                doubles = [column.name for column in table.columns if column.kind == "double"]
                for path in sorted((self.root / table.name.replace("_", "-")).rglob(_FILE)):
                    schema = pq.read_schema(path)
                    if any(schema.field(name).type == pa.int64() for name in doubles if name in schema.names):
                        self._settle([path], [self._write(path, self._held(path, data, table))])

    def close(self) -> None:
        """Give it back."""
        if self._ledger:
            self._ledger.close()
        if self._lock:
            self._lock.release()
        self._ledger = self._lock = None

    @property
    def _book(self) -> ParquetLedger:
        assert self._ledger is not None, "open() comes first"
        return self._ledger

    def loaded_entries(self, staging: str) -> frozenset[tuple[int, str]]:
        """(seq, sha256) of every entry of that staging directory in the ledger."""
        return self._book.loaded_entries(staging)

    def spans(self, near: Near) -> Iterator[Span]:
        """The windows that the ledger has rows for; at least those near by."""
        return self._book.spans(near)

    def newest(self, staging: str) -> datetime | None:
        """When (UTC) the newest entry of any other staging directory in the ledger was asked."""
        return self._book.newest(staging)

    def unexplained(self) -> frozenset[str]:
        """None: rows are merged by key whatever the ledger says."""
        return frozenset()

    def wrong(self) -> Iterator[str]:
        """Files that cannot be read, are not sorted, or hold a key twice."""
        for data in DATASETS.values():
            for table in data.tables:
                for path in sorted((self.root / table.name.replace("_", "-")).rglob(_FILE)):
                    if why := _amiss(path, table):
                        yield f"{path.relative_to(self.root)} {why}"

    def take(self, batch: Batch) -> Receipt:
        """Merge a batch into its folders, then enter it in the ledger. Raises TargetError naming the batch."""
        check_schema(batch.dataset, batch.schema, TargetError)
        receipt = Receipt(0, 0)
        with naming(batch), self._telling():
            for items in _runs(batch):
                for table in batch.dataset.tables:
                    receipt += self._fill(table, batch, items)
        now = self._clock().replace(tzinfo=None)
        self._book.enter(item.ledger_row(now) for item in batch.items)
        return receipt

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What the disk and Arrow refuse, in our words."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno in disk.FULL:
                said = "Make room and run the same load again; what is loaded stays."
                raise FullError(f"The disk of {self.root} is full.", said) from None
            raise TargetError(str(error), "Run the same load again.") from None

    def record_open(self, staging: str, windows: Sequence[dict[str, Any]]) -> None:
        """Nothing: a tree has no view of its coverage."""

    def finish(self) -> None:
        """Nothing: every batch is durable when it is taken."""

    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.root.rglob(_FILE))

    def free_bytes(self) -> int:
        """Room on its disk."""
        return free_bytes(self.root)

    def _fill(self, table: Table, batch: Batch, items: Sequence[StagedEntry]) -> Receipt:
        """Merge the rows of some items into the folders of a table."""
        folders: dict[str, list[pa.Table]] = {}
        rows = 0
        for item in items:
            staged = widened(_read(item), batch.dataset, batch.schema)
            rows += staged.num_rows
            for folder, part in partitions(staged, batch.dataset, table):
                folders.setdefault(folder, []).append(part.select([column.name for column in table.columns]))
        groups = replace(batch, items=tuple(items)).groups(table) if self._clears(batch) else []
        for folder in self._homes(groups, batch, table):
            folders.setdefault(folder, [])
        written, deleted = [], 0
        for folder, news in folders.items():
            path = self.root / folder / _FILE
            held = self._held(path, batch.dataset, table) if path.exists() else None
            left = _outside(held, groups, batch) if held is not None and groups else held
            both = merged(left, news, table, newest=batch.mode is Mode.NEWEST)
            before = (held.num_rows if held is not None else 0) + sum(new.num_rows for new in news)
            deleted += before - both.num_rows
            if news or before > both.num_rows:
                written.append((path, self._write(path, both)))
        self._settle([path for path, _ in written], [new for _, new in written])
        return Receipt(rows, deleted)

    def _held(self, path: Path, data: Dataset, table: Table) -> pa.Table:
        """The rows of a folder's file; it may be older than a column of the table."""
        held = pq.read_table(path, partitioning=None)
        return widened(held, data, _ANY).select([column.name for column in table.columns])

    def _homes(self, groups: Sequence[Group], batch: Batch, table: Table) -> Iterator[str]:
        """Folders that may hold rows of what the files answer."""
        for group in groups:
            for symbol in {name for item in group.files if item.entry.covers for name in item.answered.symbols}:
                home = self.root / home_of(group.fixed["interval"], symbol, batch.dataset, table)
                yield from (str(path.parent.relative_to(self.root)) for path in home.rglob(_FILE))

    def _clears(self, batch: Batch) -> bool:
        return self._replace and batch.mode is Mode.REPLACE

    def _write(self, path: Path, table: pa.Table) -> Path:
        """Write beside `path`; not yet durable."""
        for folder in reversed([each for each in path.parents if not each.exists()]):
            folder.mkdir(mode=0o700)  # `parents=True` would leave the modes of those above to the umask
        new = path.with_name(f".{_FILE}.new")
        disk.remove(new)
        disk.create(new)
        disk.fill(new, parquet.parquet(table, {}))
        return new

    def _settle(self, paths: Sequence[Path], news: Sequence[Path]) -> None:
        """Put new files in the place of the old ones, durably."""
        if not news:
            return
        disk.sync(news)
        for path, new in zip(paths, news, strict=True):
            disk.replace(new, path)
        if len(paths) > _FEW:
            disk.sync(paths)  # the whole file system at once: cheaper than thousands of folders
            return
        for folder in {parent for path in paths for parent in path.parents if self.root in (parent, *parent.parents)}:
            disk.sync_folder(folder)


def _runs(batch: Batch) -> Iterator[Sequence[StagedEntry]]:
    """The files of a batch, oldest first where that matters, so many at a time as fit in memory."""
    files: Sequence[StagedEntry] = batch.files
    if batch.mode is Mode.NEWEST:
        files = [item for _, item in sorted(zip(batch.ranks(), files, strict=True), key=itemgetter(0))]
    run: list[StagedEntry] = []
    rows = 0
    for item in files:
        if run and rows + item.entry.rows > _AT_A_TIME:
            yield run
            run, rows = [], 0
        run.append(item)
        rows += item.entry.rows
    if run:
        yield run


def _read(item: StagedEntry) -> pa.Table:
    staged = pq.read_table(item.file, partitioning=None)
    if staged.num_rows != item.entry.rows:
        said = f"{item.entry.path} holds {staged.num_rows} rows where the manifest says {item.entry.rows}."
        raise TargetError(said)
    return staged


def _outside(held: pa.Table, groups: Sequence[Group], batch: Batch) -> pa.Table:
    """The rows that lie in no window of which the files say the last word."""
    data = batch.dataset
    symbols = set(pc.unique(held[data.symbol]).to_pylist())
    keep = pa.chunked_array([pa.array([True] * held.num_rows, pa.bool_())])
    for group in groups:
        for answer in (item.answered for item in group.files):
            there = symbols.intersection(answer.symbols)
            if not answer.whole or not there:
                continue
            inside = pc.is_in(held[data.symbol], pa.array(sorted(there)))
            inside = pc.and_(inside, pc.greater_equal(held[data.time], pa.scalar(answer.since, pa.timestamp("us"))))
            inside = pc.and_(inside, pc.less(held[data.time], pa.scalar(answer.until, pa.timestamp("us"))))
            for name, value in group.fixed.items():
                inside = pc.and_(inside, pc.equal(held[name], value))
            keep = pc.and_(keep, pc.invert(inside))
    return held.filter(keep)


def _amiss(path: Path, table: Table) -> str:
    try:
        keys = pq.read_table(path, columns=list(table.key), partitioning=None)
    except (OSError, pa.ArrowException) as error:
        return f"cannot be read: {str(error).partition(chr(10))[0]}"
    apart = keys.group_by(list(table.key)).aggregate([]).num_rows
    return "" if apart == keys.num_rows else f"holds {keys.num_rows - apart} rows whose key is there already"

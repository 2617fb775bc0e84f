"""A DuckDB database file as a target: rows and ledger in one transaction."""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stagingest.errors import StagingError, TargetError
from stagingest.model.datasets import DATASETS, Column, Table, check_schema
from stagingest.system import disk
from stagingest.system.platform import cores, free_bytes
from stagingest.targets import Receipt, columns_of, datasets_where, lacking, naming, raised, steps_from
from stagingest.targets import sql as targets_sql
from stagingest.targets.batch import Batch, Near, Span
from stagingest.targets.duckdb import schema as duckdb_schema
from stagingest.targets.duckdb import sql
from stagingest.targets.duckdb.connection import DuckDBConnection, connect
from stagingest.targets.duckdb.fill import fill

_GLOB = re.compile(r"[\[\]*?]")


class DuckDB:
    """One database file. It is open from `open` to `close` only, and held by one process meanwhile.

    Args:
        path: the file; made with the first `open` when absent.
        memory_limit: as DuckDB writes it; the process needs up to 200 MiB more. DuckDB is given nine tenths, for what
            it does not count itself.
        threads: None for one per core.
        temp_dir: where it spills, None for a folder beside it.
        fast: rows of a batch need not keep the order of their files, which costs a fifth less.
        replace: a whole answer removes rows of its window that it does not repeat.
        schema: where its tables are, so that they may stand beside others of the same names.
        lock_timeout_s: how long to wait for another process that has it.
        storage_version: the oldest DuckDB that can read a database made here.
        sleep, clock: for tests.
    """

    def __init__(
        self,
        path: Path,
        *,
        memory_limit: str = "1GB",
        threads: int | None = None,
        temp_dir: Path | None = None,
        fast: bool = False,
        replace: bool = False,
        schema: str = "main",
        lock_timeout_s: float = 0.0,
        storage_version: str = "v1.5.0",
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path = path.absolute()
        self.name = str(self.path)
        self._settings: dict[str, Any] = {
            "memory_limit": _nine_tenths(memory_limit),
            "threads": threads or cores(),
            "storage_compatibility_version": storage_version,
            "preserve_insertion_order": not fast,
        }
        self._temp_dir, self._replace, self._schema = temp_dir, replace, schema
        self._lock_timeout_s, self._sleep, self._clock = lock_timeout_s, sleep, clock
        self._db: DuckDBConnection | None = None
        self._words: dict[str, tuple[str, ...]] = {}

    def open(self, roots: Iterable[Path]) -> None:
        """Open it, creating or migrating what is missing; it may read files below `roots` only.

        Raises HeldError naming the process that has it, StagingError for a root that DuckDB would read as a pattern,
        TargetError for a file that is no database of ours.
        """
        allowed = [str(root.absolute()) for root in roots]
        for root in filter(_GLOB.search, allowed):
            raise StagingError(f"The path of staging directory {root} holds one of [ ] * ?.", "Move it.")
        if not self.path.exists():
            self._create()
        self._db = self._connect(self.path, allowed)
        self._migrate()

    def close(self) -> None:
        """Give it back; what was not committed is rolled back."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def loaded_entries(self, staging: str) -> frozenset[tuple[int, str]]:
        """(seq, sha256) of every entry of that staging directory in the ledger."""
        return frozenset(self._all("SELECT seq, sha256 FROM ledger WHERE staging = $staging", staging=staging))

    def spans(self, near: Near) -> Iterator[Span]:
        """The windows that the ledger has rows for; at least those near by."""
        bounds = {"lines": list(near.lines), "low": near.low, "high": near.high, "since": near.since}
        for line, symbols, *windows in self._all(sql.SPANS, **bounds):
            for start, end, asked_at in zip(*windows, strict=True):
                yield Span.of(line, symbols, start, end, asked_at)

    def newest(self, staging: str) -> datetime | None:
        """When (UTC) the newest entry of any other staging directory in the ledger was asked."""
        newest = self._one("SELECT max(asked_at) FROM ledger WHERE staging <> $staging", staging=staging)
        return newest.replace(tzinfo=UTC) if newest else None

    def unexplained(self) -> frozenset[str]:
        """Names of the datasets whose tables hold rows that the ledger does not explain."""
        known = "SELECT coalesce(sum(inserted - deleted), 0) FROM ledger_batches WHERE table_name = $name"
        return datasets_where(lambda table: self._one(targets_sql.count(table)) != self._one(known, name=table.name))

    def wrong(self) -> Iterator[str]:
        """What is wrong with the tables in themselves, a sentence each; reads all of their keys."""
        strange = self.unexplained()
        for data in DATASETS.values():
            for table in data.tables:
                if repeated := self._one(sql.repeated(table)):
                    yield f"{table.name} has {repeated:,} rows whose key is there already"
            if data.name in strange:
                yield f"the tables of {data.name} hold more or fewer rows than the ledger explains"

    def take(self, batch: Batch) -> Receipt:
        """Load a batch, rows and ledger, or nothing of it; a TargetError names the batch."""
        check_schema(batch.dataset, batch.schema, TargetError)
        now = self._clock().replace(tzinfo=None)
        with naming(batch):
            self._widen(batch.labels())
        with naming(batch), self._transaction():
            receipts = [self._fill(table, batch, now) for table in batch.dataset.tables if batch.files]
            self._enter(batch, now)
        return sum(receipts, Receipt(0, 0))

    def record_open(self, staging: str, windows: Sequence[dict[str, Any]]) -> None:
        """Remember what a staging directory has planned and no answer for; writes only what is new."""
        rows = [{"staging": staging, **window} for window in windows]
        if not rows:
            if self._one("SELECT count(*) FROM open_windows WHERE staging = $staging", staging=staging):
                self._all("DELETE FROM open_windows WHERE staging = $staging", staging=staging)
            return
        with self._open.registered("expected", columns_of(rows)):
            if self._one(sql.SAME_OPEN, staging=staging):
                return
            with self._transaction():
                self._all("DELETE FROM open_windows WHERE staging = $staging", staging=staging)
                self._all("INSERT INTO open_windows BY NAME SELECT * FROM expected")

    def finish(self) -> None:
        """CHECKPOINT: everything taken so far leaves the write-ahead log."""
        self._all("CHECKPOINT")

    def size_bytes(self) -> int:
        """Bytes of the file, 0 before it is made."""
        return self.path.stat().st_size if self.path.exists() else 0

    def free_bytes(self) -> int:
        """Room on its disk."""
        return free_bytes(self.path)

    def _fill(self, table: Table, batch: Batch, now: datetime) -> Receipt:
        staged = table.at(batch.schema)
        receipt = fill(self._all, self._open.registered, staged, batch, replace=self._replace)
        values = {"table": table.name, "inserted": receipt.inserted, "deleted": receipt.deleted, "now": now}
        self._all("INSERT INTO ledger_batches VALUES ($table, $inserted, $deleted, $now)", **values)
        return receipt

    def _enter(self, batch: Batch, now: datetime) -> None:
        with self._open.registered("entering", columns_of(item.ledger_row(now) for item in batch.items)):
            self._one("INSERT INTO ledger BY NAME SELECT * FROM entering")

    @property
    def _open(self) -> DuckDBConnection:
        assert self._db is not None, "open() comes first"
        return self._db

    def _all(self, text: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._open.ask(text, **values)

    def _one(self, text: str, **values: Any) -> Any:
        return self._all(text, **values)[0][0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._all("BEGIN")
        try:
            yield
            self._all("COMMIT")
        except BaseException:
            # ROLLBACK would wait for a statement a signal ended; after a fatal error there is nothing to roll back.
            with suppress(TargetError, KeyboardInterrupt):
                self._open.interrupt()
                self._all("ROLLBACK")
            raise

    def _create(self) -> None:
        """Make the database under another name first: a kill while DuckDB creates one leaves a file nobody can open."""
        if not self.path.parent.is_dir():
            raise TargetError(f"There is no directory {self.path.parent}.", "Make it, or name another --to.")
        new = Path(f"{self.path}.new")
        for leftover in (new, Path(f"{new}.wal")):
            leftover.unlink(missing_ok=True)
        self._db = self._connect(new, [])
        try:
            self._migrate()
        finally:
            self.close()
        # Gone only when another process made the database at the same moment; its own is as good as ours.
        with suppress(FileNotFoundError):
            disk.sync([new])
            disk.rename(new, self.path)
            disk.sync_folder(self.path.parent)

    def _connect(self, path: Path, allowed: list[str]) -> DuckDBConnection:
        spill = (self._temp_dir or path.parent).absolute() / f"{path.name}.tmp"
        return connect(
            path, self._settings, spill=spill, allowed=allowed, schema=self._schema,
            lock_timeout_s=self._lock_timeout_s, sleep=self._sleep,
        )  # fmt: skip

    def _migrate(self) -> None:
        """Bring the tables up to this version, each step in one transaction with its record."""
        missing = steps_from(self._version(), duckdb_schema.MIGRATIONS, self.path.name)
        for number, statements in missing:
            with self._transaction():
                for statement in statements:
                    self._all(statement)
                now = self._clock().replace(tzinfo=None)
                self._all("INSERT INTO schema_migrations VALUES ($number, $now)", number=number, now=now)
        self._add_columns()
        self._words = {name.removesuffix("_label"): tuple(words) for name, words in self._all(sql.ENUMERATIONS)}
        if missing:
            self.finish()

    def _add_columns(self) -> None:
        """Give the tables what the datasets have got since, in one transaction; nothing when they have all."""
        news = raised(dict(self._all("SELECT * FROM dataset_schemas")), self.path.name)
        added = lacking(self._columns())
        if not news and not added:
            return
        with self._transaction():
            for table, column in added:
                self._all(sql.add(table, column))
            for view in duckdb_schema.VIEWS:
                self._all(view)
            for name, schema in news.items():
                self._all("INSERT OR REPLACE INTO dataset_schemas VALUES ($name, $schema)", name=name, schema=schema)
        self.finish()

    def _widen(self, labels: Mapping[str, Collection[str]]) -> None:
        """Let label columns hold words that they do not know, in one transaction; nothing when they know all."""
        wide = {
            name: (*known, *sorted(set(labels[name]).difference(known)))
            for name, known in self._words.items()
            if not set(labels.get(name, ())).issubset(known)
        }
        if not wide:
            return
        with self._transaction():
            for name, words in wide.items():
                for table, column in _labelled(name):
                    self._all(sql.retype(table, column, words))
                # Columns hold the words themselves, not the type: nothing depends on it any more.
                self._all(f"DROP TYPE {targets_sql.quoted(f'{name}_label')}")
                self._all(sql.enumeration(name, words))
            for view in duckdb_schema.VIEWS:
                self._all(view)
        self._words |= wide

    def _columns(self) -> set[tuple[str, str]]:
        """(table, column) of everything in our schema."""
        text = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = $schema"
        return {(table, column) for table, column in self._all(text, schema=self._schema)}

    def _version(self) -> int:
        """The version of our tables, 0 when there are none. Raises TargetError when they are not ours."""
        columns = self._columns()
        if ("schema_migrations", "applied_at") in columns:
            version = self._one("SELECT max(version) FROM schema_migrations")
            if isinstance(version, int):
                return version
        foreign = sorted({table for table, _ in columns} & duckdb_schema.OUR_NAMES)
        if foreign:
            message = f"{self.path.name} has a table {foreign[0]} that stagingest did not make."
            raise TargetError(message, "Name another --to, or another --schema.")
        return 0


def _labelled(name: str) -> Iterator[tuple[Table, Column]]:
    """The columns that hold a label."""
    for data in DATASETS.values():
        for table in data.tables:
            yield from ((table, column) for column in table.columns if (column.kind, column.name) == ("label", name))


def _nine_tenths(size: str) -> str:
    number, unit = re.match(r"([\d.]*) *(.*)", size).groups()  # type: ignore[union-attr]
    return f"{float(number) * 0.9:.6f}{unit}"

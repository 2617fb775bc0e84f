"""A DuckDB database file as a target; the only door to duckdb."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from stagingest import disk, sql
from stagingest.datasets import DATASETS, Table
from stagingest.errors import HeldError, SpoiledError, StagingError, TargetError, TooLargeError
from stagingest.model import Window
from stagingest.targets import Batch, Receipt, Span
from stagingest.targets.filling import fill

_POLL_S = 0.2
_SETTINGS = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}
_GLOB = re.compile(r"[\[\]*?]")


class DuckDB:
    """One database file. It is open from `open` to `close` only, and held by one process meanwhile.

    Args:
        path: the file; made with the first `open` when absent.
        memory_limit: as DuckDB writes it; the process needs up to 200 MiB more.
        threads: None for one per core.
        temp_dir: where it spills, None for a folder beside it.
        fast: rows of a batch need not keep the order of their files, which costs a fifth less.
        replace: a whole answer removes rows of its window that it does not repeat.
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
        lock_timeout_s: float = 0.0,
        storage_version: str = "v1.5.0",
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path = path.absolute()
        self.name = str(self.path)
        self._settings: dict[str, Any] = {
            "memory_limit": memory_limit,
            "threads": threads or len(os.sched_getaffinity(0)),
            "storage_compatibility_version": storage_version,
            "preserve_insertion_order": not fast,
            **_SETTINGS,
        }
        self._temp_dir, self._replace = temp_dir, replace
        self._lock_timeout_s, self._sleep, self._clock = lock_timeout_s, sleep, clock
        self._db: duckdb.DuckDBPyConnection | None = None

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
            with suppress(duckdb.Error):
                self._db.close()
            self._db = None

    def taken(self, staging: str) -> frozenset[tuple[int, str]]:
        """(seq, sha256) of every entry of that staging directory in the ledger."""
        return frozenset(self._all("SELECT seq, sha256 FROM ledger WHERE staging = $staging", staging=staging))

    def spans(self, series: Iterable[str]) -> Iterator[Span]:
        """The windows of these series that the ledger has rows for."""
        for of, symbols, starts, ends in self._all(sql.SPANS, series=list(series)):
            for start, end in zip(starts, ends, strict=True):
                yield Span(of, tuple(symbols), Window(start, end))

    def newest(self, staging: str) -> datetime | None:
        """When (UTC) the newest entry of any other staging directory in the ledger was asked."""
        newest = self._one("SELECT max(asked_at) FROM ledger WHERE staging <> $staging", staging=staging)
        return newest.replace(tzinfo=UTC) if newest else None

    def unexplained(self) -> frozenset[str]:
        """Names of the datasets whose tables hold rows that the ledger does not explain."""
        known = "SELECT coalesce(sum(inserted - deleted), 0) FROM ledger_batches WHERE table_name = $name"
        return frozenset(
            data.name
            for data in DATASETS.values()
            for table in data.tables
            if self._one(sql.count(table)) != self._one(known, name=table.name)
        )

    def take(self, batch: Batch) -> Receipt:
        """Load a batch, rows and ledger, or nothing of it; a TargetError names the batch."""
        sql.check_schema(batch.dataset, batch.schema)
        now = self._clock().replace(tzinfo=None)
        try:
            with self._transaction():
                receipts = [self._fill(table, batch, now) for table in batch.dataset.tables if batch.files]
                self._enter(batch, now)
        except TargetError as error:
            raise type(error)(f"A batch was not loaded ({batch}): {error.message}", error.next_step) from None
        return sum(receipts, Receipt(0, 0))

    def settle(self) -> None:
        """CHECKPOINT: everything taken so far leaves the write-ahead log."""
        self._all("CHECKPOINT")

    def size_bytes(self) -> int:
        """Bytes of the file, 0 before it is made."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _fill(self, table: Table, batch: Batch, now: datetime) -> Receipt:
        receipt = fill(self._all, self._registered, table, batch, replace=self._replace)
        values = {"table": table.name, "inserted": receipt.inserted, "deleted": receipt.deleted, "now": now}
        self._all("INSERT INTO ledger_batches VALUES ($table, $inserted, $deleted, $now)", **values)
        return receipt

    def _enter(self, batch: Batch, now: datetime) -> None:
        with self._registered("entering", [item.ledger_row(now) for item in batch.items]):
            self._one("INSERT INTO ledger BY NAME SELECT * FROM entering")

    @contextmanager
    def _registered(self, name: str, rows: list[dict[str, Any]]) -> Iterator[None]:
        self._open.register(name, pa.Table.from_pylist(rows))
        try:
            yield
        finally:
            self._open.unregister(name)

    @property
    def _open(self) -> duckdb.DuckDBPyConnection:
        assert self._db is not None, "open() comes first"
        return self._db

    def _all(self, text: str, **values: Any) -> list[tuple[Any, ...]]:
        # DuckDB streams: a result has to be read to its end before the next statement.
        try:
            return self._open.execute(text, values or None).fetchall()
        except (duckdb.Error, RuntimeError) as error:
            raise _failure(self.path, error) from None

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
            raise TargetError(f"There is no directory {self.path.parent}.", "Make it, or name another --db.")
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

    def _connect(self, path: Path, allowed: list[str]) -> duckdb.DuckDBPyConnection:
        spill = str(self._temp_dir.absolute() / f"{path.name}.tmp") if self._temp_dir else f"{path}.tmp"
        connection = self._patiently(path, {**self._settings, "temp_directory": spill})
        shutil.rmtree(spill, ignore_errors=True)
        connection.execute("SET allowed_directories = $allowed", {"allowed": [*allowed, str(path.parent)]}).fetchall()
        connection.execute("SET enable_external_access = false").fetchall()
        connection.execute("SET lock_configuration = true").fetchall()
        return connection

    def _patiently(self, path: Path, settings: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        waited_s = 0.0
        while True:
            try:
                return duckdb.connect(str(path), config=settings)
            except duckdb.Error as error:
                refusal = _refusal(path, error)
            if not isinstance(refusal, HeldError) or waited_s >= self._lock_timeout_s:
                raise refusal
            self._sleep(_POLL_S)
            waited_s += _POLL_S

    def _migrate(self) -> None:
        """Bring the tables up to this version, each step in one transaction with its record."""
        version, newest = self._version(), sql.MIGRATIONS[-1][0]
        if version > newest:
            known = f"{self.path.name} is of version {version}, this one knows {newest}."
            raise TargetError(known, "Update stagingest.")
        missing = [step for step in sql.MIGRATIONS if step[0] > version]
        for number, statements in missing:
            with self._transaction():
                for statement in statements:
                    self._all(statement)
                now = self._clock().replace(tzinfo=None)
                self._all("INSERT INTO schema_migrations VALUES ($number, $now)", number=number, now=now)
        if missing:
            self.settle()

    def _version(self) -> int:
        """The version of our tables, 0 when there are none. Raises TargetError when they are not ours."""
        text = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'main'"
        columns = set(self._all(text))
        if ("schema_migrations", "applied_at") in columns:
            version = self._one("SELECT max(version) FROM schema_migrations")
            if isinstance(version, int):
                return version
        foreign = sorted({table for table, _ in columns} & sql.OUR_NAMES)
        if foreign:
            message = f"{self.path.name} has a table {foreign[0]} that stagingest did not make."
            raise TargetError(message, "Name another --db, or rename that table.")
        return 0


def read(path: Path, text: str, **values: Any) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query. Opened read-only and closed at once; raises as `DuckDB.open`."""
    try:
        with duckdb.connect(str(path), read_only=True, config=dict(_SETTINGS)) as db:
            found = db.execute(text, values)
            return [column[0] for column in found.description], found.fetchall()
    except duckdb.Error as error:
        raise _refusal(path, error) from error


def contracts(path: Path, underlyings: Iterable[str]) -> list[tuple[str, date, str]]:
    """(underlying, expiry, contract symbol) of what a database knows of the underlyings; none without the table."""
    try:
        return read(path, sql.CONTRACTS, underlyings=list(underlyings))[1]
    except TargetError as error:
        if isinstance(error.__cause__, duckdb.CatalogException):
            return []
        raise


def _refusal(path: Path, error: duckdb.Error) -> BaseException:
    text = str(error)
    if "Could not set lock" in text:
        pid = "".join(re.findall(r"\(PID (\d+)\)", text)) or "unknown"
        return HeldError(f"{path.name} is open in process {pid}.", "Close it there, or wait with --lock-timeout.")
    if "same database file with a different configuration" in text:
        return HeldError(f"{path.name} is open in this process.", "Close that connection first.")
    if "not a valid DuckDB database" in text:
        return TargetError(f"{path.name} is not a DuckDB database.", "Name another --db.")
    return _failure(path, error)


def _failure(path: Path, error: Exception) -> BaseException:
    first_line = str(error).partition("\n")[0]
    if first_line == "Query interrupted":
        # A signal's own exception; duckdb 2.0 forgets which one it was.
        return error.__cause__ or KeyboardInterrupt()
    said = f"{path.name} cannot be used: {first_line}"
    if isinstance(error, duckdb.OutOfMemoryException) or "max_temp_directory_size" in first_line:
        return TooLargeError(said, "Give it more with --memory-limit, or more room with --temp-dir.")
    if isinstance(error, duckdb.FatalException | duckdb.InternalException):
        return SpoiledError(said, "Run the same load again.")
    return TargetError(said)

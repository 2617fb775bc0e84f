"""A DuckDB file as this tool opens it: locked down, waited for, its errors in our words; the only door to duckdb."""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from stagingest.errors import FullError, HeldError, SpoiledError, TargetError, TooLargeError
from stagingest.system.locks import patiently
from stagingest.targets import sql

_SETTINGS = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}


class DuckDBConnection:
    """A database file, open in this process. Statements raise TargetError."""

    def __init__(self, path: Path, db: duckdb.DuckDBPyConnection) -> None:
        self._path, self._db = path, db

    def ask(self, text: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement with named parameters; its rows."""
        # DuckDB streams: a result has to be read to its end before the next statement.
        try:
            return self._db.execute(text, values or None).fetchall()
        except (duckdb.Error, RuntimeError) as error:
            raise _failure(self._path, error) from None

    @contextmanager
    def registered(self, name: str, columns: Mapping[str, list[Any]]) -> Iterator[None]:
        """Columns as a table of that name while it is entered."""
        self._db.register(name, pa.table(dict(columns)))
        try:
            yield
        finally:
            with suppress(duckdb.Error):  # a transaction that failed refuses even this, and is the error to tell
                self._db.unregister(name)

    def interrupt(self) -> None:
        """End the statement that a signal left running."""
        self._db.interrupt()

    def close(self) -> None:
        """Give the file back; what was not committed is rolled back."""
        with suppress(duckdb.Error):
            self._db.close()


def connect(
    path: Path,
    settings: Mapping[str, Any],
    *,
    spill: Path,
    allowed: list[str],
    schema: str = "main",
    lock_timeout_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> DuckDBConnection:
    """Open a file, made when absent, so that it reads and writes nothing outside the `allowed` folders and its own.

    Args:
        path: the file.
        settings: DuckDB's.
        spill: the folder for what does not fit in memory; emptied first.
        allowed: folders.
        schema: where tables are made and found; made when absent.
        lock_timeout_s: how long to wait for another process that has it.
        sleep: for tests.

    Raises HeldError naming the process that has it, TargetError for a file that is no database.
    """
    complete = {**settings, **_SETTINGS, "temp_directory": str(spill)}
    db = patiently(partial(_opened, path, complete), lock_timeout_s, sleep)
    shutil.rmtree(spill, ignore_errors=True)
    made = DuckDBConnection(path, db)
    if schema != "main":
        made.ask(f"CREATE SCHEMA IF NOT EXISTS {sql.quoted(schema)}")
        made.ask(f"USE {sql.quoted(schema)}")
    made.ask("SET allowed_directories = $allowed", allowed=[*allowed, str(path.parent)])
    made.ask("SET enable_external_access = false")
    made.ask("SET lock_configuration = true")
    return made


def _opened(path: Path, settings: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(path), config=settings)
    except duckdb.Error as error:
        raise _refusal(path, error) from None


class NoTableError(TargetError):
    """The database has no table of that name."""


def read(path: Path, text: str, *, schema: str = "main", **values: Any) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query. Opened read-only and closed at once.

    Raises as `connect`, and NoTableError when the schema or a table is not there.
    """
    try:
        with duckdb.connect(str(path), read_only=True, config=dict(_SETTINGS)) as db:
            if schema != "main":
                db.execute(f"USE {sql.quoted(schema)}")
            found = db.execute(text, values)
            return [column[0] for column in found.description], found.fetchall()
    except duckdb.CatalogException as error:
        raise NoTableError(str(_failure(path, error))) from error
    except duckdb.Error as error:
        raise _refusal(path, error) from error


def stream(path: Path, text: str, schema: pa.Schema, batch_rows: int, **values: Any) -> pa.RecordBatchReader:
    """The rows of a query as batches of a schema; the file stays open, read-only, until they are read or dropped.

    Raises as `read`.
    """
    try:
        db = duckdb.connect(str(path), read_only=True, config=dict(_SETTINGS))
        found = db.sql(text, params=values or None)
    except duckdb.CatalogException as error:
        raise NoTableError(str(_failure(path, error))) from error
    except duckdb.Error as error:
        raise _refusal(path, error) from error

    def batches() -> Iterator[pa.RecordBatch]:
        with db:
            reader: pa.RecordBatchReader = found.to_arrow_reader(batch_rows)
            for batch in reader:
                yield from pa.Table.from_batches([batch]).cast(schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _refusal(path: Path, error: duckdb.Error) -> BaseException:
    text = str(error)
    if "Could not set lock" in text:
        pid = "".join(re.findall(r"\(PID (\d+)\)", text)) or "unknown"
        return HeldError(f"{path.name} is open in process {pid}.", "Close it there, or wait with --lock-timeout.")
    if "same database file with a different configuration" in text:
        return HeldError(f"{path.name} is open in this process.", "Close that connection first.")
    if "not a valid DuckDB database" in text:
        return TargetError(f"{path.name} is not a DuckDB database.", "Name another --to.")
    if "replaying WAL" in text:
        return TargetError(
            f"The write-ahead log {path.name}.wal is damaged: what was loaded since the last checkpoint is lost.",
            f"Run `stagingest repair --set-aside-wal --to {path}`, then the same load, which loads it again.",
        )
    return _failure(path, error)


def _failure(path: Path, error: Exception) -> BaseException:
    first_line = str(error).partition("\n")[0]
    if first_line == "Query interrupted":
        # A signal's own exception; duckdb 2.0 forgets which one it was.
        return error.__cause__ or KeyboardInterrupt()
    said = f"{path.name} cannot be used: {first_line}"
    if isinstance(error, duckdb.OutOfMemoryException) or "max_temp_directory_size" in first_line:
        return TooLargeError(said, "Give it more with --memory-limit, or more room with --temp-dir.")
    if "No space left" in str(error) or "Disk quota exceeded" in str(error):
        return FullError(f"The disk of {path} is full.", "Make room and run the same load again; what is loaded stays.")
    if isinstance(error, duckdb.FatalException | duckdb.InternalException):
        return SpoiledError(said, "Run the same load again.")
    return TargetError(said)

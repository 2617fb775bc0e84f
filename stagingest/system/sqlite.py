"""One SQLite file of a staging directory: versions and transactions; the only door to sqlite3."""

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from stagingest.errors import StagingError
from stagingest.system import disk

SQLITE_VERSION = sqlite3.sqlite_version


class DamagedError(StagingError):
    """The file cannot be read as what it was."""


class EmptyError(DamagedError):
    """The file is there, but nothing was ever committed to it."""


class _Connection(sqlite3.Connection):
    """Its errors are ours: one sentence instead of a traceback."""

    root: Path | None = None

    def execute(self, *args: Any) -> sqlite3.Cursor:
        """As sqlite3's; raises StagingError."""
        try:
            return super().execute(*args)
        except sqlite3.Error as error:
            raise _refusal(error, self.root) from None

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        """As sqlite3's; raises StagingError."""
        try:
            return super().executemany(*args)
        except sqlite3.Error as error:
            raise _refusal(error, self.root) from None


_DAMAGED = ("file is not a database", "malformed", "disk image", "no such table", "no such column")


def _refusal(error: sqlite3.Error, root: Path | None = None) -> StagingError:
    text = f"The record of the staging directory cannot be used: {error}."
    if any(words in str(error) for words in _DAMAGED):
        where = f" --staging {shlex.quote(str(root))}" if root else ""
        return DamagedError(text, f"Run `stagingest repair{where}`.")
    return StagingError(text, "Is its disk full? Make room and run the same command again.")


def reading(path: Path, *, unseen: bool) -> str:
    """The URI by which SQLite opens a file for reading; `unseen` as in Store."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    # Where nobody has it open even a reader would make -wal and -shm, and leave them there.
    return f"{uri}&immutable=1" if unseen and not path.with_name(f"{path.name}-wal").exists() else uri


def _connect(path: Path, *, writable: bool, unseen: bool) -> _Connection:
    uri = f"{path.resolve().as_uri()}?mode=rwc" if writable else reading(path, unseen=unseen)
    try:
        return sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=30, check_same_thread=False, factory=_Connection
        )
    except sqlite3.Error as error:
        raise StagingError(f"{path.name} in {path.parent} cannot be opened: {error}.") from None


class Store:
    """One SQLite file with a schema version; transactions roll back on any error.

    `versions` are the statements that lead from each version to the next; the first make a new file.

    Args:
        root: the staging directory.
        writable: make it when it is absent, and write.
        unseen: make no file beside it, for a short look that decides nothing: a writer that begins meanwhile is not
            waited for.
    """

    file: str
    versions: tuple[str, ...]

    def __init__(self, root: Path, *, writable: bool, unseen: bool = False) -> None:
        self.root, self.unseen = root, unseen
        path = root / self.file
        if not writable and not path.exists():
            raise StagingError(
                f"{root} is no staging directory: it has no {self.file}.", "Run `stagingest fetch` first."
            )
        self.db = _connect(path, writable=writable, unseen=unseen)
        self.db.root = root
        try:
            self._prepare(path, writable=writable)
        except BaseException:
            self.db.close()
            raise

    def _prepare(self, path: Path, *, writable: bool) -> None:
        if writable:
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
        version = int(self.value("PRAGMA user_version"))
        if version == 0 and not writable:
            raise EmptyError(f"{path} is empty: whoever made it did not finish.", "Run the same fetch or load again.")
        newest = len(self.versions)
        if version > newest:
            raise StagingError(
                f"{path} was written by a newer stagingest (schema {version}, this one knows {newest}).",
                "Update stagingest.",
            )
        if writable:
            for number in range(version, newest):
                self._lead_to(number + 1)
        if version == 0:
            path.chmod(0o600)
            # SQLite syncs the folder for its log, not for the file itself.
            disk.sync_folder(path.parent)

    def _lead_to(self, version: int) -> None:
        with self.transaction():
            for statement in self.versions[version - 1].split(";\n"):
                if statement.strip():
                    self.db.execute(statement)
            if version == 1:
                self.created()
            self.db.execute(f"PRAGMA user_version={version}")

    def check(self) -> None:
        """Read all of the file. Raises DamagedError when it is not whole."""
        found = str(self.value("PRAGMA integrity_check(1)"))
        if found != "ok":
            raise DamagedError(f"{self.file} is damaged: {found}.")

    def created(self) -> None:
        """What a new file starts with."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; BEGIN IMMEDIATE, because a deferred writer can lose its turn (RELIABILITY section 2.5)."""
        if self._depth():
            yield  # part of the one around it
            return
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._commit()
        except BaseException:
            if self._depth():
                self.db.execute("ROLLBACK")
            raise

    def _commit(self) -> None:
        self.db.execute("COMMIT")

    def _depth(self) -> int:
        return int(self.db.in_transaction)

    def value(self, sql: str, *args: Any) -> Any:
        """The first column of the first row."""
        return self.db.execute(sql, args).fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

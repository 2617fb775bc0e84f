"""Where `load --to` leads: the target that a file, a folder or an address means."""

from dataclasses import dataclass
from pathlib import Path

from stagingest.errors import UsageError
from stagingest.targets import Target


@dataclass(frozen=True, slots=True)
class How:
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


def target(to: str, how: How) -> Target:
    """The target that `to` means: a DuckDB file, or `parquet:FOLDER`, a hive tree. Its library is imported only here.

    Raises UsageError for `parquet:` without a folder.
    """
    kind, colon, place = to.partition(":")
    if kind == "parquet" and colon:
        from stagingest.targets.parquet import Hive

        if not place:
            raise UsageError("parquet: names no folder.", "Write parquet:FOLDER.")
        return Hive(Path(place), replace=how.replace, lock_timeout_s=how.lock_timeout_s)
    from stagingest.targets.duckdb import DuckDB

    return DuckDB(
        Path(to), memory_limit=how.memory_limit, threads=how.threads, temp_dir=how.temp_dir, fast=how.fast,
        replace=how.replace, schema=how.schema, storage_version=how.storage_version,
        lock_timeout_s=how.lock_timeout_s,
    )  # fmt: skip

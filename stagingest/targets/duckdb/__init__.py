"""Loading into a DuckDB file.

Imports: errors model system targets targets.batch targets.sql
"""

from pathlib import Path

from stagingest.targets import Target, TargetKind, TargetOptions


def _make(address: str, how: TargetOptions) -> Target:
    from stagingest.targets.duckdb.target import DuckDB

    return DuckDB(
        Path(address), memory_limit=how.memory_limit, threads=how.threads, temp_dir=how.temp_dir, fast=how.fast,
        replace=how.replace, schema=how.schema, storage_version=how.storage_version,
        lock_timeout_s=how.lock_timeout_s,
    )  # fmt: skip


# A file has no scheme.
TARGET = TargetKind((), _make, lambda address: Path(address).parent)

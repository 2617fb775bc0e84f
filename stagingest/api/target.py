"""Where `load --to` leads: the target that a file, a folder or an address means."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from stagingest.api import config
from stagingest.errors import UsageError, nearest
from stagingest.system import paths
from stagingest.targets import Target

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


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


def target(to: str | Path, how: TargetOptions | None = None, environ: Mapping[str, str] = os.environ) -> Target:
    """The target that `to` means; its library is imported only here.

    Args:
        to: a DuckDB file, `parquet:FOLDER`, `postgresql://host/db`, the name of a variable that holds such an address,
            or NAME of a `[target.NAME]` in ./stagingest.toml with `to` or `dsn_env`.
        how: how it is to work, None for the defaults.
        environ: the environment.

    Raises UsageError for an address with a password in it, and for a name that is not there.
    """
    to, how = str(to), how or TargetOptions()
    named = _named(to, environ)
    kind, colon, place = named.partition(":")
    if kind in ("postgresql", "postgres") and colon:
        if named == to:
            _refuse_password(to)
        from stagingest.targets.postgres.target import Postgres

        return Postgres(named, schema=how.schema, replace=how.replace, lock_timeout_s=how.lock_timeout_s)
    if kind == "parquet" and colon:
        from stagingest.targets.parquet.target import ParquetTree

        if not place:
            raise UsageError("parquet: names no folder.", "Write parquet:FOLDER.")
        return ParquetTree(Path(place), replace=how.replace, lock_timeout_s=how.lock_timeout_s)
    from stagingest.targets.duckdb.target import DuckDB

    return DuckDB(
        Path(named), memory_limit=how.memory_limit, threads=how.threads, temp_dir=how.temp_dir, fast=how.fast,
        replace=how.replace, schema=how.schema, storage_version=how.storage_version,
        lock_timeout_s=how.lock_timeout_s,
    )  # fmt: skip


def folder(to: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder that loading into `to` (as of `target`) writes; None for a server."""
    named = _named(to, environ)
    kind, colon, place = named.partition(":")
    if kind in ("postgresql", "postgres") and colon:
        if named == to:
            _refuse_password(to)
        return None
    return Path(place) if kind == "parquet" and colon else Path(named).parent


def _named(to: str, environ: Mapping[str, str]) -> str:
    """What a bare name stands for; anything else is itself."""
    if not _NAME.fullmatch(to):
        return to
    targets = config.read(Path(paths.folders(environ).config)).named.get("target", {})
    if to in targets:
        found = targets[to].value
        variable = found.get("dsn_env", "")
        if variable and variable not in environ:
            raise UsageError(f"[target.{to}] takes its address from {variable}, which is not set.", f"Set {variable}.")
        return environ[variable] if variable else str(found.get("to", ""))
    if environ.get(to, "").startswith(("postgresql:", "postgres:")):
        return environ[to]
    near = nearest(to, targets, 0.6)
    if near:
        raise UsageError(f"stagingest.toml has no [target.{to}].", f"The nearest is {near}.")
    return to


def _refuse_password(dsn: str) -> None:
    """Every user of the machine can read a command line."""
    parts = urlsplit(dsn)
    if parts.password or "password" in dict(parse_qsl(parts.query)):
        raise UsageError(
            "A password does not belong into a command line, where everybody can read it.",
            "Put the address into DATABASE_URL and write --to DATABASE_URL, or the password into PGPASSWORD, or name a "
            "variable as dsn_env of [target.NAME] in stagingest.toml.",
        )

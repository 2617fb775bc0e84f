"""Every target: how a test opens one, and reads back what it holds."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pglab
import pyarrow.dataset as ds

from stagingest.errors import TargetError
from stagingest.model.datasets import Table
from stagingest.targets import Target
from stagingest.targets.duckdb.target import DuckDB
from stagingest.targets.parquet.target import ParquetTree
from stagingest.targets.postgres.connection import PostgresConnection
from stagingest.targets.postgres.target import Postgres

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Kind:
    """One kind of target; `place` is a path of the test's own."""

    name: str
    opened: Callable[..., Target]
    rows: Callable[[Path, Table], Rows]


def _in_duckdb(place: Path, table: Table) -> Rows:
    names = ", ".join(
        f'"{column.name}"::{"VARCHAR" if column.kind == "label" else _plain(column.kind)}' for column in table.columns
    )
    with duckdb.connect(str(place), read_only=True) as db:
        return db.execute(f'SELECT {names} FROM "{table.name}" ORDER BY ALL').fetchall()


def _plain(kind: str) -> str:
    return {"strike": "DECIMAL(18,3)", "text": "VARCHAR", "json": "VARCHAR"}.get(kind, kind)


def _in_a_tree(place: Path, table: Table) -> Rows:
    folder = place / table.name.replace("_", "-")
    if not any(folder.rglob("data.parquet")):
        return []
    found = ds.dataset(folder, format="parquet").to_table(columns=[column.name for column in table.columns])
    columns = [column.to_pylist() for column in found.columns]
    return sorted(zip(*columns, strict=True), key=lambda row: [(value is not None, value) for value in row])


def _duckdb(place: Path, **how: Any) -> Target:
    return DuckDB(place, threads=1, **how)


def _schema(place: Path) -> str:
    return f"t{hashlib.sha256(str(place).encode()).hexdigest()[:16]}"


def _postgres(place: Path, **how: Any) -> Target:
    return Postgres(pglab.dsn(), schema=_schema(place), **how)


def _in_postgres(place: Path, table: Table) -> Rows:
    kinds = {"strike": "TEXT", "json": "TEXT"}
    names = ", ".join(
        f'"{column.name}"::{kinds[column.kind]}' if column.kind in kinds else f'"{column.name}"'
        for column in table.columns
    )
    connection = PostgresConnection(pglab.dsn())
    try:
        return connection.ask(f'SELECT {names} FROM {_schema(place)}."{table.name}" ORDER BY {_order(table)}')
    except TargetError:
        return []  # a loader was killed before there were tables
    finally:
        connection.close()


def _order(table: Table) -> str:
    return ", ".join(f'"{name}"' for name in table.key)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("duckdb", _duckdb, _in_duckdb),
        Kind("parquet", ParquetTree, _in_a_tree),
        Kind("postgres", _postgres, _in_postgres),
    )
}

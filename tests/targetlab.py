"""Every target: how a test opens one, and reads back what it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds

from stagingest.datasets import Table
from stagingest.targets import Target
from stagingest.targets.duckdb import DuckDB
from stagingest.targets.parquet import Hive

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


KINDS = {kind.name: kind for kind in (Kind("duckdb", _duckdb, _in_duckdb), Kind("parquet", Hive, _in_a_tree))}

#!/usr/bin/env python3
"""Loading into a large table: new symbols, and a window answered again, beside a plain insert and a keyed upsert.

Every trial is a fresh process on a fresh copy of a database that holds `--base` rows; CPU seconds (user + system,
imports left out) are compared in alternating rounds. Exits 1 where a bar is missed.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench_load import SESSIONS, apart, medians, spent, stage, staged_files

from stagingest import ddl, sql
from stagingest.datasets import dataset
from stagingest.loading import load
from stagingest.sources import Staged
from stagingest.targets.duckdb import DuckDB

TABLE = dataset("stock-bars").tables[0]
FILE_ROWS, SMALL_ROWS = 50_000, 1_200
TAIL = 6
# A keyed table of more rows takes longer to make than everything else together.
KEYED_MOST = 20_000_000
INSERT = (
    f"INSERT INTO stock_bars BY NAME SELECT {', '.join(sql.quoted(column.name) for column in TABLE.columns)} "
    "FROM read_parquet($paths)"
)
KEYED = sql.create(TABLE).removesuffix(")") + f", PRIMARY KEY ({', '.join(map(sql.quoted, TABLE.key))}))"


@dataclass(frozen=True)
class Side:
    """One way of loading one batch, beside another; `most` is the bar on CPU of the first over the second."""

    name: str
    way: str
    batch: str
    beside: str
    most: float


SIDES = (
    Side("new symbols", "upsert", "new", "small new", 1.4),
    Side("asked again, --replace", "replace", "again", "plain again", 1.5),
    Side("asked again, upsert with counts", "upsert", "again", "plain again", 2.2),
    Side("six days of all symbols, --replace", "replace", "tail", "plain tail", 2.4),
    Side("new symbols beside a keyed table", "upsert", "new", "keyed new", 1 / 3),
)


def child(way: str, root: Path, db: Path) -> None:
    """Load what the database lacks, and print the CPU it took."""
    import duckdb  # noqa: F401 - its import is not part of the measurement

    ways = {"upsert": partial(ours, replace=False), "replace": partial(ours, replace=True), "keyed": keyed}
    print(json.dumps(spent(lambda: ways.get(way, plain)(root, db))))


def ours(root: Path, db: Path, *, replace: bool = False) -> None:
    with Staged(root) as source:
        load([source], DuckDB(db, replace=replace))


def plain(root: Path, db: Path) -> None:
    _insert(root, db, "")


def keyed(root: Path, db: Path) -> None:
    values = [sql.quoted(column.name) for column in TABLE.columns if column.name not in TABLE.key]
    _insert(root, db, f" ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in values)}")


def _insert(root: Path, db: Path, conflict: str) -> None:
    import duckdb

    with duckdb.connect(str(db), config={"memory_limit": "1GB"}) as connection:
        connection.execute(INSERT + conflict, {"paths": staged_files(root)}).fetchall()
        connection.execute("CHECKPOINT").fetchall()


def _emptied(root: Path) -> None:
    for path in staged_files(root):
        Path(path).unlink()


class Bench:
    """Databases to copy, and staging directories that hold only the batch."""

    def __init__(self, folder: Path, base: int, batch: int) -> None:
        self.folder = folder
        both = folder / "base"
        stage(both, base, FILE_ROWS)
        self.files = {name: folder / name for name in ("plain", "keyed", "small")}
        ours(both, self.files["plain"])
        print(f"{base:,} rows loaded", flush=True)
        if base <= KEYED_MOST:
            self._keyed(both, self.files["keyed"])
        # The batch is staged after the base, in the same directory: the ledger knows the windows.
        self.staged = {}
        tail = base // len(SESSIONS) * TAIL
        for name, rows, how in (
            ("again", batch, {}),
            ("new", batch, {"first": base // 200}),
            ("tail", tail, {"last": TAIL}),
        ):
            root = folder / f"{name}-staging"
            shutil.copytree(both, root, ignore=shutil.ignore_patterns("*.parquet"))
            stage(root, rows, SMALL_ROWS if name == "tail" else FILE_ROWS, run=name, **how)
            self.staged[name] = root
        _emptied(both)
        small = folder / "small-staging"
        stage(small, batch, FILE_ROWS)
        ours(small, self.files["small"])
        _emptied(small)
        stage(small, batch, FILE_ROWS, first=base // 200, run="new")
        self.staged["small"] = small

    def _keyed(self, root: Path, db: Path) -> None:
        import duckdb

        paths = staged_files(root)
        with duckdb.connect(str(db), config={"memory_limit": "4GB"}) as connection:
            for label in ddl.MIGRATIONS[0][1]:
                if label.startswith("CREATE TYPE"):
                    connection.execute(label).fetchall()
            connection.execute(KEYED).fetchall()
            for at in range(0, len(paths), 20):
                connection.execute(INSERT, {"paths": paths[at : at + 20]}).fetchall()

    def measure(self, side: str) -> list[float]:
        """CPU s, wall s and peak MiB of `WAY BATCH`, or of `small new`."""
        way, _, batch = side.rpartition(" ")
        root = self.staged["small" if way == "small" else batch]
        source = self.files[way if way in self.files else "plain"]
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            db = Path(place) / "bench.duckdb"
            shutil.copyfile(source, db)
            return apart(__file__, "--child", "upsert" if way == "small" else way, root, db)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, root, db = options.child
        child(way, Path(root), Path(db))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-reload-") as place:
        return compare(Bench(Path(place), options.base, options.batch), options.rounds)


def compare(bench: Bench, rounds: int) -> int:
    """Measure every side in alternation, print them, and say whether the bars hold."""
    sides = [side for side in SIDES if "keyed" not in side.beside or bench.files["keyed"].exists()]
    names = list(dict.fromkeys(name for side in sides for name in (f"{side.way} {side.batch}", side.beside)))
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, measured in found.items():
            measured.append(bench.measure(name))
    middle = medians(found)
    for name, (cpu_s, wall_s, peak_mib) in middle.items():
        print(f"{name:16} cpu {cpu_s:6.2f} s  wall {wall_s:6.2f} s  peak {peak_mib:5.0f} MiB")
    missed = 0
    for side in sides:
        ratio = middle[f"{side.way} {side.batch}"][0] / middle[side.beside][0]
        missed += ratio > side.most
        print(f"{side.name:34} {ratio:5.2f} x (at most {side.most:.2f}){'  MISSED' if ratio > side.most else ''}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Loading into a large table: new symbols, windows answered again, six days of all symbols; beside the same batch into
a table of one batch, a plain insert and a keyed upsert.

Every trial is a fresh process on a fresh copy of a database: `large` holds `--base` rows, `small` one batch of the same
sessions, `edge` the last six days of all symbols. CPU seconds (user + system, imports left out) are compared in
alternating rounds. Exits 1 where a bar is missed.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

from bench_load import SESSIONS, apart, medians, spent, stage, staged_files

from stagingest.loading.loader import load
from stagingest.loading.source import Staged
from stagingest.model.datasets import dataset
from stagingest.targets import sql
from stagingest.targets.duckdb import schema
from stagingest.targets.duckdb.target import DuckDB

TABLE = dataset("stock-bars").tables[0]
FILE_ROWS, SMALL_ROWS = 50_000, 1_200
TAIL = 6
# A keyed table of more rows takes longer to make than everything else together.
KEYED_MOST = 20_000_000
INSERT = (
    f"INSERT INTO stock_bars BY NAME SELECT {', '.join(sql.quoted(column.name) for column in TABLE.columns)} "
    "FROM read_parquet($paths)"
)
CREATE = next(text for text in schema.MIGRATIONS[0][1] if f"CREATE TABLE {TABLE.name} " in text)
KEYED = CREATE.rstrip().removesuffix(")") + f", PRIMARY KEY ({', '.join(map(sql.quoted, TABLE.key))}))"


@dataclass(frozen=True)
class Side:
    """A trial (way, database, batch) beside another; `most` is the bar on CPU of the first over the second."""

    name: str
    trial: str
    beside: str
    most: float = inf


SIDES = (
    Side("new symbols", "upsert large new", "upsert small new", 1.4),
    Side("asked again, --replace", "replace large again", "replace small again", 1.5),
    Side("asked again, upsert", "upsert large again", "upsert small again"),
    Side("full overlap, --replace", "replace small again", "plain small again", 1.5),
    Side("full overlap, upsert with counts", "upsert small again", "plain small again", 2.2),
    Side("six days of all, --replace", "replace large tail", "replace edge tail", 2.4),
    Side("six days of all, upsert", "upsert large tail", "upsert edge tail"),
    Side("new symbols beside a keyed table", "upsert large new", "keyed keyed new", 1 / 3),
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
    """Databases to copy, and for each batch a staging directory that holds no other files."""

    def __init__(self, folder: Path, base: int, batch: int) -> None:
        self.folder = folder
        tail = base // len(SESSIONS) * TAIL
        self.files = {name: folder / name for name in ("large", "keyed", "small", "edge")}
        self.staged = {}
        for name, rows, last in (("large", base, len(SESSIONS)), ("small", batch, len(SESSIONS)), ("edge", tail, TAIL)):
            root = folder / f"{name}-base"
            stage(root, rows, SMALL_ROWS if last == TAIL else FILE_ROWS, last=last)
            ours(root, self.files[name])
            if name == "large" and base <= KEYED_MOST:
                self._keyed(root, self.files["keyed"])
            _emptied(root)
            print(f"{name}: {rows:,} rows loaded", flush=True)
            # A batch is staged after the base, in the same directory: the ledger knows the windows.
            for batch_name, batch_rows, how in (
                ("again", batch, {}),
                ("new", batch, {"first": base // 200}),
                ("tail", tail, {"last": TAIL}),
            ):
                self.staged[name, batch_name] = folder / f"{name}-{batch_name}"
                shutil.copytree(root, folder / f"{name}-{batch_name}")
                file_rows = SMALL_ROWS if batch_name == "tail" else FILE_ROWS
                stage(folder / f"{name}-{batch_name}", batch_rows, file_rows, run=batch_name, **how)

    def _keyed(self, root: Path, db: Path) -> None:
        import duckdb

        paths = staged_files(root)
        with duckdb.connect(str(db), config={"memory_limit": "4GB"}) as connection:
            for label in schema.MIGRATIONS[0][1]:
                if label.startswith("CREATE TYPE"):
                    connection.execute(label).fetchall()
            connection.execute(KEYED).fetchall()
            for at in range(0, len(paths), 20):
                connection.execute(INSERT, {"paths": paths[at : at + 20]}).fetchall()

    def measure(self, trial: str) -> list[float]:
        """CPU s, wall s and peak MiB of a trial."""
        way, name, batch = trial.split()
        root = self.staged["large" if name == "keyed" else name, batch]
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            db = Path(place) / "bench.duckdb"
            shutil.copyfile(self.files[name], db)
            return apart(__file__, "--child", way, root, db)


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
    found: dict[str, list[list[float]]] = {trial: [] for side in sides for trial in (side.trial, side.beside)}
    for _ in range(rounds):
        for trial, measured in found.items():
            measured.append(bench.measure(trial))
    middle = medians(found)
    for trial, (cpu_s, wall_s, peak_mib) in middle.items():
        print(f"{trial:20} cpu {cpu_s:6.2f} s  wall {wall_s:6.2f} s  peak {peak_mib:5.0f} MiB")
    missed = 0
    for side in sides:
        ratio = middle[side.trial][0] / middle[side.beside][0]
        missed += ratio > side.most
        bar = f" (at most {side.most:.2f})" if side.most < inf else ""
        print(f"{side.name:34} {ratio:5.2f} x{bar}{'  MISSED' if ratio > side.most else ''}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

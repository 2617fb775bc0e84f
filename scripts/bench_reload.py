#!/usr/bin/env python3
"""Loading into a large table: new symbols, and a window answered again, beside a plain insert and a keyed upsert.

Every trial is a fresh process on a fresh copy of a database that holds `--base` rows; CPU seconds (user + system,
imports left out) are compared in alternating rounds. Exits 1 where a bar is missed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median

from bench_load import SESSIONS, stage

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
    import duckdb

    paths = [str(path) for path in sorted((root / "data").rglob("*.parquet"))]
    before, began = getrusage(RUSAGE_SELF), time.perf_counter()
    if way in ("upsert", "replace"):
        with Staged(root) as source:
            load([source], DuckDB(db, replace=way == "replace"))
    else:
        with duckdb.connect(str(db), config={"memory_limit": "1GB"}) as connection:
            names = ", ".join(sql.quoted(column.name) for column in TABLE.columns)
            text = f"INSERT INTO stock_bars BY NAME SELECT {names} FROM read_parquet($paths)"
            if way == "keyed":
                values = [sql.quoted(column.name) for column in TABLE.columns if column.name not in TABLE.key]
                text += f" ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in values)}"
            connection.execute(text, {"paths": paths}).fetchall()
            connection.execute("CHECKPOINT").fetchall()
    used = getrusage(RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps([cpu_s, time.perf_counter() - began, int(peak.split()[1]) / 1024]))


class Bench:
    """Databases to copy, and staging directories that hold only the batch."""

    def __init__(self, folder: Path, base: int, batch: int) -> None:
        self.folder = folder
        both = folder / "base"
        stage(both, base, FILE_ROWS)
        self.roots = {"again": both, "new": both}
        self.files = {name: folder / name for name in ("plain", "keyed", "small")}
        self._load(both, self.files["plain"])
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
        for path in (both / "data").rglob("*.parquet"):
            path.unlink()
        small = folder / "small-staging"
        stage(small, batch, FILE_ROWS)
        self._load(small, self.files["small"])
        for path in (small / "data").rglob("*.parquet"):
            path.unlink()
        stage(small, batch, FILE_ROWS, first=base // 200, run="new")
        self.staged["small"] = small

    def _load(self, root: Path, db: Path) -> None:
        with Staged(root) as source:
            load([source], DuckDB(db))

    def _keyed(self, root: Path, db: Path) -> None:
        import duckdb

        paths = [str(path) for path in sorted((root / "data").rglob("*.parquet"))]
        with duckdb.connect(str(db), config={"memory_limit": "4GB"}) as connection:
            for label in ddl.MIGRATIONS[0][1]:
                if label.startswith("CREATE TYPE"):
                    connection.execute(label).fetchall()
            connection.execute(KEYED).fetchall()
            names = ", ".join(sql.quoted(column.name) for column in TABLE.columns)
            for at in range(0, len(paths), 20):
                text = f"INSERT INTO stock_bars BY NAME SELECT {names} FROM read_parquet($paths)"
                connection.execute(text, {"paths": paths[at : at + 20]}).fetchall()

    def measure(self, side: str) -> list[float]:
        """CPU s, wall s and peak MiB of `WAY BATCH`, or of `small new`."""
        way, _, batch = side.rpartition(" ")
        root = self.staged["small" if way == "small" else batch]
        source = self.files[way if way in self.files else "plain"]
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            db = Path(place) / "bench.duckdb"
            shutil.copyfile(source, db)
            command = [sys.executable, __file__, "--child", "upsert" if way == "small" else way, str(root), str(db)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return [float(value) for value in json.loads(done.stdout)]


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
    middle = {name: [median(values) for values in zip(*measured, strict=True)] for name, measured in found.items()}
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

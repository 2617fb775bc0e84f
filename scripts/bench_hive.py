#!/usr/bin/env python3
"""A hive tree of many folders beside one Parquet file of the same rows; exits 1 where a bar is missed.

Minute bars of so many symbols over so many months: a folder each. CPU seconds (user + system, imports left out) of a
load into `parquet:DIR` over those of DuckDB's COPY of the same staged files into one file; peak memory of the
load.
"""

import argparse
import json
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from bench_load import ASKED_AT, CONSTANTS, DATA, _prices, _text, apart, medians, spent, staged_files

from stagingest.loading.loader import load
from stagingest.loading.source import Staged
from stagingest.model import calendar
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import arrow_schema
from stagingest.model.task import Outcome, Task, TaskResult
from stagingest.model.windows import Window
from stagingest.staging import directory, parts
from stagingest.staging.manifest import Commit, Manifest
from stagingest.targets.parquet.target import ParquetTree

CPU_RATIO, PEAK_MIB = 6.5, 500
MINUTES = {**CONSTANTS, "interval": "1min"}
MONTHS = [date(2022 + number // 12, number % 12 + 1, 1) for number in range(24)]


def _rows(symbol: str, months: list[date], per_month: int) -> pa.Table:
    """`per_month` minute bars of a symbol in each month."""
    opens = [calendar.after(month, 1) for month in months]
    ts = [
        datetime.combine(day, datetime.min.time()) + timedelta(hours=15, minutes=n)
        for day in opens
        for n in range(per_month)
    ]
    days = [day for day in opens for _ in range(per_month)]
    size = len(ts)
    columns = {
        "symbol": _text([symbol], size),
        **{name: _text([value], size) for name, value in {"provider": "alpaca", **MINUTES}.items()},
        "ts": pa.array(ts, pa.timestamp("us")),
        "session_date": pa.array(days, pa.date32()),
        "updated_at": pa.array([ASKED_AT.replace(tzinfo=None)] * size, pa.timestamp("us")),
        **_prices(size),
    }
    return pa.table(columns).select([column.name for column in DATA.columns]).cast(arrow_schema(DATA))


def stage(root: Path, symbols: int, per_month: int) -> int:
    """A staged file for each symbol and half of the months; the rows staged."""
    directory.prepare(root)
    series = Series.of("alpaca/stock-bars", MINUTES)
    commits = []
    for number in range(symbols):
        for half in (MONTHS[:12], MONTHS[12:]):
            name = f"S{number:05}"
            window = Window(half[0], date(half[-1].year + 1, 1, 1))
            task = Task("bench", len(commits), Chunk(series, (name,), window))
            parts.begin_part(root, task.part)
            part = parts.write_part(root, task.part, _rows(name, half, per_month), {})
            (path,) = directory.publish_parts(root, "alpaca/stock-bars", [part])
            result = TaskResult(
                Outcome.STAGED, asked_at=datetime(2024, 6, 1, tzinfo=UTC), part=part, symbol_rows=((name, part.rows),)
            )
            commits.append(Commit(task, result, True, ASKED_AT, DATA.schema, path))
    with Manifest.write(root) as manifest:
        manifest.plan([commit.task.chunk for commit in commits], "bench")
        manifest.record(commits)
    return sum(commit.result.part.rows for commit in commits if commit.result.part)


def tree(root: Path, place: Path) -> None:
    with Staged(root) as source:
        load([source], ParquetTree(place / "tree"))


def one(root: Path, place: Path) -> None:
    import duckdb

    with duckdb.connect(config={"memory_limit": "1GB"}) as db:
        text = f"COPY (SELECT * FROM read_parquet($paths)) TO '{place}/one.parquet' (FORMAT parquet, COMPRESSION zstd)"
        db.execute(text, {"paths": staged_files(root)}).fetchall()


def child(side: str, root: Path, place: Path) -> None:
    """Run one side here and print CPU s, wall s, peak MiB and files."""
    found = spent(lambda: (tree if side == "tree" else one)(root, place))
    print(json.dumps([*found, len(list(place.rglob("*.parquet")))]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--per-month", type=int, default=820)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        side, root, place = options.child
        child(side, Path(root), Path(place))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-hive-") as folder:
        root = Path(folder) / "staging"
        rows = stage(root, options.symbols, options.per_month)
        found: dict[str, list[list[float]]] = {"one": [], "tree": []}
        for _ in range(options.rounds):
            for side, measured in found.items():
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    measured.append(apart(__file__, "--child", side, root, place))
    middle = medians(found)
    for side, (cpu_s, _, peak_mib, files) in middle.items():
        print(f"{side:5} {rows:,} rows in {files:,.0f} files: cpu {cpu_s:6.2f} s, peak {peak_mib:4.0f} MiB")
    ratio, peak_mib = middle["tree"][0] / middle["one"][0], middle["tree"][2]
    good = ratio <= CPU_RATIO and peak_mib <= PEAK_MIB
    print(f"cpu {ratio:.2f} x (at most {CPU_RATIO}), peak {peak_mib:.0f} MiB (at most {PEAK_MIB})")
    print("holds" if good else "DOES NOT HOLD")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())

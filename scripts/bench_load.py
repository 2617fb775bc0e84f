"""The load phase beside its floor: `CREATE TABLE AS SELECT * FROM read_parquet(list)` over the same staged files.

Rounds alternate, each side in a fresh process on a fresh database; CPU seconds of the process (user + system, imports
left out) are compared, for wall time says little on a shared machine. `--rows` of the given size are staged first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from datetime import time as clock
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.loading.loader import load
from stagingest.loading.source import Staged
from stagingest.model import calendar
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import arrow_schema, dataset
from stagingest.model.task import Outcome, Task, TaskResult
from stagingest.model.windows import Window
from stagingest.staging import directory, parts
from stagingest.staging.manifest import Commit, Manifest

RUN = "bench"
ASKED_AT = datetime(2024, 6, 1, tzinfo=UTC)
WINDOW = Window(date(2021, 7, 8), date(2024, 1, 1))
SESSIONS = list(calendar.between(WINDOW.start, WINDOW.end))
STAMPS = [datetime.combine(day, clock(5)) for day in SESSIONS]
DATA = dataset("stock-bars")
CONSTANTS = {"interval": "1d", "feed": "sip", "adjustment": "raw", "currency": "USD", "asof": ""}
FILE_ROWS = 50_000
CPU_RATIO, CPU_RATIO_SMALL, FAST_RATIO = 1.10, 1.35, 0.9
OVER_LIMIT_MIB = 200


def _text(values: list[str], times: int) -> pa.Array:
    """Each value `times` times, as the dictionary a staged file holds."""
    indices = pa.array([number for number in range(len(values)) for _ in range(times)], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(values))


def _prices(rows: int) -> dict[str, pa.Array]:
    """A random walk in cents with plausible bars around it."""

    def spread(scale: float) -> pa.Array:
        return pc.multiply(pc.random(rows), scale)

    steps = pc.subtract(spread(2.0), 1.0)
    close = pc.round(pc.add(pc.abs(pc.cumulative_sum(steps)), 20.0), 2)
    opened = pc.round(pc.add(close, pc.subtract(spread(1.0), 0.5)), 2)
    high = pc.round(pc.add(pc.max_element_wise(opened, close), spread(0.5)), 2)
    low = pc.round(pc.subtract(pc.min_element_wise(opened, close), spread(0.5)), 2)
    return {
        "open": opened, "high": high, "low": low, "close": close,
        "volume": pc.cast(pc.round(spread(2e6)), pa.int64()),
        "trade_count": pc.cast(pc.round(spread(2e4)), pa.int64()),
        "vwap": pc.round(pc.divide(pc.add(high, low), 2.0), 4),
    }  # fmt: skip


def _tables(rows: int, file_rows: int, first: int, last: int) -> Iterator[tuple[tuple[str, ...], pa.Table]]:
    """Tables of about `file_rows` daily bars, sorted by key, and their symbols: of each symbol from the `first` the
    `last` sessions of them all.
    """
    days = last
    per_file = max(1, file_rows // days)
    ts, session = pa.array(STAMPS[-last:], pa.timestamp("us")), pa.array(SESSIONS[-last:], pa.date32())
    for number in range(max(1, rows // (per_file * days))):
        symbols = [f"S{first + number * per_file + each:06}" for each in range(per_file)]
        size = per_file * days
        columns = {
            "symbol": _text(symbols, days),
            **{
                name: _text([value], size)
                for name, value in {"provider": "alpaca", **CONSTANTS}.items()
            },
            "ts": pa.concat_arrays([ts] * per_file),
            "session_date": pa.concat_arrays([session] * per_file),
            "updated_at": pa.array([ASKED_AT.replace(tzinfo=None)] * size, pa.timestamp("us")),
            **_prices(size),
        }  # fmt: skip
        yield (
            tuple(symbols),
            pa.table(columns).select([column.name for column in DATA.columns]).cast(arrow_schema(DATA)),
        )


def stage(root: Path, rows: int, file_rows: int, *, first: int = 0, last: int = len(SESSIONS), run: str = RUN) -> int:
    """Fill a staging directory with bars of the `last` sessions of the symbols from number `first`; the rows staged."""
    window = Window(SESSIONS[-last], WINDOW.end)
    directory.prepare(root)
    series = Series.of("alpaca/stock-bars", CONSTANTS)
    commits = []
    for number, (symbols, table) in enumerate(_tables(rows, file_rows, first, last), 1):
        task = Task(run, number, Chunk(series, symbols, window))
        parts.begin_part(root, task.part)
        part = parts.write_part(root, task.part, table, {})
        (path,) = directory.publish_parts(root, "alpaca/stock-bars", [part])
        counts = tuple((symbol, last) for symbol in symbols)
        result = TaskResult(Outcome.STAGED, asked_at=ASKED_AT, part=part, symbol_rows=counts)
        commits.append(Commit(task, result, True, ASKED_AT, DATA.schema, path))
    with Manifest.write(root) as manifest:
        manifest.plan([commit.task.chunk for commit in commits], run)
        manifest.record(commits)
    return sum(commit.result.part.rows for commit in commits if commit.result.part)


def floor(root: Path, db: Path, limit: str) -> None:
    """What any load has to do: read the files and write the table."""
    import duckdb

    paths = staged_files(root)
    with duckdb.connect(
        str(db), config={"memory_limit": limit, "storage_compatibility_version": "v1.5.0"}
    ) as connection:
        text = "CREATE TABLE stock_bars AS SELECT * FROM read_parquet($paths)"
        connection.execute(text, {"paths": paths}).fetchall()
        connection.execute("CHECKPOINT").fetchall()


def ours(root: Path, db: Path, limit: str, *, fast: bool = False) -> None:
    """Our load: manifest, hashes, batches, ledger."""
    from stagingest.targets.duckdb.target import DuckDB

    with Staged(root) as source:
        load([source], DuckDB(db, memory_limit=limit, fast=fast))


def staged_files(root: Path) -> list[str]:
    """Paths of all staged files, sorted."""
    return sorted(str(path) for path in (root / "data").rglob("*.parquet"))


def apart(script: str, *words: object) -> list[float]:
    """The numbers that a script prints as JSON when it is run in a process of its own."""
    command = [sys.executable, script, *map(str, words)]
    return [float(value) for value in json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)]


def medians(found: dict[str, list[list[float]]]) -> dict[str, list[float]]:
    """Of each side the median of every number over its rounds."""
    return {side: [median(values) for values in zip(*measured, strict=True)] for side, measured in found.items()}


def spent(work: Callable[[], object]) -> list[float]:
    """What some work takes in this process: CPU seconds (user and system), wall seconds, and its peak in MiB."""
    before, began = getrusage(RUSAGE_SELF), time.perf_counter()
    work()
    used = getrusage(RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return [cpu_s, time.perf_counter() - began, int(line.split()[1]) / 1024]


def child(side: str, root: Path, db: Path, limit: str) -> None:
    """Run one side here and print what it took."""
    import duckdb  # noqa: F401 - its import is not part of the measurement

    sides = {"floor": floor, "load": ours, "fast": partial(ours, fast=True)}
    found = spent(lambda: sides[side](root, db, limit))
    print(json.dumps([*found, sum(path.stat().st_size for path in db.parent.glob(f"{db.name}*"))]))


def _measure(side: str, root: Path, folder: Path, limit: str) -> list[float]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        db = Path(place) / "bench.duckdb"
        return apart(__file__, "--child", side, "--limit", limit, "--root", root, "--db", db)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--file-rows", type=int, default=FILE_ROWS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", default="1GB")
    parser.add_argument("--child", choices=["floor", "load", "fast"], help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--db", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.root, options.db, options.limit)
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-load-") as place:
        return compare(Path(place), options.rows, options.file_rows, options.rounds, options.limit)


def compare(folder: Path, rows: int, file_rows: int, rounds: int, limit: str) -> int:
    """Measure both sides in alternation, print them, and say whether the bounds hold."""
    root = folder / "staging"
    rows = stage(root, rows, file_rows)
    found: dict[str, list[list[float]]] = {"floor": [], "load": [], "fast": []}
    for _ in range(rounds):
        for side, measured in found.items():
            measured.append(_measure(side, root, folder, limit))
    print(f"{rows:,} rows in files of {file_rows:,}, memory limit {limit}, {rounds} rounds, medians")
    middle = medians(found)
    for side, (cpu_s, wall_s, peak_mib, size) in middle.items():
        print(f"{side:6} cpu {cpu_s:6.2f} s  wall {wall_s:6.2f} s  peak {peak_mib:5.0f} MiB  {size / rows:5.1f} B/row")
    bound_mib = _mib(limit) + OVER_LIMIT_MIB
    most = CPU_RATIO if file_rows >= FILE_ROWS else CPU_RATIO_SMALL
    good = True
    for side, bar in (("load", most), ("fast", FAST_RATIO if file_rows >= FILE_ROWS else most)):
        ratio, peak_mib = middle[side][0] / middle["floor"][0], middle[side][2]
        good = good and ratio <= bar and peak_mib <= bound_mib
        print(f"{side}: cpu {ratio:.2f} x (at most {bar}), peak {peak_mib:.0f} MiB (at most {bound_mib:.0f})")
    print("holds" if good else "DOES NOT HOLD")
    return 0 if good else 1


def _mib(limit: str) -> float:
    units = {"GB": 1e9, "MB": 1e6, "GiB": 2**30, "MiB": 2**20}
    unit = next(unit for unit in sorted(units, key=len, reverse=True) if limit.endswith(unit))
    return float(limit.removesuffix(unit)) * units[unit] / 2**20


if __name__ == "__main__":
    sys.exit(main())

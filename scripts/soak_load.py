#!/usr/bin/env python3
"""SIGKILLs over real loads: after each the ledger explains every row, the database opens at once; exits 1 on harm."""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import duckdb
from bench_load import stage

ROWS, FILE_ROWS = 1_500_000, 5_000
REOPENS_S = 1.0


def wrong(db: Path, rows: int) -> str:
    """What is wrong with a database after a kill, '' when nothing is."""
    if not db.exists():
        return ""
    began_s = time.perf_counter()
    with duckdb.connect(str(db)) as connection:
        took_s = time.perf_counter() - began_s
        there, apart = connection.execute("SELECT count(*), count(DISTINCT (symbol, ts)) FROM stock_bars").fetchall()[0]
        entered, summed = connection.execute(
            'SELECT (SELECT coalesce(sum("rows"), 0) FROM ledger), '
            "(SELECT coalesce(sum(inserted - deleted), 0) FROM ledger_batches)"
        ).fetchall()[0]
    if not there == apart == entered == summed or there > rows:
        return f"{there} rows, {apart} different, {entered} in the ledger, {summed} in its batches"
    return f"it took {took_s:.1f} s to open" if took_s > REOPENS_S else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice, kills, complete, problems = random.Random(options.seed), 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        root, db = Path(folder) / "staging", Path(folder) / "market.duckdb"
        rows = stage(root, ROWS, FILE_ROWS)
        words = [sys.executable, "-m", "stagingest", "load", "--staging", str(root), "--to", str(db)]
        while kills < options.kills:
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(dice.uniform(0.2, 2.5))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            killed = process.returncode == -signal.SIGKILL
            kills += killed
            if found := wrong(db, rows):
                problems.append(f"after kill {kills}: {found}")
            if not killed:
                complete += 1
                problems += [] if process.returncode == 0 else [f"a load ended with {process.returncode}"]
                for path in Path(folder).glob("market.duckdb*"):
                    path.unlink()
    print(f"seed {options.seed}: {kills} kills, {complete} whole loads of {rows:,} rows, {len(problems)} violations")
    print(*problems, sep="\n", end="\n" if problems else "")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())

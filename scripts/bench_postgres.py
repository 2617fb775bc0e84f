#!/usr/bin/env python3
"""New rows a second into PostgreSQL beside ADBC's own ingest into the same keyed table; exits 1 below the bar.

A private server on a Unix socket; rounds alternate and each begins with empty tables. The server does the work, so wall
time is compared, and the processor it takes is not seen.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lab"))

import pglab
import pyarrow as pa
import pyarrow.parquet as pq
from bench_load import DATA, stage, staged_files

from stagingest.loading.loader import load
from stagingest.loading.source import Staged
from stagingest.targets.postgres import sql
from stagingest.targets.postgres.connection import PostgresConnection
from stagingest.targets.postgres.target import Postgres, sent

LEAST = 0.85
TABLE = DATA.tables[0]


def ours(root: Path) -> None:
    with Staged(root) as source:
        load([source], Postgres(pglab.dsn(), schema="ours"))


def floor(root: Path) -> None:
    schema = sent(DATA, TABLE)
    files = staged_files(root)
    tables = (pq.read_table(path, partitioning=None).select(schema.names).cast(schema) for path in files)
    reader = pa.RecordBatchReader.from_batches(schema, (batch for table in tables for batch in table.to_batches()))
    connection = PostgresConnection(pglab.dsn())
    connection.ask(next(text for text in sql.MIGRATIONS[0][1] if f"CREATE TABLE {TABLE.name} " in text))
    connection.ingest(TABLE.name, reader, temporary=False)
    connection.commit()
    connection.close()


def emptied() -> None:
    connection = PostgresConnection(pglab.dsn())
    connection.ask("DROP SCHEMA IF EXISTS ours CASCADE")
    connection.ask(f"DROP TABLE IF EXISTS {TABLE.name}")
    connection.commit()
    connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"adbc": [], "load": []}
    with tempfile.TemporaryDirectory(prefix="bench-postgres-") as folder:
        root = Path(folder) / "staging"
        rows = stage(root, options.rows, 50_000)
        for _ in range(options.rounds):
            for side, way in (("adbc", floor), ("load", ours)):
                emptied()
                began = time.perf_counter()
                way(root)
                found[side].append(rows / (time.perf_counter() - began))
    adbc, loaded = median(found["adbc"]), median(found["load"])
    print(f"{rows:,} new rows: adbc {adbc:,.0f} rows/s, load {loaded:,.0f} rows/s")
    good = loaded >= LEAST * adbc
    print(f"{loaded / adbc:.2f} of it (at least {LEAST}): {'holds' if good else 'DOES NOT HOLD'}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())

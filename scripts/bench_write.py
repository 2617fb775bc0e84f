"""How a chunk file should be written: CPU of writing and of loading, bytes a row, on real prices where they are.

Set STAGINGEST_REALDATA to the folder of real prices; without it the prices are generated and say less about size.
"""

import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stagingest.fetching.worker import table as worker_table
from stagingest.model.datasets import dataset
from stagingest.sim.market import generated
from stagingest.system import parquet

ROWS = 50_000
FILES = 8
CONSTANTS = {"interval": "1d", "provider": "alpaca", "feed": "sip", "adjustment": "raw", "currency": "USD", "asof": ""}


def prices() -> pa.Table:
    """Daily bars: symbol, date, open, high, low, close, volume."""
    folder = os.environ.get("STAGINGEST_REALDATA")
    if folder:
        return pq.read_table(Path(folder) / "equity_daily" / "sp500_2013_2018.parquet")
    names = generated.names(400)
    rows = ROWS * FILES
    walk = pc.round(pc.add(pc.abs(pc.cumulative_sum(pc.subtract(pc.random(rows), 0.5))), 20), 2)
    symbols = pa.array([name for name in names for _ in range(rows // len(names))])
    day = pa.array(range(rows), pa.int32()).cast(pa.date32())
    prices = dict.fromkeys(("open", "high", "low", "close"), walk)
    return pa.table({"symbol": symbols, "date": day, **prices, "volume": pc.cast(pc.multiply(walk, 1000), pa.int64())})


def chunks() -> list[pa.Table]:
    """Staged tables of 50,000 rows, as a fetch would write them."""
    table = prices().sort_by([("symbol", "ascending"), ("date", "ascending")])
    found = []
    for start in range(0, min(table.num_rows, ROWS * FILES), ROWS):
        rows = table.slice(start, ROWS).combine_chunks()
        page = pa.table(
            {
                "symbol": rows["symbol"].combine_chunks().dictionary_encode(),
                "ts": rows["date"].cast(pa.timestamp("us")),
                **{name: rows[name] for name in ("open", "high", "low", "close", "volume")},
                "trade_count": rows["volume"],
                "vwap": pc.round(pc.divide(pc.add(rows["high"], rows["low"]), 2), 4),
            }
        )
        constants = {**CONSTANTS, "updated_at": datetime(2024, 1, 1, tzinfo=UTC)}
        found.append(worker_table.staged(page, dataset("stock-bars"), constants, rows["date"].combine_chunks()))
    return found


def cpu_s(work: Callable[[], object], times: int = 3) -> float:
    """The least CPU seconds of several runs."""
    best = float("inf")
    for _ in range(times):
        began_s = time.process_time()
        work()
        best = min(best, time.process_time() - began_s)
    return best


def main() -> None:
    """Print a row per way of writing; the first is the tool's."""
    pa.set_cpu_count(1)
    tables = chunks()
    rows = sum(table.num_rows for table in tables)
    tool = {**parquet._FORMAT, **parquet._columns(tables[0].schema)}
    everything: dict[str, Any] = {"write_page_checksum": True, "store_schema": False}
    ways = {
        "the tool's": tool,
        "with all statistics": {**tool, "write_statistics": True},
        "zstd-1": {**tool, "compression": "zstd", "compression_level": 1},
        "snappy": {**tool, "compression": "snappy"},
        "without deltas": {**tool, "column_encoding": None},
        "lz4, all dictionaries": {**everything, "compression": "lz4"},
        "zstd-1, all dictionaries": {**everything, "compression": "zstd", "compression_level": 1},
    }
    print(f"{rows:,} rows in files of {ROWS:,}; ns of CPU a row")
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{number}.parquet" for number in range(len(tables))]

        def load() -> None:
            with duckdb.connect() as db:
                db.execute("CREATE TABLE bars AS SELECT * FROM read_parquet(?)", [paths]).fetchall()

        for name, how in ways.items():

            def write(how: dict[str, Any] = how) -> None:
                for path, table in zip(paths, tables, strict=True):
                    pq.write_table(table, path, row_group_size=ROWS, **how)

            writing = cpu_s(write) / rows * 1e9
            size = sum(os.path.getsize(path) for path in paths) / rows
            print(f"{name:26} write {writing:4.0f}  load {cpu_s(load) / rows * 1e9:4.0f}  {size:5.1f} B/row")


if __name__ == "__main__":
    main()

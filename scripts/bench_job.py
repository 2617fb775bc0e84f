"""The whole tool beside a plain loop, against the imitation: fetch and load of daily and minute bars, alternating.

The loop is what a careful person writes in an afternoon: one process, requests, orjson, pyarrow, one Parquet file a
request, CREATE TABLE AS. It has no manifest, no retry, no limit, no resume. CPU seconds are of whole process trees.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from stagingest.sim.market import generated

JOBS = (("1Day", "2016-01-04", "2025-12-31", 200), ("1Min", "2025-06-02", "2025-06-03", 500))
LOOP = """
import json, os, sys
import duckdb, orjson, pyarrow as pa, pyarrow.parquet as pq, requests
base, jobs = os.environ["APCA_API_DATA_URL"], json.loads(sys.argv[1])
session = requests.Session()
session.headers.update({"APCA-API-KEY-ID": "any", "APCA-API-SECRET-KEY": "any", "Accept-Encoding": "identity"})
KEYS = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "n": "trade_count", "vw": "vwap"}
number = 0
for timeframe, start, end, names in jobs:
    each = 19 if timeframe == "1Day" else 41
    for i in range(0, len(names), each):
        query = {"symbols": ",".join(names[i : i + each]), "timeframe": timeframe, "start": start + "T05:00:00Z",
                 "end": end + "T23:59:59Z", "limit": 10000}
        while True:
            answer = session.get(base + "/v2/stocks/bars", params=query)
            answer.raise_for_status()
            page = orjson.loads(answer.content)
            rows = [(symbol, bar) for symbol, bars in page["bars"].items() for bar in bars]
            table = {"symbol": [symbol for symbol, _ in rows], "interval": [timeframe] * len(rows),
                     "ts": pa.array([bar["t"] for _, bar in rows]).cast(pa.timestamp("us", "UTC"))}
            table |= {name: [bar[key] for _, bar in rows] for key, name in KEYS.items()}
            pq.write_table(pa.table(table), f"loop-{number}.parquet", compression="zstd")
            number += 1
            if not page["next_page_token"]:
                break
            query["page_token"] = page["next_page_token"]
db = duckdb.connect("loop.duckdb")
db.execute("CREATE TABLE bars AS SELECT * FROM read_parquet('loop-*.parquet')")
print(db.execute("SELECT count(*) FROM bars").fetchone()[0])
"""


@contextmanager
def imitation(latency_ms: float) -> Iterator[dict[str, str]]:
    """The environment that leads to a running imitation without a limit worth mentioning."""
    words = ["sim", "--port", "0", "--symbols", "500", "--rate-per-min", "6000000", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen([sys.executable, "-m", "stagingest", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [line for line in iter(process.stdout.readline, "\n") if line.startswith("export ")]
    try:
        yield {**os.environ, **dict(line.split()[1].split("=", 1) for line in lines)}
    finally:
        process.terminate()
        process.communicate()


def loop(folder: Path, environ: dict[str, str]) -> tuple[float, int]:
    """CPU seconds and rows of the plain loop."""
    names = generated.names(500)
    jobs = [(timeframe, start, end, names[:number]) for timeframe, start, end, number in JOBS]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", LOOP, json.dumps(jobs)], cwd=folder, env=environ, check=True, stdout=subprocess.PIPE
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, int(done.stdout)


def tool(folder: Path, environ: dict[str, str], *more: str) -> tuple[float, int, int]:
    """CPU seconds, rows and peak memory of two fetches and a load by the command line."""
    cpu_s, peak = 0.0, 0
    for timeframe, start, end, number in JOBS:
        (folder / "names.txt").write_text("\n".join(generated.names(500)[:number]))
        words = ["fetch", "stock-bars", "--symbols-file", "names.txt", "-t", timeframe, "--start", start, "--end", end]
        document = command(folder, environ, *words, "--no-gzip", "--max-rps", "100000", *more)
        cpu_s += document["cpu_s"]
        peak = max(peak, document["peak_memory_bytes"])
    document = command(folder, environ, "load")
    return cpu_s + document["cpu_s"], document["rows"], max(peak, document["peak_memory_bytes"])


def command(folder: Path, environ: dict[str, str], *words: str) -> dict[str, int]:
    """The JSON document of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "stagingest", *words, "--json"],
        cwd=folder,
        env=environ,
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a table of medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for latency_ms in (0, 100):
        figures: dict[str, list[tuple[float, float, int]]] = {}
        with imitation(latency_ms) as environ:
            for turn in range(rounds + 1):
                for name, more in (("loop", None), ("2 processes", ("--processes", "2")), ("default", ())):
                    with tempfile.TemporaryDirectory() as text:
                        began_s = time.perf_counter()
                        if more is None:
                            cpu_s, rows = loop(Path(text), environ)
                            peak = 0
                        else:
                            cpu_s, rows, peak = tool(Path(text), environ, *more)
                        if turn:  # the first round fills the imitation's cache
                            figures.setdefault(name, []).append(
                                (cpu_s / rows, rows / (time.perf_counter() - began_s), peak)
                            )
        base_cpu, base_speed = (median(each[i] for each in figures["loop"]) for i in (0, 1))
        print(f"{latency_ms} ms latency, {rows:,} bars, {rounds} rounds")
        for name, found in figures.items():
            cpu, speed, peak = (median(each[i] for each in found) for i in range(3))
            memory = f", {peak / 1e6:.0f} MB" if peak else ""
            print(
                f"  {name:12} {1e6 * cpu:5.2f} CPU s per million bars ({cpu / base_cpu:.2f} of the loop's), "
                f"{speed / 1e3:4.0f} thousand bars/s ({speed / base_speed:.2f}){memory}"
            )


if __name__ == "__main__":
    main()

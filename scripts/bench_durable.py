#!/usr/bin/env python3
"""What it costs to make a staged chunk durable and to record it, in groups as a run does; exits 1 above the bar.

Counted is everything between a worker's finished bytes and the manifest that names the file: the part file, the group's
sync, its renames, the folder's sync and the transaction. Encoding Parquet is not.
"""

import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

from stagingest.fetching.commit import GROUP_CHUNKS, Committer, RunContext
from stagingest.fetching.summary import RunCounts
from stagingest.model.chunk import Chunk, Series
from stagingest.model.task import Outcome, PartFile, Task, TaskResult
from stagingest.model.windows import Window
from stagingest.providers.alpaca.endpoints import AlpacaStockBars
from stagingest.staging import directory, parts
from stagingest.staging.manifest import Manifest
from stagingest.system import disk

MOST_MS = 0.6
BYTES = 60_000
NOW = datetime(2024, 6, 3, 22, tzinfo=UTC)
WINDOW = Window(date(2024, 1, 2), date(2024, 3, 1))


def main() -> int:
    """Print wall and CPU a chunk, the median of five runs of 1,000; the part files are of 60 kB."""
    series = AlpacaStockBars().canonical({})
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        runs = [one(Path(folder) / str(number), series, 1000) for number in range(5)]
    wall_ms, cpu_ms = (statistics.median(run[index] for run in runs) for index in (0, 1))
    print(f"{GROUP_CHUNKS} chunks a group: {wall_ms:.2f} ms a chunk (bar {MOST_MS}), {cpu_ms:.2f} ms of CPU")
    return int(wall_ms > MOST_MS)


def one(root: Path, series: Series, number: int) -> tuple[float, float]:
    root = directory.prepare(root)
    data = os.urandom(BYTES)
    chunks = tuple(Chunk(series, (f"S{index}",), WINDOW) for index in range(number))
    with Manifest.write(root) as manifest:
        manifest.begin("bench", [str(series)], NOW)
        manifest.plan(chunks, "bench")
        commits = Committer(RunContext("bench", root, (), chunks, {}), manifest, RunCounts(), lambda: NOW)
        began = time.perf_counter(), time.process_time()
        for index, chunk in enumerate(chunks):
            task = Task("bench", index, chunk)
            parts.begin_part(root, task.part)
            disk.fill(root / "tmp" / f"{task.part}.part", data)
            part = PartFile(task.part, BYTES, "0" * 64, 100)
            commits.close(task, TaskResult(Outcome.STAGED, "", NOW, part, ((f"S{index}", 100),)))
            if commits.waiting == GROUP_CHUNKS:
                commits.flush()
        commits.flush()
        return (time.perf_counter() - began[0]) / number * 1e3, (time.process_time() - began[1]) / number * 1e3


if __name__ == "__main__":
    sys.exit(main())

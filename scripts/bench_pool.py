"""What the pool costs beside `ProcessPoolExecutor`, for tasks that do nothing, in alternation."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from stagingest.fetching.pool.process_pool import ProcessPool

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "lab"))
import pool_tasks

PROCESSES = 2
MOST_OVERHEAD = 1.5
MOST_START_MS = 30.0


class Cost(NamedTuple):
    """Microseconds for each task: CPU of all processes, and wall."""

    cpu: float
    wall: float


def cpu_s(pids: list[int]) -> float:
    """CPU seconds of this process and of living others, to the nanosecond (the clock of clock_getcpuclockid(3))."""
    return time.process_time() + sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def measure(pool: Executor, pids: Callable[[], list[int]], tasks: int) -> Cost:
    wait([pool.submit(pool_tasks.double, number) for number in range(200)])
    before_cpu, before = cpu_s(pids()), time.perf_counter()
    wait([pool.submit(pool_tasks.double, number) for number in range(tasks)])
    wall, cpu = time.perf_counter() - before, cpu_s(pids()) - before_cpu
    return Cost(cpu / tasks * 1e6, wall / tasks * 1e6)


def executor_cost(tasks: int) -> Cost:
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("forkserver")) as pool:
        return measure(pool, lambda: list(pool._processes), tasks)


def slots_cost(lanes: int, tasks: int) -> Cost:
    with ProcessPool(PROCESSES, lanes, setup=pool_tasks.no_setup, setup_arg=None, preload=[], on_note=print) as pool:
        return measure(pool, lambda: list(pool.pids())[:PROCESSES], tasks)


def start_ms() -> float:
    """From nothing to the first answer of one new worker."""
    before = time.perf_counter()
    with ProcessPool(1, 8, setup=pool_tasks.no_setup, setup_arg=None, preload=[], on_note=print) as pool:
        pool.submit(pool_tasks.double, 1).result()
        return (time.perf_counter() - before) * 1e3


def row(name: str, costs: list[Cost], base: list[Cost]) -> float:
    """Prints medians and the ratio to `base`, round by round; returns that of CPU."""
    cpu, wall = (statistics.median(getattr(cost, kind) for cost in costs) for kind in Cost._fields)
    ratios: list[float] = [
        statistics.median(getattr(a, kind) / getattr(b, kind) for a, b in zip(costs, base, strict=True))
        for kind in Cost._fields
    ]
    print(f"{name:<28}{cpu:>10.0f}{wall:>10.0f}{ratios[0]:>10.2f}{ratios[1]:>10.2f}")
    return ratios[0]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tasks", type=int, default=3000)
    arguments.add_argument("--rounds", type=int, default=6)
    options = arguments.parse_args()
    first = start_ms()
    base: list[Cost] = []
    ours: dict[int, list[Cost]] = {1: [], 8: []}
    starts: list[float] = []
    for _ in range(options.rounds):
        base.append(executor_cost(options.tasks))
        for lanes, costs in ours.items():
            costs.append(slots_cost(lanes, options.tasks))
        starts.append(start_ms())
    print(f"{'empty task, us':<28}{'CPU':>10}{'wall':>10}{'CPU x':>10}{'wall x':>10}")
    row("ProcessPoolExecutor", base, base)
    worst = max(row(f"ProcessPool, {lanes} lanes", costs, base) for lanes, costs in ours.items())
    start = statistics.median(starts)
    print(f"worker start, ms: first {first:.0f}, then {start:.1f}")
    return int(worst > MOST_OVERHEAD or start > MOST_START_MS)


if __name__ == "__main__":
    sys.exit(main())

"""Tasks given and not answered: what they have cost, what they wait for, and how many there should be."""

import queue
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from stagingest.fetching.messages import Heartbeat
from stagingest.fetching.pool.executor import TaskExecutor
from stagingest.fetching.worker.tasks import fetch_chunk
from stagingest.model.chunk import Chunk
from stagingest.model.task import Cost, Task, TaskResult
from stagingest.planning import due

# The rate and the latency that matter are those of the last seconds.
RECENTLY_S = 10


@dataclass(frozen=True, slots=True)
class Workers:
    """Who carries tasks out.

    Args:
        pool: where tasks go. alone: makes the pool of one lane for a suspect.
        capacity: tasks the pool takes at a time. fixed: whether the user chose that number.
        cpu_slots: threads that parse and write.
        granted_per_s: the rate the permit records grant now.
        events: where answers and signs of life arrive.
        realtime: ask up to now.
    """

    pool: TaskExecutor
    alone: Callable[[], TaskExecutor]
    capacity: int
    fixed: bool
    cpu_slots: int
    granted_per_s: Callable[[], float]
    events: "queue.SimpleQueue[Future[TaskResult] | Heartbeat]"
    realtime: bool = False


@dataclass(slots=True)
class _Running:
    """A task in flight: when it was given and when it last gave a sign of life (monotonic seconds)."""

    task: Task
    since_s: float
    heard_s: float
    expected: int
    cost: Cost = Cost()
    waiting: str = ""


class InFlight:
    """What a run has in flight, in the supervisor's thread."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._in_flight: dict[int, _Running] = {}
        self._numbers: dict[Future[TaskResult], int] = {}
        self._samples: deque[tuple[float, Cost]] = deque(maxlen=RECENTLY_S)

    def __len__(self) -> int:
        return len(self._in_flight)

    def give(self, task: Task, expected: int, *, alone: bool) -> None:
        """Hand a task, expected to cost so many requests, to the workers."""
        now_s = time.monotonic()
        self._in_flight[task.number] = _Running(task, now_s, now_s, expected)
        pool = self._workers.alone() if alone else self._workers.pool
        future = pool.submit(fetch_chunk, task)
        self._numbers[future] = task.number
        future.add_done_callback(self._workers.events.put)

    def tasks(self) -> tuple[Task, ...]:
        """What is not answered."""
        return tuple(running.task for running in self._in_flight.values())

    def land(self, future: "Future[TaskResult]") -> Task:
        """The task that has been answered."""
        return self._in_flight.pop(self._numbers.pop(future)).task

    def heard(self, heartbeat: Heartbeat, run: str) -> Chunk | None:
        """Take a sign of life; its chunk when that has more pages than before."""
        running = self._in_flight.get(heartbeat.number)
        if running is None or heartbeat.run != run:
            return None
        running.heard_s = time.monotonic()
        more = heartbeat.cost.pages > running.cost.pages
        running.cost, running.waiting = heartbeat.cost, heartbeat.waiting
        return running.task.chunk if more else None

    @property
    def waiting(self) -> str:
        """What some of them wait for: `network`, `provider` or ''."""
        return next((running.waiting for running in self._in_flight.values() if running.waiting), "")

    def cost(self) -> Cost:
        """What they have cost so far."""
        return sum((running.cost for running in self._in_flight.values()), Cost())

    def promised(self) -> int:
        """Requests they are still expected to make."""
        return sum(max(0, running.expected - running.cost.requests) for running in self._in_flight.values())

    def sample(self, now_s: float, total: Cost) -> None:
        """Note what the run has cost up to now."""
        self._samples.append((now_s, total))

    def capacity(self) -> int:
        """As many tasks as rate and latency keep busy: more would all be half done when the run is killed."""
        workers = self._workers
        if workers.fixed:
            return workers.capacity
        rate_per_s, latency_s, cpu_slots = workers.granted_per_s(), due.LATENCY_S, 0
        if len(self._samples) > 1:
            (began_s, before), (until_s, now) = self._samples[0], self._samples[-1]
            requests = now.requests - before.requests
            if requests:
                latency_s, cpu_slots = (now.busy_s - before.busy_s) / requests, workers.cpu_slots
            if len(self._samples) > 3:  # a rate that is granted and not used needs no lanes
                rate_per_s = min(rate_per_s, 2 * requests / (until_s - began_s))
        wanted = max(due.FEWEST_LANES, due.in_flight(rate_per_s, latency_s) + cpu_slots)
        return min(workers.capacity, wanted)

    def state(self) -> list[dict[str, Any]]:
        """What `status` shows of them, the oldest first."""
        now_s = time.monotonic()
        return [
            {
                "chunk": running.task.chunk.id,
                "series": str(running.task.chunk.series),
                "symbols": len(running.task.chunk.symbols),
                "first_symbol": running.task.chunk.symbols[0],
                "window": str(running.task.chunk.window),
                "pages": running.cost.pages,
                "age_s": round(now_s - running.since_s, 1),
                "silent_s": round(now_s - running.heard_s, 1),
            }
            for running in sorted(self._in_flight.values(), key=lambda running: running.since_s)
        ]

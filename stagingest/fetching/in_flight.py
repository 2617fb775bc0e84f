"""Orders given and not answered: what they have cost, what they wait for, and how many there should be."""

import queue
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from stagingest.fetching.messages import Heartbeat
from stagingest.fetching.worker.tasks import fetch_chunk
from stagingest.model.chunk import Chunk
from stagingest.model.task import Cost, Task, TaskResult
from stagingest.planning import due

# The rate and the latency that matter are those of the last seconds.
RECENTLY_S = 10
# How long what is in flight may take to end by itself once a run has had its minutes.
LAST_ORDERS_S = 60.0


class Pool(Protocol):
    """What the supervisor needs of an executor."""

    def submit(self, fn: Callable[[Task], TaskResult], arg: Task, /) -> Future[TaskResult]:
        """Hand an order to a worker."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Who carries orders out.

    Args:
        pool: where orders go. alone: makes the pool of one lane for a suspect.
        capacity: orders the pool takes at a time. fixed: whether the user chose that number.
        cooks: threads that parse and write.
        granted_per_s: the rate the permit records grant now.
        events: where answers and signs of life arrive.
        realtime: ask up to now.
    """

    pool: Pool
    alone: Callable[[], Pool]
    capacity: int
    fixed: bool
    cooks: int
    granted_per_s: Callable[[], float]
    events: "queue.SimpleQueue[Future[TaskResult] | Heartbeat]"
    realtime: bool = False


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a run ends though chunks are left: the option that says so, and the exit code."""

    why: str
    exit_code: int = 0
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Where a run ends by itself: requests sent, minutes gone by, or the first failure; None is no bound."""

    requests: int | None = None
    minutes: float | None = None
    fail_fast: bool = False

    def reached(self, elapsed_s: float) -> StopReason | None:
        """The ending of a run that has had its minutes."""
        if self.minutes is None or elapsed_s < 60 * self.minutes:
            return None
        return StopReason(f"--max-minutes {self.minutes:g}", at_once=elapsed_s >= 60 * self.minutes + LAST_ORDERS_S)

    def spent(self) -> StopReason:
        """The ending of a run that has made its requests."""
        return StopReason(f"--max-requests {self.requests}")


@dataclass(slots=True)
class _Flight:
    """An order in flight: when it was given and when it last gave a sign of life (monotonic seconds)."""

    order: Task
    since_s: float
    heard_s: float
    expected: int
    cost: Cost = Cost()
    waiting: str = ""


class InFlight:
    """What a run has in flight, in the supervisor's thread."""

    def __init__(self, crew: Workers) -> None:
        self._crew = crew
        self._flights: dict[int, _Flight] = {}
        self._numbers: dict[Future[TaskResult], int] = {}
        self._samples: deque[tuple[float, Cost]] = deque(maxlen=RECENTLY_S)

    def __len__(self) -> int:
        return len(self._flights)

    def give(self, order: Task, expected: int, *, alone: bool) -> None:
        """Hand an order, expected to cost so many requests, to the crew."""
        now_s = time.monotonic()
        self._flights[order.number] = _Flight(order, now_s, now_s, expected)
        pool = self._crew.alone() if alone else self._crew.pool
        future = pool.submit(fetch_chunk, order)
        self._numbers[future] = order.number
        future.add_done_callback(self._crew.events.put)

    def orders(self) -> tuple[Task, ...]:
        """What is not answered."""
        return tuple(flight.order for flight in self._flights.values())

    def land(self, future: "Future[TaskResult]") -> Task:
        """The order that has been answered."""
        return self._flights.pop(self._numbers.pop(future)).order

    def heard(self, beat: Heartbeat, run: str) -> Chunk | None:
        """Take a sign of life; its chunk when that has more pages than before."""
        flight = self._flights.get(beat.number)
        if flight is None or beat.run != run:
            return None
        flight.heard_s = time.monotonic()
        more = beat.cost.pages > flight.cost.pages
        flight.cost, flight.waiting = beat.cost, beat.waiting
        return flight.order.chunk if more else None

    @property
    def waiting(self) -> str:
        """What some of them wait for: `network`, `provider` or ''."""
        return next((flight.waiting for flight in self._flights.values() if flight.waiting), "")

    def cost(self) -> Cost:
        """What they have cost so far."""
        return sum((flight.cost for flight in self._flights.values()), Cost())

    def promised(self) -> int:
        """Requests they are still expected to make."""
        return sum(max(0, flight.expected - flight.cost.requests) for flight in self._flights.values())

    def sample(self, now_s: float, total: Cost) -> None:
        """Note what the run has cost up to now."""
        self._samples.append((now_s, total))

    def capacity(self) -> int:
        """As many orders as rate and latency keep busy: more would all be half done when the run is killed."""
        crew = self._crew
        if crew.fixed:
            return crew.capacity
        rate_per_s, latency_s, cooks = crew.granted_per_s(), due.LATENCY_S, 0
        if len(self._samples) > 1:
            (began_s, before), (until_s, now) = self._samples[0], self._samples[-1]
            requests = now.requests - before.requests
            if requests:
                latency_s, cooks = (now.busy_s - before.busy_s) / requests, crew.cooks
            if len(self._samples) > 3:  # a rate that is granted and not used needs no lanes
                rate_per_s = min(rate_per_s, 2 * requests / (until_s - began_s))
        wanted = max(due.FEWEST_LANES, due.in_flight(rate_per_s, latency_s) + cooks)
        return min(crew.capacity, wanted)

    def state(self) -> list[dict[str, Any]]:
        """What `status` shows of them, the oldest first."""
        now_s = time.monotonic()
        return [
            {
                "chunk": flight.order.chunk.id,
                "series": str(flight.order.chunk.series),
                "symbols": len(flight.order.chunk.symbols),
                "first_symbol": flight.order.chunk.symbols[0],
                "window": str(flight.order.chunk.window),
                "pages": flight.cost.pages,
                "age_s": round(now_s - flight.since_s, 1),
                "silent_s": round(now_s - flight.heard_s, 1),
            }
            for flight in sorted(self._flights.values(), key=lambda flight: flight.since_s)
        ]

"""The supervisor of a run: orders out to the pool, results in, a word to whoever listens."""

import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from stagingest import catalog, settings, staging
from stagingest.acknowledging import GROUP_CHUNKS, RECENT, Acknowledger, Course
from stagingest.agenda import STRIKES, Agenda
from stagingest.errors import StagingestError
from stagingest.manifest import Manifest
from stagingest.model import Chunk, Kind, Outcome, Series
from stagingest.orders import Order, Result
from stagingest.pool import WorkerLost
from stagingest.tally import Progress, Tally
from stagingest.worker import Beat, fetch_chunk

FEWEST = 4
GROUP_S = 2.0
TICK_S = 1.0


class Listener(Protocol):
    """Who is told how a run goes."""

    def progress(self, progress: Progress) -> None:
        """Called about once a second."""

    def say(self, text: str) -> None:
        """Something a person should know, one sentence."""


class Pool(Protocol):
    """What the supervisor needs of an executor."""

    def submit(self, fn: Callable[[Order], Result], arg: Order, /) -> Future[Result]:
        """Hand an order to a worker."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Who carries orders out: the pool, how many orders it takes at a time, the rate declared, a pool for a suspect."""

    pool: Pool
    capacity: int
    rate_per_s: float
    alone: Callable[[], Pool]
    events: "queue.SimpleQueue[Future[Result] | Beat]"
    realtime: bool = False


@dataclass(slots=True)
class _Flight:
    """An order in flight: when it was given and when it last gave a sign of life (monotonic seconds)."""

    order: Order
    since_s: float
    heard_s: float
    pages: int = 0
    requests: int = 0
    limited: int = 0


class Supervisor:
    """Runs one course to its end, in one thread; workers answer through the crew's events."""

    def __init__(
        self,
        course: Course,
        crew: Crew,
        manifest: Manifest,
        listener: Listener,
        clock: Callable[[], datetime],
        sample: Callable[[], None],
    ) -> None:
        self.tally = Tally()
        self.agenda = Agenda()
        self._course = course
        self._crew = crew
        self._acks = Acknowledger(course, manifest, self.tally, clock)
        self._listener = listener
        self._clock = clock
        self._sample = sample
        self._flights: dict[int, _Flight] = {}
        self._numbers: dict[Future[Result], int] = {}
        self._number = 0
        self._began_s = self._flushed_s = self._ticked_s = time.monotonic()

    def run(self) -> None:
        """Until nothing is left to ask. What is finished is acknowledged also when it ends by an exception."""
        self.agenda.add(self._course.chunks)
        self.tally.add(self._course.chunks)
        try:
            while self.agenda or self._flights:
                self._fill()
                self._wait()
                self._tick()
        finally:
            self._flush()
            self._tell()

    def _fill(self) -> None:
        capacity = self._capacity()
        while len(self._flights) < capacity:
            turn = self.agenda.next(idle=not self._flights)
            if turn is None:
                return
            chunk, alone = turn
            self._give(chunk, self._crew.alone() if alone else self._crew.pool)
            if alone:
                return

    def _capacity(self) -> int:
        """As many orders as the rate so far keeps busy: more would all be half done when the run is killed."""
        rate_per_s = max(self._crew.rate_per_s, self._requests() / max(0.1, time.monotonic() - self._began_s))
        return min(self._crew.capacity, max(FEWEST, settings.in_flight(rate_per_s)))

    def _requests(self) -> int:
        return self.tally.requests + sum(flight.requests for flight in self._flights.values())

    def _give(self, chunk: Chunk, pool: Pool) -> None:
        self._number += 1
        endpoint = catalog.endpoint(chunk.series.endpoint)
        delayed = endpoint.kind is Kind.HISTORY and not self._crew.realtime
        not_after = self._clock() - RECENT if delayed else None
        order = Order(self._course.run, self._number, chunk, not_after, adjusted=chunk.series.adjusted)
        now_s = time.monotonic()
        self._flights[self._number] = _Flight(order, now_s, now_s)
        future = pool.submit(fetch_chunk, order)
        self._numbers[future] = self._number
        future.add_done_callback(self._crew.events.put)

    def _wait(self) -> None:
        """Take what has come: at least one event, or none until the next tick is due."""
        if not self._flights:
            return
        try:
            event = self._crew.events.get(timeout=TICK_S / 4)
            while True:
                if isinstance(event, Beat):
                    self._heard(event)
                else:
                    self._take(event)
                event = self._crew.events.get_nowait()
        except queue.Empty:
            pass

    def _heard(self, beat: Beat) -> None:
        flight = self._flights.get(beat.number)
        if flight is None or beat.run != self._course.run:
            return
        flight.heard_s = time.monotonic()
        flight.pages, flight.requests, flight.limited = beat.pages, beat.requests, beat.limited
        if beat.pages:
            self._answered(flight.order.chunk.series)

    def _answered(self, series: Series) -> None:
        self.agenda.answered(series)
        self._acks.answered.add(series)

    def _take(self, future: "Future[Result]") -> None:
        order = self._flights.pop(self._numbers.pop(future)).order
        try:
            result = future.result()
        except WorkerLost as lost:
            if not self.agenda.strike(order.chunk):
                reason = f"its worker died {STRIKES} times ({lost.message})"
                self._acks.close(order, Result(Outcome.QUARANTINED, reason))
        except CancelledError:
            pass
        except (StagingestError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 -- a bug in reading one chunk must not cost the others
            self.agenda.ended(order.chunk.series)
            self._acks.close(order, Result(Outcome.FAILED, f"{type(error).__name__}: {error}"))
        else:
            self._settle(order, result)

    def _settle(self, order: Order, result: Result) -> None:
        chunk = order.chunk
        self.tally.asked(result)
        if result.stop:
            self.agenda.stop(chunk.series.endpoint, result.stop, result.reason)
            return
        if result.pages:
            self._answered(chunk.series)
        if result.outcome is Outcome.DEFERRED:
            if self.agenda.defer(chunk):
                return
            result = replace(result, outcome=Outcome.FAILED)
        if result.outcome is Outcome.REFUSED and not result.bad and self.agenda.doubt(chunk.series, result.reason):
            return
        if result.outcome is Outcome.REFUSED and len(chunk.symbols) > 1:
            self.agenda.ended(chunk.series)
            for child in reversed(self._acks.split(order, result)):
                self.agenda.again(child)
            return
        self.agenda.ended(chunk.series)
        self._acks.close(order, result)
        if result.outcome is Outcome.FORBIDDEN:
            self.agenda.forbidden(chunk.series, result.reason)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if self._acks.waiting >= GROUP_CHUNKS or now_s - self._flushed_s >= GROUP_S or not self._flights:
            self._flush()
        if now_s - self._ticked_s >= TICK_S:
            self._ticked_s = now_s
            self._sample()
            self._tell()

    def _flush(self) -> None:
        self._flushed_s = time.monotonic()
        before = set(self.tally.refetched)
        self.agenda.add(self._acks.flush())
        moved = sorted(self.tally.refetched - before)
        if moved:
            self._listener.say(f"Adjusted prices of {', '.join(moved)} have moved: fetching them whole again.")

    def _tell(self) -> None:
        tally = self.tally
        elapsed_s = time.monotonic() - self._began_s
        progress = Progress(
            tally.planned, tally.done, tally.failed(), len(self._flights), tally.rows,
            tally.pages + sum(flight.pages for flight in self._flights.values()), self._requests(),
            tally.limited + sum(flight.limited for flight in self._flights.values()), elapsed_s,
        )  # fmt: skip
        staging.publish(self._course.root, self._state(progress))
        self._listener.progress(progress)

    def _state(self, progress: Progress) -> dict[str, Any]:
        """What `status` shows of a living run."""
        now_s = time.monotonic()
        flights = sorted(self._flights.values(), key=lambda flight: flight.since_s)
        return {
            "run": self._course.run,
            "pid": os.getpid(),
            "updated_at": datetime.now(UTC).isoformat(),
            "planned": progress.planned,
            "done": progress.done,
            "failed": progress.failed,
            "rows": progress.rows,
            "requests": progress.requests,
            "limited": progress.limited,
            "elapsed_s": round(progress.elapsed_s, 1),
            "stopped": {endpoint: reason for endpoint, (_, reason) in self.agenda.stopped.items()},
            "in_flight": [
                {
                    "chunk": flight.order.chunk.id,
                    "series": str(flight.order.chunk.series),
                    "symbols": len(flight.order.chunk.symbols),
                    "first_symbol": flight.order.chunk.symbols[0],
                    "window": str(flight.order.chunk.window),
                    "pages": flight.pages,
                    "age_s": round(now_s - flight.since_s, 1),
                    "silent_s": round(now_s - flight.heard_s, 1),
                }
                for flight in flights
            ],
        }

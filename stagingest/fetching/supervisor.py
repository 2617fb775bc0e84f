"""The supervisor of a run: orders out to the pool, results in, a word to whoever listens."""

import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from stagingest.errors import StagingestError
from stagingest.fetching.chunk_queue import STRIKES, ChunkQueue
from stagingest.fetching.commit import GROUP_CHUNKS, RECENT, Committer, RunContext
from stagingest.fetching.in_flight import InFlight, RunLimits, StopReason, Workers
from stagingest.fetching.messages import Heartbeat
from stagingest.fetching.pool.handle import WorkerLost
from stagingest.fetching.summary import Progress, RunCounts
from stagingest.model.chunk import Chunk, Coverage, Series
from stagingest.model.task import GOOD, Cost, Outcome, Task, TaskResult
from stagingest.planning import due
from stagingest.providers import catalog
from stagingest.staging import directory, parts
from stagingest.staging import manifest as staging_manifest
from stagingest.staging.manifest import Manifest

GROUP_S = 2.0
TICK_S = 1.0
_WAITING = {
    "network": "The provider cannot be reached: waiting for the network, asking again every 5 to 60 s.",
    "provider": "The provider is in trouble: waiting for it, asking again every 5 to 60 s.",
}
# What a failure that ends a run says to whoever started it: not entitled, the provider, or the data.
_CODES = {Outcome.FORBIDDEN: 4, Outcome.FAILED: 5, Outcome.LOST: 5}


class Listener(Protocol):
    """Who is told how a run goes."""

    def progress(self, progress: Progress) -> None:
        """Called about once a second."""

    def say(self, text: str) -> None:
        """Something a person should know, one sentence."""


class Supervisor:
    """Runs one course to its end, in one thread; workers answer through the crew's events."""

    def __init__(
        self,
        course: RunContext,
        crew: Workers,
        manifest: Manifest,
        listener: Listener,
        clock: Callable[[], datetime],
        sample: Callable[[], None],
        caps: RunLimits,
        tally: RunCounts,
    ) -> None:
        self.tally = tally
        self._strikes = staging_manifest.read(manifest)
        self.agenda = ChunkQueue(self._strikes)
        self._manifest = manifest
        self.ending: StopReason | None = None
        self._caps = caps
        self._course = course
        self._crew = crew
        self._acks = Committer(course, manifest, self.tally, clock)
        self._listener = listener
        self._clock = clock
        self._sample = sample
        self._flights = InFlight(crew)
        self._number = 0
        self._waiting = ""
        self._began_s = self._flushed_s = self._ticked_s = time.monotonic()

    def run(self) -> None:
        """Until nothing is left to ask. What is finished is acknowledged also when it ends by an exception."""
        self.agenda.add(self._course.chunks)
        self.tally.add(self._course.chunks)
        try:
            while self._flights or (self.agenda and not self.ending):
                self._fill()
                self._wait()
                self._tick()
                if self.ending and self.ending.at_once:
                    break
        finally:
            self._flush()
            self._tell()

    @property
    def under_way(self) -> tuple[Task, ...]:
        """Orders not answered: some are left after `run` when they are to be dropped."""
        return self._flights.orders()

    def _fill(self) -> None:
        capacity = self._flights.capacity()
        while len(self._flights) < capacity and not self._at_a_cap():
            turn = self.agenda.next(idle=not self._flights)
            if turn is None:
                return
            chunk, alone = turn
            self._give(chunk, alone=alone)
            if alone:
                return

    def _at_a_cap(self) -> bool:
        """Whether the run has had what it may have; what is in flight may still end."""
        self.ending = self._caps.reached(self._elapsed_s()) or self.ending
        if self.ending is None and self._caps.requests is not None and self.agenda:
            spent = self._cost().requests + self._flights.promised()
            # The first chunk goes in any case; the workers' own count is exact.
            if spent and spent + _expected(self.agenda.peek()) > self._caps.requests:
                if self._flights:
                    return True
                self.ending = self._caps.spent()
        return self.ending is not None

    def _cost(self) -> Cost:
        return self.tally.cost + self._flights.cost()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _give(self, chunk: Chunk, *, alone: bool) -> None:
        self._number += 1
        endpoint = catalog.endpoint(chunk.series.endpoint)
        delayed = endpoint.kind is Coverage.HISTORY and not self._crew.realtime
        not_after = self._clock() - RECENT if delayed else None
        canary = not self.agenda.has_answered(endpoint.name)
        order = Task(self._course.run, self._number, chunk, not_after, chunk.series.adjusted, canary)
        self._flights.give(order, _expected(chunk), alone=alone)

    def _wait(self) -> None:
        """Take what has come: at least one event, or none until the next tick is due."""
        if not self._flights:
            return
        try:
            event = self._crew.events.get(timeout=TICK_S / 4)
            while True:
                if isinstance(event, Heartbeat):
                    self._heard(event)
                else:
                    self._take(event)
                event = self._crew.events.get_nowait()
        except queue.Empty:
            pass

    def _heard(self, beat: Heartbeat) -> None:
        chunk = self._flights.heard(beat, self._course.run)
        if chunk:
            self._answered(chunk.series)

    def _answered(self, series: Series) -> None:
        self.agenda.answered(series)
        self._acks.answered.add(series)

    def _take(self, future: "Future[TaskResult]") -> None:
        order = self._flights.land(future)
        try:
            result = future.result()
        except WorkerLost as lost:
            # The worker's mark is taken back: this death is counted here and now.
            parts.drop_part(self._course.root, order.part)
            staging_manifest.add(self._manifest, [order.chunk.id])
            if not self.agenda.strike(order.chunk):
                reason = f"its worker died {STRIKES} times ({lost.message})"
                self._close(order, TaskResult(Outcome.QUARANTINED, reason))
        except CancelledError:
            pass
        except (StagingestError, OSError):
            raise
        except MemoryError:
            self.agenda.ended(order.chunk.series)
            self._close(order, TaskResult(Outcome.FAILED, "out of memory; fewer --lanes need less"))
        except Exception as error:  # noqa: BLE001 -- a bug in reading one chunk must not cost the others
            self.agenda.ended(order.chunk.series)
            self._close(order, TaskResult(Outcome.FAILED, f"{type(error).__name__}: {error}"))
        else:
            self._settle(order, result)

    def _settle(self, order: Task, result: TaskResult) -> None:
        chunk = order.chunk
        self.tally.asked(result)
        if result.stop == "enough":
            self.ending = self._caps.spent()
            return
        if result.stop == "not-json":
            if self.agenda.not_json(chunk, result.reason):
                return
            result = replace(result, outcome=Outcome.REFUSED if len(chunk.symbols) > 1 else Outcome.FAILED)
        elif result.stop:
            self.agenda.stop(chunk.series.endpoint, result.stop, result.reason)
            return
        elif result.cost.pages:
            self._answered(chunk.series)
        if result.outcome is Outcome.DEFERRED:
            if self.agenda.defer(chunk):
                return
            result = replace(result, outcome=Outcome.FAILED)
        if result.outcome is Outcome.REFUSED and not result.bad and self.agenda.doubt(chunk.series, result.reason):
            return
        if result.outcome is Outcome.SPLIT or (result.outcome is Outcome.REFUSED and len(chunk.symbols) > 1):
            self.agenda.ended(chunk.series)
            for child in reversed(self._acks.split(order, result)):
                self.agenda.again(child)
            return
        self.agenda.ended(chunk.series)
        self._close(order, result)
        if result.outcome is Outcome.FORBIDDEN:
            self.agenda.forbidden(chunk.series, result.reason)

    def _close(self, order: Task, result: TaskResult) -> None:
        self._acks.close(order, result)
        if self._caps.fail_fast and result.outcome not in GOOD:
            self.ending = StopReason("--fail-fast", _CODES.get(result.outcome, 1), at_once=True)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if self._acks.waiting >= GROUP_CHUNKS or now_s - self._flushed_s >= GROUP_S or not self._flights:
            self._flush()
        if now_s - self._ticked_s >= TICK_S:
            self._ticked_s = now_s
            self._flights.sample(now_s, self._cost())
            self.ending = self._caps.reached(self._elapsed_s()) or self.ending
            self._say_what_is_waited_for()
            self._sample()
            self._tell()

    def _flush(self) -> None:
        self._flushed_s = time.monotonic()
        before = set(self.tally.refetched)
        self.agenda.add(self._acks.flush())
        moved = sorted(self.tally.refetched - before)
        if moved:
            self._listener.say(f"Adjusted prices of {', '.join(moved)} have moved: fetching them whole again.")

    def _say_what_is_waited_for(self) -> None:
        waiting = self._flights.waiting
        if waiting != self._waiting:
            self._listener.say(_WAITING.get(waiting, "The provider answers again."))
        self._waiting = waiting

    def _tell(self) -> None:
        tally, cost = self.tally, self._cost()
        progress = Progress(
            tally.planned, tally.done, tally.failed(), len(self._flights), tally.rows,
            cost.pages, cost.requests, cost.limited, self._elapsed_s(), self._waiting,
        )  # fmt: skip
        directory.publish(self._course.root, self._state(progress))
        self._listener.progress(progress)

    def _state(self, progress: Progress) -> dict[str, Any]:
        """What `status` shows of a living run."""
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
            "waiting_for": progress.waiting,
            "stopped": {endpoint: reason for endpoint, (_, reason) in self.agenda.stopped.items()},
            "in_flight": self._flights.state(),
        }


def _expected(chunk: Chunk) -> int:
    """Requests a chunk is expected to cost."""
    return due.estimate([chunk], catalog.endpoint(chunk.series.endpoint).cut(chunk.series)).requests

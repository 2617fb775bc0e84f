"""The supervisor of a run: tasks out to the pool, results in, a word to whoever listens."""

import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from stagingest.errors import StagingestError
from stagingest.fetching.chunk_queue import CRASHES, ChunkQueue
from stagingest.fetching.commit import GROUP_CHUNKS, RECENT, Committer, RunContext
from stagingest.fetching.in_flight import InFlight, Workers
from stagingest.fetching.messages import Heartbeat
from stagingest.fetching.pool.handle import WorkerLost
from stagingest.fetching.run_limits import RunLimits, Spent, StopReason
from stagingest.fetching.summary import Progress, RunCounts
from stagingest.model.chunk import Chunk, Series
from stagingest.model.task import Cost, Outcome, Task, TaskResult
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


class Listener(Protocol):
    """Who is told how a run goes."""

    def progress(self, progress: Progress) -> None:
        """Called about once a second."""

    def say(self, text: str) -> None:
        """Something a person should know, one sentence."""


class Supervisor:
    """Runs what is due to its end, in one thread; workers answer through their pool's events."""

    def __init__(
        self,
        context: RunContext,
        workers: Workers,
        manifest: Manifest,
        listener: Listener,
        clock: Callable[[], datetime],
        sample: Callable[[], None],
        limits: RunLimits,
        counts: RunCounts,
    ) -> None:
        self.counts = counts
        self.queue = ChunkQueue(staging_manifest.crashes(manifest), staging_manifest.interrupted(manifest))
        self._manifest = manifest
        self.ending: StopReason | None = None
        self._limits = limits
        self._context = context
        self._workers = workers
        self._committer = Committer(context, manifest, self.counts, clock)
        self._listener = listener
        self._clock = clock
        self._sample = sample
        self._in_flight = InFlight(workers)
        self._number = 0
        self._waiting = ""
        self._began_s = self._flushed_s = self._ticked_s = time.monotonic()

    def run(self) -> None:
        """Until nothing is left to ask. What is finished is acknowledged also when it ends by an exception."""
        self.queue.add(self._context.chunks)
        self.counts.add(self._context.chunks)
        try:
            while self._in_flight or (self.queue and not self.ending):
                self._fill()
                self._wait()
                self._tick()
                if self.ending and self.ending.at_once:
                    break
        finally:
            self._flush()
            self._tell()
            self.counts.cost += self._in_flight.cost()  # what is dropped was sent all the same

    @property
    def under_way(self) -> tuple[Task, ...]:
        """Tasks not answered: some are left after `run` when they are to be dropped."""
        return self._in_flight.tasks()

    def _fill(self) -> None:
        capacity = self._in_flight.capacity()
        while len(self._in_flight) < capacity and not self._at_a_cap():
            turn = self.queue.next(idle=not self._in_flight)
            if turn is None:
                return
            chunk, alone = turn
            self._give(chunk, alone=alone)
            if alone:
                return

    def _at_a_cap(self) -> bool:
        """Whether the run has had what it may have; what is in flight may still end."""
        spent = self._spent()
        self.ending = self._limits.reached(spent) or self.ending
        bounded = self._limits.requests is not None and self.ending is None and bool(self.queue)
        if bounded and not self._limits.allows(spent, _expected(self.queue.peek())):
            if self._in_flight:
                return True
            self.ending = self._limits.out_of_requests()
        return self.ending is not None

    def _cost(self) -> Cost:
        return self.counts.cost + self._in_flight.cost()

    def _spent(self) -> Spent:
        return Spent(self._elapsed_s(), self._cost().requests, self._in_flight.promised())

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _give(self, chunk: Chunk, *, alone: bool) -> None:
        self._number += 1
        endpoint = catalog.endpoint(chunk.series.endpoint)
        delayed = endpoint.kind.has_days and not self._workers.realtime
        not_after = self._clock() - RECENT if delayed else None
        canary = not self.queue.has_answered(endpoint.name)
        task = Task(self._context.run, self._number, chunk, not_after, chunk.series.adjusted, canary)
        self._in_flight.give(task, _expected(chunk), alone=alone)

    def _wait(self) -> None:
        """Take what has come: at least one event, or none until the next tick is due."""
        if not self._in_flight:
            return
        try:
            event = self._workers.events.get(timeout=TICK_S / 4)
            while True:
                if isinstance(event, Heartbeat):
                    self._heard(event)
                else:
                    self._take(event)
                event = self._workers.events.get_nowait()
        except queue.Empty:
            pass

    def _heard(self, heartbeat: Heartbeat) -> None:
        chunk = self._in_flight.heard(heartbeat, self._context.run)
        if chunk:
            self._answered(chunk.series)

    def _answered(self, series: Series) -> None:
        self.queue.answered(series)
        self._committer.answered.add(series)

    def _take(self, future: "Future[TaskResult]") -> None:
        task = self._in_flight.land(future)
        try:
            result = future.result()
        except WorkerLost as lost:
            # The worker's mark is taken back: this death is counted here and now.
            parts.drop_part(self._context.root, task.part)
            staging_manifest.add_crashes(self._manifest, [task.chunk.id])
            if not self.queue.crash(task.chunk):
                reason = f"its worker died {CRASHES} times ({lost.message})"
                self._close(task, TaskResult(Outcome.QUARANTINED, reason))
        except CancelledError:
            pass
        except (StagingestError, OSError):
            raise
        except MemoryError:
            self.queue.ended(task.chunk.series)
            self._close(task, TaskResult(Outcome.FAILED, "out of memory; fewer --lanes need less"))
        except Exception as error:  # noqa: BLE001 -- a bug in reading one chunk must not cost the others
            self.queue.ended(task.chunk.series)
            self._close(task, TaskResult(Outcome.FAILED, f"{type(error).__name__}: {error}"))
        else:
            self._finish(task, result)

    def _finish(self, task: Task, result: TaskResult) -> None:
        chunk = task.chunk
        self.counts.asked(result)
        if result.stop == "enough":
            self.ending = self._limits.out_of_requests()
            return
        if result.stop == "not-json":
            if self.queue.not_json(chunk, result.reason):
                return
            result = replace(result, outcome=Outcome.REFUSED if len(chunk.symbols) > 1 else Outcome.FAILED)
        elif result.stop:
            self.queue.stop(chunk.series.endpoint, result.stop, result.reason)
            return
        elif result.cost.pages:
            self._answered(chunk.series)
        if result.outcome is Outcome.DEFERRED:
            if self.queue.defer(chunk):
                return
            result = replace(result, outcome=Outcome.FAILED)
        if result.outcome is Outcome.REFUSED and not result.bad and self.queue.doubt(chunk.series, result.reason):
            return
        divided = result.outcome in (Outcome.REFUSED, Outcome.CONFLICT) and len(chunk.symbols) > 1
        if result.outcome is Outcome.SPLIT or divided:
            self.queue.ended(chunk.series)
            for child in reversed(self._committer.split(task, result)):
                self.queue.again(child)
            return
        self.queue.ended(chunk.series)
        self._close(task, result)
        if result.outcome is Outcome.FORBIDDEN:
            self.queue.forbidden(chunk.series, result.reason)

    def _close(self, task: Task, result: TaskResult) -> None:
        self._committer.close(task, result)
        self.ending = self._limits.failed(result.outcome) or self.ending

    def _tick(self) -> None:
        now_s = time.monotonic()
        if self._committer.waiting >= GROUP_CHUNKS or now_s - self._flushed_s >= GROUP_S or not self._in_flight:
            self._flush()
        if now_s - self._ticked_s >= TICK_S:
            self._ticked_s = now_s
            self._in_flight.sample(now_s, self._cost())
            self.ending = self._limits.reached(self._spent()) or self.ending
            self._say_what_is_waited_for()
            self._sample()
            self._tell()

    def _flush(self) -> None:
        self._flushed_s = time.monotonic()
        before = set(self.counts.refetched)
        self.queue.add(self._committer.flush())
        moved = sorted(self.counts.refetched - before)
        if moved:
            self._listener.say(f"Adjusted prices of {', '.join(moved)} have moved: fetching them whole again.")

    def _say_what_is_waited_for(self) -> None:
        waiting = self._in_flight.waiting
        if waiting != self._waiting:
            self._listener.say(_WAITING.get(waiting, "The provider answers again."))
        self._waiting = waiting

    def _tell(self) -> None:
        counts, cost = self.counts, self._cost()
        progress = Progress(
            counts.planned, counts.done, counts.failed(), len(self._in_flight), counts.rows,
            cost.pages, cost.requests, cost.limited, self._elapsed_s(), self._waiting,
        )  # fmt: skip
        directory.publish(self._context.root, self._state(progress))
        self._listener.progress(progress)

    def _state(self, progress: Progress) -> dict[str, Any]:
        """What `status` shows of a living run."""
        return {
            "run": self._context.run,
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
            "stopped": {endpoint: reason for endpoint, (_, reason) in self.queue.stopped.items()},
            "in_flight": self._in_flight.state(),
        }


def _expected(chunk: Chunk) -> int:
    """Requests a chunk is expected to cost."""
    return due.estimate([chunk], catalog.endpoint(chunk.series.endpoint).cut(chunk.series)).requests

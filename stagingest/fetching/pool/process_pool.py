"""Where tasks run: slots of worker processes, or threads of this process, behind one `concurrent.futures.Executor`.

A slot is a place for one worker process at a time; when the process dies, what was in flight on it fails with
`WorkerLost`, a new one takes its place, and nothing else notices.
"""

import itertools
import logging
import os
import pickle
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from stagingest.fetching.pool.child import NOTE, TASK, Frame, pack
from stagingest.fetching.pool.executor import TaskExecutor
from stagingest.fetching.pool.handle import (
    OnNote,
    PendingCall,
    PoolBroken,
    Setup,
    WorkerHandle,
    WorkerLost,
    cancel,
    first_to_count,
    process_cpu_s,
    resolve_future,
)

P = ParamSpec("P")
T = TypeVar("T")

_STORM_DEATHS = 10
_STORM_S = 60.0
_log = logging.getLogger(__name__)


class ProcessPool(TaskExecutor):
    """Worker processes, each with several lanes (threads).

    A slot holds at most `lanes` tasks; the others wait here in the order they came. `submit` takes functions that
    can be imported by name. Callbacks of futures and `on_note` run on the pool's own thread and must be short.
    A pool that was not shut down ends with this process, and its workers with it.

    Args:
        processes: number of slots.
        lanes: threads of each worker process.
        setup: called once in each worker before its first task as setup(note, setup_arg); note(value) sends a
            picklable value to `on_note`. Importable by name.
        setup_arg: picklable.
        preload: modules the fork server imports once for all workers (see `warm`).
        on_note: called as on_note(slot, value).
        hung_after_s: a worker that has tasks, or is setting up, and says nothing for this many seconds is killed.
        hold: a file every worker keeps locked shared (flock) from before its setup to its end.
    """

    def __init__(
        self,
        processes: int,
        lanes: int,
        *,
        setup: Setup,
        setup_arg: object,
        preload: Sequence[str],
        on_note: OnNote,
        hung_after_s: float | None = None,
        hold: Path | None = None,
    ) -> None:
        self._lanes, self._on_note, self._hung_after_s = lanes, on_note, hung_after_s
        self._hire = partial(WorkerHandle, lanes, pickle.dumps((setup, setup_arg)), tuple(preload), hold)
        self._lock = threading.Lock()
        self._workers: list[WorkerHandle | None] = [None] * processes
        self._queue: deque[PendingCall] = deque()
        self._numbers = itertools.count(1)
        self._deaths: deque[float] = deque(maxlen=_STORM_DEATHS + 1)
        self._closing = self._killed = self._over = False
        self._broken = ""
        self._spent_cpu_s, self._server_pid, self._counts_server = 0.0, 0, False
        self._alarm, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._alarm, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._supervise, name="stagingest-pool", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Hands fn(*args, **kwargs) to the least loaded slot, or queues it.

        Raises:
            PoolBroken: workers die without finishing anything.
            RuntimeError: the pool was shut down.
        """
        payload = pickle.dumps((fn, args, kwargs))
        future: Future[T] = Future()
        with self._lock:
            if self._broken:
                raise PoolBroken(self._broken)
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            number = next(self._numbers)
            self._queue.append(PendingCall(number, pack(TASK, number, payload), future))
            blocked = self._feed()
        if blocked:
            self._wake()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """Takes no more tasks, finishes what it has (or cancels what is queued), ends the workers."""
        with self._lock:
            self._closing = True
        if cancel_futures:
            self._cancel_queue()
        self._wake()
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    def kill(self) -> None:
        """Ends every worker at once: what is in flight fails with WorkerLost, what is queued is cancelled."""
        with self._lock:
            self._closing = self._killed = True
            for worker in self._living():
                worker.kill()
        self._cancel_queue()
        self.shutdown()

    def cpu_s(self) -> float:
        """CPU seconds of all workers this pool ever had, and of the fork server with its imports (Linux).

        Of a killed worker it counts what it last told. The fork server, which all pools of this process share, is
        counted by the first of them.
        """
        with self._lock:
            living = sum(max(worker.cpu_s, process_cpu_s(worker.pid)) for worker in self._living())
            server = process_cpu_s(self._server_pid) if self._counts_server else 0.0
            return self._spent_cpu_s + living + server

    def pids(self) -> tuple[int, ...]:
        """Process ids of the living workers and the fork server."""
        with self._lock:
            pids = [*(worker.pid for worker in self._living()), self._server_pid]
        return tuple(pid for pid in pids if pid)

    def _living(self) -> list[WorkerHandle]:
        return [worker for worker in self._workers if worker]

    def _wake(self) -> None:
        with self._lock, suppress(BlockingIOError):
            if not self._over:
                os.write(self._bell, b"\0")

    def _cancel_queue(self) -> None:
        with self._lock:
            tasks = list(self._queue)
            self._queue.clear()
        for task in tasks:
            cancel(task.future)

    def _feed(self) -> bool:
        """Gives queued tasks to free lanes, the least loaded slot first; whether a link takes no more."""
        blocked = False
        while self._queue:
            free = [worker for worker in self._living() if worker.open and len(worker.flying) < self._lanes]
            if not free:
                break
            task = self._queue.popleft()
            if task.future.set_running_or_notify_cancel():
                worker = min(free, key=lambda worker: len(worker.flying))
                worker.give(task)
                blocked = blocked or worker.waiting
        return blocked

    # What follows runs on the pool's own thread only.

    def _supervise(self) -> None:
        try:
            while self._tend():
                for key, mask in self._selector.select(self._patience_s()):
                    if key.data:
                        slot, worker = key.data
                        self._attend(slot, worker, mask)
                    else:
                        os.read(self._alarm, 4096)
        except BaseException as error:
            self._break(f"The pool failed ({type(error).__name__}: {error}).")  # nobody waits for ever
            raise
        self._selector.close()
        with self._lock:
            self._over = True
            os.close(self._alarm)
            os.close(self._bell)

    def _tend(self) -> bool:
        """Starts, stops and kills workers as it is due; whether there is anything left to do."""
        with self._lock:
            wanted = not self._killed and (not self._closing or bool(self._queue))
            for worker in self._living():
                if self._killed or worker.overdue(self._hung_after_s):
                    worker.kill()
                elif not (wanted or worker.flying or worker.stopping):
                    worker.stop()
                worker.watch(self._selector)
            vacant = [slot for slot, worker in enumerate(self._workers) if not worker] if wanted else []
        for slot in vacant:
            self._start(slot)
        return wanted or any(self._workers)

    def _patience_s(self) -> float | None:
        with self._lock:
            limits = [worker.limit_s(self._hung_after_s) for worker in self._living()]
        known = [limit / 4 for limit in [*limits, self._hung_after_s] if limit]
        return min(known, default=None)

    def _start(self, slot: int) -> None:
        try:
            worker = self._hire()
        except OSError as error:
            self._died(str(error))
            self._wake()
            return
        self._selector.register(worker.link, selectors.EVENT_READ, (slot, worker))
        with self._lock:
            self._workers[slot] = worker

    def _attend(self, slot: int, worker: WorkerHandle, mask: int) -> None:
        answers: list[tuple[Frame, Future[Any] | None]] = []
        with self._lock:
            if mask & selectors.EVENT_WRITE:
                worker.flush()
            for frame in worker.receive():
                future = worker.flying.pop(frame.number, None)
                if future:
                    self._deaths.clear()
                answers.append((frame, future))
            if worker.server_pid not in (0, self._server_pid):
                self._server_pid = worker.server_pid
                self._counts_server = first_to_count(worker.server_pid)
            self._feed()
        for frame, future in answers:
            self._deliver(slot, frame, future)
        if worker.ended:
            self._bury(slot, worker)

    def _deliver(self, slot: int, frame: Frame, future: Future[Any] | None) -> None:
        if frame.kind == NOTE:
            try:
                self._on_note(slot, pickle.loads(frame.payload))  # noqa: S301 - from our own worker
            except Exception:  # noqa: BLE001 - a listener's failure is no reason to lose the pool
                _log.exception("A note of slot %d could not be taken.", slot)
        elif future:
            resolve_future(future, frame)

    def _bury(self, slot: int, worker: WorkerHandle) -> None:
        self._selector.unregister(worker.link)
        exitcode = worker.close()
        with self._lock:
            self._workers[slot] = None
            self._spent_cpu_s += worker.cpu_s
            expected = worker.stopping or self._killed
        for future in worker.flying.values():
            future.set_exception(WorkerLost(slot, exitcode))
        if not expected:
            self._died(worker.reason or str(WorkerLost(slot, exitcode)))

    def _died(self, reason: str) -> None:
        """Counts a death, and breaks the pool when there were too many with no task finished in between."""
        self._deaths.append(time.monotonic())
        if len(self._deaths) > _STORM_DEATHS and self._deaths[-1] - self._deaths[0] <= _STORM_S:
            self._break(f"Workers keep dying before any task is finished: {reason}")

    def _break(self, why: str) -> None:
        with self._lock:
            self._broken, self._closing, self._killed = why, True, True
            futures = [task.future for task in self._queue if task.future.set_running_or_notify_cancel()]
            self._queue.clear()
            for worker in self._living():
                futures += worker.flying.values()
                worker.flying.clear()
        for future in futures:
            future.set_exception(PoolBroken(why))

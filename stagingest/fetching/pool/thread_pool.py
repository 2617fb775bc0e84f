"""The seam of the pool with threads of this process instead of worker processes."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from stagingest.fetching.pool.executor import TaskExecutor
from stagingest.fetching.pool.handle import OnNote, Setup, cancel

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool(TaskExecutor):
    """Lanes (threads) of this process, for breakpoints and small jobs; what runs when it is killed ends by itself.

    Unlike `ThreadPoolExecutor` it tells those who wait of what `shutdown` cancels, and an exiting interpreter does
    not wait for its threads.

    Args:
        lanes: number of threads.
        setup: called at once as setup(note, setup_arg); what it raises is raised here.
        on_note: called as on_note(0, value) on the thread that notes.
    """

    def __init__(self, lanes: int, *, setup: Setup, setup_arg: object, on_note: OnNote) -> None:
        setup(partial(on_note, 0), setup_arg)
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closing = False
        self._threads = [threading.Thread(target=self._lane, daemon=True) for _ in range(lanes)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Runs fn(*args, **kwargs) on the next free thread. Raises RuntimeError after shutdown."""
        future: Future[T] = Future()
        with self._lock:
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._tasks.put((future, partial(fn, *args, **kwargs)))
        return future

    def _lane(self) -> None:
        while task := self._tasks.get():
            future, call = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                answer = partial(future.set_result, call())
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its answer
                answer = partial(future.set_exception, error)
            answer()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """As in `ProcessPool`."""
        with self._lock:
            self._closing = True
        while cancel_futures:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task:
                cancel(task[0])
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            if wait and thread is not threading.current_thread():
                thread.join()

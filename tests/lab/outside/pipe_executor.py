"""An executor of others: one child process behind a pipe, as it might be on another machine."""

import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from stagingest.fetching.messages import WorkerSetup
from stagingest.fetching.pool.executor import TaskExecutor
from stagingest.fetching.pool.handle import WorkerLost
from stagingest.fetching.worker import tasks


class PipeExecutor(TaskExecutor):
    """Carries out one task after the other in a child, and begins another child when one dies."""

    def __init__(self, setup: WorkerSetup, heard: Callable[[object], None]) -> None:
        self._setup, self._heard = setup, heard
        self._queue: queue.SimpleQueue[tuple[Future[Any], Any] | None] = queue.SimpleQueue()
        self.child = self._begin()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._queue.put((future, (fn, args, kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            self.child.kill()
        self._queue.put(None)
        if wait:
            self._thread.join()

    def _begin(self) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdin is not None
        pickle.dump(self._setup, child.stdin)
        child.stdin.flush()
        return child

    def _serve(self) -> None:
        while asked := self._queue.get():
            future, call = asked
            if future.set_running_or_notify_cancel():
                try:
                    self._ask(future, call)
                except (EOFError, OSError):
                    self.child.communicate()
                    self.child = self._begin()
                    future.set_exception(WorkerLost(0, self.child.returncode))
        self.child.communicate()

    def _ask(self, future: "Future[Any]", call: Any) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        pickle.dump(call, self.child.stdin)
        self.child.stdin.flush()
        while True:
            kind, value = pickle.load(self.child.stdout)
            if kind == "note":
                self._heard(value)
            else:
                (future.set_exception if kind == "error" else future.set_result)(value)
                return


def work() -> None:
    """The child: a set-up, then tasks until the pipe ends."""
    lock, out = threading.Lock(), sys.stdout.buffer

    def send(kind: str, value: object) -> None:
        with lock:
            pickle.dump((kind, value), out)
            out.flush()

    tasks.setup(lambda note: send("note", note), pickle.load(sys.stdin.buffer))
    while True:
        try:
            fn, args, kwargs = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            send("answer", fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 -- it is the task's answer
            send("error", error)


if __name__ == "__main__":
    work()

"""The parent's end of one worker process: how it is started, told and heard, and let go.

The parent never waits on the socket to a worker, so one that is stopped or killed in the middle of a frame holds
up nobody.
"""

import os
import pickle
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from stagingest.errors import StagingestError
from stagingest.fetching.pool.child import (
    BORN,
    ERROR,
    NOTE,
    OUT_OF_MEMORY,
    READY,
    RESULT,
    SETUP,
    STOP,
    UNFIT,
    ChildProcess,
    Frame,
    cut,
    pack,
)
from stagingest.fetching.pool.start import start

Setup = Callable[[Callable[[object], None], Any], None]
OnNote = Callable[[int, object], None]

_GRACE_S = 2.0  # for an idle worker to end after it was told to
_counted: set[int] = set()  # fork servers


class WorkerLost(StagingestError):  # noqa: N818 - an event, named by the design
    """The worker process that had this task died; negative exit codes are signals, None is unknown."""

    def __init__(self, slot: int, exitcode: int | None) -> None:
        super().__init__(f"The worker process of slot {slot} died ({_ended_by(exitcode)}).")
        self.slot = slot
        self.exitcode = exitcode

    def __reduce__(self) -> tuple[type["WorkerLost"], tuple[int, int | None]]:
        return WorkerLost, (self.slot, self.exitcode)


class PoolBroken(StagingestError):  # noqa: N818 - as concurrent.futures names it
    """Worker processes die without finishing a task; the pool takes no more."""


def _ended_by(exitcode: int | None) -> str:
    if exitcode is None:
        return "exit code unknown"
    if exitcode == OUT_OF_MEMORY:
        return "out of memory"
    return f"signal {-exitcode}" if exitcode < 0 else f"exit code {exitcode}"


class PendingCall(NamedTuple):
    """A task: its number in the pool, what the worker is sent, and who waits for the answer."""

    number: int
    frame: bytes
    future: Future[Any]


class WorkerHandle:
    """The parent's end of one worker process. Not thread-safe: its pool's lock guards it.

    Args:
        lanes: threads that run tasks.
        setup: pickled (function, argument), called once before the first task.
        preload: modules of the fork server, should it have to be launched.
        hold: a file the worker keeps locked shared (flock) for life.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, lanes: int, setup: bytes, preload: Sequence[str], hold: Path | None) -> None:
        self.pid = 0
        self.server_pid = 0
        self.cpu_s = 0.0
        self.ready = False
        self.ended = False
        self.stopping = False
        self.reason = ""
        self.quiet_since = time.monotonic()
        self.flying: dict[int, Future[Any]] = {}
        self._abandoned = False
        self._inbox = bytearray()
        self._outbox = bytearray()
        self.link, theirs = socket.socketpair()
        self.link.setblocking(False)
        try:
            with theirs:
                self._started = start(theirs, ChildProcess(lanes, hold), preload)
        except BaseException:
            self.link.close()
            raise
        self.send(pack(SETUP, payload=setup))

    @property
    def open(self) -> bool:
        """Whether it takes tasks."""
        return self.ready and not (self.stopping or self.ended)

    @property
    def waiting(self) -> bool:
        """Whether bytes wait until the link takes more."""
        return bool(self._outbox)

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Has `selector` tell when the link takes more, while bytes wait."""
        key = selector.get_key(self.link)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.waiting else 0)
        if key.events != events:
            selector.modify(self.link, events, key.data)

    def give(self, task: PendingCall) -> None:
        """Puts a task in flight."""
        if not self.flying:
            self.quiet_since = time.monotonic()
        self.flying[task.number] = task.future
        self.send(task.frame)

    def send(self, data: bytes) -> None:
        """Sends as much as the link takes now; the rest waits for `flush`."""
        self._outbox += data
        self.flush()

    def flush(self) -> None:
        """Sends what waits."""
        try:
            del self._outbox[: self.link.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._outbox.clear()  # dead; the end of the link is read like any other

    def receive(self) -> list[Frame]:
        """What the worker said since; sets `ended` once nothing more can come."""
        try:
            data = self.link.recv(1 << 18)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            data = b""
        self.ended = not data
        self.quiet_since = time.monotonic()
        self._inbox += data
        return [frame for frame in cut(self._inbox) if not self._about_itself(frame)]

    def _about_itself(self, frame: Frame) -> bool:
        self.cpu_s = max(self.cpu_s, frame.cpu_s)
        if frame.kind == BORN:
            self.pid, self.server_pid = frame.number, int(frame.payload)
        elif frame.kind == READY:
            self.ready = True
        elif frame.kind == UNFIT:
            self.reason = frame.payload.decode()
        return frame.kind not in (RESULT, ERROR, NOTE)

    def limit_s(self, hung_after_s: float | None) -> float | None:
        """How long it may say nothing, given how long one with work may."""
        if self.stopping:
            return _GRACE_S
        return hung_after_s if self.flying or not self.ready else None

    def overdue(self, hung_after_s: float | None) -> bool:
        """Whether it said nothing for longer than that."""
        limit_s = self.limit_s(hung_after_s)
        return limit_s is not None and time.monotonic() - self.quiet_since > limit_s

    def stop(self) -> None:
        """Asks an idle worker to end."""
        self.stopping = True
        self.quiet_since = time.monotonic()
        self.send(pack(STOP))

    def kill(self) -> None:
        """Ends the process at once; one not born yet dies when `close` lets go of its life pipe."""
        if self.pid and not self.ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        elif not self.ended:
            self._abandoned = True
            self.link.shutdown(socket.SHUT_RDWR)

    def close(self) -> int | None:
        """Lets go of a worker whose link has ended. Returns its exit code, None when nobody knows it."""
        code = None if self._abandoned else self._started.exit_code()
        self.link.close()
        self._started.close()
        return code


def cancel(future: Future[Any]) -> None:
    """Cancels a queued task and tells those who wait for it."""
    future.cancel()
    future.set_running_or_notify_cancel()


def resolve_future(future: Future[Any], frame: Frame) -> None:
    """Gives the future of a task the answer in `frame`."""
    try:
        value = pickle.loads(frame.payload)  # noqa: S301 - from our own worker
    except Exception as error:  # noqa: BLE001 - an answer that cannot be read is the task's failure
        future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
        return
    if frame.kind == ERROR:
        future.set_exception(value)
    else:
        future.set_result(value)


def first_to_count(server_pid: int) -> bool:
    """Whether nobody asked before: pools share a fork server, and its CPU is counted once."""
    before = len(_counted)
    _counted.add(server_pid)
    return len(_counted) > before


def process_cpu_s(pid: int) -> float:
    """User and system seconds of a living process, 0.0 where /proc does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

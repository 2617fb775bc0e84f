"""What runs in a worker process of the pool, and the frames it exchanges with its parent.

A frame is a fixed header (kind, number, CPU seconds so far, size of the payload) and a pickled payload.
"""

import fcntl
import os
import pickle
import queue
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import NamedTuple, NoReturn

from stagingest.system import platform

SETUP, TASK, STOP, BORN, READY, UNFIT, RESULT, ERROR, NOTE, BYE = range(10)
OUT_OF_MEMORY = 12
"""Exit code of a worker that could get no more memory."""
_HEADER = struct.Struct("<BQdQ")


class Frame(NamedTuple):
    """One message; `number` is the task's. BORN has the pid there, and that of the fork server as payload."""

    kind: int
    number: int
    cpu_s: float
    payload: bytes


def pack(kind: int, number: int = 0, payload: bytes = b"", cpu_s: float = 0.0) -> bytes:
    """The bytes of a frame."""
    return _HEADER.pack(kind, number, cpu_s, len(payload)) + payload


def cut(inbox: bytearray) -> list[Frame]:
    """Takes every whole frame out of `inbox` and leaves what is not whole yet."""
    frames, at = [], 0
    while len(inbox) - at >= _HEADER.size:
        kind, number, cpu_s, size = _HEADER.unpack_from(inbox, at)
        begin = at + _HEADER.size
        if len(inbox) < begin + size:
            break
        at = begin + size
        frames.append(Frame(kind, number, cpu_s, bytes(inbox[begin:at])))
    del inbox[:at]
    return frames


def portable(error: BaseException) -> bytes:
    """`error` pickled with its traceback as a note; a RuntimeError in its place when it does not survive pickling."""
    trace = "".join(traceback.format_exception(error))
    with suppress(Exception):
        error.add_note(trace)
        data = pickle.dumps(error)
        if type(pickle.loads(data)) is type(error):  # noqa: S301 - made one line above
            return data
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception may fail to say what it is
        text = "(no text)"
    plain = RuntimeError(f"{type(error).__name__}: {text}")
    plain.add_note(trace)
    return pickle.dumps(plain)


class ChildProcess:
    """What a fork server's child unpickles and runs, as `multiprocessing.spawn` expects it."""

    def __init__(self, lanes: int, hold: Path | None) -> None:
        self.lanes = lanes
        self.hold = hold

    def _bootstrap(self, life: int) -> int:
        (link,) = forkserver.get_inherited_fds() or []
        return self.work(link, life, os.getppid())

    def work(self, link: int, life: int, server_pid: int) -> int:
        """Serve the parent over the socket `link`; the exit code. `server_pid` is the fork server's, 0 without one."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _die_with(life)
        os.umask(0o077)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        loop = _TaskLoop(socket.socket(fileno=link))
        loop.say(BORN, os.getpid(), b"%d" % server_pid)
        if self.hold:
            held = os.open(self.hold, os.O_RDONLY | os.O_CREAT, 0o600)  # open until the process ends
            platform.lock(held, shared=True)
        return loop.serve(self.lanes)


def spawned(link: int, life: int, lanes: int, hold: str) -> NoReturn:
    """What a spawned worker process runs."""
    sys.exit(ChildProcess(lanes, Path(hold) if hold else None).work(link, life, 0))


def _die_with(life: int) -> None:
    """Has this process killed when the parent's end of the pipe `life` closes.

    On Linux by the kernel, so that it also works while native code holds the interpreter, or when the process is
    stopped. Elsewhere the end of the link is what a worker notices.
    """
    if sys.platform == "linux":
        fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()
    poller.register(life, select.POLLHUP)
    if poller.poll(0):  # it closed before the kernel was asked
        os._exit(1)


class _TaskLoop:
    """Where a worker process takes its tasks and gives its answers."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._speaking = threading.Lock()
        self._tasks: queue.SimpleQueue[Frame] = queue.SimpleQueue()

    def say(self, kind: int, number: int = 0, payload: bytes = b"") -> None:
        data = pack(kind, number, payload, time.process_time())
        try:
            with self._speaking:
                self._link.sendall(data)
        except OSError:
            _orphaned()

    def note(self, value: object) -> None:
        self.say(NOTE, payload=pickle.dumps(value))

    def serve(self, lanes: int) -> int:
        """Works until told to stop; returns the exit code."""
        for frame in self._frames():
            if frame.kind == TASK:
                self._tasks.put(frame)
            elif frame.kind == STOP:
                break
            elif not self._set_up(frame.payload):
                return 1
            else:
                for _ in range(lanes):
                    threading.Thread(target=self._lane, daemon=True).start()
                self.say(READY)
        sys.stdout.flush()
        sys.stderr.flush()
        self.say(BYE)
        return 0

    def _frames(self) -> Iterator[Frame]:
        inbox = bytearray()
        while True:
            try:
                data = self._link.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                _orphaned()
            inbox += data
            yield from cut(inbox)

    def _set_up(self, payload: bytes) -> bool:
        try:
            setup, argument = pickle.loads(payload)  # noqa: S301 - from the parent
            setup(self.note, argument)
        except BaseException as error:  # noqa: BLE001 - the parent decides what a worker that cannot start means
            self.say(UNFIT, payload=(str(error) or type(error).__name__).encode())
            return False
        return True

    def _lane(self) -> None:
        while True:
            frame = self._tasks.get()
            try:
                fn, args, kwargs = pickle.loads(frame.payload)  # noqa: S301 - from the parent
                kind, payload = RESULT, pickle.dumps(fn(*args, **kwargs))
            except MemoryError:
                os._exit(OUT_OF_MEMORY)  # nothing here can be trusted any more; the parent asks a new process
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its answer
                kind, payload = ERROR, portable(error)
            self.say(kind, frame.number, payload)


def _orphaned() -> NoReturn:
    # No clean-up: lanes may be anywhere, and nobody is left to tell.
    os._exit(1)

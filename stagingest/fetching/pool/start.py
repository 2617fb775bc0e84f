"""How a worker process is started: by the fork server, or spawned where there is none."""

import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import forkserver, resource_tracker, util
from typing import Protocol

from stagingest.fetching.pool.child import ChildProcess, spawned
from stagingest.system import platform

_STATUS = struct.Struct("qq")  # what the fork server tells of a child: its pid, later its exit code
_MOST_ADDRESS = 104  # of a socket on macOS; 108 on Linux
_TOLD_S = 0.5  # the code follows the end of the link within a millisecond, unless the fork server is gone or stopped


class Started(Protocol):
    """A process that was started."""

    def exit_code(self) -> int | None:
        """What it ended with (negative: a signal), once it has; None when nobody knows."""

    def close(self) -> None:
        """Let go of it: it dies if it has not."""


def start(theirs: socket.socket, child: ChildProcess, preload: Sequence[str]) -> Started:
    """Start a worker process that has its end of the link. Raises OSError when none can be started."""
    return _Forked(theirs, child, preload) if _fork_server() else _Spawned(theirs, child)


@cache
def _fork_server() -> bool:
    """Whether there is a fork server: the address of its socket, in the folder of temporary files, has to be short."""
    return platform.FORK_SERVER and len(os.fsencode(util.get_temp_dir())) + len("/listener-12345678") < _MOST_ADDRESS


def warm(preload: Sequence[str]) -> None:
    """Launches the fork server, which imports the modules `preload` names, and returns without waiting for it.

    There is one fork server for each process: while it runs, later calls change nothing. Workers see the
    environment variables of the moment it was launched. Where workers are spawned there is nothing to launch.
    """
    if not _fork_server():
        return
    # The tracker's own start unblocks SIGINT again, so it goes first.
    resource_tracker.ensure_running()
    forkserver.set_forkserver_preload([ChildProcess.__module__, *preload])
    with _deaf():
        forkserver.ensure_running()


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C reaches the whole process group; what is started within is deaf to it from its first instant."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Forked:
    def __init__(self, theirs: socket.socket, child: ChildProcess, preload: Sequence[str]) -> None:
        warm(preload)
        self._status, self._life = forkserver.connect_to_new_process([theirs.fileno()])
        # What `multiprocessing.spawn` reads first. Without the two `init_main` keys of Process.start() the child
        # does not run the parent's __main__ again.
        surroundings = {"sys_path": _sys_path(), "dir": os.getcwd()}
        with suppress(BrokenPipeError):  # a child that is gone already shows as the end of the link
            os.write(self._life, pickle.dumps(surroundings) + pickle.dumps(child))

    def exit_code(self) -> int | None:
        """As the fork server tells it."""
        poller = select.poll()
        poller.register(self._status, select.POLLIN)
        told = b""
        while len(told) < _STATUS.size and poller.poll(_TOLD_S * 1000):
            piece = os.read(self._status, _STATUS.size - len(told))
            if not piece:
                break
            told += piece
        return int(_STATUS.unpack(told)[1]) if len(told) == _STATUS.size else None

    def close(self) -> None:
        """Close both pipes to it."""
        os.close(self._status)
        os.close(self._life)


class _Spawned:
    def __init__(self, theirs: socket.socket, child: ChildProcess) -> None:
        life, self._life = os.pipe()
        words = (theirs.fileno(), life, child.lanes, str(child.hold or ""), _sys_path())
        imports = f"import sys; sys.path[:] = words[4]; from {spawned.__module__} import spawned"
        code = f"words = {words!r}; {imports}; spawned(*words[:4])"
        try:
            with _deaf():
                self._process = subprocess.Popen([sys.executable, "-c", code], pass_fds=(theirs.fileno(), life))
        except BaseException:
            os.close(self._life)
            raise
        finally:
            os.close(life)

    def exit_code(self) -> int | None:
        """As the system tells it."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(_TOLD_S)
        return None

    def close(self) -> None:
        """Close the pipe to it, and see that it has ended."""
        os.close(self._life)
        self._process.kill()
        self._process.wait()


def _sys_path() -> list[str]:
    return [path or os.getcwd() for path in sys.path]

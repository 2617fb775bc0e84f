"""Kernel locks on files: they die with their process, and a file says who holds them."""

import errno
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

from stagingest.errors import HeldError, StagingError
from stagingest.system import platform

T = TypeVar("T")
_POLL_S = 0.2
_NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOENT, errno.ENOTDIR)


@dataclass(slots=True)
class Lock:
    """A lock on a file; it dies with its process."""

    fd: int

    @classmethod
    def take(cls, path: Path, what: str) -> Self:
        """Take the lock within a fraction of a second.

        The file's text names the holder for that message only; the lock itself is the system's.

        Raises HeldError naming the holder, StagingError for a folder that nothing can be written into.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise
            raise StagingError(
                f"{path} cannot be locked: {error.strerror}.", f"Make {path.parent} writable, or name another folder."
            ) from None
        if not _taken(fd):
            os.close(fd)
            raise HeldError(
                f"{path.parent} is held for {what} by {holder(path)}.", "Wait for it, or stop it."
            ) from None
        text = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n"
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)
        return cls(fd)

    def release(self) -> None:
        """Give the lock back."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def holder(path: Path) -> str:
    """Who holds the lock on a file, as the holder wrote it there."""
    return path.read_bytes()[:400].decode(errors="replace").strip() or "another process"


def _taken(fd: int) -> bool:
    """Whether the lock could be had; `status` looks at locks for an instant, and a dying worker takes one to die."""
    for _ in range(25):
        if platform.lock(fd, wait=False):
            return True
        time.sleep(0.02)
    return False


def is_held(path: Path) -> bool:
    """Whether some process holds the lock exclusively."""
    if not path.exists():
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not platform.lock(fd, shared=True, wait=False)
    finally:
        os.close(fd)


def patiently(take: Callable[[], T], timeout_s: float, sleep: Callable[[float], None]) -> T:
    """What `take` gives; while it raises HeldError it is called again, until `timeout_s` has been slept."""
    waited_s = 0.0
    while True:
        try:
            return take()
        except HeldError:
            if waited_s >= timeout_s:
                raise
        sleep(_POLL_S)
        waited_s += _POLL_S

"""The requests a run may still make, counted down in one small file that all its processes share."""

import os
import struct
import threading
from pathlib import Path

from stagingest import system

_LEFT = struct.Struct("<q")


class Allowance:
    """The file at `path`, opened in this process; safe for threads.

    The lock on it goes when its holder dies: a killed process takes at most the request along that it was about to
    make.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._mutex = threading.Lock()

    @classmethod
    def grant(cls, path: Path, requests: int) -> None:
        """Make the file, with so many requests to spend."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, _LEFT.pack(requests))
        finally:
            os.close(fd)

    def take(self) -> bool:
        """Spend one request; False when none is left."""
        with self._mutex:
            system.lock(self._fd)
            try:
                (left,) = _LEFT.unpack(os.pread(self._fd, _LEFT.size, 0))
                if left > 0:
                    os.pwrite(self._fd, _LEFT.pack(left - 1), 0)
                return bool(left > 0)
            finally:
                system.unlock(self._fd)

    def close(self) -> None:
        """Let the file go."""
        os.close(self._fd)

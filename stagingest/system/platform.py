"""What a platform may lack, each with a named fallback: flock, a fork server, syncing the names in a folder.

STAGINGEST_FALLBACKS=1 takes the fallbacks where nothing is lacking: `scripts/test` runs a part of the tests so.
Everything is proven on Linux; macOS has all three; Windows is not promised.
"""

import os
import resource
import struct
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path


def utc_now() -> datetime:
    """The wall clock, UTC."""
    return datetime.now(UTC)


def memory_bytes(pids: Iterable[int]) -> int:
    """Memory of this process and of `pids`, shared pages counted once (PSS); the largest ever of this process
    alone where the system has no such count."""
    total = 0
    for pid in ("self", *map(str, pids)):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return total or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_bytes(root: Path) -> int:
    """Bytes free on the file system that holds (or would hold) the root."""
    place = root.absolute()
    while not place.exists():
        place = place.parent
    stats = os.statvfs(place)
    return stats.f_bavail * stats.f_frsize


FORCED = os.environ.get("STAGINGEST_FALLBACKS") == "1"
FORK_SERVER = hasattr(os, "fork") and not FORCED
"""Otherwise `spawn`: each worker process is a new interpreter."""
FOLDER_SYNC = os.name == "posix" and not FORCED
"""Otherwise `no folder sync`: a crash of the machine may lose names that were given last; a kill does not."""
FLOCK = sys.platform != "win32" and not FORCED
"""Otherwise `byte-range locks` on one byte far behind the end of a file; they die with their process as flock's do."""
_BYTE = 1 << 40

if sys.platform != "win32":
    import fcntl

    def lock(fd: int, *, shared: bool = False, wait: bool = True) -> bool:
        """Lock an open file; False when it is held and `wait` is not wanted.

        Args:
            fd: open for reading, and for writing unless `shared`.
            shared: with others who share it.
            wait: until it can be had.
        """
        try:
            if FLOCK:
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
            else:
                _ranged(fd, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, wait=wait)
        except BlockingIOError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Give it back; closing the file does too."""
        if FLOCK:
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            _ranged(fd, fcntl.F_UNLCK, wait=True)

    def _ranged(fd: int, kind: int, *, wait: bool) -> None:
        # Of the open file, not of the process: closing another descriptor of the same file must not give it back.
        command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
        fcntl.fcntl(fd, command, struct.pack("hhqqi", kind, os.SEEK_SET, _BYTE, 1, 0))

else:
    import msvcrt

    def lock(fd: int, *, shared: bool = False, wait: bool = True) -> bool:
        """As above; Windows has no shared ones here, so those who would share wait for each other."""
        at = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(fd, at, os.SEEK_SET)
        return True

    def unlock(fd: int) -> None:
        """Give it back."""
        at = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, _BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        os.lseek(fd, at, os.SEEK_SET)


def cores() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity") and not FORCED:
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

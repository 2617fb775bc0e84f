"""What a staging directory stands on, measured once, and what that means for a run."""

import errno
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagingest.errors import StagingError
from stagingest.staging import storage
from stagingest.system import disk

# Files a run holds beside two a lane: libraries, logs, the manifest, permit records, pipes.
_FILES_BESIDE = 80
# Magic numbers of statfs(2) for file systems whose locks or renames live on another machine.
_NETWORKED = {
    0x6969: "NFS", 0xFF534D42: "SMB", 0xFE534D42: "SMB", 0x517B: "SMB", 0x65735546: "FUSE", 0x01021997: "9p",
    0x00C36400: "Ceph", 0x5346414F: "AFS",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is there.

    Args:
        root: the staging directory.
        free_bytes, free_inodes: of its file system; inodes are -1 where the system does not count them.
        networked: the kind of file system when it is on another machine, '' when it is local.
        soft_files, hard_files: how many files this process may open now, and at most.
    """

    root: Path
    free_bytes: int
    free_inodes: int
    networked: str
    soft_files: int
    hard_files: int


def measure(root: Path) -> Surroundings:
    """Look at the nearest existing folder of `root`; changes nothing."""
    place = root.absolute()
    while not place.exists():
        place = place.parent
    stats = os.statvfs(place)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    inodes = stats.f_favail if stats.f_files else -1
    return Surroundings(root, stats.f_bavail * stats.f_frsize, inodes, _networked(place), soft, hard)


def warnings(found: Surroundings, need_bytes: int, need_files: int) -> list[str]:
    """What a person should know before a run that stages so many bytes in so many files."""
    said = []
    if found.networked:
        said.append(
            f"{found.root} is on {found.networked}: locks and renames are not proven there, choose a local disk for "
            "--staging."
        )
    if found.free_bytes < need_bytes:
        need, free = need_bytes / 1e6, found.free_bytes / 1e6
        said.append(f"The run will need about {need:,.0f} MB at {found.root} and {free:,.0f} MB are free.")
    if 0 <= found.free_inodes < need_files:
        said.append(f"The run will make about {need_files:,} files and {found.root} takes {found.free_inodes:,} more.")
    return said


def explain_os_error(error: OSError, found: Surroundings, need_bytes: int) -> StagingError:
    """What a run says that ends because the machine refused it something.

    Args:
        error: the refusal.
        found: what is there now.
        need_bytes: what the whole run was going to stage.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        cure = "Raise the limit (`ulimit -n`, LimitNOFILE=) or choose fewer --lanes, and run the same command again."
        return StagingError(f"This process may open only {found.soft_files} files, and the run needs more.", cure)
    what = "is full" if error.errno in disk.FULL else "cannot be written"
    left = "no further file fits" if found.free_inodes == 0 else f"{found.free_bytes >> 20} MiB free"
    return StagingError(
        f"The disk of {found.root} {what} ({error.strerror}; {left}, about {need_bytes >> 20} MiB needed in all).",
        "Nothing staged is lost; make room and run the same command again.",
    )


def files_needed(processes: int, lanes: int) -> int:
    """Files one process of a run may have open: two for each of its lanes, and a pipe for each process."""
    return 2 * lanes + 4 * processes + _FILES_BESIDE


def make_room_for_files(found: Surroundings, needed: int) -> None:
    """Raise the soft limit of open files as far as the run needs. Raises StagingError when it cannot be enough."""
    if found.soft_files >= needed or found.soft_files == resource.RLIM_INFINITY:
        return
    if found.hard_files != resource.RLIM_INFINITY and found.hard_files < needed:
        raise StagingError(
            f"This process may open {found.hard_files} files and the run needs {needed}.",
            "Raise the limit (`ulimit -n`, LimitNOFILE=) or choose fewer --lanes.",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, found.hard_files))


def probe(root: Path) -> None:
    """Do once what a run will do all the time: make, sync, rename, delete a file, all on one file system.

    Raises StagingError naming the file, its owner and why.
    """
    here = root.stat().st_dev
    for name in (storage.PARTS, storage.DATA):
        if (root / name).stat().st_dev != here:
            raise StagingError(
                f"{root / name} is on another file system than {root}: files cannot be renamed into place.",
                "Keep the whole staging directory on one.",
            )
    first, second = root / storage.PARTS / "probe", root / storage.DATA / "probe"
    for path in (first, second):
        disk.remove(path)
    path = first
    try:
        disk.create(first)
        disk.fill(first, b"probe")
        disk.sync([first])
        path = second
        disk.rename(first, second)
        disk.sync_folder(second.parent)
        disk.remove(second)
    except OSError as error:
        raise StagingError(f"{path} cannot be written: {error.strerror}{_whose(path.parent)}.", _ADVICE) from None


_ADVICE = "Make the staging directory writable, or choose another --staging."


def _whose(folder: Path) -> str:
    """Who owns a folder that is not ours."""
    owner = folder.stat().st_uid
    return f"; {folder} belongs to user {owner}, this is user {os.getuid()}" if owner != os.getuid() else ""


def require_private(root: Path) -> None:
    """Raises StagingError when others may put files into the root, or it is somebody else's."""
    stats = root.stat()
    if stats.st_uid != os.getuid() and os.getuid() != 0:
        raise StagingError(f"{root} belongs to user {stats.st_uid}, this is user {os.getuid()}.", _ADVICE)
    if stats.st_mode & 0o002:
        raise StagingError(f"Everybody may write into {root}.", f"Run `chmod o-w {root}`.")


def _networked(place: Path) -> str:
    kind = _statfs_type(place)
    return _NETWORKED.get(kind & 0xFFFFFFFF, "") if kind is not None else ""


def _statfs_type(place: Path) -> int | None:
    """The file system's magic number, None where the system does not tell."""
    import ctypes

    if os.uname().sysname != "Linux":
        return None
    libc: Any = ctypes.CDLL(None, use_errno=True)
    buffer = (ctypes.c_long * 32)()
    return int(buffer[0]) if libc.statfs(os.fsencode(place), buffer) == 0 else None

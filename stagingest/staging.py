"""Chunk files, whole or not there: writing, settling, sweeping, locks; the only door to Parquet writing."""

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stagingest import disk
from stagingest.errors import HeldError, StagingError
from stagingest.orders import Part

if TYPE_CHECKING:
    import pyarrow as pa

_FOLDERS = ("tmp", "data", "quarantine", "orphans", "log")
_GLOB = set("[]*?")


def prepare(root: Path) -> Path:
    """Make the staging root and its folders (0700) if absent; the resolved root.

    Raises StagingError when the path cannot serve: glob characters (DuckDB would expand them), a symlink, or not
    writable.
    """
    root = root.absolute()
    if _GLOB & set(str(root)):
        raise StagingError(f"The path of staging directory {root} holds one of [ ] * ?.", "Choose another --staging.")
    if root.is_symlink():
        raise StagingError(f"Staging directory {root} is a symbolic link.", "Name the directory itself.")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        for path in (root, *(root / name for name in _FOLDERS)):
            disk.make_folder(path)
    except OSError as error:
        raise StagingError(f"Staging directory {root} cannot be made: {error.strerror}.") from None
    return root


@dataclass(slots=True)
class Lock:
    """A kernel lock on a file of the staging root; it dies with its process."""

    fd: int

    @classmethod
    def take(cls, path: Path, what: str) -> Self:
        """Take the lock within a fraction of a second. Raises HeldError naming the holder.

        The file's text names the holder for that message only; the lock itself is flock's.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def write_part(root: Path, name: str, table: "pa.Table", footer: Mapping[str, str]) -> Part:
    """Write a table into `tmp/<name>.part`, which `begin_part` made, and hash it; not yet durable.

    Args:
        root: the staging root.
        name: unique among all orders (`Order.part`).
        table: rows sorted by key, in the dataset's schema.
        footer: goes into the file's key-value metadata, so that the manifest can be rebuilt from the files.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Through memory: a file object of Python's would be called for every page of every column.
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **_FORMAT, **_columns(table.schema)) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))
        writer.add_key_value_metadata(dict(footer))
    data = sink.getvalue()
    disk.fill(_part(root, name), data)
    return Part(name, data.size, hashlib.sha256(data).hexdigest(), table.num_rows)


def _part(root: Path, name: str) -> Path:
    return root / "tmp" / f"{name}.part"


def begin_part(root: Path, name: str) -> None:
    """Mark that an order has begun: its part, still empty. One left empty tells of a process that died with it."""
    disk.create(_part(root, name))


def drop_part(root: Path, name: str) -> None:
    """The order has ended without a file."""
    disk.remove(_part(root, name))


# Measured by `scripts/bench write` on real prices: dictionaries on everything double the CPU of writing and save
# nothing; lz4 with deltas for stamps and counts is half of zstd-1. DuckDB verifies no page checksums, pyarrow does.
_DICTIONARIES = ("dictionary<values=string, indices=int32, ordered=0>", "date32[day]")
_FORMAT = {"compression": "lz4", "write_page_checksum": True, "store_schema": False}


def _columns(schema: "pa.Schema") -> dict[str, Any]:
    """Dictionaries for text, days and columns that are the same in every row; deltas for stamps and counts;
    statistics, which cost a fifth of the writing, for the columns rows are found by.
    """
    plain = {field.name: str(field.type) for field in schema}
    dictionary = [name for name, kind in plain.items() if kind in _DICTIONARIES or name == "updated_at"]
    deltas = {
        name: "DELTA_BINARY_PACKED"
        for name, kind in plain.items()
        if kind in ("int64", "timestamp[us]") and name not in dictionary
    }
    found_by = [name for name in ("symbol", "contract_symbol", "underlying", "expiry", "ts") if name in plain]
    return {"use_dictionary": dictionary, "column_encoding": deltas, "write_statistics": found_by}


def settle(root: Path, folder: str, parts: Sequence[Part]) -> list[str]:
    """Make parts durable under their final names in `data/<folder>/`; their paths relative to the root.

    Sync, rename, sync the directory: the manifest may name the files once this returns. A failed sync is never tried
    again (the kernel marks the pages clean): StagingError stops the run and the chunks stay open, and so does OSError
    when the disk is full.
    """
    place = root / "data" / folder
    paths = []
    try:
        for path in (place.parent, place):
            disk.make_folder(path)
        disk.sync([_part(root, part.name) for part in parts])
        for part in parts:
            target = place / f"{part.name}.parquet"
            disk.rename(_part(root, part.name), target)
            paths.append(str(target.relative_to(root)))
        disk.sync_folder(place)
    except OSError as error:
        if error.errno in disk.FULL:
            raise
        raise StagingError(
            f"Staged files cannot be made durable in {root}: {error.strerror}.",
            "Nothing staged before is lost; look after the disk and run the same command again.",
        ) from None
    return paths


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: orders that never ended (their chunk ids), and files moved to `orphans/` (their names)."""

    unended: tuple[str, ...]
    moved: tuple[str, ...]


def sweep(root: Path, known: Iterable[str]) -> Swept:
    """Empty `tmp/` and move files of `data/` that no entry names to `orphans/`.

    Only for the holder of run.lock and of workers.lock, exclusively.
    """
    unended, moved = [], []
    for item in os.scandir(root / "tmp"):
        if item.name.endswith(".part") and not item.stat(follow_symlinks=False).st_size:
            unended.append(item.name.partition(".")[0])
        disk.remove(Path(item.path))
    named = set(known)
    for path in (root / "data").rglob("*.parquet"):
        if str(path.relative_to(root)) not in named:
            disk.replace(path, root / "orphans" / path.name)
            moved.append(path.name)
    return Swept(tuple(unended), tuple(moved))


def missing(root: Path, files: Iterable[tuple[int, str, int]]) -> dict[int, str]:
    """Entries whose file is absent or of another length: seq -> reason."""
    sizes: dict[str, int] = {}
    for folder in (root / "data").glob("*/*"):
        prefix = str(folder.relative_to(root))
        sizes.update((f"{prefix}/{item.name}", item.stat().st_size) for item in os.scandir(folder))
    found = {}
    for seq, path, size in files:
        if path not in sizes:
            found[seq] = f"{path} is gone"
        elif sizes[path] != size:
            found[seq] = f"{path} has {sizes[path]} bytes, not {size}"
    return found


def set_aside(root: Path, path: str) -> None:
    """Move a damaged file to `quarantine/`, if it is still there."""
    source = root / path
    if source.exists():
        disk.replace(source, root / "quarantine" / source.name)


def keep_body(root: Path, name: str, body: bytes) -> str:
    """Write a body for a person to look at as `quarantine/<name>.body`; that path."""
    path = f"quarantine/{name}.body"
    with open(os.open(root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(body)
    return path


def publish(root: Path, state: object) -> None:
    """Replace `run.json`, what `status` reads of a living run."""
    path = root / "run.json"
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(state, file)
    os.replace(fresh, path)


def published(root: Path) -> dict[str, Any] | None:
    """What the last run published, or None."""
    try:
        found: dict[str, Any] = json.loads((root / "run.json").read_text())
    except (OSError, ValueError):
        return None
    return found


def is_held(path: Path) -> bool:
    """Whether some process holds the lock exclusively."""
    if not path.exists():
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False

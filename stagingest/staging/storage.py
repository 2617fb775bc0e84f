"""Where the files of a staging directory are: whoever writes, reads, lists or removes one comes through here.

Beside them a root holds what belongs to this machine: the manifest and the ledgers of loads (SQLite), locks, logs.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from stagingest.errors import StagingError
from stagingest.system import disk

PARTS, DATA, QUARANTINE, ORPHANS = FOLDERS = ("tmp", "data", "quarantine", "orphans")
_PART = ".part"


class Storage(Protocol):
    """The files under one root. Paths are relative to it, with slashes; a part has a name until it is published.

    Every method may raise OSError; those that take a path raise StagingError for one that leads out of the root.
    """

    def begin(self, name: str) -> None:
        """Make a part, still empty, that must not exist."""

    def write(self, name: str, data: Any) -> None:
        """Fill a part that was begun; not yet durable."""

    def drop(self, name: str) -> None:
        """Forget a part, if it is there."""

    def begun(self) -> Iterator[tuple[str, int]]:
        """Name and size of every part, begun or written."""

    def publish(self, names: Sequence[str], folder: str) -> list[str]:
        """Make parts durable as `data/FOLDER/NAME.parquet`; their paths, which may be recorded once this returns."""

    def keep(self, path: str, data: bytes) -> None:
        """Write a file that must not exist."""

    def list(self) -> dict[str, int]:
        """Path and size of every published file."""

    def read(self, path: str) -> bytes:
        """The bytes of a file."""

    def address(self, path: str) -> str:
        """What Arrow and SQL are given to read a file."""

    def move(self, path: str, folder: str) -> None:
        """Move a file into `quarantine` or `orphans`, over another of its name."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, those that are there; durable once this returns."""


class LocalStorage:
    """Files in folders of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._safe: set[str] = set()

    def begin(self, name: str) -> None:
        """See Storage."""
        disk.create(self._part(name))

    def write(self, name: str, data: Any) -> None:
        """See Storage."""
        disk.fill(self._part(name), data)

    def drop(self, name: str) -> None:
        """See Storage."""
        disk.remove(self._part(name))

    def begun(self) -> Iterator[tuple[str, int]]:
        """See Storage."""
        with os.scandir(self._root / PARTS) as items:
            for item in items:
                if item.name.endswith(_PART):
                    yield item.name.removesuffix(_PART), item.stat(follow_symlinks=False).st_size

    def publish(self, names: Sequence[str], folder: str) -> list[str]:
        """Sync, rename, sync the folder."""
        place = self._root / DATA / folder
        for path in (place.parent, place):
            disk.make_folder(path)
        disk.sync([self._part(name) for name in names])
        for name in names:
            disk.rename(self._part(name), place / f"{name}.parquet")
        disk.sync_folder(place)
        return [f"{DATA}/{folder}/{name}.parquet" for name in names]

    def keep(self, path: str, data: bytes) -> None:
        """See Storage."""
        place = self._inside(path)
        with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(data)

    def list(self) -> dict[str, int]:
        """See Storage."""
        found: dict[str, int] = {}
        folders = [(self._root / DATA, DATA)]
        while folders:
            folder, prefix = folders.pop()
            with os.scandir(folder) as items:
                for item in items:
                    if item.is_dir(follow_symlinks=False):
                        folders.append((Path(item.path), f"{prefix}/{item.name}"))
                    elif item.name.endswith(".parquet"):
                        found[f"{prefix}/{item.name}"] = item.stat().st_size
        return found

    def read(self, path: str) -> bytes:
        """See Storage."""
        return self._inside(path).read_bytes()

    def address(self, path: str) -> str:
        """See Storage."""
        return str(self._inside(path))

    def move(self, path: str, folder: str) -> None:
        """See Storage."""
        source = self._inside(path)
        disk.replace(source, self._root / folder / source.name)

    def remove(self, paths: Iterable[str]) -> None:
        """See Storage."""
        places = [self._inside(path) for path in paths]
        for place in places:
            disk.remove(place)
        for folder in {place.parent for place in places}:
            disk.sync_folder(folder)

    def _part(self, name: str) -> Path:
        return self._root / PARTS / f"{name}{_PART}"

    def _inside(self, path: str) -> Path:
        """Where a path leads, which somebody else may have written. Raises StagingError when that is elsewhere."""
        folder, _, name = path.rpartition("/")
        if folder not in self._safe:
            plain = all(word not in ("", ".", "..") for word in folder.split("/"))
            if not plain or Path(os.path.realpath(self._root / folder)) != Path(os.path.realpath(self._root)) / folder:
                raise self._outside(path)
            self._safe.add(folder)
        place = self._root / folder / name
        if name in ("", ".", "..") or place.is_symlink():
            raise self._outside(path)
        return place

    def _outside(self, path: str) -> StagingError:
        return StagingError(
            f"The manifest of {self._root} names {path!r:.200}, which leads out of the staging directory.",
            "Whoever wrote that was not this tool: run the same fetch, which takes the entry for lost and asks again.",
        )


@lru_cache(64)
def at(root: Path) -> Storage:
    """The files of a staging directory."""
    return LocalStorage(root)

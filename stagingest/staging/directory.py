"""Chunk files, whole or not there: writing, settling, sweeping."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagingest.errors import StagingError
from stagingest.model.task import PartFile
from stagingest.staging import storage
from stagingest.system import disk

_FOLDERS = (*storage.FOLDERS, "log")
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


def publish_parts(root: Path, folder: str, parts: Sequence[PartFile]) -> list[str]:
    """Make parts durable under their final names in `data/<folder>/`; their paths relative to the root.

    Sync, rename, sync the directory: the manifest may name the files once this returns. A failed sync is never tried
    again (the kernel marks the pages clean): StagingError stops the run and the chunks stay open, and so does OSError
    when the disk is full.
    """
    try:
        return storage.at(root).publish([part.name for part in parts], folder)
    except OSError as error:
        if error.errno in disk.FULL:
            raise
        raise StagingError(
            f"Staged files cannot be made durable in {root}: {error.strerror}.",
            "Nothing staged before is lost; look after the disk and run the same command again.",
        ) from None


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: tasks that never ended (their chunk ids), and files moved to `orphans/` (their names)."""

    unended: tuple[str, ...]
    moved: tuple[str, ...]


def sweep(root: Path, known: Iterable[str]) -> Swept:
    """Empty `tmp/` and move files of `data/` that no entry names to `orphans/`.

    Only for the holder of run.lock and of workers.lock, exclusively.
    """
    files = storage.at(root)
    unended, moved = [], []
    for name, size in list(files.begun()):
        if not size:
            unended.append(name.partition(".")[0])
        files.drop(name)
    for left in (root / storage.PARTS).iterdir():  # what this machine kept there for the run alone
        disk.remove(left)
    for path in strays(root, known):
        files.move(path, storage.ORPHANS)
        moved.append(path.rpartition("/")[2])
    return Swept(tuple(unended), tuple(moved))


def strays(root: Path, known: Iterable[str] = ()) -> list[str]:
    """Paths (relative to the root, sorted) of Parquet files below `data/` that are not among the known ones."""
    return sorted(storage.at(root).list().keys() - set(known))


def missing(root: Path, files: Iterable[tuple[int, str, int]]) -> dict[int, str]:
    """Entries whose file is absent or of another length: seq -> reason."""
    sizes = storage.at(root).list()
    found = {}
    for seq, path, size in files:
        if path not in sizes:
            found[seq] = f"{path} is gone"
        elif sizes[path] != size:
            found[seq] = f"{path} has {sizes[path]} bytes, not {size}"
    return found


def set_aside(root: Path, path: str) -> None:
    """Move a damaged file to `quarantine/`, if it is still there."""
    with suppress(FileNotFoundError):
        storage.at(root).move(path, storage.QUARANTINE)


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

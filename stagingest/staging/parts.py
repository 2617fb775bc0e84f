"""All of a staging directory that a worker may touch: the wall that keeps the manifest out of its reach."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stagingest.model.task import PartFile
from stagingest.staging import storage
from stagingest.system import parquet

if TYPE_CHECKING:
    import pyarrow as pa


def write_part(root: Path, name: str, table: "pa.Table", footer: Mapping[str, str]) -> PartFile:
    """Write a table into `tmp/<name>.part`, which `begin_part` made, and hash it; not yet durable.

    Args:
        root: the staging root.
        name: unique among all tasks (`Task.part`).
        table: rows sorted by key, in the dataset's schema.
        footer: goes into the file's key-value metadata, so that the manifest can be rebuilt from the files.
    """
    data = parquet.parquet(table, footer)
    storage.at(root).write(name, data)
    return PartFile(name, data.size, hashlib.sha256(data).hexdigest(), table.num_rows)


def begin_part(root: Path, name: str) -> None:
    """Mark that a task has begun: its part, still empty. One left empty tells of a process that died with it."""
    storage.at(root).begin(name)


def drop_part(root: Path, name: str) -> None:
    """The task has ended without a file."""
    storage.at(root).drop(name)


def keep_body(root: Path, name: str, body: bytes) -> str:
    """Write a body for a person to look at as `quarantine/<name>.body`; that path."""
    path = f"{storage.QUARANTINE}/{name}.body"
    storage.at(root).keep(path, body)
    return path

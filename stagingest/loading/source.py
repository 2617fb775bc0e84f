"""A staging directory as loading sees it: its entries, and whether a file is the one that was staged."""

import hashlib
from collections.abc import Container, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Self

from stagingest.model.chunk import Chunk
from stagingest.model.datasets import Dataset, dataset
from stagingest.model.task import Entry, Outcome
from stagingest.staging import storage
from stagingest.staging.loads import Loads
from stagingest.staging.manifest import Manifest
from stagingest.targets.batch import StagedEntry

NEVER_LOADED = frozenset({Outcome.SPLIT, Outcome.DEFERRED})
"""Outcomes that are not the last word on a chunk."""
# A long reading would keep the fetch's write-ahead log from shrinking.
_PAGE = 2_000


class Staged:
    """A staging directory as loading sees it; while entered, the caller holds its load.lock.

    Raises StagingError when `root` is no staging directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        with Manifest.read(root) as manifest:
            self.staging_id = manifest.staging_id

    def __enter__(self) -> Self:
        self._loads = Loads(self.root, writable=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loads.close()

    def entries(self, without: Container[tuple[int, str]] = ()) -> Iterator[Entry]:
        """Every entry but those (seq, sha256) in `without`, read by pages: a long reading would keep the fetch's
        write-ahead log from shrinking.
        """
        after = 0
        while page := self._page(after, without):
            yield from page
            after = page[-1].seq

    def _page(self, after: int, without: Container[tuple[int, str]]) -> list[Entry]:
        with Manifest.read(self.root) as manifest:
            return list(islice(manifest.entries(after, without), _PAGE))

    def has_pruned(self) -> bool:
        """Whether files were removed because a target answers for them."""
        with Manifest.read(self.root) as manifest:
            return manifest.has_pruned()

    def open_chunks(self) -> list[Chunk]:
        """What is planned and not answered."""
        with Manifest.read(self.root) as manifest:
            return manifest.open_chunks()

    def complain(self, seq: int, path: str, reason: str) -> None:
        """Note that the file of an entry cannot be loaded."""
        self._loads.complain(seq, path, reason)

    def remember(self, target: str, taken: Iterable[int]) -> None:
        """Replace what is known of a target's ledger."""
        self._loads.remember(target, self.staging_id, taken)


def item_of(staging_id: str, root: Path, entry: Entry) -> StagedEntry:
    """The entry of the staging directory at `root` as a target takes it. Raises StagingError for a path elsewhere."""
    address = storage.at(root.absolute()).address(entry.path) if entry.path else ""
    return StagedEntry(staging_id, address, dataset_of(entry), entry)


def dataset_of(entry: Entry) -> Dataset:
    """What the rows of an entry are."""
    return dataset(entry.chunk.series.endpoint.partition("/")[2])


def is_in(entry: Entry, taken: Container[tuple[int, str]], seqs: Container[int]) -> bool:
    """Whether a ledger has the entry, given its (seq, sha256) and their seqs; one that lost its file since it was taken
    stays taken.
    """
    return (entry.seq, entry.sha256) in taken if entry.path else entry.seq in seqs


def damage(item: StagedEntry) -> str:
    """Why the file of an item cannot be loaded, '' when it is the one the manifest names or there is none.

    DuckDB reads a flipped bit without a word, so size and SHA-256 are compared before it sees the file.
    """
    if not item.file:
        return ""
    try:
        with open(item.file, "rb") as file:
            size = file.seek(0, 2)
            if size != item.entry.bytes:
                return f"has {size} bytes where the manifest says {item.entry.bytes}"
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if digest == item.entry.sha256 else "does not have the SHA-256 that the manifest says"

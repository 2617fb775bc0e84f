"""Removing staged files that a target answers for."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stagingest.errors import TargetError
from stagingest.model.task import Entry, Outcome
from stagingest.providers import catalog
from stagingest.staging import storage
from stagingest.staging.manifest import Manifest
from stagingest.system.locks import Lock
from stagingest.targets import Target

if TYPE_CHECKING:
    from stagingest.targets import TargetOptions


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed: files and their bytes; and what was kept, because the target lacks it, or because later
    fetches need it: listings, and adjusted series, whose first and last sessions tell whether their base has moved.
    """

    files: int
    bytes: int
    not_loaded: int
    needed: int


def prune(staging: str | Path = "staging", *, loaded_in: str | Path, how: "TargetOptions | None" = None) -> Pruned:
    """Remove the staged files that a target's ledger lists; from then on that target answers for them.

    A fetch counts them as known when it is given the target (`db`); any other target lacks them, and `load` says so.
    Listings and adjusted series are kept.

    Args:
        staging: the staging directory.
        loaded_in: a target as in `load`.
        how: as in `load`.

    Raises StagingError when `staging` is no staging directory, HeldError when somebody works in it or has the target,
    TargetError when there is no such target.
    """
    from stagingest.api import target as api_target

    root, target = Path(staging), api_target.target(loaded_in, how)
    Manifest.read(root).close()
    if not target.size_bytes():
        raise TargetError(f"There is no {target.name}.", "Name the one that `load` filled.")
    with Lock.take(root / "run.lock", "pruning"), Lock.take(root / "load.lock", "pruning"):
        with Manifest.write(root) as manifest:
            taken = _settled(root, target, manifest.staging_id)
            staged = [entry for entry in manifest.entries() if entry.outcome is Outcome.STAGED and entry.path]
            loaded = [entry for entry in staged if (entry.seq, entry.sha256) in taken]
            gone = [entry for entry in loaded if not _needed(entry)]
            for entry in gone:
                storage.at(root).address(entry.path)  # whoever wrote the manifest, nothing outside is removed
            # The manifest first: a kill leaves files that belong to nobody, which the next fetch moves aside.
            manifest.prune(entry.seq for entry in gone)
        storage.at(root).remove(entry.path for entry in gone)
    return Pruned(len(gone), sum(entry.bytes for entry in gone), len(staged) - len(loaded), len(loaded) - len(gone))


def _settled(root: Path, target: Target, staging: str) -> frozenset[tuple[int, str]]:
    with closing(target):
        target.open([root])
        target.finish()
        return target.loaded_entries(staging)


def _needed(entry: Entry) -> bool:
    series = entry.chunk.series
    return series.adjusted or catalog.endpoint(series.endpoint).kind.finds_names

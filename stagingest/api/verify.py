"""Whether staged files, manifest, and a target's ledger and tables say the same: every byte is read, nothing mended."""

import shlex
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stagingest.errors import StagingError
from stagingest.loading.source import NEVER_LOADED, damage, dataset_of, is_in, item_of
from stagingest.model.task import Entry, Outcome
from stagingest.staging import directory, storage
from stagingest.staging.manifest import Manifest
from stagingest.system import locks
from stagingest.targets import Target

if TYPE_CHECKING:
    from stagingest.targets import TargetOptions


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What does not agree, and the command that cures it."""

    what: str
    cure: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read, and what does not agree."""

    files: int
    bytes: int
    entries: int
    disagreements: tuple[Disagreement, ...]


def verify(
    staging: str | Path = "staging", to: str | Path | None = None, *, how: "TargetOptions | None" = None
) -> Verified:
    """Read every staged byte, and a target's ledger and tables; name each disagreement and its cure, mend nothing.

    Args:
        staging: the staging directory.
        to: a target as in `load`; None looks at the staging directory alone.
        how: as in `load`.

    Raises StagingError when `staging` is no staging directory, HeldError when another process has the target.
    """
    from stagingest.api import target as api_target

    root, target = Path(staging), None if to is None else api_target.target(to, how)
    with Manifest.read(root) as manifest:
        manifest.check()
        identity, entries = manifest.staging_id, list(manifest.entries())
    here = shlex.quote(str(root))
    found = [*_of_files(root, identity, entries), *_strays(root, entries, here)]
    if target:
        found += _of_target(root, target, identity, entries, here)
    staged = [entry for entry in entries if entry.path]
    return Verified(len(staged), sum(entry.bytes for entry in staged), len(entries), tuple(found))


def _of_files(root: Path, identity: str, entries: list[Entry]) -> Iterator[Disagreement]:
    for entry in entries:
        try:
            why = damage(item_of(identity, root, entry))
        except StagingError as error:
            yield Disagreement(error.message, error.next_step)
            continue
        if why:
            command = shlex.join(["rm", "-f", storage.at(root).address(entry.path)])
            cure = f"remove it ({command}); the same fetch asks for it again"
            yield Disagreement(f"{entry.path} {why}", cure)


def _strays(root: Path, entries: list[Entry], here: str) -> Iterator[Disagreement]:
    if locks.is_held(root / "run.lock"):
        return  # a fetch names its newest files in a moment
    for name in directory.strays(root, (entry.path for entry in entries)):
        yield Disagreement(f"{name} belongs to no entry", f"the next fetch with --staging {here} moves it to orphans")


def _of_target(root: Path, target: Target, identity: str, entries: list[Entry], here: str) -> Iterator[Disagreement]:
    taken, wrong = _read(root, target, identity)
    to = shlex.quote(target.name)
    seqs = {seq for seq, _ in taken}
    final = [entry for entry in entries if entry.outcome not in NEVER_LOADED]
    pruned = [entry for entry in final if entry.outcome is Outcome.PRUNED and entry.seq not in seqs]
    lacking = [entry for entry in final if entry.outcome is not Outcome.PRUNED and not is_in(entry, taken, seqs)]
    if lacking:
        rows = sum(entry.rows for entry in lacking)
        what = f"{len(lacking)} entries with {rows:,} rows are not in {target.name}"
        yield Disagreement(what, f"stagingest load --staging {here} --to {to}")
    past = [entry for entry in pruned if dataset_of(entry).captured]
    if past:
        what = f"{len(past)} captures were pruned and are not in {target.name}"
        yield Disagreement(what, "their moment is over: they are only where they were loaded before")
    if len(pruned) > len(past):
        what = f"{len(pruned) - len(past)} entries were pruned and are not in {target.name}"
        yield Disagreement(what, f"`stagingest load --staging {here} --to {to}` prints the fetches that ask them again")
    strange = seqs - {entry.seq for entry in entries}
    if strange:
        what = f"the ledger of {target.name} has {len(strange)} entries that the manifest does not know"
        yield Disagreement(what, "none is needed: the manifest was rebuilt or restored, and nothing is loaded twice")
    for sentence in wrong:
        yield Disagreement(sentence, f"load into another database: stagingest load --staging {here} --to NEW.duckdb")


def _read(root: Path, target: Target, identity: str) -> tuple[frozenset[tuple[int, str]], list[str]]:
    """The ledger and what is wrong with the tables; of a target that is not there, nothing, and it is not made."""
    if not target.size_bytes():
        return frozenset(), []
    with closing(target):
        target.open([root])
        return target.loaded_entries(identity), list(target.wrong())

"""The manifest of a staging directory, rebuilt from the footers of its files."""

import hashlib
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stagingest.errors import StagingError, StagingestError, UsageError
from stagingest.fetching.commit import is_final
from stagingest.fetching.worker import table as worker_table
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import arrow_schema, check_schema, dataset, widened
from stagingest.model.task import Outcome, PartFile, Task, TaskResult
from stagingest.model.windows import Window
from stagingest.planning.adjusted import has_moved
from stagingest.providers import catalog
from stagingest.staging import directory, storage
from stagingest.staging.loads import Loads
from stagingest.staging.manifest import Commit, Manifest
from stagingest.system import disk
from stagingest.system.locks import Lock
from stagingest.system.sqlite import DamagedError
from stagingest.targets.duckdb.connection import read

_LOCKS = (("run.lock", "repairing"), ("workers.lock", "repairing"), ("load.lock", "repairing"))


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was found and done.

    Args:
        rebuilt: whether the manifest was made anew.
        why: what was wrong with the old one, '' when nothing was.
        files, rows: in the manifest now.
        set_aside: files that belong to no entry, and why, by their path relative to the root.
        gone: files that entries name and that are not there or have another length, and why.
    """

    rebuilt: bool
    why: str
    files: int
    rows: int
    set_aside: Mapping[str, str]
    gone: tuple[str, ...] = ()


def repair(staging: str | Path = "staging") -> Repaired:
    """Rebuild the manifest of a staging directory from its files when it is missing or damaged.

    Entries get numbers that no ledger knows, so that the next load takes every file once more, as an upsert: the tables
    end equal, and nothing is missed. Chunks that ended without a file are not known any more and are asked again.

    Raises:
        StagingError: `staging` is no staging directory, or its manifest or a file was written by a newer version.
        HeldError: somebody works in it.
    """
    root = Path(staging)
    if not (root / storage.DATA).is_dir():
        raise StagingError(f"{root} is no staging directory: it has no data folder.", "Name one with --staging.")
    with ExitStack() as stack:
        for name, what in _LOCKS:
            stack.enter_context(Lock.take(root / name, what))
        try:
            return _checked(root)
        except DamagedError as error:
            return _rebuilt(root, error.message)


def _checked(root: Path) -> Repaired:
    """What a sound manifest says of the files. Raises DamagedError."""
    if not (root / Manifest.file).exists():
        raise DamagedError("The manifest is missing.")
    with Manifest.read(root) as manifest:
        manifest.check()
        files = list(manifest.files())
        rows = sum(entry.rows for entry in manifest.entries())
    stray = dict.fromkeys(
        directory.strays(root, (path for _, path, _ in files)), "no entry names it; the next fetch moves it to orphans"
    )
    return Repaired(False, "", len(files), rows, stray, tuple(directory.missing(root, files).values()))


@dataclass(frozen=True, slots=True)
class _Read:
    """A staged file as its footer tells of it."""

    staging_id: str
    commit: Commit


def _rebuilt(root: Path, why: str) -> Repaired:
    found: dict[str, _Read] = {}
    aside: dict[str, str] = {}
    for path in directory.strays(root):
        try:
            found[path] = _read(root, path)
        except (OSError, ValueError, KeyError, TypeError, UsageError, pa.ArrowException) as error:
            aside[path] = f"it is no file of this tool ({type(error).__name__})"
    identities = [each.staging_id for each in found.values()]
    identity = max(set(identities), key=identities.count, default="")
    for path, each in list(found.items()):
        if each.staging_id != identity:
            aside[path] = f"it belongs to staging directory {each.staging_id}"
            del found[path]
    if not found:
        raise StagingError(f"No file of {root} tells of its chunk: there is nothing to rebuild.", "Fetch anew.")
    commits = sorted(
        (each.commit for each in found.values()),
        key=lambda commit: (commit.asked_at, commit.task.run, commit.task.number),
    )
    written = _written(root, identity, commits)
    _retire(root)
    disk.rename(written, root / Manifest.file)
    disk.sync_folder(root)
    shutil.rmtree(written.parent)
    for path in aside:
        storage.at(root).move(path, storage.ORPHANS)
    rows = sum(commit.result.part.rows for commit in commits if commit.result.part)
    return Repaired(True, why, len(commits), rows, aside)


def _written(root: Path, identity: str, commits: Sequence[Commit]) -> Path:
    """A whole new manifest beside the old one: a kill leaves the old one, none, or the new one, never a part of one."""
    place = root / storage.QUARANTINE / "rebuilt"
    shutil.rmtree(place, ignore_errors=True)
    disk.make_folder(place)
    with Manifest.write(place) as manifest, manifest.transaction():
        manifest.adopt(identity, max(_known_seq(root, identity), int(time.time())))
        for commit in commits:
            manifest.plan([commit.task.chunk], commit.task.run)
        _record(manifest, commits)
    return place / Manifest.file


def _known_seq(root: Path, identity: str) -> int:
    """The greatest number of an entry that a ledger of this directory was seen to hold."""
    try:
        with Loads(root, writable=False) as loads:
            return loads.greatest(identity)
    except StagingError:
        return 0


def _retire(root: Path) -> None:
    """Move the old manifest and its log away."""
    number = 1
    while (root / storage.QUARANTINE / f"{Manifest.file}.{number}").exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        source = root / f"{Manifest.file}{suffix}"
        if source.exists():
            disk.rename(source, root / storage.QUARANTINE / f"{Manifest.file}.{number}{suffix}")


def _record(manifest: Manifest, commits: Iterable[Commit]) -> None:
    """Write the entries; where an adjusted symbol was asked again and read differently, what came before is void."""
    known: dict[tuple[Series, str], dict[date, str]] = {}
    for commit in commits:
        (entry,) = manifest.record([commit])
        seen: dict[str, dict[date, str]] = {}
        for edge in commit.result.edges:
            seen.setdefault(edge.symbol, {})[edge.session] = edge.digest
        series = commit.task.chunk.series
        for symbol, sessions in seen.items():
            before = known.setdefault((series, symbol), {})
            if has_moved(before, sessions, commit.task.chunk.window):
                manifest.void(series, [symbol], entry.seq - 1)
                before.clear()
            before.update(sessions)


def _read(root: Path, path: str) -> _Read:
    """The entry of a file. Raises what a file that is none of ours raises."""
    data = storage.at(root).read(path)
    table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    said = {
        name.decode().removeprefix("stagingest."): text.decode()
        for name, text in pq.read_metadata(pa.BufferReader(data)).metadata.items()
        if name.startswith(b"stagingest.")
    }
    endpoint = catalog.endpoint(said["endpoint"])
    pairs = [text.partition("=") for text in said["params"].split("&")]
    series = Series.of(endpoint.name, {name: value for name, _, value in pairs})
    start, _, end = said["window"].partition("..")
    chunk = Chunk(series, tuple(said["symbols"].split(",")), Window(date.fromisoformat(start), date.fromisoformat(end)))
    if endpoint.kind.momentary:  # its name alone tells it from others of the day
        chunk = replace(chunk, id=Path(path).name.partition(".")[0])
    not_after = datetime.fromisoformat(said["not_after"]) if said.get("not_after") else None
    task = Task(said["run"], int(said["number"]), chunk, not_after, series.adjusted)
    asked_at = datetime.fromisoformat(said["asked_at"])
    kind = dataset(endpoint.dataset)
    check_schema(kind, int(said["schema"]), StagingError)
    schema = arrow_schema(kind)
    table = widened(table, kind, int(said["schema"])).select(schema.names).cast(schema).combine_chunks()
    runs = worker_table.symbol_runs(table.column(kind.symbol))
    part = PartFile(task.part, len(data), hashlib.sha256(data).hexdigest(), table.num_rows)
    edges = worker_table.edges(table, runs) if series.adjusted else ()
    result = TaskResult(
        Outcome.STAGED, asked_at=asked_at, part=part, symbol_rows=worker_table.symbol_rows(runs), edges=edges
    )
    return _Read(said["staging"], Commit(task, result, is_final(task, asked_at), asked_at, int(said["schema"]), path))


def set_aside_wal(db: Path) -> Path:
    """Rename the write-ahead log of a DuckDB file that cannot be replayed; its new path.

    The database is then as at its last checkpoint, rows and ledger alike: the next load loads again what is missing.

    Raises:
        UsageError: there is no such log.
        HeldError: another process has the database.
        TargetError: the database cannot be opened without it either; the log is where it was.
    """
    log = Path(f"{db}.wal")
    if not log.exists():
        raise UsageError(f"{db.name} has no write-ahead log.", "Look at the path after --to.")
    taken = {path.name for path in db.parent.glob(f"{log.name}.damaged*")}
    names = (f"{log.name}.damaged{number or ''}" for number in range(len(taken) + 1))
    kept = log.with_name(next(name for name in names if name not in taken))
    disk.rename(log, kept)
    try:
        read(db, "SELECT 1")
    except StagingestError:
        disk.rename(kept, log)
        raise
    disk.sync_folder(db.parent)
    return kept

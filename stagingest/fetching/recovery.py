"""What a run finds of the runs before it, and settles before it asks anything."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from stagingest.fetching.chunk_queue import CRASHES
from stagingest.fetching.summary import RunCounts
from stagingest.model.chunk import Chunk
from stagingest.model.task import Outcome, Task, TaskResult
from stagingest.providers import catalog
from stagingest.staging import directory
from stagingest.staging import manifest as staging_manifest
from stagingest.staging.loads import read_complaints
from stagingest.staging.manifest import Commit, Manifest
from stagingest.system import locks


def tidy(root: Path, manifest: Manifest) -> None:
    """Compare, never trust: sweep what a killed run left; entries whose file is gone or damaged are due again.

    Raises HeldError while a worker of a killed run still lives.
    """
    with locks.Lock.take(root / "workers.lock", "writing parts"):
        files = list(manifest.files())
        swept = directory.sweep(root, (path for _, path, _ in files))
    staging_manifest.add_interrupted(manifest, swept.unended)
    lost = directory.missing(root, files)
    complaints = read_complaints(root)
    paths = {seq: path for seq, path, _ in files}
    for seq, reason in complaints.items():
        if seq in paths and seq not in lost:
            directory.set_aside(root, paths[seq])
            lost[seq] = reason
    manifest.mark_lost(lost)


def close_stale(manifest: Manifest, chunks: Sequence[Chunk], run: str, now: datetime) -> None:
    """Open chunks that do not ask any more what is wanted are closed: they are planned anew, captures only if asked."""
    commits = []
    for chunk in chunks:
        gone = catalog.endpoint(chunk.series.endpoint).kind.momentary
        why = "its moment is over" if gone else "it is planned anew"
        result = TaskResult(Outcome.LOST, f"the run ended before it; {why}")
        commits.append(Commit(Task(run, 0, chunk), result, False, now, 1))
    manifest.record(commits)


def give_up_killers(
    manifest: Manifest, chunks: Sequence[Chunk], counts: RunCounts, run: str, now: datetime
) -> tuple[Chunk, ...]:
    """The chunks without those that took every worker down that tried them: these are given up by name.

    That whole runs died with a chunk in flight (a kill, a power cut) is not its fault: it is asked alone.
    """
    deaths = staging_manifest.crashes(manifest)
    killers = [chunk for chunk in chunks if deaths.get(chunk.id, 0) >= CRASHES]
    result = TaskResult(Outcome.QUARANTINED, f"its worker died {CRASHES} times")
    manifest.record([Commit(Task(run, 0, chunk), result, True, now, 1) for chunk in killers])
    staging_manifest.clear_crashes(manifest, [chunk.id for chunk in killers])  # whoever asks for them again means it
    counts.add(killers)
    for chunk in killers:
        counts.close(chunk, result, covers=True)
    return tuple(chunk for chunk in chunks if chunk not in killers)

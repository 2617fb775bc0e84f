"""Results become entries, in groups: files made durable first, then the manifest says so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

from stagingest.fetching.summary import RunCounts
from stagingest.model import windows
from stagingest.model.chunk import Chunk, Job, Series, SymbolWindow
from stagingest.model.datasets import dataset
from stagingest.model.task import GOOD, Cost, Entry, Outcome, Task, TaskResult
from stagingest.model.windows import Window
from stagingest.planning import due as planning_due
from stagingest.planning.adjusted import has_moved
from stagingest.planning.discovery import Discoverer, Discovery
from stagingest.providers import catalog
from stagingest.staging import directory
from stagingest.staging import manifest as staging_manifest
from stagingest.staging.manifest import Commit, Manifest

GROUP_CHUNKS = 50
# SIP prices of the last 15 minutes need a paid plan; one minute is left for clocks that differ.
RECENT = timedelta(minutes=16)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run is about: its id, where it stages, its jobs and chunks, and what was known before it began."""

    run: str
    root: Path
    jobs: tuple[Job, ...]
    chunks: tuple[Chunk, ...]
    known: Mapping[Series, Mapping[str, Sequence[Window]]]
    discovery: Discovery | None = None


class Committer:
    """Writes what tasks brought. `flush` returns chunks that turned out to be due as well."""

    def __init__(
        self, context: RunContext, manifest: Manifest, counts: RunCounts, clock: Callable[[], datetime]
    ) -> None:
        self._context = context
        self._manifest = manifest
        self._counts = counts
        self._clock = clock
        self._pending: list[Commit] = []
        self.answered: set[Series] = set()
        self._edges: dict[Series, dict[str, dict[date, str]]] = {}
        self._discoverer = Discoverer(context.discovery, manifest) if context.discovery else None

    @property
    def waiting(self) -> int:
        """Results not yet written."""
        return len(self._pending)

    def close(self, task: Task, result: TaskResult) -> None:
        """The task's chunk has this outcome."""
        commit = self._commit(task, result)
        self._pending.append(commit)
        # A capture covers nothing and is not asked again for that.
        captured = catalog.endpoint(task.chunk.series.endpoint).kind.momentary
        self._counts.close(task.chunk, result, covers=commit.covers or captured)

    def split(self, task: Task, result: TaskResult) -> tuple[Chunk, ...]:
        """Close a chunk of several symbols that was not had whole; the children to ask.

        Symbols that are named, as refused or in conflict, are closed one by one and the rest is asked again; without a
        name, its halves.
        """
        chunk = task.chunk
        bad = tuple(symbol for symbol in chunk.symbols if symbol in result.bad)
        named = tuple(chunk.of((symbol,)) for symbol in bad)
        rest = tuple(symbol for symbol in chunk.symbols if symbol not in bad)
        again = chunk.halves() if not bad else (chunk.of(rest),) if rest else ()
        children = (*named, *again)
        self._pending.append(self._commit(task, replace(result, outcome=Outcome.SPLIT), children))
        self._counts.split(children)
        for child in named:
            self.close(replace(task, chunk=child), replace(result, cost=Cost()))
        return again

    def _commit(self, task: Task, result: TaskResult, children: tuple[Chunk, ...] = ()) -> Commit:
        chunk = task.chunk
        endpoint = catalog.endpoint(chunk.series.endpoint)
        asked_at = result.asked_at or self._clock()
        covers = result.outcome in GOOD and is_final(task, asked_at)
        if result.outcome is Outcome.REFUSED:
            # A refusal that names nobody may be about the question, unless others of the series were answered.
            covers = bool(result.bad) or chunk.series in self.answered
        covers = covers or result.outcome is Outcome.QUARANTINED
        return Commit(task, result, covers, asked_at, dataset(endpoint.dataset).schema, children=children)

    def flush(self) -> list[Chunk]:
        """Make finished files durable, record the group, look at price bases; chunks that are due because of those.

        Raises StagingError when files cannot be made durable, OSError when the disk is full: their chunks stay open.
        """
        commits, self._pending = self._pending, []
        folders: dict[str, list[int]] = {}
        for index, commit in enumerate(commits):
            if commit.result.part is not None:
                endpoint = catalog.endpoint(commit.task.chunk.series.endpoint)
                folders.setdefault(f"{endpoint.provider}/{endpoint.dataset}", []).append(index)
        for folder, indices in folders.items():
            parts = [part for index in indices if (part := commits[index].result.part) is not None]
            for index, path in zip(indices, directory.publish_parts(self._context.root, folder, parts), strict=True):
                commits[index] = replace(commits[index], path=path)
        if not commits:
            return []
        due: list[Chunk] = []
        # One transaction: a kill in between would leave entries that claim a base which has moved.
        with self._manifest.transaction():
            settled = (
                commit.task.chunk.id for commit in commits if commit.result.outcome in (*GOOD, Outcome.QUARANTINED)
            )
            staging_manifest.clear_crashes(self._manifest, list(settled))
            entries = self._manifest.record(commits)
            for entry, commit in zip(entries, commits, strict=True):
                if commit.task.adjusted:
                    due += self._compare(entry, commit)
            if self._discoverer:
                due += self._plan(self._discoverer.follow(entries))
        return due

    def _plan(self, jobs: Sequence[Job]) -> list[Chunk]:
        """Chunks of jobs of which nothing is known."""
        endpoints = [catalog.endpoint(job.series.endpoint) for job in jobs]
        cuts = [endpoint.cut(job.series) for job, endpoint in zip(jobs, endpoints, strict=True)]
        chunks = [
            chunk for job, cut in zip(jobs, cuts, strict=True) for chunk in planning_due.due(job, cut, date.max, {})
        ]
        self._manifest.plan(chunks, self._context.run)
        self._counts.add(chunks)
        return chunks

    def _compare(self, entry: Entry, commit: Commit) -> list[Chunk]:
        """An adjusted series whose known session reads differently has a new price base: fetch the symbol whole."""
        series = entry.chunk.series
        known = self._edges.get(series)
        if known is None:
            known = self._edges[series] = self._manifest.edges(series, before=entry.seq)
        seen: dict[str, dict[date, str]] = {}
        for edge in commit.result.edges:
            seen.setdefault(edge.symbol, {})[edge.session] = edge.digest
        window = entry.chunk.window
        asked = commit.result.outcome in GOOD
        moved = {
            symbol
            for symbol in entry.chunk.symbols
            if asked and has_moved(known.get(symbol, {}), seen.get(symbol, {}), window)
        } - self._counts.refetched
        for symbol in moved:
            known.pop(symbol)
        for symbol, sessions in seen.items():
            known.setdefault(symbol, {}).update(sessions)
        return self._refetch(series, sorted(moved), entry) if moved else []

    def _refetch(self, series: Series, symbols: Sequence[str], entry: Entry) -> list[Chunk]:
        self._manifest.void(series, symbols, entry.seq - 1)
        self._counts.refetched.update(symbols)
        endpoint = catalog.endpoint(series.endpoint)
        asked = tuple(SymbolWindow((symbol,), window) for symbol in symbols for window in self._whole(entry, symbol))
        coverage = self._manifest.coverage(series)
        chunks = planning_due.due(
            Job(series, asked),
            endpoint.cut(series),
            endpoint.final_before(series, self._clock()),
            {symbol: coverage.get(symbol, []) for symbol in symbols},
            self._manifest.open_chunks(series),
        )
        self._manifest.plan(chunks, self._context.run)
        self._counts.add(chunks)
        return chunks

    def _whole(self, entry: Entry, symbol: str) -> list[Window]:
        """Everything that was covered or is asked of a symbol."""
        series = entry.chunk.series
        before = self._context.known.get(series, {}).get(symbol, ())
        jobs = (asked for job in self._context.jobs if job.series == series for asked in job.asked)
        now = (asked.window for asked in jobs if symbol in asked.symbols)
        return windows.merged([*before, *now, entry.chunk.window])


def is_final(task: Task, asked_at: datetime) -> bool:
    """Whether what was answered at `asked_at` does not change any more."""
    chunk = task.chunk
    # Nothing after `not_after` was asked, however late the answer came (a laptop asleep, a long pause).
    until = asked_at if task.not_after is None else min(asked_at, task.not_after + RECENT)
    return chunk.window.end <= catalog.endpoint(chunk.series.endpoint).final_before(chunk.series, until)

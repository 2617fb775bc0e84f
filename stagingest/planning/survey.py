"""What a fetch would ask: the question put to catalog and manifest; writes nothing."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType

from stagingest.model import calendar
from stagingest.model.chunk import Chunk, Coverage, Cut, Job, Series
from stagingest.model.task import Failure
from stagingest.model.windows import Window
from stagingest.planning import due as planning_due
from stagingest.planning.adjusted import Anchors
from stagingest.planning.due import Estimate, SampleLimits
from stagingest.providers import catalog
from stagingest.staging import manifest as staging_manifest
from stagingest.staging.loads import read_complaints
from stagingest.staging.manifest import Manifest

NO_CAPS: Mapping[str, float] = MappingProxyType({})
Elsewhere = Mapping[str, Mapping[str, Sequence[Window]]]
"""Id of a series -> symbol -> windows that a target holds."""
NOWHERE: Elsewhere = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fetch would ask.

    Args:
        chunks: new ones. resumed: open ones of earlier runs. stale: open ones that do not ask it any more.
        estimates: per budget. symbols: asked. covered: of those, with nothing left to ask.
        known: covered windows per series and symbol before the run. given_up: refused and quarantined before.
        held_back: symbols that are due and left for another run, because this one asks a few.
    """

    jobs: tuple[Job, ...]
    chunks: tuple[Chunk, ...]
    resumed: tuple[Chunk, ...]
    stale: tuple[Chunk, ...]
    estimates: Mapping[str, Estimate]
    symbols: int
    covered: int
    known: Mapping[Series, Mapping[str, Sequence[Window]]] = field(default_factory=dict)
    given_up: tuple[Failure, ...] = ()
    held_back: int = 0

    @property
    def all_chunks(self) -> tuple[Chunk, ...]:
        """Everything the run would fetch."""
        return self.resumed + self.chunks


@dataclass(frozen=True, slots=True)
class _Due:
    """The answer for one job."""

    fresh: list[Chunk]
    live: list[Chunk]
    stale: list[Chunk]
    cost: Estimate
    known: Mapping[str, Sequence[Window]]


def survey(
    jobs: Sequence[Job],
    manifest: Manifest | None,
    now: datetime,
    few: SampleLimits = SampleLimits(),
    *,
    resume: bool = True,
    max_rps: Mapping[str, float] = NO_CAPS,
    elsewhere: Elsewhere = NOWHERE,
) -> Plan:
    """What is due for `jobs`: a question; writes nothing.

    Args:
        jobs: one per series.
        manifest: the staging root's record, None when there is none yet.
        now: decides what is final.
        few: of how much is asked.
        resume: False ignores all coverage.
        max_rps: endpoint -> the rate the user declared; without it, the provider's lowest plan.
        elsewhere: what a target holds.
    """
    jobs = _in_turn(jobs, manifest)
    complaints = frozenset(read_complaints(manifest.root, unseen=manifest.unseen)) if manifest else frozenset[int]()
    counted = complaints if resume else None
    elsewhere = elsewhere if resume else NOWHERE
    found = [_due(job, manifest, now, counted, max_rps, elsewhere) for job in jobs]
    held_back = 0
    if few:
        wanting = [symbol for due in found for chunk in (*due.live, *due.fresh) for symbol in chunk.symbols]
        chosen = few.of(wanting)
        held_back = len(set(wanting) - chosen)
        jobs = [_only(job, chosen) for job in jobs]
        found = [_due(job, manifest, now, counted, max_rps, elsewhere, chosen) for job in jobs]
    estimates: dict[str, Estimate] = {}
    for job, due in zip(jobs, found, strict=True):
        budget = catalog.endpoint(job.series.endpoint).budget
        estimates[budget] = estimates.get(budget, Estimate()) + due.cost
    left = {symbol for due in found for chunk in (*due.live, *due.fresh) for symbol in chunk.symbols}
    asked = left.union(symbol for job in jobs for symbol in job.symbols)
    return Plan(
        tuple(jobs),
        tuple(chunk for due in found for chunk in due.fresh),
        tuple(chunk for due in found for chunk in due.live),
        (*(chunk for due in found for chunk in due.stale), *(left_open(manifest) if manifest else ())),
        estimates,
        len(asked),
        len(asked - left),
        {job.series: due.known for job, due in zip(jobs, found, strict=True)},
        tuple(failure for job in jobs for failure in _given_up(job, manifest, left)) if resume else (),
        held_back,
    )


def _in_turn(jobs: Sequence[Job], manifest: Manifest | None) -> list[Job]:
    """Captures so that a run which ends early is fair: who was asked longest ago, or never, comes first."""
    if not manifest or not all(catalog.endpoint(job.series.endpoint).kind.momentary for job in jobs):
        return list(jobs)
    last = {job.series.endpoint: staging_manifest.asked_last(manifest, job.series.endpoint) for job in jobs}

    def turn(job: Job, symbols: Iterable[str]) -> list[str]:
        return sorted(symbols, key=lambda symbol: last[job.series.endpoint].get(symbol, ""))

    turned = [
        Job(job.series, tuple(replace(a, symbols=tuple(turn(job, a.symbols))) for a in job.asked)) for job in jobs
    ]
    return sorted(turned, key=lambda job: min((last[job.series.endpoint].get(s, "") for s in job.symbols), default=""))


def _only(job: Job, symbols: frozenset[str]) -> Job:
    """The job without other symbols."""
    asked = (replace(each, symbols=tuple(s for s in each.symbols if s in symbols)) for each in job.asked)
    return Job(job.series, tuple(each for each in asked if each.symbols))


def _given_up(job: Job, manifest: Manifest | None, left: Container[str]) -> list[Failure]:
    """Symbols of the job that count as covered though nothing was had: they are named in every run.

    A capture is given up for a day: the next day it is among what is `left` to ask.
    """
    held = staging_manifest.given_up_by_symbol(manifest, job.series) if manifest else {}
    if catalog.endpoint(job.series.endpoint).kind.momentary:
        held = {symbol: why for symbol, why in held.items() if symbol not in left}
    return [
        Failure(symbol, held[symbol][0], f"{held[symbol][1]} (an earlier run; `stagingest retry` makes it due)")
        for symbol in job.symbols
        if symbol in held
    ]


def _due(
    job: Job,
    manifest: Manifest | None,
    now: datetime,
    complaints: frozenset[int] | None,
    max_rps: Mapping[str, float],
    elsewhere: Elsewhere,
    chosen: frozenset[str] | None = None,
) -> _Due:
    """One job's answer; without `complaints` (entries that do not count) nothing is covered.

    Open chunks with symbols that are not `chosen` stay open and are not asked in this run.
    """
    endpoint = catalog.endpoint(job.series.endpoint)
    cut = endpoint.cut(job.series)
    if endpoint.kind.momentary:
        return _capture(job, manifest, now, cut, resume=complaints is not None)
    live: list[Chunk] = []
    stale: list[Chunk] = []
    wanted = _wanted(job)
    for chunk in manifest.open_chunks(job.series) if manifest else ():
        if (chosen is not None and not chosen.issuperset(chunk.symbols)) or not _asks(wanted, chunk):
            continue  # it stays open for who asks it
        (live if _may_wait(chunk, endpoint.kind, job) else stale).append(chunk)
    known = manifest.coverage(job.series, complaints) if manifest and complaints is not None else {}
    if not job.series.adjusted:  # a target does not say at which price base it holds an adjusted one
        for symbol, windows in elsewhere.get(job.series.id, {}).items():
            known.setdefault(symbol, []).extend(windows)
    if job.overlap_days:
        midnight = calendar.instant(calendar.new_york(now).date())
        today = manifest.coverage(job.series, complaints or frozenset(), midnight) if manifest else {}
        known = planning_due.reopened(known, job.overlap_days, today)
    anchors = None
    if job.series.adjusted and manifest:
        anchors = Anchors({symbol: sorted(days) for symbol, days in manifest.edges(job.series).items()})
    in_flight = planning_due.in_flight(max_rps.get(endpoint.name) or catalog.hosts()[endpoint.budget].lowest_plan_per_s)
    final = endpoint.final_before(job.series, now)
    fresh = planning_due.due(job, cut, final, known, live, anchors, in_flight)
    return _Due(fresh, live, stale, planning_due.estimate([*live, *fresh], cut), known)


def _capture(job: Job, manifest: Manifest | None, now: datetime, cut: Cut, *, resume: bool) -> _Due:
    """A moment is always due, but for what was refused today."""
    known = manifest.coverage(job.series) if manifest and resume else {}
    fresh = [chunk.at(now) for chunk in planning_due.due(job, cut, date.min, known)]
    return _Due(fresh, [], [], planning_due.estimate(fresh, cut), known)


def _wanted(job: Job) -> dict[str, list[Window]]:
    """The windows that a job asks of each symbol."""
    found: dict[str, list[Window]] = {}
    for asked in job.asked:
        for symbol in asked.symbols:
            found.setdefault(symbol, []).append(asked.window)
    return found


def _asks(wanted: Mapping[str, Sequence[Window]], chunk: Chunk) -> bool:
    """Whether all symbols of a chunk are wanted, in its window or a part of it."""
    start, end = chunk.window.start, chunk.window.end
    return all(any(each.start < end and start < each.end for each in wanted.get(s, ())) for s in chunk.symbols)


def _may_wait(chunk: Chunk, kind: Coverage, job: Job) -> bool:
    """Whether a chunk that an earlier run left open still asks what is wanted.

    A listing is about the day it was planned for. A chunk of an adjusted series was cut without the session that would
    show a moved base: it is planned anew, with it.
    """
    if kind.has_days:
        return not chunk.series.adjusted
    return any(asked.window == chunk.window for asked in job.asked)


def look(
    jobs: Sequence[Job],
    root: Path,
    now: datetime,
    few: SampleLimits = SampleLimits(),
    *,
    resume: bool = True,
    max_rps: Mapping[str, float] = NO_CAPS,
    elsewhere: Elsewhere = NOWHERE,
) -> Plan:
    """`survey` for `plan` and `--dry-run`: reads the manifest if there is one; no lock, no file, no request."""
    if not (root / Manifest.file).exists():
        return survey(jobs, None, now, few, resume=resume, max_rps=max_rps, elsewhere=elsewhere)
    with Manifest.read(root, unseen=True) as manifest:
        return survey(jobs, manifest, now, few, resume=resume, max_rps=max_rps, elsewhere=elsewhere)


def left_open(manifest: Manifest) -> list[Chunk]:
    """Captures that were planned and not had: their moment is over, so that no run completes them."""
    known = manifest.known_series().values()
    captured = (series for series in known if catalog.endpoint(series.endpoint).kind.momentary)
    return [chunk for series in captured for chunk in manifest.open_chunks(series)]

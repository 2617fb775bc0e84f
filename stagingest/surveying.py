"""What a fetch would ask: the question put to catalog, manifest and target; writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from stagingest import catalog, planning, settings
from stagingest.loads import read_loads
from stagingest.manifest import Manifest
from stagingest.model import Chunk, Job, Kind, Series, Window
from stagingest.planning import Anchors, Estimate

Coverage = Mapping[Series, Mapping[str, Sequence[Window]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fetch would ask.

    Args:
        chunks: new ones. resumed: open ones of earlier runs. stale: open listings whose day has passed.
        estimates: per budget. symbols: asked. covered: of those, with nothing left to ask.
        known: covered windows per series and symbol before the run.
    """

    jobs: tuple[Job, ...]
    chunks: tuple[Chunk, ...]
    resumed: tuple[Chunk, ...]
    stale: tuple[Chunk, ...]
    estimates: Mapping[str, Estimate]
    symbols: int
    covered: int
    known: Coverage = field(default_factory=dict)

    @property
    def all_chunks(self) -> tuple[Chunk, ...]:
        """Everything the run would fetch."""
        return self.resumed + self.chunks


def survey(
    jobs: Sequence[Job],
    manifest: Manifest | None,
    now: datetime,
    *,
    resume: bool = True,
    target: Coverage | None = None,
    max_rps: float | None = None,
) -> Plan:
    """What is due for `jobs`: a question; writes nothing.

    Args:
        jobs: one per series.
        manifest: the staging root's record, None when there is none yet.
        now: decides what is final.
        resume: False ignores all coverage.
        target: coverage read from a target, added to the manifest's.
        max_rps: the rate the user declared, None for the provider's lowest plan.
    """
    chunks: list[Chunk] = []
    opened: list[Chunk] = []
    stale: list[Chunk] = []
    estimates: dict[str, Estimate] = {}
    known: dict[Series, Mapping[str, Sequence[Window]]] = {}
    due_symbols: set[str] = set()
    complaints = frozenset(read_loads(manifest.root)[0]) if manifest else frozenset[int]()
    for job in jobs:
        endpoint = catalog.endpoint(job.series.endpoint)
        cut = endpoint.cut(job.series)
        held = manifest.open_chunks(job.series) if manifest else []
        live = [chunk for chunk in held if endpoint.kind is Kind.HISTORY or _is_asked(chunk, job)]
        covered: dict[str, list[Window]] = {}
        if resume and manifest:
            covered = manifest.coverage(job.series, complaints)
        for symbol, windows in ((target or {}).get(job.series) or {}).items():
            covered.setdefault(symbol, []).extend(windows)
        known[job.series] = covered
        anchors = None
        if job.series.adjusted and manifest:
            anchors = Anchors({symbol: sorted(days) for symbol, days in manifest.edges(job.series).items()})
        rate_per_s = max_rps or settings.BUDGETS[endpoint.budget].lowest_plan_per_s
        final = endpoint.final_before(job.series, now)
        fresh = planning.due(job, cut, final, covered, live, anchors, settings.in_flight(rate_per_s))
        chunks += fresh
        opened += live
        stale += [chunk for chunk in held if chunk not in live]
        cost = planning.estimate([*live, *fresh], cut)
        estimates[endpoint.budget] = estimates.get(endpoint.budget, Estimate()) + cost
        due_symbols.update(symbol for chunk in (*live, *fresh) for symbol in chunk.symbols)
    asked = {symbol for job in jobs for symbol in job.symbols}
    return Plan(
        tuple(jobs), tuple(chunks), tuple(opened), tuple(stale), estimates, len(asked), len(asked - due_symbols), known
    )  # fmt: skip


def _is_asked(chunk: Chunk, job: Job) -> bool:
    """A listing is only worth asking about the day it was planned for."""
    return any(asked.window == chunk.window for asked in job.asked)


def look(jobs: Sequence[Job], root: Path, now: datetime, *, resume: bool = True, max_rps: float | None = None) -> Plan:
    """`survey` for `plan` and `--dry-run`: reads the manifest if there is one; no lock, no file, no request."""
    if not (root / Manifest.file).exists():
        return survey(jobs, None, now, resume=resume, max_rps=max_rps)
    with Manifest.read(root) as manifest:
        return survey(jobs, manifest, now, resume=resume, max_rps=max_rps)

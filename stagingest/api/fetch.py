"""The public functions that move data, which the commands call too: plan, fetch, load, status.

Each imports its phase when it is called: imports are half of a short command's time.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from stagingest.errors import Exit, UsageError
from stagingest.planning.fetch_options import FetchOptions
from stagingest.system import platform

if TYPE_CHECKING:
    from stagingest.fetching.run import MakeExecutor
    from stagingest.fetching.summary import FetchSummary
    from stagingest.fetching.supervisor import Listener
    from stagingest.planning.request import Query, ResolvedQuery
    from stagingest.planning.survey import Elsewhere, Plan


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What a plan found: the question as read, the answer, and the cost of a discovery that must come first."""

    question: "ResolvedQuery"
    plan: "Plan"
    discovery: "Plan | None"
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch did, and what became of the names given."""

    question: "ResolvedQuery"
    summary: "FetchSummary"

    @property
    def exit_code(self) -> int:
        """As the command's; a rejected name makes it 3 where it would be 0."""
        return self.summary.exit_code or (Exit.INCOMPLETE if self.question.names.rejected else Exit.OK)


def plan(
    dataset: str,
    *,
    staging: str | Path = "staging",
    db: str | Path | None = None,
    resume: bool = True,
    max_rps: float | Mapping[str, float] | None = None,
    clock: Callable[[], datetime] = platform.utc_now,
    **asked: Unpack[FetchOptions],
) -> PlanReport:
    """What `fetch` with the same arguments would ask. Asks nothing, writes nothing, takes no lock.

    Raises UsageError for a wrong argument, with the nearest valid value.
    """
    from stagingest.api import known
    from stagingest.planning import jobs, request, survey

    root, now = Path(staging), clock()
    query = known.named(request.query(dataset, asked), db, now)
    found = replace(known.known(query, root, db, now), unseen=True)
    question = jobs.question(query, found, now)
    if missing := known.without_close(query, found):
        note = f"The closes of {', '.join(missing)} are not known: bars of stocks are asked first, about 1 request."
        question = replace(question, notes=(*question.notes, note))
    looked = survey.look(
        question.jobs, root, now, query.few, resume=resume, max_rps=jobs.rates(max_rps, question),
        elsewhere=_elsewhere(db, question),
    )  # fmt: skip
    discovery = survey.look(question.discovery, root, now) if question.discovery else None
    return PlanReport(question, looked, discovery, platform.free_bytes(root))


def fetch(
    dataset: str,
    *,
    staging: str | Path = "staging",
    db: str | Path | None = None,
    max_rps: float | Mapping[str, float] | None = None,
    processes: int | None = None,
    lanes: int | Mapping[str, int] | None = None,
    realtime: bool = False,
    resume: bool = True,
    gzip: bool = True,
    max_requests: int | None = None,
    max_chunks: int | None = None,
    max_minutes: float | None = None,
    fail_fast: bool = False,
    log_rate_limits: bool = False,
    executor: "MakeExecutor | None" = None,
    environ: Mapping[str, str] | None = None,
    listener: "Listener | None" = None,
    clock: Callable[[], datetime] = platform.utc_now,
    **asked: Unpack[FetchOptions],
) -> Fetched:
    """Ask a provider for what is missing and stage it, one Parquet file a chunk, under the manifest of `staging`.

    Args:
        dataset: `stock-bars`, `option-contracts`, `option-bars`, `option-snapshots` (the chains as they are now: always
            asked, each whole or not at all), or with a provider, `alpaca/stock-bars`.
        staging: the staging directory, made if absent.
        db: a DuckDB file; what it holds is not asked, and its contracts are known.
        max_rps: most requests a second, of this endpoint or by endpoint; None leaves it to the provider's limit.
        processes: worker processes, None for one per core (none for a small job), 0 for this process.
        lanes: requests in flight per process, of this endpoint or by endpoint; None follows rate and latency.
        realtime: ask up to now; otherwise 16 minutes ago, as free plans require.
        resume: False ignores what is staged and stages anew.
        gzip: ask compressed bodies.
        max_requests, max_chunks, max_minutes: where the run ends by itself, with what it has; the same call continues.
        log_rate_limits: have the listener told every second what the limiter does.
        fail_fast: end at the first chunk that is neither staged nor empty.
        executor: makes where tasks run instead of worker processes, see `stagingest.fetching.pool.executor`.
        environ: keys and base URLs; os.environ by default.
        listener: told how it goes.
        clock: the time, UTC.
        asked: see `FetchOptions`.

    Raises:
        UsageError: a wrong argument, with the nearest valid value.
        CredentialsError: a key is missing.
        HeldError: another fetch holds `staging`.
        StagingError: `staging` cannot be used, or its disk is full.
    """
    from stagingest.api import known
    from stagingest.fetching import run
    from stagingest.fetching.run_limits import RunLimits
    from stagingest.fetching.summary import Silent
    from stagingest.planning import jobs, request
    from stagingest.providers import catalog

    root, now = Path(staging), clock()
    query = known.named(request.query(dataset, asked), db, now)
    found = known.known(query, root, db, now)
    note = ""
    if missing := known.without_close(query, found):
        note = _fetch_closes(query, missing, staging, environ, listener, clock)
        found = known.known(query, root, db, now)
    question = jobs.question(query, found, now)
    question = replace(question, notes=(*question.notes, note)) if note else question
    if question.discovery:
        first = question.discovery[0]
        command = f"stagingest fetch {catalog.shortest(first.series.endpoint)} --underlyings {','.join(first.symbols)}"
        raise UsageError(question.notes[-1], f"Run `{command}` first.")
    options = run.Options(
        root, os.environ if environ is None else environ, processes, jobs.lanes(lanes, question),
        jobs.rates(max_rps, question), realtime, resume, gzip,
        RunLimits(max_requests, max_chunks, max_minutes, fail_fast),
        query.few, log_rate_limits, _elsewhere(db, question), question.sweep,
        executor,
    )  # fmt: skip
    return Fetched(question, run.fetch(question.jobs, options, listener or Silent(), clock))


def _fetch_closes(
    query: "Query",
    symbols: list[str],
    staging: str | Path,
    environ: Mapping[str, str] | None,
    listener: "Listener | None",
    clock: Callable[[], datetime],
) -> str:
    """Stage the last days' bars of these stocks, which the same directory keeps; what that took."""
    start = (clock() - timedelta(days=8)).date()
    done = fetch(
        "stock-bars", staging=staging, environ=environ, listener=listener, clock=clock, processes=0,
        symbols=symbols, provider=query.endpoint.provider, start=start,
    )  # fmt: skip
    return f"The closes of {', '.join(symbols)} were asked first: {done.summary.requests} requests."


def _elsewhere(db: str | Path | None, question: "ResolvedQuery") -> "Elsewhere":
    """What a database covers of what is asked; read once, closed at once."""
    if db is None or not Path(db).exists():
        return {}
    from stagingest.targets.duckdb.read import coverage

    return coverage(Path(db), [job.series.id for job in question.jobs])

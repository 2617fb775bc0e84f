"""The public functions that move data, which the commands call too: plan, fetch, load, status.

Each imports its phase when it is called: imports are half of a short command's time.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from stagingest import settings
from stagingest.askable import Asked
from stagingest.errors import UsageError

if TYPE_CHECKING:
    from stagingest.destination import How
    from stagingest.loaded import LoadSummary
    from stagingest.loading import Listener as LoadListener
    from stagingest.standing import Standing
    from stagingest.supervising import Listener
    from stagingest.surveying import Elsewhere, Plan
    from stagingest.tally import FetchSummary
    from stagingest.wanting import Question


@dataclass(frozen=True, slots=True)
class Looked:
    """What a plan found: the question as read, the answer, and the cost of a discovery that must come first."""

    question: "Question"
    plan: "Plan"
    discovery: "Plan | None"
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch did, and what became of the names given."""

    question: "Question"
    summary: "FetchSummary"

    @property
    def exit_code(self) -> int:
        """As the command's; a rejected name makes it 3 where it would be 0."""
        return self.summary.exit_code or (3 if self.question.names.rejected else 0)


def plan(
    dataset: str,
    *,
    staging: str | Path = "staging",
    db: str | Path | None = None,
    resume: bool = True,
    max_rps: float | Mapping[str, float] | None = None,
    clock: Callable[[], datetime] = settings.utc_now,
    **asked: Unpack[Asked],
) -> Looked:
    """What `fetch` with the same arguments would ask. Asks nothing, writes nothing, takes no lock.

    Raises UsageError for a wrong argument, with the nearest valid value.
    """
    from stagingest import asking, bounds, known, surveying, wanting

    root, now = Path(staging), clock()
    asked = known.named(dataset, db, asked, now)
    found = replace(known.known(dataset, root, db, asked, now), unseen=True)
    question = asking.question(wanting.wanted(dataset, asked), found, now)
    if missing := known.without_close(asked, found):
        note = f"The closes of {', '.join(missing)} are not known: bars of stocks are asked first, about 1 request."
        question = replace(question, notes=(*question.notes, note))
    few = bounds.few(question, **_bounded(asked))
    looked = surveying.look(
        question.jobs, root, now, few, resume=resume, max_rps=bounds.rates(max_rps, question),
        elsewhere=_elsewhere(db, question),
    )  # fmt: skip
    discovery = surveying.look(question.discovery, root, now) if question.discovery else None
    return Looked(question, looked, discovery, settings.free_bytes(root))


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
    environ: Mapping[str, str] | None = None,
    listener: "Listener | None" = None,
    clock: Callable[[], datetime] = settings.utc_now,
    **asked: Unpack[Asked],
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
        environ: keys and base URLs; os.environ by default.
        listener: told how it goes.
        clock: the time, UTC.
        asked: see Asked.

    Raises:
        UsageError: a wrong argument, with the nearest valid value.
        CredentialsError: a key is missing.
        HeldError: another fetch holds `staging`.
        StagingError: `staging` cannot be used, or its disk is full.
    """
    from stagingest import asking, bounds, catalog, fetching, known, wanting
    from stagingest.flights import Caps
    from stagingest.tally import Silent

    root, now = Path(staging), clock()
    asked = known.named(dataset, db, asked, now)
    found = known.known(dataset, root, db, asked, now)
    note = ""
    if missing := known.without_close(asked, found):
        note = _fetch_closes(dataset, missing, staging, environ, listener, clock, asked)
        found = known.known(dataset, root, db, asked, now)
    question = asking.question(wanting.wanted(dataset, asked), found, now)
    question = replace(question, notes=(*question.notes, note)) if note else question
    if question.discovery:
        first = question.discovery[0]
        command = f"stagingest fetch {catalog.shortest(first.series.endpoint)} --underlyings {','.join(first.symbols)}"
        raise UsageError(question.notes[-1], f"Run `{command}` first.")
    options = fetching.Options(
        root, os.environ if environ is None else environ, processes, bounds.lanes(lanes, question),
        bounds.rates(max_rps, question), realtime, resume, gzip, Caps(max_requests, max_minutes, fail_fast), max_chunks,
        bounds.few(question, **_bounded(asked)), log_rate_limits, _elsewhere(db, question), question.sweep,
    )  # fmt: skip
    return Fetched(question, fetching.fetch(question.jobs, options, listener or Silent(), clock))


def _fetch_closes(
    dataset: str,
    symbols: list[str],
    staging: str | Path,
    environ: Mapping[str, str] | None,
    listener: "Listener | None",
    clock: Callable[[], datetime],
    asked: Asked,
) -> str:
    """Stage the last days' bars of these stocks, which the same directory keeps; what that took."""
    provider = dataset.partition("/")[0] if "/" in dataset else asked.get("provider")
    start = (clock() - timedelta(days=8)).date()
    done = fetch(
        "stock-bars", staging=staging, environ=environ, listener=listener, clock=clock, processes=0,
        symbols=symbols, provider=provider, start=start,
    )  # fmt: skip
    return f"The closes of {', '.join(symbols)} were asked first: {done.summary.requests} requests."


def load(
    staging: str | Path | Iterable[str | Path] = "staging",
    to: str | Path = "market.duckdb",
    *,
    batch_rows: int = 1_500_000,
    adopt: bool = False,
    follow: bool = False,
    how: "How | None" = None,
    listener: "LoadListener | None" = None,
) -> "LoadSummary":
    """Move what is staged and not yet in the ledger of a target into it; exactly once, however often it is run.

    Args:
        staging: staging directories; where they disagree, the later answer wins.
        to: a DuckDB file, made if absent.
        batch_rows: rows in one transaction.
        adopt: load also into a target that holds rows of other staging directories and none of these.
        follow: go on while a fetch works in one of the directories; the target is given back between the rounds.
        how: memory, threads, patience and the like.
        listener: called after each batch.

    Raises:
        HeldError: another process has the target, or is loading from the same staging directory.
        StagingError: `staging` is no staging directory.
        TargetError: the target is none of ours, or a batch cannot be loaded.
    """
    from stagingest import destination, following, loading, sources
    from stagingest.locks import Lock

    roots = [Path(staging)] if isinstance(staging, str | Path) else [Path(root) for root in staging]
    with ExitStack() as stack:
        staged = []
        for root in roots:
            source = sources.Staged(root.absolute())
            stack.enter_context(Lock.take(root / "load.lock", "loading"))
            staged.append(stack.enter_context(source))
        target = destination.target(to, how)
        once = partial(loading.load, staged, target, batch_rows=batch_rows, adopt=adopt, listener=listener)
        return following.follow(once, roots) if follow else once()


def status(staging: str | Path = "staging") -> "Standing":
    """How a staging directory stands: counts per endpoint, what is in flight, what failed and why.

    Raises StagingError when it is none.
    """
    from stagingest import standing

    return standing.standing(Path(staging))


def _bounded(asked: Asked) -> dict[str, int | None]:
    return {name: asked.get(f"max_{name}") for name in ("underlyings", "expiries", "contracts")}  # type: ignore[misc]


def _elsewhere(db: str | Path | None, question: "Question") -> "Elsewhere":
    """What a database covers of what is asked; read once, closed at once."""
    if db is None or not Path(db).exists():
        return {}
    from stagingest.targets.duckread import coverage

    return coverage(Path(db), [job.series.id for job in question.jobs])

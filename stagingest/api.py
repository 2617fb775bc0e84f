"""The public functions that move data, which the commands call too: plan, fetch, load, status.

Each imports its phase when it is called: imports are half of a short command's time.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from stagingest import settings
from stagingest.errors import UsageError

if TYPE_CHECKING:
    from stagingest.destination import How
    from stagingest.loaded import LoadSummary
    from stagingest.loading import Listener as LoadListener
    from stagingest.standing import Standing
    from stagingest.supervising import Listener
    from stagingest.surveying import Elsewhere, Plan
    from stagingest.tally import FetchSummary
    from stagingest.wanting import Question, Wanted


class Asked(TypedDict, total=False):
    """What may be asked; every field has a default.

    symbols: names of stocks (`AAPL`, `BRK.B`) or of option contracts (OCC, `AAPL240419C00190000`).
    watchlist: names of lists in watchlists_file (JSON, {name: [symbols]}; by default ./watchlists.json, then
    ./data/watchlists.json); bars without a symbol are of the lists `positions` and `monitor`.
    index: names of universes kept in the staging directory: all that belonged on some day asked.
    underlyings: stocks whose contracts are listed, or whose known contracts' bars are fetched.
    provider: `alpaca` unless the dataset names it (`alpaca/stock-bars`).
    timeframe: `1Min` to `59Min`, `1Hour` to `23Hour`, `1Day`, `1Week`, `1Month` to `12Month`.
    start: first New York day; `max` is the provider's first.
    end: last New York day, inclusive; by default the last one whose prices are final.
    feed: of stocks `sip` (the default), `iex`, `otc`, `boats`, of chains `indicative` (the default) or `opra`;
    adjustment: `raw`, `split`, `dividend`, `spin-off`, `all`; currency: ISO 4217;
    asof: the day whose symbol names are meant (YYYY-MM-DD, `-` for no mapping).
    expiry_gte, expiry_lte: bounds of the expiry, whole years are listed.
    strike_gte, strike_lte, option_type: bounds of the strike in dollars, `call` or `put`.
    max_underlyings, max_expiries, max_contracts: of how many that have something due is asked, of each underlying so
    many expiries, the nearest first; what is left out is asked by the same call later.
    contracts_from: another staging directory whose listings are known too; where no name is given, option bars and
    snapshots are asked of every underlying known there or in `db`.
    """

    symbols: Iterable[str]
    watchlist: Iterable[str]
    watchlists_file: str | Path | None
    index: Iterable[str]
    underlyings: Iterable[str]
    provider: str | None
    timeframe: str
    start: str | date
    end: str | date
    feed: str
    adjustment: str
    currency: str
    asof: str
    expiry_gte: str | date
    expiry_lte: str | date
    strike_gte: str | float | Decimal
    strike_lte: str | float | Decimal
    option_type: str
    max_underlyings: int | None
    max_expiries: int | None
    max_contracts: int | None
    contracts_from: str | Path | None


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
    from stagingest import asking, bounds, known, surveying

    root, now = Path(staging), clock()
    asked = known.named(dataset, db, asked, now)
    contracts = replace(known.contracts(root, db, asked), unseen=True)
    question = asking.question(_wanted(dataset, asked), contracts, now)
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
    lanes: int | None = None,
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
        dataset: `stock-bars`, `option-contracts`, `option-bars`, or with a provider, `alpaca/stock-bars`.
        staging: the staging directory, made if absent.
        db: a DuckDB file; what it holds is not asked, and its contracts are known.
        max_rps: most requests a second, of this endpoint or by endpoint; None leaves it to the provider's limit.
        processes: worker processes, None for one per core (none for a small job), 0 for this process.
        lanes: requests in flight per process; None follows rate and latency.
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
    from stagingest import asking, bounds, fetching, known
    from stagingest.flights import Caps
    from stagingest.tally import Silent

    root, now = Path(staging), clock()
    asked = known.named(dataset, db, asked, now)
    question = asking.question(_wanted(dataset, asked), known.contracts(root, db, asked), now)
    if question.discovery:
        names = ",".join(question.discovery[0].symbols)
        raise UsageError(question.notes[-1], f"Run `stagingest fetch option-contracts --underlyings {names}` first.")
    options = fetching.Options(
        root, os.environ if environ is None else environ, processes, lanes, bounds.rates(max_rps, question),
        realtime, resume, gzip, Caps(max_requests, max_minutes, fail_fast), max_chunks,
        bounds.few(question, **_bounded(asked)), log_rate_limits, _elsewhere(db, question), question.sweep,
    )  # fmt: skip
    return Fetched(question, fetching.fetch(question.jobs, options, listener or Silent(), clock))


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


def _wanted(dataset: str, asked: Asked) -> "Wanted":
    from stagingest.naming import Lists
    from stagingest.wanting import Wanted

    default = Wanted(dataset)

    def text(name: str) -> str:
        return str(asked.get(name, getattr(default, name)))

    named = Lists(
        tuple(asked.get("watchlist", ())), str(asked.get("watchlists_file") or ""), tuple(asked.get("index", ()))
    )
    return replace(
        default,
        symbols=tuple(asked.get("symbols", ())),
        underlyings=tuple(asked.get("underlyings", ())),
        provider=asked.get("provider"),
        lists=named,
        **{name: text(name) for name in _TEXTS},
    )


_TEXTS = (
    *("timeframe", "start", "end", "feed", "adjustment", "currency", "asof", "expiry_gte", "expiry_lte"),
    *("strike_gte", "strike_lte", "option_type"),
)


def _bounded(asked: Asked) -> dict[str, int | None]:
    return {name: asked.get(f"max_{name}") for name in ("underlyings", "expiries", "contracts")}  # type: ignore[misc]


def _elsewhere(db: str | Path | None, question: "Question") -> "Elsewhere":
    """What a database covers of what is asked; read once, closed at once."""
    if db is None or not Path(db).exists():
        return {}
    from stagingest.targets.duckdb import coverage

    return coverage(Path(db), [job.series.id for job in question.jobs])

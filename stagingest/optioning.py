"""Questions about options: contracts of underlyings, the bars of those known, chains as they are now."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from stagingest import catalog, discovering, planning, sweeping, universe
from stagingest.errors import UsageError
from stagingest.manifest import Manifest
from stagingest.model import Asked, Entry, Job, OptionSymbol, Window
from stagingest.providers import Endpoint
from stagingest.sessions import new_york
from stagingest.sweeping import Discovery, Sweep
from stagingest.universe import Contract
from stagingest.wanting import Known, Question, Wanted, day

_DAY = timedelta(days=1)
YEARS_AHEAD = 5


def lifetimes(symbols: Iterable[str], window: Window) -> tuple[Asked, ...]:
    """Contracts by expiry: nobody trades one after it."""
    by_expiry: dict[date, list[str]] = {}
    for symbol in symbols:
        parts = OptionSymbol.parse(symbol)
        assert parts is not None
        by_expiry.setdefault(parts.expiry, []).append(symbol)
    return tuple(
        Asked(tuple(group), Window(window.start, min(window.end, expiry + _DAY)))
        for expiry, group in sorted(by_expiry.items())
        if expiry >= window.start
    )


def of_underlyings(
    wanted: Wanted, names: universe.Symbols, known: Known, now: datetime
) -> tuple[universe.Symbols, tuple[str, ...], tuple[Job, ...]]:
    """Names with the known contracts of the underlyings added; the discovery's jobs when one has none."""
    route = catalog.resolve("option-contracts", wanted.provider)
    parents = universe.resolve(wanted.underlyings, route)
    found, listed = _contracts(known, route.name, parents.kept)
    bare = set(parents.kept) - {contract.underlying for contract in found}
    unknown = sorted(bare - listed)
    rejected = names.rejected + parents.rejected
    if unknown:
        note = f"No contracts of {', '.join(unknown)} are known yet."
        discovery = listing(Wanted("option-contracts", underlyings=tuple(unknown)), route, known, now).jobs
        return universe.Symbols((), rejected=rejected), (note,), discovery
    kept = {contract.symbol for contract in found if _in_bounds(contract, wanted)}
    notes = (f"No contracts are listed for {', '.join(sorted(bare))}.",) if bare else ()
    return universe.Symbols(tuple(sorted({*names.kept, *kept})), names.changed, rejected), notes, ()


def _in_bounds(contract: Contract, wanted: Wanted) -> bool:
    low = day("--expiry-gte", wanted.expiry_gte) if wanted.expiry_gte else date.min
    high = day("--expiry-lte", wanted.expiry_lte) if wanted.expiry_lte else date.max
    return low <= contract.expiry <= high


def _contracts(known: Known, endpoint: str, underlyings: Sequence[str]) -> tuple[list[Contract], set[str]]:
    """The known contracts, and the underlyings that were listed at all."""
    found, listed = universe.contracts(known.rows, underlyings), set[str]()
    for root, unseen in ((known.root, known.unseen), (known.listings, True)):
        entries = _entries(root, unseen=unseen) if root else []
        found += universe.staged_contracts(root or known.root, entries, endpoint, underlyings)
        listed |= universe.listed(entries, endpoint)
    return found, listed


def _entries(root: Path, *, unseen: bool) -> list[Entry]:
    if not (root / Manifest.file).exists():
        return []
    with Manifest.read(root, unseen=unseen) as manifest:
        return list(manifest.entries())


def listing(wanted: Wanted, endpoint: Endpoint, known: Known, now: datetime) -> Question:
    """One series per status and year of expiry, from the newest year down as far as there may be contracts."""
    names = universe.resolve((*wanted.underlyings, *wanted.symbols), endpoint)
    if not names.kept:
        raise UsageError("No underlyings were named.", "Name some with --underlyings SPY,AAPL.")
    today = new_york(now).date()
    low = day("--expiry-gte", wanted.expiry_gte) if wanted.expiry_gte else endpoint.floor
    high = day("--expiry-lte", wanted.expiry_lte) if wanted.expiry_lte else date(today.year + YEARS_AHEAD, 12, 31)
    if low > high:
        raise UsageError(f"--expiry-gte {low} is after --expiry-lte {high}.", f"The latest is {high}.")
    discovery = Discovery(endpoint.name, names.kept, Sweep(low.year, high.year, today.year), today)
    had = sweeping.known(discovering.answers(discovery, _entries(known.root, unseen=known.unseen)))
    now_asked, every = discovery.questions(had), discovery.every()
    later = {
        question: [s for s in symbols if s not in now_asked.get(question, ())] for question, symbols in every.items()
    }
    later = {question: symbols for question, symbols in later.items() if symbols}
    notes: tuple[str, ...] = ()
    if later and not all(discovery.sweep.over(had.get(symbol, {})) for symbol in names.kept):
        more = sum(_requests(job, endpoint) for job in discovering.jobs(discovery, later))
        notes = (f"Older years, down to {low.year}, follow while there are contracts: at most {more:,} requests more.",)
    return Question(endpoint, discovering.jobs(discovery, now_asked), names, notes, sweep=discovery)


def _requests(job: Job, endpoint: Endpoint) -> int:
    cut = endpoint.cut(job.series)
    return planning.estimate(planning.due(job, cut, date.max, {}), cut).requests


def capture(wanted: Wanted, endpoint: Endpoint, known: Known, now: datetime) -> Question:
    """The chains of some underlyings as they are now: one series, which its bounds belong to."""
    today = new_york(now).date()
    window = Window(today, today + _DAY)
    listed = wanted.lists.symbols(known.root, window)
    names = universe.resolve((*wanted.underlyings, *wanted.symbols, *listed), endpoint)
    if not names.kept:
        raise UsageError("No underlyings were named.", "Name some with --underlyings SPY,AAPL.")
    if wanted.start not in ("", "max") or wanted.end:
        raise UsageError(f"{endpoint.name} is of now: it has no --start and no --end.", "Leave them out.")
    days = {"expiry_gte": wanted.expiry_gte, "expiry_lte": wanted.expiry_lte}
    bounds = {name: text and str(day(f"--{name.replace('_', '-')}", text)) for name, text in days.items()}
    bounds |= {name: getattr(wanted, name) for name in ("strike_gte", "strike_lte", "option_type")}
    series = endpoint.canonical({"feed": wanted.feed, **bounds})
    return Question(endpoint, (Job(series, (Asked(names.kept, window),)),), names)

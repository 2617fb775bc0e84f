"""What the user asked, as jobs: names to symbols, dates to windows, options to series."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from stagingest.errors import UsageError
from stagingest.model import windows as model_windows
from stagingest.model.calendar import DAY, new_york
from stagingest.model.chunk import Coverage, Job, SymbolWindow
from stagingest.model.option_symbol import OptionSymbol
from stagingest.model.task import Entry
from stagingest.model.windows import Grid, Window
from stagingest.planning import contracts as planning_contracts
from stagingest.planning import discovery as planning_discovery
from stagingest.planning import due, fetch_options, request
from stagingest.planning import symbols as planning_symbols
from stagingest.planning.contracts import Contract
from stagingest.planning.discovery import Discovery, Sweep
from stagingest.planning.fetch_options import BY_NAME
from stagingest.planning.request import KnownState, Query, ResolvedQuery
from stagingest.providers import catalog
from stagingest.providers.endpoint import Endpoint
from stagingest.staging.manifest import Manifest, has_manifest


def question(query: Query, known: KnownState, now: datetime) -> ResolvedQuery:
    """The jobs of a question.

    Args:
        query: as it was read.
        known: where contracts of `underlyings` are looked up.
        now: decides the default end and the day of a listing.

    Raises UsageError when nothing is named, or a window is empty.
    """
    return _OF_KIND[query.endpoint.kind](query, known, now)


def history(query: Query, known: KnownState, now: datetime) -> ResolvedQuery:
    """Bars of symbols, of contracts by name or of underlyings, over a window."""
    endpoint, of_contracts = query.endpoint, fetch_options.takes(query.endpoint.dataset, "underlyings")
    series = endpoint.canonical(query.params)
    window, notes = _window(query, endpoint.final_before(series, now), now)
    covered = known.covered(series) if query.top_up else {}
    missing = known.missing(series) if query.top_up else {}
    if query.params.get("feed") == "delayed_sip":
        notes = (*notes, "Feed delayed_sip is sip ending 16 minutes ago; rows are stored as sip.")
    lists, said = query.lists, ""
    if not (of_contracts or query.named or query.top_up):
        lists, said = request.usual(query.lists.watchlists_file)
    notes = (*notes, said) if said else notes
    named = (*query.symbols, *lists.symbols(known.root, window))
    names = planning_symbols.resolve(named or (() if query.underlyings else {**covered, **missing}), endpoint)
    if query.underlyings:
        names, more, discovery = of_underlyings(query, names, known, now)
        if discovery:
            return ResolvedQuery(endpoint, (), names, (*notes, *more), discovery)
        notes = (*notes, *more)
    elif query.bounds.given:
        option = BY_NAME[query.bounds.given[0]].typed
        raise UsageError(f"{option} bounds the contracts of --underlyings, and none are named.", "Name some.")
    if not names.kept:
        raise UsageError(*_nothing(names, query))
    starts = {symbol: max(each.end for each in windows) - query.overlap for symbol, windows in covered.items()}
    if of_contracts:
        asked = lifetimes(names.kept, window, query.lookback_years, starts)
        gone = len(names.kept) - sum(len(each.symbols) for each in asked)
        if gone:
            notes = (*notes, f"{gone} contracts expired before {window.start} and are not asked.")
    else:
        asked = due.from_starts(names.kept, window, starts)
    holes = {symbol: missing[symbol] for symbol in names.kept if symbol in missing}
    asked += tuple(SymbolWindow((symbol,), window) for symbol, windows in holes.items() for window in windows)
    return ResolvedQuery(endpoint, (Job(series, asked, query.overlap.days),), names, notes)


def _nothing(names: planning_symbols.Symbols, query: Query) -> tuple[str, str]:
    if query.underlyings and not names.rejected:
        asked = ", ".join(query.underlyings[:5])
        given = ", ".join(BY_NAME[name].typed for name in query.bounds.given)
        bounded = f" within {given}" if given else ""
        return f"No contract of {asked} is known{bounded}.", "List them anew: stagingest fetch option-contracts."
    if names.rejected:
        return f"None of the names is a symbol: {', '.join(names.rejected[:5])}.", "Symbols look like AAPL or BRK.B."
    return "No symbols were named.", "Name some with --symbols A,B or --symbols-file, --watchlist, --index."


def _window(query: Query, final: date, now: datetime) -> tuple[Window, tuple[str, ...]]:
    today = new_york(now).date()
    start, end = query.start or query.endpoint.floor, query.end or final - DAY
    notes: tuple[str, ...] = ()
    if end > today:
        notes = (f"--end {end} is in the future: asking until today, {today}.",)
        end = today
    if start > end:
        raise UsageError(f"--start {start} is after --end {end}.", f"The latest start is {end}.")
    return Window(start, end + DAY), notes


def rates(max_rps: float | Mapping[str, float] | None, question: ResolvedQuery) -> dict[str, float]:
    """Endpoint -> most requests a second; a bare number and the name '' mean the question's own endpoint.

    Raises UsageError for an unknown endpoint or a rate that is none.
    """
    if max_rps is None:
        return {}
    given = max_rps if isinstance(max_rps, Mapping) else {"": max_rps}
    caps = {catalog.endpoint(name or question.endpoint.name).name: rate for name, rate in given.items()}
    for name, rate in caps.items():
        if not 0 < rate < float("inf"):
            raise UsageError(f"max_rps of {name} must be a number greater than 0, not {rate:g}.")
    return caps


def lanes(given: int | Mapping[str, int] | None, question: ResolvedQuery) -> int | None:
    """Requests in flight per process for the question's endpoint; a bare number and the name '' mean just that.

    Raises UsageError for an unknown endpoint.
    """
    if given is None or isinstance(given, int):
        return given
    named = {catalog.asked(name).name if name else "": number for name, number in given.items()}
    return named.get(question.endpoint.name, named.get(""))


_MONTH = Grid("month", 1)
YEARS_AHEAD = 5


def lifetimes(
    symbols: Iterable[str], window: Window, years: int, starts: Mapping[str, date]
) -> tuple[SymbolWindow, ...]:
    """Contracts by the months they expire in, each from at most so many years before: nobody trades one after it.

    A whole month is asked of those that expire in it, so that contracts of several weeks fill a page together.

    Args:
        symbols: contracts. window: what is asked. years: how long before its expiry a contract may have traded.
        starts: where others begin than the window.
    """
    groups: dict[Window, list[str]] = {}
    for symbol in symbols:
        parts = OptionSymbol.parse(symbol)
        assert parts is not None
        month = model_windows.floor(_MONTH, parts.expiry)
        start = max(starts.get(symbol, window.start), month.replace(year=month.year - years))
        end = min(window.end, model_windows.ceiling(_MONTH, month + DAY))
        if parts.expiry >= start and start < end:
            groups.setdefault(Window(start, end), []).append(symbol)
    return tuple(SymbolWindow(tuple(group), each) for each, group in sorted(groups.items()))


def of_underlyings(
    query: Query, names: planning_symbols.Symbols, known: KnownState, now: datetime
) -> tuple[planning_symbols.Symbols, tuple[str, ...], tuple[Job, ...]]:
    """Names with the known contracts of the underlyings added; the discovery's jobs when one has none."""
    route = catalog.resolve("option-contracts", query.endpoint.provider)
    parents = planning_symbols.resolve(query.underlyings, route)
    found, listed = _contracts(known, route.name, parents.kept)
    bare = set(parents.kept) - {contract.underlying for contract in found}
    unknown = sorted(bare - listed)
    rejected = names.rejected + parents.rejected
    if unknown:
        note = f"No contracts of {', '.join(unknown)} are known yet."
        discovery = listing(Query(route, underlyings=tuple(unknown)), known, now).jobs
        return planning_symbols.Symbols((), rejected=rejected), (note,), discovery
    kept = {each.symbol for each in found if query.bounds.hold(each, known.closes.get(each.underlying))}
    notes = (f"No contracts are listed for {', '.join(sorted(bare))}.",) if bare else ()
    return planning_symbols.Symbols(tuple(sorted({*names.kept, *kept})), names.changed, rejected), notes, ()


def _contracts(known: KnownState, endpoint: str, underlyings: Sequence[str]) -> tuple[list[Contract], set[str]]:
    """The known contracts, and the underlyings that were listed at all."""
    found, listed = planning_contracts.contracts(known.rows, underlyings), set[str]()
    for root, unseen in ((known.root, known.unseen), (known.listings, True)):
        entries = _entries(root, unseen=unseen) if root else []
        found += planning_contracts.staged_contracts(root or known.root, entries, endpoint, underlyings)
        listed |= planning_contracts.listed(entries, endpoint)
    return found, listed


def _entries(root: Path, *, unseen: bool) -> list[Entry]:
    if not has_manifest(root):
        return []
    with Manifest.read(root, unseen=unseen) as manifest:
        return list(manifest.entries())


def listing(query: Query, known: KnownState, now: datetime) -> ResolvedQuery:
    """One series per status and year of expiry, from the newest year down as far as there may be contracts."""
    endpoint, today = query.endpoint, new_york(now).date()
    entries = _entries(known.root, unseen=known.unseen)
    before = planning_contracts.listed(entries, endpoint.name) if query.top_up else set()
    names = _underlyings(query, known, today, sorted(before))
    low = query.bounds.expiry_gte or endpoint.floor
    high = query.bounds.expiry_lte or date(today.year + YEARS_AHEAD, 12, 31)
    if low > high:
        raise UsageError(f"--expiry-gte {low} is after --expiry-lte {high}.", f"The latest is {high}.")
    discovery = Discovery(endpoint.name, names.kept, Sweep(low.year, high.year, today.year), today)
    had = planning_discovery.known(planning_discovery.answers(discovery, entries))
    now_asked, every = discovery.questions(had), discovery.every()
    later = {
        question: [s for s in symbols if s not in now_asked.get(question, ())] for question, symbols in every.items()
    }
    later = {question: symbols for question, symbols in later.items() if symbols}
    notes: tuple[str, ...] = ()
    if later and not all(discovery.sweep.over(had.get(symbol, {})) for symbol in names.kept):
        more = sum(_requests(job, endpoint) for job in planning_discovery.jobs(discovery, later))
        notes = (f"Older years, down to {low.year}, follow while there are contracts: at most {more:,} requests more.",)
    return ResolvedQuery(endpoint, planning_discovery.jobs(discovery, now_asked), names, notes, sweep=discovery)


def _requests(job: Job, endpoint: Endpoint) -> int:
    cut = endpoint.cut(job.series)
    return due.estimate(due.due(job, cut, date.max, {}), cut).requests


def capture(query: Query, known: KnownState, now: datetime) -> ResolvedQuery:
    """The chains of some underlyings as they are now; bounds belong to the series, so each range of strikes is one."""
    endpoint, today, bounds = query.endpoint, new_york(now).date(), query.bounds
    names = _underlyings(query, known, today)
    groups: dict[tuple[Decimal | None, Decimal | None], list[str]] = {}
    for symbol in names.kept:
        groups.setdefault(bounds.strikes(known.closes.get(symbol)), []).append(symbol)
    same = {
        **query.params, "option_type": bounds.option_type, "expiry_gte": _text(bounds.expiry_gte),
        "expiry_lte": _text(bounds.expiry_lte),
    }  # fmt: skip
    jobs = tuple(
        Job(
            endpoint.canonical({**same, "strike_gte": _text(low), "strike_lte": _text(high)}),
            (SymbolWindow(tuple(symbols), Window(today, today + DAY)),),
        )
        for (low, high), symbols in groups.items()
    )
    return ResolvedQuery(endpoint, jobs, names)


def _text(bound: date | Decimal | None) -> str:
    return "" if bound is None else str(bound)


def _underlyings(query: Query, known: KnownState, today: date, more: Sequence[str] = ()) -> planning_symbols.Symbols:
    """The names of a question about underlyings, as its endpoint spells them. Raises UsageError when there are none."""
    listed = query.lists.symbols(known.root, Window(today, today + DAY))
    names = planning_symbols.resolve((*query.underlyings, *query.symbols, *listed, *more), query.endpoint)
    if not names.kept:
        raise UsageError("No underlyings were named.", "Name some with --underlyings SPY,AAPL.")
    return names


_OF_KIND: Mapping[Coverage, Callable[[Query, KnownState, datetime], ResolvedQuery]] = {
    Coverage.HISTORY: history,
    Coverage.LISTING: listing,
    Coverage.CAPTURE: capture,
}

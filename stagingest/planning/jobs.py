"""What the user asked, as jobs: names to symbols, dates to windows, options to series."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path

from stagingest.errors import UsageError
from stagingest.model import windows as model_windows
from stagingest.model.calendar import DAY, day, new_york
from stagingest.model.chunk import Coverage, Job, SymbolWindow
from stagingest.model.option_symbol import OptionSymbol
from stagingest.model.task import Entry
from stagingest.model.windows import Grid, Window
from stagingest.planning import contracts as planning_contracts
from stagingest.planning import discovery as planning_discovery
from stagingest.planning import due, request
from stagingest.planning import symbols as planning_symbols
from stagingest.planning.contracts import Contract
from stagingest.planning.discovery import Discovery, Sweep
from stagingest.planning.due import SampleLimits
from stagingest.planning.request import KnownState, Query, ResolvedQuery, moneyness
from stagingest.providers import catalog
from stagingest.providers.endpoint import TYPES, Endpoint
from stagingest.providers.options import one_of, strike
from stagingest.staging.manifest import Manifest, has_manifest


def question(wanted: Query, known: KnownState, now: datetime) -> ResolvedQuery:
    """The jobs of a question.

    Args:
        wanted: the user's words.
        known: where contracts of `underlyings` are looked up.
        now: decides the default end and the day of a listing.

    Raises UsageError naming the option and a valid value.
    """
    endpoint = catalog.resolve(wanted.dataset, wanted.provider)
    wanted = replace(wanted, provider=endpoint.provider)
    if endpoint.kind is Coverage.LISTING:
        return listing(wanted, endpoint, known, now)
    if endpoint.kind is Coverage.CAPTURE:
        return capture(wanted, endpoint, known, now)
    if wanted.underlyings and endpoint.dataset != "option-bars":
        raise UsageError(f"--underlyings is not for {endpoint.name}.", "Name symbols with --symbols.")
    options = {
        "timeframe": wanted.timeframe,
        "feed": wanted.feed,
        "adjustment": wanted.adjustment,
        "currency": wanted.currency,
        "asof": wanted.asof,
    }
    series = endpoint.canonical(options)
    final = endpoint.final_before(series, now)
    window, notes = _window(wanted, endpoint, final, now)
    covered = known.covered(series) if wanted.top_up else {}
    if wanted.feed == "delayed_sip":
        notes = (*notes, "Feed delayed_sip is sip ending 16 minutes ago; rows are stored as sip.")
    lists, said = wanted.lists, ""
    if endpoint.dataset == "stock-bars" and not (wanted.symbols or lists or wanted.top_up):
        lists, said = request.usual()
    notes = (*notes, said) if said else notes
    named = (*wanted.symbols, *lists.symbols(known.root, window))
    names = planning_symbols.resolve(named or (() if wanted.underlyings else covered), endpoint)
    if wanted.underlyings:
        names, more, discovery = of_underlyings(wanted, names, known, now)
        if discovery:
            return ResolvedQuery(endpoint, (), names, (*notes, *more), discovery)
        notes = (*notes, *more)
    if not names.kept:
        raise UsageError(*_nothing(names))
    overlap = _overlap(wanted)
    starts = {symbol: max(each.end for each in windows) - overlap for symbol, windows in covered.items()}
    asked = due.from_starts(names.kept, window, starts)
    if endpoint.dataset == "option-bars":
        asked = lifetimes(names.kept, window, wanted.lookback_years, starts)
        gone = len(names.kept) - sum(len(each.symbols) for each in asked)
        if gone:
            notes = (*notes, f"{gone} contracts expired before {window.start} and are not asked.")
    return ResolvedQuery(endpoint, (Job(series, asked, overlap.days),), names, notes)


def _nothing(names: planning_symbols.Symbols) -> tuple[str, str]:
    if names.rejected:
        return f"None of the names is a symbol: {', '.join(names.rejected[:5])}.", "Symbols look like AAPL or BRK.B."
    return "No symbols were named.", "Name some with --symbols A,B or --symbols-file, --watchlist, --index."


def _overlap(wanted: Query) -> timedelta:
    """How many of the days covered last are asked again. Raises UsageError."""
    if not wanted.overlap:
        return timedelta()
    found = re.fullmatch(r"(\d{1,4}) ?d(?:ays?)?", wanted.overlap.strip())
    if not found:
        raise UsageError(f"--overlap {wanted.overlap!r} is no number of days.", "Write 3d.")
    if not wanted.top_up:
        raise UsageError("--overlap is for --top-up.", "Give both, or ask the window itself with --no-resume.")
    return timedelta(days=int(found[1]))


def _window(wanted: Query, endpoint: Endpoint, final: date, now: datetime) -> tuple[Window, tuple[str, ...]]:
    today = new_york(now).date()
    start = endpoint.floor if wanted.start in ("", "max") else day("--start", wanted.start)
    end = final - DAY if not wanted.end else day("--end", wanted.end)
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


def few(question: ResolvedQuery, underlyings: int | None, expiries: int | None, contracts: int | None) -> SampleLimits:
    """Of how much is asked. Raises UsageError where a bound has no meaning."""
    bound = SampleLimits(underlyings, expiries, contracts)
    endpoint = question.endpoint
    if bound and endpoint.dataset == "stock-bars":
        raise UsageError(f"{bound} is not for {endpoint.name}.", "Bound the run with --max-chunks or --max-requests.")
    if endpoint.kind is not Coverage.HISTORY and (expiries, contracts) != (None, None):
        raise UsageError(f"{bound} is not for {endpoint.name}.", "Bound it with --expiry-gte and --expiry-lte.")
    return bound


_MONTH = Grid("month", 1)
_MILLI = Decimal("0.001")
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


@dataclass(frozen=True, slots=True)
class ContractBounds:
    """Which contracts are meant, by expiry, type and strike in dollars, all inclusive.

    Args:
        expiries, strikes: first and last.
        type: call or put, '' for both.
        moneyness: strike over the underlying's close, lowest and highest.
        closes: of underlyings; one whose close is not known is not bounded by it.
    """

    expiries: tuple[date, date]
    strikes: tuple[Decimal, Decimal]
    type: str
    moneyness: tuple[Decimal, Decimal] | None
    closes: Mapping[str, float]

    @classmethod
    def of(cls, wanted: Query, closes: Mapping[str, float]) -> "ContractBounds":
        """The bounds in a user's words. Raises UsageError naming the option."""
        first = day("--expiry-gte", wanted.expiry_gte) if wanted.expiry_gte else date.min
        last = day("--expiry-lte", wanted.expiry_lte) if wanted.expiry_lte else date.max
        low = strike("--strike-gte", wanted.strike_gte) if wanted.strike_gte else Decimal(0)
        high = strike("--strike-lte", wanted.strike_lte) if wanted.strike_lte else Decimal(10**9)
        kind = one_of("--type", wanted.option_type, TYPES) if wanted.option_type else ""
        return cls((first, last), (low, high), kind, moneyness(wanted.moneyness), closes)

    def strikes_of(self, underlying: str) -> tuple[Decimal, Decimal]:
        """Lowest and highest strike of an underlying's contracts."""
        low, high = self.strikes
        close = self.closes.get(underlying)
        if self.moneyness is None or close is None:
            return low, high
        near, far = (Decimal(str(close)) * each for each in self.moneyness)
        return max(low, near.quantize(_MILLI, ROUND_FLOOR)), min(high, far.quantize(_MILLI, ROUND_CEILING))

    def hold(self, contract: Contract) -> bool:
        """Whether a contract is meant."""
        first, last = self.expiries
        parts = OptionSymbol.parse(contract.symbol)
        low, high = self.strikes_of(contract.underlying)
        return (
            first <= contract.expiry <= last
            and parts is not None
            and self.type in ("", parts.type)
            and low <= parts.strike <= high
        )


def of_underlyings(
    wanted: Query, names: planning_symbols.Symbols, known: KnownState, now: datetime
) -> tuple[planning_symbols.Symbols, tuple[str, ...], tuple[Job, ...]]:
    """Names with the known contracts of the underlyings added; the discovery's jobs when one has none."""
    route = catalog.resolve("option-contracts", wanted.provider)
    parents = planning_symbols.resolve(wanted.underlyings, route)
    found, listed = _contracts(known, route.name, parents.kept)
    bare = set(parents.kept) - {contract.underlying for contract in found}
    unknown = sorted(bare - listed)
    rejected = names.rejected + parents.rejected
    if unknown:
        note = f"No contracts of {', '.join(unknown)} are known yet."
        discovery = listing(Query("option-contracts", underlyings=tuple(unknown)), route, known, now).jobs
        return planning_symbols.Symbols((), rejected=rejected), (note,), discovery
    bounds = ContractBounds.of(wanted, known.closes)
    kept = {contract.symbol for contract in found if bounds.hold(contract)}
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


def listing(wanted: Query, endpoint: Endpoint, known: KnownState, now: datetime) -> ResolvedQuery:
    """One series per status and year of expiry, from the newest year down as far as there may be contracts."""
    before = (
        planning_contracts.listed(_entries(known.root, unseen=known.unseen), endpoint.name) if wanted.top_up else set()
    )
    names = planning_symbols.resolve((*wanted.underlyings, *wanted.symbols, *sorted(before)), endpoint)
    if not names.kept:
        raise UsageError("No underlyings were named.", "Name some with --underlyings SPY,AAPL.")
    today = new_york(now).date()
    low = day("--expiry-gte", wanted.expiry_gte) if wanted.expiry_gte else endpoint.floor
    high = day("--expiry-lte", wanted.expiry_lte) if wanted.expiry_lte else date(today.year + YEARS_AHEAD, 12, 31)
    if low > high:
        raise UsageError(f"--expiry-gte {low} is after --expiry-lte {high}.", f"The latest is {high}.")
    discovery = Discovery(endpoint.name, names.kept, Sweep(low.year, high.year, today.year), today)
    had = planning_discovery.known(planning_discovery.answers(discovery, _entries(known.root, unseen=known.unseen)))
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


def capture(wanted: Query, endpoint: Endpoint, known: KnownState, now: datetime) -> ResolvedQuery:
    """The chains of some underlyings as they are now; bounds belong to the series, so each range of strikes is one."""
    today = new_york(now).date()
    window = Window(today, today + DAY)
    listed = wanted.lists.symbols(known.root, window)
    names = planning_symbols.resolve((*wanted.underlyings, *wanted.symbols, *listed), endpoint)
    if not names.kept:
        raise UsageError("No underlyings were named.", "Name some with --underlyings SPY,AAPL.")
    if wanted.start not in ("", "max") or wanted.end:
        raise UsageError(f"{endpoint.name} is of now: it has no --start and no --end.", "Leave them out.")
    bounds = ContractBounds.of(wanted, known.closes)
    days = {"expiry_gte": wanted.expiry_gte, "expiry_lte": wanted.expiry_lte}
    plain = {"feed": wanted.feed, "option_type": wanted.option_type}
    plain |= {name: text and str(day(f"--{name.replace('_', '-')}", text)) for name, text in days.items()}
    groups: dict[tuple[str, str], list[str]] = {}
    for symbol in names.kept:
        if bounds.moneyness and symbol in known.closes:
            low, high = map(str, bounds.strikes_of(symbol))
        else:
            low, high = wanted.strike_gte, wanted.strike_lte
        groups.setdefault((low, high), []).append(symbol)
    jobs = tuple(
        Job(
            endpoint.canonical({**plain, "strike_gte": low, "strike_lte": high}),
            (SymbolWindow(tuple(symbols), window),),
        )
        for (low, high), symbols in groups.items()
    )
    return ResolvedQuery(endpoint, jobs, names)

"""Questions about options: contracts of underlyings, the bars of those known, chains as they are now."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path

from stagingest import catalog, discovering, planning, sweeping, universe
from stagingest.days import day
from stagingest.errors import UsageError
from stagingest.lost import there
from stagingest.manifest import Manifest
from stagingest.model import Asked, Entry, Grid, Job, OptionSymbol, Window
from stagingest.providers import Endpoint
from stagingest.providers.chains import TYPES
from stagingest.providers.options import one_of, strike
from stagingest.sessions import new_york
from stagingest.sweeping import Discovery, Sweep
from stagingest.universe import Contract
from stagingest.wanting import Known, Question, Wanted

_DAY = timedelta(days=1)
_MONTH = Grid("month", 1)
_MILLI = Decimal("0.001")
YEARS_AHEAD = 5


def lifetimes(symbols: Iterable[str], window: Window, years: int, starts: Mapping[str, date]) -> tuple[Asked, ...]:
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
        month = planning.floor(_MONTH, parts.expiry)
        start = max(starts.get(symbol, window.start), month.replace(year=month.year - years))
        end = min(window.end, planning.ceiling(_MONTH, month + _DAY))
        if parts.expiry >= start and start < end:
            groups.setdefault(Window(start, end), []).append(symbol)
    return tuple(Asked(tuple(group), each) for each, group in sorted(groups.items()))


@dataclass(frozen=True, slots=True)
class Bounds:
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
    def of(cls, wanted: Wanted, closes: Mapping[str, float]) -> "Bounds":
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


def moneyness(text: str) -> tuple[Decimal, Decimal] | None:
    """Lowest and highest of `0.8..1.2`, None for ''. Raises UsageError."""
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)", text.strip())
    low, high = map(Decimal, found.groups()) if found else (Decimal(1), Decimal(0))
    if low > high:
        raise UsageError(f"--moneyness {text!r} is no range.", "Write strike over close, for example 0.8..1.2.")
    return low, high


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
    bounds = Bounds.of(wanted, known.closes)
    kept = {contract.symbol for contract in found if bounds.hold(contract)}
    notes = (f"No contracts are listed for {', '.join(sorted(bare))}.",) if bare else ()
    return universe.Symbols(tuple(sorted({*names.kept, *kept})), names.changed, rejected), notes, ()


def _contracts(known: Known, endpoint: str, underlyings: Sequence[str]) -> tuple[list[Contract], set[str]]:
    """The known contracts, and the underlyings that were listed at all."""
    found, listed = universe.contracts(known.rows, underlyings), set[str]()
    for root, unseen in ((known.root, known.unseen), (known.listings, True)):
        entries = _entries(root, unseen=unseen) if root else []
        found += universe.staged_contracts(root or known.root, entries, endpoint, underlyings)
        listed |= universe.listed(entries, endpoint)
    return found, listed


def _entries(root: Path, *, unseen: bool) -> list[Entry]:
    if not there(root):
        return []
    with Manifest.read(root, unseen=unseen) as manifest:
        return list(manifest.entries())


def listing(wanted: Wanted, endpoint: Endpoint, known: Known, now: datetime) -> Question:
    """One series per status and year of expiry, from the newest year down as far as there may be contracts."""
    before = universe.listed(_entries(known.root, unseen=known.unseen), endpoint.name) if wanted.top_up else set()
    names = universe.resolve((*wanted.underlyings, *wanted.symbols, *sorted(before)), endpoint)
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
    """The chains of some underlyings as they are now; bounds belong to the series, so each range of strikes is one."""
    today = new_york(now).date()
    window = Window(today, today + _DAY)
    listed = wanted.lists.symbols(known.root, window)
    names = universe.resolve((*wanted.underlyings, *wanted.symbols, *listed), endpoint)
    if not names.kept:
        raise UsageError("No underlyings were named.", "Name some with --underlyings SPY,AAPL.")
    if wanted.start not in ("", "max") or wanted.end:
        raise UsageError(f"{endpoint.name} is of now: it has no --start and no --end.", "Leave them out.")
    bounds = Bounds.of(wanted, known.closes)
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
            (Asked(tuple(symbols), window),),
        )
        for (low, high), symbols in groups.items()
    )
    return Question(endpoint, jobs, names)

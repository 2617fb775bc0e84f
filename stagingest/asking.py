"""What the user asked, as jobs: names to symbols, dates to windows, options to series."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from stagingest import catalog, naming, universe
from stagingest.errors import UsageError
from stagingest.manifest import Manifest
from stagingest.model import Asked, Job, Kind, OptionSymbol, Window
from stagingest.naming import Lists
from stagingest.providers import Endpoint
from stagingest.sessions import new_york
from stagingest.universe import Contract

_DAY = timedelta(days=1)
YEARS_AHEAD = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question in the user's words; see `stagingest.fetch` for the meaning of each field."""

    dataset: str
    symbols: tuple[str, ...] = ()
    underlyings: tuple[str, ...] = ()
    provider: str | None = None
    timeframe: str = "1Day"
    start: str = "max"
    end: str = ""
    feed: str = ""
    adjustment: str = "raw"
    currency: str = "USD"
    asof: str = ""
    expiry_gte: str = ""
    expiry_lte: str = ""
    strike_gte: str = ""
    strike_lte: str = ""
    option_type: str = ""
    lists: Lists = Lists()


@dataclass(frozen=True, slots=True)
class Question:
    """A question in the tool's words.

    Args:
        endpoint: what is asked. jobs: one per series. names: what became of the names given.
        notes: what a person should know about the reading of the question.
        discovery: jobs that would have to run first, when contracts are not known yet.
    """

    endpoint: Endpoint
    jobs: tuple[Job, ...]
    names: universe.Symbols
    notes: tuple[str, ...] = ()
    discovery: tuple[Job, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """Where contracts may be known from: a staging root, and rows (underlying, expiry, symbol) of a target.

    `unseen`: the root is looked at without leaving a file in it.
    """

    root: Path
    rows: Sequence[tuple[str, date, str]] = field(default=())
    unseen: bool = False


def question(wanted: Wanted, known: Known, now: datetime) -> Question:
    """The jobs of a question.

    Args:
        wanted: the user's words.
        known: where contracts of `underlyings` are looked up.
        now: decides the default end and the day of a listing.

    Raises UsageError naming the option and a valid value.
    """
    endpoint = catalog.resolve(wanted.dataset, wanted.provider)
    if endpoint.kind is Kind.LISTING:
        return _listing(wanted, endpoint, now)
    if endpoint.kind is Kind.CAPTURE:
        return _capture(wanted, endpoint, now)
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
    if wanted.feed == "delayed_sip":
        notes = (*notes, "Feed delayed_sip is sip ending 16 minutes ago; rows are stored as sip.")
    lists, said = wanted.lists, ""
    if endpoint.dataset == "stock-bars" and not (wanted.symbols or lists):
        lists, said = naming.usual()
    notes = (*notes, said) if said else notes
    names = universe.resolve((*wanted.symbols, *lists.symbols(known.root, window)), endpoint)
    if wanted.underlyings:
        names, more, discovery = _of_underlyings(wanted, names, known, now)
        if discovery:
            return Question(endpoint, (), names, (*notes, *more), discovery)
        notes = (*notes, *more)
    if not names.kept:
        raise UsageError(*_nothing(names))
    asked: tuple[Asked, ...] = (Asked(names.kept, window),)
    if endpoint.dataset == "option-bars":
        asked = _lifetimes(names.kept, window)
        gone = len(names.kept) - sum(len(each.symbols) for each in asked)
        if gone:
            notes = (*notes, f"{gone} contracts expired before {window.start} and are not asked.")
    return Question(endpoint, (Job(series, asked),), names, notes)


def _nothing(names: universe.Symbols) -> tuple[str, str]:
    if names.rejected:
        return f"None of the names is a symbol: {', '.join(names.rejected[:5])}.", "Symbols look like AAPL or BRK.B."
    return "No symbols were named.", "Name some with --symbols A,B or --symbols-file, --watchlist, --index."


def _window(wanted: Wanted, endpoint: Endpoint, final: date, now: datetime) -> tuple[Window, tuple[str, ...]]:
    today = new_york(now).date()
    start = endpoint.floor if wanted.start in ("", "max") else day("--start", wanted.start)
    end = final - _DAY if not wanted.end else day("--end", wanted.end)
    notes: tuple[str, ...] = ()
    if end > today:
        notes = (f"--end {end} is in the future: asking until today, {today}.",)
        end = today
    if start > end:
        raise UsageError(f"--start {start} is after --end {end}.", f"The latest start is {end}.")
    return Window(start, end + _DAY), notes


def day(option: str, text: str) -> date:
    """The day in `text` (YYYY-MM-DD). Raises UsageError naming the nearest valid day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no day.", f"Write YYYY-MM-DD, for example {_nearest(text)}.") from None


def _nearest(text: str) -> date:
    numbers = [int(part) for part in text.replace("/", "-").split("-") if part.isdigit()]
    if len(numbers) != 3 or not 1900 <= numbers[0] <= 2100:
        return date(2024, 1, 31)
    year, month, last = numbers[0], min(max(numbers[1], 1), 12), max(numbers[2], 1)
    while True:
        try:
            return date(year, month, min(last, 31))
        except ValueError:
            last = min(last, 31) - 1


def _lifetimes(symbols: Iterable[str], window: Window) -> tuple[Asked, ...]:
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


def _of_underlyings(
    wanted: Wanted, names: universe.Symbols, known: Known, now: datetime
) -> tuple[universe.Symbols, tuple[str, ...], tuple[Job, ...]]:
    """Names with the known contracts of the underlyings added; the discovery's jobs when one has none."""
    listing = catalog.resolve("option-contracts", wanted.provider)
    parents = universe.resolve(wanted.underlyings, listing)
    found, listed = _contracts(known, listing.name, parents.kept)
    bare = set(parents.kept) - {contract.underlying for contract in found}
    unknown = sorted(bare - listed)
    rejected = names.rejected + parents.rejected
    if unknown:
        note = f"No contracts of {', '.join(unknown)} are known yet."
        discovery = _listing(Wanted("option-contracts", underlyings=tuple(unknown)), listing, now).jobs
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
    found = universe.contracts(known.rows, underlyings)
    if not (known.root / Manifest.file).exists():
        return found, set()
    with Manifest.read(known.root, unseen=known.unseen) as manifest:
        entries = list(manifest.entries())
    return found + universe.staged_contracts(known.root, entries, endpoint, underlyings), universe.listed(
        entries, endpoint
    )


def _listing(wanted: Wanted, endpoint: Endpoint, now: datetime) -> Question:
    """One series per status and year of expiry: active from yesterday's year on, inactive up to this year."""
    names = universe.resolve((*wanted.underlyings, *wanted.symbols), endpoint)
    if not names.kept:
        raise UsageError("No underlyings were named.", "Name some with --underlyings SPY,AAPL.")
    today = new_york(now).date()
    yesterday = today - _DAY
    low = day("--expiry-gte", wanted.expiry_gte) if wanted.expiry_gte else endpoint.floor
    high = day("--expiry-lte", wanted.expiry_lte) if wanted.expiry_lte else date(today.year + YEARS_AHEAD, 12, 31)
    if low > high:
        raise UsageError(f"--expiry-gte {low} is after --expiry-lte {high}.", f"The latest is {high}.")
    sweeps = [("active", year) for year in range(max(low.year, yesterday.year), high.year + 1)]
    sweeps += [("inactive", year) for year in range(low.year, min(high.year, today.year) + 1)]
    window = Window(today, today + _DAY)
    jobs = tuple(
        Job(
            endpoint.canonical({"status": status, "expiry_gte": f"{year}-01-01", "expiry_lte": f"{year}-12-31"}),
            (Asked(names.kept, window),),
        )
        for status, year in sweeps
    )
    return Question(endpoint, jobs, names)


def _capture(wanted: Wanted, endpoint: Endpoint, now: datetime) -> Question:
    """The chains of some underlyings as they are now: one series, which its bounds belong to."""
    names = universe.resolve((*wanted.underlyings, *wanted.symbols), endpoint)
    if not names.kept:
        raise UsageError("No underlyings were named.", "Name some with --underlyings SPY,AAPL.")
    if wanted.start not in ("", "max") or wanted.end:
        raise UsageError(f"{endpoint.name} is of now: it has no --start and no --end.", "Leave them out.")
    days = {"expiry_gte": wanted.expiry_gte, "expiry_lte": wanted.expiry_lte}
    bounds = {name: text and str(day(f"--{name.replace('_', '-')}", text)) for name, text in days.items()}
    bounds |= {name: getattr(wanted, name) for name in ("strike_gte", "strike_lte", "option_type")}
    today = new_york(now).date()
    asked = Asked(names.kept, Window(today, today + _DAY))
    return Question(endpoint, (Job(endpoint.canonical({"feed": wanted.feed, **bounds}), (asked,)),), names)

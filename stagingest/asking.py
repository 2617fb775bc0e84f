"""What the user asked, as jobs: names to symbols, dates to windows, options to series."""

import re
from dataclasses import replace
from datetime import date, datetime, timedelta

from stagingest import catalog, naming, optioning, planning, universe
from stagingest.days import day
from stagingest.errors import UsageError
from stagingest.model import Job, Kind, Window
from stagingest.providers import Endpoint
from stagingest.sessions import new_york
from stagingest.wanting import Known, Question, Wanted

_DAY = timedelta(days=1)


def question(wanted: Wanted, known: Known, now: datetime) -> Question:
    """The jobs of a question.

    Args:
        wanted: the user's words.
        known: where contracts of `underlyings` are looked up.
        now: decides the default end and the day of a listing.

    Raises UsageError naming the option and a valid value.
    """
    endpoint = catalog.resolve(wanted.dataset, wanted.provider)
    wanted = replace(wanted, provider=endpoint.provider)
    if endpoint.kind is Kind.LISTING:
        return optioning.listing(wanted, endpoint, known, now)
    if endpoint.kind is Kind.CAPTURE:
        return optioning.capture(wanted, endpoint, known, now)
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
        lists, said = naming.usual()
    notes = (*notes, said) if said else notes
    named = (*wanted.symbols, *lists.symbols(known.root, window))
    names = universe.resolve(named or (() if wanted.underlyings else covered), endpoint)
    if wanted.underlyings:
        names, more, discovery = optioning.of_underlyings(wanted, names, known, now)
        if discovery:
            return Question(endpoint, (), names, (*notes, *more), discovery)
        notes = (*notes, *more)
    if not names.kept:
        raise UsageError(*_nothing(names))
    overlap = _overlap(wanted)
    starts = {symbol: max(each.end for each in windows) - overlap for symbol, windows in covered.items()}
    asked = planning.from_starts(names.kept, window, starts)
    if endpoint.dataset == "option-bars":
        asked = optioning.lifetimes(names.kept, window, wanted.lookback_years, starts)
        gone = len(names.kept) - sum(len(each.symbols) for each in asked)
        if gone:
            notes = (*notes, f"{gone} contracts expired before {window.start} and are not asked.")
    return Question(endpoint, (Job(series, asked, overlap.days),), names, notes)


def _nothing(names: universe.Symbols) -> tuple[str, str]:
    if names.rejected:
        return f"None of the names is a symbol: {', '.join(names.rejected[:5])}.", "Symbols look like AAPL or BRK.B."
    return "No symbols were named.", "Name some with --symbols A,B or --symbols-file, --watchlist, --index."


def _overlap(wanted: Wanted) -> timedelta:
    """How many of the days covered last are asked again. Raises UsageError."""
    if not wanted.overlap:
        return timedelta()
    found = re.fullmatch(r"(\d{1,4}) ?d(?:ays?)?", wanted.overlap.strip())
    if not found:
        raise UsageError(f"--overlap {wanted.overlap!r} is no number of days.", "Write 3d.")
    if not wanted.top_up:
        raise UsageError("--overlap is for --top-up.", "Give both, or ask the window itself with --no-resume.")
    return timedelta(days=int(found[1]))


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

"""A question, read once from the user's words, and what is known when it is answered."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from stagingest.errors import UsageError, choices
from stagingest.model.calendar import day
from stagingest.model.chunk import Job, Series
from stagingest.model.windows import Window
from stagingest.planning import fetch_options, symbols, universes
from stagingest.planning.contracts import ContractBounds
from stagingest.planning.discovery import Discovery
from stagingest.planning.due import SampleLimits
from stagingest.planning.fetch_options import BY_NAME, FetchOptions
from stagingest.providers import catalog
from stagingest.providers.endpoint import TYPES, Endpoint
from stagingest.providers.options import one_of, strike


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of symbols that a question refers to.

    Args:
        watchlist: names of watchlists.
        watchlists_file: where they are, '' for the usual places.
        index: names of universes.
    """

    watchlist: tuple[str, ...] = ()
    watchlists_file: str = ""
    index: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.watchlist or self.index)

    def symbols(self, root: Path, window: Window) -> list[str]:
        """The names in the lists. Of an index: all that belonged to it on some day of the window.

        Raises UsageError for a list that does not exist, with the nearest, and for an index without a member then.
        """
        place = Path(self.watchlists_file) if self.watchlists_file else None
        found = symbols.watched(self.watchlist, place) if self.watchlist else []
        for name in self.index:
            found += _of_index(root, name, window)
        return found


@dataclass(frozen=True, slots=True)
class Query:
    """A question as it was meant: read once, every name resolved, days and prices typed.

    Args:
        endpoint: what is asked.
        symbols, underlyings: names as given. lists: of symbols.
        params: what of the series was named: timeframe, feed, adjustment, currency, asof.
        start, end: first and last New York day; None is the provider's first, and the last final one.
        bounds: of contracts.
        lookback_years: from how long before its expiry bars of a contract are asked.
        top_up: from where what is known ends. overlap: of that, so much again.
        few: of how many is asked.
        contracts_from: another staging directory whose listings are known too.
    """

    endpoint: Endpoint
    symbols: tuple[str, ...] = ()
    underlyings: tuple[str, ...] = ()
    lists: Lists = Lists()
    params: Mapping[str, str] = field(default_factory=dict)
    start: date | None = None
    end: date | None = None
    bounds: ContractBounds = field(default_factory=ContractBounds)
    lookback_years: int = 10
    top_up: bool = False
    overlap: timedelta = timedelta()
    few: SampleLimits = SampleLimits()
    contracts_from: Path | None = None

    @property
    def named(self) -> bool:
        """Whether it names anything to ask about."""
        return bool(self.symbols or self.underlyings or self.lists)


@dataclass(frozen=True, slots=True)
class ResolvedQuery:
    """A question in the tool's words.

    Args:
        endpoint: what is asked. jobs: one per series. names: what became of the names given.
        notes: what a person should know about the reading of the question.
        discovery: jobs that would have to run first, when contracts are not known yet.
        sweep: the discovery that the jobs belong to, which goes on with their answers.
    """

    endpoint: Endpoint
    jobs: tuple[Job, ...]
    names: symbols.Symbols
    notes: tuple[str, ...] = ()
    discovery: tuple[Job, ...] = ()
    sweep: Discovery | None = None


@dataclass(frozen=True, slots=True)
class KnownState:
    """Where contracts may be known from: a staging root, and rows (underlying, expiry, symbol) of a target.

    `unseen`: the root is looked at without leaving a file in it.
    `listings`: another root, of which only its listings of contracts matter.
    `closes`: the latest daily close of underlyings, where it is known.
    `covered`: what is covered of a series, symbol -> windows, unmerged.
    `missing`: what was asked of it and not had, in the same form.
    """

    root: Path
    rows: Sequence[tuple[str, date, str]] = field(default=())
    unseen: bool = False
    listings: Path | None = None
    closes: Mapping[str, float] = field(default_factory=dict)
    covered: Callable[[Series], Mapping[str, Sequence[Window]]] = lambda _: {}
    missing: Callable[[Series], Mapping[str, Sequence[Window]]] = lambda _: {}


def query(dataset: str, asked: Mapping[str, Any]) -> Query:
    """The question in keywords of `stagingest.fetch`: the only place where they are read.

    Raises UsageError for a name that there is not, an option that is not for the dataset, and a value that cannot be
    one, with what is meant.
    """
    for name in asked:
        if name not in FetchOptions.__annotations__:
            raise UsageError(f"There is no option {name!r}.", choices(name, FetchOptions.__annotations__))
    provider = asked.get("provider")
    if provider and "/" in dataset and provider != dataset.partition("/")[0]:
        raise UsageError(f"{dataset} and --provider {provider} name two providers.", "Leave one of them out.")
    endpoint = catalog.resolve(dataset, provider)
    fetch_options.refuse(endpoint.dataset, endpoint.name, asked)
    top_up = _flag("top_up", asked.get("top_up"))
    watchlists, listings = asked.get("watchlists_file"), asked.get("contracts_from")
    return Query(
        endpoint,
        symbols=_names(asked.get("symbols")),
        underlyings=_names(asked.get("underlyings")),
        lists=Lists(_names(asked.get("watchlist")), str(watchlists or ""), _names(asked.get("index"))),
        params={name: str(asked[name]).strip() for name in _PARAMS if BY_NAME[name].asks(asked.get(name))},
        start=_day("start", asked.get("start")),
        end=_day("end", asked.get("end")),
        bounds=_ordered(
            ContractBounds(
                _day("expiry_gte", asked.get("expiry_gte")),
                _day("expiry_lte", asked.get("expiry_lte")),
                _strike("strike_gte", asked.get("strike_gte")),
                _strike("strike_lte", asked.get("strike_lte")),
                _type(asked.get("option_type")),
                _moneyness(asked.get("moneyness")),
            )
        ),
        lookback_years=_count("lookback_years", asked.get("lookback_years")) or BY_NAME["lookback_years"].default,
        top_up=top_up,
        overlap=_overlap(asked.get("overlap"), top_up=top_up),
        few=SampleLimits(*(_count(name, asked.get(name)) for name in _FEW)),
        contracts_from=Path(listings) if listings else None,
    )


_PARAMS = ("timeframe", "feed", "adjustment", "currency", "asof")
_FEW = ("max_underlyings", "max_expiries", "max_contracts")


def _names(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """A list as it is; a text is names separated by commas, as on the command line."""
    return tuple(given.split(",")) if isinstance(given, str) else tuple(given or ())


def _count(name: str, value: object) -> int | None:
    option = BY_NAME[name]
    least, most = option.bounds
    if value is None:
        return None
    if type(value) is not int or value < least or (most is not None and value > most):
        said = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise UsageError(f"{option.typed} must be a whole number {said}, not {value!r}.")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool | None):
        raise UsageError(f"{BY_NAME[name].typed} is true or false, not {value!r}.")
    return bool(value)


def _day(name: str, value: object) -> date | None:
    return day(BY_NAME[name].typed, str(value).strip()) if BY_NAME[name].asks(value) else None


def _strike(name: str, value: object) -> Decimal | None:
    return strike(BY_NAME[name].typed, str(value)) if BY_NAME[name].asks(value) else None


def _type(value: str | None) -> str:
    return one_of("--type", value, TYPES) if value else ""


def _ordered(bounds: ContractBounds) -> ContractBounds:
    """The bounds. Raises UsageError where the first is after the last."""
    first, last, low, high = bounds.expiry_gte, bounds.expiry_lte, bounds.strike_gte, bounds.strike_lte
    if first and last and first > last:
        raise UsageError(f"--expiry-gte {first} is after --expiry-lte {last}.", f"The latest is {last}.")
    if low is not None and high is not None and low > high:
        raise UsageError(f"--strike-gte {low} is above --strike-lte {high}.", f"The highest is {high}.")
    return bounds


def _overlap(text: str | None, *, top_up: bool) -> timedelta:
    """How many of the days covered last are asked again. Raises UsageError."""
    if not text:
        return timedelta()
    found = re.fullmatch(r"(\d{1,4}) ?d(?:ays?)?", text.strip())
    if not found:
        raise UsageError(f"--overlap {text!r} is no number of days.", "Write 3d.")
    if not top_up:
        raise UsageError("--overlap is for --top-up.", "Give both, or ask the window itself with --no-resume.")
    return timedelta(days=int(found[1]))


def _of_index(root: Path, name: str, window: Window) -> Sequence[str]:
    members = universes.members(root, name)
    found = universes.during(members, window)
    if not found:
        first = min(member.added for member in members)
        raise UsageError(
            f"Universe {name} has no member from {window.start} to before {window.end}; its first is of {first}.",
            "Import who belonged before: `stagingest universe import --help`.",
        )
    return found


def usual(file: str = "") -> tuple[Lists, str]:
    """The watchlists (of a file, '' for the usual places) that are asked when nothing is named, and a sentence that
    says so; nothing when there are none.
    """
    place, known = symbols.watchlists(Path(file) if file else None)
    names = tuple(name for name in symbols.USUAL if known.get(name))
    return Lists(names, file), f"No symbols were named: asking {' and '.join(names)} of {place}." if names else ""


def _moneyness(text: str | None) -> tuple[Decimal, Decimal] | None:
    """Lowest and highest of `0.8..1.2`. Raises UsageError."""
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)", text.strip())
    low, high = map(Decimal, found.groups()) if found else (Decimal(1), Decimal(0))
    if low > high:
        raise UsageError(f"--moneyness {text!r} is no range.", "Write strike over close, for example 0.8..1.2.")
    return low, high

"""A question in the user's words and in the tool's, and what is known when it is read."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

from stagingest.errors import UsageError
from stagingest.model.chunk import Job, Series
from stagingest.model.windows import Window
from stagingest.planning import symbols, universes
from stagingest.planning.discovery import Discovery
from stagingest.providers.endpoint import Endpoint


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
    moneyness: str = ""
    lookback_years: int = 10
    top_up: bool = False
    overlap: str = ""
    lists: Lists = Lists()


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
    """

    root: Path
    rows: Sequence[tuple[str, date, str]] = field(default=())
    unseen: bool = False
    listings: Path | None = None
    closes: Mapping[str, float] = field(default_factory=dict)
    covered: Callable[[Series], Mapping[str, Sequence[Window]]] = lambda _: {}


class FetchOptions(TypedDict, total=False):
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
    moneyness: strike over the latest close, `0.8..1.2`; a close that is neither staged nor loaded is asked first.
    lookback_years: from how long before its expiry bars of a contract are asked.
    top_up: from where what is known of each symbol ends to now; without names all that is known of the series.
    overlap: of a top-up, so many of the last known days again (`3d`), for what the provider revised.
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
    moneyness: str
    lookback_years: int
    top_up: bool
    overlap: str
    max_underlyings: int | None
    max_expiries: int | None
    max_contracts: int | None
    contracts_from: str | Path | None


def wanted(dataset: str, asked: FetchOptions) -> Query:
    """The question in these keywords."""

    default = Query(dataset)

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
        lookback_years=asked.get("lookback_years", default.lookback_years),
        top_up=asked.get("top_up", False),
        **{name: text(name) for name in _TEXTS},
    )


_TEXTS = (
    *("timeframe", "start", "end", "feed", "adjustment", "currency", "asof", "expiry_gte", "expiry_lte"),
    *("strike_gte", "strike_lte", "option_type", "moneyness", "overlap"),
)


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


def usual() -> tuple[Lists, str]:
    """The watchlists that are asked when nothing is named, and a sentence that says so; nothing when there are none."""
    place, known = symbols.watchlists(None)
    names = tuple(name for name in symbols.USUAL if known.get(name))
    return Lists(names), f"No symbols were named: asking {' and '.join(names)} of {place}." if names else ""


def moneyness(text: str) -> tuple[Decimal, Decimal] | None:
    """Lowest and highest of `0.8..1.2`, None for ''. Raises UsageError."""
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)", text.strip())
    low, high = map(Decimal, found.groups()) if found else (Decimal(1), Decimal(0))
    if low > high:
        raise UsageError(f"--moneyness {text!r} is no range.", "Write strike over close, for example 0.8..1.2.")
    return low, high

"""A question in the user's words and in the tool's, and what is known when it is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from stagingest import universe
from stagingest.askable import Asked
from stagingest.model import Job, Series, Window
from stagingest.naming import Lists
from stagingest.providers import Endpoint
from stagingest.sweeping import Discovery


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
    moneyness: str = ""
    lookback_years: int = 10
    top_up: bool = False
    overlap: str = ""
    lists: Lists = Lists()


@dataclass(frozen=True, slots=True)
class Question:
    """A question in the tool's words.

    Args:
        endpoint: what is asked. jobs: one per series. names: what became of the names given.
        notes: what a person should know about the reading of the question.
        discovery: jobs that would have to run first, when contracts are not known yet.
        sweep: the discovery that the jobs belong to, which goes on with their answers.
    """

    endpoint: Endpoint
    jobs: tuple[Job, ...]
    names: universe.Symbols
    notes: tuple[str, ...] = ()
    discovery: tuple[Job, ...] = ()
    sweep: Discovery | None = None


@dataclass(frozen=True, slots=True)
class Known:
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


def wanted(dataset: str, asked: Asked) -> Wanted:
    """The question in these keywords."""

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
        lookback_years=asked.get("lookback_years", default.lookback_years),
        top_up=asked.get("top_up", False),
        **{name: text(name) for name in _TEXTS},
    )


_TEXTS = (
    *("timeframe", "start", "end", "feed", "adjustment", "currency", "asof", "expiry_gte", "expiry_lte"),
    *("strike_gte", "strike_lte", "option_type", "moneyness", "overlap"),
)

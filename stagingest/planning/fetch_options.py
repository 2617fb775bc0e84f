"""Every option of a fetch, declared once: its names, its help, its default, and which dataset takes it.

The command line, the keys of a profile's step and what is refused come from here. Nothing is imported for it: `--help`
shows it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypedDict

from stagingest.errors import UsageError

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal
    from pathlib import Path

_STOCKS, _CONTRACTS, _BARS, _CHAINS = DATASETS = ("stock-bars", "option-contracts", "option-bars", "option-snapshots")


class Topic(StrEnum):
    """What an option is about, as `--help` heads it."""

    WHAT = "What is asked"
    NAMES = "Which names"
    TIME = "Which time"
    SPEED = "How fast"
    FAR = "How far"
    OUTPUT = "Where to, and what is said"


class Kind(StrEnum):
    """What the command line takes for a value."""

    TEXT = "text"
    NAMES = "names"
    FILES = "files"
    FILE = "file"
    FOLDER = "folder"
    FLAG = "flag"
    COUNT = "count"
    MINUTES = "minutes"
    RATES = "rates"
    LANES = "lanes"


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a fetch.

    Args:
        name: its keyword, and its key in a profile's step and in `[fetch]`.
        help: a sentence. here: dataset -> another one.
        default: asks for nothing, as an empty value does.
        shown: the default in words, where it is not a value; '' for none.
        flags: as typed where that is not `--name`; a pair `--on/--off` where both can be said.
        metavar: what a value looks like.
        bounds: least and most of a count.
        datasets: those that take it. meant: dataset that does not -> what to do instead.
        run: whether it changes how is asked and not what, so that a plan does not have it.
        step: whether a profile's step may have it.
    """

    name: str
    topic: Topic
    kind: Kind
    help: str
    default: Any = None
    shown: str = ""
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    bounds: tuple[int, int | None] = (1, None)
    datasets: tuple[str, ...] = DATASETS
    meant: Mapping[str, str] = field(default_factory=dict)
    here: Mapping[str, str] = field(default_factory=dict)
    run: bool = False
    step: bool = True

    @property
    def typed(self) -> str:
        """The option as a user types it."""
        return self.flags[0].partition("/")[0] if self.flags else f"--{self.name.replace('_', '-')}"

    @property
    def pair(self) -> bool:
        """Whether both of it can be said, `--on/--off`."""
        return bool(self.flags) and "/" in self.flags[0]

    def asks(self, value: object) -> bool:
        """Whether a value asks for something."""
        return value not in (None, "", (), [], False, self.default)

    def refusal(self, dataset: str, endpoint: str, value: object) -> UsageError:
        """What a user is told who gives it for an endpoint of a dataset that does not take it."""
        said = f"{self.typed} {value}" if self.kind is Kind.COUNT else self.typed
        known = " and ".join(", ".join(self.datasets).rsplit(", ", 1))
        return UsageError(f"{said} is not for {endpoint}.", self.meant.get(dataset) or f"It is for {known}.")


def _expiry(which: str, meant: str) -> dict[str, Any]:
    return {
        "metavar": "DAY",
        "datasets": (_CONTRACTS, _BARS, _CHAINS),
        "here": {_CONTRACTS: f"{which} expiry, YYYY-MM-DD; whole years are listed."},
        "meant": {_STOCKS: f"Stocks do not expire: did you mean --{meant}?"},
    }


_LISTED = {
    _CONTRACTS: "Whole years are listed, bounded by --expiry-gte and --expiry-lte; choose when bars are fetched."
}
_NOW = "A chain is of now: leave it out, or bound its expiries by --expiry-gte and --expiry-lte."
_DAYS = {_CONTRACTS: "A listing is of today: bound its expiries by --expiry-gte and --expiry-lte.", _CHAINS: _NOW}
_STOCKS_ONLY: dict[str, Any] = {"datasets": (_STOCKS,)}
_TWO_BARS: dict[str, Any] = {"datasets": (_STOCKS, _BARS), "meant": _DAYS}
_CHOSEN: dict[str, Any] = {"datasets": (_BARS, _CHAINS), "meant": _LISTED}

OPTIONS = (
    Option("provider", Topic.WHAT, Kind.TEXT, "Provider when DATASET does not name it.", shown="alpaca"),
    Option(
        "timeframe", Topic.WHAT, Kind.TEXT, "Length of a bar: 1Min to 59Min, 1Hour to 23Hour, 1Day, 1Week, 1Month.",
        "1Day", "1Day", ("--timeframe", "-t"), datasets=(_STOCKS, _BARS),
    ),
    Option(
        "feed", Topic.WHAT, Kind.TEXT, "Of stocks sip, iex, otc, boats or delayed_sip; of chains indicative or opra.",
        "", "sip; indicative", datasets=(_STOCKS, _CHAINS),
        here={
            _STOCKS: "sip, iex, otc, boats or delayed_sip.  [default: sip]",
            _CHAINS: "indicative or opra.  [default: indicative]",
        },
    ),
    Option(
        "adjustment", Topic.WHAT, Kind.TEXT, "Of prices: raw, split, dividend, spin-off or all.", "raw", "raw",
        **_STOCKS_ONLY,
    ),
    Option("currency", Topic.WHAT, Kind.TEXT, "ISO 4217 code of the prices.", "USD", "USD", **_STOCKS_ONLY),
    Option(
        "asof", Topic.WHAT, Kind.TEXT, "Day whose symbol names are meant, YYYY-MM-DD; - for no mapping.", "",
        **_STOCKS_ONLY,
    ),
    Option(
        "env_file", Topic.WHAT, Kind.FILE,
        "NAME=value lines: keys, and options as STAGINGEST_COMMAND_OPTION.", run=True, step=False,
    ),
    Option(
        "symbols", Topic.NAMES, Kind.NAMES, "Symbols, separated by commas; option contracts as OCC symbols.", (),
        flags=("--symbols", "-s"),
        here={
            _STOCKS: "Symbols, separated by commas.", _CONTRACTS: "The same as --underlyings.",
            _BARS: "Contracts, separated by commas, as OCC symbols.", _CHAINS: "The same as --underlyings.",
        },
    ),
    Option(
        "symbols_file", Topic.NAMES, Kind.FILES, "A CSV column, JSON, or one symbol a line.", (),
        metavar="FILE[:COLUMN]",
    ),
    Option("watchlist", Topic.NAMES, Kind.NAMES, "A list of the watchlists file.", (), metavar="NAME"),
    Option(
        "watchlists_file", Topic.NAMES, Kind.FILE, "JSON, {name: [symbols]}.",
        shown="./watchlists.json, ./data/watchlists.json",
    ),
    Option(
        "index", Topic.NAMES, Kind.NAMES, "All who belonged to this universe on some day asked.", (), metavar="NAME",
        datasets=(_STOCKS, _CONTRACTS, _CHAINS),
        meant={_BARS: "Its members are stocks: name those whose contracts are meant with --underlyings."},
    ),
    Option(
        "underlyings", Topic.NAMES, Kind.NAMES,
        "Stocks whose contracts are listed, whose contracts' bars are fetched, or whose chains are captured.", (),
        datasets=(_CONTRACTS, _BARS, _CHAINS), meant={_STOCKS: "Name symbols with --symbols."},
        here={
            _CONTRACTS: "Stocks whose contracts are listed, separated by commas.",
            _BARS: "Stocks whose known contracts are meant, separated by commas.",
            _CHAINS: "Stocks whose chains are captured, separated by commas.",
        },
    ),
    Option(
        "contracts_from", Topic.NAMES, Kind.FOLDER,
        "Another staging directory whose contracts are known too; without names, all its underlyings are asked.",
        datasets=(_BARS, _CHAINS),
    ),
    Option(
        "db", Topic.NAMES, Kind.FILE, "DuckDB file; what it holds is not asked, and its contracts are known.",
        step=False,
    ),
    Option("expiry_gte", Topic.NAMES, Kind.TEXT, "Earliest expiry, YYYY-MM-DD.", "", **_expiry("Earliest", "start")),
    Option("expiry_lte", Topic.NAMES, Kind.TEXT, "Latest expiry, YYYY-MM-DD.", "", **_expiry("Latest", "end")),
    Option("strike_gte", Topic.NAMES, Kind.TEXT, "Lowest strike of contracts, in dollars.", "", **_CHOSEN),
    Option("strike_lte", Topic.NAMES, Kind.TEXT, "Highest strike of contracts, in dollars.", "", **_CHOSEN),
    Option(
        "option_type", Topic.NAMES, Kind.TEXT, "Contracts of one type: call or put.", "", flags=("--type",), **_CHOSEN
    ),
    Option(
        "moneyness", Topic.NAMES, Kind.TEXT,
        "Strikes of contracts over the latest close; one that is not known is asked first.", "",
        metavar="LOW..HIGH", **_CHOSEN,
    ),
    Option(
        "start", Topic.TIME, Kind.TEXT, "First New York day, YYYY-MM-DD; max: the provider's first.", "max", "max",
        metavar="DAY", **_TWO_BARS,
    ),
    Option(
        "end", Topic.TIME, Kind.TEXT, "Last day, inclusive.", "", "the last day whose prices are final", metavar="DAY",
        **_TWO_BARS,
    ),
    Option(
        "lookback_years", Topic.TIME, Kind.COUNT, "Bars of contracts from so long before expiry.", 10, "10",
        bounds=(1, 50), datasets=(_BARS,),
    ),
    Option(
        "top_up", Topic.TIME, Kind.FLAG, "From where what is known ends to now; without names, all of it.", False,
        datasets=(_STOCKS, _CONTRACTS, _BARS), meant={_CHAINS: "A chain is always asked: leave it out."},
        here={_CONTRACTS: "All underlyings that were listed before."},
    ),
    Option(
        "overlap", Topic.TIME, Kind.TEXT, "With --top-up: the last days known again, 3d.", "", metavar="DAYS",
        **_TWO_BARS,
    ),
    Option(
        "resume", Topic.TIME, Kind.FLAG, "Ask what is missing, or everything anew.", True,
        flags=("--resume/--no-resume",), shown="resume",
    ),
    Option("realtime", Topic.TIME, Kind.FLAG, "Ask up to now; needs a plan with recent data.", False, run=True),
    Option(
        "in_session", Topic.TIME, Kind.FLAG, "Do nothing, and exit 0, outside the session of New York.", False,
        run=True, step=False,
    ),
    Option(
        "max_rps", Topic.SPEED, Kind.RATES,
        "Most requests a second, of this endpoint or of ENDPOINT; may be given several times.",
        shown="as the provider allows", metavar="[ENDPOINT=]N",
    ),
    Option(
        "processes", Topic.SPEED, Kind.COUNT, "Worker processes; 0 is in this process.", shown="cores",
        bounds=(0, 64), run=True,
    ),
    Option(
        "lanes", Topic.SPEED, Kind.LANES, "Requests in flight per process, 1 to 64, here or of ENDPOINT.",
        shown="as rate and latency need", metavar="[ENDPOINT=]N", run=True,
    ),
    Option(
        "preset", Topic.SPEED, Kind.TEXT,
        "conservative, balanced, aggressive, or one of the configuration: how hard the provider is asked.",
        metavar="NAME", run=True, step=False,
    ),
    Option(
        "gzip", Topic.SPEED, Kind.FLAG, "Ask compressed bodies.", True, "gzip", ("--gzip/--no-gzip",), run=True
    ),
    Option(
        "max_underlyings", Topic.FAR, Kind.COUNT, "Ask about so many underlyings that have something due at most.",
        datasets=(_CONTRACTS, _BARS, _CHAINS), meant={_STOCKS: "Bound the run with --max-chunks or --max-requests."},
    ),
    Option(
        "max_expiries", Topic.FAR, Kind.COUNT, "Ask about so many expiries of each underlying, the next ones, at most.",
        datasets=(_BARS,),
        meant={
            _STOCKS: "Bound the run with --max-chunks or --max-requests.",
            _CONTRACTS: "Bound it with --expiry-gte and --expiry-lte.",
            _CHAINS: "Bound it with --expiry-gte and --expiry-lte.",
        },
    ),
    Option(
        "max_contracts", Topic.FAR, Kind.COUNT, "Ask about so many contracts at most.", datasets=(_BARS,),
        meant={
            _STOCKS: "Bound the run with --max-chunks or --max-requests.",
            _CONTRACTS: "Bound it with --expiry-gte and --expiry-lte.",
            _CHAINS: "Bound it with --expiry-gte and --expiry-lte.",
        },
    ),
    Option(
        "max_requests", Topic.FAR, Kind.COUNT, "End the run after so many requests, retries included.", run=True
    ),
    Option("max_chunks", Topic.FAR, Kind.COUNT, "End the run after so many chunks.", run=True),
    Option("max_minutes", Topic.FAR, Kind.MINUTES, "End the run after so many minutes.", run=True),
    Option(
        "fail_fast", Topic.FAR, Kind.FLAG, "End at the first failed chunk, or go on.", False, "go on",
        ("--fail-fast/--best-effort",), run=True,
    ),
    Option(
        "dry_run", Topic.FAR, Kind.FLAG, "Show the plan; ask nothing, make no file.", False, run=True, step=False
    ),
    Option(
        "staging", Topic.OUTPUT, Kind.FOLDER, "Staging directory; fetch makes it.", "staging", "staging", step=False
    ),
    Option("as_json", Topic.OUTPUT, Kind.FLAG, "Print one JSON document on stdout and nothing else.", False,
           flags=("--json",), step=False),
    Option(
        "log_rate_limits", Topic.OUTPUT, Kind.FLAG, "Say every second on stderr what the rate limiter does.", False,
        run=True, step=False,
    ),
    Option(
        "fail_if_empty", Topic.OUTPUT, Kind.FLAG, "Exit with 7 when there was nothing to do.", False, run=True,
        step=False,
    ),
)  # fmt: skip

EXAMPLES: Mapping[str, str] = {
    _STOCKS: "stock-bars -s AAPL,BRK.B -t 1Min --start 2024-05-01",
    _CONTRACTS: "option-contracts --underlyings SPY --expiry-gte 2024-01-01",
    _BARS: "option-bars --underlyings SPY --moneyness 0.8..1.2",
    _CHAINS: "option-snapshots --underlyings SPY --type call",
}
"""Dataset -> words that a command of a fetch may begin with."""

BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}


def dataset_of(text: str) -> str:
    """The dataset in a dataset's or an endpoint's name."""
    return text.rpartition("/")[2]


def takes(dataset: str, name: str) -> bool:
    """Whether a dataset takes an option; one that is not known here takes all."""
    option = BY_NAME.get(name)
    return option is None or dataset in option.datasets or dataset not in DATASETS


def refuse(dataset: str, endpoint: str, given: Mapping[str, object]) -> None:
    """Raise UsageError for an option that asks for something and is not for the endpoint's dataset."""
    for name, value in given.items():
        option = BY_NAME.get(name)
        if option and option.asks(value) and not takes(dataset, name):
            raise option.refusal(dataset, endpoint, value)


def of_plan(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a plan has of the options of a fetch."""
    return {name: value for name, value in given.items() if name not in BY_NAME or not BY_NAME[name].run}


class FetchOptions(TypedDict, total=False):
    """What may be asked; every field has a default.

    A keyword means what the option of its name means: `stagingest fetch DATASET --help` shows those a dataset takes,
    and another one is refused.
    """

    symbols: Iterable[str]
    watchlist: Iterable[str]
    watchlists_file: "str | Path | None"
    index: Iterable[str]
    underlyings: Iterable[str]
    provider: str | None
    timeframe: str
    start: "str | date"
    end: "str | date"
    feed: str
    adjustment: str
    currency: str
    asof: str
    expiry_gte: "str | date"
    expiry_lte: "str | date"
    strike_gte: "str | float | Decimal"
    strike_lte: "str | float | Decimal"
    option_type: str
    moneyness: str
    lookback_years: int
    top_up: bool
    overlap: str
    max_underlyings: int | None
    max_expiries: int | None
    max_contracts: int | None
    contracts_from: "str | Path | None"

"""What an endpoint promises, what a provider declares, and what the options of all providers share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from stagingest.errors import UsageError
from stagingest.model import calendar
from stagingest.model.calendar import DAY, new_york
from stagingest.model.chunk import Chunk, Coverage, Cut, Series
from stagingest.model.option_symbol import OptionSymbol
from stagingest.model.page import Page, Request
from stagingest.model.windows import Grid, Window
from stagingest.providers import options as o


class Endpoint(Protocol):
    """One HTTP route of a provider: how to cut, ask and read it. Everything is pure."""

    name: str
    provider: str
    dataset: str
    kind: Coverage
    budget: str
    floor: date

    def canonical(self, options: Mapping[str, str]) -> Series:
        """The series of these options, every default written out. Raises UsageError on a bad value."""

    def symbol(self, text: str) -> str | None:
        """The provider's spelling of a symbol, or None when its pattern refuses it."""

    def cut(self, series: Series) -> Cut:
        """How the series wants to be cut."""

    def final_before(self, series: Series, asked_at: datetime) -> date:
        """The day before which answers given at `asked_at` (UTC) do not change any more."""

    def constants(self, series: Series) -> dict[str, str]:
        """Staged columns that are the same in every row of the series."""

    def first(self, chunk: Chunk, not_after: datetime | None = None) -> Request:
        """The request for the first page."""

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in a response body. Raises PageError when it is not one."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host of a provider that meters requests on its own.

    Args:
        name: as in Request.budget.
        url_variable, url: where the base URL comes from, and its default.
        lowest_plan_per_s: permits a second that every plan has (WIRE section 1.2).
        keys: header name -> environment variables that may hold its value, first one wins.
        scheme: what stands before a key in its header.
        tells_keys: whether a wrong key is answered 401 always, so that 403 means that the plan lacks the data.
    """

    name: str
    url_variable: str
    url: str
    lowest_plan_per_s: float
    keys: tuple[tuple[str, tuple[str, ...]], ...]
    scheme: str = ""
    tells_keys: bool = False


@dataclass(frozen=True, slots=True)
class Provider:
    """What a provider brings along.

    Args:
        name: the first word of its endpoints and budgets, and what its rows say in column `provider`.
        hosts: that it is asked at. endpoints: each of one of those hosts' budgets.
    """

    name: str
    hosts: tuple[Host, ...]
    endpoints: tuple[Endpoint, ...]


def may_be_cut(endpoint: Endpoint, chunk: Chunk, page: Page) -> bool:
    """Whether a last page is so full that it may be a silent cut, which a chunk shows when it is asked in two parts."""
    days = (chunk.window.end - chunk.window.start).days
    divisible = len(chunk.symbols) > 1 or (endpoint.kind.has_days and days > 1)
    return divisible and (page.counted or page.rows) >= endpoint.cut(chunk.series).page_rows


def smallest(endpoint: Endpoint, now: datetime) -> Request:
    """The smallest useful question: of a contract or a stock everybody may ask for, over a few days that are over."""
    today, symbol = new_york(now).date(), "AAPL"
    window, options = Window(today, today + DAY), {"timeframe": "1Day"}
    if endpoint.kind is Coverage.LISTING:
        options = {"status": "active", "expiry_gte": f"{today.year}-01-01", "expiry_lte": f"{today.year}-12-31"}
    elif endpoint.kind is Coverage.CAPTURE:
        options = {"expiry_gte": str(today), "expiry_lte": str(today + 7 * DAY), "option_type": "call"}
    else:
        window = Window(today - 40 * DAY, today - 35 * DAY)
        symbol = symbol if endpoint.dataset == "stock-bars" else f"AAPL{today - 30 * DAY:%y%m%d}C00200000"
    return endpoint.first(Chunk(endpoint.canonical(options), (symbol,), window))


STATUSES = ("active", "inactive")


class ContractListing(ABC):
    """A listing of the contracts of underlyings, as of a day, by status and expiry."""

    name: str
    provider: str
    dataset = "option-contracts"
    kind = Coverage.LISTING
    budget: str
    floor: date

    def canonical(self, options: Mapping[str, str]) -> Series:
        """Options `status`, `expiry_gte`, `expiry_lte` (both inclusive, both required). Raises UsageError."""
        o.known(self.name, options, ("status", "expiry_gte", "expiry_lte"))
        low, high = (calendar.day(name, options.get(name, "")) for name in ("expiry_gte", "expiry_lte"))
        if low > high:
            raise UsageError(f"expiry_gte {low} is after expiry_lte {high}.", f"The latest is {high}.")
        status = o.one_of("status", options.get("status") or "active", STATUSES)
        return Series.of(self.name, {"status": status, "expiry_gte": str(low), "expiry_lte": str(high)})

    @abstractmethod
    def symbol(self, text: str) -> str | None:
        """The underlying as the provider spells it."""

    @abstractmethod
    def cut(self, series: Series) -> Cut:
        """How the series wants to be cut."""

    def days(self, series: Series) -> int:
        """How many days of expiries the series asks."""
        low, high = (date.fromisoformat(series[name]) for name in ("expiry_gte", "expiry_lte"))
        return (high - low).days + 1

    def final_before(self, series: Series, asked_at: datetime) -> date:
        """Tomorrow in New York: the listing of today is known once asked."""
        return new_york(asked_at).date() + DAY

    def constants(self, series: Series) -> dict[str, str]:
        """The provider; the rest of a series is filters, not columns."""
        return {"provider": self.provider}

    def expiries(self, chunk: Chunk) -> tuple[date, date]:
        """First and last expiry that contracts of the chunk's status can have on its day, within what is asked."""
        series = chunk.series
        low, high = (date.fromisoformat(series[name]) for name in ("expiry_gte", "expiry_lte"))
        return o.expiries(series["status"], low, high, chunk.window.start)

    @abstractmethod
    def first(self, chunk: Chunk, not_after: datetime | None = None) -> Request:
        """The request for the first page."""

    @abstractmethod
    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in `body`. Raises PageError."""


class ContractBars(ABC):
    """What bars of option contracts are everywhere, whatever else the provider's bars share."""

    name: str
    dataset = "option-bars"
    column = "contract_symbol"

    @abstractmethod
    def interval(self, options: Mapping[str, str]) -> str:
        """The interval of option `timeframe` (or `interval`). Raises UsageError."""

    def canonical(self, options: Mapping[str, str]) -> Series:
        """Option `timeframe` (or `interval`); what else stock bars know has no meaning here. Raises UsageError."""
        o.known(self.name, options, ("timeframe", "interval"))
        return Series.of(self.name, {"interval": self.interval(options)})

    def symbol(self, text: str) -> str | None:
        """The bare OCC symbol: `O:` is stripped."""
        symbol = text.strip().upper().removeprefix("O:")
        return symbol if OptionSymbol.parse(symbol) else None


TYPES = ("call", "put")
BOUNDS = ("strike_gte", "strike_lte", "option_type", "expiry_gte", "expiry_lte")
_CONTRACTS_PER_CHAIN = 2_500
_ROW_BYTES = 60  # measured by `scripts/bench snapshots`


class Chain(ABC):
    """A chain endpoint: one underlying a chunk, because its pages are staged together or not at all."""

    name: str
    provider: str
    dataset = "option-snapshots"
    kind = Coverage.CAPTURE
    budget: str
    floor = date.min
    path: str
    feeds: tuple[str, ...]
    """Where quotes may come from, the default first; () when there is no choice and the column is ''."""
    page_rows: int
    wire: tuple[str, ...]
    """What the bounds are called on the wire, in the order of BOUNDS."""

    def canonical(self, options: Mapping[str, str]) -> Series:
        """Option `feed` (the first of the endpoint's is the default) and bounds, all inclusive: `strike_gte`,
        `strike_lte`, `option_type`, `expiry_gte`, `expiry_lte`. Raises UsageError.
        """
        o.known(self.name, options, ("feed", *BOUNDS) if self.feeds else BOUNDS)
        feed = o.one_of("feed", options.get("feed") or self.feeds[0], self.feeds) if self.feeds else ""
        given = {name: options.get(name) or "" for name in BOUNDS}
        for name in ("strike_gte", "strike_lte"):
            given[name] = given[name] and str(o.strike(name, given[name]))
        for name in ("expiry_gte", "expiry_lte"):
            given[name] = given[name] and str(calendar.day(name, given[name]))
        given["option_type"] = given["option_type"] and o.one_of("type", given["option_type"], TYPES)
        low, high = given["strike_gte"], given["strike_lte"]
        if low and high and float(low) > float(high):
            raise UsageError(f"strike_gte {low} is above strike_lte {high}.", f"The highest is {high}.")
        if given["expiry_lte"] and given["expiry_gte"] > given["expiry_lte"]:
            said = f"expiry_gte {given['expiry_gte']} is after expiry_lte {given['expiry_lte']}."
            raise UsageError(said, f"The latest is {given['expiry_lte']}.")
        return Series.of(self.name, {"feed": feed, **given})

    @abstractmethod
    def symbol(self, text: str) -> str | None:
        """The underlying as the provider spells it."""

    def cut(self, series: Series) -> Cut:
        """One underlying a chunk."""
        return Cut(Grid(), 1, _CONTRACTS_PER_CHAIN, page_rows=self.page_rows, row_bytes=_ROW_BYTES)

    def final_before(self, series: Series, asked_at: datetime) -> date:
        """No day: a moment answers for none, and is asked again whenever somebody asks."""
        return date.min

    def constants(self, series: Series) -> dict[str, str]:
        """Provider and feed; the rest of a series is bounds, not columns."""
        return {"provider": self.provider, "feed": series["feed"]}

    def first(self, chunk: Chunk, not_after: datetime | None = None) -> Request:
        """The first page; the bounds hold on the provider's side."""
        bounds = (
            (wire, chunk.series[name]) for name, wire in zip(BOUNDS, self.wire, strict=True) if chunk.series[name]
        )
        query = (*self.plain(chunk.series), *bounds, ("limit", str(self.page_rows)))
        return Request(self.budget, f"{self.path}/{chunk.symbols[0]}", query)

    @abstractmethod
    def plain(self, series: Series) -> tuple[tuple[str, str], ...]:
        """Parameters that are sent whatever the bounds."""

    @abstractmethod
    def ahead(self, request: Request, body: bytes) -> Request | None:
        """What `read` will call the next request, guessed without reading: None where that is not easily seen."""

    @abstractmethod
    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in `body`. Raises PageError."""

"""Massive's endpoints beside its chains: stock bars, option bars, option contracts."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from stagingest.errors import UsageError
from stagingest.model import calendar, windows
from stagingest.model.calendar import DAY
from stagingest.model.chunk import Chunk, Coverage, Cut, Series
from stagingest.model.page import Page, Request
from stagingest.model.windows import Grid
from stagingest.providers import options as o
from stagingest.providers.endpoint import Chain, ContractBars, ContractListing, Host, Provider
from stagingest.providers.timeframe import BarTimeframe

PAGE_BASE = 50_000
"""Minutes (of longer bars: days) that the provider looks through for one page, those without a trade not counted."""
PAGE_CONTRACTS = 1_000
ADJUSTMENTS = ("raw", "split")

_TICKER = re.compile(r"[A-Z]+(?:\.[A-Z]+)?|[A-Z]+p[A-Z]?")
_CLASS = re.compile(r"([A-Z]+)[/-]([A-Z])")
_PREFERRED = re.compile(r"([A-Z]+)-P([A-Z])")
_MILLISECOND = timedelta(milliseconds=1)
# The lowest plan sees a session when its day is over, others sooner; a quarter of an hour for what is late.
_DELAY = timedelta(minutes=15)
_EXTENDED_MINUTES = 960
_OPTION_MINUTES = 405
_CHUNK_PAGES = 5
_CONTRACTS_PER_YEAR = 2_500
# What a bar is asked as: the unit's name, and months that have a name of their own.
_SPANS = {"min": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month"}
_MONTHS = {1: "1/month", 3: "1/quarter", 12: "1/year"}


class _Bars(ABC):
    """What the two bars endpoints share: `GET /v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{from}/{to}`."""

    provider = "massive"
    kind = Coverage.HISTORY
    budget = "massive/api"
    name: str
    dataset: str
    column: str
    prefix: str
    """What stands before a symbol on the wire."""
    floor: date

    def final_before(self, series: Series, asked_at: datetime) -> date:
        """The first day, or the start of the week or months, whose bars may change after `asked_at` (UTC)."""
        timeframe = BarTimeframe.parse(series["interval"])
        # Bars of several hours that began the day before may be open still.
        known = calendar.new_york(asked_at - timeframe.length - _DELAY).date()
        return windows.floor(timeframe.grid, known)

    def first(self, chunk: Chunk, not_after: datetime | None = None) -> Request:
        """The first page; both bounds are inclusive and stand in the path, in milliseconds.

        A week is asked from Monday to Saturday: the provider may begin it on the Sunday before.
        """
        timeframe = BarTimeframe.parse(chunk.series["interval"])
        start = calendar.instant(chunk.window.start)
        last_day = chunk.window.end - (DAY if timeframe.unit == "w" else timedelta(0))
        end = calendar.instant(last_day) - _MILLISECOND
        end = max(start, end if not_after is None else min(end, not_after))
        path = f"/v2/aggs/ticker/{self._ticker(chunk)}/range/{_span(timeframe)}/{_millis(start)}/{_millis(end)}"
        adjusted = "true" if self._adjusted(chunk.series) else "false"
        return Request(self.budget, path, (("adjusted", adjusted), ("sort", "asc"), ("limit", str(PAGE_BASE))))

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in `body`. Raises PageError."""
        from stagingest.providers.massive import bars

        said = bars.Said(self._ticker(chunk), self._adjusted(chunk.series), PAGE_BASE)
        return bars.read(chunk, request, body, self.column, said)

    def constants(self, series: Series) -> dict[str, str]:
        """Provider, interval and every other parameter: they are key columns."""
        return {"provider": self.provider, **dict(series.params)}

    def _ticker(self, chunk: Chunk) -> str:
        return f"{self.prefix}{chunk.symbols[0]}"

    @abstractmethod
    def _adjusted(self, series: Series) -> bool:
        """Whether prices are adjusted for splits."""


class MassiveStockBars(_Bars):
    """Aggregates of stocks: of all exchanges, in dollars, raw or adjusted for splits."""

    name = "massive/stock-bars"
    dataset = "stock-bars"
    column = "symbol"
    prefix = ""
    floor = date(2003, 9, 10)

    def canonical(self, options: Mapping[str, str]) -> Series:
        """Options `timeframe` (or `interval`) and `adjustment`. Raises UsageError."""
        o.known(self.name, options, ("timeframe", "interval", "adjustment"))
        return Series.of(
            self.name,
            {
                "interval": _interval(options),
                "feed": "sip",
                "adjustment": o.one_of("adjustment", options.get("adjustment") or "raw", ADJUSTMENTS),
                "currency": "USD",
                "asof": "",
            },
        )

    def symbol(self, text: str) -> str | None:
        """`brk/b` and `BRK-B` are `BRK.B`, `ABR-PD` is `ABRpD`."""
        return ticker(text)

    def cut(self, series: Series) -> Cut:
        """One symbol a request, up to five pages of it."""
        timeframe = BarTimeframe.parse(series["interval"])
        share = 0.6 if timeframe.intraday else 1.0
        return _cut(timeframe, share * timeframe.most_per_session(_EXTENDED_MINUTES), share * _EXTENDED_MINUTES)

    def _adjusted(self, series: Series) -> bool:
        return series["adjustment"] == "split"


class MassiveOptionBars(ContractBars, _Bars):
    """Aggregates of option contracts, never adjusted."""

    name = "massive/option-bars"
    prefix = "O:"
    floor = date(2014, 6, 2)

    def interval(self, options: Mapping[str, str]) -> str:
        """The interval of option `timeframe` (or `interval`). Raises UsageError."""
        return _interval(options)

    def cut(self, series: Series) -> Cut:
        """One contract a request, all of its life: it is asked from long before it is listed, and most trade little."""
        timeframe = BarTimeframe.parse(series["interval"])
        share = 0.04 if timeframe.intraday else 1.0
        return _cut(timeframe, share * timeframe.most_per_session(_OPTION_MINUTES), share * _OPTION_MINUTES)

    def _adjusted(self, series: Series) -> bool:
        return False


class MassiveOptionContracts(ContractListing):
    """`GET /v3/reference/options/contracts`; of an index as of a stock, `SPX`."""

    name = "massive/option-contracts"
    provider = "massive"
    budget = "massive/api"
    floor = date(2014, 6, 2)

    def symbol(self, text: str) -> str | None:
        """The underlying, spelled like a stock; `I:` is stripped."""
        return ticker(text.strip().removeprefix("I:"))

    def cut(self, series: Series) -> Cut:
        """One underlying a request."""
        rows = _CONTRACTS_PER_YEAR * self.days(series) / 365
        return Cut(Grid(), 1, rows, page_rows=PAGE_CONTRACTS)

    def first(self, chunk: Chunk, not_after: datetime | None = None) -> Request:
        """The first page; what is active has not expired, what is inactive has."""
        series = chunk.series
        first, last = self.expiries(chunk)
        query = (
            ("underlying_ticker", chunk.symbols[0]),
            ("expired", "true" if series["status"] == "inactive" else "false"),
            ("expiration_date.gte", str(first)),
            ("expiration_date.lte", str(last)),
            ("order", "asc"),
            ("sort", "ticker"),
            ("limit", str(PAGE_CONTRACTS)),
        )
        return Request(self.budget, "/v3/reference/options/contracts", query)

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in `body`. Raises PageError."""
        from stagingest.providers.massive import contracts

        return contracts.read(chunk, request, body, PAGE_CONTRACTS)


def ticker(text: str) -> str | None:
    """A stock as Massive spells it, whose preferred shares have a small `p`; None when it is none."""
    symbol = text.strip()
    if _TICKER.fullmatch(symbol):
        return symbol
    symbol = symbol.upper()
    if found := _PREFERRED.fullmatch(symbol):
        return f"{found[1]}p{found[2]}"
    found = _CLASS.fullmatch(symbol)
    symbol = f"{found[1]}.{found[2]}" if found else symbol
    return symbol if _TICKER.fullmatch(symbol) else None


def _cut(timeframe: BarTimeframe, rows: float, minutes: float) -> Cut:
    """One symbol a request.

    Args:
        rows: expected in a session. minutes: of them with a trade, which is what a page of intraday bars is cut by.
    """
    base_rows = max(1.0, (minutes if timeframe.intraday else 1.0) / rows)
    target = min(PAGE_BASE, int(_CHUNK_PAGES * PAGE_BASE / base_rows))
    return Cut(timeframe.grid, 1, rows, target, PAGE_BASE, base_rows=base_rows)


def _interval(options: Mapping[str, str]) -> str:
    timeframe = BarTimeframe.parse(options.get("timeframe") or options.get("interval") or "1Day")
    if timeframe.unit == "mo" and timeframe.step not in _MONTHS:
        raise UsageError(f"Massive has no bars of {timeframe.step} months.", "It has 1Month, 3Month and 12Month.")
    return timeframe.interval


def _span(timeframe: BarTimeframe) -> str:
    if timeframe.unit == "mo":
        return _MONTHS[timeframe.step]
    return f"{timeframe.step}/{_SPANS[timeframe.unit]}"


def _millis(moment: datetime) -> int:
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // _MILLISECOND


class MassiveOptionSnapshots(Chain):
    """`GET /v3/snapshot/options/{underlying}`, of stocks, and of indices as `I:SPX`."""

    name = "massive/option-snapshots"
    provider = "massive"
    budget = "massive/api"
    path = "/v3/snapshot/options"
    feeds = ()
    page_rows = 250
    wire = ("strike_price.gte", "strike_price.lte", "contract_type", "expiration_date.gte", "expiration_date.lte")

    def symbol(self, text: str) -> str | None:
        """`brk/b` and `BRK-B` are `BRK.B`; an index is `I:SPX`."""
        symbol = text.strip().upper()
        found = _CLASS.fullmatch(symbol)
        symbol = f"{found[1]}.{found[2]}" if found else symbol
        return symbol if _UNDERLYING.fullmatch(symbol) else None

    def plain(self, series: Series) -> tuple[tuple[str, str], ...]:
        """The order of a cursor's pages: no row moves between them."""
        return (("order", "asc"), ("sort", "ticker"))

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in `body`; the next request is its cursor alone, which the bounds ride in. Raises PageError."""
        from stagingest.providers.decode import chains
        from stagingest.providers.massive import chains as massive_chains
        from stagingest.providers.massive import paging

        envelope = paging.envelope_of(body)
        rows = paging.rows_of(envelope, self.page_rows)
        chains.check_rows(rows, self.page_rows)
        table, unknown = massive_chains.massive_table(chunk, rows, body)
        return Page(table, paging.following(request, envelope), unknown)

    def ahead(self, request: Request, body: bytes) -> Request | None:
        """The cursor of the address that stands last in the body."""
        from stagingest.providers.decode import paging as decode_paging
        from stagingest.providers.massive import paging

        return paging.following(request, decode_paging.last_member(body, "next_url"))


PROVIDER = Provider(
    "massive",
    (
        Host(
            "massive/api",
            "MASSIVE_API_BASE_URL",
            "https://api.massive.com",
            5 / 60,
            (("Authorization", ("MASSIVE_API_KEY", "POLYGON_API_KEY")),),
            "Bearer ",
            tells_keys=True,
        ),
    ),
    (MassiveStockBars(), MassiveOptionBars(), MassiveOptionContracts(), MassiveOptionSnapshots()),
)

_UNDERLYING = re.compile(r"(?:I:)?[A-Z]+[0-9]?(?:\.[A-Z]+)?")

"""Alpaca's endpoints: stock bars, option bars, option contracts, option snapshots."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

from stagingest.errors import UsageError
from stagingest.model import calendar, windows
from stagingest.model.calendar import DAY
from stagingest.model.chunk import Chunk, Coverage, Cut, Series
from stagingest.model.page import Page, Request
from stagingest.model.windows import Grid
from stagingest.providers import options as o
from stagingest.providers.endpoint import Chain, ContractBars, ContractListing, Host, Provider
from stagingest.providers.timeframe import BarTimeframe

PAGE_ROWS = 10_000
FEEDS = ("sip", "iex", "otc", "boats")
ADJUSTMENTS = ("raw", "split", "dividend", "spin-off", "all")
OPTION_FEEDS = ("indicative", "opra")

_TICKER = re.compile(r"[A-Z]+([.\-][A-Z]+)?")
_CLASS = re.compile(r"([A-Z]+)(?:/([A-Z]+)|-([A-Z]))")
_SECOND = timedelta(seconds=1)
# Alpaca's plans without real-time rights see data when it is 15 minutes old.
_DELAY = timedelta(minutes=15)
_EXTENDED_CLOSE = time(20)
_EXTENDED_MINUTES = 960
# Contracts on indices and funds trade until a quarter past the close.
_OPTIONS_AFTER_CLOSE = timedelta(minutes=15)
_OPTION_MINUTES = 405
_CONTRACTS_PER_YEAR = 2_500


class _Bars(ABC):
    """What the two bars endpoints share: windows of sessions, RFC 3339 bounds, pages by token."""

    provider = "alpaca"
    kind = Coverage.HISTORY
    budget = "alpaca/data"
    name: str
    dataset: str
    path: str
    column: str
    floor: date

    def final_before(self, series: Series, asked_at: datetime) -> date:
        """The first day, or the start of the week or months, whose bars may change after `asked_at` (UTC)."""
        timeframe = BarTimeframe.parse(series["interval"])
        today = calendar.new_york(asked_at).date()
        # Bars of several hours that began the day before may be open still.
        days = (today - 2 * DAY, today - DAY, today)
        open_days = (day for day in days if self._final_at(series, timeframe, day) > asked_at)
        return windows.floor(timeframe.grid, next(open_days, today + DAY))

    def _final_at(self, series: Series, timeframe: BarTimeframe, day: date) -> datetime:
        close = self._close(series, day)
        return calendar.instant(day + DAY) if close is None else close + timeframe.length + _DELAY

    @abstractmethod
    def _close(self, series: Series, day: date) -> datetime | None:
        """When trading of `day` ends (UTC), None when nobody trades."""

    def first(self, chunk: Chunk, not_after: datetime | None = None) -> Request:
        """The first page; both bounds are inclusive, so the last one stops a second short of the next window."""
        start = calendar.instant(chunk.window.start)
        end = calendar.instant(chunk.window.end) - _SECOND
        end = max(start, end if not_after is None else min(end, not_after))
        query = (
            ("symbols", ",".join(chunk.symbols)),
            ("timeframe", BarTimeframe.parse(chunk.series["interval"]).wire),
            ("start", _rfc3339(start)),
            ("end", _rfc3339(end)),
            ("limit", str(PAGE_ROWS)),
            ("sort", "asc"),
            *((name, value) for name, value in chunk.series.params if name != "interval" and value),
        )
        return Request(self.budget, self.path, query)

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in `body`. Raises PageError."""
        from stagingest.providers.alpaca import bars

        return bars.read(chunk, request, body, self.column)

    def constants(self, series: Series) -> dict[str, str]:
        """Provider, interval and every other parameter: they are key columns."""
        return {"provider": self.provider, **dict(series.params)}


class AlpacaStockBars(_Bars):
    """`GET /v2/stocks/bars`."""

    name = "alpaca/stock-bars"
    dataset = "stock-bars"
    path = "/v2/stocks/bars"
    column = "symbol"
    floor = date(2016, 1, 1)

    def canonical(self, options: Mapping[str, str]) -> Series:
        """Options `timeframe` (or `interval`), `feed`, `adjustment`, `currency`, `asof`. Raises UsageError."""
        o.known(self.name, options, ("timeframe", "interval", *o.NOTHING))
        return Series.of(
            self.name,
            {
                "interval": _interval(options),
                "feed": _feed(options.get("feed") or "sip"),
                "adjustment": _adjustment(options.get("adjustment") or "raw"),
                "currency": _currency(options.get("currency") or "USD"),
                "asof": _asof(options.get("asof") or ""),
            },
        )

    def symbol(self, text: str) -> str | None:
        """`brk/b` and `BRK-B` are `BRK.B`; `ABR-PD` stays."""
        return _ticker(text)

    def cut(self, series: Series) -> Cut:
        """A chunk planned for 50,000 rows holds less than 100,000 even if every extended minute trades."""
        timeframe = BarTimeframe.parse(series["interval"])
        share = 0.6 if timeframe.intraday else 1.0
        return Cut(timeframe.grid, 200, share * timeframe.most_per_session(_EXTENDED_MINUTES), page_rows=PAGE_ROWS)

    def _close(self, series: Series, day: date) -> datetime | None:
        # The overnight market of `boats` begins on days without a session and passes midnight.
        if series["feed"] == "boats":
            return calendar.instant(day + DAY)
        return calendar.instant(day, _EXTENDED_CLOSE) if calendar.is_session(day) else None


class AlpacaOptionBars(ContractBars, _Bars):
    """`GET /v1beta1/options/bars`."""

    name = "alpaca/option-bars"
    path = "/v1beta1/options/bars"
    floor = date(2024, 2, 1)

    def interval(self, options: Mapping[str, str]) -> str:
        """The interval of option `timeframe` (or `interval`). Raises UsageError."""
        return _interval(options)

    def cut(self, series: Series) -> Cut:
        """Half of what would be there if every contract traded all the time: few do, and no chunk exceeds 100,000."""
        timeframe = BarTimeframe.parse(series["interval"])
        return Cut(timeframe.grid, 100, 0.5 * timeframe.most_per_session(_OPTION_MINUTES), page_rows=PAGE_ROWS)

    def _close(self, series: Series, day: date) -> datetime | None:
        return calendar.hours(day)[1] + _OPTIONS_AFTER_CLOSE if calendar.is_session(day) else None


class AlpacaOptionContracts(ContractListing):
    """`GET /v2/options/contracts` on the trading host."""

    name = "alpaca/option-contracts"
    provider = "alpaca"
    budget = "alpaca/trading"
    floor = date(2024, 2, 1)

    def symbol(self, text: str) -> str | None:
        """The underlying, spelled like a stock."""
        return _ticker(text)

    def cut(self, series: Series) -> Cut:
        """One page: ten underlyings at most, fewer when many years of expiries are asked."""
        rows = _CONTRACTS_PER_YEAR * self.days(series) / 365
        return Cut(Grid(), 10, rows, target_rows=PAGE_ROWS, page_rows=PAGE_ROWS)

    def first(self, chunk: Chunk, not_after: datetime | None = None) -> Request:
        """The first page; without `expiration_date_lte` the provider would list one week."""
        series = chunk.series
        first, last = self.expiries(chunk)
        query = (
            ("underlying_symbols", ",".join(chunk.symbols)),
            ("status", series["status"]),
            ("expiration_date_gte", str(first)),
            ("expiration_date_lte", str(last)),
            ("show_deliverables", "true"),
            ("limit", str(PAGE_ROWS)),
        )
        return Request(self.budget, "/v2/options/contracts", query)

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in `body`. Raises PageError."""
        from stagingest.providers.alpaca import contracts

        return contracts.read(chunk, request, body)


class AlpacaOptionSnapshots(Chain):
    """`GET /v1beta1/options/snapshots/{underlying}`.

    The feed is `indicative` unless `opra` is asked for: every plan may see the one, only a signed agreement the other.
    """

    name = "alpaca/option-snapshots"
    provider = "alpaca"
    budget = "alpaca/data"
    path = "/v1beta1/options/snapshots"
    feeds = OPTION_FEEDS
    page_rows = 1_000
    wire = ("strike_price_gte", "strike_price_lte", "type", "expiration_date_gte", "expiration_date_lte")

    def symbol(self, text: str) -> str | None:
        """The underlying, spelled like a stock."""
        return _ticker(text)

    def plain(self, series: Series) -> tuple[tuple[str, str], ...]:
        """The feed, always."""
        return (("feed", series["feed"]),)

    def ahead(self, request: Request, body: bytes) -> Request | None:
        """The request with the page token that stands last in the body."""
        from stagingest.providers.decode import paging

        return paging.following(request, paging.last_member(body, "next_page_token"))

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in `body`. Raises PageError."""
        from stagingest.providers.alpaca import chains

        return chains.of_alpaca(chunk, request, body)


def _ticker(text: str) -> str | None:
    symbol = text.strip().upper()
    found = _CLASS.fullmatch(symbol)
    if found:
        symbol = f"{found[1]}.{found[2] or found[3]}"
    return symbol if _TICKER.fullmatch(symbol) else None


def _interval(options: Mapping[str, str]) -> str:
    return BarTimeframe.parse(options.get("timeframe") or options.get("interval") or "1Day").interval


def _feed(value: str) -> str:
    return o.one_of("feed", "sip" if value.strip().lower() == "delayed_sip" else value, FEEDS)


def _adjustment(value: str) -> str:
    asked = {o.one_of("adjustment", part, ADJUSTMENTS) for part in value.split(",")}
    if len(asked) > 1 and "raw" in asked:
        raise UsageError(f"Adjustment {value!r} is raw and is not.", "Name raw alone or leave it out.")
    return "all" if "all" in asked else ",".join(part for part in ADJUSTMENTS if part in asked)


def _currency(value: str) -> str:
    code = value.strip().upper()
    if not re.fullmatch(r"[A-Z]{3}", code):
        raise UsageError(f"{value!r} is no currency.", "Write an ISO 4217 code, for example USD.")
    return code


def _asof(value: str) -> str:
    text = value.strip()
    if text in ("", "latest"):
        return ""
    return text if text == "-" else str(calendar.day("asof", text))


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_KEYS = (("APCA-API-KEY-ID", ("APCA_API_KEY_ID",)), ("APCA-API-SECRET-KEY", ("APCA_API_SECRET_KEY",)))
PROVIDER = Provider(
    "alpaca",
    (
        Host("alpaca/data", "APCA_API_DATA_URL", "https://data.alpaca.markets", 200 / 60, _KEYS),
        Host("alpaca/trading", "APCA_API_BASE_URL", "https://paper-api.alpaca.markets", 200 / 60, _KEYS),
    ),
    (AlpacaStockBars(), AlpacaOptionBars(), AlpacaOptionContracts(), AlpacaOptionSnapshots()),
)

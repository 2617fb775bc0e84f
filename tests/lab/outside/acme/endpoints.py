"""Where ACME is asked, and how its daily bars are cut, asked and read."""

from collections.abc import Mapping
from datetime import date, datetime

from stagingest.errors import UsageError
from stagingest.model.calendar import DAY, new_york
from stagingest.model.chunk import Chunk, Coverage, Cut, Series
from stagingest.model.page import Page, Request
from stagingest.model.windows import Grid
from stagingest.providers import options as o
from stagingest.providers.endpoint import Host, Provider
from stagingest.providers.timeframe import BarTimeframe

ROWS = 100


class DailyBars:
    """`GET /acme/daily/{symbol}`: both days are inclusive, so many rows a page."""

    name, provider, dataset, budget = "acme/stock-bars", "acme", "stock-bars", "acme/api"
    kind, floor = Coverage.HISTORY, date(2010, 1, 4)

    def canonical(self, options: Mapping[str, str]) -> Series:
        o.known(self.name, options, ("timeframe", "interval"))
        timeframe = BarTimeframe.parse(options.get("timeframe") or options.get("interval") or "1Day")
        if timeframe.interval != "1d":
            raise UsageError("ACME has daily bars only.", "Write --timeframe 1Day.")
        key = {"interval": "1d", "feed": "acme", "adjustment": "raw", "currency": "USD", "asof": ""}
        return Series.of(self.name, key)

    def symbol(self, text: str) -> str | None:
        symbol = text.strip().upper()
        return symbol if symbol.isalpha() else None

    def cut(self, series: Series) -> Cut:
        return Cut(Grid(), 1, 1.0, page_rows=ROWS)

    def final_before(self, series: Series, asked_at: datetime) -> date:
        return new_york(asked_at).date()

    def constants(self, series: Series) -> dict[str, str]:
        return {"provider": self.provider, **dict(series.params)}

    def first(self, chunk: Chunk, not_after: datetime | None = None) -> Request:
        days = (("from", str(chunk.window.start)), ("to", str(chunk.window.end - DAY)), ("limit", str(ROWS)))
        return Request(self.budget, f"/acme/daily/{chunk.symbols[0]}", days)

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        from stagingest.providers.decode import bars, paging

        envelope = paging.envelope_of(body, "bars")
        following = paging.following(request, envelope)
        if not envelope.get("bars"):
            return Page(None, following)
        rows = bars.rows_of(envelope, {chunk.symbols[0]: envelope["bars"]}, body, bars.RFC_3339)
        return Page(rows.table("symbol"), following, rows.unknown)


HOST = Host(
    "acme/api", "ACME_BASE_URL", "https://api.acme.example", 5.0, (("X-Acme", ("ACME_PASS",)),), tells_keys=True
)
PROVIDER = Provider("acme", (HOST,), (DailyBars(),))

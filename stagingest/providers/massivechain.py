"""Massive's option chains: `GET /v3/snapshot/options/{underlying}`, pages by cursor."""

import re

from stagingest.model import Chunk, Page, Request, Series
from stagingest.providers.chains import Chain

_TICKER = re.compile(r"(?:I:)?[A-Z]+[0-9]?(?:\.[A-Z]+)?")
_CLASS = re.compile(r"([A-Z]+)[/-]([A-Z])")


class OptionSnapshots(Chain):
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
        return symbol if _TICKER.fullmatch(symbol) else None

    def plain(self, series: Series) -> tuple[tuple[str, str], ...]:
        """The order of a cursor's pages: no row moves between them."""
        return (("order", "asc"), ("sort", "ticker"))

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """The page in `body`; the next request is its cursor alone, which the bounds ride in. Raises PageError."""
        from stagingest.providers import massivepaging, snapshots

        envelope = massivepaging.envelope_of(body)
        rows = massivepaging.rows_of(envelope, self.page_rows)
        snapshots.check_rows(rows, self.page_rows)
        table, unknown = snapshots.massive_table(chunk, rows, body)
        return Page(table, massivepaging.following(request, envelope), unknown)

    def ahead(self, request: Request, body: bytes) -> Request | None:
        """The cursor of the address that stands last in the body."""
        from stagingest.providers import massivepaging, paging

        return massivepaging.following(request, paging.last_member(body, "next_url"))

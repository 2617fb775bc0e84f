"""Massive's option chains: `GET /v3/snapshot/options/{underlying}`, pages by cursor."""

import re
from collections.abc import Mapping
from typing import Any

from stagingest.errors import PageError
from stagingest.model import Chunk, Page, Request, Series
from stagingest.providers.chains import Chain
from stagingest.providers.cursor import Origin, cursor

# Where the provider's own next_url leads; nothing is sent there (the old name still answers).
_ORIGINS = frozenset(map(Origin.of, ("https://api.massive.com", "https://api.polygon.io")))
_ERRORS = frozenset({"ERROR", "NOT_AUTHORIZED"})
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
        from stagingest.providers import paging, snapshots

        envelope = paging.envelope_of(body, "results")
        _check(envelope)
        rows = envelope.get("results") or []
        if not isinstance(rows, list):
            raise PageError("The answer's results are no list.")
        snapshots.check_rows(rows, self.page_rows)
        table, unknown = snapshots.massive_table(chunk, rows, body)
        return Page(table, self._following(request, envelope), unknown)

    def ahead(self, request: Request, body: bytes) -> Request | None:
        """The cursor of the address that stands last in the body."""
        from stagingest.providers import paging

        return self._following(request, paging.last_member(body, "next_url"))

    def _following(self, request: Request, envelope: Mapping[str, Any]) -> Request | None:
        found = cursor(envelope.get("next_url"), request.path, _ORIGINS)
        return Request(self.budget, found.path, (("cursor", found.text),)) if found else None


def _check(envelope: Mapping[str, Any]) -> None:
    """Raise PageError for an error that came with status 200; `DELAYED` is what a delayed plan answers."""
    if envelope.get("status") in _ERRORS:
        said = envelope.get("error") or envelope.get("message") or envelope["status"]
        raise PageError(f"The answer is an error: {str(said)[:200]}")

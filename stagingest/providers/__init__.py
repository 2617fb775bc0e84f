"""What an endpoint of a provider promises; one file per provider implements it."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Protocol

from stagingest.model import Chunk, Cut, Kind, Page, Request, Series


class Endpoint(Protocol):
    """One HTTP route of a provider: how to cut, ask and read it. Everything is pure."""

    name: str
    provider: str
    dataset: str
    kind: Kind
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


def may_be_cut(endpoint: Endpoint, chunk: Chunk, page: Page) -> bool:
    """Whether a last page is so full that it may be a silent cut, which a chunk shows when it is asked in two parts."""
    days = (chunk.window.end - chunk.window.start).days
    divisible = len(chunk.symbols) > 1 or (endpoint.kind is Kind.HISTORY and days > 1)
    return divisible and (page.counted or page.rows) >= endpoint.cut(chunk.series).page_rows

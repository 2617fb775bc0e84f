"""Universes as an endpoint that nobody asks: their members are entries like others."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import NoReturn

from stagingest.errors import UsageError
from stagingest.model.chunk import Chunk, Coverage, Cut, Series
from stagingest.model.page import Page, Request
from stagingest.model.windows import Grid


class UniverseMembers:
    """What the user imported; one series for each universe, one window for each day of an import."""

    name = "user/universe-members"
    provider = "user"
    dataset = "universe-members"
    kind = Coverage.LISTING
    budget = ""
    floor = date.min

    def canonical(self, options: Mapping[str, str]) -> Series:
        """Raises UsageError: nothing of it can be fetched."""
        self._refuse()

    def symbol(self, text: str) -> str | None:
        """The name of a universe as it is."""
        return text

    def cut(self, series: Series) -> Cut:
        """A universe and day at a time."""
        return Cut(Grid(), 1, 1.0)

    def final_before(self, series: Series, asked_at: datetime) -> date:
        """What was imported is the last word."""
        return date.max

    def constants(self, series: Series) -> dict[str, str]:
        """None: every column is in the file."""
        return {}

    def first(self, chunk: Chunk, not_after: datetime | None = None) -> Request:
        """Raises UsageError."""
        self._refuse()

    def read(self, chunk: Chunk, request: Request, body: bytes) -> Page:
        """Raises UsageError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UsageError("Universes are imported, not fetched.", "Run `stagingest universe import NAME FILE`.")

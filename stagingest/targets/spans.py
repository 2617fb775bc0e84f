"""In which windows a ledger has rows: what a load asks before it chooses how rows go in."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from stagingest.model import Window


@dataclass(frozen=True, slots=True)
class Near:
    """Which rows of a ledger a load may meet: of lines (`Item.line`), with symbols from `low` to `high`; captures only
    `since` then (UTC without zone).
    """

    lines: frozenset[str]
    low: str
    high: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Span:
    """A window in which rows of these symbols of a line (`Item.line`) were loaded before."""

    line: str
    symbols: tuple[str, ...]
    window: Window

    @classmethod
    def of(cls, line: str, symbols: Iterable[str], start: date, end: date, asked_at: datetime) -> "Span":
        """The span of a ledger's row; a capture's line is an endpoint."""
        return cls(line, tuple(symbols), moment(asked_at) if "/" in line else Window(start, end))


def moment(asked_at: datetime) -> Window:
    """The window of a capture: its instant alone (UTC without zone)."""
    start = asked_at.astimezone(UTC).replace(tzinfo=None) if asked_at.tzinfo else asked_at
    return Window(start, start + timedelta(microseconds=1))

"""The nouns of the tool, as frozen values."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from stagingest.model.windows import Grid, Window


class Coverage(StrEnum):
    """How the windows of an endpoint cover time; everything that differs between the three is asked of it.

    A history has rows of past days, a listing is of what there is today, a capture of the moment it is asked.
    """

    HISTORY = "history"
    LISTING = "listing"
    CAPTURE = "capture"

    @property
    def has_days(self) -> bool:
        """Whether rows are of days: a window can be halved, is asked when its prices are final, and again by itself."""
        return self is Coverage.HISTORY

    @property
    def finds_names(self) -> bool:
        """Whether others ask about what it names: it goes before them, and its files are needed after a load."""
        return self is Coverage.LISTING

    @property
    def momentary(self) -> bool:
        """Whether an answer is of its moment: always due, its pages together or not at all, never completed later."""
        return self is Coverage.CAPTURE

    def constants(self, chunk: "Chunk", asked_at: datetime) -> dict[str, Any]:
        """Columns that say what an answer of `asked_at` (UTC) to a chunk is of, the same in each of its rows."""
        if self is Coverage.LISTING:
            return {"as_of_date": chunk.window.start}
        return {"underlying": chunk.symbols[0], "snapshot_ts": asked_at} if self is Coverage.CAPTURE else {}


@dataclass(frozen=True, slots=True)
class Series:
    """An endpoint and every parameter, beside symbol and time, that changes a row.

    `params` is canonical: every default written out, sorted by name.
    """

    endpoint: str
    params: tuple[tuple[str, str], ...]
    id: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Set `id`: 16 hexadecimal digits that stand for exactly this series."""
        text = _digest(self.endpoint, *(text for pair in self.params for text in pair))
        object.__setattr__(self, "id", text)

    @classmethod
    def of(cls, endpoint: str, params: Mapping[str, str]) -> "Series":
        """The series of `endpoint` with `params` in canonical order."""
        return cls(endpoint, tuple(sorted(params.items())))

    def __getitem__(self, name: str) -> str:
        return dict(self.params)[name]

    @property
    def adjusted(self) -> bool:
        """Whether prices depend on when they were asked: a later split or dividend moves all of history."""
        return dict(self.params).get("adjustment", "raw") != "raw"

    def __str__(self) -> str:
        return " ".join([self.endpoint, *(f"{name}={value}" for name, value in self.params if value)])


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of fetching, resuming, splitting and staging: series + symbols + window."""

    series: Series
    symbols: tuple[str, ...]
    window: Window
    id: str = field(default="")

    def __post_init__(self) -> None:
        if not self.id:
            window = self.window
            text = (self.series.id, window.start.isoformat(), window.end.isoformat(), *self.symbols)
            object.__setattr__(self, "id", _digest(*text))

    def at(self, moment: datetime) -> "Chunk":
        """The capture planned at `moment`: each is a chunk of its own, however many there are of a day."""
        return Chunk(self.series, self.symbols, self.window, _digest(self.id, moment.isoformat()))

    def of(self, symbols: tuple[str, ...]) -> "Chunk":
        """The same series and window for other symbols."""
        return Chunk(self.series, symbols, self.window)

    def halves(self) -> tuple["Chunk", "Chunk"]:
        """The two children of a chunk: half of the symbols each, of one symbol half of the window each."""
        if len(self.symbols) > 1:
            middle = (len(self.symbols) + 1) // 2
            return self.of(self.symbols[:middle]), self.of(self.symbols[middle:])
        start, end = self.window.start, self.window.end
        day = start + (end - start) // 2
        return (
            Chunk(self.series, self.symbols, Window(start, day)),
            Chunk(self.series, self.symbols, Window(day, end)),
        )


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Cut:
    """How an endpoint wants its work cut.

    Args:
        grid: windows begin and end on it.
        symbol_cap: most symbols in one request.
        rows_per_session: rows expected of one symbol in one session (listing: in one window).
        target_rows: rows a chunk should hold.
        page_rows: most rows in one response.
        row_bytes: of a staged row, measured on real prices by `scripts/bench write`.
        base_rows: what the provider counts of a row towards `page_rows`: minutes in an hour, days in a month.
    """

    grid: Grid
    symbol_cap: int
    rows_per_session: float
    target_rows: int = 50_000
    page_rows: int = 10_000
    row_bytes: int = 30
    base_rows: float = 1.0

    @property
    def full_page(self) -> float:
        """Rows expected in a page that the provider cuts."""
        return self.page_rows / self.base_rows


@dataclass(frozen=True, slots=True)
class SymbolWindow:
    """Symbols that want the same window."""

    symbols: tuple[str, ...]
    window: Window


@dataclass(frozen=True, slots=True)
class Job:
    """What the user asked of one series."""

    series: Series
    asked: tuple[SymbolWindow, ...]
    overlap_days: int = 0
    """Of what is covered of a symbol, so many of the last days are asked again, unless they were today."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol, in the order asked."""
        return tuple(symbol for asked in self.asked for symbol in asked.symbols)


def to_json(value: Any) -> str:
    """Compact JSON text of a plain value."""
    return json.dumps(value, separators=(",", ":"), default=str)

"""The nouns of the tool, as frozen values."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class Outcome(StrEnum):
    """What became of an order."""

    STAGED = "staged"
    EMPTY = "empty"
    REFUSED = "refused"
    FORBIDDEN = "forbidden"
    DEFERRED = "deferred"
    FAILED = "failed"
    LOST = "lost"
    CAPPED = "capped"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    SPLIT = "split"
    PRUNED = "pruned"


class Kind(StrEnum):
    """How the windows of an endpoint cover time."""

    HISTORY = "history"
    LISTING = "listing"
    CAPTURE = "capture"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Half-open interval of New York days, `[start, end)`; of instants where captures are told apart."""

    start: date
    end: date

    def __str__(self) -> str:
        return f"{self.start}..{self.end}"


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
class Grid:
    """The calendar unit that bars of a timeframe fill: `step` days (1), weeks (1) or months."""

    unit: str = "day"
    step: int = 1


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
class Request:
    """One question to a provider, without credentials.

    Args:
        budget: which host and rate budget it is sent to, e.g. `alpaca/data`.
        path: absolute path of the route.
        query: parameters in the order they are sent.
        origin: where it was sent, '' before: an answer may name it.
    """

    budget: str
    path: str
    query: tuple[tuple[str, str], ...]
    origin: str = field(default="", compare=False)

    def param(self, name: str) -> str:
        """The value of query parameter `name`, '' when it is not sent."""
        return next((value for key, value in self.query if key == name), "")


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one response and the request for the next page, or None at the end.

    `table` holds the endpoint's page columns only (symbol first, as dictionary; ts as timestamp('us'));
    constants of the series are added when the chunk is staged. `None` stands for zero rows. `unknown` names fields of
    the rows that have no column. `counted` is what the provider counted towards the page's limit, 0 for its rows.
    """

    table: "pa.Table | None"
    next: Request | None
    unknown: frozenset[str] = frozenset()
    counted: int = 0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.table.num_rows if self.table is not None else 0


class Secret(str):
    """Text that never shows itself in a repr, a log or a traceback's locals."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, slots=True)
class Entry:
    """An acknowledged outcome in the manifest.

    Args:
        seq: a number that only grows; overlapping entries load in its order.
        chunk: what was asked.
        run, number: the order that brought it.
        outcome, reason: as in Result.
        covers: whether its window counts as known for its symbols.
        asked_at: the provider's clock (UTC, aware) when it was asked.
        path: the staged file relative to the staging root, '' without rows.
        bytes, sha256, rows: of that file.
        schema: schema number of the dataset the file was written with.
        symbol_rows: rows of each symbol that has any.
    """

    seq: int
    chunk: Chunk
    run: str
    number: int
    outcome: Outcome
    reason: str
    covers: bool
    asked_at: datetime
    path: str = ""
    bytes: int = 0
    sha256: str = ""
    rows: int = 0
    schema: int = 1
    symbol_rows: tuple[tuple[str, int], ...] = ()


_OCC = re.compile(r"([A-Z]{1,5}[0-9]?|[A-Z]{6})(\d{2})(\d{2})(\d{2})([CP])(\d{8})")


@dataclass(frozen=True, slots=True)
class OptionSymbol:
    """The parts of an OCC option symbol; the strike in dollars."""

    root: str
    expiry: date
    type: str
    strike: Decimal

    @classmethod
    def parse(cls, text: str) -> "OptionSymbol | None":
        """The parts of `text`, or None when it is no OCC symbol."""
        found = _OCC.fullmatch(text)
        if not found:
            return None
        root, year, month, day, letter, strike = found.groups()
        try:
            expiry = date(2000 + int(year), int(month), int(day))
        except ValueError:
            return None
        kind = "call" if letter == "C" else "put"
        return cls(root, expiry, kind, Decimal(strike) / 1000)


@dataclass(frozen=True, slots=True)
class Asked:
    """Symbols that want the same window."""

    symbols: tuple[str, ...]
    window: Window


@dataclass(frozen=True, slots=True)
class Job:
    """What the user asked of one series."""

    series: Series
    asked: tuple[Asked, ...]
    overlap_days: int = 0
    """Of what is covered of a symbol, so many of the last days are asked again, unless they were today."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol, in the order asked."""
        return tuple(symbol for asked in self.asked for symbol in asked.symbols)


def to_json(value: Any) -> str:
    """Compact JSON text of a plain value."""
    return json.dumps(value, separators=(",", ":"), default=str)

"""What a target takes at once: entries with their files, in batches that hold no two answers to one question."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from stagingest.model.calendar import instant
from stagingest.model.chunk import to_json
from stagingest.model.datasets import Dataset, Table
from stagingest.model.task import Entry
from stagingest.model.windows import Window

# Bars are stamped inside their window; a day more on both sides costs nothing and forgives a provider's stamp.
_MARGIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class StagedEntry:
    """An entry of a staging directory, as a target takes it.

    Args:
        staging: id of the staging directory.
        file: what its staged file is read from, '' for an entry without rows.
        dataset: what the entry's rows are.
    """

    staging: str
    file: str
    dataset: Dataset
    entry: Entry

    @property
    def line(self) -> tuple[str, Window]:
        """Where its rows lie: entries of one name that share a symbol and time may hold the same keys.

        Of history it is the series (its id) and the window; a capture meets others of its endpoint, whatever their
        bounds, at its own instant only.
        """
        chunk = self.entry.chunk
        if not self.dataset.captured:
            return chunk.series.id, chunk.window
        return chunk.series.endpoint, moment(self.entry.asked_at)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First and last instant (UTC without zone, the last not included) a row of it may be stamped with."""
        window = moment(self.entry.asked_at) if self.dataset.captured else self.entry.chunk.window
        if isinstance(window.start, datetime) and isinstance(window.end, datetime):
            return window.start, window.end
        start, end = (instant(day).replace(tzinfo=None) for day in (window.start, window.end))
        return start, end

    @property
    def answered(self) -> "Answered":
        """The symbols it has rows of, and where."""
        symbols = tuple(symbol for symbol, rows in self.entry.symbol_rows if rows)
        return Answered(symbols, *self.span, self.entry.covers)

    def ledger_row(self, loaded_at: datetime) -> dict[str, Any]:
        """The item as a row of the ledger; `loaded_at` in UTC without zone."""
        entry, chunk, series = self.entry, self.entry.chunk, self.entry.chunk.series
        rows = dict(entry.symbol_rows)
        return {
            "staging": self.staging,
            "seq": entry.seq,
            "sha256": entry.sha256,
            "dataset": self.dataset.name,
            "provider": series.endpoint.partition("/")[0],
            "endpoint": series.endpoint,
            "series": series.id,
            "params": to_json(dict(series.params)),
            "symbols": chunk.symbols,
            "symbol_rows": [rows.get(symbol, 0) for symbol in chunk.symbols],
            "rows": entry.rows,
            "window_start": chunk.window.start,
            "window_end": chunk.window.end,
            "outcome": entry.outcome.value,
            "reason": entry.reason,
            "covers": entry.covers,
            "asked_at": entry.asked_at.astimezone(UTC).replace(tzinfo=None),
            "loaded_at": loaded_at,
        }


class Mode(StrEnum):
    """What a batch does to rows already there.

    `append` meets none; `replace` replaces those of the same key; `newest` keeps, of each key, the row that was
    answered last.
    """

    APPEND = "append"
    REPLACE = "replace"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries of one dataset and schema number that are loaded in one transaction; no two of them overlap."""

    dataset: Dataset
    schema: int
    mode: Mode
    items: tuple[StagedEntry, ...]

    @property
    def files(self) -> tuple[StagedEntry, ...]:
        """The items that have a file, in loading order."""
        return tuple(item for item in self.items if item.entry.path)

    @property
    def rows(self) -> int:
        """Rows the manifest promises."""
        return sum(item.entry.rows for item in self.items)

    def halves(self) -> "tuple[Batch, ...]":
        """The batch in two, or itself when it is one entry."""
        middle = len(self.items) // 2
        cut = (self.items[:middle], self.items[middle:]) if middle else (self.items,)
        return tuple(replace(self, items=items) for items in cut)

    def ranks(self) -> list[int]:
        """The place of each of `files` when they are put in the order they were asked."""
        files = self.files
        asked = sorted(range(len(files)), key=lambda i: (files[i].entry.asked_at, files[i].entry.seq))
        places = {at: place for place, at in enumerate(asked)}
        return [places[at] for at in range(len(files))]

    def labels(self) -> dict[str, set[str]]:
        """Key column -> the values that the series of its files give it."""
        found: dict[str, set[str]] = {}
        for item in self.files:
            series = item.entry.chunk.series
            for name, value in (("provider", series.endpoint.partition("/")[0]), *series.params):
                found.setdefault(name, set()).add(value)
        return found

    def groups(self, table: Table) -> "list[Group]":
        """The files by what is the same in all rows of their series."""
        groups: dict[tuple[tuple[str, str], ...], list[StagedEntry]] = {}
        for item in self.files:
            series = item.entry.chunk.series
            said = {"provider": series.endpoint.partition("/")[0], **dict(series.params)}
            groups.setdefault(tuple((name, said[name]) for name in table.key if name in said), []).append(item)
        return [Group(dict(fixed), tuple(items)) for fixed, items in groups.items()]

    def __str__(self) -> str:
        first = next((item.entry.path for item in self.files), "no files")
        return f"{len(self.items)} entries of {self.dataset.name}, {self.rows} rows, from {first}"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a file answers: symbols that have rows, from `since` to before `until` (UTC without zone); `whole` says
    whether the answer is the last word on its window.
    """

    symbols: tuple[str, ...]
    since: datetime
    until: datetime
    whole: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Files of a batch whose rows have these key columns in common."""

    fixed: Mapping[str, str]
    files: tuple[StagedEntry, ...]

    def windows(self, *, whole: bool = False) -> dict[str, list[Any]]:
        """What the files (with `whole`, those that are the last word) answer, as columns symbols, since, until."""
        answers = [item.answered for item in self.files if item.entry.covers or not whole]
        names = ("symbols", "since", "until")
        return {name: [getattr(answer, name) for answer in answers] for name in names}

    def paths(self) -> list[str]:
        """Of the files."""
        return [item.file for item in self.files]

    def bounds(self) -> dict[str, datetime]:
        """`since until` (UTC without zone) around every row of the files."""
        spans = [item.span for item in self.files]
        return {
            "since": min(since for since, _ in spans) - _MARGIN,
            "until": max(until for _, until in spans) + _MARGIN,
        }


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

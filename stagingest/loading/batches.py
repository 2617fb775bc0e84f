"""Which entries go into a target together, and in which order; pure.

An entry is *level* 0 when nothing of its series, symbols and window was loaded or planned before it, else one above the
highest it overlaps. Entries of one level never overlap, so a batch takes entries of one level, and the levels load in
order.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import ceil

from stagingest.model.windows import Window
from stagingest.targets.batch import Batch, Mode, Span, StagedEntry

_NOTHING = -1
_COMMIT_S = 10.0
# Below this, transactions go through DuckDB's write-ahead log and are written twice (LOAD: 1.35 to 2.2 times).
_LEAST_ROWS = 500_000
# What is deleted may lie in as many vectors of a table, for each of which DuckDB keeps 16 KiB until a checkpoint.
_MOST_DELETED = 80_000


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """Up to where a ledger goes: the greatest `seq` of a staging directory, the latest `asked_at` of all others."""

    seq: int = 0
    others_asked_at: datetime | None = None

    def is_late(self, item: StagedEntry) -> bool:
        """Whether the ledger holds anything newer than the item."""
        others = self.others_asked_at
        return item.entry.seq < self.seq or (others is not None and item.entry.asked_at <= others)


class Planner:
    """Puts items into batches; remembers every item it was given.

    Args:
        spans: what the target's ledger holds.
        unexplained: datasets whose tables hold rows beyond the ledger: there nothing is simply appended.
        frontiers: per staging directory.
    """

    def __init__(self, spans: Iterable[Span], unexplained: frozenset[str], frontiers: Mapping[str, LedgerHead]) -> None:
        self._levels = OverlapLevels()
        for span in spans:
            self._levels.paint(span.line, span.symbols, span.window, 0)
        self._unexplained = unexplained
        self._frontiers = frontiers

    def batches(self, items: Iterable[StagedEntry], batch_rows: int) -> list[Batch]:
        """The batches of `items` (oldest first) in loading order, each of at most `batch_rows` unless one entry."""
        groups: dict[tuple[int, str, int, Mode], list[StagedEntry]] = defaultdict(list)
        for item in items:
            level, mode = self._place(item)
            groups[level, item.dataset.name, item.entry.schema, mode].append(item)
        return [
            Batch(members[0].dataset, schema, mode, cut)
            for (_, _, schema, mode), members in sorted(groups.items(), key=lambda group: group[0])
            for cut in _cut(sorted(members, key=_place_in_table), batch_rows, mode)
        ]

    def _place(self, item: StagedEntry) -> tuple[int, Mode]:
        if not item.entry.path:
            return 0, Mode.APPEND
        if any(table.keyed for table in item.dataset.tables):
            return 0, Mode.NEWEST
        symbols, (line, window) = item.entry.chunk.symbols, item.line
        below = self._levels.highest(line, symbols, window)
        self._levels.paint(line, symbols, window, below + 1)
        if below == _NOTHING:
            return 0, Mode.REPLACE if item.dataset.name in self._unexplained else Mode.APPEND
        return below + 1, Mode.NEWEST if self._frontiers[item.staging].is_late(item) else Mode.REPLACE


def fitting(now: int, most: int, rows: int, seconds: float) -> int:
    """Rows for the next transactions, after one of `rows` took `seconds` while at most `now` were allowed.

    As many as take about ten seconds: that is what a kill costs, and how long others wait for the database. A
    transaction that was far from full says nothing.
    """
    if rows < now / 2:
        return now
    return min(most, max(_LEAST_ROWS, int(rows * _COMMIT_S / max(seconds, 1e-3))))


def _place_in_table(item: StagedEntry) -> tuple[str, date, datetime, int]:
    chunk = item.entry.chunk
    return chunk.symbols[0], chunk.window.start, item.entry.asked_at, item.entry.seq


def _cut(items: Sequence[StagedEntry], batch_rows: int, mode: Mode) -> Iterator[tuple[StagedEntry, ...]]:
    """Cut into the fewest, nearly equal runs of at most `batch_rows` rows."""
    if mode is Mode.REPLACE:
        rows, symbols = sum(item.entry.rows for item in items), sum(len(item.entry.symbol_rows) for item in items)
        batch_rows = min(batch_rows, ceil(rows * _MOST_DELETED / max(symbols, _MOST_DELETED)))
    total = sum(item.entry.rows for item in items)
    fair = total / max(1, ceil(total / batch_rows))
    run: list[StagedEntry] = []
    rows = 0
    for item in items:
        if run and (rows >= fair or rows + item.entry.rows > batch_rows) and item.entry.rows:
            yield tuple(run)
            run, rows = [], 0
        run.append(item)
        rows += item.entry.rows
    yield tuple(run)


class OverlapLevels:
    """The level of every day of every (series, symbol).

    Symbols that were asked together share one line of days, so that the cost follows the number of different symbol
    lists, not of symbols times entries.
    """

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._groups: dict[tuple[str, tuple[str, ...]], int] = {}
        self._near: list[set[int]] = []
        self._of: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)

    def highest(self, series: str, symbols: tuple[str, ...], window: Window) -> int:
        """The highest level any of the symbols has in the window, -1 when it has none."""
        return max(self._lines[group].highest(window) for group in self._near[self._group(series, symbols)])

    def paint(self, series: str, symbols: tuple[str, ...], window: Window, level: int) -> None:
        """Give the window `level`, which must not be lower than what its symbols have there."""
        self._lines[self._group(series, symbols)].paint(window, level)

    def _group(self, series: str, symbols: tuple[str, ...]) -> int:
        """The number of the line of these symbols."""
        group = self._groups.setdefault((series, symbols), len(self._lines))
        if group == len(self._lines):
            self._lines.append(_Line([], [], []))
            near = self._sharing(series, symbols, group)
            for other in near:
                self._near[other].add(group)
            self._near.append(near | {group})
        return group

    def _sharing(self, series: str, symbols: tuple[str, ...], group: int) -> set[int]:
        """The groups that have one of the symbols; the new group is noted under each of them."""
        known = self._of[series]
        before = [known.get(symbol, ()) for symbol in symbols]
        # Few differ: hundreds of thousands of symbols cost what C costs.
        after = {groups: (*groups, group) for groups in set(before)}
        known.update(zip(symbols, map(after.__getitem__, before), strict=True))
        return {other for groups in after for other in groups}


@dataclass(slots=True)
class _Line:
    """Days with a level, as disjoint ascending pieces: where each starts, ends, and its level."""

    starts: list[date]
    ends: list[date]
    levels: list[int]

    def highest(self, window: Window) -> int:
        first, last = self._overlapping(window)
        return max(self.levels[first:last], default=_NOTHING)

    def paint(self, window: Window, level: int) -> None:
        first, last = self._overlapping(window)
        pieces = [(window.start, window.end, level)]
        if first < last:
            left = (self.starts[first], window.start, self.levels[first])
            right = (window.end, self.ends[last - 1], self.levels[last - 1])
            pieces = [piece for piece in (left, *pieces, right) if piece[0] < piece[1]]
        self._put(first, last, pieces)
        at = bisect_left(self.starts, window.start)
        self._join(at)
        self._join(at - 1)

    def _overlapping(self, window: Window) -> tuple[int, int]:
        return bisect_right(self.ends, window.start), bisect_left(self.starts, window.end)

    def _put(self, first: int, last: int, pieces: Sequence[tuple[date, date, int]]) -> None:
        self.starts[first:last] = [piece[0] for piece in pieces]
        self.ends[first:last] = [piece[1] for piece in pieces]
        self.levels[first:last] = [piece[2] for piece in pieces]

    def _join(self, at: int) -> None:
        """Make one of the pieces `at` and `at + 1` if they touch and have the same level."""
        if at < 0 or at + 1 == len(self.levels):
            return
        if self.ends[at] == self.starts[at + 1] and self.levels[at] == self.levels[at + 1]:
            self._put(at, at + 2, [(self.starts[at], self.ends[at + 1], self.levels[at])])

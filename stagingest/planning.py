"""Which chunks are due: what was asked, minus what is covered, minus what is open, cut to size."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from math import ceil

from stagingest import sessions
from stagingest.model import Asked, Chunk, Cut, Grid, Job, OptionSymbol, Window

Coverage = Mapping[str, Sequence[Window]]
_DAY = timedelta(days=1)


def merged(windows: Iterable[Window]) -> list[Window]:
    """The union of windows as sorted, disjoint windows; touching ones become one."""
    found: list[Window] = []
    for window in sorted(windows):
        if found and window.start <= found[-1].end:
            if window.end > found[-1].end:
                found[-1] = Window(found[-1].start, window.end)
        elif window.start < window.end:
            found.append(window)
    return found


def minus(window: Window, taken: Sequence[Window]) -> list[Window]:
    """The parts of `window` outside `taken` (sorted, disjoint)."""
    found = []
    start = window.start
    for other in taken:
        if other.end <= start:
            continue
        if other.start >= window.end:
            break
        if other.start > start:
            found.append(Window(start, other.start))
        start = max(start, other.end)
    if start < window.end:
        found.append(Window(start, window.end))
    return found


def floor(grid: Grid, day: date) -> date:
    """The beginning of the grid's unit that holds `day` (weeks begin on Monday, months align to the year)."""
    if grid.unit == "week":
        return day - timedelta(days=day.weekday())
    if grid.unit == "month":
        return date(day.year, (day.month - 1) // grid.step * grid.step + 1, 1)
    return day


def ceiling(grid: Grid, day: date) -> date:
    """The first beginning of a grid unit at or after `day`."""
    start = floor(grid, day)
    if start == day:
        return day
    if grid.unit == "week":
        return start + timedelta(days=7)
    if grid.unit == "month":
        month = start.month - 1 + grid.step
        return date(start.year + month // 12, month % 12 + 1, 1)
    return day


def aligned(grid: Grid, window: Window) -> Window:
    """The smallest window on the grid that holds `window`."""
    return Window(floor(grid, window.start), ceiling(grid, window.end))


@dataclass(frozen=True, slots=True)
class Anchors:
    """Sessions of an adjusted series whose rows are known: symbol -> days; see `anchored`."""

    days: Mapping[str, Sequence[date]]

    def stretched(self, symbol: str, missing: Sequence[Window], covered: Sequence[Window], grid: Grid) -> list[Window]:
        """The missing windows with one known session of each neighbouring covered interval added.

        Rows of an adjusted series are only comparable when they share one price base: the known session is asked
        again with the new window, and unless it is equal the symbol is fetched whole (DESIGN section 1). Where no
        interval is a neighbour, the nearest known session is asked by itself.
        """
        parts = [self._stretch(symbol, window, covered) for window in missing]
        if parts == list(missing) and self.days.get(symbol):
            nearest = min(self.days[symbol], key=lambda day: abs((day - missing[0].start).days))
            parts.append(Window(nearest, nearest + _DAY))
        return merged(aligned(grid, part) for part in parts)

    def _stretch(self, symbol: str, window: Window, covered: Sequence[Window]) -> Window:
        known = self.days.get(symbol, ())
        start, end = window.start, window.end
        for interval in covered:
            inside = [day for day in known if interval.start <= day < interval.end]
            if inside and interval.end == window.start:
                start = max(inside)
            if inside and interval.start == window.end:
                end = min(inside) + _DAY
        return Window(start, end)


def due(
    job: Job,
    cut: Cut,
    final_before: date,
    coverage: Coverage,
    open_chunks: Iterable[Chunk] = (),
    anchors: Anchors | None = None,
    in_flight: int = 1,
) -> list[Chunk]:
    """The chunks to add for `job`.

    Args:
        job: what was asked.
        cut: how its endpoint cuts.
        final_before: answers for days before this do not change; final and open time never share a chunk.
        coverage: covered windows per symbol, in any order.
        open_chunks: chunks of the same series that are planned already.
        anchors: known sessions, for an adjusted series.
        in_flight: requests that the provider's rate keeps in flight; a small job is cut into at least as many chunks.
    """
    held: dict[str, list[Window]] = {}
    for chunk in open_chunks:
        for symbol in chunk.symbols:
            held.setdefault(symbol, []).append(chunk.window)
    groups: dict[tuple[Window, ...], list[str]] = {}
    for asked in job.asked:
        window = aligned(cut.grid, asked.window)
        for symbol in asked.symbols:
            covered = merged(coverage.get(symbol, ()))
            missing = minus(window, merged([*covered, *held.get(symbol, ())]) if symbol in held else covered)
            if anchors is not None and missing and covered:
                missing = anchors.stretched(symbol, missing, covered, cut.grid)
            if missing:
                groups.setdefault(tuple(missing), []).append(symbol)
    parts = [
        (symbols, part)
        for windows, symbols in groups.items()
        for window in windows
        for part in split_at(window, final_before)
    ]
    rows = sum(len(symbols) * expected_rows(part, cut) for symbols, part in parts)
    cut = replace(cut, target_rows=_target_rows(rows / in_flight, cut))
    return [
        Chunk(job.series, symbols, piece)
        for symbols_due, part in parts
        for symbols, piece in pieces(symbols_due, part, cut)
    ]


def from_starts(symbols: Iterable[str], window: Window, starts: Mapping[str, date]) -> tuple[Asked, ...]:
    """The window of each symbol, begun later or earlier for those that have a start of their own."""
    groups: dict[date, list[str]] = {}
    for symbol in symbols:
        start = min(starts.get(symbol, window.start), window.end - _DAY)  # who has everything still counts as asked
        groups.setdefault(start, []).append(symbol)
    return tuple(Asked(tuple(group), Window(start, window.end)) for start, group in sorted(groups.items()))


def reopened(
    coverage: Mapping[str, Sequence[Window]], days: int, fresh: Mapping[str, Sequence[Window]]
) -> dict[str, list[Window]]:
    """The coverage without the last `days` of each symbol, but for what is `fresh`."""
    found = {}
    for symbol, windows in coverage.items():
        edge = max(window.end for window in windows) - timedelta(days=days)
        kept = [Window(window.start, min(window.end, edge)) for window in windows if window.start < edge]
        found[symbol] = [*kept, *fresh.get(symbol, ())]
    return found


def _target_rows(rows: float, cut: Cut) -> int:
    """`rows` in whole pages, from one page to the cut's own target."""
    pages = max(1, ceil(rows / cut.full_page))
    return min(cut.target_rows, max(1, int(pages * cut.full_page)))


def split_at(window: Window, day: date) -> list[Window]:
    """`window`, in two when `day` lies inside it."""
    if window.start < day < window.end:
        return [Window(window.start, day), Window(day, window.end)]
    return [window]


def expected_rows(window: Window, cut: Cut) -> float:
    """Rows expected of one symbol in a window."""
    return cut.rows_per_session * max(1, sessions.count(window.start, window.end))


def pieces(symbols: Sequence[str], window: Window, cut: Cut) -> Iterator[tuple[tuple[str, ...], Window]]:
    """Cut symbols and window into (symbols, window) pieces of about `cut.target_rows` expected rows."""
    rows = expected_rows(window, cut)
    if rows <= cut.target_rows:
        size = max(1, min(cut.symbol_cap, int(cut.target_rows / rows)))
        for i in range(0, len(symbols), size):
            yield tuple(symbols[i : i + size]), window
        return
    windows = list(_spans(window, cut))
    for symbol in symbols:
        for span in windows:
            yield (symbol,), span


def _spans(window: Window, cut: Cut) -> Iterator[Window]:
    sessions_each = max(1, int(cut.target_rows / cut.rows_per_session))
    start = window.start
    while start < window.end:
        end = max(ceiling(cut.grid, sessions.after(start, sessions_each)), start + _DAY)
        end = min(end, window.end)
        yield Window(start, end)
        start = end


@dataclass(frozen=True, slots=True)
class Few:
    """Of how much a run asks at most; None is all.

    Args:
        underlyings: the first of those that have something due.
        expiries: the next ones, of each underlying.
        contracts: the first ones by underlying, expiry and name.
    """

    underlyings: int | None = None
    expiries: int | None = None
    contracts: int | None = None

    def __bool__(self) -> bool:
        return any(bound is not None for bound in (self.underlyings, self.expiries, self.contracts))

    def of(self, symbols: Iterable[str]) -> frozenset[str]:
        """Which of the symbols are asked: underlyings by themselves, or option contracts."""
        families: dict[str, dict[date, list[str]]] = {}
        for symbol in symbols:
            parts = OptionSymbol.parse(symbol)
            root, expiry = (parts.root, parts.expiry) if parts else (symbol, date.min)
            families.setdefault(root, {}).setdefault(expiry, []).append(symbol)
        kept = [
            symbol
            for family in list(families.values())[: self.underlyings]
            for expiry in sorted(family)[: self.expiries]
            for symbol in sorted(family[expiry])
        ]
        return frozenset(kept[: self.contracts])

    def __str__(self) -> str:
        bounds = (("underlyings", self.underlyings), ("expiries", self.expiries), ("contracts", self.contracts))
        return " ".join(f"--max-{name} {bound}" for name, bound in bounds if bound is not None)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a list of chunks would cost: requests, rows and staged bytes, all expected values."""

    chunks: int = 0
    requests: int = 0
    rows: int = 0
    bytes: int = 0

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(
            self.chunks + other.chunks,
            self.requests + other.requests,
            self.rows + other.rows,
            self.bytes + other.bytes,
        )


def estimate(chunks: Iterable[Chunk], cut: Cut) -> Estimate:
    """Expected cost of chunks of one series; a chunk costs at least one request."""
    number = requests = 0
    rows = 0.0
    per_window: dict[Window, float] = {}
    for chunk in chunks:
        each = per_window.get(chunk.window)
        if each is None:
            each = per_window[chunk.window] = expected_rows(chunk.window, cut)
        expected = each * len(chunk.symbols)
        number += 1
        rows += expected
        requests += max(1, -int(-expected // cut.full_page))
    return Estimate(number, requests, int(rows), int(rows) * cut.row_bytes)

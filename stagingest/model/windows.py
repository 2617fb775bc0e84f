"""Windows of days, the grids they lie on, and what one cuts from another."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Half-open interval of New York days, `[start, end)`; of instants where captures are told apart."""

    start: date
    end: date

    def __str__(self) -> str:
        return f"{self.start}..{self.end}"


@dataclass(frozen=True, slots=True)
class Grid:
    """The calendar unit that bars of a timeframe fill: `step` days (1), weeks (1) or months."""

    unit: str = "day"
    step: int = 1


Covered = Mapping[str, Sequence[Window]]


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


def split_at(window: Window, day: date) -> list[Window]:
    """`window`, in two when `day` lies inside it."""
    if window.start < day < window.end:
        return [Window(window.start, day), Window(day, window.end)]
    return [window]

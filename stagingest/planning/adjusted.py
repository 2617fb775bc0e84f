"""Series whose prices are adjusted: what was seen last, and whether the price base moved since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from stagingest.model.calendar import DAY
from stagingest.model.windows import Grid, Window, aligned, merged


def has_moved(known: Mapping[date, str], seen: Mapping[date, str], window: Window) -> bool:
    """Whether known sessions inside a window that was asked again read differently, or are not there any more."""
    inside = {day: digest for day, digest in known.items() if window.start <= day < window.end}
    if not seen:
        return bool(inside)
    first, last = min(seen), max(seen)
    return any(seen[day] != digest if day in seen else not first < day < last for day, digest in inside.items())


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
            parts.append(Window(nearest, nearest + DAY))
        return merged(aligned(grid, part) for part in parts)

    def _stretch(self, symbol: str, window: Window, covered: Sequence[Window]) -> Window:
        known = self.days.get(symbol, ())
        start, end = window.start, window.end
        for interval in covered:
            inside = [day for day in known if interval.start <= day < interval.end]
            if inside and interval.end == window.start:
                start = max(inside)
            if inside and interval.start == window.end:
                end = min(inside) + DAY
        return Window(start, end)

"""Bar lengths: every spelling of `1Day`, the name tables use (`1d`) and the one Alpaca is asked with."""

import re
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from stagingest.errors import UsageError, nearest
from stagingest.model.windows import Grid

_WIRE = {"min": "Min", "h": "Hour", "d": "Day", "w": "Week", "mo": "Month"}
_STEPS = {"min": range(1, 60), "h": range(1, 24), "d": (1,), "w": (1,), "mo": (1, 2, 3, 4, 6, 12)}
_SPELLINGS = {
    "min": ("t", "m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hour", "hours"),
    "d": ("d", "day", "days"),
    "w": ("w", "wk", "week", "weeks"),
    "mo": ("mo", "mon", "month", "months"),
}
_UNIT = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}


@dataclass(frozen=True, slots=True)
class BarTimeframe:
    """The length of a bar: `step` units of `min`, `h`, `d`, `w` or `mo`."""

    step: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> "BarTimeframe":
        """The timeframe of `1Min`, `5T`, `1h`, `1Day`, `3Month`; `M` is months, `m` minutes.

        Raises UsageError naming the nearest one there is.
        """
        found = re.fullmatch(r"(\d{0,4})\s*([A-Za-z]+)", text.strip())
        if found:
            digits, name = found.groups()
            unit = "mo" if name == "M" else _UNIT.get(name.lower(), "")
            step = int(digits or 1)
            if step in _STEPS.get(unit, ()):
                return cls(step, unit)
        raise UsageError(f"There is no timeframe {text!r}.", f"The nearest is {_nearest(text)}.")

    @property
    def interval(self) -> str:
        """The name tables use: `1min`, `1h`, `1d`, `1w`, `1mo`."""
        return f"{self.step}{self.unit}"

    @property
    def wire(self) -> str:
        """The name Alpaca is asked with: `1Min`, `1Hour`, `1Day`, `1Week`, `1Month`."""
        return f"{self.step}{_WIRE[self.unit]}"

    @property
    def intraday(self) -> bool:
        """Whether a session holds several bars."""
        return self.unit in ("min", "h")

    @property
    def length(self) -> timedelta:
        """How long an intraday bar stays open; longer bars end with their calendar unit and have none."""
        return self.step * {"min": timedelta(minutes=1), "h": timedelta(hours=1)}.get(self.unit, timedelta(0))

    @property
    def grid(self) -> Grid:
        """The calendar unit its windows begin and end on."""
        if self.unit == "mo":
            return Grid("month", self.step)
        return Grid("week") if self.unit == "w" else Grid("day")

    def most_per_session(self, minutes: int) -> float:
        """The most bars of one symbol in a session of that many minutes (weeks, months: their share of one)."""
        if self.intraday:
            return ceil(timedelta(minutes=minutes) / self.length) + 1
        return {"d": 1.0, "w": 0.21, "mo": 0.048 / self.step}[self.unit]


def _nearest(text: str) -> str:
    # Written as the user writes: `1Dya` is near `1Day`, `60m` near `6min`.
    every = [BarTimeframe(step, unit) for unit, steps in _STEPS.items() for step in steps]
    spelled = {name.lower(): name for each in every for name in (each.interval, each.wire)}
    return spelled[nearest(text.strip().lower(), spelled)]

"""Which years of expiry a discovery asks of an underlying, newest first; pure.

A provider lists contracts for decades, an underlying has them for some years. Below the newest year that had contracts
three empty years in a row end the sweep, so those are the most that are asked in vain; this year and those ahead are
always asked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

EMPTY_YEARS = 3
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Sweep:
    """The years of a discovery: from `last` down to `first`; `today` is this year."""

    first: int
    last: int
    today: int

    def years(self, had: Mapping[int, bool]) -> list[int]:
        """The years to ask of an underlying, newest first, those included whose answer is known.

        Args:
            had: year -> whether it has contracts, of the years that were answered.

        As many are asked at once as can be asked without one in vain beyond the three: what is not known yet may be
        empty.
        """
        found = list(range(self.last, max(self.first, self.today) - 1, -1))
        some, empty = bool(found) and not all(had.get(year) is False for year in found), 0
        for year in range(min(self.last, self.today - 1), self.first - 1, -1):
            if some and empty == EMPTY_YEARS:
                break
            found.append(year)
            answer = had.get(year)
            if answer or (answer is None and not some):
                some, empty = True, 0
            else:
                empty += some
        return found

    def over(self, had: Mapping[int, bool]) -> bool:
        """Whether nothing is left to ask of an underlying."""
        return all(year in had for year in self.years(had))


def known(answers: Iterable[tuple[str, int, bool]]) -> dict[str, dict[int, bool]]:
    """Underlying -> year -> whether it has contracts, from (underlying, year, whether there were any), in any order."""
    found: dict[str, dict[int, bool]] = {}
    for underlying, year, some in answers:
        years = found.setdefault(underlying, {})
        years[year] = years.get(year, False) or some
    return found


@dataclass(frozen=True, slots=True)
class Discovery:
    """A question for contracts of some underlyings on a New York day."""

    endpoint: str
    underlyings: tuple[str, ...]
    sweep: Sweep
    day: date

    def questions(self, had: Mapping[str, Mapping[int, bool]]) -> dict[tuple[str, int], list[str]]:
        """(status, year of expiry) -> underlyings to ask, newest years first; `had` as of `known`."""
        found: dict[tuple[str, int], list[str]] = {}
        for underlying in self.underlyings:
            for year in self.sweep.years(had.get(underlying, {})):
                for status in statuses(year, self.day):
                    found.setdefault((status, year), []).append(underlying)
        return dict(sorted(found.items(), key=lambda item: (-item[0][1], item[0][0])))

    def every(self) -> dict[tuple[str, int], list[str]]:
        """The most it may ask: every year of every underlying."""
        years = range(self.sweep.last, self.sweep.first - 1, -1)
        return {(status, year): list(self.underlyings) for year in years for status in statuses(year, self.day)}


def statuses(year: int, day: date) -> list[str]:
    """What is listed of a year: what expires from yesterday on is active, what expired until today is not; around
    today providers are late, so it is asked for both ways.
    """
    active = ["active"] if year >= (day - _DAY).year else []
    return [*active, *(["inactive"] if year <= day.year else [])]


def expiries(status: str, first: date, last: date, day: date) -> tuple[date, date]:
    """The part of the expiries from `first` to `last` that may have a status on a day."""
    return (max(first, day - _DAY), last) if status == "active" else (first, min(last, day))

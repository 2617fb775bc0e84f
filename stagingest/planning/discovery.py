"""Which years of expiry a discovery asks of an underlying, newest first; pure.

A provider lists contracts for decades, an underlying has them for some years. Below the newest year that had contracts
three empty years in a row end the sweep, so those are the most that are asked in vain; this year and those ahead are
always asked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from stagingest.model.calendar import DAY
from stagingest.model.chunk import Job, SymbolWindow
from stagingest.model.task import GOOD, Entry, Outcome
from stagingest.model.windows import Window
from stagingest.providers import catalog
from stagingest.providers.options import statuses
from stagingest.staging.manifest import Manifest

EMPTY_YEARS = 3


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


def answers(discovery: Discovery, entries: Iterable[Entry]) -> Iterator[tuple[str, int, bool]]:
    """What entries of the day say: (underlying, year of expiry, whether there were any)."""
    for entry in entries:
        chunk = entry.chunk
        if chunk.series.endpoint != discovery.endpoint or chunk.window.start != discovery.day:
            continue
        if entry.outcome in GOOD or entry.outcome is Outcome.PRUNED:
            some = {symbol for symbol, rows in entry.symbol_rows if rows}
            year = int(chunk.series["expiry_gte"][:4])
            yield from ((symbol, year, symbol in some) for symbol in chunk.symbols)


def jobs(discovery: Discovery, questions: dict[tuple[str, int], list[str]]) -> tuple[Job, ...]:
    """A job for each status and year."""
    endpoint = catalog.endpoint(discovery.endpoint)
    window = Window(discovery.day, discovery.day + DAY)
    return tuple(
        Job(
            endpoint.canonical({"status": status, "expiry_gte": f"{year}-01-01", "expiry_lte": f"{year}-12-31"}),
            (SymbolWindow(tuple(underlyings), window),),
        )
        for (status, year), underlyings in questions.items()
    )


class Discoverer:
    """Remembers what a discovery was answered, and what it has asked."""

    def __init__(self, discovery: Discovery, manifest: Manifest) -> None:
        self._discovery = discovery
        self._had = known(answers(discovery, manifest.entries()))
        self._asked = {
            (question, symbol) for question, symbols in discovery.questions(self._had).items() for symbol in symbols
        }

    def follow(self, entries: Sequence[Entry]) -> tuple[Job, ...]:
        """What is to be asked now that these entries are there."""
        for symbol, years in known(answers(self._discovery, entries)).items():
            mine = self._had.setdefault(symbol, {})
            mine.update({year: some or mine.get(year, False) for year, some in years.items()})
        due: dict[tuple[str, int], list[str]] = {}
        for question, symbols in self._discovery.questions(self._had).items():
            fresh = [symbol for symbol in symbols if (question, symbol) not in self._asked]
            if fresh:
                due[question] = fresh
                self._asked.update((question, symbol) for symbol in fresh)
        return jobs(self._discovery, due)

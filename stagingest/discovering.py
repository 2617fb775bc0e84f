"""A discovery goes on while it runs: which years are due once the answers of others are known."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from stagingest import catalog
from stagingest.manifest import Manifest
from stagingest.model import Asked, Entry, Job, Outcome, Window
from stagingest.sweeping import Discovery, known
from stagingest.tally import GOOD

_DAY = timedelta(days=1)


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
    window = Window(discovery.day, discovery.day + _DAY)
    return tuple(
        Job(
            endpoint.canonical({"status": status, "expiry_gte": f"{year}-01-01", "expiry_lte": f"{year}-12-31"}),
            (Asked(tuple(underlyings), window),),
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

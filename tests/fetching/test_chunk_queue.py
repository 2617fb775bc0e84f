"""Which chunk is asked next."""

from datetime import date

from stagingest.fetching.chunk_queue import ChunkQueue
from stagingest.model.chunk import Chunk, Series
from stagingest.model.windows import Window

DAILY = Series.of("alpaca/stock-bars", {"interval": "1d"})
MINUTES = Series.of("alpaca/stock-bars", {"interval": "1min"})
OPTIONS = Series.of("alpaca/option-bars", {"interval": "1d"})
WINDOW = Window(date(2024, 1, 1), date(2024, 2, 1))


def chunk(series: Series, *symbols: str) -> Chunk:
    return Chunk(series, symbols, WINDOW)


def drain(agenda: ChunkQueue, *, idle: bool = False) -> list[tuple[str, ...]]:
    found = []
    while turn := agenda.next(idle=idle):
        found.append(turn[0].symbols)
    return found


def opened(*chunks: Chunk) -> ChunkQueue:
    agenda = ChunkQueue({})
    agenda.add(chunks)
    for one in chunks:
        agenda.answered(one.series)
    return agenda


def test_the_smallest_chunk_of_each_series_goes_alone_until_it_answered_a_page() -> None:
    agenda = ChunkQueue({})
    agenda.add([chunk(DAILY, "A", "B"), chunk(DAILY, "C"), chunk(MINUTES, "A", "B"), chunk(MINUTES, "D")])
    assert drain(agenda) == [("C",)]  # one for the whole endpoint, until it has answered
    agenda.answered(DAILY)
    assert drain(agenda) == [("D",), ("A", "B")]
    agenda.answered(MINUTES)
    assert drain(agenda) == [("A", "B")]
    assert not agenda


def test_a_canary_that_ended_without_a_page_makes_the_next_chunk_the_canary() -> None:
    agenda = ChunkQueue({})
    agenda.add([chunk(DAILY, "A"), chunk(DAILY, "B"), chunk(DAILY, "C")])
    assert drain(agenda) == [("A",)]
    agenda.ended(DAILY)
    assert drain(agenda) == [("B",)]


def test_a_forbidden_canary_stops_its_endpoint_and_no_other() -> None:
    agenda = ChunkQueue({})
    agenda.add([chunk(DAILY, "A"), chunk(DAILY, "B"), chunk(OPTIONS, "O")])
    agenda.next(idle=True)
    agenda.forbidden(DAILY, "no agreement")
    assert drain(agenda) == [("O",)]
    assert agenda.stopped == {"alpaca/stock-bars": ("forbidden", "no agreement")}


def test_three_forbidden_in_a_row_stop_the_endpoint() -> None:
    agenda = opened(chunk(DAILY, "A"))
    for _ in range(2):
        agenda.forbidden(DAILY, "recent")
    agenda.answered(DAILY)
    for _ in range(2):
        agenda.forbidden(DAILY, "recent")
    assert not agenda.stopped
    agenda.forbidden(DAILY, "recent")
    assert agenda.stopped


def test_a_deferred_chunk_has_one_more_turn_at_the_end() -> None:
    first, second = chunk(DAILY, "A"), chunk(DAILY, "B")
    agenda = opened(first, second)
    agenda.next(idle=False)
    assert agenda.defer(first)
    assert drain(agenda) == [("B",)]
    assert agenda.next(idle=False) is None
    assert agenda.next(idle=True) == (first, False)
    assert not agenda.defer(first)


def test_a_chunk_whose_worker_dies_is_retried_then_runs_alone_then_gives_up() -> None:
    suspect, other = chunk(DAILY, "A"), chunk(DAILY, "B")
    agenda = opened(suspect, other)
    agenda.next(idle=True)
    assert agenda.strike(suspect)
    assert agenda.next(idle=False) == (suspect, False)
    assert agenda.strike(suspect)
    assert agenda.next(idle=False) == (other, False)
    assert agenda.next(idle=False) is None
    assert agenda.next(idle=True) == (suspect, True)
    assert not agenda.strike(suspect)
    assert not agenda


def test_halves_of_a_refused_chunk_are_asked_before_the_rest() -> None:
    refused, other = chunk(DAILY, "A", "B"), chunk(DAILY, "C", "D", "E")
    agenda = opened(refused, other)
    agenda.next(idle=False)
    for half in reversed(refused.halves()):
        agenda.again(half)
    assert drain(agenda) == [("A",), ("B",), ("C", "D", "E")]

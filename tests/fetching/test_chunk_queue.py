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


def drain(queue: ChunkQueue, *, idle: bool = False) -> list[tuple[str, ...]]:
    found = []
    while turn := queue.next(idle=idle):
        found.append(turn[0].symbols)
    return found


def opened(*chunks: Chunk) -> ChunkQueue:
    queue = ChunkQueue({})
    queue.add(chunks)
    for one in chunks:
        queue.answered(one.series)
    return queue


def test_the_smallest_chunk_of_each_series_goes_alone_until_it_answered_a_page() -> None:
    queue = ChunkQueue({})
    queue.add([chunk(DAILY, "A", "B"), chunk(DAILY, "C"), chunk(MINUTES, "A", "B"), chunk(MINUTES, "D")])
    assert drain(queue) == [("C",)]  # one for the whole endpoint, until it has answered
    queue.answered(DAILY)
    assert drain(queue) == [("D",), ("A", "B")]
    queue.answered(MINUTES)
    assert drain(queue) == [("A", "B")]
    assert not queue


def test_a_canary_that_ended_without_a_page_makes_the_next_chunk_the_canary() -> None:
    queue = ChunkQueue({})
    queue.add([chunk(DAILY, "A"), chunk(DAILY, "B"), chunk(DAILY, "C")])
    assert drain(queue) == [("A",)]
    queue.ended(DAILY)
    assert drain(queue) == [("B",)]


def test_a_forbidden_canary_stops_its_endpoint_and_no_other() -> None:
    queue = ChunkQueue({})
    queue.add([chunk(DAILY, "A"), chunk(DAILY, "B"), chunk(OPTIONS, "O")])
    queue.next(idle=True)
    queue.forbidden(DAILY, "no agreement")
    assert drain(queue) == [("O",)]
    assert queue.stopped == {"alpaca/stock-bars": ("forbidden", "no agreement")}


def test_three_forbidden_in_a_row_stop_the_endpoint() -> None:
    queue = opened(chunk(DAILY, "A"))
    for _ in range(2):
        queue.forbidden(DAILY, "recent")
    queue.answered(DAILY)
    for _ in range(2):
        queue.forbidden(DAILY, "recent")
    assert not queue.stopped
    queue.forbidden(DAILY, "recent")
    assert queue.stopped


def test_a_deferred_chunk_has_one_more_turn_at_the_end() -> None:
    first, second = chunk(DAILY, "A"), chunk(DAILY, "B")
    queue = opened(first, second)
    queue.next(idle=False)
    assert queue.defer(first)
    assert drain(queue) == [("B",)]
    assert queue.next(idle=False) is None
    assert queue.next(idle=True) == (first, False)
    assert not queue.defer(first)


def test_a_chunk_whose_worker_dies_is_retried_then_runs_alone_then_gives_up() -> None:
    suspect, other = chunk(DAILY, "A"), chunk(DAILY, "B")
    queue = opened(suspect, other)
    queue.next(idle=True)
    assert queue.crash(suspect)
    assert queue.next(idle=False) == (suspect, False)
    assert queue.crash(suspect)
    assert queue.next(idle=False) == (other, False)
    assert queue.next(idle=False) is None
    assert queue.next(idle=True) == (suspect, True)
    assert not queue.crash(suspect)
    assert not queue


def test_a_chunk_that_was_in_flight_when_runs_died_goes_alone_and_is_given_up_for_its_workers_deaths_only() -> None:
    suspect, other = chunk(DAILY, "A"), chunk(DAILY, "B")
    queue = ChunkQueue({}, {suspect.id: 7})
    queue.add([suspect, other])
    assert queue.next(idle=True) == (other, False)
    queue.answered(DAILY)
    assert queue.next(idle=False) is None
    for left in (True, True, False):
        assert queue.next(idle=True) == (suspect, True)
        assert queue.crash(suspect) == left
    assert not queue


def test_halves_of_a_refused_chunk_are_asked_before_the_rest() -> None:
    refused, other = chunk(DAILY, "A", "B"), chunk(DAILY, "C", "D", "E")
    queue = opened(refused, other)
    queue.next(idle=False)
    for half in reversed(refused.halves()):
        queue.again(half)
    assert drain(queue) == [("A",), ("B",), ("C", "D", "E")]

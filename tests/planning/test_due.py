"""What is due: asked, minus covered, minus open, cut to size."""

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stagingest.model import calendar
from stagingest.model.chunk import Chunk, Cut, Job, Series, SymbolWindow
from stagingest.model.windows import Grid, Window, merged, minus
from stagingest.planning import due as planning_due
from stagingest.planning.adjusted import Anchors
from stagingest.planning.due import due

SERIES = Series.of("alpaca/stock-bars", {"timeframe": "1d", "adjustment": "raw"})
DAILY = Cut(Grid(), symbol_cap=200, rows_per_session=1)
MINUTES = Cut(Grid(), symbol_cap=200, rows_per_session=600)
FAR = date(2030, 1, 1)


def job(symbols: str, start: str, end: str) -> Job:
    window = Window(date.fromisoformat(start), date.fromisoformat(end))
    return Job(SERIES, (SymbolWindow(tuple(symbols.split()), window),))


def window(start: str, end: str) -> Window:
    return Window(date.fromisoformat(start), date.fromisoformat(end))


days = st.dates(date(2020, 1, 1), date(2020, 3, 1))
windows = st.builds(lambda a, b: Window(min(a, b), max(a, b) + timedelta(1)), days, days)


@given(st.lists(windows, max_size=8), windows)
def test_minus_and_merged_agree_with_sets_of_days(taken: list[Window], whole: Window) -> None:
    def inside(window: Window) -> set[date]:
        return {window.start + timedelta(i) for i in range((window.end - window.start).days)}

    union = merged(taken)
    assert set().union(*map(inside, taken)) == set().union(*map(inside, union))
    assert all(a.end < b.start for a, b in pairwise(union))
    rest = minus(whole, union)
    assert set().union(*map(inside, rest)) == inside(whole) - set().union(*map(inside, union))


@given(
    st.lists(st.sampled_from("ABCDEFGH"), min_size=1, max_size=8, unique=True),
    windows,
    st.dictionaries(st.sampled_from("ABCDEFGH"), st.lists(windows, max_size=3)),
    days,
    st.integers(1, 60),
)
def test_due_and_covered_together_are_exactly_what_was_asked(symbols, asked, covered, final, target) -> None:  # type: ignore[no-untyped-def]
    cut = Cut(Grid(), symbol_cap=3, rows_per_session=1, target_rows=target)
    chunks = due(Job(SERIES, (SymbolWindow(tuple(symbols), asked),)), cut, final, covered)

    def known(symbol: str) -> list[Window]:
        return merged(w for w in covered.get(symbol, ()))

    for symbol in symbols:
        pieces = [chunk.window for chunk in chunks if symbol in chunk.symbols]
        assert merged(pieces) == merged(minus(asked, known(symbol)))
        assert sum((w.end - w.start).days for w in pieces) == sum((w.end - w.start).days for w in merged(pieces))
    for chunk in chunks:
        assert len(chunk.symbols) <= cut.symbol_cap
        assert not chunk.window.start < final < chunk.window.end


def test_asking_again_while_chunks_are_open_adds_nothing() -> None:
    first = due(job("A B C", "2024-01-01", "2024-06-01"), DAILY, FAR, {})
    assert due(job("A B C", "2024-01-01", "2024-06-01"), DAILY, FAR, {}, first) == []


def test_a_longer_window_asks_only_for_the_days_that_are_missing() -> None:
    covered = {"A": [window("2024-01-01", "2024-06-01")]}
    chunks = due(job("A", "2023-12-01", "2024-07-01"), DAILY, FAR, covered)
    assert [chunk.window for chunk in chunks] == [
        window("2023-12-01", "2024-01-01"),
        window("2024-06-01", "2024-07-01"),
    ]


def test_more_symbols_ask_only_for_the_new_ones() -> None:
    covered = {"A": [window("2024-01-01", "2024-06-01")]}
    chunks = due(job("A B", "2024-01-01", "2024-06-01"), DAILY, FAR, covered)
    assert [chunk.symbols for chunk in chunks] == [("B",)]


def test_final_and_open_time_never_share_a_chunk() -> None:
    chunks = due(job("A", "2024-01-01", "2024-01-10"), DAILY, date(2024, 1, 9), {})
    assert [chunk.window for chunk in chunks] == [
        window("2024-01-01", "2024-01-09"),
        window("2024-01-09", "2024-01-10"),
    ]


def test_a_thousand_symbols_for_a_year_fill_their_pages() -> None:
    names = " ".join(f"S{i}" for i in range(1000))
    chunks = due(job(names, "2024-01-01", "2025-01-01"), DAILY, FAR, {})
    cost = planning_due.estimate(chunks, DAILY)
    assert cost.rows == 252_000
    assert cost.requests <= 26


def test_a_long_minute_series_is_cut_in_time_and_never_over_100_000_rows() -> None:
    chunks = due(job("A", "2016-01-01", "2026-01-01"), MINUTES, FAR, {})
    assert merged(chunk.window for chunk in chunks) == [window("2016-01-01", "2026-01-01")]
    longest = max(calendar.count(chunk.window.start, chunk.window.end) for chunk in chunks)
    assert longest * 600 >= 40_000
    assert longest * 960 <= 100_000


def test_weeks_and_months_are_asked_whole() -> None:
    weekly = Cut(Grid("week"), 200, 0.2)
    monthly = Cut(Grid("month", 3), 200, 0.02)
    asked = job("A", "2024-01-10", "2024-05-02")
    assert [c.window for c in due(asked, weekly, FAR, {})] == [window("2024-01-08", "2024-05-06")]
    assert [c.window for c in due(asked, monthly, FAR, {})] == [window("2024-01-01", "2024-07-01")]


def test_extending_an_adjusted_series_asks_its_last_session_again() -> None:
    covered = {"A": [window("2024-01-01", "2024-06-01")]}
    anchors = Anchors({"A": [date(2024, 1, 2), date(2024, 5, 31)]})
    later = due(job("A", "2024-01-01", "2024-07-01"), DAILY, FAR, covered, anchors=anchors)
    earlier = due(job("A", "2023-12-01", "2024-06-01"), DAILY, FAR, covered, anchors=anchors)
    assert [chunk.window for chunk in later] == [window("2024-05-31", "2024-07-01")]
    assert [chunk.window for chunk in earlier] == [window("2023-12-01", "2024-01-03")]


def test_an_adjusted_series_that_is_covered_is_not_asked_again() -> None:
    covered = {"A": [window("2024-01-01", "2024-06-01")]}
    anchors = Anchors({"A": [date(2024, 5, 31)]})
    assert due(job("A", "2024-01-01", "2024-06-01"), DAILY, FAR, covered, anchors=anchors) == []


def test_the_id_of_a_chunk_stands_for_series_symbols_and_window() -> None:
    chunk = Chunk(SERIES, ("A", "B"), window("2024-01-01", "2024-02-01"))
    same = Chunk(Series.of(SERIES.endpoint, dict(SERIES.params)), ("A", "B"), window("2024-01-01", "2024-02-01"))
    others = [
        chunk.of(("A",)),
        chunk.of(("AB",)),
        Chunk(SERIES, ("A", "B"), window("2024-01-01", "2024-02-02")),
        Chunk(Series.of("alpaca/stock-bars", {"timeframe": "1min", "adjustment": "raw"}), ("A", "B"), chunk.window),
    ]
    assert chunk.id == same.id
    assert len({chunk.id, *(other.id for other in others)}) == 5


def test_a_chunk_in_halves_is_the_whole_chunk() -> None:
    chunk = Chunk(SERIES, ("A", "B", "C"), window("2024-01-01", "2024-02-01"))
    first, second = chunk.halves()
    assert first.symbols + second.symbols == chunk.symbols

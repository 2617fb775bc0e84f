"""Batches: nothing overlaps inside one, and what overlaps keeps its order."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from loadlab import ACTIVE, BARS, NOON, OPTIONS, window

from stagingest.loading.batches import LedgerHead, Planner, fitting
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import dataset
from stagingest.model.task import Entry, Outcome
from stagingest.model.windows import Window
from stagingest.targets.batch import Batch, Mode, Span, StagedEntry

SYMBOLS = ("A", "B", "C", "D")


def item(seq: int, chunk: Chunk, rows: int = 10, staging: str = "one") -> StagedEntry:
    entry = Entry(
        seq, chunk, "run", seq, Outcome.STAGED if rows else Outcome.EMPTY, "", True, NOON + seq * timedelta(seconds=1),
        path=f"{seq}.parquet" if rows else "", rows=rows,
    )  # fmt: skip
    return StagedEntry(staging, "/staging/file.parquet", dataset(chunk.series.endpoint.partition("/")[2]), entry)


def planner(spans: tuple[Span, ...] = (), unexplained: frozenset[str] = frozenset(), seq: int = 0) -> Planner:
    return Planner(spans, unexplained, {"one": LedgerHead(seq), "two": LedgerHead()})


def overlap(one: StagedEntry, other: StagedEntry) -> bool:
    a, b = one.entry.chunk, other.entry.chunk
    days = a.window.start < b.window.end and b.window.start < a.window.end
    return a.series == b.series and days and bool(set(a.symbols) & set(b.symbols))


def seqs(batches: list[Batch]) -> list[list[int]]:
    return [[each.entry.seq for each in batch.items] for batch in batches]


def test_what_replaces_bars_of_very_many_symbols_goes_in_parts() -> None:
    symbols = [tuple(f"S{n * 30_000 + i}" for i in range(30_000)) for n in range(4)]
    old = tuple(Span(BARS.id, each, window(0, 5)) for each in symbols)
    counts = [tuple((symbol, 2) for symbol in each) for each in symbols]
    items = [item(seq, Chunk(BARS, each, window(0, 5)), 60_000) for seq, each in enumerate(symbols, 1)]
    items = [replace(i, entry=replace(i.entry, symbol_rows=rows)) for i, rows in zip(items, counts, strict=True)]
    assert [batch.mode for batch in planner(old).batches(items, 1_000_000)] == [Mode.REPLACE, Mode.REPLACE]
    assert [batch.mode for batch in planner().batches(items, 1_000_000)] == [Mode.APPEND]


chunks = st.builds(
    Chunk,
    st.sampled_from([BARS, OPTIONS, Series.of("alpaca/stock-bars", {"timeframe": "1Min"})]),
    st.sets(st.sampled_from(SYMBOLS), min_size=1).map(lambda found: tuple(sorted(found))),
    st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda pair: window(pair[0], pair[0] + pair[1])),
)
works = st.lists(st.tuples(chunks, st.integers(0, 60)), min_size=1, max_size=30)


@given(works, st.integers(1, 100), st.integers(1, 30))
def test_a_batch_never_overlaps_itself_and_overlapping_entries_keep_their_order(
    work: list[tuple[Chunk, int]], batch_rows: int, group: int
) -> None:
    items = [item(seq, chunk, rows) for seq, (chunk, rows) in enumerate(work, 1)]
    plan = planner()
    batches = [
        batch for at in range(0, len(items), group) for batch in plan.batches(items[at : at + group], batch_rows)
    ]
    place = {each.entry.seq: number for number, batch in enumerate(batches) for each in batch.items}
    assert sorted(place) == [each.entry.seq for each in items]
    with_rows = [each for each in items if each.entry.rows]
    for at, later in enumerate(with_rows):
        for earlier in with_rows[:at]:
            if overlap(earlier, later):
                assert place[earlier.entry.seq] < place[later.entry.seq]


@given(works, st.integers(1, 100))
def test_batches_are_bounded_and_of_one_kind(work: list[tuple[Chunk, int]], batch_rows: int) -> None:
    items = [item(seq, chunk, rows) for seq, (chunk, rows) in enumerate(work, 1)]
    for batch in planner().batches(items, batch_rows):
        assert batch.rows <= batch_rows or len(batch.files) == 1
        assert {(each.dataset.name, each.entry.schema) for each in batch.items} == {(batch.dataset.name, batch.schema)}


@given(works)
def test_only_entries_that_meet_nothing_are_appended(work: list[tuple[Chunk, int]]) -> None:
    items = [item(seq, chunk, rows) for seq, (chunk, rows) in enumerate(work, 1) if rows]
    appended = {
        each.entry.seq for batch in planner().batches(items, 50) for each in batch.items if batch.mode is Mode.APPEND
    }
    expected = {
        later.entry.seq for at, later in enumerate(items) if not any(overlap(before, later) for before in items[:at])
    }
    assert appended == expected


def test_a_batch_is_sorted_by_first_symbol_and_start() -> None:
    items = [
        item(1, Chunk(BARS, ("B",), window(0, 5))),
        item(2, Chunk(BARS, ("A",), window(5, 9))),
        item(3, Chunk(BARS, ("A",), window(0, 5))),
    ]
    assert seqs(planner().batches(items, 100)) == [[3, 2, 1]]


def test_batches_are_of_nearly_equal_size() -> None:
    items = [item(number, Chunk(BARS, (f"S{number:02}",), window(0, 5))) for number in range(1, 11)]
    assert [batch.rows for batch in planner().batches(items, 60)] == [50, 50]


def test_a_window_the_ledger_knows_is_replaced_and_its_neighbour_appended() -> None:
    known = Span(BARS.id, ("A", "B"), window(0, 5))
    items = [item(8, Chunk(BARS, ("B",), window(4, 6))), item(9, Chunk(BARS, ("B", "C"), window(5, 6)))]
    modes = {batch.items[0].entry.seq: batch.mode for batch in planner((known,)).batches(items[:1], 100)}
    assert modes == {8: Mode.REPLACE}
    assert [batch.mode for batch in planner((known,)).batches(items[1:], 100)] == [Mode.APPEND]


def test_an_entry_older_than_the_ledger_leaves_newer_rows_alone() -> None:
    known = Span(BARS.id, ("A",), window(0, 5))
    late = item(3, Chunk(BARS, ("A",), window(2, 4)))
    assert [batch.mode for batch in planner((known,), seq=7).batches([late], 100)] == [Mode.NEWEST]


def test_nothing_is_appended_to_a_table_with_unexplained_rows() -> None:
    fresh = item(1, Chunk(BARS, ("A",), window(0, 5)))
    assert [batch.mode for batch in planner(unexplained=frozenset({"stock-bars"})).batches([fresh], 9)] == [
        Mode.REPLACE
    ]


def test_listings_keep_the_newest_in_one_batch() -> None:
    items = [item(seq, Chunk(ACTIVE, ("AAPL",), window(seq, seq + 1))) for seq in (1, 2)]
    batches = planner().batches(items, 100)
    assert [batch.mode for batch in batches] == [Mode.NEWEST]
    assert batches[0].ranks() == [0, 1]


def test_a_ledger_of_many_windows_costs_one_line_per_symbol_list() -> None:
    spans = tuple(Span(BARS.id, SYMBOLS, Window(window(n, n + 1).start, window(n, n + 1).end)) for n in range(300))
    plan = planner(spans)
    assert [len(line.levels) for line in plan._levels._lines] == [1]


@given(st.integers(1, 2_000_000), st.integers(0, 3_000_000), st.floats(0, 1e4))
def test_transactions_follow_the_time_they_take_within_bounds(most: int, rows: int, seconds: float) -> None:
    found = fitting(most, most, rows, seconds)
    assert min(most, 500_000) <= found <= most
    if rows < most / 2:
        assert found == most


def test_a_slow_target_gets_smaller_transactions_and_larger_ones_again() -> None:
    assert fitting(1_500_000, 1_500_000, 1_500_000, 20.0) == 750_000
    assert fitting(750_000, 1_500_000, 750_000, 2.0) == 1_500_000

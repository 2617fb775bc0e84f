"""The pages of a chunk as one table."""

from datetime import date, datetime
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagingest.fetching.worker import table as worker_table
from stagingest.model.datasets import DATASETS, arrow_schema

KEY = ("symbol", "ts")
SCHEMA = pa.schema(
    [
        ("symbol", pa.dictionary(pa.int32(), pa.string())),
        ("ts", pa.timestamp("us")),
        ("close", pa.float64()),
        ("vwap", pa.float64()),
    ]
)
Row = tuple[str, int, float, float | None]


def page(*rows: Row) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [[], [], [], []]
    arrays = [
        pa.array(columns[0], pa.string()).dictionary_encode(),
        pa.array([datetime(2024, 1, day) for day in columns[1]], pa.timestamp("us")),
        pa.array(columns[2], pa.float64()),
        pa.array(columns[3], pa.float64()),
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def keys(table: pa.Table) -> list[tuple[str, int]]:
    return [(row["symbol"], row["ts"].day) for row in table.to_pylist()]


def test_pages_that_cut_a_symbol_are_joined_in_order() -> None:
    table = worker_table.joined([page(("A", 1, 1, 1), ("B", 1, 1, 1)), page(("B", 2, 1, 1), ("C", 1, 1, 1))], KEY)
    assert keys(table) == [("A", 1), ("B", 1), ("B", 2), ("C", 1)]


rows = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(1, 5)).map(lambda key: (*key, float(key[1]), None)), min_size=1
)


@given(st.lists(rows, min_size=1, max_size=4))
def test_any_pages_become_strictly_ascending_rows_without_duplicates(pages: list[list[Row]]) -> None:
    table = worker_table.joined([page(*rows) for rows in pages], KEY)
    assert set(keys(table)) == {row[:2] for rows in pages for row in rows}
    assert all(a < b for a, b in pairwise(keys(table)))
    assert table.schema.equals(SCHEMA)


def test_rows_of_one_key_that_differ_are_a_conflict_that_names_it() -> None:
    with pytest.raises(worker_table.ConflictError, match="A 2024-01-01"):
        worker_table.joined([page(("A", 1, 1.0, None)), page(("A", 1, 1.0, 2.0))], KEY)


def test_constants_and_session_dates_complete_the_staged_columns() -> None:
    bars = page(("A", 1, 1.0, None), ("A", 2, 1.0, None))
    for name in ("open", "high", "low"):
        bars = bars.append_column(name, pa.array([1.0, 1.0]))
    for name in ("volume", "trade_count"):
        bars = bars.append_column(name, pa.array([1, None], pa.int64()))
    days = pa.array([date(2024, 1, 1), date(2024, 1, 2)])
    constants = dict.fromkeys(("interval", "provider", "feed", "adjustment", "currency", "asof"), "x")
    stock_bars = DATASETS["stock-bars"]
    table = worker_table.staged(bars, stock_bars, {**constants, "updated_at": datetime(2024, 2, 1)}, days)
    assert table.schema.equals(arrow_schema(stock_bars))
    assert table["interval"].to_pylist() == ["x", "x"]
    assert table["updated_at"].to_pylist() == [datetime(2024, 2, 1)] * 2
    runs = worker_table.symbol_runs(table["symbol"])
    assert worker_table.symbol_rows(runs) == (("A", 2),)
    first, last = worker_table.edges(table, runs)
    assert (first.session, last.session) == (date(2024, 1, 1), date(2024, 1, 2))
    assert first.digest != last.digest


def test_runs_name_each_stretch_of_a_symbol() -> None:
    table = worker_table.joined([page(("A", 1, 1, 1), ("A", 2, 1, 1), ("B", 1, 1, 1))], KEY)
    assert worker_table.symbol_runs(table["symbol"]) == [worker_table.Run("A", 0, 2), worker_table.Run("B", 2, 3)]

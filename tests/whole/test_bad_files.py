"""Staged files that something else has touched: named, nothing of them loaded, and their chunks due again."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from desk import Desk, desk

import stagingest
from stagingest.targets.duckdb.connection import read

MAY = {"start": "2024-05-01", "end": "2024-05-31"}
KEYS = (
    "SELECT count(*), count(DISTINCT (symbol, ts)), sum(hash(symbol, ts, open, high, low, close))::VARCHAR "
    "FROM stock_bars"
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    """Two staged files of two symbols each."""
    with desk(tmp_path, symbols=4) as made:
        for names in (made.market.symbols[:2], made.market.symbols[2:]):
            made.fetch(symbols=names, **MAY)
        yield made


def flip(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 0x10
    path.write_bytes(data)


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """A valid file that says the same in its footer and is about another table."""
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def swapped_columns(table: pa.Table) -> pa.Table:
    names = ["high" if name == "low" else "low" if name == "high" else name for name in table.column_names]
    return table.rename_columns(names).select(table.column_names)


def row_bomb(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 1)] * 20_000)


HARM: dict[str, Callable[[Path, Path], None]] = {
    "nothing in it": lambda path, _: path.write_bytes(b""),
    "its end is missing": lambda path, _: cut(path, path.stat().st_size - 100),
    "its footer is missing": lambda path, _: cut(path, path.stat().st_size // 2),
    "zeros": lambda path, _: path.write_bytes(bytes(path.stat().st_size)),
    "something behind it": lambda path, _: path.write_bytes(path.read_bytes() + b"garbage"),
    "a bit of a page": lambda path, _: flip(path, path.stat().st_size // 3),
    "a bit of the footer": lambda path, _: flip(path, path.stat().st_size - 60),
    "the file of another chunk": lambda path, other: shutil.copyfile(other, path),
    "two columns exchanged": lambda path, _: rewritten(path, swapped_columns),
    "a row bomb": lambda path, _: rewritten(path, row_bomb),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_staged_file_that_was_touched_is_named_and_none_of_it_is_loaded(place: Desk, harm: str) -> None:
    place.load(place.root / "truth.duckdb")
    victim, other = place.paths()
    HARM[harm](victim, other)
    loaded = place.load()
    assert [Path(skipped.path) for skipped in loaded.skipped] == [victim.relative_to(place.staging)]
    assert read(place.db, "SELECT DISTINCT symbol FROM stock_bars ORDER BY 1")[1] == [
        (name,) for name in place.market.symbols[2:]
    ]
    assert place.fetch(symbols=place.market.symbols, **MAY).summary.planned == 1
    assert not place.load().skipped
    assert read(place.db, KEYS) == read(place.root / "truth.duckdb", KEYS)


def test_a_copied_staging_directory_works_as_its_own(place: Desk) -> None:
    copy = place.root / "copy"
    shutil.copytree(place.staging, copy)
    names = place.market.symbols
    assert place.fetch(symbols=names, staging=copy, **MAY).summary.planned == 0
    assert place.fetch(symbols=names, staging=copy, start="2024-04-01", end="2024-05-31").summary.planned > 0
    place.fetch(symbols=names, start="2024-06-01", end="2024-06-03")
    for staging in (place.staging, copy, place.staging):
        stagingest.load(staging, place.db)
    rows, keys, _ = read(place.db, KEYS)[1][0]
    assert rows == keys
    sessions = read(place.db, "SELECT min(session_date)::VARCHAR, max(session_date)::VARCHAR FROM stock_bars")[1][0]
    assert sessions[0] == "2024-04-01"
    assert sessions[1] >= "2024-05-31"

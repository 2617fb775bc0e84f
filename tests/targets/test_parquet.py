"""The hive tree: where rows lie, what is rewritten, who can read it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest
from desk import desk
from hypothesis import given
from hypothesis import strategies as st
from loadlab import ACTIVE, BARS, CHAIN, OPTIONS, SIP, Staging, bar, contract, snapshot, window
from targetlab import KINDS

from stagingest.errors import TargetError
from stagingest.loading.loader import load
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import dataset
from stagingest.targets.parquet.partitions import encoded
from stagingest.targets.parquet.target import ParquetTree

STOCKS = dataset("stock-bars").tables[0]
MINUTES = Series.of("alpaca/stock-bars", {**SIP, "interval": "1min"})


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path / "staging")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


def paths(tree: Path) -> list[str]:
    return sorted(str(path.relative_to(tree).parent) for path in tree.rglob("data.parquet"))


def test_days_lie_in_years_minutes_in_months_and_options_by_underlying(staging: Staging, tree: Path) -> None:
    staging.stage(Chunk(BARS, ("A",), window(0, 400)), [bar("A", number, 1.0) for number in (0, 31, 366)])
    rows = [{**bar("B", number, 1.0), "interval": "1min"} for number in (0, 31, 32)]
    staging.stage(Chunk(MINUTES, ("B",), window(0, 40)), rows)
    option = {**bar("", 0, 1.0), "contract_symbol": "SPXW240621C05000000"}
    for name in ("symbol", "feed", "adjustment", "currency", "asof"):
        del option[name]
    staging.stage(Chunk(OPTIONS, ("SPXW240621C05000000",), window(0, 9)), [option])
    staging.stage(Chunk(ACTIVE, ("AAPL",), window(0, 1)), [contract("AAPL240621C00150500", 0)])
    load([staging], ParquetTree(tree))  # type: ignore[list-item]
    assert paths(tree) == [
        "option-bars/interval=1d/underlying=SPXW/year=2024",
        "option-contract-snapshots/underlying=AAPL",
        "option-contracts/underlying=AAPL",
        "stock-bars/interval=1d/symbol=A/year=2024",
        "stock-bars/interval=1d/symbol=A/year=2025",
        "stock-bars/interval=1min/symbol=B/year=2024/month=01",
        "stock-bars/interval=1min/symbol=B/year=2024/month=02",
    ]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tree.rglob("data.parquet"))
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in tree.rglob("*") if path.is_dir())


def test_captures_lie_by_the_underlying_that_was_asked_and_new_yorks_month(staging: Staging, tree: Path) -> None:
    late = datetime(2024, 2, 1, 3, 30, tzinfo=UTC)  # 22:30 on the last of January in New York
    for moment in (late, late + timedelta(hours=2)):
        rows = [snapshot(symbol, moment, 1.0) for symbol in ("AAPL1240621C00150500", "AAPL240621C00150500")]
        staging.stage(Chunk(CHAIN, ("AAPL",), window(30, 31)).at(moment), rows, asked_at=moment, covers=False)
    load([staging], ParquetTree(tree))  # type: ignore[list-item]
    assert paths(tree) == [
        "option-snapshots/underlying=AAPL/year=2024/month=01",
        "option-snapshots/underlying=AAPL/year=2024/month=02",
    ]


def test_only_the_folders_that_rows_belong_to_are_written(staging: Staging, tree: Path) -> None:
    staging.bars("A B", 0, 3)
    load([staging], ParquetTree(tree))  # type: ignore[list-item]
    before = {path: path.stat().st_ino for path in tree.rglob("data.parquet")}
    staging.bars("B", 2, 4)
    load([staging], ParquetTree(tree))  # type: ignore[list-item]
    changed = {path.parent.parent.name for path, inode in before.items() if path.stat().st_ino != inode}
    assert changed == {"symbol=B"}


def test_symbols_that_look_like_numbers_are_text_to_every_reader(staging: Staging, tree: Path) -> None:
    names = ("007", "1E5", "BRK.B", "TRUE", "a/b")
    for name in names:
        staging.stage(Chunk(BARS, (name,), window(0, 2)), [bar(name, number, 1.0) for number in range(2)])
    load([staging], ParquetTree(tree))  # type: ignore[list-item]
    everything = f"{tree}/stock-bars/**/*.parquet"
    with duckdb.connect() as db:
        found = db.execute("SELECT DISTINCT symbol FROM read_parquet(?) ORDER BY 1", [everything]).fetchall()
        assert found == [(name,) for name in sorted(names)]
        text = "SELECT count(*) FROM read_parquet(?, hive_types = {'symbol': VARCHAR}) WHERE symbol = '007'"
        assert db.execute(text, [everything]).fetchall() == [(2,)]
    table = ds.dataset(tree / "stock-bars", format="parquet").to_table()
    assert sorted(set(table["symbol"].to_pylist())) == sorted(names)
    frame = pl.scan_parquet(everything).select(pl.col("symbol").unique().sort()).collect()
    assert frame["symbol"].to_list() == sorted(names)
    assert all(path.resolve().is_relative_to(tree) for path in tree.rglob("*"))


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
def test_a_symbol_is_one_part_of_a_path_and_two_are_two(one: str, other: str) -> None:
    if {one, other} & {".", ".."}:
        return
    text = encoded(one)
    assert len(text) <= 120
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-%")
    assert text not in ("", ".", "..", "CON", "NUL")
    assert (encoded(other) == text) is (one == other)


@pytest.mark.parametrize("symbol", ["", ".", ".."])
def test_what_cannot_be_a_folder_is_refused(symbol: str) -> None:
    with pytest.raises(TargetError, match="cannot be a folder"):
        encoded(symbol)


def test_a_folder_of_others_is_refused(staging: Staging, tree: Path) -> None:
    staging.bars("A", 0, 2)
    tree.mkdir()
    (tree / "mine.txt").write_text("notes")
    with pytest.raises(TargetError, match="Name an empty folder"):
        load([staging], ParquetTree(tree))  # type: ignore[list-item]
    assert [path.name for path in tree.iterdir()] == ["mine.txt"]


def test_a_damaged_file_of_the_tree_is_named_by_verify(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=3) as place:
        place.fetch(symbols=place.market.symbols, start="2024-05-01", end="2024-05-31")
        words = [sys.executable, "-m", "stagingest"]
        to = ["--staging", str(place.staging), "--to", f"parquet:{tmp_path / 'tree'}"]
        loaded = subprocess.run([*words, "load", *to], env=place.environ, capture_output=True, text=True, timeout=60)
        assert loaded.returncode == 0, loaded.stderr
        assert len(KINDS["parquet"].rows(tmp_path / "tree", STOCKS)) == 66
        sound = subprocess.run([*words, "verify", *to], env=place.environ, capture_output=True, text=True, timeout=60)
        assert sound.returncode == 0, sound.stdout
        next((tmp_path / "tree").rglob("data.parquet")).write_bytes(b"PAR1")
        found = subprocess.run([*words, "verify", *to], env=place.environ, capture_output=True, text=True, timeout=60)
        assert found.returncode == 3
        assert "cannot be read" in found.stdout

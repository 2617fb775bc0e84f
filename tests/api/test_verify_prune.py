"""What is staged and loaded is looked at byte by byte, and removed only where a database answers for it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from desk import Desk, desk

import stagingest
from stagingest.errors import HeldError, TargetError
from stagingest.system.locks import Lock
from stagingest.targets.duckdb.connection import read

MAY = {"start": "2024-05-01", "end": "2024-05-31"}
TOOL = [sys.executable, "-m", "stagingest"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    """Two staged files of two symbols each, loaded."""
    with desk(tmp_path, symbols=4) as made:
        for names in (made.market.symbols[:2], made.market.symbols[2:]):
            made.fetch(symbols=names, **MAY)
        made.load()
        made.requests()
        yield made


def rows(db: Path) -> list[tuple[object, ...]]:
    return read(db, "SELECT symbol, ts, close FROM stock_bars ORDER BY ALL")[1]


def whats(place: Desk, to: Path | None = None) -> list[str]:
    return [each.what for each in stagingest.verify(place.staging, to).disagreements]


# -- verify ----------------------------------------------------------------------------------------------------


def test_what_agrees_is_said_to_and_nothing_is_written(place: Desk) -> None:
    before = {path: path.read_bytes() for path in (*place.staging.rglob("*.parquet"), place.db)}
    found = stagingest.verify(place.staging, place.db)
    assert (found.files, found.entries, found.disagreements) == (2, 2, ())
    assert {path: path.read_bytes() for path in (*place.staging.rglob("*.parquet"), place.db)} == before


def test_a_flipped_bit_and_a_missing_file_are_named_and_not_mended(place: Desk) -> None:
    first, second = place.paths()
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    second.unlink()
    for _ in range(2):
        assert [what.partition(" ")[2] for what in whats(place)] == [
            "does not have the SHA-256 that the manifest says",
            "cannot be read: No such file or directory",
        ]
    first.unlink()  # the cure
    assert place.fetch(symbols=place.market.symbols, **MAY).summary.rows == 88
    place.load()
    assert whats(place, place.db) == []


def test_a_file_that_belongs_to_no_entry_is_named(place: Desk) -> None:
    stray = place.paths()[0].with_name("stray.parquet")
    stray.write_bytes(b"")
    assert whats(place) == [f"{stray.relative_to(place.staging)} belongs to no entry"]


def test_what_a_database_lacks_is_counted_and_the_cure_is_load(place: Desk) -> None:
    empty = place.root / "empty.duckdb"
    (found,) = stagingest.verify(place.staging, empty).disagreements
    assert found.what == f"2 entries with 88 rows are not in {empty}"
    assert found.cure == f"stagingest load --staging {place.staging} --to {empty}"
    assert not empty.exists()


def test_rows_put_in_twice_by_hand_are_counted(place: Desk) -> None:
    with duckdb.connect(str(place.db)) as other:
        other.execute("INSERT INTO stock_bars SELECT * FROM stock_bars LIMIT 3").fetchall()
    assert whats(place, place.db) == [
        "stock_bars has 3 rows whose key is there already",
        "the tables of stock-bars hold more or fewer rows than the ledger explains",
    ]


def test_verify_exits_3_when_something_does_not_agree(place: Desk) -> None:
    words = [*TOOL, "verify", "--staging", str(place.staging), "--to", str(place.db), "--json"]
    done = subprocess.run(words, env=place.environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, json.loads(done.stdout)["disagreements"]) == (0, [])
    place.paths()[0].unlink()
    done = subprocess.run(words[:-1], env=place.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "cannot be read: No such file or directory. Cure: " in done.stdout


# -- prune -----------------------------------------------------------------------------------------------------


def test_pruned_files_are_gone_and_the_database_answers_for_them(place: Desk) -> None:
    files = place.paths()
    done = stagingest.prune(place.staging, loaded_in=place.db)
    assert (done.files, done.not_loaded, done.needed) == (2, 0, 0)
    assert not any(path.exists() for path in files)
    asked = {"symbols": place.market.symbols, **MAY}
    assert place.plan(**asked, db=place.db).plan.all_chunks == ()
    assert place.fetch(**asked, db=place.db).summary.planned == 0
    assert place.requests() == 0
    assert place.load().entries == 0
    assert whats(place, place.db) == []


def test_a_deleted_database_does_not_make_pruned_windows_complete(place: Desk) -> None:
    before = rows(place.db)
    stagingest.prune(place.staging, loaded_in=place.db)
    place.db.unlink()
    words = [*TOOL, "load", "--staging", str(place.staging), "--to", str(place.db)]
    done = subprocess.run(words, env=place.environ, capture_output=True, text=True, timeout=60)
    assert "2 chunks were pruned when they were loaded elsewhere" in done.stderr
    command = done.stderr.splitlines()[1].split()
    assert command[:3] == ["stagingest", "fetch", "alpaca/stock-bars"]
    subprocess.run([*TOOL, *command[1:]], env=place.environ, check=True, capture_output=True, timeout=60)
    assert place.load().pruned == ()
    assert rows(place.db) == before


def test_what_is_not_loaded_a_listing_and_an_adjusted_series_are_kept(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        names = place.market.symbols
        place.fetch("option-contracts", underlyings=names[:1], expiry_gte="2024-06-01", expiry_lte="2024-06-30")
        place.fetch(symbols=names, adjustment="split", **MAY)
        place.load()
        place.fetch(symbols=names, **MAY)
        done = stagingest.prune(place.staging, loaded_in=place.db)
        assert (done.files, done.not_loaded) == (0, 1)
        assert done.needed == 3
        assert all(path.exists() for path in place.paths())


def test_a_running_fetch_and_a_database_that_is_not_there_refuse_pruning(place: Desk) -> None:
    with Lock.take(place.staging / "run.lock", "fetching"), pytest.raises(HeldError):
        stagingest.prune(place.staging, loaded_in=place.db)
    with pytest.raises(TargetError, match="There is no"):
        stagingest.prune(place.staging, loaded_in=place.root / "other.duckdb")
    assert all(path.exists() for path in place.paths())


# -- coverage from the target ----------------------------------------------------------------------------------


def test_a_fresh_staging_directory_does_not_ask_what_the_database_has(place: Desk) -> None:
    fresh = place.root / "fresh"
    asked = {"symbols": place.market.symbols, "staging": fresh, "db": place.db}
    assert place.fetch(**asked, **MAY).summary.planned == 0
    assert place.requests() == 0
    summary = place.fetch(**asked, start="2024-04-01", end="2024-05-31").summary
    assert summary.rows == 4 * 22  # the sessions of April
    assert place.fetch(**asked, **MAY, resume=False).summary.rows == 88


def test_an_adjusted_series_is_asked_although_the_database_has_it(place: Desk) -> None:
    asked = {"symbols": place.market.symbols[:1], "adjustment": "split", **MAY}
    place.fetch(**asked)
    place.load()
    assert place.plan(**asked, staging=place.root / "fresh", db=place.db).plan.all_chunks != ()

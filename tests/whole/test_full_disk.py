"""A disk that really fills up, a tmpfs of a few megabytes: what was staged stays, and the same command continues."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from desk import Desk, desk

from stagingest.sim import policy

pytestmark = pytest.mark.namespace
TOOL = [sys.executable, "-m", "stagingest"]
WINDOW = ["--start", "2024-03-01", "--end", "2024-05-31", "--timeframe", "1Min"]
# On a disk of this size the command fails; on a larger one the same command goes on.
TWICE = """
mount -t tmpfs -o "$1" tmpfs disk || exit 99
shift
"$@" > first.out 2> first.err; echo $? > first.code
mount -o remount,size=1g,nr_inodes=100000 disk
"$@" > second.out 2> second.err; echo $? > second.code
cp -r disk kept
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, symbols=12, policy=policy.Policy(page_cap=10_000)) as made:
        (made.root / "disk").mkdir()
        yield made


def twice(place: Desk, small: str, *words: str) -> None:
    command = ["unshare", "-rm", "sh", "-c", TWICE, "sh", small, *TOOL, *words]
    done = subprocess.run(command, cwd=place.root, env=place.environ, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr


def said(place: Desk, which: str) -> tuple[int, str]:
    return int((place.root / f"{which}.code").read_text()), (place.root / f"{which}.err").read_text()


def fetch(place: Desk, staging: str) -> list[str]:
    names = ",".join(place.market.symbols)
    return [
        "fetch",
        "stock-bars",
        "--symbols",
        names,
        *WINDOW,
        "--staging",
        staging,
        "--max-rps",
        "1000",
        "--lanes",
        "1",
    ]


def rows(db: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(str(db), read_only=True) as connection:
        return connection.execute("SELECT symbol, ts, close, volume FROM stock_bars ORDER BY ALL").fetchall()


def truth(place: Desk) -> list[tuple[object, ...]]:
    """The rows of a fetch and load on a disk with room."""
    db = place.root / "truth.duckdb"
    for words in (fetch(place, "roomy"), ["load", "--staging", "roomy", "--db", str(db)]):
        subprocess.run([*TOOL, *words], cwd=place.root, env=place.environ, check=True, capture_output=True, timeout=120)
    return rows(db)


@pytest.mark.parametrize("small", ["size=3m", "nr_inodes=32"])
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_fetch_that_fills_the_disk_stops_in_one_sentence_and_the_same_command_continues(
    place: Desk, small: str, processes: str
) -> None:
    twice(place, small, *fetch(place, "disk/staging"), "--processes", processes)
    code, words = said(place, "first")
    assert code == 1, words
    assert "Traceback" not in words
    assert re.search(r"Error: .*(No space left|disk is full).*make room and run the same command again", words), words
    assert said(place, "second")[0] == 0, said(place, "second")
    load = ["load", "--staging", "kept/staging", "--db", "market.duckdb"]
    subprocess.run([*TOOL, *load], cwd=place.root, env=place.environ, check=True, capture_output=True, timeout=120)
    assert rows(place.db) == truth(place)


@pytest.mark.parametrize("to", ["disk/market.duckdb", "parquet:disk/tree"])
def test_a_load_that_fills_the_disk_keeps_whole_batches_and_the_same_command_continues(place: Desk, to: str) -> None:
    expected = truth(place)
    twice(place, "mode=700,size=1m", "load", "--staging", "roomy", "--to", to)
    code, words = said(place, "first")
    assert code == 1, words
    assert "Traceback" not in words
    assert re.search(r"Error: The disk of .* is full. The [\d,]+ rows that are left need about \d+ MB", words), words
    assert "Make room and run the same load again; what is loaded stays." in words
    assert said(place, "second")[0] == 0, said(place, "second")
    kept = place.root / "kept"
    if to.endswith("duckdb"):
        assert rows(kept / "market.duckdb") == expected
    else:
        with duckdb.connect() as connection:
            text = "SELECT symbol, ts, close, volume FROM read_parquet(?) ORDER BY ALL"
            assert connection.execute(text, [f"{kept}/tree/stock-bars/**/*.parquet"]).fetchall() == expected


READ_ONLY = """
mkdir -p disk/staging && mount -t tmpfs -o mode=700 tmpfs disk/staging || exit 99
"$@" --max-chunks 1 || exit 98
mount -o remount,ro disk/staging
"$@"
"""


def test_a_disk_that_became_read_only_is_named_before_anything_is_asked(place: Desk) -> None:
    command = ["unshare", "-rm", "sh", "-c", READ_ONLY, "sh", *TOOL, *fetch(place, "disk/staging"), "--processes", "0"]
    done = subprocess.run(command, cwd=place.root, env=place.environ, capture_output=True, text=True, timeout=60)
    asked = place.requests()
    assert done.returncode == 1, done.stderr
    assert re.search(r"Error: .*disk/staging/run.lock cannot be locked: Read-only", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert asked == 1

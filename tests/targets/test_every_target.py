"""What holds for every target: exactly once, in order, whole files only, one holder."""

import signal
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import loadchild
import pytest
from loadlab import ACTIVE, BARS, CALLS, CHAIN, IEX, INACTIVE, NOON, Staging, bar, contract, snapshot, window
from targetlab import KINDS, Kind, Rows

from stagingest.errors import HeldError
from stagingest.loading.loader import load
from stagingest.loading.summary import LoadSummary
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import dataset
from stagingest.model.task import Outcome

STOCKS = dataset("stock-bars").tables[0]
CONTRACTS = dataset("option-contracts").tables


NEEDS = {"postgres": [pytest.mark.postgres]}


@pytest.fixture(params=[pytest.param(name, marks=NEEDS.get(name, [])) for name in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path / "staging")


class Place:
    """A target of one kind at one place."""

    def __init__(self, kind: Kind, path: Path) -> None:
        self.kind, self.path = kind, path

    def load(self, *sources: Staging, adopt: bool = False, batch_rows: int = 1_000_000, **how: Any) -> LoadSummary:
        return load(sources, self.kind.opened(self.path, **how), adopt=adopt, batch_rows=batch_rows)  # type: ignore[arg-type]

    def rows(self) -> Rows:
        return self.kind.rows(self.path, STOCKS)

    def closes(self) -> Rows:
        """(symbol, day, close)."""
        names = [column.name for column in STOCKS.columns]
        symbol, day, close = (names.index(name) for name in ("symbol", "session_date", "close"))
        return sorted((row[symbol], (row[day] - window(0, 1).start).days, row[close]) for row in self.rows())


@pytest.fixture
def place(kind: Kind, tmp_path: Path) -> Place:
    return Place(kind, tmp_path / "target")


def test_rows_arrive_with_their_types(staging: Staging, place: Place) -> None:
    staging.bars("AAPL", 0, 2, price=1.5)
    assert place.load(staging).rows == 2
    (first, _) = place.rows()
    row = dict(zip((column.name for column in STOCKS.columns), first, strict=True))
    expected = {**bar("AAPL", 0, 1.5), "updated_at": (NOON + timedelta(minutes=1)).replace(tzinfo=None)}
    assert row == expected


def test_loading_twice_changes_nothing(staging: Staging, place: Place) -> None:
    staging.bars("AAPL MSFT", 0, 3)
    staging.enter(Chunk(BARS, ("NONE",), window(0, 3)), Outcome.EMPTY)
    assert place.load(staging).entries == 2
    before = place.rows()
    again = place.load(staging)
    assert (again.entries, again.rows, again.batches) == (0, 0, 0)
    assert place.rows() == before


@pytest.mark.parametrize("batch_rows", [1, 4, 1000])
def test_overlapping_entries_load_in_their_order(staging: Staging, place: Place, batch_rows: int) -> None:
    staging.bars("A B", 0, 4, price=1)
    staging.bars("A", 1, 3, price=5)
    staging.bars("A", 2, 5, price=7)
    place.load(staging, batch_rows=batch_rows)
    assert [row for row in place.closes() if row[0] == "A"] == [
        ("A", 0, 2.0), ("A", 1, 6.0), ("A", 2, 8.0), ("A", 3, 8.0), ("A", 4, 8.0),
    ]  # fmt: skip
    assert len(place.closes()) == 9


def test_what_is_asked_again_later_replaces_what_was_loaded(staging: Staging, place: Place) -> None:
    staging.bars("A B", 0, 3, price=1)
    place.load(staging)
    staging.bars("A", 1, 4, price=5)
    assert place.load(staging).replaced == 2
    assert place.closes() == [
        ("A", 0, 2.0), ("A", 1, 6.0), ("A", 2, 6.0), ("A", 3, 6.0), ("B", 0, 2.0), ("B", 1, 2.0), ("B", 2, 2.0),
    ]  # fmt: skip


def test_a_row_that_is_not_repeated_is_kept_and_with_replace_removed(staging: Staging, place: Place) -> None:
    staging.bars("A", 0, 3, price=1)
    place.load(staging)
    staging.stage(Chunk(BARS, ("A",), window(0, 3)), [bar("A", 1, 7.0)])
    place.load(staging)
    assert place.closes() == [("A", 0, 2.0), ("A", 1, 8.0), ("A", 2, 2.0)]
    staging.stage(Chunk(BARS, ("A",), window(0, 3)), [bar("A", 2, 9.0)])
    place.load(staging, replace=True)
    assert place.closes() == [("A", 2, 10.0)]


def test_rows_of_another_series_are_left_alone(staging: Staging, place: Place) -> None:
    staging.bars("A", 0, 2, price=1)
    iex = [{**bar("A", number, 5.0), "feed": "iex"} for number in range(2)]
    staging.stage(Chunk(IEX, ("A",), window(0, 2)), iex)
    staging.bars("A", 0, 2, price=2)
    place.load(staging, replace=True)
    assert place.closes() == [("A", 0, 3.0), ("A", 0, 6.0), ("A", 1, 3.0), ("A", 1, 6.0)]


def test_a_late_entry_never_overwrites_a_newer_one(staging: Staging, place: Place) -> None:
    old = staging.bars("A", 0, 3, price=1)
    staging.bars("A", 1, 4, price=5)
    content = staging.file(old).read_bytes()
    staging.file(old).unlink()
    place.load(staging)
    staging.file(old).write_bytes(content)
    place.load(staging)
    assert place.closes() == [("A", 0, 2.0), ("A", 1, 6.0), ("A", 2, 6.0), ("A", 3, 6.0)]


def test_between_staging_directories_the_later_answer_wins(tmp_path: Path, place: Place) -> None:
    one, two = Staging(tmp_path / "one", "one"), Staging(tmp_path / "two", "two")
    two.bars("A", 0, 2, price=1, asked_at=NOON)
    one.bars("A", 1, 3, price=5, asked_at=NOON + timedelta(hours=1))
    expected = [("A", 0, 2.0), ("A", 1, 6.0), ("A", 2, 6.0)]
    place.load(one, two)
    assert place.closes() == expected
    turns = Place(place.kind, tmp_path / "turns")
    turns.load(one)
    turns.load(two, adopt=True)
    assert turns.closes() == expected


def test_the_newest_listing_of_a_contract_wins_in_any_order(staging: Staging, place: Place) -> None:
    symbol = "AAPL240621C00150500"
    for series, status in ((ACTIVE, "active"), (INACTIVE, "inactive")):
        staging.stage(Chunk(series, ("AAPL",), window(0, 1)), [contract(symbol, 3, status=status)])
        place.load(staging)
    contracts, snapshots = (place.kind.rows(place.path, table) for table in CONTRACTS)
    names = [column.name for column in CONTRACTS[0].columns]
    assert [row[names.index("status")] for row in contracts] == ["inactive"]
    assert len(snapshots) == 1


SNAPSHOTS = dataset("option-snapshots").tables[0]
CALL, PUT = "AAPL240621C00150500", "AAPL240621P00150500"


def captured(staging: Staging, place: Place, moment: datetime, bid: float, *, series: Series = CHAIN) -> None:
    """Stage a capture of two contracts, or of the call alone."""
    symbols = (CALL,) if series is CALLS else (CALL, PUT)
    rows = [snapshot(symbol, moment, bid) for symbol in symbols]
    staging.stage(Chunk(series, ("AAPL",), window(9, 10)).at(moment), rows, asked_at=moment, covers=False)


def bids(place: Place) -> list[tuple[Any, ...]]:
    """(contract, minutes after noon, bid)."""
    names = [column.name for column in SNAPSHOTS.columns]
    symbol, moment, bid = (names.index(name) for name in ("contract_symbol", "snapshot_ts", "bid"))
    noon = NOON.replace(tzinfo=None)
    found = place.kind.rows(place.path, SNAPSHOTS)
    return sorted((row[symbol], (row[moment] - noon).total_seconds() / 60, row[bid]) for row in found)


def test_captures_of_one_day_are_plain_inserts_of_one_transaction(staging: Staging, place: Place) -> None:
    for minute in range(3):
        captured(staging, place, NOON + timedelta(minutes=minute), float(minute))
    summary = place.load(staging)
    assert (summary.rows, summary.replaced, summary.batches) == (6, 0, 1)
    captured(staging, place, NOON + timedelta(minutes=3), 3.0)
    summary = place.load(staging)
    assert (summary.rows, summary.replaced, summary.batches, summary.changes) == (2, 0, 1, {})
    assert bids(place) == [(symbol, minute, minute) for symbol in (CALL, PUT) for minute in range(4)]
    assert place.load(staging).entries == 0


@pytest.mark.parametrize("replace", [False, True])
def test_captures_of_one_instant_meet_whatever_their_bounds(staging: Staging, place: Place, *, replace: bool) -> None:
    captured(staging, place, NOON, 1.0)
    place.load(staging)
    captured(staging, place, NOON, 2.0, series=CALLS)
    captured(staging, place, NOON, 3.0, series=CALLS)
    place.load(staging, replace=replace)
    assert bids(place) == [(CALL, 0, 3.0), (PUT, 0, 1.0)]


def test_two_captures_of_one_instant_in_one_load_leave_one_row_each(staging: Staging, place: Place) -> None:
    captured(staging, place, NOON, 2.0, series=CALLS)
    captured(staging, place, NOON, 1.0)
    place.load(staging)
    assert bids(place) == [(CALL, 0, 1.0), (PUT, 0, 1.0)]


def test_a_damaged_file_is_named_and_the_rest_loads(staging: Staging, place: Place) -> None:
    staging.bars("A", 0, 2)
    bad = staging.bars("B", 0, 2)
    path = staging.file(bad)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert [skipped.path for skipped in place.load(staging).skipped] == [bad.path]
    assert {symbol for symbol, _, _ in place.closes()} == {"A"}


def test_a_second_holder_is_told_who_has_it(staging: Staging, place: Place) -> None:
    staging.bars("A", 0, 2)
    place.load(staging)
    command = loadchild.command(loadchild.holding, place.kind.name, place.path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(HeldError, match=str(holder.pid)):
            place.load(staging)
        holder.communicate("")
    assert place.load(staging).entries == 0


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 13, 21, 34])
def test_a_killed_loader_leaves_what_the_next_one_completes(staging: Staging, place: Place, at: int) -> None:
    names = ("fill", "replace", "sync", "_fill") if place.kind.name == "parquet" else ("_all",)
    command = loadchild.command(loadchild.killed_in_a_correction, staging.root, place.kind.name, place.path, at, *names)
    child = subprocess.run(command, check=False)
    assert child.returncode == -signal.SIGKILL
    for number in range(6):
        staging.bars(f"S{number}", 0, 4, price=number)
    for number in range(6):
        staging.bars(f"S{number}", 2, 6, price=10 + number)
    if place.path.exists():
        assert len({row[:2] for row in place.closes()}) == len(place.closes())
    place.load(staging, lock_timeout_s=20)  # a server takes a moment to see that its client is gone
    expected = [(f"S{n}", day, float(n + 1 if day < 2 else n + 11)) for n in range(6) for day in range(6)]
    assert place.closes() == expected


@pytest.mark.postgres
def test_the_same_staging_loads_into_several_targets_alike(staging: Staging, tmp_path: Path) -> None:
    staging.bars("A B", 0, 4, price=1)
    staging.bars("A", 1, 3, price=5)
    found = []
    for name, kind in KINDS.items():
        place = Place(kind, tmp_path / name)
        place.load(staging)
        found.append(place.rows())
    assert all(rows == found[0] for rows in found)
    assert len(found[0]) == 8

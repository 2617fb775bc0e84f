"""Loading into a real DuckDB: exactly once, in order, whole or not at all."""

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import loadchild
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loadlab import ACTIVE, BARS, IEX, INACTIVE, NOON, OPTIONS, Staging, all_rows, ask, bar, contract, day, window

from stagingest.api.repair import set_aside_wal
from stagingest.errors import HeldError, SpoiledError, StagingError, TargetError, TooLargeError, UsageError
from stagingest.loading.loader import load
from stagingest.loading.source import Staged
from stagingest.loading.summary import Loaded, LoadSummary
from stagingest.model.chunk import Chunk
from stagingest.model.datasets import DATASETS, dataset
from stagingest.model.task import Outcome, PartFile, Task, TaskResult
from stagingest.staging.loads import read_complaints
from stagingest.staging.manifest import Commit, Manifest
from stagingest.targets import Changes
from stagingest.targets.duckdb import schema
from stagingest.targets.duckdb.read import contracts
from stagingest.targets.duckdb.target import DuckDB

STOCKS = dataset("stock-bars")
CLOSES = "SELECT symbol, session_date, close FROM stock_bars ORDER BY ALL"


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path / "staging")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "market.duckdb"


def run(path: Path, *staging: Staging, batch_rows: int = 1_500_000) -> LoadSummary:
    return load(staging, DuckDB(path, threads=1), batch_rows=batch_rows)


def closes(path: Path) -> list[tuple[str, int, float]]:
    return [(symbol, (session - day(0)).days, close) for symbol, session, close in ask(path, CLOSES)]


def test_staged_rows_arrive_with_their_types(staging: Staging, db: Path) -> None:
    staging.bars("AAPL MSFT", 0, 3)
    summary = run(db, staging)
    assert (summary.entries, summary.files, summary.rows, summary.batches) == (1, 1, 6, 1)
    assert summary.bytes_before == 0 < summary.bytes_after
    types = ask(db, "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'stock_bars'")
    assert dict(types)["ts"] == "TIMESTAMP"
    assert dict(types)["symbol"] == "VARCHAR"
    (first, *_) = ask(db, "SELECT * FROM stock_bars ORDER BY symbol, ts")
    expected = {**bar("AAPL", 0, 1.0), "updated_at": (NOON + timedelta(minutes=1)).replace(tzinfo=None)}
    assert first == tuple(expected[column.name] for column in STOCKS.columns)


def test_a_fast_load_that_spills_elsewhere_has_the_same_rows(staging: Staging, db: Path, tmp_path: Path) -> None:
    staging.bars("A B", 0, 4)
    load([staging], DuckDB(db, threads=2, fast=True, temp_dir=tmp_path / "spill"))
    assert closes(db) == [(symbol, number, 2.0) for symbol in "AB" for number in range(4)]


def test_loading_twice_changes_nothing(staging: Staging, db: Path) -> None:
    staging.bars("AAPL MSFT", 0, 3)
    staging.enter(Chunk(BARS, ("NONE",), window(0, 3)), Outcome.EMPTY)
    run(db, staging)
    before, content = all_rows(db, STOCKS), db.read_bytes()
    again = run(db, staging)
    assert (again.entries, again.rows, again.batches) == (0, 0, 0)
    assert all_rows(db, STOCKS) == before
    assert db.read_bytes() == content
    assert staging.remembered == {str(db): {1, 2}}


def test_every_final_outcome_has_a_ledger_row(staging: Staging, db: Path) -> None:
    chunk = Chunk(BARS, ("A",), window(0, 3))
    for outcome in Outcome:
        if outcome is not Outcome.STAGED:
            staging.enter(chunk, outcome, reason=f"was {outcome}")
    summary = run(db, staging)
    found = {outcome for (outcome,) in ask(db, "SELECT outcome FROM ledger")}
    assert set(ask(db, "SELECT outcome FROM ledger WHERE covers")) == {("empty",)}
    assert found == set(Outcome) - {Outcome.STAGED, Outcome.SPLIT, Outcome.DEFERRED, Outcome.PRUNED}
    assert (summary.entries, summary.files, summary.rows) == (len(found), 0, 0)


def test_a_fetch_may_add_entries_between_two_loads(staging: Staging, db: Path) -> None:
    staging.bars("A", 0, 3)
    run(db, staging)
    staging.bars("A", 3, 5)
    summary = run(db, staging)
    assert (summary.rows, summary.replaced) == (2, 0)
    assert closes(db) == [("A", number, 2.0) for number in range(5)]


@pytest.mark.parametrize("batch_rows", [1, 1_500_000])
def test_overlapping_entries_load_in_their_order(staging: Staging, db: Path, batch_rows: int) -> None:
    staging.bars("A B", 0, 3, price=1)
    staging.bars("B C", 2, 4, price=5)
    staging.bars("C", 3, 5, price=8)
    run(db, staging, batch_rows=batch_rows)
    assert closes(db) == [
        ("A", 0, 2.0), ("A", 1, 2.0), ("A", 2, 2.0), ("B", 0, 2.0), ("B", 1, 2.0), ("B", 2, 6.0), ("B", 3, 6.0),
        ("C", 2, 6.0), ("C", 3, 9.0), ("C", 4, 9.0),
    ]  # fmt: skip


def test_overlapping_entries_load_in_their_order_across_runs(staging: Staging, db: Path, tmp_path: Path) -> None:
    for price, (start, end) in enumerate([(0, 4), (2, 6), (1, 3), (5, 8)]):
        staging.bars("A B", start, end, price=price)
        run(db, staging)
    run(tmp_path / "at-once.duckdb", staging)
    assert all_rows(db, STOCKS) == all_rows(tmp_path / "at-once.duckdb", STOCKS)


spans = st.tuples(st.sampled_from(["A", "B", "A B", "B C"]), st.integers(0, 6), st.integers(1, 4))


@settings(max_examples=12)
@given(st.lists(spans, min_size=1, max_size=8), st.integers(1, 3), st.sampled_from([1, 7, 1_500_000]))
def test_every_row_is_the_one_that_was_answered_last(
    tmp_path_factory: pytest.TempPathFactory, work: list[tuple[str, int, int]], group: int, batch_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("work")
    staging, expected = Staging(folder / "staging"), {}
    for price, (symbols, start, days) in enumerate(work):
        staging.bars(symbols, start, start + days, price=price)
        expected |= {(each, at): price + 1.0 for each in symbols.split() for at in range(start, start + days)}
        if price % group == 0:
            run(folder / "market.duckdb", staging, batch_rows=batch_rows)
    run(folder / "market.duckdb", staging, batch_rows=batch_rows)
    assert closes(folder / "market.duckdb") == sorted((*key, close) for key, close in expected.items())


def test_a_row_the_vendor_failed_to_repeat_is_kept(staging: Staging, db: Path) -> None:
    staging.bars("A", 0, 3, price=1)
    staging.stage(Chunk(BARS, ("A",), window(0, 3)), [bar("A", 1, 7.0)])
    assert run(db, staging).replaced == 1
    assert closes(db) == [("A", 0, 2.0), ("A", 1, 8.0), ("A", 2, 2.0)]


def test_what_a_later_answer_adds_changes_and_no_longer_has_is_counted(staging: Staging, db: Path) -> None:
    staging.bars("A B", 0, 4, price=1)
    rows = [bar("A", 0, 1.0), bar("A", 1, 9.0), bar("A", 4, 1.0), bar("A", 5, 1.0)]
    staging.stage(Chunk(BARS, ("A", "B"), window(0, 6)), rows)
    summary = run(db, staging)
    # Of A, day 1 has another price, 4 and 5 are new, 2 and 3 are gone; B, of which nothing came back, is not judged.
    assert summary.changes == {"stock-bars": Changes(added=2, changed=1, vanished=2)}
    assert summary.replaced == 2
    assert len(closes(db)) == 10


def test_answers_that_say_the_same_again_change_nothing(staging: Staging, db: Path) -> None:
    staging.bars("A B", 0, 4)
    staging.bars("A B", 0, 4)
    assert run(db, staging).changes == {"stock-bars": Changes()}


def test_with_replace_a_whole_answer_removes_what_it_does_not_repeat(staging: Staging, db: Path) -> None:
    staging.bars("A B", 0, 4, price=1)
    staging.stage(Chunk(BARS, ("A", "B"), window(0, 4)), [bar("A", 1, 9.0)])
    staging.stage(Chunk(BARS, ("B",), window(0, 2)), [bar("B", 0, 9.0)], covers=False)
    summary = load([staging], DuckDB(db, threads=1, replace=True))
    assert closes(db) == [("A", 1, 10.0), ("B", 0, 10.0), *(("B", number, 2.0) for number in range(1, 4))]
    assert (summary.replaced, summary.changes) == (5, {})


@pytest.mark.parametrize("replace", [False, True])
def test_rows_of_another_series_are_left_alone(staging: Staging, db: Path, replace: bool) -> None:
    staging.bars("A", 0, 2, price=1)
    iex = [{**bar("A", number, 5.0), "feed": "iex"} for number in range(2)]
    staging.stage(Chunk(IEX, ("A",), window(0, 2)), iex)
    staging.bars("A", 0, 2, price=2)
    load([staging], DuckDB(db, threads=1, replace=replace))
    assert ask(db, "SELECT feed, close, count(*) FROM stock_bars GROUP BY ALL ORDER BY ALL") == [
        ("iex", 6.0, 2),
        ("sip", 3.0, 2),
    ]


def test_a_late_entry_never_overwrites_a_newer_one(staging: Staging, db: Path) -> None:
    old = staging.bars("A", 0, 3, price=1)
    staging.bars("A", 1, 4, price=5)
    content = staging.file(old).read_bytes()
    staging.file(old).unlink()
    run(db, staging)
    staging.file(old).write_bytes(content)
    assert run(db, staging).rows == 3
    assert closes(db) == [("A", 0, 2.0), ("A", 1, 6.0), ("A", 2, 6.0), ("A", 3, 6.0)]


def test_between_staging_directories_the_later_answer_wins(tmp_path: Path, db: Path) -> None:
    one, two = Staging(tmp_path / "one", "one"), Staging(tmp_path / "two", "two")
    two.bars("A", 0, 2, price=1, asked_at=NOON)
    one.bars("A", 1, 3, price=5, asked_at=NOON + timedelta(hours=1))
    expected = [("A", 0, 2.0), ("A", 1, 6.0), ("A", 2, 6.0)]
    run(db, one, two)
    assert closes(db) == expected
    run(tmp_path / "by-turns.duckdb", one)
    load([two], DuckDB(tmp_path / "by-turns.duckdb", threads=1), adopt=True)
    assert closes(tmp_path / "by-turns.duckdb") == expected


def test_rows_the_ledger_does_not_explain_are_replaced(staging: Staging, db: Path) -> None:
    staging.bars("A", 0, 1)
    run(db, staging)
    with duckdb.connect(str(db)) as other:
        other.execute("INSERT INTO stock_bars SELECT * REPLACE ('B' AS symbol) FROM stock_bars").fetchall()
    staging.bars("B", 0, 2, price=4)
    run(db, staging)
    assert closes(db) == [("A", 0, 2.0), ("B", 0, 5.0), ("B", 1, 5.0)]


def test_reloading_into_an_empty_database_gives_equal_tables(staging: Staging, db: Path, tmp_path: Path) -> None:
    staging.bars("A B", 0, 4, price=1)
    run(db, staging)
    staging.bars("B", 2, 6, price=2)
    staging.stage(Chunk(ACTIVE, ("AAPL",), window(1, 2)), [contract("AAPL240621C00150500", 1)])
    run(db, staging)
    staging.stage(Chunk(ACTIVE, ("AAPL",), window(2, 3)), [contract("AAPL240621C00150500", 2, size=10.0)])
    run(db, staging)
    run(tmp_path / "again.duckdb", staging)
    for data in DATASETS.values():
        assert all_rows(tmp_path / "again.duckdb", data) == all_rows(db, data)


def test_columns_in_another_order_still_load_by_name(staging: Staging, db: Path) -> None:
    staging.bars("A", 0, 2)
    staging.bars("B", 0, 2, columns=sorted((column.name for column in STOCKS.columns), reverse=True))
    run(db, staging)
    assert ask(db, "SELECT DISTINCT symbol, open, high, low, close, volume FROM stock_bars ORDER BY 1") == [
        ("A", 1.0, 3.0, 0.0, 2.0, 100),
        ("B", 1.0, 3.0, 0.0, 2.0, 100),
    ]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("harm", "words"),
    [(_flip, "does not have the SHA-256"), (_cut, "bytes where the manifest says"), (Path.unlink, "cannot be read")],
)
def test_a_flipped_byte_is_named_and_the_rest_loads(staging: Staging, db: Path, harm, words: str) -> None:
    staging.bars("A", 0, 2)
    bad = staging.bars("B", 0, 2)
    staging.bars("C", 0, 2)
    harm(staging.file(bad))
    summary = run(db, staging)
    assert [skipped.path for skipped in summary.skipped] == [bad.path]
    assert words in summary.skipped[0].reason
    assert words in staging.complaints[bad.seq]
    assert list(staging.complaints) == [bad.seq]
    assert {symbol for symbol, _, _ in closes(db)} == {"A", "C"}
    assert ask(db, "SELECT seq FROM ledger ORDER BY seq") == [(1,), (3,)]


def test_an_entry_that_lost_its_file_after_it_was_taken_stays_taken(staging: Staging, db: Path) -> None:
    entry = staging.bars("A", 0, 2)
    run(db, staging)
    staging.listed.clear()
    staging.enter(entry.chunk, Outcome.LOST)
    assert run(db, staging).entries == 0
    assert ask(db, "SELECT outcome FROM ledger") == [("staged",)]


def test_a_count_that_differs_from_the_manifest_rolls_back_and_names_the_batch(staging: Staging, db: Path) -> None:
    entry = staging.bars("A", 0, 2)
    staging.listed[0] = type(entry)(**{name: getattr(entry, name) for name in entry.__slots__} | {"rows": 3})
    with pytest.raises(TargetError, match=rf"{entry.path}.* hold 2 rows where the manifest says 3"):
        run(db, staging)
    assert ask(db, "SELECT (SELECT count(*) FROM stock_bars), (SELECT count(*) FROM ledger)") == [(0, 0)]


def test_files_of_a_newer_schema_are_refused_by_name(staging: Staging, db: Path) -> None:
    entry = staging.bars("A", 0, 2)
    staging.listed[0] = type(entry)(**{name: getattr(entry, name) for name in entry.__slots__} | {"schema": 3})
    with pytest.raises(TargetError, match=r"stock-bars have schema 3"):
        run(db, staging)


def test_the_newest_listing_of_a_contract_wins(staging: Staging, db: Path) -> None:
    name = "AAPL240621C00150500"
    staging.stage(Chunk(ACTIVE, ("AAPL",), window(1, 2)), [contract(name, 1)])
    staging.stage(Chunk(INACTIVE, ("AAPL",), window(1, 2)), [contract(name, 1, status="inactive")])
    staging.stage(Chunk(ACTIVE, ("AAPL",), window(2, 3)), [contract(name, 2, open_interest=9)])
    run(db, staging)
    assert ask(db, "SELECT contract_symbol, status, strike, deliverables FROM option_contracts") == [
        (name, "active", contract(name, 1)["strike"], '[{"symbol":"AAPL"}]')
    ]
    snapshots = "SELECT as_of_date, open_interest, raw_json, updated_at FROM option_contract_snapshots ORDER BY 1"
    assert [row[:3] for row in ask(db, snapshots)] == [(day(1), 7, '{"id":1}'), (day(2), 9, '{"id":1}')]
    assert ask(db, snapshots)[0][3] == (NOON + timedelta(minutes=2)).replace(tzinfo=None)


def test_an_older_listing_does_not_replace_a_newer_one(staging: Staging, db: Path) -> None:
    name = "AAPL240621C00150500"
    staging.stage(Chunk(ACTIVE, ("AAPL",), window(2, 3)), [contract(name, 2, size=10.0)], asked_at=NOON)
    run(db, staging)
    staging.stage(Chunk(INACTIVE, ("AAPL",), window(1, 2)), [contract(name, 1)], asked_at=NOON - timedelta(days=1))
    run(db, staging)
    assert ask(db, "SELECT size FROM option_contracts") == [(10.0,)]
    assert len(ask(db, "SELECT * FROM option_contract_snapshots")) == 2


@pytest.mark.parametrize("method", ["take", "_fill", "_enter"])
def test_a_killed_loader_leaves_whole_batches(staging: Staging, db: Path, method: str) -> None:
    child = subprocess.run(loadchild.command(loadchild.killed_at_the_third, staging.root, db, method), check=False)
    assert child.returncode == -signal.SIGKILL
    for number in range(6):
        staging.bars(f"S{number}", 0, 4, price=number)
    assert [row[:2] for row in closes(db)] == [(f"S{number}", at) for number in range(2) for at in range(4)]
    assert ask(db, "SELECT seq FROM ledger ORDER BY seq") == [(1,), (2,)]
    assert run(db, staging, batch_rows=4).entries == 4
    assert len(closes(db)) == 24


def test_a_loader_killed_while_it_creates_the_database_leaves_none(staging: Staging, db: Path) -> None:
    child = subprocess.run(loadchild.command(loadchild.killed_at_the_third, staging.root, db, "_all"), check=False)
    assert child.returncode == -signal.SIGKILL
    assert not db.exists()
    for number in range(6):
        staging.bars(f"S{number}", 0, 4, price=number)
    assert run(db, staging).rows == 24
    assert [path.name for path in db.parent.iterdir() if path.name.startswith(db.name)] == [db.name]


def test_an_interrupted_load_stops_and_leaves_whole_batches(staging: Staging, db: Path) -> None:
    command = loadchild.command(loadchild.interrupted, staging.root, db)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "inserted\n"
    child.send_signal(signal.SIGINT)
    child.communicate()
    assert child.returncode == 130
    assert {symbol for symbol, _, _ in closes(db)} == {"S0"}
    assert ask(db, "SELECT seq FROM ledger") == [(1,)]


class Failing(DuckDB):
    """Fails once, before or after the batch is committed."""

    def __init__(self, path: Path, when: str) -> None:
        super().__init__(path, threads=1)
        self.when = when

    def take(self, batch):
        when, self.when = self.when, ""
        if when == "before":
            raise TargetError("The disk hiccuped.")
        receipt = super().take(batch)
        if when == "after":
            raise TargetError("The disk hiccuped.")
        return receipt


@pytest.mark.parametrize("when", ["before", "after"])
def test_after_an_error_the_ledger_decides_what_is_loaded(staging: Staging, db: Path, when: str) -> None:
    staging.bars("A", 0, 3)
    staging.bars("B", 0, 3)
    assert load([staging], Failing(db, when), batch_rows=3).rows == 6
    assert len(closes(db)) == 6


def test_a_batch_that_fails_twice_is_named_and_what_came_before_stays(staging: Staging, db: Path) -> None:
    staging.bars("A", 0, 3)
    staging.stage(Chunk(BARS, ("B",), window(0, 1)), [{**bar("B", 0, 1.0), "interval": None}])
    bad = staging.listed[-1]
    with pytest.raises(TargetError, match=rf"1 entries of stock-bars.*{bad.path}.*interval"):
        run(db, staging, batch_rows=3)
    assert len(closes(db)) == 3
    assert staging.remembered == {str(db): {1}}


HOLDER = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read(); db.close()"


@pytest.fixture
def holder(staging: Staging, db: Path):
    staging.bars("A", 0, 3)
    run(db, staging)
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    yield child
    child.communicate("")
    assert child.returncode == 0


class Cramped(DuckDB):
    """Has memory for batches of two entries, and notes how many it was given."""

    def take(self, batch):
        self.given = [*getattr(self, "given", []), len(batch.items)]
        if len(batch.items) > 2:
            raise TooLargeError("Out of memory.")
        return super().take(batch)


def test_a_batch_too_large_for_the_memory_is_loaded_in_halves(staging: Staging, db: Path) -> None:
    for symbol in "ABCD":
        staging.bars(symbol, 0, 2)
    target = Cramped(db, threads=1)
    assert load([staging], target).rows == 8
    assert target.given == [4, 2, 2]
    assert len(closes(db)) == 8


def test_halves_that_are_too_large_are_halved_again(staging: Staging, db: Path) -> None:
    for symbol in "ABCDEFGH":
        staging.bars(symbol, 0, 2)
    target = Cramped(db, threads=1)
    assert load([staging], target).rows == 16
    assert target.given == [8, 4, 2, 2, 4, 2, 2]
    assert len(closes(db)) == 16


@pytest.mark.parametrize(("words", "kept"), [((), 3), (("--upsert",), 3), (("--replace",), 1)])
def test_the_command_keeps_or_removes_what_an_answer_does_not_repeat(
    staging: Staging, db: Path, words: tuple[str, ...], kept: int
) -> None:
    from stagingest.cli.load import load as command

    staging.bars("A", 0, 3)
    run(db, staging)
    staging.stage(Chunk(BARS, ("A",), window(0, 3)), [bar("A", 0, 1.0)])
    asked = command.make_context("load", [*words])
    load([staging], DuckDB(db, threads=1, replace=asked.params["replace"]))
    assert len(closes(db)) == kept


class Tight(DuckDB):
    """Has a kilobyte left on its disk."""

    def free_bytes(self) -> int:
        return 1000


def test_a_load_that_will_not_fit_says_so_before_it_begins(staging: Staging, db: Path) -> None:
    staging.bars("A", 0, 3)
    told = []
    load([staging], DuckDB(db, threads=1), listener=told.append)
    staging.bars("B", 0, 200)
    load([staging], Tight(db, threads=1), listener=told.append)
    assert [each.batch for each in told] == [1, 0, 1]
    assert [each.warning for each in told if each.warning] == [
        f"{told[1].rows_due:,} rows need about 0.0 MB, and 0.0 MB are free there."
    ]


class Delicate(DuckDB):
    """Gives itself up over the file of one symbol."""

    def __init__(self, path: Path, bad: str) -> None:
        super().__init__(path, threads=1)
        self.bad = bad

    def take(self, batch):
        if any(set(item.entry.chunk.symbols) & set(self.bad) for item in batch.items):
            raise SpoiledError("FATAL.")
        return super().take(batch)


def test_the_one_file_a_database_cannot_bear_is_set_aside_and_named(staging: Staging, db: Path) -> None:
    for symbol in "ABCD":
        bad = staging.bars(symbol, 0, 2)
    summary = load([staging], Delicate(db, "D"))
    assert [skipped.path for skipped in summary.skipped] == [bad.path]
    assert list(staging.complaints) == [bad.seq]
    assert {symbol for symbol, _, _ in closes(db)} == {"A", "B", "C"}
    assert summary.entries == 3


def test_a_database_that_gives_itself_up_over_everything_stops_the_load(staging: Staging, db: Path) -> None:
    for symbol in "ABCD":
        staging.bars(symbol, 0, 2)
    with pytest.raises(SpoiledError, match="FATAL"):
        load([staging], Delicate(db, "CD"))
    assert staging.complaints == {}


def test_a_held_database_names_its_holder(holder: subprocess.Popen[str], staging: Staging, db: Path) -> None:
    with pytest.raises(HeldError, match=f"market.duckdb is open in process {holder.pid}") as held:
        run(db, staging)
    assert held.value.exit_code == 75


def test_a_held_database_is_waited_for(holder: subprocess.Popen[str], staging: Staging, db: Path) -> None:
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            holder.communicate("")

    staging.bars("A", 3, 5)
    assert load([staging], DuckDB(db, lock_timeout_s=60, sleep=sleep)).rows == 2
    assert len(waited) == 2


def test_waiting_for_a_held_database_ends(holder: subprocess.Popen[str], staging: Staging, db: Path) -> None:
    waited: list[float] = []
    with pytest.raises(HeldError):
        load([staging], DuckDB(db, lock_timeout_s=1, sleep=waited.append))
    assert sum(waited) == pytest.approx(1)


def test_the_database_is_free_while_nothing_loads(staging: Staging, db: Path) -> None:
    seen: list[Loaded] = []
    staging.bars("A", 0, 3)
    load([staging], DuckDB(db), listener=seen.append)
    assert seen == [Loaded(1, 1, 1, 3, 3)]
    with duckdb.connect(str(db)) as mine:
        assert mine.execute("SELECT count(*) FROM stock_bars").fetchone() == (3,)


def test_a_database_with_foreign_tables_of_our_names_is_refused(staging: Staging, db: Path) -> None:
    with duckdb.connect(str(db)) as foreign:
        foreign.execute("CREATE TABLE option_bars (x INTEGER)").fetchall()
    with pytest.raises(TargetError, match=r"has a table option_bars that stagingest did not make"):
        run(db, staging)


def test_a_database_with_other_tables_is_used_beside_them(staging: Staging, db: Path) -> None:
    with duckdb.connect(str(db)) as foreign:
        foreign.execute("CREATE TABLE notes AS SELECT 1 AS x").fetchall()
    staging.bars("A", 0, 3)
    assert run(db, staging).rows == 3
    assert ask(db, "SELECT * FROM notes") == [(1,)]


def test_extra_columns_of_the_user_survive(staging: Staging, db: Path) -> None:
    staging.bars("A", 0, 2)
    run(db, staging)
    with duckdb.connect(str(db)) as mine:
        mine.execute("ALTER TABLE stock_bars ADD COLUMN note VARCHAR DEFAULT 'seen'").fetchall()
    staging.bars("A", 1, 3)
    run(db, staging)
    assert ask(db, "SELECT note FROM stock_bars ORDER BY ts")[0] == ("seen",)
    assert len(closes(db)) == 3


def test_a_newer_database_is_refused(staging: Staging, db: Path) -> None:
    run(db, staging)
    with duckdb.connect(str(db)) as newer:
        newer.execute("INSERT INTO schema_migrations VALUES (99, now()::TIMESTAMP)").fetchall()
    with pytest.raises(TargetError, match=r"version 99, this one knows \d"):
        run(db, staging)


def test_a_file_that_is_no_database_is_refused(staging: Staging, db: Path) -> None:
    db.write_text("symbol,open\n" * 1000)
    with pytest.raises(TargetError, match=r"market.duckdb is not a DuckDB database"):
        run(db, staging)


def test_a_database_in_a_missing_directory_is_refused(staging: Staging, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="There is no directory"):
        run(tmp_path / "nowhere" / "market.duckdb", staging)


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?"])
def test_a_staging_directory_that_reads_as_a_pattern_is_refused(tmp_path: Path, db: Path, name: str) -> None:
    with pytest.raises(StagingError, match="holds one of"):
        run(db, Staging(tmp_path / name))


@pytest.mark.parametrize("name", ["it's", "feed=iex", "a, b", "tab\there"])
def test_staging_directories_of_odd_names_load(tmp_path: Path, db: Path, name: str) -> None:
    staging = Staging(tmp_path / name)
    staging.bars("A", 0, 3)
    staging.bars("A", 0, 3, price=3)
    staging.stage(Chunk(ACTIVE, ("AAPL",), window(1, 2)), [contract("AAPL240621C00150500", 1)])
    run(db, staging)
    assert ask(db, "SELECT DISTINCT feed, close FROM stock_bars") == [("sip", 4.0)]
    assert len(ask(db, "SELECT * FROM option_contracts")) == 1


def test_the_connection_reads_nothing_but_staging_and_stays_locked(staging: Staging, db: Path, tmp_path: Path) -> None:
    secret = tmp_path.parent / f"{tmp_path.name}.csv"
    secret.write_text("x\n1\n")
    target = DuckDB(db)
    target.open([staging.root])
    try:
        for text in (
            f"SELECT * FROM read_csv('{secret}')",
            f"COPY ledger TO '{secret}'",
            "SET enable_external_access = true",
            "INSTALL httpfs",
        ):
            with pytest.raises(TargetError, match=r"disabled|locked"):
                target._all(text)
    finally:
        target.close()
        secret.unlink()


def test_a_database_can_be_opened_by_the_oldest_version_promised(staging: Staging, db: Path) -> None:
    run(db, staging)
    with duckdb.connect(str(db)) as mine:
        tags = mine.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'market'").fetchone()
    assert tags == ({"storage_version": "v1.5.0+"},)


def test_every_table_and_view_of_a_file_made_here_is_read_by_the_oldest_version_promised(
    staging: Staging, db: Path, old_duckdb_python: Path
) -> None:
    staging.bars("A", 0, 2)
    run(db, staging)
    names = [name for (name,) in ask(db, "SELECT table_name FROM information_schema.tables ORDER BY 1")]
    script = (
        "import duckdb, sys\n"
        "db = duckdb.connect(sys.argv[1], read_only=True)\n"
        "for name in sys.argv[2:]:\n"
        "    db.execute(f'SELECT * FROM \"{name}\"').fetchall()\n"
        "    print(name)\n"
    )
    command = [str(old_duckdb_python), "-c", script, str(db), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (names, "")
    assert {"coverage", "option_bars_meta", "candles_daily"} <= set(names)


def test_a_loader_prints_nothing_when_it_ends(staging: Staging, db: Path) -> None:
    command = loadchild.command(loadchild.loaded, staging.root, db)
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (child.stdout, child.stderr) == ("", "")


META = (
    "SELECT contract_symbol, status, rows, start_ts, end_ts, last_error, error_count FROM option_bars_meta ORDER BY 1"
)


def test_coverage_says_what_became_of_every_symbol(staging: Staging, db: Path) -> None:
    def enter(symbols: str, start: int, end: int, outcome: Outcome, reason: str = "") -> None:
        staging.enter(Chunk(OPTIONS, tuple(symbols.split()), window(start, end)), outcome, reason=reason)

    def stage(symbol: str, start: int, end: int) -> None:
        rows = [{**bar("", number, 1.0), "contract_symbol": symbol} for number in range(start, end)]
        for row in rows:
            for name in ("symbol", "feed", "adjustment", "currency", "asof"):
                del row[name]
        staging.stage(Chunk(OPTIONS, (symbol, "QUIET"), window(start, end)), rows)

    enter("FIXED MIXED", 0, 10, Outcome.FAILED, "timed out")
    stage("FIXED", 0, 4)
    stage("FIXED", 4, 10)
    stage("MIXED", 0, 4)
    enter("DENIED", 0, 10, Outcome.FORBIDDEN, "not entitled")
    enter("UNKNOWN", 0, 10, Outcome.REFUSED, "no such symbol")
    stage("AGAIN", 0, 4)
    stage("AGAIN", 0, 4)
    run(db, staging)
    start, four, ten = (f"{day(number)} 00:00:00" for number in (0, 4, 10))
    found = [(*row[:3], *(str(at) if at else None for at in row[3:5]), *row[5:]) for row in ask(db, META)]
    assert found == [
        ("AGAIN", "ok", 4, start, four, None, 0),
        ("DENIED", "forbidden", 0, None, None, "not entitled", 1),
        ("FIXED", "ok", 10, start, ten, "timed out", 1),
        ("MIXED", "partial", 4, start, four, "timed out", 1),
        ("QUIET", "empty", 0, None, None, None, 0),
        ("UNKNOWN", "not_found", 0, None, None, "no such symbol", 1),
    ]


def test_candles_daily_prefers_one_row_per_symbol_and_session(staging: Staging, db: Path) -> None:
    rows = [bar("A", 0, 1.0), {**bar("A", 0, 2.0), "feed": "iex"}, {**bar("A", 0, 3.0), "adjustment": "split"}]
    staging.stage(Chunk(BARS, ("A",), window(0, 1)), rows)
    staging.stage(Chunk(BARS, ("B",), window(0, 1)), [{**bar("B", 0, 2.0), "feed": "iex"}])
    staging.stage(Chunk(BARS, ("C",), window(0, 1)), [{**bar("C", 0, 2.0), "interval": "1min"}])
    run(db, staging)
    assert ask(db, "SELECT symbol, feed, adjustment, open FROM candles_daily ORDER BY 1") == [
        ("A", "sip", "raw", 1.0),
        ("B", "iex", "raw", 2.0),
    ]


def test_contracts_of_underlyings_are_read_from_a_database(staging: Staging, db: Path) -> None:
    rows = [contract("AAPL240621C00150500", 1), contract("AAPL240621C00140000", 1)]
    staging.stage(Chunk(ACTIVE, ("AAPL",), window(1, 2)), rows)
    run(db, staging)
    expiry = rows[0]["expiry"]
    assert contracts(db, ["AAPL", "MSFT"]) == [
        ("AAPL", expiry, "AAPL240621C00140000"),
        ("AAPL", expiry, "AAPL240621C00150500"),
    ]
    assert contracts(db, ["MSFT"]) == []


def test_a_database_without_our_tables_knows_no_contracts(db: Path) -> None:
    with duckdb.connect(str(db)) as foreign:
        foreign.execute("CREATE TABLE notes AS SELECT 1 AS x").fetchall()
    assert contracts(db, ["AAPL"]) == []


def test_contracts_of_a_held_database_name_its_holder(holder: subprocess.Popen[str], db: Path) -> None:
    with pytest.raises(HeldError, match=f"process {holder.pid}"):
        contracts(db, ["AAPL"])


def test_a_database_open_in_a_notebook_is_said_to_be(staging: Staging, db: Path) -> None:
    run(db, staging)
    with duckdb.connect(str(db)), pytest.raises(HeldError, match="open in this process"):
        run(db, staging)


def test_a_real_manifest_is_loaded_and_told_what_was_taken(tmp_path: Path, db: Path) -> None:
    made = Staging(tmp_path / "staging")
    good, bad = made.bars("A B", 0, 3), made.bars("C", 0, 3)
    made.file(bad).unlink()
    commits = []
    for entry in (good, bad):
        part = PartFile("part", entry.bytes, entry.sha256, entry.rows)
        result = TaskResult(Outcome.STAGED, asked_at=NOON, part=part, symbol_rows=entry.symbol_rows)
        commits.append(Commit(Task("run", entry.seq, entry.chunk), result, True, NOON, 1, entry.path))
    with Manifest.write(made.root) as manifest:
        manifest.plan([good.chunk, bad.chunk], "run")
        manifest.record(commits)
    with Staged(made.root) as source:
        summary = load([source], DuckDB(db))
    assert (summary.entries, summary.rows, [skipped.path for skipped in summary.skipped]) == (1, 6, [bad.path])
    assert list(read_complaints(made.root)) == [2]
    with Manifest.read(made.root) as manifest:
        assert manifest.loaded() == {BARS.endpoint: {str(db): 1}}


def test_a_directory_that_is_no_staging_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StagingError, match="is no staging directory"):
        Staged(tmp_path)


def test_labels_are_asked_for_like_text_and_unknown_words_find_nothing(staging: Staging, db: Path) -> None:
    staging.bars("AAPL", 0, 3)
    run(db, staging)
    found = ask(db, "SELECT count(*), any_value(feed || '-' || \"interval\") FROM stock_bars WHERE feed = 'sip'")
    assert found == [(3, "sip-1d")]
    assert ask(db, "SELECT count(*) FROM stock_bars WHERE feed = 'no such feed'") == [(0,)]


def test_a_damaged_write_ahead_log_is_explained_set_aside_and_what_it_held_is_loaded_again(
    staging: Staging, db: Path
) -> None:
    load([staging], DuckDB(db, threads=1))  # nothing is staged: an empty database
    child = subprocess.run(loadchild.command(loadchild.killed_before_it_finishes, staging.root, db), check=False)
    assert child.returncode == -signal.SIGKILL
    staging.bars("A B", 0, 4)
    log = Path(f"{db}.wal")
    content = log.read_bytes()
    log.write_bytes(content[: len(content) // 2] + bytes(100) + content[len(content) // 2 + 100 :])
    with pytest.raises(TargetError, match="stagingest repair --set-aside-wal --to"):
        run(db, staging)
    kept = set_aside_wal(db)
    assert kept.name == "market.duckdb.wal.damaged"
    assert ask(db, "SELECT count(*) FROM stock_bars") == [(0,)]
    assert run(db, staging).rows == 8
    with pytest.raises(UsageError, match="no write-ahead log"):
        set_aside_wal(db)


def test_tables_of_a_schema_stand_beside_others_of_the_same_names(staging: Staging, db: Path) -> None:
    with duckdb.connect(str(db)) as other:
        other.execute("CREATE TABLE stock_bars (mine INTEGER)").fetchall()
    staging.bars("A", 0, 2)
    with pytest.raises(TargetError, match="--schema"):
        run(db, staging)
    for _ in range(2):
        load([staging], DuckDB(db, threads=1, schema="market data"))
    assert ask(db, 'SELECT count(*) FROM "market data".stock_bars') == [(2,)]
    assert ask(db, 'SELECT symbol, status FROM "market data".coverage') == [("A", "ok")]
    assert ask(db, "SELECT count(*) FROM stock_bars") == [(0,)]


def test_a_database_of_other_staging_directories_is_taken_only_when_told(staging: Staging, db: Path) -> None:
    staging.bars("A", 0, 2)
    run(db, staging)
    other = Staging(staging.root.parent / "other", "two")
    other.bars("B", 0, 2)
    with pytest.raises(TargetError, match="--adopt"):
        load([other], DuckDB(db, threads=1))
    assert load([other], DuckDB(db, threads=1), adopt=True).rows == 2
    other.bars("C", 0, 2)
    assert load([other], DuckDB(db, threads=1)).rows == 2


def test_what_is_planned_and_has_no_answer_is_pending_until_it_has(staging: Staging, db: Path) -> None:
    staging.bars("A", 0, 2)
    staging.planned = [Chunk(BARS, ("A", "B"), window(0, 2)), Chunk(BARS, ("A",), window(2, 4))]
    run(db, staging)
    text = "SELECT symbol, status, error_count FROM coverage ORDER BY symbol"
    assert ask(db, text) == [("A", "partial", 0), ("B", "pending", 0)]
    content = db.read_bytes()
    run(db, staging)
    assert db.read_bytes() == content
    staging.planned = []
    staging.bars("B", 0, 2)
    run(db, staging)
    assert ask(db, text) == [("A", "ok", 0), ("B", "ok", 0)]


def test_a_database_of_the_first_version_is_led_on_and_keeps_its_rows(
    staging: Staging, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging.bars("A", 0, 2)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        patch.setattr(DuckDB, "record_open", lambda *_: None)
        patch.setattr(DuckDB, "unexplained", lambda _: frozenset())
        patch.setattr(DuckDB, "_add_columns", lambda _: None)
        run(db, staging)
    assert ask(db, "SELECT version FROM schema_migrations") == [(1,)]
    before = all_rows(db, STOCKS)
    staging.planned = [Chunk(BARS, ("B",), window(0, 2))]
    assert run(db, staging).rows == 0
    assert ask(db, "SELECT version FROM schema_migrations ORDER BY 1") == [(number,) for number, _ in schema.MIGRATIONS]
    assert all_rows(db, STOCKS) == before
    assert ask(db, "SELECT symbol, status FROM coverage ORDER BY 1") == [("A", "ok"), ("B", "pending")]


def test_each_migration_is_whole_or_not_there_and_its_record_with_it(
    staging: Staging, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging.bars("A", 0, 2)
    run(db, staging)
    steps = ((98, ("CREATE TABLE first (a INTEGER)",)), (99, ("CREATE TABLE second (a INTEGER)", "SELECT nonsense")))
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, *steps))
    with pytest.raises(TargetError, match="nonsense"):
        run(db, staging)
    versions = "SELECT version FROM schema_migrations ORDER BY 1"
    ours = [(number,) for number, _ in schema.MIGRATIONS[:-2]]
    assert ask(db, versions) == [*ours, (98,)]
    tables = "SELECT table_name FROM duckdb_tables() WHERE table_name IN ('first', 'second')"
    assert ask(db, tables) == [("first",)]
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS[:-1], (99, ("CREATE TABLE second (a INTEGER)",))))
    run(db, staging)
    assert ask(db, versions) == [*ours, (98,), (99,)]

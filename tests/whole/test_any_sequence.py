"""Whatever happens to a staging directory and a database, in any order, what is asked ends up there, once.

A machine of Hypothesis' fetches, fails, dies, loses what was not synced, loads, deletes files and databases; a plain
dictionary of the market's rows says what must be true all the while.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import crashlab
import duckdb
import pytest
from desk import Desk, desk
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import stagingest
from stagingest.errors import StagingestError
from stagingest.http import retry
from stagingest.model.task import Outcome
from stagingest.sim import policy
from stagingest.staging.manifest import Manifest
from stagingest.system import disk
from stagingest.system.sqlite import Store
from stagingest.targets.duckdb.target import DuckDB

Key = tuple[str, str]  # symbol, month
Row = tuple[Any, ...]

SYMBOLS = 4
MONTHS = {"03": ("2024-03-01", "2024-03-31"), "04": ("2024-04-01", "2024-04-30"), "05": ("2024-05-01", "2024-05-31")}
ROWS = "SELECT symbol, session_date::VARCHAR, open, high, low, close, volume FROM stock_bars ORDER BY ALL"
FAULTS = [
    policy.Fault("status", status=400, times=1),
    policy.Fault("status", status=400),
    policy.Fault("status", status=401),
    policy.Fault("status", status=500, nth=(1,)),
    policy.Fault("wrong-json", times=1),
    policy.Fault("wrong-json"),
    policy.Fault("reset", nth=(1,)),
]
SOME = st.sets(st.integers(0, SYMBOLS - 1), min_size=1)
MONTH = st.sampled_from(sorted(MONTHS))


class Death(BaseException):
    """What a killed process meets instead of its next operation."""


class Fuse:
    """Lets so many operations of a process happen; then it is dead, and none does any more."""

    def __init__(self, operations: int) -> None:
        self.left = operations
        self.burnt = False

    def guard(self, real: Any) -> Any:
        def guarded(*args: Any, **values: Any) -> Any:
            self.left -= 1
            self.burnt = self.burnt or self.left < 0
            if self.burnt:
                raise Death
            return real(*args, **values)

        return guarded


@contextmanager
def dying_in_a_batch(statements: int) -> Iterator[None]:
    """A load that dies at one of the statements of its first batch, or of the next."""
    fuse = Fuse(statements)
    real = DuckDB.take

    def take(target: DuckDB, batch: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DuckDB, "_all", fuse.guard(DuckDB._all))
            return real(target, batch)

    with pytest.MonkeyPatch.context() as patch, suppress(Death):
        patch.setattr(DuckDB, "take", take)
        yield


@contextmanager
def dying(operations: int) -> Iterator[None]:
    """A process that dies at one of the operations that change a disk, a manifest or a database."""
    fuse = Fuse(operations)
    with pytest.MonkeyPatch.context() as patch, suppress(Death):
        for name in ("make_folder", "create", "fill", "sync", "sync_folder", "rename", "replace", "remove"):
            patch.setattr(disk, name, fuse.guard(getattr(disk, name)))
        patch.setattr(Store, "_commit", fuse.guard(Store._commit))
        patch.setattr(DuckDB, "_all", fuse.guard(DuckDB._all))
        yield


@cache
def truth() -> dict[Key, frozenset[Row]]:
    """The rows of every symbol and month."""
    with tempfile.TemporaryDirectory() as folder, desk(Path(folder), symbols=SYMBOLS) as calm:
        calm.fetch(symbols=calm.market.symbols, start="2024-03-01", end="2024-05-31")
        calm.load()
        found: dict[Key, set[Row]] = {}
        for row in rows_of(calm.db):
            found.setdefault((row[0], row[1][5:7]), set()).add(row)
    return {key: frozenset(rows) for key, rows in found.items()}


def rows_of(db: Path) -> list[Row]:
    with duckdb.connect(str(db), read_only=True) as connection:
        return connection.execute(ROWS).fetchall()


class Life(RuleBasedStateMachine):
    """A user, a provider, a staging directory and a database."""

    forgets: tuple[str, ...] = ()  # what the tool never does of what a disk should be asked

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(retry, "backoff_s", lambda *_: 0.0)
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.place: Desk = self.stack.enter_context(desk(Path(folder), symbols=SYMBOLS))
        self.asked: set[Key] = set()
        self.acknowledged: set[int] = set()
        self.touched: set[str] = set()

    # -- what happens ------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.fetch_ok({0, 1}, "05")

    @rule(some=SOME, month=MONTH)
    def fetch_ok(self, some: Iterable[int], month: str) -> None:
        self._fetch_whole(self._ask(some, month))

    @rule(month=MONTH)
    def resume(self, month: str) -> None:
        """Everything that was ever asked of a month, whatever became of it."""
        keys = {key for key in self.asked if key[1] == month}
        if keys:
            self._fetch_whole(keys)

    def _fetch_whole(self, keys: set[Key]) -> None:
        fetched = self._fetch(keys)
        assert fetched.exit_code == (3 if fetched.summary.failures else 0)
        self._adds_up(fetched.summary)
        assert not self._due(keys)

    @rule(some=SOME, month=MONTH, fault=st.sampled_from(FAULTS), fail_fast=st.booleans())
    def fetch_fail(self, some: Iterable[int], month: str, fault: policy.Fault, fail_fast: bool) -> None:
        keys = self._ask(some, month)
        self.place.server.behave(policy.Policy(faults=(fault,)))
        with suppress(StagingestError):
            self._adds_up(self._fetch(keys, fail_fast=fail_fast).summary)
        self.place.server.behave(policy.Policy())

    @rule(some=SOME, month=MONTH, operations=st.integers(0, 30), anew=st.booleans())
    def crash(self, some: Iterable[int], month: str, operations: int, anew: bool) -> None:
        keys = self._ask(some, month)
        with dying(operations):
            self._fetch(keys, resume=not anew)

    @rule(some=SOME, month=MONTH, operations=st.integers(0, 40), which=st.integers(0, 1000), anew=st.booleans())
    def lose_unsynced(self, some: Iterable[int], month: str, operations: int, which: int, anew: bool) -> None:
        """The machine stops; what was not synced may be there, cut, or gone."""
        keys = self._ask(some, month)
        before = crashlab.found(self.place.staging)
        with crashlab.recording(self.place.staging, *self.forgets) as made, dying(operations):
            self._fetch(keys, resume=not anew)
        states = crashlab.left(before, made)
        shutil.rmtree(self.place.staging)
        states[which % len(states)].put(self.place.staging)

    @rule()
    def load(self) -> None:
        self.place.load()
        assert self.place.load().entries == 0
        there = set(rows_of(self.place.db))
        for key in self._staged():
            assert truth()[key] <= there

    @rule(operations=st.integers(0, 50))
    def crash_in_load(self, operations: int) -> None:
        with dying(operations):
            self.place.load()

    @rule(statements=st.integers(0, 6))
    def crash_in_a_batch(self, statements: int) -> None:
        with dying_in_a_batch(statements):
            self.place.load()

    @rule(which=st.integers(0, 1000), how=st.sampled_from(["gone", "cut", "another bit"]))
    def delete_file(self, which: int, how: str) -> None:
        paths = [path for path in self.place.paths() if path.exists()]
        if not paths:
            return
        path = paths[which % len(paths)]
        data = path.read_bytes()
        path.unlink()
        if how != "gone":
            damaged = data[: len(data) // 2] if how == "cut" else data[:100] + bytes([data[100] ^ 1]) + data[101:]
            path.write_bytes(damaged)
        self.touched.add(str(path.relative_to(self.place.staging)))

    @precondition(lambda self: self.place.db.exists())
    @rule(older=st.booleans())
    def new_db(self, older: bool) -> None:
        """The database is deleted, or an older copy comes back."""
        copy = self.place.root / "copy.duckdb"
        if older and copy.exists():
            shutil.copyfile(copy, self.place.db)
        else:
            if not Path(f"{self.place.db}.wal").exists():
                shutil.copyfile(self.place.db, copy)
            self.place.db.unlink()
        Path(f"{self.place.db}.wal").unlink(missing_ok=True)

    # -- what is always true -----------------------------------------------------------------------------------

    @invariant()
    def what_is_acknowledged_is_there(self) -> None:
        if not (self.place.staging / Manifest.file).exists():
            return
        entries = self.place.entries()
        assert self.acknowledged <= {entry.seq for entry in entries}
        self.acknowledged = {entry.seq for entry in entries}
        state = crashlab.found(self.place.staging)
        assert {lie.rpartition(": ")[2] for lie in state.lies()} <= self.touched

    @invariant()
    def no_row_comes_twice_or_is_another(self) -> None:
        if self.place.db.exists():
            rows = rows_of(self.place.db)
            assert len(rows) == len({row[:2] for row in rows})
            assert set(rows) <= frozenset().union(*truth().values())

    @invariant()
    def the_ledger_and_the_rows_agree(self) -> None:
        if self.place.db.exists():
            with duckdb.connect(str(self.place.db), read_only=True) as connection:
                kept = connection.execute("SELECT sum(inserted - deleted) FROM ledger_batches").fetchone()
                there = connection.execute("SELECT count(*) FROM stock_bars").fetchone()
            assert kept is not None
            assert there is not None
            assert (kept[0] or 0) == there[0]

    def teardown(self) -> None:
        """Everything that was ever asked is asked once more, and loaded."""
        try:
            self._complete()
        finally:
            self.stack.close()

    # -- words -------------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        if not self.asked:
            return
        self.load()  # finds what is damaged
        stagingest.retry(self.place.staging)
        for month in MONTHS:
            keys = {key for key in self.asked if key[1] == month}
            if keys:
                assert self._fetch(keys).exit_code == 0
        self.load()
        assert set(rows_of(self.place.db)) == frozenset().union(*(truth()[key] for key in self.asked))

    def _ask(self, some: Iterable[int], month: str) -> set[Key]:
        keys = {(self.place.market.symbols[index], month) for index in some}
        self.asked |= keys
        return keys

    def _question(self, keys: set[Key]) -> dict[str, Any]:
        (month,) = {month for _, month in keys}
        start, end = MONTHS[month]
        return {"symbols": sorted(symbol for symbol, _ in keys), "start": start, "end": end}

    def _fetch(self, keys: set[Key], **more: Any) -> Any:
        return self.place.fetch(**self._question(keys), lanes=1, **more)

    def _due(self, keys: set[Key]) -> tuple[Any, ...]:
        due: tuple[Any, ...] = self.place.plan(**self._question(keys)).plan.all_chunks
        return due

    @staticmethod
    def _adds_up(summary: Any) -> None:
        assert summary.planned == sum(summary.outcomes.values()) + summary.left

    def _staged(self) -> set[Key]:
        """What undamaged files hold whole."""
        entries = [entry for entry in self.place.entries() if entry.outcome is Outcome.STAGED and entry.covers]
        return {
            (symbol, f"{entry.chunk.window.start.month:02}")
            for entry in entries
            if entry.path not in self.touched
            for symbol in entry.chunk.symbols
        }


def play(machine: type[Life], examples: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,  # a failing life is not shortened: it takes a second to live, and its steps are told
        settings=settings(
            settings.get_profile("stagingest"),
            max_examples=examples,
            stateful_step_count=15,
            suppress_health_check=checks,
            phases=[Phase.generate],
        ),
    )


@pytest.mark.parametrize("lives", [5, pytest.param(20, marks=pytest.mark.long("20 lives of a user instead of 5"))])
def test_whatever_happens_what_was_asked_is_there_once(lives: int) -> None:
    play(Life, lives)


class WithoutSync(Life):
    forgets = ("sync",)


class WithoutTransactions(Life):
    @contextmanager
    def _open(self: DuckDB) -> Iterator[None]:
        yield

    def __init__(self) -> None:
        super().__init__()
        self.stack.enter_context(pytest.MonkeyPatch.context()).setattr(
            DuckDB, "_transaction", WithoutTransactions._open
        )


@pytest.mark.parametrize("machine", [WithoutSync, WithoutTransactions])
def test_a_tool_that_forgets_to_sync_or_to_load_in_transactions_is_found_out(machine: type[Life]) -> None:
    with pytest.raises(AssertionError):
        play(machine, 100)

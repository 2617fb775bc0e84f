"""The pool: the same seam over processes and threads, and what happens when processes die."""

import os
import pickle
import queue
import random
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import pool_parent
import pool_tasks
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagingest.fetching.pool.child import NOTE, TASK, Frame, cut, pack
from stagingest.fetching.pool.handle import PoolBroken, WorkerLost, first_to_count
from stagingest.fetching.pool.process_pool import ProcessPool
from stagingest.fetching.pool.start import warm
from stagingest.fetching.pool.thread_pool import ThreadPool
from stagingest.system import platform

LANES = 2
# With STAGINGEST_FALLBACKS=1 workers are spawned, and there is no fork server to speak of.
FORK_SERVER = pytest.mark.skipif(not platform.FORK_SERVER, reason="workers are spawned")
SOON_S = 20  # how long anything that must happen may take on a busy machine

Pool = ProcessPool | ThreadPool
Make = Callable[..., ProcessPool]
Start = Callable[[Callable[[], None]], "subprocess.Popen[str]"]


@pytest.fixture
def notes() -> "queue.Queue[tuple[int, Any]]":
    return queue.Queue()


@pytest.fixture
def slots(notes: "queue.Queue[tuple[int, Any]]") -> Iterator[Make]:
    made: list[ProcessPool] = []

    def make(processes: int = 1, lanes: int = LANES, **options: Any) -> ProcessPool:
        usual: dict[str, Any] = {"setup": pool_tasks.no_setup, "setup_arg": None, "preload": ["hashlib"]}
        usual["on_note"] = lambda slot, value: notes.put((slot, value))
        made.append(ProcessPool(processes, lanes, **{**usual, **options}))
        return made[-1]

    yield make
    for pool in made:
        pool.kill()


@pytest.fixture(params=["processes", "threads"])
def pool(request: pytest.FixtureRequest, slots: Make, notes: "queue.Queue[tuple[int, Any]]") -> Iterator[Pool]:
    pool_tasks.setups.clear()
    if request.param == "processes":
        yield slots(setup=pool_tasks.counting_setup, setup_arg="key")
        return
    with ThreadPool(
        LANES,
        setup=pool_tasks.counting_setup,
        setup_arg="key",
        on_note=lambda slot, value: notes.put((slot, value)),
    ) as threads:
        yield threads


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """What `wait_for` waits for; it is held open here, so that nobody can come too early or too late."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR)
    yield path
    os.close(held)


def open_gate(gate: Path) -> None:
    gate.write_bytes(bytes(64))


def heard(notes: "queue.Queue[tuple[int, Any]]", count: int) -> list[Any]:
    """The next `count` notes of tasks."""
    values: list[Any] = []
    while len(values) < count:
        _, value = notes.get(timeout=SOON_S)
        if value != ("set up", "key"):
            values.append(value)
    return values


def workers_of(pool: ProcessPool) -> tuple[int, ...]:
    """The living workers; the last of a pool's processes is the fork server, where there is one."""
    return pool.pids()[:-1] if platform.FORK_SERVER else pool.pids()


def gone(pidfds: list[int]) -> bool:
    """Whether all these processes end."""
    for pidfd in pidfds:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(SOON_S * 1000):
            return False
        os.close(pidfd)
    return True


# One suite for both.


def test_answers_come_back_on_their_futures(pool: Pool) -> None:
    assert list(pool.map(pool_tasks.double, range(100), timeout=SOON_S)) == list(range(0, 200, 2))


def test_setup_runs_once_before_the_first_task(pool: Pool, notes: "queue.Queue[tuple[int, Any]]") -> None:
    answers = [pool.submit(pool_tasks.count_setups).result(SOON_S) for _ in range(3)]
    assert answers == [["key"]] * 3
    assert notes.get(timeout=SOON_S) == (0, ("set up", "key"))


def test_notes_of_a_task_arrive_before_its_answer(pool: Pool, notes: "queue.Queue[tuple[int, Any]]") -> None:
    pool.submit(pool_tasks.say, {"pages": 3}).result(SOON_S)
    assert [notes.get_nowait() for _ in range(2)] == [(0, ("set up", "key")), (0, {"pages": 3})]


def test_an_error_of_a_task_is_its_answer(pool: Pool) -> None:
    with pytest.raises(ValueError, match=r"^seven"):
        pool.submit(pool_tasks.raise_value_error).result(SOON_S)
    with pytest.raises(SystemExit, match="3"):
        pool.submit(pool_tasks.leave).result(SOON_S)
    assert pool.submit(pool_tasks.double, 4).result(SOON_S) == 8


def test_never_more_in_flight_than_lanes(pool: Pool, gate: Path, notes: "queue.Queue[tuple[int, Any]]") -> None:
    futures = [pool.submit(pool_tasks.wait_for, gate, number) for number in range(LANES + 3)]
    assert set(heard(notes, LANES)) == {0, 1}
    assert [future.running() for future in futures] == [True] * LANES + [False] * 3
    for future in futures[LANES:]:
        assert future.cancel()
    open_gate(gate)
    assert [future.result(SOON_S) for future in futures[:LANES]] == [0, 1]


def test_a_cancelled_task_never_runs(pool: Pool, gate: Path, notes: "queue.Queue[tuple[int, Any]]") -> None:
    busy = [pool.submit(pool_tasks.wait_for, gate, number) for number in range(LANES)]
    heard(notes, LANES)
    queued = pool.submit(pool_tasks.say, "never")
    assert queued.cancel()
    open_gate(gate)
    wait(busy, SOON_S)
    pool.submit(pool_tasks.say, "after").result(SOON_S)
    assert heard(notes, 1) == ["after"]


def test_a_callback_may_submit_more(pool: Pool) -> None:
    more: queue.Queue[Future[int]] = queue.Queue()
    first = pool.submit(pool_tasks.double, 1)
    first.add_done_callback(lambda done: more.put(pool.submit(pool_tasks.double, done.result())))
    assert more.get(timeout=SOON_S).result(SOON_S) == 4


def test_shutdown_finishes_what_is_queued_and_takes_no_more(pool: Pool) -> None:
    futures = [pool.submit(pool_tasks.double, number) for number in range(50)]
    pool.shutdown()
    assert [future.result(0) for future in futures] == list(range(0, 100, 2))
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(pool_tasks.double, 1)


def test_shutdown_can_cancel_what_is_queued(pool: Pool, gate: Path, notes: "queue.Queue[tuple[int, Any]]") -> None:
    futures = [pool.submit(pool_tasks.wait_for, gate, number) for number in range(LANES + 3)]
    heard(notes, LANES)
    pool.shutdown(wait=False, cancel_futures=True)
    open_gate(gate)
    done, late = wait(futures, SOON_S)
    assert not late
    assert sum(future.cancelled() for future in done) == 3


# What only processes can do.


def test_an_exception_with_keyword_only_arguments_does_not_break_the_pool(slots: Make) -> None:
    pool = slots()
    with pytest.raises(RuntimeError, match="KeywordOnlyError: status 418"):
        pool.submit(pool_tasks.raise_keyword_only).result(SOON_S)
    with pytest.raises(RuntimeError, match="SilentError"):
        pool.submit(pool_tasks.raise_silent).result(SOON_S)
    assert pool.submit(pool_tasks.double, 2).result(SOON_S) == 4


def test_an_answer_that_cannot_travel_is_the_failure_of_its_task_alone(slots: Make) -> None:
    pool = slots()
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pool.submit(pool_tasks.unpicklable).result(SOON_S)
    with pytest.raises(RuntimeError, match="not a number"):
        pool.submit(pool_tasks.unreadable).result(SOON_S)
    assert pool.submit(pool_tasks.double, 2).result(SOON_S) == 4


def test_an_error_carries_the_traceback_of_its_worker(slots: Make) -> None:
    error = slots().submit(pool_tasks.raise_value_error).exception(SOON_S)
    assert error is not None
    assert "in raise_value_error" in error.__notes__[0]


def test_payloads_larger_than_the_sockets_buffers_pass_both_ways(slots: Make) -> None:
    data = random.Random(1).randbytes(3_000_000)
    futures = [slots().submit(pool_tasks.echo, data) for _ in range(4)]
    assert all(future.result(SOON_S) == data for future in futures)


def test_a_death_costs_what_was_in_flight_and_nothing_that_was_queued(
    slots: Make, gate: Path, notes: "queue.Queue[tuple[int, Any]]"
) -> None:
    pool = slots()
    flying = [pool.submit(pool_tasks.wait_for, gate, number) for number in range(LANES)]
    queued = [pool.submit(pool_tasks.double, number) for number in range(5)]
    heard(notes, LANES)
    os.kill(pool.pids()[0], signal.SIGKILL)
    for future in flying:
        with pytest.raises(WorkerLost, match=r"slot 0 died \(signal 9\)") as lost:
            future.result(SOON_S)
        assert (lost.value.slot, lost.value.exitcode) == (0, -signal.SIGKILL)
    assert [future.result(SOON_S) for future in queued] == [0, 2, 4, 6, 8]


def test_every_task_is_answered_exactly_once_while_workers_are_killed(
    slots: Make, gate: Path, notes: "queue.Queue[tuple[int, Any]]"
) -> None:
    pool, seed = slots(2), random.randrange(1 << 32)
    print("seed", seed)
    dice, answers, losses = random.Random(seed), Counter[int](), 0
    pending = {pool.submit(pool_tasks.wait_for, gate, 2 * number): number for number in range(2 * LANES)}
    heard(notes, 2 * LANES)  # both workers are full: whichever is killed now loses what it holds
    os.kill(dice.choice(workers_of(pool)), signal.SIGKILL)
    open_gate(gate)
    pending |= {pool.submit(pool_tasks.double, number): number for number in range(2 * LANES, 500)}
    while pending:
        done, _ = wait(pending, SOON_S, "FIRST_COMPLETED")
        assert done
        for future in done:
            number = pending.pop(future)
            if isinstance(future.exception(), WorkerLost):
                losses += 1
                pending[pool.submit(pool_tasks.double, number)] = number
                continue
            answers[future.result()] += 1
            if sum(answers.values()) % 20 == 0 and (pids := workers_of(pool)):
                with suppress(ProcessLookupError):  # it died just now
                    os.kill(dice.choice(pids), signal.SIGKILL)
    assert answers == Counter(range(0, 1000, 2))
    assert losses >= LANES


def test_sigterm_ends_a_worker(slots: Make) -> None:
    with pytest.raises(WorkerLost, match="signal 15"):
        slots().submit(pool_tasks.signal_self, signal.SIGTERM).result(SOON_S)


@pytest.mark.parametrize("hang", [pool_tasks.say_and_stop, pool_tasks.say_and_hold_the_interpreter])
def test_a_hung_worker_is_killed_and_its_slot_goes_on(slots: Make, hang: Callable[[], None]) -> None:
    pool = slots(hung_after_s=0.3)
    with pytest.raises(WorkerLost, match="signal 9"):
        pool.submit(hang).result(SOON_S)
    assert pool.submit(pool_tasks.double, 3).result(SOON_S) == 6


def test_workers_that_die_at_once_break_the_pool_naming_the_exit_code(slots: Make) -> None:
    pool = slots(setup=pool_tasks.dying_setup)
    future = pool.submit(pool_tasks.double, 1)
    with pytest.raises(PoolBroken, match="exit code 7"):
        future.result(SOON_S)
    with pytest.raises(PoolBroken, match="exit code 7"):
        pool.submit(pool_tasks.double, 1)
    pool.shutdown()
    assert len(pool.pids()) <= 1  # the fork server, which all pools share


def test_a_setup_that_fails_breaks_the_pool_with_its_words(slots: Make) -> None:
    with pytest.raises(PoolBroken, match="no room for 12"):
        slots(setup=pool_tasks.failing_setup, setup_arg=12).submit(pool_tasks.double, 1).result(SOON_S)


def test_deaths_with_finished_tasks_in_between_do_not_break_the_pool(slots: Make) -> None:
    pool = slots()
    for number in range(12):
        with pytest.raises(WorkerLost):
            pool.submit(pool_tasks.signal_self, signal.SIGKILL).result(SOON_S)
        assert pool.submit(pool_tasks.double, number).result(SOON_S) == 2 * number


def test_kill_ends_the_workers_and_all_futures(slots: Make, gate: Path, notes: "queue.Queue[tuple[int, Any]]") -> None:
    pool = slots(2, 1)
    futures = [pool.submit(pool_tasks.wait_for, gate, number) for number in range(4)]
    heard(notes, 2)
    pidfds = [os.pidfd_open(pid) for pid in pool.pids()[:-1]]
    pool.kill()
    assert gone(pidfds)
    assert [type(future.exception(0)) for future in futures[:2]] == [WorkerLost] * 2
    for future in futures[2:]:
        with pytest.raises(CancelledError):
            future.result(0)


def test_a_worker_that_dies_during_shutdown_holds_nothing_up(slots: Make) -> None:
    pool = slots()
    dying = pool.submit(pool_tasks.signal_self, signal.SIGKILL)
    queued = [pool.submit(pool_tasks.double, number) for number in range(5)]
    pool.shutdown()
    assert isinstance(dying.exception(0), WorkerLost)
    lost = [future for future in queued if isinstance(future.exception(0), WorkerLost)]
    assert len(lost) < LANES  # only what shared the worker
    assert all(future in lost or future.result(0) == 2 * number for number, future in enumerate(queued))


@FORK_SERVER
def test_the_pool_outlives_its_fork_server(slots: Make) -> None:
    pool = slots()
    first = pool.submit(pool_tasks.worker_pid).result(SOON_S)
    server = os.pidfd_open(pool.pids()[-1])
    signal.pidfd_send_signal(server, signal.SIGKILL)
    assert gone([server])
    assert pool.submit(pool_tasks.worker_pid).result(SOON_S) == first
    with pytest.raises(WorkerLost, match="unknown"):
        pool.submit(pool_tasks.signal_self, signal.SIGKILL).result(SOON_S)
    assert pool.submit(pool_tasks.worker_pid).result(SOON_S) != first


def test_nothing_stays_open_after_a_pool(slots: Make) -> None:
    slots().shutdown()  # what the fork server keeps open for this process comes with the first
    before = sorted(os.listdir("/proc/self/fd"))
    pool = slots(2)
    for _ in range(3):
        pool.submit(pool_tasks.signal_self, signal.SIGKILL).exception(SOON_S)
    pool.submit(pool_tasks.double, 1).result(SOON_S)
    pool.shutdown()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_workers_hold_the_given_file_shared_while_they_live(slots: Make, tmp_path: Path) -> None:
    lock = tmp_path / "workers.lock"
    pool = slots(hold=lock)
    pool.submit(pool_tasks.double, 1).result(SOON_S)
    with lock.open("r+") as file:
        assert platform.lock(file.fileno(), shared=True, wait=False)
        assert not platform.lock(file.fileno(), wait=False)
        pool.shutdown()
        assert platform.lock(file.fileno(), wait=False)


def test_a_worker_leaves_no_core_no_open_files_and_no_say_to_ctrl_c(slots: Make) -> None:
    found = slots().submit(pool_tasks.surroundings).result(SOON_S)
    assert found["umask"] == 0o077
    assert found["core"] == (0, 0)
    assert found["interrupt"] == signal.SIG_IGN
    assert found["terminate"] == signal.SIG_DFL


def test_cpu_of_workers_counts_dead_or_alive(slots: Make) -> None:
    pool = slots()
    pool.submit(pool_tasks.burn, 0.2).result(SOON_S)
    living = pool.cpu_s()
    pool.submit(pool_tasks.signal_self, signal.SIGKILL).exception(SOON_S)
    pool.submit(pool_tasks.double, 1).result(SOON_S)
    assert 0.2 <= living <= pool.cpu_s()


@FORK_SERVER
def test_pools_share_a_fork_server_that_is_counted_once(slots: Make) -> None:
    warm([])
    pools = [slots(), slots()]
    servers = {(pool.submit(pool_tasks.double, 1).result(SOON_S), pool.pids()[-1]) for pool in pools}
    assert len(servers) == 1
    never = 2**40  # no process has this id
    assert [first_to_count(never), first_to_count(never)] == [True, False]


def test_a_listener_that_fails_costs_its_note_alone(slots: Make, caplog: pytest.LogCaptureFixture) -> None:
    def fail(slot: int, value: object) -> None:
        raise KeyError(value)

    assert slots(on_note=fail).submit(pool_tasks.say, "page").result(SOON_S) is None
    assert "note of slot 0" in caplog.text


@pytest.mark.parametrize("end", [ProcessPool.shutdown, ProcessPool.kill])
def test_a_pool_nobody_used_ends(slots: Make, end: Callable[[ProcessPool], None]) -> None:
    pool = slots(3)
    end(pool)
    assert len(pool.pids()) <= 1  # the fork server, which all pools share


# What takes a parent of its own.


@pytest.fixture
def parent() -> Iterator[Start]:
    """Starts a script that runs a pool, in a process group of its own."""

    def start(function: Callable[[], None]) -> "subprocess.Popen[str]":
        path = os.pathsep.join(path for path in sys.path if path)
        return subprocess.Popen(
            [sys.executable, pool_parent.__file__, function.__name__],
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": short},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    # A killed parent leaves its fork server's socket behind, whose path must be short.
    with tempfile.TemporaryDirectory(prefix="pool-") as short:
        yield start


@FORK_SERVER
def test_workers_import_neither_the_parents_main_nor_click(parent: Start) -> None:
    with parent(pool_parent.printing_what_a_worker_imported) as process:
        modules = process.communicate(timeout=SOON_S)[0].split()
    assert process.returncode == 0
    assert {pool_tasks.__name__, "hashlib", Frame.__module__} <= set(modules)
    assert not {"click", pool_parent.__name__, ProcessPool.__module__, "pyarrow", "requests"} & set(modules)


def test_a_killed_parent_leaves_no_orphan(parent: Start) -> None:
    with parent(pool_parent.waiting_with_three_kinds_of_workers) as process:
        assert process.stdout
        lines = [process.stdout.readline().split() for _ in range(3)]
        pids = {int(pid) for line in lines for pid in line[1:]}
        assert len(pids) == 3 + platform.FORK_SERVER
        pidfds = [os.pidfd_open(pid) for pid in pids]
        process.kill()
        assert gone(pidfds)


def test_ctrl_c_to_the_group_leaves_the_decision_to_the_parent(parent: Start) -> None:
    with parent(pool_parent.counting_interrupts) as process:
        assert process.stdout
        for moment in ("warming", "working"):
            assert process.stdout.readline().strip() == moment
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout.readline().strip() == "interrupted"
        assert process.stdout.readline().strip() == "True"


def test_too_many_open_files_break_the_pool_instead_of_hanging_it(parent: Start) -> None:
    with parent(pool_parent.short_of_files) as process:
        assert "Too many open files" in process.communicate(timeout=SOON_S)[0]


def test_importing_the_pool_imports_no_library() -> None:
    code = f"import sys, {ProcessPool.__module__}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    assert not {"pyarrow", "requests", "duckdb", "orjson", "click", "sqlite3", "asyncio"} & set(modules)


# Pure parts.


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=50))), st.integers(1, 40))
def test_frames_survive_being_cut_anywhere(messages: list[tuple[int, bytes]], step: int) -> None:
    stream = b"".join(pack(TASK, number, payload, 0.5) for number, payload in messages)
    inbox, frames = bytearray(), []
    for at in range(0, len(stream), step):
        inbox += stream[at : at + step]
        frames += cut(inbox)
    assert frames == [Frame(TASK, number, 0.5, payload) for number, payload in messages]
    assert not inbox


def test_half_a_frame_waits_for_its_other_half() -> None:
    whole = pack(NOTE, payload=b"hello")
    inbox = bytearray(whole[:-1])
    assert cut(inbox) == []
    inbox += whole[-1:]
    assert [frame.payload for frame in cut(inbox)] == [b"hello"]


def test_worker_lost_can_be_pickled() -> None:
    lost = pickle.loads(pickle.dumps(WorkerLost(3, None)))
    assert (lost.slot, lost.exitcode, str(lost)) == (3, None, "The worker process of slot 3 died (exit code unknown).")


def test_warm_twice_is_warm() -> None:
    warm(["hashlib"])
    warm(["json"])


def test_a_worker_without_memory_ends_and_its_slot_goes_on(slots: Make) -> None:
    pool = slots(lanes=1)
    with pytest.raises(WorkerLost, match="out of memory"):
        pool.submit(pool_tasks.without_memory).result(SOON_S)
    assert pool.submit(pool_tasks.double, 21).result(SOON_S) == 42

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import gatechild
import pytest

from stagingest.errors import StagingestError
from stagingest.http import rate_limiter
from stagingest.http.rate import Feedback
from stagingest.http.rate_limiter import LimiterSpec, RateLimiter, SharedLimiter, record_path


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return record_path(tmp_path, "alpaca", "https://data.alpaca.markets", "KEY:SECRET", "alpaca/data")


def test_a_record_has_one_place_per_provider_origin_credential_and_budget(tmp_path: Path):
    names = ["alpaca", "https://a.example", "key", "alpaca/data"]
    places = {record_path(tmp_path, *names)}
    for index in range(4):
        places.add(record_path(tmp_path, *[*names[:index], "other", *names[index + 1 :]]))
    assert len(places) == 5
    assert record_path(tmp_path, *names) in places


def test_another_machine_names_the_same_credential_differently(tmp_path: Path):
    names = ("alpaca", "https://a.example", "key", "alpaca/data")
    assert record_path(tmp_path / "a", *names).name != record_path(tmp_path / "b", *names).name


def test_records_and_salt_are_for_the_user_alone_and_hold_no_credential(path: Path):
    SharedLimiter(path, 1.0).close()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert b"SECRET" not in file.read_bytes()
        assert "SECRET" not in str(file)


def test_processes_that_come_at_once_agree_on_the_salt(tmp_path: Path):
    start = threading.Barrier(8)

    def place(_: int) -> Path:
        start.wait()
        return record_path(tmp_path, "alpaca", "https://a.example", "key", "alpaca/data")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(place, range(8)))) == 1


def test_a_salt_cut_short_by_a_kill_is_written_anew(tmp_path: Path, path: Path):
    salt = path.parent / "salt"
    salt.write_bytes(b"short")
    names = ("alpaca", "https://a.example", "key", "alpaca/data")
    assert record_path(tmp_path, *names) == record_path(tmp_path, *names)
    assert len(salt.read_bytes()) == 32


def test_a_directory_that_cannot_be_used_is_named_with_the_next_step(tmp_path: Path):
    (tmp_path / "limits").write_text("not a directory")
    with pytest.raises(StagingestError, match=r"limits cannot be used.*XDG_STATE_HOME"):
        record_path(tmp_path, "alpaca", "https://a.example", "key", "alpaca/data")


def test_a_record_that_is_a_link_is_refused(tmp_path: Path, path: Path):
    (tmp_path / "elsewhere").write_bytes(b"")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StagingestError, match="cannot be used"):
        SharedLimiter(path, 1.0)


def test_two_gates_on_one_path_share_one_rate(path: Path, clock: Clock):
    one, two = SharedLimiter(path, 1.0, 10.0, clock=clock), SharedLimiter(path, 1.0, 10.0, clock=clock)
    slots = [limiter.permit().slot_s for limiter in (one, two, one, two)]
    assert [later - earlier for earlier, later in pairwise(slots)] == pytest.approx([0.1] * 3)


def test_a_refusal_of_one_process_voids_the_slots_of_the_other(path: Path, clock: Clock):
    one, two = SharedLimiter(path, 1.0, 10.0, clock=clock), SharedLimiter(path, 1.0, 10.0, clock=clock)
    permit = two.permit()
    assert not two.stale(permit)

    one.report(Feedback(429, clock.now, retry_after_s=30.0))
    assert two.stale(permit)
    assert two.permit().slot_s == clock.now + 30.0


def test_several_permits_are_leased_at_once(path: Path, clock: Clock):
    limiter = SharedLimiter(path, 1.0, 10.0, clock=clock)
    first, second = limiter.permit(5), limiter.permit()
    assert second.slot_s - first.slot_s == pytest.approx(0.5)


def test_what_was_learned_outlives_the_run(path: Path, clock: Clock):
    limiter = SharedLimiter(path, 1.0, 10.0, clock=clock)
    limiter.report(Feedback(429, clock.now))
    learned = limiter.state()
    limiter.close()
    assert SharedLimiter(path, 1.0, 10.0, clock=clock).state() == learned


def test_another_declared_plan_begins_anew(path: Path, clock: Clock):
    first = SharedLimiter(path, 1.0, 10.0, clock=clock)
    permit = first.permit()
    SharedLimiter(path, 1.0, 50.0, clock=clock)
    assert first.state().rate_per_s == 50.0
    assert first.stale(permit)


@pytest.mark.parametrize("offset", [0, 8, 47, 60, 100, 150])
def test_a_torn_record_begins_anew_at_half_the_plan(path: Path, clock: Clock, offset: int):
    limiter = SharedLimiter(path, 1.0, 10.0, clock=clock)
    permit = limiter.permit()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff\x7f\x00\xaa")
    slot = limiter.permit().slot_s
    assert limiter.state().rate_per_s == 5.0
    assert limiter.permit().slot_s - slot == pytest.approx(0.2)
    assert limiter.stale(permit)


@pytest.mark.parametrize("size", [0, 10, 100])
def test_a_record_cut_short_is_written_anew(path: Path, clock: Clock, size: int):
    path.write_bytes(b"x" * size)
    assert SharedLimiter(path, 1.0, 10.0, clock=clock).state().rate_per_s == 10.0


def test_a_record_of_another_boot_begins_anew(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(rate_limiter, "_tag", lambda: b"lastboot")
        SharedLimiter(path, 1.0, 10.0, clock=clock).report(Feedback(429, clock.now, retry_after_s=900.0))
    limiter = SharedLimiter(path, 1.0, 10.0, clock=clock)
    assert limiter.state().rate_per_s == 10.0
    assert limiter.permit().slot_s == clock.now


def test_a_record_of_a_clock_that_went_back_begins_anew_at_half_the_plan(path: Path, clock: Clock):
    SharedLimiter(path, 1.0, 10.0, clock=clock).permit()
    clock.now -= 900.0
    limiter = SharedLimiter(path, 1.0, 10.0, clock=clock)
    assert limiter.permit().slot_s == clock.now
    assert limiter.state().rate_per_s == 5.0


def test_threads_get_every_slot_once(path: Path, clock: Clock):
    limiter = SharedLimiter(path, 1.0, 1000.0, clock=clock)
    with ThreadPoolExecutor(8) as threads:
        slots = sorted(threads.map(lambda _: limiter.permit().slot_s, range(800)))
    assert slots == pytest.approx([clock.now + number / 1000 for number in range(800)])


def test_answers_and_refusals_are_counted(path: Path, clock: Clock):
    limiter = SharedLimiter(path, 1.0, 10.0, clock=clock)
    for status in (200, 200, 404, 429, 500):
        limiter.report(Feedback(status, clock.now))
    counts = limiter.counts()
    assert (counts.answered, counts.refused, counts.granted_per_s) == (3, 1, 2.0)


def test_a_permit_is_waited_for_and_given_at_its_slot(path: Path, clock: Clock):
    rate_limiter = RateLimiter([SharedLimiter(path, 1.0, 10.0, clock=clock)], clock=clock, sleep=clock.sleep)
    times = []
    for _ in range(4):
        assert rate_limiter.take() is not None
        times.append(clock.now)
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([0.1] * 3)


def test_a_request_needs_a_permit_of_the_budget_and_of_each_cap(tmp_path: Path, path: Path, clock: Clock):
    budget = SharedLimiter(path, 1.0, 10.0, clock=clock)
    cap = LimiterSpec(tmp_path / "own.permit", 2.0, 2.0, 2.0).open(clock)
    rate_limiter = RateLimiter([budget, cap], clock=clock, sleep=clock.sleep)
    times = []
    for _ in range(4):
        permit = rate_limiter.take()
        assert permit is not None
        times.append(permit.slot_s)
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([0.5] * 3)

    rate_limiter.report(Feedback(429, clock.now))
    assert (budget.counts().refused, cap.counts().refused) == (1, 0)


def test_a_sleeper_notices_a_pause_made_by_another_process(path: Path, clock: Clock):
    other = SharedLimiter(path, 1.0, 0.5, clock=clock)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if other.counts().refused == 0:
            other.report(Feedback(429, clock.now, retry_after_s=60.0))

    rate_limiter = RateLimiter([SharedLimiter(path, 1.0, 0.5, clock=clock)], clock=clock, sleep=sleep)
    rate_limiter.take()
    began = clock.now
    rate_limiter.take()
    assert clock.now >= began + 60.0


def test_a_sleeper_notices_that_the_pause_is_over(path: Path, clock: Clock):
    limiter = SharedLimiter(path, 1.0, 10.0, clock=clock)
    limiter.report(Feedback(429, clock.now))
    probe = limiter.permit()
    clock.now = probe.slot_s

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        limiter.report(Feedback(200, probe.slot_s))

    permit = RateLimiter([limiter], clock=clock, sleep=sleep).take()
    assert permit is not None
    assert permit.slot_s - probe.slot_s == pytest.approx(1 / 9.5)


def test_a_stop_ends_the_wait_without_a_permit(path: Path, clock: Clock):
    stop = threading.Event()
    limiter = SharedLimiter(path, 1.0, 10.0, clock=clock)
    limiter.report(Feedback(429, clock.now, retry_after_s=600.0))
    began = clock.now

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        stop.set()

    rate_limiter = RateLimiter([limiter], clock=clock, sleep=sleep)
    assert rate_limiter.take(stop) is None
    assert clock.now - began <= 0.05
    assert rate_limiter.take(stop) is None


def start(function: Callable[..., None], *arguments: object) -> subprocess.Popen[str]:
    command = gatechild.command(function, *arguments)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return rest


def test_processes_keep_one_rate_though_one_of_them_is_killed(path: Path):
    rate, each = 200.0, 100
    processes = [start(gatechild.taking, path, rate, each) for _ in range(2)]
    victim = start(gatechild.taking, path, rate, 10**6)
    assert victim.stdout is not None
    slots = [float(victim.stdout.readline()) for _ in range(20)]
    slots += [float(line) for line in kill(victim).splitlines() if line.count(".") == 1]
    for process in processes:
        lines, _ = process.communicate()
        assert process.returncode == 0
        slots += map(float, lines.split())
    slots.sort()
    assert len(slots) >= 2 * each + 20
    for window_s in (0.1, 0.5):
        most = max(sum(first <= slot < first + window_s for slot in slots) for first in slots)
        assert most <= rate * (window_s + 0.04) + 2


def test_a_process_killed_while_it_holds_the_record_holds_it_no_more(path: Path):
    holder = start(gatechild.holding, path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    kill(holder)
    assert SharedLimiter(path, 1.0, 10.0).permit().rate_per_s == 10.0


def test_gates_leave_no_file_open(path: Path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        rate_limiter = RateLimiter([SharedLimiter(path, 1.0, 1000.0)])
        rate_limiter.take()
        rate_limiter.close()
    assert len(os.listdir("/proc/self/fd")) == before

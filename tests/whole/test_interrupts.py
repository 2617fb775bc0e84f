"""Real processes of a fetch that are stopped, killed or left hanging: no row is lost, none comes twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import impatienttool
import pytest
from desk import Desk, desk
from processes import MARK, Process, ours, wait_until

from stagingest.sim import policy

TOOL = [sys.executable, "-m", "stagingest"]
IMPATIENT = [sys.executable, impatienttool.__file__]
SOON_S = 30.0
CHUNKS_S = 120.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    hang = policy.Fault("hang", nth=(9,))
    with desk(tmp_path, symbols=30, policy=policy.Policy(page_cap=100, faults=(hang,))) as made:
        yield made


class Running:
    """A fetch by two workers that stands in the middle: one of its requests hangs."""

    def __init__(self, place: Desk, tool: list[str] = TOOL) -> None:
        self.place = place
        self.mark = str(place.root)
        self.words = [
            "fetch", "stock-bars", "--symbols", ",".join(place.market.symbols), "--max-rps", "1000",
            "--start", "2024-01-02", "--end", "2024-05-31", "--processes", "2",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [*tool, *self.words], cwd=place.root, env=self.environ, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert place.server.hung.wait(60)
        assert wait_until(lambda: len(self.living("worker")) == 2, SOON_S)

    @property
    def environ(self) -> dict[str, str]:
        return {**self.place.environ, MARK: self.mark}

    def living(self, *kinds: str) -> list[Process]:
        found = ours(self.mark, self.process.pid)
        return [process for process in found if not kinds or process.kind in kinds]

    def ended(self) -> str:
        """What it said until its end, after which none of its processes is left."""
        _, said = self.process.communicate(timeout=CHUNKS_S)
        assert wait_until(lambda: not self.living(), SOON_S), self.living()
        assert "Traceback" not in said
        return said

    def completes(self) -> None:
        """The same command has every row, once."""
        self.place.server.release()
        again = subprocess.run(
            [*TOOL, *self.words],
            cwd=self.place.root,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=CHUNKS_S,
        )
        assert again.returncode == 0, again.stderr
        self.is_complete()

    def goes_on_to_its_end(self) -> None:
        """The hanging request is answered, and every row is there."""
        self.place.server.release()
        said = self.ended()
        assert self.process.returncode == 0, said
        self.is_complete()

    def is_complete(self) -> None:
        window = {"symbols": self.place.market.symbols, "start": "2024-01-02", "end": "2024-05-31"}
        assert self.place.plan(**window).plan.all_chunks == ()
        rows = self.place.rows()
        keys = list(zip(rows["symbol"].to_pylist(), rows["ts"].to_pylist(), strict=True))
        assert len(keys) == len(set(keys)) > 0
        with desk(self.place.root / "calm", symbols=30) as calm:
            calm.fetch(**window)
            assert calm.rows().num_rows == len(keys)


def test_ctrl_c_in_a_terminal_ends_every_process_and_the_last_line_continues(place: Desk) -> None:
    run = Running(place)
    os.killpg(run.process.pid, signal.SIGINT)  # a terminal sends it to all of them
    said = run.ended()
    assert run.process.returncode == 130
    assert said.splitlines()[-2:] == [
        "Interrupted; what is staged stays. Continue with:",
        f"  stagingest {' '.join(run.words)}",
    ]
    run.completes()


def test_sigterm_to_the_main_process_alone_leaves_no_orphan(place: Desk) -> None:
    run = Running(place)
    run.process.terminate()
    said = run.ended()
    assert run.process.returncode == 143
    assert "Terminated; what is staged stays." in said
    run.completes()


def test_a_second_signal_ends_a_fetch_at_once_and_leaves_no_orphan(place: Desk) -> None:
    run = Running(place)
    os.killpg(run.process.pid, signal.SIGINT)
    run.process.terminate()
    said = run.ended()
    assert run.process.returncode == 130
    assert said.count("Continue with:") == 1
    run.completes()


def test_a_killed_supervisor_takes_its_workers_along(place: Desk) -> None:
    run = Running(place)
    run.process.kill()
    run.ended()
    run.completes()


def test_workers_that_hang_are_killed_and_their_chunks_asked_again(place: Desk) -> None:
    run = Running(place, IMPATIENT)
    stopped = run.living("worker")
    for worker in stopped:
        assert worker.strike(signal.SIGSTOP)
    run.goes_on_to_its_end()


def test_a_fetch_outlives_its_fork_server_and_a_worker(place: Desk) -> None:
    run = Running(place)
    for kind in ("fork server", "worker"):
        assert run.living(kind)[0].strike(signal.SIGKILL)
    run.goes_on_to_its_end()


def test_a_worker_that_is_killed_costs_nothing_but_its_own_chunks(place: Desk) -> None:
    run = Running(place)
    assert run.living("worker")[0].strike(signal.SIGKILL)
    run.goes_on_to_its_end()


def test_a_second_fetch_is_told_who_holds_the_staging_directory(place: Desk) -> None:
    run = Running(place)
    second = subprocess.run(
        [*TOOL, *run.words], cwd=place.root, env=place.environ, capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 75
    assert str(run.process.pid) in second.stderr
    run.process.terminate()
    run.ended()

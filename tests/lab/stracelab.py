"""Real commands whose Nth system call of a kind fails, or kills them: what they leave, and whether they complete."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
from desk import Desk

import stagingest

FAULTS = ("signal=KILL", "error=EIO", "error=ENOSPC")
# What fetch, SQLite and DuckDB change a disk with; sockets are spoken to with sendto.
CALLS = ("pwrite64", "fdatasync", "fsync", "syncfs", "rename", "write", "ftruncate")
# Worker processes write to pipes too, and no disk makes those fail.
NOT_OF_WORKERS = ("write",)
MOST = 400
SYMBOLS = 3


@dataclass(frozen=True)
class Point:
    """One fault: at the `number`th call of this kind, of each thread and process."""

    command: str
    call: str
    fault: str
    number: int


@dataclass
class Bench:
    """A user's place on which commands are struck.

    Args:
        place: the desk whose imitation answers.
        ready: a staging directory (and database) to begin each trial from; nothing for fetch.
    """

    place: Desk
    root: Path
    ready: Path | None = None

    def words(self, command: str) -> list[str]:
        staging = ["--staging", str(self.root / "staging")]
        if command == "load":
            return ["load", *staging, "--db", str(self.root / "market.duckdb")]
        names = ",".join(self.place.market.symbols[:SYMBOLS])
        window = ["--start", "2024-05-01", "--end", "2024-05-10", "--timeframe", "1Min"]
        processes = "2" if command == "fetch by workers" else "0"
        return ["fetch", "stock-bars", "--symbols", names, *window, *staging, "--lanes", "1", "--processes", processes]

    def run(self, command: str, *tool: str) -> "subprocess.CompletedProcess[str]":
        environ = {**self.place.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        words = [*tool, sys.executable, "-m", "stagingest", *self.words(command)]
        return subprocess.run(words, env=environ, cwd=self.root, capture_output=True, text=True, timeout=120)

    def begin(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        if self.ready:
            shutil.copytree(self.ready, self.root)
        else:
            self.root.mkdir(parents=True)

    def strike(self, point: Point) -> Iterator[str] | None:
        """What is wrong after the fault and after the command was given again; None when the fault did not fire."""
        self.begin()
        log = self.root / "strace.log"
        inject = f"inject={point.call}:{point.fault}:when={point.number}"
        trace = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={point.call}", "-e", inject]
        try:
            done = self.run(point.command, *trace)
        except subprocess.TimeoutExpired:
            return iter([f"{point}: it hangs"])
        traced = log.read_text()
        if "INJECTED" not in traced and "SIGKILL" not in traced:
            return None
        return self._problems(point, done)

    def _problems(self, point: Point, done: "subprocess.CompletedProcess[str]") -> Iterator[str]:
        if "Traceback" in done.stderr or "Traceback" in done.stdout:
            yield f"{point}: a traceback: {done.stderr[-600:]}"
        yield from (f"{point}: {problem}" for problem in wrong_files(self.root / "staging"))
        again = self.run(point.command)
        if again.returncode:
            yield f"{point}: the same command ends with {again.returncode}: {again.stderr[-600:]}"
            return
        yield from (f"{point}, afterwards: {problem}" for problem in wrong_files(self.root / "staging"))
        if point.command != "load":
            stagingest.load(self.root / "staging", self.root / "market.duckdb")
        found = rows(self.root / "market.duckdb")
        if found != self.truth:
            yield f"{point}: rows, distinct, sum are {found}, not {self.truth}"

    truth: tuple[int, int, str] = (0, 0, "")

    def beside(self, name: str) -> "Bench":
        """The same bench with a place of its own, so that two trials can go on at a time."""
        return replace(self, root=self.root.with_name(name))

    def learn(self) -> None:
        """The rows of an undisturbed fetch and load; what a trial of load begins from."""
        self.begin()
        assert self.run("fetch").returncode == 0
        saved = self.root.with_name("fetched")
        shutil.copytree(self.root, saved)
        assert self.run("load").returncode == 0
        self.truth = rows(self.root / "market.duckdb")
        assert self.truth[0] == self.truth[1] > 0
        self.saved = saved


def rows(db: Path) -> tuple[int, int, str]:
    """Rows, different keys, and a sum over all values."""
    with duckdb.connect(str(db), read_only=True) as connection:
        found = connection.execute(
            "SELECT count(*), count(DISTINCT (symbol, ts)), "
            "sum(hash(symbol, ts, open, high, low, close, volume))::VARCHAR FROM stock_bars"
        ).fetchone()
    assert found is not None
    return found


def wrong_files(staging: Path) -> list[str]:
    """What the manifest says and the disk does not hold."""
    path = staging / "manifest.sqlite"
    if not path.exists() or not path.stat().st_size:
        return []
    # For writing: a log left by a kill is recovered first, as the tool would.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as db:
        check = db.execute("PRAGMA integrity_check").fetchone()[0]
        if check != "ok":
            return [f"the manifest is damaged: {check}"]
        if not db.execute("PRAGMA user_version").fetchone()[0]:
            return []
        entries = db.execute("SELECT path, sha256 FROM entries WHERE path <> ''").fetchall()
    return [name for name, sha256 in entries if _digest(staging / name) != sha256]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "gone"


def sweeps(bench: Bench, command: str, *, every: int) -> Iterator[tuple[str, list[tuple[Point, list[str]]]]]:
    """The sweep of each kind of call, two at a time: call -> trials."""
    bench.ready = bench.saved if command == "load" else None
    with ThreadPoolExecutor(2) as both:
        running = {
            call: both.submit(lambda call: list(sweep(bench.beside(call), command, call, every=every)), call)
            for call in CALLS
            if command != "fetch by workers" or call not in NOT_OF_WORKERS
        }
        for call, trials in running.items():
            yield call, trials.result()


def sweep(bench: Bench, command: str, call: str, *, every: int) -> Iterator[tuple[Point, list[str]]]:
    """Trials of one kind of call; of the faults of each number one in `every` is tried."""
    for number in range(1, MOST):
        fired = False
        for turn, fault in enumerate(FAULTS):
            if (number + turn) % every:
                continue
            point = Point(command, call, fault, number)
            problems = bench.strike(point)
            if problems is None:
                continue
            fired = True
            yield point, list(problems)
        if not fired and every <= len(FAULTS):
            return

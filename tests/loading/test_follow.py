"""A load that goes on while a fetch is under way."""

import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from desk import desk

from stagingest.errors import HeldError
from stagingest.loading import follow
from stagingest.loading.loader import load
from stagingest.loading.source import Staged
from stagingest.loading.summary import LoadSummary
from stagingest.sim import policy
from stagingest.system.locks import Lock
from stagingest.targets import Changes
from stagingest.targets.duckdb.connection import read
from stagingest.targets.duckdb.target import DuckDB

TOOL = [sys.executable, "-m", "stagingest"]
MAY = {"start": "2024-05-01", "end": "2024-05-31"}


def summary(entries: int, **values: object) -> LoadSummary:
    plain = {
        "target": "t", "entries": entries, "files": entries, "rows": entries, "replaced": 0, "changes": {},
        "batches": 1, "pruned": (), "skipped": (), "seconds": {"insert": 1.0}, "bytes_before": 1, "bytes_after": 2,
    }  # fmt: skip
    return LoadSummary(**{**plain, **values})  # type: ignore[arg-type]


class Beside:
    """A fetch that holds its staging directory for some rounds; each of them loads one entry."""

    def __init__(self, root: Path, rounds: int) -> None:
        self.root, self.rounds = root, rounds
        self.held = ExitStack()
        self.held.enter_context(Lock.take(root / "run.lock", "fetching"))
        self.loads = 0
        self.busy: set[int] = set()

    def once(self) -> LoadSummary:
        self.loads += 1
        if self.loads in self.busy:
            raise HeldError("A notebook has it.")
        return summary(1, changes={"stock-bars": Changes(added=self.loads)})

    def sleep(self, seconds: float) -> None:
        self.rounds -= 1
        if not self.rounds:
            self.held.close()


def test_it_loads_once_more_after_the_fetch_has_ended_and_tells_all_rounds_together(tmp_path: Path) -> None:
    beside = Beside(tmp_path, 2)
    done = follow.follow(beside.once, [tmp_path], beside.sleep)
    assert beside.loads == 3
    assert (done.entries, done.changes, done.seconds) == (3, {"stock-bars": Changes(added=6)}, {"insert": 3.0})


def test_a_database_that_a_reader_has_meanwhile_is_waited_for_and_not_after_the_fetch(tmp_path: Path) -> None:
    beside = Beside(tmp_path, 2)
    beside.busy = {1}
    assert follow.follow(beside.once, [tmp_path], beside.sleep).entries == 2
    beside.busy = {beside.loads + 1}
    with pytest.raises(HeldError):
        follow.follow(beside.once, [tmp_path], beside.sleep)


def test_a_real_load_follows_a_real_fetch_to_its_end(tmp_path: Path) -> None:
    hang = policy.Fault("hang", nth=(3,))
    with desk(tmp_path, symbols=30, policy=policy.Policy(page_cap=100, faults=(hang,))) as place:
        names = ",".join(place.market.symbols)
        asked = ["fetch", "stock-bars", "--symbols", names, "--start", MAY["start"], "--end", MAY["end"]]
        words = [*TOOL, *asked, "--max-rps", "1000", "--processes", "0", "--staging", str(place.staging)]
        with subprocess.Popen(words, env=place.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as fetch:
            assert place.server.hung.wait(60)

            def rest(seconds: float) -> None:
                place.server.release()  # the first round is over
                assert fetch.wait(60) == 0

            with Staged(place.staging) as source:
                once = partial(load, [source], DuckDB(place.db))
                done = follow.follow(once, [place.staging], rest)
            assert fetch.wait(60) == 0
        assert read(place.db, "SELECT count(*) FROM stock_bars")[1] == [(30 * 22,)]
        assert done.rows == 30 * 22

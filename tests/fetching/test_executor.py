"""An executor of others: `submit` and a heartbeat are all that a fetch needs of it."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

from desk import Desk, desk
from distributions import OUTSIDE

from stagingest.fetching.messages import Heartbeat, WorkerSetup
from stagingest.fetching.pool.executor import TaskExecutor
from stagingest.sim import policy

sys.path.append(str(OUTSIDE))
from pipe_executor import PipeExecutor

SPRING = {"start": "2024-03-01", "end": "2024-05-31"}


class Seen:
    """Executors made, and what they passed on."""

    def __init__(self) -> None:
        self.executors: list[PipeExecutor] = []
        self.heard: list[object] = []

    def make(self, setup: WorkerSetup, heard: Callable[[object], None]) -> TaskExecutor:
        def both(note: object) -> None:
            self.heard.append(note)
            heard(note)

        self.executors.append(PipeExecutor(setup, both))
        return self.executors[-1]


def staged(place: Desk) -> list[tuple[object, ...]]:
    rows = place.rows().select(["symbol", "ts", "close"]).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def test_a_whole_fetch_runs_on_an_executor_of_others_and_its_heartbeats_are_heard(tmp_path: Path) -> None:
    seen = Seen()
    with desk(tmp_path / "theirs", symbols=6, policy=policy.Policy(page_cap=50)) as place:
        asked = {"symbols": place.market.symbols, "timeframe": "1Day", **SPRING}
        fetched = place.fetch(**asked, executor=seen.make)
        assert (fetched.exit_code, fetched.summary.left) == (0, 0)
        pages = {note.number: note.cost.pages for note in seen.heard if isinstance(note, Heartbeat)}
        assert sum(pages.values()) == fetched.summary.pages > len(pages)
        theirs = staged(place)
    with desk(tmp_path / "ours", symbols=6, policy=policy.Policy(page_cap=50)) as place:
        assert place.fetch(**asked).exit_code == 0
        assert staged(place) == theirs


def test_a_chunk_whose_process_dies_there_is_asked_again(tmp_path: Path) -> None:
    seen = Seen()
    hang = policy.Fault("hang", times=1)
    with desk(tmp_path, symbols=2, policy=policy.Policy(faults=(hang,))) as place:

        def kill() -> None:
            assert place.server.hung.wait(60)
            seen.executors[0].child.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        fetched = place.fetch(symbols=place.market.symbols, **SPRING, executor=seen.make)
        killer.join()
        place.server.release()
        assert (fetched.exit_code, fetched.summary.outcomes.keys()) == (0, {"staged"})

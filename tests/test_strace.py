"""Whatever write fails or is the last, what was acknowledged is there and the same command completes."""

from pathlib import Path

import pytest
import stracelab
from desk import desk

from stagingest import sim


@pytest.mark.strace
@pytest.mark.timeout(400)
@pytest.mark.parametrize("command", ["fetch", "load"])
def test_a_command_whose_writes_fail_leaves_what_the_same_command_completes(tmp_path: Path, command: str) -> None:
    with desk(tmp_path, symbols=stracelab.SYMBOLS, policy=sim.Policy()) as place:
        bench = stracelab.Bench(place, tmp_path / "trial")
        bench.learn()
        bench.ready = bench.saved if command == "load" else None
        tried, found = 0, []
        for call in stracelab.CALLS:
            for _, problems in stracelab.sweep(bench, command, call, every=3):
                tried += 1
                found += problems
    assert tried > 15
    assert found == [], "\n".join(found)

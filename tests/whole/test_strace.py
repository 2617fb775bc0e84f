"""Whatever write fails or is the last, what was acknowledged is there and the same command completes."""

from pathlib import Path

import pytest
import stracelab
from desk import desk

from stagingest.sim import policy


@pytest.mark.strace
@pytest.mark.long("every third system call of a command that fails")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("command", ["fetch", "load"])
def test_a_command_whose_writes_fail_leaves_what_the_same_command_completes(tmp_path: Path, command: str) -> None:
    with desk(tmp_path, symbols=stracelab.SYMBOLS, policy=policy.Policy()) as place:
        bench = stracelab.Bench(place, tmp_path / "trial")
        bench.learn()
        trials = [trial for _, trials in stracelab.sweeps(bench, command, every=3) for trial in trials]
    found = [problem for _, problems in trials for problem in problems]
    assert len(trials) > 15
    assert found == [], "\n".join(found)

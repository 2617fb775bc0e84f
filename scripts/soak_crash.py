#!/usr/bin/env python3
"""Every state a crash may leave, each recovered from; exits 1 where the manifest lies or a state is not healed."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lab"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "whole"))

import crashlab
import test_crash_states as claims

from stagingest.fetching import supervisor


def main() -> int:
    supervisor.GROUP_S = 0.0
    with tempfile.TemporaryDirectory() as folder:
        with claims.place(Path(folder) / "recorded") as found:
            with crashlab.recording(found.staging) as made:
                claims.work(found)
            truth = claims.covered(found)
        every = crashlab.states(made)
        lies = [lie for state in every for lie in state.lies()]
        for number, state in enumerate(every):
            claims.complete(state, Path(folder) / str(number), truth)
    print(f"{len(made.ops)} operations, {len(every)} states, {len(lies)} violations, all recovered from")
    return int(bool(lies))


if __name__ == "__main__":
    sys.exit(main())

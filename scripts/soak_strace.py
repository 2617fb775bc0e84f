#!/usr/bin/env python3
"""Every system call of fetch and load that changes a disk, failing with EIO and ENOSPC and killing; exits 1 on harm."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lab"))

import stracelab
from desk import desk


def main() -> int:
    harm = 0
    with tempfile.TemporaryDirectory() as folder, desk(Path(folder), symbols=stracelab.SYMBOLS) as place:
        bench = stracelab.Bench(place, Path(folder) / "trial")
        bench.learn()
        for command in ("fetch", "fetch by workers", "load"):
            for call, trials in stracelab.sweeps(bench, command, every=1):
                problems = [problem for _, found in trials for problem in found]
                harm += len(problems)
                print(f"{command:16} {call:10} {len(trials):4} points, {len(problems)} violations", flush=True)
                print(*problems, sep="\n", end="\n" if problems else "", flush=True)
    return int(harm > 0)


if __name__ == "__main__":
    sys.exit(main())

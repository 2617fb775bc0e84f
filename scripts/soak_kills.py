#!/usr/bin/env python3
"""The soak for some seeds: what was struck, what it cost, what was found; exits 1 where a promise is broken."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lab"))

import soaklab


def main() -> int:
    # A shell starts background jobs with Ctrl-C ignored, which their children inherit; the soak sends it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", type=int, nargs="+")
    broken = 0
    for seed in parser.parse_args().seeds:
        with tempfile.TemporaryDirectory() as folder:
            report = soaklab.soak(Path(folder), soaklab.Terms(seed=seed, chunks=300, gap_s=(1.5, 4.5), most_s=900.0))
        broken += bool(report.problems)
        verdict = "; ".join(report.problems) or "nothing lost or repeated"
        print(
            f"seed {seed}: {report.worker_kills} workers and {report.supervisor_kills} supervisors killed, "
            f"{report.interruptions} interruptions, pages beyond the calm run {report.beyond} of at most "
            f"{report.most_beyond}, "
            f"{report.quarantined} chunks quarantined and retried, {report.elapsed_s:.0f} s: {verdict}",
            flush=True,
        )
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())

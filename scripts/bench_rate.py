#!/usr/bin/env python3
"""What a permit costs, and what the rate makes of every simulated provider; exits 1 where the bar is missed."""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lab"))

import ratelab

from stagingest.http.rate import Feedback
from stagingest.http.rate_limiter import RateLimiter, SharedLimiter

PERMIT_MOST_US = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="scenes whose name holds this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return max(rate_limiter(Path(folder)), providers(Path(folder), options.only, options.seeds))


def rate_limiter(folder: Path) -> int:
    budget = SharedLimiter(folder / "cost.permit", 1e6, declared_per_s=1e6)
    cap = SharedLimiter(folder / "cap.permit", 1e5, declared_per_s=1e5, cap_per_s=1e5)
    one, two = RateLimiter([budget]), RateLimiter([budget, cap])
    stop = threading.Event()
    lease_us = cost_us(budget.permit)
    print(f"lease                         {lease_us:6.1f} us (bar {PERMIT_MOST_US:.0f})")
    print(f"report                        {cost_us(lambda: budget.report(Feedback(200, time.monotonic()))):6.1f} us")
    print(f"take                          {cost_us(lambda: one.take(stop)):6.1f} us")
    print(f"take under --max-rps 100000   {cost_us(lambda: two.take(stop)):6.1f} us")
    one.close()
    cap.close()
    return int(lease_us > PERMIT_MOST_US)


def cost_us(call: Callable[[], object], calls: int = 10_000, rounds: int = 9) -> float:
    """CPU of a call, the best of several rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, time.process_time() - began)
    return best / calls * 1e6


def providers(folder: Path, only: str, seeds: int) -> int:
    print(f"\n{'provider':50} {'goodput':>8} {'worst':>7} {'bar':>6}   {'429s':>6} {'worst':>7} {'bar':>6}")
    missed = 0
    for scene in [*ratelab.BASIC, *ratelab.MIDDLE, *ratelab.PLUS, *ratelab.SLOW]:
        if only not in scene.name:
            continue
        tallies = [play(scene, folder, seed) for seed in range(seeds)]
        good = [counts.answered / scene.allowed for counts in tallies]
        bad = [counts.refused_share for counts in tallies]
        mean, share = statistics.mean(good), statistics.mean(bad)
        miss = mean < scene.least or share > scene.most
        missed += miss
        print(
            f"{scene.name:50} {mean:8.1%} {min(good):7.1%} {scene.least:6.1%}   "
            f"{share:6.2%} {max(bad):7.2%} {scene.most:6.1%}{'  MISSED' if miss else ''}",
            flush=True,
        )
    return int(missed > 0)


def play(scene: ratelab.Scene, folder: Path, seed: int) -> ratelab.Tally:
    path = folder / f"{abs(hash(scene.name))}-{seed}.permit"
    return scene.play(
        lambda clock: SharedLimiter(path, scene.lowest_per_s, scene.cap_per_s, scene.cap_per_s, clock), seed
    )


if __name__ == "__main__":
    sys.exit(main())

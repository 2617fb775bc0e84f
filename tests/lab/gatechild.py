"""Uses a gate in a process of its own: `python gatechild.py FUNCTION ARGUMENT...`."""

import sys
from collections.abc import Callable
from pathlib import Path

from stagingest.http.rate import Feedback
from stagingest.http.rate_limiter import RateLimiter, SharedLimiter


def command(function: Callable[..., None], *arguments: object) -> list[str]:
    """The words that run one of the functions below."""
    return [sys.executable, __file__, function.__name__, *map(str, arguments)]


def taking(path: str, rate_per_s: str, number: str) -> None:
    """Takes so many permits and prints their slots."""
    rate_limiter = RateLimiter([SharedLimiter(Path(path), 1.0, float(rate_per_s))])
    for _ in range(int(number)):
        permit = rate_limiter.take()
        assert permit is not None
        print(repr(permit.slot_s), flush=True)
        rate_limiter.report(Feedback(200, permit.slot_s))


def holding(path: str) -> None:
    """Holds the record until its input ends."""
    with SharedLimiter(Path(path), 1.0, 10.0)._held:
        print("held", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

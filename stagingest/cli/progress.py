"""Listeners of a run: a bar on a terminal, a line now and then elsewhere; the only door to tqdm.

What cannot be written (the terminal is gone, the disk under a log is full) is not said; the run goes on.
"""

import sys
import time
from contextlib import suppress
from dataclasses import asdict

from tqdm import tqdm

from stagingest.cli.logs import Log
from stagingest.fetching.summary import Progress

LINE_EVERY_S = 30.0


def duration(seconds: float) -> str:
    """`seconds` as 4s, 3m20s or 2h05m."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def line(progress: Progress) -> str:
    """A run in one line: done/total, percent, succeeded, failed, remaining, rate, elapsed, time left."""
    left = duration(progress.eta_s) if progress.eta_s is not None else "?"
    rate = progress.requests / progress.elapsed_s if progress.elapsed_s else 0.0
    limited = f" 429s={progress.limited}" if progress.limited else ""
    waiting = f" waiting for {progress.waiting}" if progress.waiting else ""
    return (
        f"{progress.done}/{progress.planned} chunks {progress.percent:.0f}% "
        f"succeeded={progress.done - progress.failed} "
        f"failed={progress.failed} remaining={progress.remaining} {progress.pages} pages "
        f"{progress.rows_per_s:,.0f} rows/s "
        f"{rate:.1f} requests/s{limited} elapsed={duration(progress.elapsed_s)} left={left}{waiting}"
    )


class Lines:
    """A line at most every 30 s: for logs, its numbers beside it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._last_s = time.monotonic()

    def progress(self, progress: Progress) -> None:
        """Print when the last line is old enough."""
        now = time.monotonic()
        if now - self._last_s >= LINE_EVERY_S:
            self._last_s = now
            self._log.write(line(progress), **asdict(progress))

    def say(self, text: str) -> None:
        """Print a sentence."""
        self._log.write(text)

    def close(self) -> None:
        """Nothing to end."""


class Bar:
    """One bar on a terminal."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._bar = tqdm(
            total=1,
            file=sys.stderr,
            unit="chunk",
            dynamic_ncols=True,
            leave=False,
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
        )

    def progress(self, progress: Progress) -> None:
        """Redraw."""
        self._bar.total = max(1, progress.planned)
        self._bar.n = progress.done
        with suppress(OSError):
            self._bar.set_description_str(line(progress), refresh=True)

    def say(self, text: str) -> None:
        """Print a sentence above the bar."""
        with suppress(OSError):
            tqdm.write(self._log.shown(text), file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        with suppress(OSError):
            self._bar.close()


def listener(log: Log) -> Lines | Bar:
    """A bar on a terminal, lines elsewhere and for machines."""
    return Bar(log) if log.form == "text" and sys.stderr.isatty() else Lines(log)

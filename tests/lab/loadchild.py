"""Loads in a process of its own, to be killed, interrupted or held open: `python loadchild.py FUNCTION ARGUMENT...`."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadlab import Staging
from targetlab import KINDS

from stagingest.loading.loader import load
from stagingest.system import disk
from stagingest.targets.duckdb.target import DuckDB

Method = Callable[..., Any]


def command(function: Callable[..., None], *arguments: object) -> list[str]:
    """The words that run one of the functions below."""
    return [sys.executable, __file__, function.__name__, *map(str, arguments)]


def _deadly(real: Method, at: int, calls: list[None]) -> Method:
    """The same, but for call number `at`, which kills the process; calls of all that share the list count."""

    def struck(*args: Any, **values: Any) -> Any:
        calls.append(None)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **values)

    return struck


def killed_at_the_third(root: str, db: str, method: str) -> None:
    """Six batches into DuckDB; the third call of the target's method kills."""
    staging = Staging(Path(root))
    for number in range(6):
        staging.bars(f"S{number}", 0, 4, price=number)
    target = DuckDB(Path(db), threads=1)
    setattr(target, method, _deadly(getattr(target, method), 3, []))
    load([staging], target, batch_rows=4)


def killed_before_it_finishes(root: str, db: str) -> None:
    """A whole load into DuckDB, whose write-ahead log stays."""
    staging = Staging(Path(root))
    staging.bars("A B", 0, 4)
    target = DuckDB(Path(db), threads=1)
    target.finish = _deadly(target.finish, 1, [])  # type: ignore[method-assign]
    load([staging], target)


def interrupted(root: str, db: str) -> None:
    """Says "inserted" in its second batch, then asks something without end."""
    staging = Staging(Path(root))
    for number in range(2):
        staging.bars(f"S{number}", 0, 4, price=number)
    target = DuckDB(Path(db), threads=1)
    enter, entered = target._enter, []

    def slow(*args: Any) -> None:
        enter(*args)
        if entered:
            print("inserted", flush=True)
            target._all("SELECT sum(hash(range)) FROM range(1000000000000)")
        entered.append(None)

    target._enter = slow  # type: ignore[method-assign]
    try:
        load([staging], target, batch_rows=4)
    except KeyboardInterrupt:
        sys.exit(130)


def loaded(root: str, db: str) -> None:
    """A load as any other."""
    staging = Staging(Path(root))
    staging.bars("A", 0, 3)
    load([staging], DuckDB(Path(db)))


def holding(name: str, place: str) -> None:
    """Opens a target of the kind and holds it until its input ends."""
    target = KINDS[name].opened(Path(place))
    target.open([])
    print("open", flush=True)
    sys.stdin.read()


def killed_in_a_correction(root: str, name: str, place: str, at: str, *names: str) -> None:
    """Six symbols and their corrections; the call number `at` of the functions named kills."""
    staging = Staging(Path(root))
    for number in range(6):
        staging.bars(f"S{number}", 0, 4, price=number)
    for number in range(6):
        staging.bars(f"S{number}", 2, 6, price=10 + number)
    opened = KINDS[name].opened(Path(place))
    calls: list[None] = []
    for each in names:
        owner = disk if hasattr(disk, each) and not hasattr(opened, each) else opened
        setattr(owner, each, _deadly(getattr(owner, each), int(at), calls))
    load([staging], opened, batch_rows=8)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

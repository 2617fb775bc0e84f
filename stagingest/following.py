"""Loading beside a fetch until that has ended."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stagingest import locks
from stagingest.errors import HeldError
from stagingest.loaded import LoadSummary

ROUND_S = 5.0


def follow(
    once: Callable[[], LoadSummary], roots: Sequence[Path], sleep: Callable[[float], None] = time.sleep
) -> LoadSummary:
    """Load, and load again, until no fetch works in any of the directories: what all rounds did together.

    Between the rounds the target is free; somebody who has it then is waited for while the fetch goes on.

    Args:
        once: one load.
        roots: the staging directories.
        sleep: for tests.

    Raises as `once`; HeldError only when no fetch works any more.
    """
    done: LoadSummary | None = None
    while True:
        fetching = any(locks.is_held(root / "run.lock") for root in roots)
        try:
            summary = once()
        except HeldError:
            if not fetching:
                raise
        else:
            done = summary if done is None else done + summary
        if not fetching and done is not None:
            return done
        sleep(ROUND_S)

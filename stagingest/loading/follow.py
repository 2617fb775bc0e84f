"""Loading beside a fetch until that has ended."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stagingest.errors import HeldError, StagingestError
from stagingest.loading.summary import LoadSummary
from stagingest.system import locks

ROUND_S = 5.0
"""Between two loads while a fetch is under way."""


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


@dataclass
class BackgroundLoader:
    """Loads what is staged again and again in a thread of its own, until it is told that this is the last time."""

    once: Callable[..., LoadSummary]
    done: LoadSummary | None = None
    failed: StagingestError | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._rounds, name="load", daemon=True)
        self._thread.start()

    def _rounds(self) -> None:
        while not self._over.wait(ROUND_S):
            self._load(last=False)
            if self.failed:
                return

    def _load(self, *, last: bool) -> None:
        try:
            found = self.once(last=last)
        except HeldError as error:
            self.failed = error if last else None
        except StagingestError as error:
            self.failed = error
        else:
            self.done = found if self.done is None else self.done + found

    def stop(self) -> None:
        """No further round; the one under way ends first."""
        self._over.set()
        self._thread.join()

    def finish(self) -> LoadSummary | StagingestError | None:
        """Load the rest: what all rounds did, or the error that ended them."""
        self.stop()
        if not self.failed:
            self._load(last=True)
        return self.failed or self.done

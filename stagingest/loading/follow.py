"""Loading beside a fetch, again and again, until that has ended."""

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


def rounds(once: Callable[..., LoadSummary], is_last: Callable[[], bool], wait: Callable[[], object]) -> LoadSummary:
    """Load, and load again, up to a last time that begins when nothing more is staged: what all rounds did together.

    Between the rounds the target is free; somebody who has it then is waited for, but in the last one.

    Args:
        once: one load; told with `last` whether it is the last one.
        is_last: whether the round that begins now is.
        wait: until the next round.

    Raises as `once`; HeldError only from the last round.
    """
    done: LoadSummary | None = None
    while True:
        last = is_last()
        try:
            found = once(last=last)
        except HeldError:
            if last:
                raise
        else:
            done = found if done is None else done + found
            if last:
                return done
        wait()


def follow(
    once: Callable[[], LoadSummary], roots: Sequence[Path], sleep: Callable[[float], None] = time.sleep
) -> LoadSummary:
    """Load until no fetch works in any of the staging directories. Raises as `rounds`."""

    def over() -> bool:
        return not any(locks.is_held(root / "run.lock") for root in roots)

    return rounds(lambda last: once(), over, lambda: sleep(ROUND_S))


class _StoppedError(Exception):
    """No further round."""


@dataclass
class BackgroundLoader:
    """Loads what is staged in a thread of its own until it is told that nothing more will be."""

    once: Callable[..., LoadSummary]
    done: LoadSummary | StagingestError | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._load, name="load", daemon=True)
        self._thread.start()

    def _load(self) -> None:
        try:
            self.done = rounds(self.once, self._is_last, lambda: self._over.wait(ROUND_S))
        except StagingestError as error:
            self.done = error
        except _StoppedError:
            pass

    def _is_last(self) -> bool:
        if self._stopped:
            raise _StoppedError
        return self._over.is_set()

    def stop(self) -> None:
        """No further round; the one under way ends first."""
        self._stopped = True
        self.finish()

    def finish(self) -> LoadSummary | StagingestError | None:
        """Load the rest: what all rounds did, or the error that ended them."""
        self._over.set()
        self._thread.join()
        return self.done

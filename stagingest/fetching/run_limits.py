"""Where a run ends by itself though chunks are left, and what it says then: a limit is a field of `RunLimits`; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from stagingest.errors import Exit
from stagingest.model.chunk import Chunk
from stagingest.model.task import GOOD, Outcome

# How long what is in flight may take to end by itself once a run has had its minutes; never longer than those.
LAST_TASKS_S = 60.0
_CODES = {Outcome.FORBIDDEN: Exit.CREDENTIALS, Outcome.FAILED: Exit.PROVIDER, Outcome.LOST: Exit.PROVIDER}


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a run ends though chunks are left: the option that says so, and the exit code.

    `at_once`: what is in flight is dropped.
    """

    why: str
    exit_code: int = Exit.OK
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has cost so far: seconds, and requests made and those that what is in flight will still make."""

    elapsed_s: float = 0.0
    requests: int = 0
    promised: int = 0


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The most that a run may spend; None is no bound.

    Args:
        requests: sent, retries included; the workers' own count is exact.
        chunks: that it begins with.
        minutes: gone by.
        fail_fast: whether it ends at the first chunk that is neither staged nor empty.
    """

    requests: int | None = None
    chunks: int | None = None
    minutes: float | None = None
    fail_fast: bool = False

    def begin(self, chunks: Sequence[Chunk]) -> tuple[tuple[Chunk, ...], tuple[Chunk, ...]]:
        """The chunks that the run begins with, and those it leaves."""
        return tuple(chunks[: self.chunks]), tuple(chunks[len(chunks[: self.chunks]) :])

    def left(self) -> StopReason:
        """The ending of a run that has had the chunks it began with."""
        return StopReason(f"--max-chunks {self.chunks}")

    def reached(self, spent: Spent) -> StopReason | None:
        """The ending of a run that has had what it may, whatever is still to be asked."""
        if self.minutes is None or spent.elapsed_s < 60 * self.minutes:
            return None
        late_s = spent.elapsed_s - 60 * self.minutes
        return StopReason(f"--max-minutes {self.minutes:g}", at_once=late_s >= min(LAST_TASKS_S, 60 * self.minutes))

    def allows(self, spent: Spent, expected: int) -> bool:
        """Whether a chunk that is expected to cost so many requests may be begun; the first one may in any case."""
        made = spent.requests + spent.promised
        return self.requests is None or not made or made + expected <= self.requests

    def out_of_requests(self) -> StopReason:
        """The ending of a run that may begin nothing more."""
        return StopReason(f"--max-requests {self.requests}")

    def failed(self, outcome: Outcome) -> StopReason | None:
        """The ending of a run with a chunk that came to this."""
        if not self.fail_fast or outcome in GOOD:
            return None
        return StopReason("--fail-fast", _CODES.get(outcome, Exit.FAILED), at_once=True)

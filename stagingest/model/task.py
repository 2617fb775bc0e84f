"""What is handed to a worker, and what comes back: frozen values that cross processes."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from stagingest.model.chunk import Chunk


class Outcome(StrEnum):
    """What became of a task."""

    STAGED = "staged"
    EMPTY = "empty"
    REFUSED = "refused"
    FORBIDDEN = "forbidden"
    DEFERRED = "deferred"
    FAILED = "failed"
    LOST = "lost"
    CAPPED = "capped"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    SPLIT = "split"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class Entry:
    """An acknowledged outcome in the manifest.

    Args:
        seq: a number that only grows; overlapping entries load in its order.
        chunk: what was asked.
        run, number: the task that brought it.
        outcome, reason: as in Result.
        covers: whether its window counts as known for its symbols.
        asked_at: the provider's clock (UTC, aware) when it was asked.
        path: the staged file relative to the staging root, '' without rows.
        bytes, sha256, rows: of that file.
        schema: schema number of the dataset the file was written with.
        symbol_rows: rows of each symbol that has any.
    """

    seq: int
    chunk: Chunk
    run: str
    number: int
    outcome: Outcome
    reason: str
    covers: bool
    asked_at: datetime
    path: str = ""
    bytes: int = 0
    sha256: str = ""
    rows: int = 0
    schema: int = 1
    symbol_rows: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One chunk handed to one worker; never a secret in it.

    Args:
        run: id of the run that gave it.
        number: counts the tasks of the run; run and number fence late results.
        chunk: what to fetch.
        not_after: the latest instant to ask for (None: the window's end).
        adjusted: whether the digests of the first and last session are wanted (see Edge).
        canary: whether its series has not answered yet in this run: a provider that cannot be reached is an outcome
            then; later it is waited for.
    """

    run: str
    number: int
    chunk: Chunk
    not_after: datetime | None = None
    adjusted: bool = False
    canary: bool = False

    @property
    def part(self) -> str:
        """Name of the task's file below `tmp/`, without suffix; no other task has it."""
        return f"{self.chunk.id}.{self.run}-{self.number}"


@dataclass(frozen=True, slots=True)
class Cost:
    """What was asked: pages answered, requests sent (retries included), of those answered 429, and the seconds that
    exchanges took."""

    pages: int = 0
    requests: int = 0
    limited: int = 0
    busy_s: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.pages + other.pages,
            self.requests + other.requests,
            self.limited + other.limited,
            self.busy_s + other.busy_s,
        )


@dataclass(frozen=True, slots=True)
class SessionDigest:
    """The first or last session of a symbol in a chunk, with a digest of its price rows."""

    symbol: str
    session: date
    digest: str


@dataclass(frozen=True, slots=True)
class PartFile:
    """A finished file below `tmp/`: its name, size in bytes, SHA-256 (hex) and rows."""

    name: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a worker answers to a task.

    Args:
        outcome: what became of it.
        reason: one sentence when it is not staged or empty.
        asked_at: the provider's clock (UTC) at the first answered page.
        part: the file, when staged.
        symbol_rows: rows of each symbol that has any.
        edges: first and last session of each symbol, when the task asked for them.
        bad: symbols the provider named as bad.
        stop: the endpoint cannot be asked any more: `credentials`, `unreachable`, `limited`, `down`, or `enough` (the
            requests the run may make are spent); `not-json` takes several chunks to be sure of; '' otherwise.
        unknown: fields of the answered rows that are not stored.
        cost: what was asked for it.
    """

    outcome: Outcome
    reason: str = ""
    asked_at: datetime | None = None
    part: PartFile | None = None
    symbol_rows: tuple[tuple[str, int], ...] = ()
    edges: tuple[SessionDigest, ...] = ()
    bad: tuple[str, ...] = ()
    stop: str = ""
    unknown: tuple[str, ...] = ()
    cost: Cost = Cost()


def footer(staging_id: str, task: Task, schema: int, asked_at: datetime) -> dict[str, str]:
    """What the file of a task says of itself, so that the manifest can be rebuilt from the files."""
    chunk = task.chunk
    return {
        "stagingest.staging": staging_id,
        "stagingest.run": task.run,
        "stagingest.number": str(task.number),
        "stagingest.endpoint": chunk.series.endpoint,
        "stagingest.params": "&".join(f"{name}={value}" for name, value in chunk.series.params),
        "stagingest.symbols": ",".join(chunk.symbols),
        "stagingest.window": str(chunk.window),
        "stagingest.schema": str(schema),
        "stagingest.asked_at": asked_at.isoformat(),
        "stagingest.not_after": task.not_after.isoformat() if task.not_after else "",
    }


GOOD = frozenset({Outcome.STAGED, Outcome.EMPTY})


@dataclass(frozen=True, slots=True)
class Failure:
    """A symbol that was not had, its outcome and why."""

    symbol: str
    outcome: str
    reason: str

"""The counts of a run: what became of every chunk and symbol; pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from stagingest.errors import Exit
from stagingest.model.chunk import Chunk
from stagingest.model.task import GOOD, Cost, Failure, Outcome, TaskResult
from stagingest.providers import catalog

_DUE_AGAIN = (Outcome.FORBIDDEN, Outcome.FAILED, Outcome.LOST, Outcome.CAPPED, Outcome.CONFLICT)


@dataclass(frozen=True, slots=True)
class Progress:
    """A run as it stands, for listeners.

    `done` of `planned` chunks are closed, `failed` of those neither staged nor empty; `rows_per_s` is the
    mean over the run; `eta_s` is None while nothing is done; `waiting` is `network` or `provider` while that does
    not answer, else ''.
    """

    planned: int
    done: int
    failed: int
    in_flight: int
    rows: int
    pages: int
    requests: int
    limited: int
    elapsed_s: float
    waiting: str = ""

    @property
    def remaining(self) -> int:
        """Chunks not closed yet."""
        return self.planned - self.done

    @property
    def percent(self) -> float:
        """Closed chunks, percent of the plan."""
        return 100 * self.done / self.planned if self.planned else 100.0

    @property
    def rows_per_s(self) -> float:
        """Rows staged a second."""
        return self.rows / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the mean pace so far."""
        return self.elapsed_s / self.done * self.remaining if self.done else None


class Silent:
    """Says nothing: for the library and `--json`."""

    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""

    def close(self) -> None:
        """Nothing to end."""


@dataclass(slots=True)
class RunCounts:
    """Counts while a run goes on; only the supervisor writes it."""

    planned: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    provisional: int = 0
    rows: int = 0
    bytes: int = 0
    cost: Cost = Cost()
    failures: dict[str, Failure] = field(default_factory=dict)
    refetched: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    waiting: Counter[str] = field(default_factory=Counter)

    def add(self, chunks: Sequence[Chunk]) -> None:
        """More chunks belong to the plan."""
        self.planned += len(chunks)
        self.waiting.update(symbol for chunk in chunks for symbol in chunk.symbols)

    def asked(self, result: TaskResult) -> None:
        """Count what a task cost, whatever becomes of it."""
        self.unknown.update(result.unknown)
        self.cost += result.cost

    def close(self, chunk: Chunk, result: TaskResult, *, covers: bool) -> None:
        """A chunk is closed."""
        self.waiting.subtract(chunk.symbols)
        self.outcomes[result.outcome] += 1
        if result.part is not None:
            self.rows += result.part.rows
            self.bytes += result.part.bytes
        if result.outcome in GOOD:
            self.provisional += not covers
            return
        for symbol in chunk.symbols:
            self.failures.setdefault(symbol, Failure(symbol, result.outcome.value, result.reason))

    def split(self, children: Sequence[Chunk]) -> None:
        """A chunk was replaced by its children, which have its symbols between them."""
        self.planned += len(children) - 1

    @property
    def done(self) -> int:
        """Closed chunks."""
        return self.outcomes.total()

    def failed(self) -> int:
        """Closed chunks that are neither staged nor empty."""
        return sum(number for outcome, number in self.outcomes.items() if outcome not in GOOD)


def exit_code(counts: RunCounts, stopped: str) -> int:
    """DESIGN section 7: 4 credentials or entitlement, 1 everything refused, 5 unreachable, 3 some failed, else 0."""
    if stopped in ("credentials", "forbidden"):
        return Exit.CREDENTIALS
    if stopped == "refused":
        return Exit.FAILED
    if stopped:
        return Exit.PROVIDER
    return Exit.INCOMPLETE if counts.failed() or counts.failures else Exit.OK


@dataclass(frozen=True, slots=True)
class FetchSummary:
    """What a fetch did.

    `planned` = the sum of `outcomes` + `left`, counted in chunks (a split chunk counts as its children).
    `stopped` says why an endpoint was given up, `ended_by` names the option that ended the run.
    `unknown_fields` are fields of the answered rows that have no column and were not stored.
    `cpu_s` is of the whole process tree; `peak_memory_bytes` is summed over it (PSS).
    """

    run: str
    series: tuple[str, ...]
    planned: int
    outcomes: dict[str, int]
    left: int
    provisional: int
    rows: int
    bytes: int
    pages: int
    requests: int
    limited: int
    symbols: int
    symbols_had: int
    symbols_covered: int
    failures: tuple[Failure, ...]
    refetched: tuple[str, ...]
    unknown_fields: tuple[str, ...]
    elapsed_s: float
    cpu_s: float
    peak_memory_bytes: int
    stopped: str = ""
    ended_by: str = ""
    exit_code: int = Exit.OK

    @property
    def to_do(self) -> int:
        """Chunks that the same command would ask again: those left, and those whose outcome covers nothing."""
        return self.left + sum(self.outcomes.get(outcome.value, 0) for outcome in _DUE_AGAIN)

    @property
    def success_percent(self) -> float:
        """Symbols that were had whole, percent of those asked."""
        return 100 * self.symbols_had / self.symbols if self.symbols else 100.0

    @property
    def limited_percent(self) -> float:
        """Requests answered 429, percent of those sent."""
        return 100 * self.limited / self.requests if self.requests else 0.0

    @property
    def symbols_per_s(self) -> float:
        """Symbols asked of the network and finished, a second."""
        return max(0, self.symbols_had - self.symbols_covered) / self.elapsed_s if self.elapsed_s else 0.0


def advice(endpoint: str, kind: str, why: str) -> str:
    """Why an endpoint was stopped, and what to do about it."""
    budget = catalog.hosts()[catalog.endpoint(endpoint).budget]
    keys = " and ".join(names[0] for _, names in budget.keys)
    if kind == "credentials":
        return f"{endpoint}: {why}. Set {keys} to a key pair of this host and run the same command again."
    if kind == "forbidden" and budget.tells_keys:
        return (
            f"{endpoint}: {why}. The plan of {keys} does not include this data, or not so far back (--start): "
            "a wrong key would be answered 401."
        )
    if kind == "forbidden":
        return (
            f"{endpoint}: {why}. Either the plan does not include this data, or the key pair in {keys} is wrong: "
            "the provider answers both alike."
        )
    if kind == "refused":
        return f"{endpoint}: {why}. It refuses every question: check {budget.url_variable} and the options."
    if kind == "down":
        return f"{endpoint}: {why}, for 15 minutes without one answer. Run the same command again later."
    if kind == "limited":
        return f"{endpoint}: {why} for 15 minutes without one answer. Run the same command again later."
    return f"{endpoint}: {why}. Check {budget.url_variable} and the network, then run the same command again."

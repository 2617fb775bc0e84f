"""How one task is going in a worker, and how it ends."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from stagingest.fetching.messages import Heartbeat
from stagingest.http.classify import Decision
from stagingest.http.response import Reply, TransportFault
from stagingest.model.page import Request
from stagingest.model.task import Cost, Outcome, Task, TaskResult
from stagingest.providers.endpoint import Endpoint

# Pages of a chain that are further apart do not show one moment of it (RELIABILITY V10).
CAPTURE_SPAN = timedelta(minutes=10)


@dataclass(slots=True)
class TaskProgress:
    """How a task is going."""

    task: Task
    endpoint: Endpoint
    pages: list[pa.Table] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    page_count: int = 0
    cost: Cost = Cost()
    asked_at: datetime | None = None
    heard_at: datetime | None = None
    begun: bool = False
    ahead: tuple[Request, Reply | TransportFault] | None = None
    not_after: datetime | None = None

    def heard(self, date: datetime | None) -> None:
        """An answer came, `date` by the provider's clock: a capture is of the moment its first page came."""
        self.heard_at = date or self.heard_at or datetime.now(UTC)  # two clocks are not compared
        if self.asked_at is None or (self.endpoint.kind.momentary and not self.begun):
            self.asked_at = self.heard_at

    def begin_again(self) -> None:
        """Forget what came: every page is asked anew, and later."""
        self.pages.clear()
        self.asked_at = self.heard_at = self.ahead = None
        self.begun = False

    def taken_ahead(self, request: Request) -> Reply | TransportFault | None:
        """What came of the request, if it is the one that was asked ahead."""
        ahead, self.ahead = self.ahead, None
        return ahead[1] if ahead and ahead[0] == request else None

    @property
    def stretched(self) -> bool:
        """Whether the pages of a capture came too far apart to be one."""
        if not self.endpoint.kind.momentary or not self.asked_at or not self.heard_at:
            return False
        return self.heard_at - self.asked_at > CAPTURE_SPAN

    @property
    def canary(self) -> bool:
        """Whether nobody has heard of the provider in this run yet."""
        return self.task.canary and not self.page_count

    def heartbeat(self, waiting: str = "") -> Heartbeat:
        """A sign of life."""
        return Heartbeat(self.task.run, self.task.number, replace(self.cost, pages=self.page_count), waiting)

    def result(self, outcome: Outcome, reason: str = "") -> TaskResult:
        """The answer to the task, with its counts."""
        cost = replace(self.cost, pages=self.page_count)
        return TaskResult(outcome, reason, self.asked_at, unknown=tuple(sorted(self.unknown)), cost=cost)


class OutcomeError(Exception):
    """The task ends here, with this decision's outcome; `again` says that it may be asked anew, once."""

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        decision: Decision | None = None,
        stop: str = "",
        *,
        again: bool = False,
    ) -> None:
        super().__init__(reason)
        self.again = again
        self.stop = stop or (decision.stop if decision else "")
        self.outcome = outcome
        self.reason = reason
        self.decision = decision

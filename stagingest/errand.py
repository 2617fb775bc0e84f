"""How one order is going in a worker, and how it ends."""

from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa

from stagingest.model import Outcome
from stagingest.orders import Cost, Order, Result
from stagingest.providers import Endpoint
from stagingest.verdict import Decision
from stagingest.worker import Beat


@dataclass(slots=True)
class Errand:
    """How an order is going."""

    order: Order
    endpoint: Endpoint
    pages: list[pa.Table] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    page_count: int = 0
    cost: Cost = Cost()
    asked_at: datetime | None = None
    not_after: datetime | None = None

    @property
    def canary(self) -> bool:
        """Whether nobody has heard of the provider in this run yet."""
        return self.order.canary and not self.page_count

    def beat(self, waiting: str = "") -> Beat:
        """A sign of life."""
        return Beat(self.order.run, self.order.number, replace(self.cost, pages=self.page_count), waiting)

    def result(self, outcome: Outcome, reason: str = "") -> Result:
        """The answer to the order, with its counts."""
        cost = replace(self.cost, pages=self.page_count)
        return Result(outcome, reason, self.asked_at, unknown=tuple(sorted(self.unknown)), cost=cost)


class OutcomeError(Exception):
    """The order ends here, with this decision's outcome."""

    def __init__(self, outcome: Outcome, reason: str, decision: Decision | None = None, stop: str = "") -> None:
        super().__init__(reason)
        self.stop = stop or (decision.stop if decision else "")
        self.outcome = outcome
        self.reason = reason
        self.decision = decision

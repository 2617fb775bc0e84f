"""The lanes of one worker process: an order becomes pages, then a file, then an outcome."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa

from stagingest import catalog, cooking, limiter, shaping, verdict, waits
from stagingest.allowance import Allowance
from stagingest.circuit import Circuit, Sign
from stagingest.errors import PageError
from stagingest.misread import Misread
from stagingest.model import Outcome, Page, Request
from stagingest.orders import Cost, Order, Result
from stagingest.pace import Seen
from stagingest.providers import Endpoint, may_be_cut
from stagingest.transport import Client
from stagingest.verdict import Decision, Reply
from stagingest.worker import Beat, Setup

PAGE_CAP = 2_000
ROW_CAP = 500_000
EMPTY_PAGES_CAP = 20
SIGN_S = 10.0
# A provider that refuses everything, or is in trouble, for so long wants us to come back another time.
LIMITED_S = 900.0
# A request that fails so often while the provider is in trouble may be the trouble: another one asks.
MOST_PROBES = 12
# A network may be gone for a night; somebody should look after that.
OUTAGE_S = 12 * 3600.0


@dataclass(slots=True)
class _Progress:
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

    def result(self, outcome: Outcome, reason: str = "") -> Result:
        """The answer to the order, with its counts."""
        cost = replace(self.cost, pages=self.page_count)
        return Result(outcome, reason, self.asked_at, unknown=tuple(sorted(self.unknown)), cost=cost)


class _OutcomeError(Exception):
    """The order ends here, with this decision's outcome."""

    def __init__(self, outcome: Outcome, reason: str, decision: Decision | None = None, stop: str = "") -> None:
        super().__init__(reason)
        self.stop = stop or (decision.stop if decision else "")
        self.outcome = outcome
        self.reason = reason
        self.decision = decision


class Lanes:
    """The lanes of one process: they share a client, permits, a retry budget and the cooks."""

    def __init__(self, note: Callable[[object], None], setup: Setup) -> None:
        # The cooks are the parallelism: Arrow's own pools would only fight over the same cores.
        self._arrow = pa.cpu_count(), pa.io_thread_count()
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        self._note = note
        self._setup = setup
        self._misread = Misread(setup.root, setup.routes)
        self._client = Client(setup.lanes, gzip=setup.gzip)
        self._permits = {
            name: limiter.Permits([spec.open() for spec in route.gates], sleep=self._wait)
            for name, route in setup.routes.items()
        }
        # Few threads parse and write for all lanes: Arrow keeps memory per thread (FETCH section 6: 1/3 of the memory).
        self._kitchen = ThreadPoolExecutor(setup.cooks, thread_name_prefix="cook")
        self._noted_s = self._answered_s = time.monotonic()
        self._budget = verdict.RetryBudget()
        self._circuits = {name: Circuit() for name in setup.routes}
        self._trouble = ""
        self._allowance = Allowance(setup.allowance) if setup.allowance else None
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def fetch(self, order: Order) -> Result:
        """Carry out one order; every failure is an outcome."""
        endpoint = catalog.endpoint(order.chunk.series.endpoint)
        course = _Progress(order, endpoint, not_after=order.not_after)
        try:
            try:
                self._pages(course)
            except _OutcomeError as end:
                if not self._begins_again(course, end.decision):
                    raise
                self._pages(course)
            return self._kitchen.submit(self._stage, course).result()
        except _OutcomeError as end:
            decision = end.decision
            bad = decision.bad if decision else ()
            return replace(course.result(end.outcome, end.reason), bad=bad, stop=end.stop)

    def _wait(self, seconds: float) -> None:
        """Sleep for a permit, with a sign of life now and then: waiting for the provider is not hanging."""
        time.sleep(seconds)
        if time.monotonic() - self._noted_s > SIGN_S:
            self._noted_s = time.monotonic()
            self._note(Beat())

    def abort(self) -> None:
        """End requests in flight and waits for permits at once."""
        self._stop.set()
        self._client.abort()

    def close(self) -> None:
        """Close connections and permit records, end the cooks, give Arrow its threads back."""
        pa.set_cpu_count(self._arrow[0])
        pa.set_io_thread_count(self._arrow[1])
        self._kitchen.shutdown()
        self._client.close()
        for permits in self._permits.values():
            permits.close()
        if self._allowance:
            self._allowance.close()

    def _begins_again(self, course: _Progress, decision: Decision | None) -> bool:
        """Whether the order is asked anew, once: ending earlier, or because its page token is not known any more."""
        course.pages.clear()
        if decision is None or not decision.recent:
            return decision is not None and decision.kind is verdict.Kind.SPLIT and course.page_count > 0
        # A plan without recent data is asked once more, ending 16 minutes ago (WIRE section 1.3).
        limit = (course.asked_at or datetime.now(UTC)) - timedelta(minutes=16)
        if course.not_after is not None and course.not_after <= limit:
            return False
        course.not_after = limit
        return True

    def _pages(self, course: _Progress) -> None:
        request: Request | None = course.endpoint.first(course.order.chunk, course.not_after)
        asked: set[Request] = set()
        empty = 0
        while request is not None:
            if request in asked:
                raise _OutcomeError(Outcome.FAILED, "the provider's page tokens go in a circle")
            if len(asked) == PAGE_CAP or sum(page.num_rows for page in course.pages) > ROW_CAP:
                raise _OutcomeError(Outcome.CAPPED, f"more than {PAGE_CAP} pages or {ROW_CAP:,} rows")
            asked.add(request)
            page = self._page(course, request)
            empty = 0 if page.rows else empty + 1
            if empty > EMPTY_PAGES_CAP:
                raise _OutcomeError(Outcome.FAILED, f"{EMPTY_PAGES_CAP} empty pages in a row")
            if page.table is not None and page.rows:
                course.pages.append(page.table)
            course.page_count += 1
            course.unknown |= self._misread.shown(page.unknown, request.budget)
            if page.next is None and may_be_cut(course.endpoint, course.order.chunk, page.rows):
                raise _OutcomeError(Outcome.SPLIT, "the last page is full and names no next one")
            request = page.next
            self._beat(course)

    def _beat(self, course: _Progress, waiting: str = "") -> None:
        order = course.order
        self._note(Beat(order.run, order.number, replace(course.cost, pages=course.page_count), waiting))

    def _page(self, course: _Progress, request: Request) -> Page:
        """Ask until there is a page, or until the verdict is an outcome."""
        failures = probes = 0
        while True:
            self._await(course, request.budget)
            exchange = self._exchange(course, request)
            symbols = len(course.order.chunk.symbols)
            decision = verdict.classify(exchange, attempt=failures + 1, symbols=symbols)
            if decision.kind is verdict.Kind.PAGE and isinstance(exchange, Reply):
                read, body = partial(course.endpoint.read, course.order.chunk, request), exchange.body
                try:
                    page = self._kitchen.submit(read, body).result()
                except PageError as error:
                    decision = self._misread.decision(error, read, course.order, request.budget, body, failures + 1)
                else:
                    self._answered_s = time.monotonic()
                    with self._lock:
                        self._budget = self._budget.after_success(first_try=failures == 0)
                    return page
            if decision.kind is verdict.Kind.LIMITED:
                if time.monotonic() - self._answered_s > LIMITED_S:
                    raise _OutcomeError(Outcome.FAILED, decision.reason, stop="limited")
                self._beat(course)
                continue
            if decision.kind is verdict.Kind.RETRY and self._waits(course, request.budget, probes):
                failures, probes = 0, probes + 1
                continue
            failures += 1
            self._retry_or_end(course, decision, failures)

    def _waits(self, course: _Progress, budget: str, probes: int) -> bool:
        """Whether this failure is everybody's: it is waited for, and costs the request none of its tries."""
        circuit = self._circuits[budget]
        return circuit.open and not course.canary and (circuit.why is Sign.UNREACHED or probes < MOST_PROBES)

    def _await(self, course: _Progress, budget: str) -> None:
        """Return when the circuit is closed, or when this lane is the one to probe."""
        while not course.canary:
            now_s = time.monotonic()
            with self._lock:
                circuit = self._circuits[budget]
                if not circuit.open:
                    return
                if circuit.may_probe(now_s):
                    self._circuits[budget] = circuit.probed(now_s)
                    return
            network = circuit.why is Sign.UNREACHED
            if now_s - circuit.since_s > (OUTAGE_S if network else LIMITED_S):
                reason = self._trouble or "the provider does not answer"
                raise _OutcomeError(Outcome.FAILED, reason, stop="unreachable" if network else "down")
            self._beat(course, "network" if network else "provider")
            if self._stop.wait(1.0):
                raise _OutcomeError(Outcome.DEFERRED, "the run is ending")

    def _retry_or_end(self, course: _Progress, decision: Decision, failures: int) -> None:
        if decision.kind is not verdict.Kind.RETRY:
            outcome = _OUTCOMES[decision.kind]
            # A symbol that was answered before is not refused: it is this page that could not be had.
            if outcome is Outcome.REFUSED and course.page_count and len(course.order.chunk.symbols) == 1:
                outcome = Outcome.FAILED
            raise _OutcomeError(outcome, decision.reason, decision)
        if failures >= decision.tries and decision.unreachable and not course.canary:
            raise _OutcomeError(Outcome.DEFERRED, decision.reason)  # others were reached meanwhile
        if failures >= decision.tries:
            raise _OutcomeError(Outcome.FAILED, decision.reason, decision)
        with self._lock:
            budget = self._budget.after_retry(decision.cost)
            if budget is not None:
                self._budget = budget
        if budget is None:
            raise _OutcomeError(Outcome.DEFERRED, decision.reason, decision)
        self._beat(course)
        wait_s = decision.wait_s
        if wait_s is None:
            wait_s = waits.backoff_s(failures, decision.base_s, decision.cap_s, random.random)
        self._stop.wait(wait_s)

    def _exchange(self, course: _Progress, request: Request) -> verdict.Reply | verdict.Fault:
        route = self._setup.routes[request.budget]
        permits = self._permits[request.budget]
        if self._allowance and not self._allowance.take():
            raise _OutcomeError(Outcome.DEFERRED, "the requests this run may make are spent", stop="enough")
        lease = permits.take(self._stop)
        if lease is None:
            raise _OutcomeError(Outcome.DEFERRED, "the run is ending")
        asked_s = time.monotonic()
        exchange = self._client.send(route.origin, request, dict(route.headers))
        now_s = time.monotonic()
        limited = isinstance(exchange, Reply) and exchange.status == 429
        course.cost += Cost(0, 1, int(limited), now_s - asked_s)
        if self._stop.is_set():
            raise _OutcomeError(Outcome.DEFERRED, "the run is ending")
        with self._lock:
            self._circuits[request.budget] = self._circuits[request.budget].after(verdict.sign(exchange), now_s)
        if isinstance(exchange, Reply):
            course.asked_at = course.asked_at or exchange.date or datetime.now(UTC)
            headers = waits.rate_headers(exchange.headers, exchange.date)
            retry_after_s = waits.retry_after_s(exchange.headers.get("retry-after", ""), exchange.date)
            permits.report(Seen(exchange.status, lease.slot_s, *headers, retry_after_s))
        else:
            self._trouble = exchange.text
            permits.report(Seen(0, lease.slot_s, None, None, None, None, exchange.kind == "timeout"))
        return exchange

    def _stage(self, course: _Progress) -> Result:
        if not course.pages:
            return course.result(Outcome.EMPTY)
        setup, asked_at = self._setup, course.asked_at or datetime.now(UTC)
        try:
            dish = cooking.stage(setup.root, setup.staging_id, course.order, course.endpoint, course.pages, asked_at)
        except shaping.ConflictError as error:
            raise _OutcomeError(Outcome.CONFLICT, str(error)) from None
        return replace(course.result(Outcome.STAGED), part=dish.part, symbol_rows=dish.symbol_rows, edges=dish.edges)


_OUTCOMES = {
    verdict.Kind.SPLIT: Outcome.REFUSED,
    verdict.Kind.FORBIDDEN: Outcome.FORBIDDEN,
    verdict.Kind.CREDENTIALS: Outcome.FAILED,
    verdict.Kind.STOP: Outcome.FAILED,
}

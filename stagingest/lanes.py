"""The lanes of one worker process: an order becomes pages, then a file, then an outcome."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from stagingest import catalog, limiter, shaping, staging, verdict
from stagingest.datasets import Dataset, dataset
from stagingest.errors import PageError
from stagingest.model import Chunk, Kind, Outcome, Page, Request
from stagingest.orders import Order, Result
from stagingest.pace import Seen
from stagingest.providers import Endpoint, bars
from stagingest.transport import Client
from stagingest.verdict import Decision, Reply
from stagingest.worker import Beat, Setup

PAGE_CAP = 2_000
ROW_CAP = 500_000
EMPTY_PAGES_CAP = 20
SIGN_S = 10.0
# More tries for a provider that did answer before: about a minute and a half, enough for a router to come back.
OUTAGE_TRIES = 6
# A provider that refuses everything for so long wants us to come back another time.
LIMITED_S = 900.0


@dataclass(slots=True)
class _Progress:
    """How an order is going."""

    order: Order
    endpoint: Endpoint
    pages: list[pa.Table] = field(default_factory=list)
    page_count: int = 0
    requests: int = 0
    limited: int = 0
    asked_at: datetime | None = None
    not_after: datetime | None = None

    def result(self, outcome: Outcome, reason: str = "") -> Result:
        """The answer to the order, with its counts."""
        return Result(
            outcome, reason, self.asked_at, pages=self.page_count, requests=self.requests, limited=self.limited
        )


class _OutcomeError(Exception):
    """The order ends here, with this decision's outcome."""

    def __init__(self, outcome: Outcome, reason: str, decision: Decision | None = None, stop: str = "") -> None:
        super().__init__(reason)
        self.stop = stop or _stop(decision)
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
        self._client = Client(setup.lanes, gzip=setup.gzip)
        self._permits = {
            name: limiter.Permits([spec.open() for spec in route.gates], sleep=self._wait)
            for name, route in setup.routes.items()
        }
        # Few threads parse and write for all lanes: Arrow keeps memory per thread (FETCH section 6: 1/3 of the memory).
        self._kitchen = ThreadPoolExecutor(setup.cooks, thread_name_prefix="cook")
        self._noted_s = self._answered_s = time.monotonic()
        self._ever = False
        self._budget = verdict.RetryBudget()
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
                if not (end.decision and end.decision.recent and self._step_back(course)):
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
            self._note(Beat("", 0, 0, 0, 0))

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

    def _step_back(self, course: _Progress) -> bool:
        """A plan without recent data is asked once more, ending 16 minutes ago (WIRE section 1.3)."""
        limit = (course.asked_at or datetime.now(UTC)) - timedelta(minutes=16)
        if course.not_after is not None and course.not_after <= limit:
            return False
        course.not_after = limit
        course.pages.clear()
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
            request = page.next
            self._beat(course)

    def _beat(self, course: _Progress) -> None:
        order = course.order
        self._note(Beat(order.run, order.number, course.page_count, course.requests, course.limited))

    def _page(self, course: _Progress, request: Request) -> Page:
        """Ask until there is a page, or until the verdict is an outcome."""
        failures = 0
        while True:
            exchange = self._exchange(course, request)
            symbols = len(course.order.chunk.symbols)
            decision = verdict.classify(exchange, attempt=failures + 1, symbols=symbols)
            if decision.kind is verdict.Kind.PAGE and isinstance(exchange, Reply):
                try:
                    read = course.endpoint.read
                    page = self._kitchen.submit(read, course.order.chunk, request, exchange.body).result()
                except PageError as error:
                    decision = verdict.malformed(error.message, attempt=failures + 1, symbols=symbols)
                else:
                    self._answered_s, self._ever = time.monotonic(), True
                    with self._lock:
                        self._budget = self._budget.after_success(first_try=failures == 0)
                    return page
            if decision.kind is verdict.Kind.LIMITED:
                if time.monotonic() - self._answered_s > LIMITED_S:
                    raise _OutcomeError(Outcome.FAILED, decision.reason, stop="limited")
                self._beat(course)
                continue
            failures += 1
            self._retry_or_end(course, decision, failures)

    def _retry_or_end(self, course: _Progress, decision: Decision, failures: int) -> None:
        if decision.kind is not verdict.Kind.RETRY:
            raise _OutcomeError(_OUTCOMES[decision.kind], decision.reason, decision)
        patience = OUTAGE_TRIES if decision.unreachable and self._ever else 0
        if failures >= decision.tries + patience:
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
            wait_s = verdict.backoff_s(failures, decision.base_s, decision.cap_s, random.random)
        self._stop.wait(wait_s)

    def _exchange(self, course: _Progress, request: Request) -> verdict.Reply | verdict.Fault:
        route = self._setup.routes[request.budget]
        permits = self._permits[request.budget]
        lease = permits.take(self._stop)
        if lease is None:
            raise _OutcomeError(Outcome.DEFERRED, "the run is ending")
        course.requests += 1
        exchange = self._client.send(route.origin, request, dict(route.headers))
        if self._stop.is_set():
            raise _OutcomeError(Outcome.DEFERRED, "the run is ending")
        if isinstance(exchange, Reply):
            course.asked_at = course.asked_at or exchange.date or datetime.now(UTC)
            limited = exchange.status == 429
            course.limited += limited
            headers = verdict.rate_headers(exchange.headers, exchange.date)
            permits.report(Seen(exchange.status, lease.slot_s, *headers, _retry_after(exchange)))
        else:
            permits.report(Seen(0, lease.slot_s, None, None, None, None, exchange.kind == "timeout"))
        return exchange

    def _stage(self, course: _Progress) -> Result:
        order, endpoint = course.order, course.endpoint
        kind = dataset(endpoint.dataset)
        if not course.pages:
            return course.result(Outcome.EMPTY)
        asked_at = course.asked_at or datetime.now(UTC)
        key = (kind.columns[0].name, kind.time) if kind.time else (kind.columns[0].name,)
        try:
            rows = shaping.joined(course.pages, key)
        except shaping.ConflictError as error:
            raise _OutcomeError(Outcome.CONFLICT, str(error)) from None
        table = shaping.staged(
            rows, kind, _constants(endpoint, order.chunk, asked_at), _session_dates(rows, kind, order)
        )
        runs = shaping.runs(table.column(kind.symbol))
        part = staging.write_part(self._setup.root, order.part, table, self._footer(order, kind, asked_at))
        return replace(
            course.result(Outcome.STAGED),
            part=part,
            symbol_rows=shaping.symbol_rows(runs),
            edges=shaping.edges(table, runs) if order.adjusted else (),
        )

    def _footer(self, order: Order, kind: Dataset, asked_at: datetime) -> dict[str, str]:
        chunk = order.chunk
        return {
            "stagingest.staging": self._setup.staging_id,
            "stagingest.run": order.run,
            "stagingest.number": str(order.number),
            "stagingest.endpoint": chunk.series.endpoint,
            "stagingest.params": "&".join(f"{name}={value}" for name, value in chunk.series.params),
            "stagingest.symbols": ",".join(chunk.symbols),
            "stagingest.window": str(chunk.window),
            "stagingest.schema": str(kind.schema),
            "stagingest.asked_at": asked_at.isoformat(),
        }


_OUTCOMES = {
    verdict.Kind.SPLIT: Outcome.REFUSED,
    verdict.Kind.FORBIDDEN: Outcome.FORBIDDEN,
    verdict.Kind.CREDENTIALS: Outcome.FAILED,
    verdict.Kind.STOP: Outcome.FAILED,
}


def _stop(decision: Decision | None) -> str:
    if decision is None:
        return ""
    if decision.kind is verdict.Kind.CREDENTIALS:
        return "credentials"
    return "unreachable" if decision.kind is verdict.Kind.STOP or decision.unreachable else ""


def _retry_after(reply: Reply) -> float | None:
    text = reply.headers.get("retry-after")
    return verdict.retry_after_s(text, reply.date) if text else None


def _constants(endpoint: Endpoint, chunk: Chunk, asked_at: datetime) -> dict[str, shaping.Constant]:
    constants: dict[str, shaping.Constant] = {**endpoint.constants(chunk.series), "updated_at": asked_at}
    if endpoint.kind is Kind.LISTING:
        constants["as_of_date"] = chunk.window.start
    return constants


def _session_dates(rows: pa.Table, kind: Dataset, order: Order) -> pa.Array | None:
    if not kind.time:
        return None
    return bars.session_dates(rows.column(kind.time).combine_chunks(), order.chunk.series, order.chunk.window)

"""One question of a lane, asked until it is a page or an outcome: permits, circuits, retries."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

from stagingest.errors import PageError
from stagingest.fetching.messages import Heartbeat, WorkerSetup
from stagingest.fetching.worker.bad_answers import BadAnswers
from stagingest.fetching.worker.progress import OutcomeError, TaskProgress
from stagingest.http import classify, rate_limiter, response, retry
from stagingest.http import headers as http_headers
from stagingest.http.classify import Decision
from stagingest.http.client import Client
from stagingest.http.rate import Feedback
from stagingest.http.rate_limiter import RequestQuota
from stagingest.http.response import Reply
from stagingest.http.retry import CircuitBreaker, Health
from stagingest.model.page import Page, Request
from stagingest.model.task import Cost, Outcome
from stagingest.providers.endpoint import Chain

SIGN_S = 10.0
# A provider that refuses everything, or is in trouble, for so long wants us to come back another time.
LIMITED_S = 900.0
# A request that fails so often while the provider is in trouble may be the trouble: another one asks.
MOST_PROBES = 12
# A network may be gone for a night; somebody should look after that.
OUTAGE_S = 12 * 3600.0


class Requester:
    """What the lanes of one process share to ask: a client, permits, circuits and a retry budget.

    Args:
        note: takes signs of life.
        setup: the process's.
        kitchen: reads the bodies.
        misread: judges those that are no page.
    """

    def __init__(
        self, note: Callable[[object], None], setup: WorkerSetup, kitchen: Executor, misread: BadAnswers
    ) -> None:
        self._note, self._setup, self._kitchen, self._misread = note, setup, kitchen, misread
        self._client = Client(setup.lanes, gzip=setup.gzip)
        self._permits: dict[str, rate_limiter.RateLimiter] = {}
        self._allowance = RequestQuota(setup.allowance) if setup.allowance else None
        self._circuits = {name: CircuitBreaker() for name in setup.routes}
        self._budget = retry.RetryBudget()
        self._noted_s = self._answered_s = time.monotonic()
        self._trouble = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def _permits_of(self, endpoint: str, budget: str) -> rate_limiter.RateLimiter:
        """A request needs a permit of its budget, and of its endpoint where the user set a limit."""
        with self._lock:
            if endpoint not in self._permits:
                cap = self._setup.caps.get(endpoint)
                specs = [self._setup.routes[budget].gate, *([cap] if cap else [])]
                self._permits[endpoint] = rate_limiter.RateLimiter([spec.open() for spec in specs], sleep=self._sleep)
            return self._permits[endpoint]

    def _sleep(self, seconds: float) -> None:
        """Sleep for a permit, with a sign of life now and then: waiting for the provider is not hanging."""
        time.sleep(seconds)
        if time.monotonic() - self._noted_s > SIGN_S:
            self._noted_s = time.monotonic()
            self._note(Heartbeat())

    def abort(self) -> None:
        """End requests in flight and waits for permits at once."""
        self._stop.set()
        self._client.abort()

    def close(self) -> None:
        """Close connections and records."""
        self._client.close()
        for permits in self._permits.values():
            permits.close()
        if self._allowance:
            self._allowance.close()

    def page(self, errand: TaskProgress, request: Request) -> Page:
        """Ask until there is a page, or until the verdict is an outcome."""
        failures = probes = 0
        while True:
            exchange = errand.taken_ahead(request)
            if exchange is None:
                self._await(errand, request.budget)
                exchange = self._exchange(errand, request)
            symbols = len(errand.order.chunk.symbols)
            decision = classify.classify(exchange, attempt=failures + 1, symbols=symbols)
            if decision.kind is classify.Action.PAGE and isinstance(exchange, Reply):
                asked = replace(request, origin=self._setup.routes[request.budget].origin)
                read, body = partial(errand.endpoint.read, errand.order.chunk, asked), exchange.body
                reading = self._kitchen.submit(read, body)
                errand.begun = True
                self._ask_ahead(errand, asked, body)
                try:
                    page = reading.result()
                except PageError as error:
                    errand.begun, errand.ahead = bool(errand.pages), None
                    decision = self._misread.decision(error, read, errand.order, request.budget, body, failures + 1)
                else:
                    self._answered_s = time.monotonic()
                    with self._lock:
                        self._budget = self._budget.after_success(first_try=failures == 0)
                    return page
            if decision.kind is classify.Action.LIMITED:
                if time.monotonic() - self._answered_s > LIMITED_S:
                    raise OutcomeError(Outcome.FAILED, decision.reason, stop="limited")
                self._note(errand.beat())
                continue
            if decision.kind is classify.Action.RETRY and self._waits(errand, request.budget, probes):
                failures, probes = 0, probes + 1
                continue
            failures += 1
            self._retry_or_end(errand, decision, failures)

    def _ask_ahead(self, errand: TaskProgress, request: Request, body: bytes) -> None:
        """While a page of a chain is read, ask for the one it seems to name: the less its moment lasts, the better."""
        if not isinstance(errand.endpoint, Chain) or self._circuits[request.budget].open:
            return
        try:
            following = errand.endpoint.ahead(request, body)
        except PageError:
            return  # the reader says so, too
        if following is not None and following != request:
            errand.ahead = following, self._exchange(errand, following)

    def _waits(self, errand: TaskProgress, budget: str, probes: int) -> bool:
        """Whether this failure is everybody's: it is waited for, and costs the request none of its tries."""
        circuit = self._circuits[budget]
        return circuit.open and not errand.canary and (circuit.why is Health.UNREACHED or probes < MOST_PROBES)

    def _await(self, errand: TaskProgress, budget: str) -> None:
        """Return when the circuit is closed, or when this lane is the one to probe."""
        while not errand.canary:
            now_s = time.monotonic()
            with self._lock:
                circuit = self._circuits[budget]
                if not circuit.open:
                    return
                if circuit.may_probe(now_s):
                    self._circuits[budget] = circuit.probed(now_s)
                    return
            network = circuit.why is Health.UNREACHED
            if now_s - circuit.since_s > (OUTAGE_S if network else LIMITED_S):
                reason = self._trouble or "the provider does not answer"
                raise OutcomeError(Outcome.FAILED, reason, stop="unreachable" if network else "down")
            self._note(errand.beat("network" if network else "provider"))
            if self._stop.wait(1.0):
                raise OutcomeError(Outcome.DEFERRED, "the run is ending")

    def _retry_or_end(self, errand: TaskProgress, decision: Decision, failures: int) -> None:
        if decision.kind is not classify.Action.RETRY:
            outcome = _OUTCOMES[decision.kind]
            # A symbol that was answered before is not refused: it is this page that could not be had.
            if outcome is Outcome.REFUSED and errand.page_count and len(errand.order.chunk.symbols) == 1:
                outcome = Outcome.FAILED
            raise OutcomeError(outcome, decision.reason, decision)
        if failures >= decision.tries and decision.unreachable and not errand.canary:
            raise OutcomeError(Outcome.DEFERRED, decision.reason)  # others were reached meanwhile
        if failures >= decision.tries:
            raise OutcomeError(Outcome.FAILED, decision.reason, decision)
        with self._lock:
            budget = self._budget.after_retry(decision.cost)
            if budget is not None:
                self._budget = budget
        if budget is None:
            raise OutcomeError(Outcome.DEFERRED, decision.reason, decision)
        self._note(errand.beat())
        wait_s = decision.wait_s
        if wait_s is None:
            wait_s = retry.backoff_s(failures, decision.base_s, decision.cap_s, random.random)
        self._stop.wait(wait_s)

    def _exchange(self, errand: TaskProgress, request: Request) -> response.Reply | response.Fault:
        route = self._setup.routes[request.budget]
        permits = self._permits_of(errand.endpoint.name, request.budget)
        if self._allowance and not self._allowance.take():
            raise OutcomeError(Outcome.DEFERRED, "the requests this run may make are spent", stop="enough")
        lease = permits.take(self._stop)
        if lease is None:
            raise OutcomeError(Outcome.DEFERRED, "the run is ending")
        asked_s = time.monotonic()
        exchange = self._client.send(route.origin, request, dict(route.headers))
        now_s = time.monotonic()
        limited = isinstance(exchange, Reply) and exchange.status == 429
        errand.cost += Cost(0, 1, int(limited), now_s - asked_s)
        if self._stop.is_set():
            raise OutcomeError(Outcome.DEFERRED, "the run is ending")
        with self._lock:
            self._circuits[request.budget] = self._circuits[request.budget].after(classify.sign(exchange), now_s)
        if isinstance(exchange, Reply):
            errand.heard(exchange.date)
            headers = http_headers.rate_headers(exchange.headers, exchange.date)
            retry_after_s = http_headers.retry_after_s(exchange.headers.get("retry-after", ""), exchange.date)
            permits.report(Feedback(exchange.status, lease.slot_s, *headers, retry_after_s))
        else:
            self._trouble = exchange.text
            permits.report(Feedback(0, lease.slot_s, None, None, None, None, exchange.kind == "timeout"))
        return exchange


_OUTCOMES = {
    classify.Action.SPLIT: Outcome.REFUSED,
    classify.Action.FORBIDDEN: Outcome.FORBIDDEN,
    classify.Action.CREDENTIALS: Outcome.FAILED,
    classify.Action.STOP: Outcome.FAILED,
}

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
        cpu_pool: reads the bodies.
        misread: judges those that are no page.
    """

    def __init__(
        self, notify: Callable[[object], None], setup: WorkerSetup, cpu_pool: Executor, bad_answers: BadAnswers
    ) -> None:
        self._notify, self._setup, self._cpu_pool, self._bad_answers = notify, setup, cpu_pool, bad_answers
        self._client = Client(setup.lanes, gzip=setup.gzip)
        self._limiters: dict[str, rate_limiter.RateLimiter] = {}
        self._quota = RequestQuota(setup.quota) if setup.quota else None
        self._breakers = {name: CircuitBreaker() for name in setup.routes}
        self._budget = retry.RetryBudget()
        self._noted_s = self._answered_s = time.monotonic()
        self._trouble = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def _limiter_of(self, endpoint: str, budget: str) -> rate_limiter.RateLimiter:
        """A request needs a permit of its budget, and of its endpoint where the user set a limit."""
        with self._lock:
            if endpoint not in self._limiters:
                cap = self._setup.endpoint_limits.get(endpoint)
                specs = [self._setup.routes[budget].limiter, *([cap] if cap else [])]
                self._limiters[endpoint] = rate_limiter.RateLimiter([spec.open() for spec in specs], sleep=self._sleep)
            return self._limiters[endpoint]

    def _sleep(self, seconds: float) -> None:
        """Sleep for a permit, with a sign of life now and then: waiting for the provider is not hanging."""
        time.sleep(seconds)
        if time.monotonic() - self._noted_s > SIGN_S:
            self._noted_s = time.monotonic()
            self._notify(Heartbeat())

    def abort(self) -> None:
        """End requests in flight and waits for permits at once."""
        self._stop.set()
        self._client.abort()

    def close(self) -> None:
        """Close connections and records."""
        self._client.close()
        for limiter in self._limiters.values():
            limiter.close()
        if self._quota:
            self._quota.close()

    def page(self, progress: TaskProgress, request: Request) -> Page:
        """Ask until there is a page, or until the verdict is an outcome."""
        failures = probes = 0
        while True:
            exchange = progress.taken_ahead(request)
            if exchange is None:
                self._await(progress, request.budget)
                exchange = self._exchange(progress, request)
            symbols = len(progress.task.chunk.symbols)
            decision = classify.classify(exchange, attempt=failures + 1, symbols=symbols)
            if decision.kind is classify.Action.PAGE and isinstance(exchange, Reply):
                asked = replace(request, origin=self._setup.routes[request.budget].origin)
                read, body = partial(progress.endpoint.read, progress.task.chunk, asked), exchange.body
                reading = self._cpu_pool.submit(read, body)
                progress.begun = True
                self._ask_ahead(progress, asked, body)
                try:
                    page = reading.result()
                except PageError as error:
                    progress.begun, progress.ahead = bool(progress.pages), None
                    decision = self._bad_answers.decision(
                        error, read, progress.task, request.budget, body, failures + 1
                    )
                else:
                    self._answered_s = time.monotonic()
                    with self._lock:
                        self._budget = self._budget.after_success(first_try=failures == 0)
                    return page
            if decision.kind is classify.Action.LIMITED:
                if time.monotonic() - self._answered_s > LIMITED_S:
                    raise OutcomeError(Outcome.FAILED, decision.reason, stop="limited")
                self._notify(progress.heartbeat())
                continue
            if decision.kind is classify.Action.RETRY and self._waits(progress, request.budget, probes):
                failures, probes = 0, probes + 1
                continue
            failures += 1
            self._retry_or_end(progress, decision, failures)

    def _ask_ahead(self, progress: TaskProgress, request: Request, body: bytes) -> None:
        """While a page of a chain is read, ask for the one it seems to name: the less its moment lasts, the better."""
        if not isinstance(progress.endpoint, Chain) or self._breakers[request.budget].open:
            return
        try:
            following = progress.endpoint.ahead(request, body)
        except PageError:
            return  # the reader says so, too
        if following is not None and following != request:
            progress.ahead = following, self._exchange(progress, following)

    def _waits(self, progress: TaskProgress, budget: str, probes: int) -> bool:
        """Whether this failure is everybody's: it is waited for, and costs the request none of its tries."""
        breaker = self._breakers[budget]
        return breaker.open and not progress.canary and (breaker.why is Health.UNREACHED or probes < MOST_PROBES)

    def _await(self, progress: TaskProgress, budget: str) -> None:
        """Return when the circuit is closed, or when this lane is the one to probe."""
        while not progress.canary:
            now_s = time.monotonic()
            with self._lock:
                breaker = self._breakers[budget]
                if not breaker.open:
                    return
                if breaker.may_probe(now_s):
                    self._breakers[budget] = breaker.probed(now_s)
                    return
            network = breaker.why is Health.UNREACHED
            if now_s - breaker.since_s > (OUTAGE_S if network else LIMITED_S):
                reason = self._trouble or "the provider does not answer"
                raise OutcomeError(Outcome.FAILED, reason, stop="unreachable" if network else "down")
            self._notify(progress.heartbeat("network" if network else "provider"))
            if self._stop.wait(1.0):
                raise OutcomeError(Outcome.DEFERRED, "the run is ending")

    def _retry_or_end(self, progress: TaskProgress, decision: Decision, failures: int) -> None:
        if decision.kind is not classify.Action.RETRY:
            outcome = _OUTCOMES[decision.kind]
            # A symbol that was answered before is not refused: it is this page that could not be had.
            if outcome is Outcome.REFUSED and progress.page_count and len(progress.task.chunk.symbols) == 1:
                outcome = Outcome.FAILED
            raise OutcomeError(outcome, decision.reason, decision)
        if failures >= decision.tries and decision.unreachable and not progress.canary:
            raise OutcomeError(Outcome.DEFERRED, decision.reason)  # others were reached meanwhile
        if failures >= decision.tries:
            raise OutcomeError(Outcome.FAILED, decision.reason, decision)
        with self._lock:
            budget = self._budget.after_retry(decision.cost)
            if budget is not None:
                self._budget = budget
        if budget is None:
            raise OutcomeError(Outcome.DEFERRED, decision.reason, decision)
        self._notify(progress.heartbeat())
        wait_s = decision.wait_s
        if wait_s is None:
            wait_s = retry.backoff_s(failures, decision.base_s, decision.cap_s, random.random)
        self._stop.wait(wait_s)

    def _exchange(self, progress: TaskProgress, request: Request) -> response.Reply | response.TransportFault:
        route = self._setup.routes[request.budget]
        limiter = self._limiter_of(progress.endpoint.name, request.budget)
        if self._quota and not self._quota.take():
            raise OutcomeError(Outcome.DEFERRED, "the requests this run may make are spent", stop="enough")
        permit = limiter.take(self._stop)
        if permit is None:
            raise OutcomeError(Outcome.DEFERRED, "the run is ending")
        asked_s = time.monotonic()
        exchange = self._client.send(route.origin, request, dict(route.headers))
        now_s = time.monotonic()
        limited = isinstance(exchange, Reply) and exchange.status == 429
        progress.cost += Cost(0, 1, int(limited), now_s - asked_s)
        if self._stop.is_set():
            raise OutcomeError(Outcome.DEFERRED, "the run is ending")
        with self._lock:
            self._breakers[request.budget] = self._breakers[request.budget].after(classify.sign(exchange), now_s)
        if isinstance(exchange, Reply):
            progress.heard(exchange.date)
            headers = http_headers.rate_headers(exchange.headers, exchange.date)
            retry_after_s = http_headers.retry_after_s(exchange.headers.get("retry-after", ""), exchange.date)
            limiter.report(Feedback(exchange.status, permit.slot_s, *headers, retry_after_s))
        else:
            self._trouble = exchange.text
            limiter.report(Feedback(0, permit.slot_s, None, None, None, None, exchange.kind == "timeout"))
        return exchange


_OUTCOMES = {
    classify.Action.SPLIT: Outcome.REFUSED,
    classify.Action.FORBIDDEN: Outcome.FORBIDDEN,
    classify.Action.CREDENTIALS: Outcome.FAILED,
    classify.Action.STOP: Outcome.FAILED,
}

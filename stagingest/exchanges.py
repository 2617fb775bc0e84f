"""One question of a lane, asked until it is a page or an outcome: permits, circuits, retries."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

from stagingest import limiter, verdict, waits
from stagingest.allowance import Allowance
from stagingest.circuit import Circuit, Sign
from stagingest.errand import Errand, OutcomeError
from stagingest.errors import PageError
from stagingest.misread import Misread
from stagingest.model import Outcome, Page, Request
from stagingest.orders import Cost
from stagingest.pace import Seen
from stagingest.providers.chains import Chain
from stagingest.transport import Client
from stagingest.verdict import Decision, Reply
from stagingest.worker import Beat, Setup

SIGN_S = 10.0
# A provider that refuses everything, or is in trouble, for so long wants us to come back another time.
LIMITED_S = 900.0
# A request that fails so often while the provider is in trouble may be the trouble: another one asks.
MOST_PROBES = 12
# A network may be gone for a night; somebody should look after that.
OUTAGE_S = 12 * 3600.0


class Exchanges:
    """What the lanes of one process share to ask: a client, permits, circuits and a retry budget.

    Args:
        note: takes signs of life.
        setup: the process's.
        kitchen: reads the bodies.
        misread: judges those that are no page.
    """

    def __init__(self, note: Callable[[object], None], setup: Setup, kitchen: Executor, misread: Misread) -> None:
        self._note, self._setup, self._kitchen, self._misread = note, setup, kitchen, misread
        self._client = Client(setup.lanes, gzip=setup.gzip)
        self._permits: dict[str, limiter.Permits] = {}
        self._allowance = Allowance(setup.allowance) if setup.allowance else None
        self._circuits = {name: Circuit() for name in setup.routes}
        self._budget = verdict.RetryBudget()
        self._noted_s = self._answered_s = time.monotonic()
        self._trouble = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def _permits_of(self, endpoint: str, budget: str) -> limiter.Permits:
        """A request needs a permit of its budget, and of its endpoint where the user set a limit."""
        with self._lock:
            if endpoint not in self._permits:
                cap = self._setup.caps.get(endpoint)
                specs = [self._setup.routes[budget].gate, *([cap] if cap else [])]
                self._permits[endpoint] = limiter.Permits([spec.open() for spec in specs], sleep=self._sleep)
            return self._permits[endpoint]

    def _sleep(self, seconds: float) -> None:
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
        """Close connections and records."""
        self._client.close()
        for permits in self._permits.values():
            permits.close()
        if self._allowance:
            self._allowance.close()

    def page(self, errand: Errand, request: Request) -> Page:
        """Ask until there is a page, or until the verdict is an outcome."""
        failures = probes = 0
        while True:
            exchange = errand.taken_ahead(request)
            if exchange is None:
                self._await(errand, request.budget)
                exchange = self._exchange(errand, request)
            symbols = len(errand.order.chunk.symbols)
            decision = verdict.classify(exchange, attempt=failures + 1, symbols=symbols)
            if decision.kind is verdict.Kind.PAGE and isinstance(exchange, Reply):
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
            if decision.kind is verdict.Kind.LIMITED:
                if time.monotonic() - self._answered_s > LIMITED_S:
                    raise OutcomeError(Outcome.FAILED, decision.reason, stop="limited")
                self._note(errand.beat())
                continue
            if decision.kind is verdict.Kind.RETRY and self._waits(errand, request.budget, probes):
                failures, probes = 0, probes + 1
                continue
            failures += 1
            self._retry_or_end(errand, decision, failures)

    def _ask_ahead(self, errand: Errand, request: Request, body: bytes) -> None:
        """While a page of a chain is read, ask for the one it seems to name: the less its moment lasts, the better."""
        if not isinstance(errand.endpoint, Chain) or self._circuits[request.budget].open:
            return
        try:
            following = errand.endpoint.ahead(request, body)
        except PageError:
            return  # the reader says so, too
        if following is not None and following != request:
            errand.ahead = following, self._exchange(errand, following)

    def _waits(self, errand: Errand, budget: str, probes: int) -> bool:
        """Whether this failure is everybody's: it is waited for, and costs the request none of its tries."""
        circuit = self._circuits[budget]
        return circuit.open and not errand.canary and (circuit.why is Sign.UNREACHED or probes < MOST_PROBES)

    def _await(self, errand: Errand, budget: str) -> None:
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
            network = circuit.why is Sign.UNREACHED
            if now_s - circuit.since_s > (OUTAGE_S if network else LIMITED_S):
                reason = self._trouble or "the provider does not answer"
                raise OutcomeError(Outcome.FAILED, reason, stop="unreachable" if network else "down")
            self._note(errand.beat("network" if network else "provider"))
            if self._stop.wait(1.0):
                raise OutcomeError(Outcome.DEFERRED, "the run is ending")

    def _retry_or_end(self, errand: Errand, decision: Decision, failures: int) -> None:
        if decision.kind is not verdict.Kind.RETRY:
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
            wait_s = waits.backoff_s(failures, decision.base_s, decision.cap_s, random.random)
        self._stop.wait(wait_s)

    def _exchange(self, errand: Errand, request: Request) -> verdict.Reply | verdict.Fault:
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
            self._circuits[request.budget] = self._circuits[request.budget].after(verdict.sign(exchange), now_s)
        if isinstance(exchange, Reply):
            errand.heard(exchange.date)
            headers = waits.rate_headers(exchange.headers, exchange.date)
            retry_after_s = waits.retry_after_s(exchange.headers.get("retry-after", ""), exchange.date)
            permits.report(Seen(exchange.status, lease.slot_s, *headers, retry_after_s))
        else:
            self._trouble = exchange.text
            permits.report(Seen(0, lease.slot_s, None, None, None, None, exchange.kind == "timeout"))
        return exchange


_OUTCOMES = {
    verdict.Kind.SPLIT: Outcome.REFUSED,
    verdict.Kind.FORBIDDEN: Outcome.FORBIDDEN,
    verdict.Kind.CREDENTIALS: Outcome.FAILED,
    verdict.Kind.STOP: Outcome.FAILED,
}

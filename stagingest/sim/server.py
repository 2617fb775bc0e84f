"""The imitation as a server on loopback: keys, limits, faults and a cache around `answer`."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType

import orjson

from stagingest.sim.answers.alpaca import DATA, TRADING
from stagingest.sim.answers.cache import Prepared, Shelf
from stagingest.sim.answers.massive import MASSIVE
from stagingest.sim.faults import PAGES, WIRES, Faults, Response, Wire, sent
from stagingest.sim.imitation import JSON, Answer, Imitation, imitation_of, split_target
from stagingest.sim.loop import Fields, Loop, fields, http_date
from stagingest.sim.market.calendar import utc_now
from stagingest.sim.market.market import Market
from stagingest.sim.policy import Fault, Limits, Policy
from stagingest.sim.questions import HOST, Refusal

OURS = (DATA, TRADING, MASSIVE)


@dataclass(frozen=True, slots=True)
class Logged:
    """A request as it came: no header values, so no secret but what the client put in its query.

    Args:
        path, query: decoded.
        headers: names, as sent.
        connection: number of the connection.
        at_s: monotonic seconds.
        status: of the answer; 0 when a fault kept it from being sent whole.
        fault: kind of the fault that spoiled the answer, '' for none.
    """

    path: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[str, ...]
    connection: int
    at_s: float
    status: int
    fault: str


class Server:
    """An imitation of Alpaca's data and trading hosts, and of Massive's, on one port of 127.0.0.1.

    Used in a `with` statement it serves from a thread of its own; `serve_forever` serves in the caller's.
    `GET /__stats` answers counters as JSON, `GET /__reset` begins them anew.

    Args:
        market: the prices (see `market_from`).
        policy: everything else.
        port: 0 for any free one.
        clock: the provider's time, aware; bars end there, and `Date` tells it.
        ticks: seconds that always run, for rate budgets and the log.
        imitations: hosts of further providers.
    """

    def __init__(
        self,
        market: Market,
        policy: Policy | None = None,
        *,
        port: int = 0,
        clock: Callable[[], datetime] = utc_now,
        ticks: Callable[[], float] = time.monotonic,
        imitations: tuple[Imitation, ...] = (),
    ) -> None:
        self.market = market
        self._imitations = (*OURS, *imitations)
        self._clock = clock
        self._ticks = ticks
        self.behave(policy or Policy())
        self.reset()
        self._loop = Loop(self._handle, port)
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    # --- life

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._loop.port

    @property
    def url(self) -> str:
        """The base URL of both hosts, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Server":
        self._thread = threading.Thread(target=self._loop.run, name="imitation", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.stop()
        if self._thread:
            self._thread.join()
        if self._failure and not error:
            raise self._failure

    def serve_forever(self) -> None:
        """Serve in the calling thread until `stop`, or an exception such as KeyboardInterrupt."""
        self._loop.run()

    def stop(self) -> None:
        """End `serve_forever`; from any thread or signal handler."""
        self._loop.stop()

    # --- what tests ask and change

    def behave(self, policy: Policy) -> None:
        """Go on under another policy, with fresh budgets, fault counts and cache."""
        self.policy = policy
        self._limits = Limits(policy)
        self._faults = Faults(policy.faults)
        self._shelf = Shelf(self.market, policy, self._imitations)

    @property
    def hung(self) -> threading.Event:
        """Set while a request hangs (fault `hang`)."""
        return self._loop.hung

    def release(self) -> None:
        """Answer the requests that hang."""
        self._loop.release()

    @property
    def log(self) -> list[Logged]:
        """The last requests, oldest first."""
        return [
            Logged(*split_target(target), headers, connection, at_s, status, fault)
            for target, headers, connection, at_s, status, fault in list(self._log)
        ]

    @property
    def stats(self) -> dict[str, object]:
        """Counters since the start or the last reset: requests, answers by status, faults, bytes and rows sent."""
        return {
            "requests": sum(self._statuses.values()),
            "statuses": {str(status): count for status, count in sorted(self._statuses.items())},
            "faults": self._faulted,
            "bytes": self._bytes,
            "rows": self._rows,
            "connections": self._loop.opened - self._opened_before,
            "busiest_second": _busiest([entry[3] for entry in list(self._log)]),
            "cpu_s": round(time.process_time() - self._cpu_before, 3),
        }

    def reset(self) -> None:
        """Forget the log and the counters."""
        self._log: deque[tuple[str, tuple[str, ...], int, float, int, str]] = deque(maxlen=self.policy.log_size)
        self._statuses: Counter[int] = Counter()
        self._faulted = self._bytes = self._rows = 0
        self._opened_before = self._loop.opened if hasattr(self, "_loop") else 0
        self._cpu_before = time.process_time()

    # --- one request

    def _handle(self, connection: int, head: bytes) -> Wire:
        try:
            return self._respond(connection, head)
        except Exception as error:  # noqa: BLE001  a thread cannot raise to its test; __exit__ does
            self._failure = error
            return Wire((), "close")

    def _respond(self, connection: int, head: bytes) -> Wire:
        line, _, rest = head.partition(b"\r\n")
        words = line.decode("latin-1").split(" ")
        if len(words) != 3 or words[0] != "GET":
            return Wire((Response(405, b"", content_type="text/plain").head(),), "close")
        target, told = words[1], fields(rest)
        if target.startswith("/__"):
            return self._admin(target)
        now, tick_s = self._clock(), self._ticks()
        status, fault, wire = self._decide(target, told, now, tick_s)
        self._log.append((target, told.names, connection, tick_s, status, fault))
        self._statuses[status] += 1
        closing = told.close or not self.policy.keep_alive or words[2] == "HTTP/1.0"
        then = "close" if closing and wire.then == "keep" else wire.then
        return replace(wire, then=then, delay_s=self.policy.latency_s)

    def _decide(self, target: str, told: Fields, now: datetime, tick_s: float) -> tuple[int, str, Wire]:
        """Status, kind of fault or '', and what is sent."""
        headers: tuple[tuple[str, str], ...] = (("Date", http_date(int(now.timestamp()))),)
        imitation = imitation_of(target, self._imitations)
        key, secret = imitation.key(told.values, target)
        if not imitation.admits(self.policy, key, secret):
            status = imitation.key_status or self.policy.forbidden_status
            return self._say(imitation.refused(Refusal(status, imitation.forbidden)), headers)
        verdict = self._limits.take(key, imitation.name, tick_s, now.timestamp())
        limited = headers + verdict.headers if imitation.tells_rate else headers
        if not verdict.allowed:
            return self._say(imitation.refused(Refusal(429, imitation.limited)), limited)
        return self._served(target, told, now, headers, limited)

    def _served(
        self,
        target: str,
        told: Fields,
        now: datetime,
        headers: tuple[tuple[str, str], ...],
        limited: tuple[tuple[str, str], ...],
    ) -> tuple[int, str, Wire]:
        path = target.partition("?")[0]
        fault = self._fault(path, target)
        if fault and fault.kind in WIRES:
            self._faulted += 1
            reply = self._reply(self._shelf.get(target, now, gzip=told.gzip), limited)
            return fault.status if fault.kind == "status" else 0, fault.kind, WIRES[fault.kind](fault, reply)
        if fault:
            self._faulted += 1
            return self._say(self._spoiled(fault, target, now), limited, fault.kind)
        return self._plain(self._shelf.get(target, now, gzip=told.gzip), headers, limited)

    def _plain(
        self, found: Prepared, headers: tuple[tuple[str, str], ...], limited: tuple[tuple[str, str], ...]
    ) -> tuple[int, str, Wire]:
        """A prepared answer, its fixed head first, so that nothing is built anew."""
        status = found.answer.status
        self._bytes += len(found.body)
        self._rows += found.answer.rows
        own = headers if status in (401, 403) or status >= 500 else limited
        lines = "".join(f"\r\n{name}: {value}" for name, value in own).encode("latin-1")
        return status, "", Wire((found.head + lines + b"\r\n\r\n", found.body))

    def _say(self, found: Answer, headers: tuple[tuple[str, str], ...], fault: str = "") -> tuple[int, str, Wire]:
        self._bytes += len(found.body)
        self._rows += found.rows
        return found.status, fault, sent(Response(found.status, found.body, headers, found.content_type))

    def _reply(self, found: Prepared, headers: tuple[tuple[str, str], ...]) -> Response:
        return Response(found.answer.status, found.body, headers, found.answer.content_type, found.gzipped)

    def _fault(self, path: str, target: str) -> Fault | None:
        if not self.policy.faults:
            return None
        query = "&".join(f"{name}={value}" for name, value in split_target(target)[1])
        return self._faults.choose(path, f"{path}?{query}")

    def _spoiled(self, fault: Fault, target: str, now: datetime) -> Answer:
        true = self._shelf.answer(target, now)
        path, query = target.partition("?")[::2]
        asked = dict(split_target(target)[1])
        token = asked.get("page_token", "") or (f"{HOST}{target}" if "cursor" in asked else "")
        first = "&".join(part for part in query.split("&") if not part.startswith("page_token="))

        def first_page() -> bytes:
            return self._shelf.answer(f"{path}?{first}", now).body

        return replace(true, body=PAGES[fault.kind](true.body, token, first_page)) if true.status == 200 else true

    def _admin(self, target: str) -> Wire:
        if target == "/__reset":
            self.reset()
        elif target != "/__stats":
            return sent(Response(404, b"Not Found", content_type="text/plain"))
        return sent(Response(200, orjson.dumps(self.stats), content_type=JSON))


def _busiest(moments: list[float]) -> int:
    """The most requests in any second."""
    most = first = 0
    for last, at_s in enumerate(moments):
        while at_s - moments[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most

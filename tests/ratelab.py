"""Simulated providers and a simulated fleet of lanes on a simulated clock: what a rate is worth in answers."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from stagingest.limiter import Lease
from stagingest.pace import Pace, Seen


class Door(Protocol):
    """What a fleet takes its permits from: a `limiter.Gate`, or one made of `pace` alone."""

    def lease(self) -> Lease: ...
    def stale(self, lease: Lease) -> bool: ...
    def report(self, seen: Seen) -> object: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider replies; the fields of `Seen` that come from it."""

    status: int
    limit: int | None = None
    remaining: int | None = None
    reset_in_s: float | None = None
    retry_after_s: float | None = None


Provider = Callable[[float], Answer]


@dataclass(slots=True)
class Bucket:
    """A token bucket; `limit(now_s)` per second, `size` tokens, full at first; headers of the refill reading."""

    limit: Callable[[float], float]
    size: float
    headers: bool = False
    tokens: float = field(init=False)
    at_s: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.size

    def __call__(self, now_s: float) -> Answer:
        rate = self.limit(now_s)
        self.tokens = min(self.size, self.tokens + rate * (now_s - self.at_s))
        self.at_s = now_s
        ok = self.tokens >= 1
        self.tokens -= ok
        if not self.headers:
            return Answer(200 if ok else 429)
        next_token = now_s + (1 - self.tokens % 1) / rate
        reset = float(int(next_token) + 1 - int(now_s))
        return Answer(200 if ok else 429, round(rate * 60), int(self.tokens), reset)


@dataclass(slots=True)
class FixedWindow:
    """`limit(now_s)` per second times `window_s`, renewed at once; `says` is '', 'headers' or 'retry-after'."""

    limit: Callable[[float], float]
    window_s: float = 60.0
    says: str = ""
    phase_s: float = 0.0
    used: int = 0
    window: int = -1

    def __call__(self, now_s: float) -> Answer:
        window = int((now_s + self.phase_s) // self.window_s)
        if window != self.window:
            self.window, self.used = window, 0
        quota = round(self.limit(now_s) * self.window_s)
        ok = self.used < quota
        self.used += ok
        reset = (window + 1) * self.window_s - self.phase_s
        if self.says == "headers":
            whole = float(int(reset) + 1 - int(now_s))
            return Answer(200 if ok else 429, round(quota * 60 / self.window_s), quota - self.used, whole)
        if self.says == "retry-after" and not ok:
            return Answer(429, retry_after_s=float(int(reset - now_s) + 1))
        return Answer(200 if ok else 429)


@dataclass(slots=True)
class Tally:
    """What the provider counted: answers, refusals, and the moments of the answers."""

    answered: int = 0
    refused: int = 0
    at_s: list[float] = field(default_factory=list)

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.answered + self.refused)

    def goodput(self, allowed: float) -> float:
        """Answers over what the provider would have answered at best."""
        return self.answered / allowed


class Fleet:
    """Processes of lanes: in each, one lane at a time waits for a permit; the others wait for it or for an answer."""

    SLICE_S = 0.05

    def __init__(self, door: Door, provider: Provider, *, processes: int, lanes: int, latency_s: float, seed: int):
        self._door, self._provider, self._latency_s = door, provider, latency_s
        self._dice = random.Random(seed)
        self._idle = [lanes] * processes
        self._lease: list[Lease | None] = [None] * processes
        self._events: list[tuple[float, int, int, object]] = []
        self._count = 0
        self.now_s = 0.0
        self.tally = Tally()

    def run(self, until_s: float) -> Tally:
        for process in range(len(self._idle)):
            self._ask(process)
        while self._events and self._events[0][0] < until_s:
            self.now_s, _, process, what = heapq.heappop(self._events)
            if what is None:
                self._wake(process)
            elif isinstance(what, Lease):
                self._arrive(process, what)
            else:
                self._end(process, what)
        return self.tally

    def _at(self, at_s: float, process: int, what: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, process, what))

    def _ask(self, process: int) -> None:
        if self._idle[process] and self._lease[process] is None:
            self._lease[process] = self._door.lease()
            self._wake(process)

    def _wake(self, process: int) -> None:
        lease = self._lease[process]
        assert lease is not None
        if self._door.stale(lease):
            lease = self._lease[process] = self._door.lease()
        if lease.slot_s > self.now_s:
            self._at(min(lease.slot_s, self.now_s + self.SLICE_S), process, None)
            return
        self._lease[process] = None
        self._idle[process] -= 1
        self._at(self.now_s + self._half_trip(), process, lease)
        self._ask(process)

    def _half_trip(self) -> float:
        return self._latency_s / 2 * self._dice.lognormvariate(0, 0.3)

    def _arrive(self, process: int, lease: Lease) -> None:
        answer = self._provider(self.now_s)
        self.tally.answered += answer.status == 200
        self.tally.refused += answer.status == 429
        if answer.status == 200:
            self.tally.at_s.append(self.now_s)
        seen = Seen(
            answer.status, lease.slot_s, answer.limit, answer.remaining, answer.reset_in_s, answer.retry_after_s
        )
        self._at(self.now_s + self._half_trip(), process, seen)

    def _end(self, process: int, seen: object) -> None:
        assert isinstance(seen, Seen)
        self._door.report(seen)
        self._idle[process] += 1
        self._ask(process)

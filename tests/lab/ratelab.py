"""Simulated providers and a simulated fleet of lanes on a simulated clock: what a rate is worth in answers."""

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from stagingest.http.rate import Feedback
from stagingest.http.rate_limiter import Permit

LATENCY_S = 0.25
SLICE_S = 0.05


class Door(Protocol):
    """What a fleet takes its permits from: a `limiter.Gate`, or one made of `pace` alone."""

    def permit(self) -> Permit: ...
    def stale(self, permit: Permit) -> bool: ...
    def report(self, seen: Feedback) -> object: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider replies; the fields of `Seen` that come from it."""

    status: int
    limit: int | None = None
    remaining: int | None = None
    reset_in_s: float | None = None
    retry_after_s: float | None = None


Limit = Callable[[float], float]


class Provider(Protocol):
    """Answers one request that arrives at `now_s`."""

    def __call__(self, now_s: float) -> Answer: ...


@dataclass(slots=True)
class Bucket:
    """A token bucket; `limit(now_s)` per second, `size` tokens, full at first; headers of the refill reading."""

    limit: Limit
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

    limit: Limit
    window_s: float = 60.0
    says: str = ""
    phase_s: float = 0.0
    left: int = 0
    quota: int = 0
    reset_s: float = 0.0

    def __call__(self, now_s: float) -> Answer:
        if now_s >= self.reset_s:
            begins_s = (now_s + self.phase_s) // self.window_s * self.window_s - self.phase_s
            self.reset_s = begins_s + self.window_s
            first = self.quota == 0
            self.quota = self.left = round(self.limit(begins_s) * self.window_s)
            if first:  # others used the window until now
                self.left = 2 + int(self.quota * (self.reset_s - now_s) / self.window_s)
        status = 200 if self.left else 429
        self.left = max(0, self.left - 1)
        if self.says == "headers":
            per_minute = round(self.quota * 60 / self.window_s)
            return Answer(status, per_minute, self.left, float(int(self.reset_s) + 1 - int(now_s)))
        if self.says == "retry-after" and status == 429:
            return Answer(status, retry_after_s=float(int(self.reset_s - now_s) + 1))
        return Answer(status)


@dataclass(slots=True)
class Tally:
    """What the provider counted."""

    answered: int = 0
    refused: int = 0

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.answered + self.refused)


class Fleet:
    """Processes of lanes: in each, one lane at a time waits for a permit; the others wait for it or for an answer."""

    def __init__(self, provider: Provider, *, processes: int, lanes: int, seed: int, dies_s: float = math.inf):
        """`lanes` in each process; the second process is no more from `dies_s` on, whatever it was doing."""
        self._provider = provider
        self._dice = random.Random(seed)
        self._dies_s = dies_s
        self._idle = [lanes] * processes
        self._lease: list[Permit | None] = [None] * processes
        self._door: Door
        self._events: list[tuple[float, int, int, object]] = []
        self._count = 0
        self.now_s = 0.0
        self.counts = Tally()

    def clock(self) -> float:
        return self.now_s

    def run(self, door: Door, until_s: float) -> Tally:
        self._door = door
        for process in range(len(self._idle)):
            self._ask(process)
        while self._events and self._events[0][0] < until_s:
            self.now_s, _, process, what = heapq.heappop(self._events)
            if process == 1 and self.now_s >= self._dies_s:
                continue
            if what is None:
                self._wake(process)
            elif isinstance(what, Permit):
                self._arrive(process, what)
            else:
                self._end(process, what)
        return self.counts

    def _at(self, at_s: float, process: int, what: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, process, what))

    def _ask(self, process: int) -> None:
        if self._idle[process] and self._lease[process] is None:
            self._lease[process] = self._door.permit()
            self._wake(process)

    def _wake(self, process: int) -> None:
        permit = self._lease[process]
        assert permit is not None
        if self._door.stale(permit):
            permit = self._lease[process] = self._door.permit()
        if permit.slot_s > self.now_s:
            self._at(min(permit.slot_s, self.now_s + SLICE_S), process, None)
            return
        self._lease[process] = None
        self._idle[process] -= 1
        self._at(self.now_s + self._half_trip(), process, permit)
        self._ask(process)

    def _half_trip(self) -> float:
        return LATENCY_S / 2 * self._dice.lognormvariate(0, 0.3)

    def _arrive(self, process: int, permit: Permit) -> None:
        answer = self._provider(self.now_s)
        self.counts.answered += answer.status == 200
        self.counts.refused += answer.status == 429
        told = (answer.limit, answer.remaining, answer.reset_in_s, answer.retry_after_s)
        seen = Feedback(answer.status, permit.slot_s, *told)
        self._at(self.now_s + self._half_trip(), process, seen)

    def _end(self, process: int, seen: object) -> None:
        assert isinstance(seen, Feedback)
        self._door.report(seen)
        self._idle[process] += 1
        self._ask(process)


def steady(per_s: float) -> Limit:
    return lambda now_s: per_s


def halving(per_s: float, at_s: float) -> Limit:
    return lambda now_s: per_s if now_s < at_s else per_s / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """A provider, how long it is asked, and what must come of it.

    Args:
        name: what it is.
        make: the provider, its window's phase drawn from a seed.
        allowed: requests it answers at best in `seconds`.
        lowest_per_s: the provider's lowest plan, where the search begins.
        least: of the allowed requests that must be answered.
        most: share of refused requests.
        cap_per_s: the user's own limit.
        dies_s: when one of the two processes is killed.
    """

    name: str
    make: Callable[[random.Random], Provider]
    allowed: float
    seconds: float
    lowest_per_s: float
    least: float
    most: float
    cap_per_s: float | None = None
    dies_s: float = math.inf

    def play(self, limiter: Callable[[Callable[[], float]], Door], seed: int) -> Tally:
        """The tally of a fleet of two processes that takes its permits from `gate(clock)`."""
        per_s = self.allowed / self.seconds
        lanes = max(4, math.ceil(1.5 * per_s * LATENCY_S))
        each = lanes if self.dies_s < math.inf else math.ceil(lanes / 2)
        fleet = Fleet(self.make(random.Random(seed)), processes=2, lanes=each, seed=seed, dies_s=self.dies_s)
        return fleet.run(limiter(fleet.clock), self.seconds)


_MINUTE = 60.0
_QUARTER = 900.0
_HOUR = 3600.0


def _window(limit: Limit, says: str = "") -> Callable[[random.Random], Provider]:
    return lambda dice: FixedWindow(limit, _MINUTE, says, phase_s=dice.uniform(0, _MINUTE))


def _bucket(limit: Limit, size: float, *, headers: bool = False) -> Callable[[random.Random], Provider]:
    return lambda dice: Bucket(limit, size, headers)


def scenes(name: str, per_s: float, lowest_per_s: float, size: float) -> list[Scene]:
    """The bar for a provider of `per_s`: 15 minutes of each way to keep a limit (buckets hold `size`)."""
    steadily, half = steady(per_s), halving(per_s, _QUARTER / 2)
    full, less = per_s * _QUARTER, per_s * _QUARTER * 0.75

    def scene(
        what: str, make: Callable[[random.Random], Provider], least: float, most: float, held: float = 0.0
    ) -> Scene:
        return Scene(f"{name}, {what}", make, full + held, _QUARTER, lowest_per_s, least, most)

    kept = scene("bucket, cap at 98 %", _bucket(steadily, size), 0.979, 0.0)
    windowed = scene("window, cap at 98 %", _window(steadily), 0.979, 0.0)
    halves = scene("bucket that halves", _bucket(half, size), 0.98, 0.012)
    silent = scene("window that halves", _window(half), 0.85, 0.02)
    told = scene("window that halves, headers", _window(half, "headers"), 0.98, 0.012)
    killed = [
        scene("bucket, one process killed", _bucket(steadily, size), 0.98, 0.012),
        scene("window, headers, one process killed", _window(steadily, "headers"), 0.98, 0.012),
        scene("window that says nothing, one process killed", _window(steadily), 0.85, 0.02),
        replace(scene("bucket, cap at 98 %, one process killed", kept.make, 0.979, 0.0), cap_per_s=0.98 * per_s),
    ]
    return [
        scene("bucket", _bucket(steadily, size), 0.98, 0.012),
        scene("bucket of a minute", _bucket(steadily, 60 * per_s), 0.98, 0.012, held=60 * per_s),
        scene("bucket, headers", _bucket(steadily, size, headers=True), 0.98, 0.012),
        scene("window, headers", _window(steadily, "headers"), 0.98, 0.012),
        scene("window, Retry-After", _window(steadily, "retry-after"), 0.98, 0.012),
        scene("window that says nothing", _window(steadily), 0.85, 0.02),
        replace(halves, allowed=less),
        replace(silent, allowed=less),
        replace(told, allowed=less),
        replace(kept, cap_per_s=0.98 * per_s),
        replace(windowed, cap_per_s=0.98 * per_s),
        *(replace(each, dies_s=_QUARTER / 2) for each in killed),
    ]


def _five(what: str, make: Callable[[random.Random], Provider]) -> Scene:
    return Scene(f"5/min, {what}", make, 300.0, _HOUR, 5 / 60, 0.85, 0.03)


BASIC = scenes("200/min", 200 / 60, 200 / 60, 10)
MIDDLE = scenes("20/s", 20.0, 200 / 60, 20)
PLUS = scenes("10,000/min", 10_000 / 60, 200 / 60, 167)
SLOW = [
    _five("bucket of one", _bucket(steady(5 / 60), 1)),
    _five("bucket", _bucket(steady(5 / 60), 5)),
    _five("window that says nothing", _window(steady(5 / 60))),
    _five("window, Retry-After", _window(steady(5 / 60), "retry-after")),
]

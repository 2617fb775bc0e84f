"""How many requests a key may make: a token bucket or a fixed window per key and host, and the headers that tell."""

import math
from dataclasses import dataclass

from stagingest.sim.policy import Policy


@dataclass(slots=True)
class _Budget:
    left: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass, and the rate headers of its answer."""

    allowed: bool
    headers: tuple[tuple[str, str], ...] = ()


class Limits:
    """The budgets of every (key, host)."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._budgets: dict[tuple[str, str], _Budget] = {}

    def take(self, key: str, host: str, tick_s: float, now_s: float) -> Verdict:
        """One request of `key` on `host` (`data` or `trading`).

        Budgets flow by `tick_s`, a clock that never stands still; headers tell the time in `now_s`, seconds since
        1970, which a caller may have frozen.
        """
        rate = self._policy.rate(host)
        if rate is None:
            return Verdict(allowed=True)
        window = self._policy.rate_mode == "window"
        size = rate if window else self._policy.burst or max(1, rate // 10)
        budget = self._budgets.setdefault((key, host), _Budget(size, tick_s // 60 * 60 if window else tick_s))
        (_turn if window else _flow)(budget, size, rate, tick_s)
        allowed = budget.left >= 1
        budget.left -= allowed
        wait_s = 60 - tick_s % 60 if window else max(0.0, math.floor(budget.left + 1) - budget.left) * 60 / rate
        return Verdict(allowed, self._headers(rate, budget.left, now_s, wait_s, allowed=allowed))

    def _headers(
        self, rate: int, left: float, now_s: float, wait_s: float, *, allowed: bool
    ) -> tuple[tuple[str, str], ...]:
        found: tuple[tuple[str, str], ...] = ()
        if self._policy.rate_headers:
            reset = math.ceil(now_s + wait_s)
            found = (
                ("X-RateLimit-Limit", str(rate)),
                ("X-RateLimit-Remaining", str(int(left))),
                ("X-RateLimit-Reset", str(reset)),
            )
        if self._policy.retry_after and not allowed:
            found += (("Retry-After", str(math.ceil(wait_s))),)
        return found


def _turn(budget: _Budget, size: int, rate: int, tick_s: float) -> None:
    if tick_s >= budget.at_s + 60:
        budget.left, budget.at_s = size, tick_s // 60 * 60


def _flow(budget: _Budget, size: int, rate: int, tick_s: float) -> None:
    budget.left = min(size, budget.left + max(0.0, tick_s - budget.at_s) * rate / 60)
    budget.at_s = tick_s

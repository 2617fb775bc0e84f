"""When a provider that does not answer is left alone, and when it is asked again: pure arithmetic over one value."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

UNREACHED_IN_A_ROW = 3
TROUBLED_IN_A_ROW = 8
TROUBLES_LOOKED_AT = 50
FEWEST_LOOKED_AT = 20
FIRST_PROBE_S, LAST_PROBE_S = 5.0, 60.0
_MASK = (1 << TROUBLES_LOOKED_AT) - 1


class Health(StrEnum):
    """What an exchange says about whether the provider can be asked."""

    ANSWERED = "answered"
    UNREACHED = "unreached"  # no connection: it is the network
    TROUBLED = "troubled"  # connected, and no usable answer: 5xx, silence, an answer that broke off


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Whether requests flow (closed) or one probe at a time asks if they may again (open).

    It opens after three failures to connect in a row, after eight exchanges in trouble in a row, or when more than
    half of the last fifty (twenty at least) were in trouble. A probe is due 5 s later, then after 10, 20, 40 and every
    60 s; the first answer closes it.
    Times are seconds of one monotonic clock.

    Args:
        why: the sign it opened on, None while closed.
        since_s: when it opened.
        probe_s: when the next probe is due.
        pause_s: between this probe and the next.
        probing: whether a probe is under way.
        unreached: failures to connect since anything was heard.
        troubles: the last exchanges as bits, newest lowest, 1 for trouble.
        seen: how many of those there are.
    """

    why: Health | None = None
    since_s: float = 0.0
    probe_s: float = 0.0
    pause_s: float = 0.0
    probing: bool = False
    unreached: int = 0
    troubles: int = 0
    seen: int = 0

    @property
    def open(self) -> bool:
        """Whether requests have to wait."""
        return self.why is not None

    def may_probe(self, now_s: float) -> bool:
        """Whether the next probe is due."""
        return self.open and not self.probing and now_s >= self.probe_s

    def probed(self, now_s: float) -> "CircuitBreaker":
        """A probe is sent."""
        pause_s = min(2 * self.pause_s, LAST_PROBE_S)
        return replace(self, probing=True, probe_s=now_s + pause_s, pause_s=pause_s)

    def after(self, sign: Health, now_s: float) -> "CircuitBreaker":
        """The circuit once an exchange has ended with `sign`."""
        if sign is Health.ANSWERED:
            if self.open:
                return CircuitBreaker()
            return replace(self, unreached=0, troubles=self.troubles << 1 & _MASK, seen=self._more())
        troubles = (self.troubles << 1 | 1) & _MASK
        unreached = self.unreached + 1 if sign is Health.UNREACHED else 0
        fresh = replace(self, unreached=unreached, troubles=troubles, seen=self._more(), probing=False)
        if self.open:
            return replace(fresh, why=Health.UNREACHED if unreached else self.why)
        return fresh._opened(now_s)

    def _more(self) -> int:
        return min(self.seen + 1, TROUBLES_LOOKED_AT)

    def _opened(self, now_s: float) -> "CircuitBreaker":
        if self.unreached >= UNREACHED_IN_A_ROW:
            why = Health.UNREACHED
        elif self._in_trouble():
            why = Health.TROUBLED
        else:
            return self
        return replace(self, why=why, since_s=now_s, probe_s=now_s + FIRST_PROBE_S, pause_s=FIRST_PROBE_S)

    def _in_trouble(self) -> bool:
        row = (1 << TROUBLED_IN_A_ROW) - 1
        most = self.seen >= FEWEST_LOOKED_AT and 2 * self.troubles.bit_count() > self.seen
        return most or self.troubles & row == row


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """What retries may still cost; answers at the first try earn it back."""

    tokens: int = 500
    most: int = 500

    def after_retry(self, cost: int) -> "RetryBudget | None":
        """The budget after a retry, or None when it cannot be afforded."""
        return replace(self, tokens=self.tokens - cost) if cost <= self.tokens else None

    def after_success(self, *, first_try: bool) -> "RetryBudget":
        """The budget after an answered page."""
        return replace(self, tokens=min(self.tokens + 1, self.most)) if first_try else self


def backoff_s(attempt: int, base: float, cap: float, uniform: Callable[[], float]) -> float:
    """Full jitter: a random wait of at most `base`, then twice, four times that, never above `cap` seconds.

    `attempt` counts from 1; `uniform` draws from [0, 1).
    """
    return uniform() * min(cap, base * 2.0 ** min(attempt - 1, 60))

"""How a rate answers to answers, refusals and headers: pure arithmetic over one small value.

Times are seconds of one monotonic clock that the caller reads; rates are requests per second. Order of
control: X-RateLimit headers, then Retry-After, then what refusals and answers themselves say (RELIABILITY 4.3).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

FLOOR_PER_S = 1 / 30
MOST_PER_S = 1e6
LONGEST_PAUSE_S = 900.0

_IDLE_S = 5.0  # after so long a rest, what was answered before says nothing about the limit
_SOON_S = 5.0
_SPENT_S = 2.0
_PERIOD_S = 75.0
_BURST_S = 0.04  # slots up to this old are still used, so that a late wake-up costs nothing
_CUT = 0.95  # what a refusal leaves of a rate that was about right
_MILD_CUT = 0.9
_DOUBLING_S = 2.0
_CLIMB_S = 10.0  # time constant towards the rate last refused
_PROBE_S = 90.0  # and away from it, once it is passed
_PROBE_MIN = 0.001  # share of the ceiling gained per second on the plateau
_PAUSE_S = 0.5
_PAUSE_MOST_S = 30.0
_TOLD = 0.99  # of the limit in the headers: no window can be overrun, no bucket runs dry
_RESET_SLACK_S = 0.25  # resets and dates are whole seconds


@dataclass(frozen=True, slots=True)
class Seen:
    """What one exchange says about the rate.

    Args:
        status: HTTP status, 0 when there was none.
        issued_s: slot of the permit it was sent with.
        limit: requests per minute the provider allows, from its headers.
        remaining: requests left until the reset.
        reset_in_s: seconds from the response's own Date to the reset.
        retry_after_s: seconds the provider asks us to wait.
        timed_out: no answer within the deadline.
    """

    status: int
    issued_s: float
    limit: int | None = None
    remaining: int | None = None
    reset_in_s: float | None = None
    retry_after_s: float | None = None
    timed_out: bool = False


class Pace(NamedTuple):
    """All that is known about a rate. A tuple, because a permit reads and writes one (4x cheaper than a dataclass).

    `epoch` grows whenever permits not yet used must be asked for anew. While `pause_s` > 0 the provider refuses
    and one permit is given per pause. `cap_per_s` is never exceeded; `declared_per_s` and `told_per_s` (0: none)
    are the user's plan and the provider's headers, which overrule it.
    """

    epoch: int
    answered: int
    refused: int
    marked: int  # `answered` when the period measured began, at `since_s`
    answered_then: int  # `answered` at the last cut
    searching: bool  # no refusal yet, and nothing declared: the rate doubles
    cap_per_s: float
    declared_per_s: float
    told_per_s: float
    rate_per_s: float
    ceiling_per_s: float  # the rate the last refusal showed to be the limit
    share_per_s: float  # what is left of the quota, over the time until it is renewed
    tat_s: float  # when the next permit is due (GCRA's theoretical arrival time)
    pause_until_s: float
    pause_s: float
    last_cut_s: float
    grown_s: float
    wasted_s: float  # time since `grown_s` in which slots were due and nobody came
    since_s: float

    @classmethod
    def start(
        cls, declared_per_s: float | None, lowest_plan_per_s: float, cap_per_s: float | None, now_s: float
    ) -> "Pace":
        """The pace of a provider nothing is known about yet: the declared plan, else a search from the lowest."""
        cap = min(cap_per_s or MOST_PER_S, MOST_PER_S)
        declared = min(declared_per_s or 0.0, MOST_PER_S)
        rate = min(declared or lowest_plan_per_s, cap)
        return cls(
            epoch=0, answered=0, refused=0, marked=0, answered_then=0, searching=not declared,
            cap_per_s=cap, declared_per_s=declared, told_per_s=0.0,
            rate_per_s=rate, ceiling_per_s=rate if declared else cap, share_per_s=MOST_PER_S,
            tat_s=now_s, pause_until_s=now_s, pause_s=0.0, last_cut_s=now_s - 1.0, grown_s=now_s, wasted_s=0.0, since_s=now_s,
        )  # fmt: skip

    @property
    def bound_per_s(self) -> float:
        """The highest rate that cap, headers and declared plan leave."""
        return min(self.cap_per_s, self.told_per_s or self.declared_per_s or MOST_PER_S)

    def sane(self, now_s: float) -> bool:
        """Whether this can have been written by us on this clock."""
        floats = self[6:]
        past = (self.last_cut_s, self.grown_s, self.since_s)
        return (
            all(map(math.isfinite, floats))
            and 0 < self.rate_per_s <= MOST_PER_S
            and 0 < self.ceiling_per_s <= MOST_PER_S
            and 0 < self.share_per_s <= MOST_PER_S
            and self.cap_per_s > 0
            and max(past) <= now_s + 1.0
            and max(self.tat_s, self.pause_until_s) <= now_s + 2 * LONGEST_PAUSE_S
        )

    def halved(self) -> "Pace":
        """The same at half the rate."""
        return self._replace(rate_per_s=self.rate_per_s / 2)


def grant(pace: Pace, now_s: float, k: int = 1) -> tuple[float, Pace]:
    """The slot at which the next `k` permits may be used (never before `now_s`), and the pace without them."""
    due = max(pace.tat_s, now_s - _BURST_S)
    step = pace.pause_s or k / min(pace.rate_per_s, pace.share_per_s)
    wasted = due - pace.tat_s
    if wasted > _IDLE_S + 3 * step:
        pace = pace._replace(since_s=now_s, marked=pace.answered)
    return max(due, now_s), pace._replace(tat_s=due + step, wasted_s=pace.wasted_s + wasted)


def after(pace: Pace, seen: Seen, now_s: float) -> Pace:
    """The pace once an exchange is over."""
    limited = seen.status == 429 or (seen.status == 503 and _seconds(seen.retry_after_s) is not None)
    answered = 0 < seen.status < 500 and not limited
    pace = pace._replace(answered=pace.answered + answered, refused=pace.refused + limited)
    pace = _told(pace, seen, now_s)
    if limited:
        return _refused(pace, seen, now_s)
    if answered:
        return _answered(pace, seen, now_s)
    if seen.timed_out or seen.status == 503:
        return _slowed(pace, seen, now_s)
    return pace


def _seconds(value: float | None) -> float | None:
    """A wait the provider named, within reason, or None when it named none."""
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return min(value, LONGEST_PAUSE_S)


def _at(pace: Pace, rate_per_s: float) -> Pace:
    bound = pace.bound_per_s
    return pace._replace(rate_per_s=min(max(rate_per_s, min(FLOOR_PER_S, bound)), bound))


def _told(pace: Pace, seen: Seen, now_s: float) -> Pace:
    """Headers: a new limit is taken at once; what is left of the quota bounds the rate until it is renewed."""
    if seen.limit is not None and seen.limit > 0:
        told = min(_TOLD * seen.limit / 60, MOST_PER_S)
        if told != pace.told_per_s:
            pace = _jumped(pace._replace(told_per_s=told), now_s)
    reset = _seconds(seen.reset_in_s)
    if seen.remaining is None or reset is None:
        return pace
    if seen.remaining > 0:
        share = seen.remaining / (reset - 1.0) if reset > _SPENT_S else MOST_PER_S
        return pace._replace(share_per_s=min(share, MOST_PER_S))
    return _paused(pace._replace(share_per_s=MOST_PER_S), now_s + reset + _RESET_SLACK_S)


def _jumped(pace: Pace, now_s: float) -> Pace:
    pace = _at(pace, pace.bound_per_s)
    tat = max(pace.pause_until_s, min(pace.tat_s, now_s + 1 / pace.rate_per_s))
    return pace._replace(epoch=pace.epoch + 1, searching=False, ceiling_per_s=pace.rate_per_s, tat_s=tat)


def _paused(pace: Pace, until_s: float) -> Pace:
    if until_s <= pace.pause_until_s:
        return pace
    return pace._replace(epoch=pace.epoch + 1, pause_until_s=until_s, tat_s=until_s)


def _refused(pace: Pace, seen: Seen, now_s: float) -> Pace:
    if seen.issued_s <= pace.last_cut_s:
        return pace  # sent before the last cut: the same congestion, already answered
    pause = min(max(2 * pace.pause_s, _PAUSE_S, 2 / pace.rate_per_s), _PAUSE_MOST_S)
    reset, after_s = _seconds(seen.reset_in_s), _seconds(seen.retry_after_s)
    named = reset + _RESET_SLACK_S if reset else after_s
    grown_s = pace.grown_s if pace.pause_s else now_s
    pace = _cut(pace, now_s, named or 0.0)
    pace = pace._replace(grown_s=grown_s, last_cut_s=now_s, pause_s=pause, pause_until_s=now_s, answered_then=pace.answered)
    return _paused(pace, now_s + (named or pause))


def _cut(pace: Pace, now_s: float, named_s: float) -> Pace:
    """The rate after a refusal, and the limit it suggests.

    Between two refusals a provider answers what it allows: that count over that time is the limit. A quota that
    stays spent for a whole pause is one of a minute: the rate was too high by the part of it that is left. A first
    refusal while the rate was doubling says only that the last doubling was too much.
    """
    rate = pace.rate_per_s
    if pace.told_per_s:
        return _at(pace, _CUT * rate)._replace(ceiling_per_s=rate)
    top = pace.ceiling_per_s if pace.pause_s else rate
    period_s = now_s + named_s - pace.since_s
    measured = (pace.answered - pace.marked) / max(period_s, 1e-3)
    known_s = _PERIOD_S * max(1.0, 2 / rate)
    if pace.pause_s or named_s > max(_SPENT_S, 4 / rate):
        before_s = pace.last_cut_s - pace.grown_s if pace.pause_s else 0.0
        spent_s = now_s + named_s - (pace.grown_s if pace.pause_s else now_s)
        limit = min(top, measured) if period_s < known_s else top * _left(spent_s) / _left(before_s)
    elif pace.searching:
        return _at(pace, rate / 2)._replace(ceiling_per_s=rate, searching=False)
    else:
        least = 0.5 if period_s < _SOON_S * max(1.0, 2 / rate) else 0.85
        limit = min(rate, max(measured, least * rate)) if period_s < known_s else rate
    limit = max(limit, FLOOR_PER_S)
    return _at(pace, _CUT * limit)._replace(ceiling_per_s=limit, searching=False)


def _left(spent_s: float) -> float:
    return max(1 - spent_s / 60, 0.1)


def _answered(pace: Pace, seen: Seen, now_s: float) -> Pace:
    if pace.pause_s:
        return _reopened(pace, seen, now_s) if seen.issued_s > pace.last_cut_s else pace
    grown = _grown(pace, now_s - pace.grown_s - 2 * pace.wasted_s)
    return grown._replace(grown_s=now_s, wasted_s=0.0)


def _reopened(pace: Pace, seen: Seen, now_s: float) -> Pace:
    """The provider answers again: sleepers ask anew, and a new period to measure began at the last refusal."""
    return pace._replace(
        epoch=pace.epoch + 1, pause_s=0.0, pause_until_s=now_s, tat_s=seen.issued_s + 1 / pace.rate_per_s, grown_s=now_s, wasted_s=0.0,
        since_s=pace.last_cut_s, marked=pace.answered_then,
    )  # fmt: skip


def _grown(pace: Pace, used_s: float) -> Pace:
    """The rate after `used_s` of use without a refusal: doubling, else quickly back to the ceiling and slowly on."""
    rate, ceiling = pace.rate_per_s, pace.ceiling_per_s
    if used_s <= 0:
        return pace
    if pace.searching:
        return _at(pace, rate * 2 ** min(used_s / _DOUBLING_S, 0.25))
    below = 1 - rate / ceiling
    slope = max(_PROBE_MIN, below / _CLIMB_S if below > 0 else -below / _PROBE_S)
    return _at(pace, rate + ceiling * slope * used_s / max(1.0, 20 / rate) ** 0.5)


def _slowed(pace: Pace, seen: Seen, now_s: float) -> Pace:
    """A deadline passed or a 503: slower, once per event."""
    if pace.pause_s or seen.issued_s <= pace.last_cut_s:
        return pace
    return _at(pace, _MILD_CUT * pace.rate_per_s)._replace(last_cut_s=now_s)

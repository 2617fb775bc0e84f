"""How a rate answers to answers, refusals and headers: pure arithmetic over one small value.

Times are seconds of one monotonic clock that the caller reads; rates are requests per second. Order of
control: X-RateLimit headers, then Retry-After, then what the refusals themselves show.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

FLOOR_PER_S = 1 / 30
MOST_PER_S = 1e6
LONGEST_PAUSE_S = 900.0

_BURST_S = 0.04  # slots up to this old are still used, so that a late wake-up costs nothing
_WASTE_MOST_S = 1.0  # of unused time still counts after an answer
_IDLE_S = 5.0  # after such a rest, what was answered before says nothing about the limit
_TOLD = 0.995  # of the limit in the headers: at this rate no window is overrun and no bucket runs dry
_RESET_SLACK_S = 0.25  # resets and dates are whole seconds
_DOUBLING_S = 2.0
_PAUSE_S, _PAUSE_MOST_S = 0.5, 30.0
_CUT, _MILD_CUT = 0.95, 0.9
_CLIMB_S = 10.0  # time constant towards the ceiling
_PROBE_S = 90.0  # time constant away from it, once it is passed
_PROBE_LEAST = 0.001  # of the ceiling gained per second near it
WINDOW_S = 60.0  # providers count in minutes
_PERIOD_S = 75.0  # a longer time between refusals is the rate's own past, not a measurement
_SOON_S = 5.0  # a refusal so soon after the last means that the rate is far off
_FEW, _MANY = 3, 8  # answers: too few to tell a limit, enough to trust one
_LONG_S = 2.0  # a longer wait means a spent quota, not a bucket that trickles


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one exchange says about the rate.

    Args:
        status: HTTP status, 0 when there was none.
        issued_s: `slot_s` of the permit it was sent with.
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


class RateState(NamedTuple):
    """All that is known about a rate (a tuple: every permit makes one, and a dataclass takes five times as long).

    While `pause_s` > 0 the provider refuses, and one permit is given per pause to ask whether it still does.
    """

    epoch: int  # grows whenever permits not used yet must be asked for anew
    answered: int
    refused: int
    answered_at_cut: int  # `answered` at `last_cut_s`
    answered_before: int  # `answered` at `since_s`
    searching: bool  # nothing declared and no refusal yet: the rate doubles
    cap_per_s: float  # never exceeded
    declared_per_s: float  # the user's plan, 0 for none; headers overrule it
    told_per_s: float  # what the headers allow, 0 for none
    rate_per_s: float
    ceiling_per_s: float  # where the last refusal put the limit
    share_per_s: float  # what is left of the quota over the time until it is renewed
    tat_s: float  # when the next permit is due (GCRA's theoretical arrival time)
    pause_until_s: float
    pause_s: float
    last_cut_s: float
    reviewed_s: float  # when the rate last grew, or, while the provider refuses, when that began
    wasted_s: float  # time since then in which permits were due and nobody came
    since_s: float  # when the provider last began to answer: the start, a renewal, or the end of a rest

    @classmethod
    def start(
        cls, declared_per_s: float | None, lowest_plan_per_s: float, cap_per_s: float | None, now_s: float
    ) -> "RateState":
        """The state where nothing is known yet: the declared plan's, else a search upward from the lowest plan."""
        cap = min(cap_per_s or MOST_PER_S, MOST_PER_S)
        declared = min(declared_per_s or 0.0, MOST_PER_S)
        rate = min(declared or lowest_plan_per_s, cap)
        return cls(
            epoch=0, answered=0, refused=0, answered_at_cut=0, answered_before=0, searching=not declared,
            cap_per_s=cap, declared_per_s=declared, told_per_s=0.0,
            rate_per_s=rate, ceiling_per_s=rate, share_per_s=MOST_PER_S,
            tat_s=now_s, pause_until_s=now_s, pause_s=0.0,
            last_cut_s=now_s - 1.0, reviewed_s=now_s, wasted_s=0.0, since_s=now_s,
        )  # fmt: skip

    @property
    def bound_per_s(self) -> float:
        """The highest rate that cap, headers and declared plan leave."""
        return min(self.cap_per_s, self.told_per_s or self.declared_per_s or MOST_PER_S)

    @property
    def granted_per_s(self) -> float:
        """The rate at which permits are given."""
        return 1 / self.pause_s if self.pause_s else min(self.rate_per_s, self.share_per_s)

    def sane(self, now_s: float) -> bool:
        """Whether this can have been written by us, on this clock."""
        rates = (self.cap_per_s, self.rate_per_s, self.ceiling_per_s, self.share_per_s)
        return (
            all(map(math.isfinite, self))
            and all(0 < rate <= MOST_PER_S for rate in rates)
            and 0 <= self.pause_s <= _PAUSE_MOST_S
            and max(self.last_cut_s, self.reviewed_s, self.since_s) <= now_s + 1.0
            and max(self.tat_s, self.pause_until_s) <= now_s + 2 * LONGEST_PAUSE_S
        )


def grant(state: RateState, now_s: float, k: int = 1) -> tuple[float, RateState]:
    """The slot at which the next `k` permits may be used (never before `now_s`), and the state without them."""
    due_s = max(state.tat_s, now_s - _BURST_S)
    step_s = k / state.granted_per_s
    wasted_s = due_s - state.tat_s
    if wasted_s > _IDLE_S + 3 * step_s:
        state = state._replace(since_s=now_s, answered_before=state.answered)
    return max(due_s, now_s), state._replace(tat_s=due_s + step_s, wasted_s=state.wasted_s + wasted_s)


def after(state: RateState, seen: Feedback, now_s: float) -> RateState:
    """The state once an exchange is over."""
    limited = seen.status == 429 or (seen.status == 503 and _wait(seen.retry_after_s) is not None)
    answered = 0 < seen.status < 500 and not limited
    state = state._replace(answered=state.answered + answered, refused=state.refused + limited)
    state = _told(state, seen, now_s)
    if limited:
        return _refused(state, seen, now_s)
    if answered:
        return _answered(state, seen, now_s)
    return _slowed(state, seen, now_s) if seen.timed_out or seen.status == 503 else state


def _wait(named_s: float | None) -> float | None:
    """A wait the provider named, within reason; None when it named none that means anything."""
    return min(named_s, LONGEST_PAUSE_S) if named_s is not None and 0 <= named_s < math.inf else None


def at_rate(state: RateState, rate_per_s: float) -> RateState:
    """The state at another rate, as far as cap, headers and plan allow it."""
    return state._replace(rate_per_s=min(max(rate_per_s, FLOOR_PER_S), state.bound_per_s))


def _told(state: RateState, seen: Feedback, now_s: float) -> RateState:
    """Headers: a new limit holds at once, and what is left of the quota until the reset must last until then.

    They fit a fixed window and a bucket alike: a reset that is near says nothing about the rate, only that
    nothing is left until then when nothing is left.
    """
    if seen.limit is not None and seen.limit > 0:
        told = min(_TOLD * seen.limit / 60, MOST_PER_S)
        if told != state.told_per_s:
            state = _jumped(state._replace(told_per_s=told), now_s)
    reset_s = _wait(seen.reset_in_s)
    if seen.remaining is None or reset_s is None:
        return state
    if seen.remaining <= 0:
        return _paused(state._replace(share_per_s=MOST_PER_S), now_s + reset_s + _RESET_SLACK_S)
    share = seen.remaining / (reset_s - 1.0) if reset_s > _LONG_S else MOST_PER_S
    return state._replace(share_per_s=min(share, MOST_PER_S))


def _jumped(state: RateState, now_s: float) -> RateState:
    state = at_rate(state, state.bound_per_s)
    tat_s = max(state.pause_until_s, min(state.tat_s, now_s + 1 / state.rate_per_s))
    return state._replace(epoch=state.epoch + 1, searching=False, ceiling_per_s=state.rate_per_s, tat_s=tat_s)


def _paused(state: RateState, until_s: float) -> RateState:
    if until_s <= state.pause_until_s:
        return state
    return state._replace(epoch=state.epoch + 1, pause_until_s=until_s, tat_s=until_s)


def _refused(state: RateState, seen: Feedback, now_s: float) -> RateState:
    """One cut and one pause for all permits issued before it; it doubles while refusals go on, up to a renewal."""
    if seen.issued_s <= state.last_cut_s:
        return state
    pause_s = min(max(2 * state.pause_s, _PAUSE_S, 2 / state.rate_per_s), _PAUSE_MOST_S)
    reset_s = _wait(seen.reset_in_s)
    named_s = reset_s + _RESET_SLACK_S if reset_s is not None else _wait(seen.retry_after_s)
    began_s = state.reviewed_s if state.pause_s else now_s
    limit, rate = _limit(state, now_s, began_s, named_s or 0.0)
    state = at_rate(state, rate)._replace(
        ceiling_per_s=max(limit, FLOOR_PER_S), searching=state.searching and not state.answered,
        pause_s=pause_s, pause_until_s=now_s, last_cut_s=now_s, answered_at_cut=state.answered, reviewed_s=began_s,
    )  # fmt: skip
    return _paused(state, now_s + (named_s or min(pause_s, _unrenewed_s(state, now_s))))


def _unrenewed_s(state: RateState, now_s: float) -> float:
    """How long a quota of a minute may stay spent: a minute from its first answer, at most one from its refusal."""
    renewals = (began_s + WINDOW_S + _RESET_SLACK_S - now_s for began_s in (state.since_s, state.reviewed_s))
    return next((left_s for left_s in renewals if left_s > 0), math.inf)


def _limit(state: RateState, now_s: float, began_s: float, named_s: float) -> tuple[float, float]:
    """The limit that a refusal suggests, and the rate to go on with: the first one of a search takes back the
    last doubling; where the headers name the limit, the rate was about right; otherwise see below.
    """
    rate = state.rate_per_s
    if state.told_per_s:
        limit = rate
    elif state.pause_s or named_s > max(_LONG_S, 4 / rate):
        limit = _limit_of_quota(state, now_s + named_s, began_s)
    elif state.searching:
        return rate, rate / 2 if state.answered else rate
    else:
        limit = _limit_of_bucket(state, now_s)
    return limit, _CUT * limit


def _slow(rate_per_s: float) -> float:
    """How much longer it takes to see as much of a rate below 2/s."""
    return max(1.0, 2 / rate_per_s)


def _limit_of_quota(state: RateState, ends_s: float, began_s: float) -> float:
    """What stays spent for a whole pause does not trickle back: it is a quota, whose period ends with the pause.

    Its limit is what was answered from one renewal to the next; where that began too long ago, quotas are of a
    minute, and the rate was too high by the part of it that is left.
    """
    top = state.ceiling_per_s if state.pause_s else state.rate_per_s
    answered = state.answered - state.answered_before
    if answered < _FEW:
        return top  # somebody else has spent it
    period_s = max(ends_s - state.since_s, 1e-3)
    if period_s < _PERIOD_S * _slow(state.rate_per_s):
        return min(top, answered / period_s)
    known = _left(state.last_cut_s - began_s) if state.pause_s else 1.0
    return top * _left(ends_s - began_s) / known


def _limit_of_bucket(state: RateState, now_s: float) -> float:
    """Between two refusals a bucket was refilled by what it answered; if they lie far apart the rate was right."""
    rate, slow = state.rate_per_s, _slow(state.rate_per_s)
    began_s, before = state.last_cut_s, state.answered_at_cut
    if state.since_s - began_s > max(_LONG_S, 2 / rate):  # nothing trickled in during so long a pause
        began_s, before = state.since_s, state.answered_before
    period_s = max(now_s - began_s, 1e-3)
    if period_s > _PERIOD_S * slow:
        return rate
    measured = (state.answered - before) / period_s
    least = rate * (0.5 if period_s < _SOON_S * slow else 0.85) if state.refused > 1 else rate
    if state.answered - before >= _MANY:
        least = min(least, 4 * measured)  # the rate was declared far above what was ever sent
    return min(rate, max(measured, least))


def _left(spent_s: float) -> float:
    return max(1 - spent_s / WINDOW_S, 0.1)


def _answered(state: RateState, seen: Feedback, now_s: float) -> RateState:
    if not state.pause_s:
        return _grown(state, now_s)
    if seen.issued_s <= state.last_cut_s:
        return state
    # the provider answers again: sleepers ask anew
    return state._replace(
        epoch=state.epoch + 1, pause_s=0.0, pause_until_s=now_s, tat_s=seen.issued_s + 1 / state.rate_per_s,
        reviewed_s=now_s, wasted_s=0.0, since_s=now_s, answered_before=state.answered - 1,
    )  # fmt: skip


def _grown(state: RateState, now_s: float) -> RateState:
    """The rate after a time without refusals: doubling, else quickly to the ceiling and from there slowly on.

    Time in which permits were not wanted counts against growth, so that a rate which is not used does not grow.
    """
    rate, ceiling = state.rate_per_s, state.ceiling_per_s
    used_s = now_s - state.reviewed_s - 2 * state.wasted_s
    state = state._replace(reviewed_s=now_s, wasted_s=min(max(-used_s / 2, 0.0), _WASTE_MOST_S))
    if used_s <= 0:
        return state
    if state.searching:
        # four answers at least for a doubling: a slow plan must be heard before it is outrun
        return at_rate(state, rate * 2 ** min(used_s / _DOUBLING_S, 0.25))
    below = 1 - rate / ceiling
    slope = max(_PROBE_LEAST, below / _CLIMB_S, -below / _PROBE_S)
    step_s = min(used_s * min(1.0, rate / 20) ** 0.5, 1.0)  # slow plans pay more dearly for a refusal
    return at_rate(state, rate + ceiling * slope * step_s)


def _slowed(state: RateState, seen: Feedback, now_s: float) -> RateState:
    """A deadline passed or a 503: a little slower, once per event."""
    if state.pause_s or seen.issued_s <= state.last_cut_s:
        return state
    return at_rate(state, _MILD_CUT * state.rate_per_s)._replace(last_cut_s=now_s, answered_at_cut=state.answered)

import math
from functools import reduce
from pathlib import Path

import pytest
import ratelab
from hypothesis import given
from hypothesis import strategies as st

from stagingest.http.rate import FLOOR_PER_S, LONGEST_PAUSE_S, Feedback, RateState, after, grant
from stagingest.http.rate_limiter import SharedLimiter

BASIC = 200 / 60


def searching(cap: float | None = None) -> RateState:
    return RateState.start(None, BASIC, cap, 0.0)


def declared(rate: float, cap: float | None = None) -> RateState:
    return RateState.start(rate, BASIC, cap, 0.0)


def used(state: RateState, seconds: float, begins: float = 0.0) -> tuple[RateState, float]:
    """The pace after `seconds` in which every permit was used and answered at once; and the time."""
    now = begins
    while True:
        slot, next_pace = grant(state, now)
        if slot >= begins + seconds:
            return state, now
        state, now = after(next_pace, Feedback(200, slot), slot), slot


def refused(state: RateState, now: float, **named: float) -> RateState:
    return after(state, Feedback(429, now, **named), now)  # type: ignore[arg-type]


def test_without_a_plan_the_rate_starts_at_the_lowest_plan_and_doubles():
    state = searching()
    assert state.rate_per_s == BASIC

    later, _ = used(state, 10.0)
    assert 8 * BASIC < later.rate_per_s <= 32 * BASIC


def test_a_search_ends_with_the_first_refusal_and_takes_back_the_last_doubling():
    state, now = used(searching(), 10.0)
    cut = refused(state, now + 0.1)
    assert cut.rate_per_s == state.rate_per_s / 2
    assert not cut.searching


def test_a_slow_plan_is_heard_four_times_before_its_rate_doubles():
    state = RateState.start(None, 5 / 60, None, 0.0)
    for number in range(4):
        assert state.rate_per_s < 10 / 60
        state = after(state, Feedback(200, 12.0 * number), 12.0 * (number + 1))
    assert state.rate_per_s == pytest.approx(10 / 60)


def test_a_declared_plan_is_where_the_rate_starts_and_stays():
    state, _ = used(declared(10.0), 300.0)
    assert state.rate_per_s == 10.0


def test_the_cap_is_never_exceeded_whatever_the_headers_say():
    state = after(searching(cap=5.0), Feedback(200, 0.0, 10_000, 9_990, 50.0), 0.1)
    assert state.rate_per_s == 5.0


def test_headers_of_a_generous_plan_raise_the_rate_at_once_and_void_the_slots_given_before():
    slot, state = grant(searching(), 0.0)
    raised = after(state, Feedback(200, slot, 10_000, 9_990, 50.0), 0.1)
    assert 160 < raised.rate_per_s < 10_000 / 60
    assert raised.epoch > state.epoch

    _, raised = grant(raised, 0.1)
    second, _ = grant(raised, 0.1)
    assert second - 0.1 < 0.02


def test_headers_overrule_the_declared_plan_both_ways():
    assert after(declared(1.0), Feedback(200, 0.0, 600, 599, 50.0), 0.1).rate_per_s > 9
    assert after(declared(100.0), Feedback(200, 0.0, 600, 599, 50.0), 0.1).rate_per_s < 10


def test_what_others_leave_of_the_quota_must_last_until_the_reset():
    state = after(searching(), Feedback(200, 0.0, 200, 10, 41.0), 0.1)
    assert state.granted_per_s == pytest.approx(10 / 40)

    renewed = after(state, Feedback(200, 50.0, 200, 199, 60.0), 50.0)
    assert renewed.granted_per_s == pytest.approx(BASIC, rel=0.01)


def test_a_reset_that_is_near_says_nothing_about_the_rate():
    """The reading of a token bucket: Reset is when the next token comes."""
    state = after(searching(), Feedback(200, 0.0, 200, 1, 1.0), 0.1)
    assert state.granted_per_s == pytest.approx(BASIC, rel=0.01)


def test_a_spent_quota_pauses_until_the_reset_without_a_cut():
    state = after(searching(), Feedback(200, 0.0, 200, 0, 30.0), 0.0)
    slot, _ = grant(state, 1.0)
    assert 30.0 < slot < 31.0
    assert state.rate_per_s == pytest.approx(BASIC, rel=0.01)


@pytest.mark.parametrize(
    ("named", "until"),
    [
        ({}, 0.5),
        ({"retry_after_s": 7.0}, 7.0),
        ({"reset_in_s": 20.0, "retry_after_s": 7.0}, 20.25),
        ({"retry_after_s": 1e9}, LONGEST_PAUSE_S),
        ({"retry_after_s": math.nan}, 0.5),
        ({"retry_after_s": -3.0}, 0.5),
        ({"reset_in_s": math.inf, "retry_after_s": 7.0}, 7.0),
        ({"retry_after_s": 0.0}, 0.5),
    ],
)
def test_headers_come_before_retry_after_and_that_before_our_own_pause(named: dict[str, float], until: float):
    state = refused(declared(100.0), 0.1, **named)
    assert state.pause_until_s == pytest.approx(0.1 + until)
    assert grant(state, 0.1)[0] == state.pause_until_s


def test_one_congestion_event_is_one_cut():
    state = refused(declared(100.0), 1.0)
    again = reduce(lambda p, issued: after(p, Feedback(429, issued), 1.2), (0.2, 0.9, 1.0), state)
    assert again == state._replace(refused=4)


def test_pauses_double_while_refusals_go_on_and_one_permit_is_given_per_pause():
    state, lengths = refused(declared(100.0), 1.0), []
    for _ in range(8):
        slot, state = grant(state, state.pause_until_s)
        assert grant(state, slot)[0] - slot == pytest.approx(state.pause_s)
        lengths.append(state.pause_s)
        state = refused(state, slot + 0.01)
    assert lengths == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_silent_quota_is_asked_for_a_minute_after_its_first_answer_and_again_a_minute_after_its_first_refusal():
    state, now = used(declared(50.0), 20.0)
    state, slots = refused(state, now), []
    for _ in range(9):
        slot, state = grant(state, state.pause_until_s)
        slots.append(slot)
        state = refused(state, slot + 0.01)
    assert slots[-3:] == pytest.approx([60.25, now + 60.25, now + 90.25], abs=0.05)


def test_a_quota_that_others_have_spent_says_nothing_about_the_limit():
    state = searching()
    for _ in range(7):
        slot, state = grant(state, state.pause_until_s)
        state = refused(state, slot + 0.1)
    slot, state = grant(state, state.pause_until_s)
    state = after(state, Feedback(200, slot), slot + 0.1)
    assert state.searching
    assert state.rate_per_s > 0.9 * BASIC


def test_an_answer_ends_the_pause_for_everybody():
    state = refused(declared(100.0), 1.0)
    slot, state = grant(state, 1.0)
    opened = after(state, Feedback(200, slot), slot + 0.2)
    assert opened.epoch > state.epoch
    assert grant(opened, slot + 0.2)[0] == slot + 0.2


def test_an_answer_to_a_permit_from_before_the_cut_ends_nothing():
    state = refused(declared(100.0), 1.0)
    assert after(state, Feedback(200, 0.9), 1.1) == state._replace(answered=1)


def test_a_quota_spent_early_in_its_minute_is_known_by_what_it_held():
    state, now = used(declared(50.0), 4.0)
    state = refused(state, now, retry_after_s=60.0 - now)
    assert state.rate_per_s == pytest.approx(0.95 * 200 / 60, rel=0.02)


def test_a_refusal_soon_after_another_is_answered_with_what_came_between():
    state, now = used(declared(100.0), 20.0)
    state = refused(state, now)
    slot, state = grant(state, now)
    state = after(state, Feedback(200, slot), slot)
    for number in range(30):
        state = after(state, Feedback(200, slot + number / 30), slot + number / 30)
    assert refused(state, slot + 1.0).rate_per_s < 60


def test_a_rate_declared_far_above_what_was_ever_sent_falls_at_once():
    state = declared(1e5)
    for number in range(200):
        _, state = grant(state, number / 100)
        state = after(state, Feedback(200, number / 100), number / 100)
    assert refused(state, 2.0).rate_per_s < 400


def test_a_rate_that_is_not_used_does_not_grow():
    state = searching()
    for second in range(0, 1000, 2):
        slot, state = grant(state, float(second))
        state = after(state, Feedback(200, slot), second + 0.2)
    assert state.rate_per_s < 2 * BASIC


def test_a_rate_grows_quickly_back_to_where_it_was_refused_and_slowly_on():
    state = searching()._replace(searching=False, rate_per_s=50.0, ceiling_per_s=100.0)
    back, now = used(state, 30.0)
    assert 90 < back.rate_per_s < 101
    on, _ = used(back, 60.0, now)
    assert 100 < on.rate_per_s < 120


@pytest.mark.parametrize("seen", [Feedback(0, 1.0, timed_out=True), Feedback(503, 1.0)])
def test_a_deadline_or_503_slows_a_little_once(seen: Feedback):
    state = after(declared(100.0), seen, 1.5)
    assert state.rate_per_s == pytest.approx(90.0)
    assert after(state, seen, 1.6) == state


def test_503_with_retry_after_is_a_refusal():
    state = after(declared(100.0), Feedback(503, 1.0, retry_after_s=5.0), 1.0)
    assert (state.refused, state.pause_until_s) == (1, 6.0)


@pytest.mark.parametrize("status", [500, 502, 504, 0])
def test_a_fault_of_the_server_or_the_network_says_nothing_about_the_rate(status: int):
    assert after(declared(100.0), Feedback(status, 1.0), 1.5) == declared(100.0)


def test_rest_piles_up_no_permits():
    slots = []
    _, state = grant(declared(20.0), 0.0)
    for _ in range(20):
        slot, state = grant(state, 3600.0)
        slots.append(slot)
    assert slots.count(3600.0) == 1
    assert slots[-1] - slots[0] >= 18 / 20


def test_a_late_wake_up_costs_nothing():
    slot, state = grant(declared(100.0), 0.0)
    late = [slot]
    for number in range(1, 100):
        slot, state = grant(state, number / 100 + 0.03)
        late.append(slot)
    assert late[-1] < 1.03


def test_a_high_cap_does_not_hold_back_thousands_a_second():
    state, taken = declared(1e5, 1e5), 0
    for millisecond in range(1000):
        for _ in range(8):
            slot, state = grant(state, millisecond / 1000)
            taken += slot <= millisecond / 1000 + 1e-4
    assert taken == 8000


waits = st.one_of(st.none(), st.floats(), st.floats(0, 120))
numbers = st.one_of(st.none(), st.integers(-5, 20_000), st.just(10**15))
steps = st.tuples(
    st.floats(0, 100),
    st.integers(0, 20),
    st.sampled_from([0, 200, 200, 200, 404, 429, 429, 500, 503]),
    st.floats(0, 10),
    numbers, numbers, waits, waits, st.booleans(),
)  # fmt: skip
starts = st.tuples(
    st.one_of(st.none(), st.floats(0.01, 1e7)),
    st.floats(0.01, 100),
    st.one_of(st.none(), st.floats(0.01, 1e7)),
)


@given(starts, st.lists(steps, max_size=60))
def test_whatever_is_seen_the_pace_stays_sane_and_within_its_bounds(start, story):
    now = 1000.0
    state = RateState.start(*start, now)
    for rest, rate_limiter, status, age, limit, remaining, reset, wait, timed_out in story:
        now += rest
        for _ in range(rate_limiter):
            slot, state = grant(state, now)
            assert slot >= now
            assert slot >= state.pause_until_s or slot == now
        before = state
        state = after(state, Feedback(status, now - age, limit, remaining, reset, wait, timed_out), now)
        assert state.sane(now)
        assert min(FLOOR_PER_S, state.bound_per_s) <= state.rate_per_s <= state.bound_per_s
        assert state.epoch >= before.epoch
        assert state.pause_until_s <= now + LONGEST_PAUSE_S + 1 or state.pause_until_s == before.pause_until_s


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 0.3), min_size=2, max_size=200))
def test_no_window_holds_more_permits_than_the_rate_and_a_small_burst(rate, rests):
    now, slots = 0.0, []
    state = declared(rate)
    for rest in rests:
        now += rest
        slot, state = grant(state, now)
        slots.append(slot)
    for first in range(0, len(slots), 7):
        held = sum(slots[first] <= slot < slots[first] + 1.0 for slot in slots)
        assert held <= rate * 1.04 + 2


@given(st.floats(1, 500), st.lists(st.floats(0, 0.99), min_size=1, max_size=20))
def test_refusals_of_permits_from_before_the_cut_cut_nothing(rate, ages):
    state = refused(declared(rate), 5.0)
    again = reduce(lambda p, age: after(p, Feedback(429, 5.0 - age), 5.5), ages, state)
    assert (again.rate_per_s, again.epoch) == (state.rate_per_s, state.epoch)


@pytest.mark.parametrize("scene", [*ratelab.BASIC, *ratelab.SLOW], ids=lambda scene: scene.name)
def test_a_simulated_provider_is_used_to_its_limit_and_seldom_refuses(scene: ratelab.Scene, tmp_path: Path):
    def limiter(clock):
        return SharedLimiter(tmp_path / "a.permit", scene.lowest_per_s, scene.cap_per_s, scene.cap_per_s, clock)

    counts = scene.play(limiter, seed=0)
    assert counts.answered / scene.allowed >= scene.least
    assert counts.refused_share <= scene.most

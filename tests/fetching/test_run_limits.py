"""Where a run ends by itself: each limit by its numbers, and in the words of its option."""

from datetime import date

import pytest

from stagingest.errors import Exit
from stagingest.fetching.run_limits import LAST_TASKS_S, RunLimits, Spent, StopReason
from stagingest.model.chunk import Chunk, Series
from stagingest.model.task import Outcome
from stagingest.model.windows import Window

DAYS = Window(date(2024, 1, 2), date(2024, 1, 3))
CHUNKS = [Chunk(Series("alpaca/stock-bars", ()), (name,), DAYS) for name in "ABCDE"]


def test_without_a_limit_nothing_ends_a_run() -> None:
    limits = RunLimits()
    assert limits.begin(CHUNKS) == (tuple(CHUNKS), ())
    assert limits.reached(Spent(1e9, 10**9)) is None
    assert limits.allows(Spent(1e9, 10**9, 10**9), 10**9)
    assert limits.failed(Outcome.FAILED) is None


def test_so_many_chunks_are_begun_and_the_others_left() -> None:
    limits = RunLimits(chunks=2)
    assert limits.begin(CHUNKS) == (tuple(CHUNKS[:2]), tuple(CHUNKS[2:]))
    assert limits.begin(CHUNKS[:1]) == (tuple(CHUNKS[:1]), ())
    assert limits.left() == StopReason("--max-chunks 2")


def test_after_its_minutes_nothing_is_begun_and_after_a_minute_more_what_is_in_flight_is_dropped() -> None:
    limits = RunLimits(minutes=1.5)
    assert limits.reached(Spent(89.9)) is None
    assert limits.reached(Spent(90.0)) == StopReason("--max-minutes 1.5")
    assert limits.reached(Spent(90.0 + LAST_TASKS_S)) == StopReason("--max-minutes 1.5", at_once=True)


def test_a_run_of_seconds_waits_no_longer_for_its_last_tasks_than_it_ran() -> None:
    limits = RunLimits(minutes=0.2)
    assert limits.reached(Spent(23.9)) == StopReason("--max-minutes 0.2")
    assert limits.reached(Spent(24.0)) == StopReason("--max-minutes 0.2", at_once=True)


@pytest.mark.parametrize(
    ("requests", "promised", "expected", "allowed"),
    [(0, 0, 99, True), (3, 0, 7, True), (3, 0, 8, False), (0, 3, 8, False), (2, 4, 4, True), (2, 5, 4, False)],
)
def test_requests_that_are_promised_count_and_the_first_chunk_is_begun_whatever_it_costs(
    requests: int, promised: int, expected: int, allowed: bool
) -> None:
    assert RunLimits(requests=10).allows(Spent(0.0, requests, promised), expected) == allowed


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.FAILED, Exit.PROVIDER), (Outcome.FORBIDDEN, Exit.CREDENTIALS), (Outcome.LOST, Exit.PROVIDER),
        (Outcome.REFUSED, Exit.FAILED), (Outcome.CONFLICT, Exit.FAILED),
    ],
)  # fmt: skip
def test_the_first_chunk_that_is_not_had_ends_a_run_that_fails_fast(outcome: Outcome, code: Exit) -> None:
    assert RunLimits(fail_fast=True).failed(outcome) == StopReason("--fail-fast", code, at_once=True)


@pytest.mark.parametrize("outcome", [Outcome.STAGED, Outcome.EMPTY])
def test_a_chunk_that_is_had_ends_none(outcome: Outcome) -> None:
    assert RunLimits(fail_fast=True).failed(outcome) is None

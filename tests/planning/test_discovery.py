"""Discovery: which years of expiry are asked of an underlying, and what that costs."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from desk import desk
from hypothesis import given
from hypothesis import strategies as st

from stagingest.planning.discovery import EMPTY_YEARS, Sweep
from stagingest.providers.options import expiries, statuses

SWEEP = Sweep(2000, 2031, 2026)


def swept(sweep: Sweep, listed: Mapping[int, bool]) -> list[int]:
    """The years asked until nothing is left to ask, each round with the answers of the one before."""
    had: dict[int, bool] = {}
    while not sweep.over(had):
        had.update({year: listed.get(year, False) for year in sweep.years(had)})
    return sorted(had)


def needed(sweep: Sweep, listed: Mapping[int, bool]) -> list[int]:
    """The years a sweep has to ask that goes down one year at a time."""
    found, newest, empty = [], None, 0
    for year in range(sweep.last, sweep.first - 1, -1):
        if empty == EMPTY_YEARS:
            break
        found.append(year)
        if listed.get(year):
            newest, empty = year, 0
        else:
            empty += newest is not None and year < sweep.today
    return sorted(found)


@given(st.dictionaries(st.integers(2000, 2031), st.booleans()))
def test_a_sweep_asks_no_year_more_than_one_that_goes_down_year_by_year(listed: dict[int, bool]) -> None:
    assert swept(SWEEP, listed) == needed(SWEEP, listed)


def test_an_underlying_without_contracts_is_asked_down_to_the_floor() -> None:
    assert swept(SWEEP, {}) == list(range(2000, 2032))


def test_this_year_and_those_ahead_are_asked_whatever_is_empty() -> None:
    assert swept(SWEEP, {2031: True}) == list(range(2026 - EMPTY_YEARS, 2032))
    assert SWEEP.years({})[:6] == [2031, 2030, 2029, 2028, 2027, 2026]


def test_around_today_both_statuses_are_asked_of_the_days_they_may_have() -> None:
    new_year = date(2026, 1, 1)
    assert statuses(2025, new_year) == ["active", "inactive"]
    assert statuses(2026, new_year) == ["active", "inactive"]
    assert (statuses(2024, new_year), statuses(2027, new_year)) == (["inactive"], ["active"])
    first, last = date(2026, 1, 1), date(2026, 12, 31)
    day = date(2026, 6, 3)
    assert expiries("active", first, last, day) == (date(2026, 6, 2), last)
    assert expiries("inactive", first, last, day) == (first, day)


@pytest.mark.parametrize("died", [False, True])
def test_a_discovery_goes_on_while_years_have_contracts_and_a_second_asks_nothing(tmp_path: Path, died: bool) -> None:
    with desk(tmp_path, 1) as place:
        (symbol,) = place.market.symbols
        asked = {"underlyings": [symbol], "expiry_gte": "2005-01-01"}
        looked = place.plan("option-contracts", **asked)
        assert "Older years, down to 2005, follow while there are contracts: at most" in looked.question.notes[0]
        if died:
            first = place.fetch("option-contracts", **asked, max_requests=6)
            assert first.summary.ended_by
        done = place.fetch("option-contracts", **asked)
        assert (done.exit_code, done.summary.left) == (0, 0)
        years = sorted({int(dict(e.chunk.series.params)["expiry_gte"][:4]) for e in place.entries()})
        with_contracts = {int(dict(e.chunk.series.params)["expiry_gte"][:4]) for e in place.entries() if e.rows}
        assert years[0] == min(with_contracts) - EMPTY_YEARS
        assert years == list(range(years[0], 2030))
        place.requests()
        assert place.fetch("option-contracts", **asked).summary.planned == 0
        assert place.requests() == 0
        assert place.plan("option-contracts", **asked).question.notes == ()

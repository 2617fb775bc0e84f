"""The exchange's calendar and New York's clock."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stagingest.model import calendar

YEARS = range(calendar.FIRST.year, calendar.LAST.year + 1)
TABLE_DAYS = st.dates(calendar.FIRST, calendar.LAST)
LATER_DAYS = st.dates(calendar.FIRST, date(2035, 12, 31))
MOMENTS = st.datetimes(datetime(1990, 1, 2), datetime(2035, 12, 31), timezones=st.just(UTC))


@pytest.fixture(scope="module")
def new_york() -> ZoneInfo:
    try:
        return ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError:
        pytest.skip("NOT RUN: install the time zone database (tzdata) to compare New York's clock with it")


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=n) for n in range((last - first).days + 1))


def test_the_five_years_of_the_sp500_file_have_1259_sessions() -> None:
    assert calendar.count(date(2013, 2, 8), date(2018, 2, 8)) == 1259
    assert len(list(calendar.between(date(2013, 2, 8), date(2018, 2, 8)))) == 1259


def test_the_day_after_thanksgiving_closes_at_one() -> None:
    opens, closes = calendar.hours(date(2024, 11, 29))
    assert opens == datetime(2024, 11, 29, 14, 30, tzinfo=UTC)
    assert closes == datetime(2024, 11, 29, 18, 0, tzinfo=UTC)


def test_a_regular_summer_session_is_13_30_to_20_00_utc() -> None:
    opens, closes = calendar.hours(date(2024, 7, 1))
    assert (opens.time(), closes.time()) == (time(13, 30), time(20, 0))


@pytest.mark.parametrize(
    "day",
    [
        date(2001, 9, 11),  # the exchange stayed closed
        date(2012, 10, 29),  # hurricane
        date(2018, 12, 5),  # day of mourning
        date(2022, 6, 20),  # a holiday since that year, observed on the Monday
        date(2025, 1, 9),  # day of mourning
        date(2024, 6, 1),  # Saturday
    ],
)
def test_the_exchange_is_closed_on(day: date) -> None:
    assert not calendar.is_session(day)


def test_a_weekday_after_the_table_counts_as_a_session() -> None:
    after = calendar.LAST + timedelta(days=1)
    assert calendar.is_session(date(2028, 1, 3))
    assert calendar.count(after, date(2028, 2, 1)) == sum(day.weekday() < 5 for day in _days(after, date(2028, 1, 31)))


@given(LATER_DAYS, st.integers(-5, 2000))
def test_count_is_the_number_of_days_between(start: date, days: int) -> None:
    end = start + timedelta(days=days)
    assert calendar.count(start, end) == len(list(calendar.between(start, end)))


@given(TABLE_DAYS, st.integers(0, 400))
def test_after_is_a_session_with_that_many_before_it(day: date, number: int) -> None:
    found = calendar.after(day, number)
    assume(found <= calendar.LAST)
    assert calendar.is_session(found)
    assert calendar.count(day, found) == number


@given(TABLE_DAYS.filter(lambda day: day > date(1990, 1, 31)))
def test_previous_is_the_last_session_before(day: date) -> None:
    found = calendar.previous(day)
    assert found == list(calendar.between(day - timedelta(days=14), day))[-1]


def test_midnight_is_five_hours_behind_in_winter_and_four_in_summer() -> None:
    assert calendar.instant(date(2024, 1, 2)) == datetime(2024, 1, 2, 5, tzinfo=UTC)
    assert calendar.instant(date(2024, 7, 2)) == datetime(2024, 7, 2, 4, tzinfo=UTC)


def test_midnight_of_every_day_is_the_time_zone_databases(new_york: ZoneInfo) -> None:
    differing = [
        day
        for day in _days(calendar.FIRST, calendar.LAST)
        if calendar.instant(day) != datetime.combine(day, time(0), new_york)
    ]
    assert differing == []


@given(MOMENTS)
def test_new_yorks_clock_is_the_time_zone_databases(new_york: ZoneInfo, moment: datetime) -> None:
    assert calendar.new_york(moment) == moment.astimezone(new_york).replace(tzinfo=None)


@given(LATER_DAYS)
def test_midnight_comes_back_as_that_day(day: date) -> None:
    assert calendar.new_york(calendar.instant(day)) == datetime.combine(day, time(0))


@given(LATER_DAYS, st.times())
def test_any_hour_of_trading_comes_back(day: date, clock: time) -> None:
    trading = max(clock, time(4))  # the clock jumps at two in the morning
    assert calendar.new_york(calendar.instant(day, trading)) == datetime.combine(day, trading)


def test_the_clock_jumps_at_seven_utc_in_march_and_six_in_november() -> None:
    assert calendar.switches(date(2024, 1, 1), date(2024, 12, 31)) == [
        (datetime(2024, 1, 1, 5, tzinfo=UTC), -5),
        (datetime(2024, 3, 10, 7, tzinfo=UTC), -4),
        (datetime(2024, 11, 3, 6, tzinfo=UTC), -5),
    ]


def test_a_window_without_a_jump_has_the_offset_of_its_start() -> None:
    assert calendar.switches(date(2024, 6, 3), date(2024, 6, 7)) == [(datetime(2024, 6, 3, 4, tzinfo=UTC), -4)]


@pytest.mark.parametrize("year", YEARS)
def test_an_hour_is_lost_and_won_at_each_switch(new_york: ZoneInfo, year: int) -> None:
    _, *jumps = calendar.switches(date(year, 1, 1), date(year, 12, 31))
    assert len(jumps) == 2
    for moment, offset in jumps:
        before = (moment - timedelta(seconds=1)).astimezone(new_york).utcoffset()
        assert moment.astimezone(new_york).utcoffset() == timedelta(hours=offset)
        assert before == timedelta(hours=-9 - offset)


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-25T14:29:59", False),  # Wednesday, winter time
        ("2026-11-25T14:30:00", True),
        ("2026-11-25T20:59:59", True),
        ("2026-11-25T21:00:00", False),
        ("2026-11-26T16:00:00", False),  # Thanksgiving
        ("2026-11-27T17:59:59", True),  # closes at one
        ("2026-11-27T18:00:00", False),
        ("2026-11-28T16:00:00", False),  # Saturday
        ("2026-07-01T13:30:00", True),  # summer time
        ("2026-07-01T20:00:00", False),
        ("2026-12-24T18:00:00", False),  # the day before Christmas closes at one
        ("2025-07-03T17:00:00", False),  # so does the day before Independence Day
    ],
)
def test_the_exchange_is_open_from_its_open_to_before_its_close(moment: str, is_open: bool) -> None:
    assert calendar.is_open(datetime.fromisoformat(moment).replace(tzinfo=UTC)) == is_open


@given(MOMENTS)
def test_the_next_open_is_the_first_instant_of_a_session_and_none_lies_between(moment: datetime) -> None:
    opens = calendar.next_open(moment)
    assert opens > moment
    assert calendar.is_open(opens)
    assert not calendar.is_open(opens - timedelta(seconds=1))
    days = calendar.between(calendar.new_york(moment).date(), calendar.new_york(opens).date())
    assert all(calendar.hours(day)[0] <= moment for day in days)

"""What time it is in the market, and the sessions the generated market lives in."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache

import pyarrow as pa

from stagingest.model import calendar as model_calendar
from stagingest.sim.market.bars import Timeframe

FIRST_DAY = date(2016, 1, 4)


def utc_now() -> datetime:
    """The real time."""
    return datetime.now(UTC)


def stamp(day: date) -> int:
    """Midnight in New York at the start of `day`, in seconds."""
    return int(model_calendar.instant(day).timestamp())


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant as the market sees it; equal moments show equal prices.

    Args:
        today: New York's date.
        session: the last session that has begun.
        horizon_s: end of the last minute of trading that is over, in seconds.
        complete: whether that session has closed.
    """

    today: date
    session: date
    horizon_s: int
    complete: bool

    @classmethod
    def at(cls, now: datetime) -> "Moment":
        """The moment of an aware instant."""
        today = model_calendar.new_york(now).date()
        begun = model_calendar.is_session(today) and now >= model_calendar.hours(today)[0]
        session = today if begun else model_calendar.previous(today)
        close_s = int(model_calendar.hours(session)[1].timestamp())
        minute_s = int(now.timestamp()) // 60 * 60
        return cls(today, session, min(minute_s, close_s), minute_s >= close_s)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Every session from the market's first day to the end of a year; `stamps` are their midnights."""

    days: list[date]
    stamps: pa.Array

    def index(self, day: date) -> int:
        """How many sessions lie before `day`."""
        return bisect_left(self.days, day)


@lru_cache(maxsize=8)
def calendar(year: int) -> Calendar:
    """The sessions to the end of `year`; a longer calendar begins with the shorter one."""
    days = list(model_calendar.between(FIRST_DAY, date(year + 1, 1, 1)))
    return Calendar(days, pa.array([stamp(day) for day in days], pa.int64()))


@lru_cache(maxsize=64)
def periods(year: int, timeframe: Timeframe) -> pa.Array:
    """For each session of `calendar(year)` the stamp of the day, week or month bar that holds it."""
    days = calendar(year).days
    if timeframe.unit == "Day":
        return calendar(year).stamps
    starts = [timeframe.period(day) for day in days]
    stamps = {start: stamp(start) for start in set(starts)}
    return pa.array([stamps[start] for start in starts], pa.int64())


@dataclass(frozen=True, slots=True)
class MinuteGrid:
    """The trading minutes of some sessions, one row each.

    Args:
        stamps: start of the minute, seconds.
        day: number of the session among these.
        minute: number of the minute in its session.
        begins, ends: the minute's bounds as fractions of the session.
        last: whether it is the session's last.
        firsts, lasts: row of each session's first and last minute.
        minutes: how many minutes each session has.
    """

    stamps: pa.Array
    day: pa.Array
    minute: pa.Array
    begins: pa.Array
    ends: pa.Array
    last: pa.Array
    firsts: pa.Array
    lasts: pa.Array
    minutes: pa.Array


@lru_cache(maxsize=256)
def grid(days: tuple[date, ...]) -> MinuteGrid:
    """The trading minutes of `days`."""
    bounds = [[int(edge.timestamp()) for edge in model_calendar.hours(day)] for day in days]
    sizes = [(end - start) // 60 for start, end in bounds]
    rows = [(d, k) for d, size in enumerate(sizes) for k in range(size)]
    lasts = [sum(sizes[: d + 1]) - 1 for d in range(len(days))]
    return MinuteGrid(
        stamps=pa.array([bounds[d][0] + 60 * k for d, k in rows], pa.int64()),
        day=pa.array([d for d, _ in rows], pa.int32()),
        minute=pa.array([k for _, k in rows], pa.int32()),
        begins=pa.array([k / sizes[d] for d, k in rows], pa.float64()),
        ends=pa.array([(k + 1) / sizes[d] for d, k in rows], pa.float64()),
        last=pa.array([k + 1 == sizes[d] for d, k in rows], pa.bool_()),
        firsts=pa.array([last + 1 - size for last, size in zip(lasts, sizes, strict=True)], pa.int32()),
        lasts=pa.array(lasts, pa.int32()),
        minutes=pa.array(sizes, pa.int32()),
    )

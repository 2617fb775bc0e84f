"""Sessions of the New York exchanges, and New York's clock, from a shipped table.

The table (`sessions.csv`) lists every weekday on which XNYS was closed or kept unusual hours,
1990 to 2027; `scripts/sessions` rebuilds it from exchange_calendars and shows any difference.
Weekdays after the table's end count as regular sessions.
"""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path

from stagingest.errors import UsageError

DAY = timedelta(days=1)

FIRST = date(1990, 1, 1)
LAST = date(2027, 12, 31)
_OPEN, _CLOSE = time(9, 30), time(16, 0)


@cache
def _unusual() -> tuple[frozenset[date], dict[date, tuple[time, time]]]:
    closed: set[date] = set()
    hours: dict[date, tuple[time, time]] = {}
    for line in Path(__file__).with_name("sessions.csv").read_text().split():
        day, what = line.split(",")
        if what == "closed":
            closed.add(date.fromisoformat(day))
        else:
            opens, closes = what.split("-")
            hours[date.fromisoformat(day)] = (time.fromisoformat(opens), time.fromisoformat(closes))
    return frozenset(closed), hours


@cache
def _ordinals() -> list[int]:
    closed = {day.toordinal() for day in _unusual()[0]}
    first = FIRST.toordinal()
    return [n for n in range(first, LAST.toordinal() + 1) if (n - 1) % 7 < 5 and n not in closed]


def is_session(day: date) -> bool:
    """Whether the exchange trades on `day`."""
    return day.weekday() < 5 and day not in _unusual()[0]


def count(start: date, end: date) -> int:
    """The number of sessions in `[start, end)`, exact within the table, weekdays outside it."""
    if end <= start:
        return 0
    inside = bisect_left(_ordinals(), end.toordinal()) - bisect_left(_ordinals(), start.toordinal())
    outside = ((start, min(end, FIRST)), (max(start, LAST + DAY), end))
    return inside + sum(1 for first, last in outside for _ in between(first, last))


def between(start: date, end: date) -> Iterator[date]:
    """The sessions in `[start, end)`, in order."""
    day = start
    while day < end:
        if is_session(day):
            yield day
        day += DAY


def after(day: date, sessions: int) -> date:
    """The day that begins the `sessions`-th session counted from the first one at or after `day`."""
    ordinals = _ordinals()
    index = bisect_left(ordinals, day.toordinal()) + sessions
    if index < len(ordinals):
        return date.fromordinal(ordinals[index])
    return max(day, LAST) + timedelta(days=1 + (index - len(ordinals)) * 7 // 5)


def previous(day: date) -> date:
    """The last session before `day`."""
    day -= DAY
    while not is_session(day):
        day -= DAY
    return day


def hours(day: date) -> tuple[datetime, datetime]:
    """Open and close of the session of `day`, as UTC instants; `day` must be a session."""
    opens, closes = _unusual()[1].get(day, (_OPEN, _CLOSE))
    return instant(day, opens), instant(day, closes)


def is_open(moment: datetime) -> bool:
    """Whether the exchange trades at the UTC instant `moment`: from its open to before its close, early ones too."""
    day = new_york(moment).date()
    if not is_session(day):
        return False
    opens, closes = hours(day)
    return opens <= moment < closes


def next_open(moment: datetime) -> datetime:
    """The UTC instant of the first open after `moment`."""
    day = new_york(moment).date()
    while not is_session(day) or hours(day)[0] <= moment:
        day += DAY
    return hours(day)[0]


def _nth_sunday(year: int, month: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (nth - 1))


@cache
def _summer(year: int) -> tuple[date, date]:
    """First and last+1 day of daylight time; the rule of 2007, before it that of 1987."""
    if year >= 2007:
        return _nth_sunday(year, 3, 2), _nth_sunday(year, 11, 1)
    last_october = date(year, 10, 31)
    return _nth_sunday(year, 4, 1), last_october - timedelta(days=(last_october.weekday() + 1) % 7)


def instant(day: date, clock: time = time(0)) -> datetime:
    """The UTC instant at which New York's clock shows `clock` on `day`."""
    begins, ends = _summer(day.year)
    wall = datetime.combine(day, clock)
    summer = datetime.combine(begins, time(2)) <= wall < datetime.combine(ends, time(2))
    return (wall + timedelta(hours=4 if summer else 5)).replace(tzinfo=UTC)


def switches(start: date, end: date) -> list[tuple[datetime, int]]:
    """When New York's UTC offset changes from `start` to `end`: (UTC instant, offset in hours from then on).

    The first pair is the offset in force at midnight of `start`.
    """
    now = instant(start)
    found = [(now, -4 if now.hour == 4 else -5)]
    for year in range(start.year, end.year + 1):
        begins, ends = _summer(year)
        for day, hour, offset in ((begins, 7, -4), (ends, 6, -5)):
            if start <= day <= end:
                found.append((datetime.combine(day, time(hour), UTC), offset))
    return found


def new_york(moment: datetime) -> datetime:
    """What New York's clock shows at the UTC instant `moment`, without zone."""
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    begins, ends = _summer((utc - timedelta(hours=5)).year)
    summer = datetime.combine(begins, time(7)) <= utc < datetime.combine(ends, time(6))
    return utc - timedelta(hours=4 if summer else 5)


def day(option: str, text: str) -> date:
    """The day in `text` (YYYY-MM-DD). Raises UsageError naming the nearest valid day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no day.", f"Write YYYY-MM-DD, for example {_nearest(text)}.") from None


def _nearest(text: str) -> date:
    numbers = [int(part) for part in text.replace("/", "-").split("-") if part.isdigit()]
    if len(numbers) != 3 or not 1900 <= numbers[0] <= 2100:
        return date(2024, 1, 31)
    year, month, last = numbers[0], min(max(numbers[1], 1), 12), max(numbers[2], 1)
    while True:
        try:
            return date(year, month, min(last, 31))
        except ValueError:
            last = min(last, 31) - 1

"""A New York day as a user writes it."""

from datetime import date

from stagingest.errors import UsageError


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

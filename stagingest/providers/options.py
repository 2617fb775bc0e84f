"""What a user may give as an option's value, checked: one word of several, a day, a strike."""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation

from stagingest.errors import UsageError, choices
from stagingest.model.calendar import DAY

# What `canonical` takes beside the endpoint's own options, when it asks for nothing: one set of options fits all.
NOTHING: Mapping[str, tuple[str, ...]] = {
    "feed": ("", "sip", "delayed_sip"),
    "adjustment": ("", "raw"),
    "currency": ("", "USD"),
    "asof": ("", "latest"),
}
_MILLI = Decimal("0.001")
_MOST = 10**9


def known(endpoint: str, options: Mapping[str, str], names: Iterable[str]) -> None:
    """Raise UsageError for an option that asks for something and is none of `names`."""
    for name, value in options.items():
        if name not in names and value not in NOTHING.get(name, ("",)):
            raise UsageError(f"{endpoint} has no {name} ({value!r}).", f"It has {', '.join(names)}.")


def one_of(what: str, value: str, valid: Iterable[str]) -> str:
    """The one of `valid` that is meant. Raises UsageError naming the nearest."""
    text = value.strip().lower()
    if text in valid:
        return text
    raise UsageError(f"There is no {what} {value!r}.", choices(text, valid))


def strike(name: str, text: str) -> Decimal:
    """The strike in `text`, dollars without trailing zeros. Raises UsageError."""
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 <= value < _MOST or value.quantize(_MILLI) != value:
        raise UsageError(f"{name} {text!r} is no strike.", "Write dollars, three decimals at most, for example 162.5.")
    return Decimal(f"{value.normalize():f}")


def statuses(year: int, day: date) -> list[str]:
    """What is listed of a year: what expires from yesterday on is active, what expired until today is not; around
    today providers are late, so it is asked for both ways.
    """
    active = ["active"] if year >= (day - DAY).year else []
    return [*active, *(["inactive"] if year <= day.year else [])]


def expiries(status: str, first: date, last: date, day: date) -> tuple[date, date]:
    """The part of the expiries from `first` to `last` that may have a status on a day."""
    return (max(first, day - DAY), last) if status == "active" else (first, min(last, day))

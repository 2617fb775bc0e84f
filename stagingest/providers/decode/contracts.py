"""A response body of option contracts as a page of the option-contracts dataset."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from stagingest.errors import PageError
from stagingest.model.datasets import DATASETS, arrow_schema

SCHEMA = pa.schema(
    [
        field
        for field in arrow_schema(DATASETS["option-contracts"])
        if field.name not in ("provider", "as_of_date", "updated_at")
    ]
)
_STRIKE_DIGITS = 15
_MOST_DIGITS = 30
_MILLI = Decimal("0.001")


def distinct(listed: list[Any], name: str = "symbol") -> list[dict[str, Any]]:
    """The contracts, each called by its field `name`, without those that repeat another one entirely.

    Rows move between pages and within them. Raises PageError when one is no object.
    """
    seen: dict[str, list[dict[str, Any]]] = {}
    for contract in listed:
        if not isinstance(contract, dict):
            raise PageError(f"A contract is a {type(contract).__name__} instead of an object.")
        same = seen.setdefault(str(contract.get(name)), [])
        if contract not in same:
            same.append(contract)
    return [contract for same in seen.values() for contract in same]


def text(contract: Mapping[str, Any], key: str, *, needed: bool = False) -> str | None:
    """The text of a field, None when it is null, empty or not there. Raises PageError."""
    value = contract.get(key)
    if isinstance(value, str) and value:
        return value
    if value not in (None, "") or needed:
        raise refused(contract, key, "text")
    return None


def day(contract: Mapping[str, Any], key: str, *, needed: bool = False) -> date | None:
    """The day in a field, None when it is null, empty or not there. Raises PageError."""
    found = text(contract, key, needed=needed)
    if found is None:
        return None
    try:
        return date.fromisoformat(found)
    except ValueError:
        raise refused(contract, key, "a date") from None


def _decimal(contract: Mapping[str, Any], key: str) -> Decimal | None:
    """A number that comes as text (the provider's way with decimals) or as a number; null and '' are not known."""
    value = contract.get(key)
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value) if isinstance(value, str | int | float) else "NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number.adjusted() > _MOST_DIGITS:
        raise refused(contract, key, "a number")
    return number


def double(contract: Mapping[str, Any], key: str) -> float | None:
    """The number in a field, None when it is null, empty or not there. Raises PageError."""
    number = _decimal(contract, key)
    return None if number is None else float(number)


def whole(contract: Mapping[str, Any], key: str) -> int | None:
    """A count under that key, None where there is none. Raises PageError."""
    number = _decimal(contract, key)
    if number is None:
        return None
    if number != int(number) or not 0 <= number < 2**63:
        raise refused(contract, key, "a count")
    return int(number)


def strike(contract: Mapping[str, Any]) -> Decimal:
    """The strike in dollars, three decimals. Raises PageError for more of them."""
    dollars = _decimal(contract, "strike_price")
    if dollars is None or dollars.adjusted() >= _STRIKE_DIGITS or dollars.quantize(_MILLI) != dollars:
        raise refused(contract, "strike_price", "a number with three decimals at most")
    return dollars.quantize(_MILLI)


def refused(contract: Mapping[str, Any], key: str, wanted: str) -> PageError:
    """What to raise for a field that is not what is wanted."""
    has = f"is {contract[key]!r:.40}" if key in contract else "is missing"
    return PageError(
        f"In contract {contract.get('symbol') or contract.get('ticker')!r:.40} field {key!r} {has} instead of {wanted}."
    )

"""A response body of option contracts as a page of the option-contracts dataset."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
import pyarrow as pa

from stagingest.datasets import DATASETS, arrow_schema
from stagingest.errors import PageError
from stagingest.model import Chunk, OptionSymbol, Page, Request
from stagingest.providers.paging import envelope_of, following

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


def read(chunk: Chunk, request: Request, body: bytes) -> Page:
    """The page in `body`: one row per contract, the dataset's columns but provider, as_of_date and updated_at.

    Args:
        chunk: its symbols are the underlyings a row may have.
        request: says the bounds of the expiry (both inclusive) and the limit.
        body: a whole response body.

    Raises PageError naming the field and the contract.
    """
    envelope = envelope_of(body, "option_contracts")
    listed = envelope.get("option_contracts") or []
    if not isinstance(listed, list):
        raise PageError("The answer's option_contracts are no list.")
    if len(listed) > int(request.param("limit")):
        raise PageError(f"The page has {len(listed)} contracts where {request.param('limit')} is the most.")
    asked = frozenset(chunk.symbols)
    first, last = (date.fromisoformat(request.param(f"expiration_date_{end}")) for end in ("gte", "lte"))
    rows = [_row(contract) for contract in distinct(listed)]
    for row in rows:
        if row["underlying"] not in asked or not first <= row["expiry"] <= last:
            raise PageError(
                f"The page has {row['contract_symbol']} of {row['underlying']}, which was not asked for: "
                f"expiries from {first} to {last} of {', '.join(chunk.symbols)} were."
            )
    return Page(pa.Table.from_pylist(rows, SCHEMA) if rows else None, following(request, envelope))


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


def _row(contract: dict[str, Any]) -> dict[str, Any]:
    symbol = text(contract, "symbol", needed=True)
    root = text(contract, "root_symbol")
    if root is None:
        parts = OptionSymbol.parse(str(symbol))
        if parts is None:
            raise refused(contract, "symbol", "an OCC symbol, and it has no root_symbol")
        root = parts.root
    deliverables = contract.get("deliverables")
    return {
        "contract_symbol": symbol,
        "underlying": text(contract, "underlying_symbol", needed=True),
        "root_symbol": root,
        "expiry": day(contract, "expiration_date", needed=True),
        "option_type": text(contract, "type", needed=True),
        "strike": strike(contract),
        "multiplier": double(contract, "multiplier"),
        "size": double(contract, "size"),
        "style": text(contract, "style"),
        "status": text(contract, "status"),
        "deliverables": None if deliverables is None else orjson.dumps(deliverables).decode(),
        "open_interest": _whole(contract, "open_interest"),
        "open_interest_date": day(contract, "open_interest_date"),
        "close_price": double(contract, "close_price"),
        "close_price_date": day(contract, "close_price_date"),
        "raw_json": orjson.dumps(contract).decode(),
    }


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


def _whole(contract: Mapping[str, Any], key: str) -> int | None:
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

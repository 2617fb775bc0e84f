"""A page of Alpaca's option contracts as rows."""

from datetime import date
from typing import Any

import orjson
import pyarrow as pa

from stagingest.errors import PageError
from stagingest.model.chunk import Chunk
from stagingest.model.option_symbol import OptionSymbol
from stagingest.model.page import Page, Request
from stagingest.providers.decode.contracts import SCHEMA, day, distinct, double, refused, strike, text, whole
from stagingest.providers.decode.paging import envelope_of, following


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
        "open_interest": whole(contract, "open_interest"),
        "open_interest_date": day(contract, "open_interest_date"),
        "close_price": double(contract, "close_price"),
        "close_price_date": day(contract, "close_price_date"),
        "raw_json": orjson.dumps(contract).decode(),
    }

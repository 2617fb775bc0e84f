"""A response body of Massive's option contracts as a page of the option-contracts dataset."""

import re
from datetime import date
from typing import Any

import orjson
import pyarrow as pa

from stagingest.errors import PageError
from stagingest.model.chunk import Chunk
from stagingest.model.page import Page, Request
from stagingest.providers.decode import contracts as c
from stagingest.providers.massive.paging import envelope_of, following, rows_of
from stagingest.providers.options import expiries

# From the right, whatever the strike's digits: adjusted series have odd tickers.
_ROOT = re.compile(r"(.+)\d{6}[CP]\d+")


def read(chunk: Chunk, request: Request, body: bytes, most: int) -> Page:
    """The page in `body`: one row per contract, the dataset's columns but provider, as_of_date and updated_at.

    What a contract's fields say counts, not what its ticker looks like.

    Args:
        chunk: of one underlying; its series says status and expiries, which later pages are held to as the first.
        request: the question, for the address of the next page.
        body: a whole response body.
        most: contracts in a page.

    Raises PageError naming the field and the contract.
    """
    envelope = envelope_of(body)
    series, asked = chunk.series, chunk.symbols[0]
    first, last = (date.fromisoformat(series[name]) for name in ("expiry_gte", "expiry_lte"))
    first, last = expiries(series["status"], first, last, chunk.window.start)
    rows = [_row(contract, series["status"]) for contract in c.distinct(rows_of(envelope, most), "ticker")]
    for row in rows:
        if row["underlying"] != asked or not first <= row["expiry"] <= last:
            raise PageError(
                f"The page has {row['contract_symbol']} of {row['underlying']}, which was not asked for: "
                f"expiries from {first} to {last} of {asked} were."
            )
    return Page(pa.Table.from_pylist(rows, c.SCHEMA) if rows else None, following(request, envelope))


def _row(contract: dict[str, Any], status: str) -> dict[str, Any]:
    symbol = str(c.text(contract, "ticker", needed=True)).removeprefix("O:")
    root = _ROOT.fullmatch(symbol)
    more = contract.get("additional_underlyings")
    return {
        "contract_symbol": symbol,
        "underlying": str(c.text(contract, "underlying_ticker", needed=True)).removeprefix("I:"),
        "root_symbol": root[1] if root else None,
        "expiry": c.day(contract, "expiration_date", needed=True),
        "option_type": c.text(contract, "contract_type", needed=True),
        "strike": c.strike(contract),
        "size": c.double(contract, "shares_per_contract"),
        "style": c.text(contract, "exercise_style"),
        "status": status,
        "deliverables": None if more is None else orjson.dumps(more).decode(),
        "raw_json": orjson.dumps(contract).decode(),
    }

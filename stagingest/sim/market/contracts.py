"""What the imitation knows of an option contract."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

OCC = re.compile(r"([A-Z]{1,6}\d?)(\d{2})(\d{2})(\d{2})([CP])(\d{8})")


@dataclass(frozen=True, slots=True)
class ListedContract:
    """A contract; the strike in dollars, `as_of` the session that open interest and close belong to.

    Unknown facts are None.
    """

    symbol: str
    underlying: str
    root: str
    expiry: date
    type: str
    strike: Decimal
    style: str = "american"
    open_interest: int | None = None
    close_price: float | None = None
    as_of: date | None = None

    def active(self, today: date) -> bool:
        """Whether it can still be traded on New York's `today`; it can on its last day."""
        return self.expiry >= today

    @property
    def penny(self) -> bool:
        """Whether it is in the penny program."""
        return self.strike % 5 == 0

    def row(self, today: date, *, deliverables: bool = False) -> dict[str, Any]:
        """The contract as the trading host writes it: decimals are strings, unknown facts null."""
        strike = format(self.strike.normalize(), "f")
        known = self.open_interest is not None
        row = {
            "id": _uuid(self.symbol),
            "symbol": self.symbol,
            "name": f"{self.underlying} {self.expiry:%b %d %Y} {strike} {self.type.title()}",
            "status": "active" if self.active(today) else "inactive",
            "tradable": self.active(today),
            "expiration_date": self.expiry.isoformat(),
            "root_symbol": self.root,
            "underlying_symbol": self.underlying,
            "underlying_asset_id": _uuid(self.underlying),
            "type": self.type,
            "style": self.style,
            "strike_price": strike,
            "multiplier": "100",
            "size": "100",
            "open_interest": str(self.open_interest) if known else None,
            "open_interest_date": self.as_of.isoformat() if known and self.as_of else None,
            "close_price": None if self.close_price is None else f"{self.close_price:g}",
            "close_price_date": None if self.close_price is None or not self.as_of else self.as_of.isoformat(),
            "ppind": self.penny,
        }
        return row | {"deliverables": [_shares(self.underlying)]} if deliverables else row

    def massive(self) -> dict[str, Any]:
        """The contract as Massive writes it: numbers are numbers, and it never says whether it is active."""
        strike = float(self.strike)
        return {
            "cfi": f"O{self.type[0].upper()}{self.style[0].upper()}SPS",
            "contract_type": self.type,
            "exercise_style": self.style,
            "expiration_date": self.expiry.isoformat(),
            "primary_exchange": "BATO",
            "shares_per_contract": 100,
            "strike_price": int(strike) if strike.is_integer() else strike,
            "ticker": f"O:{self.symbol}",
            "underlying_ticker": self.underlying,
        }


def of_row(row: Mapping[str, Any]) -> ListedContract:
    """The contract in a row with `symbol underlying expiration type strike` and perhaps `style`."""
    found = OCC.fullmatch(row["symbol"])
    root = found[1] if found else row["underlying"]
    strike = Decimal(str(row["strike"]))
    style = row.get("style") or "american"
    return ListedContract(row["symbol"], row["underlying"], root, row["expiration"], row["type"], strike, style)


def _shares(underlying: str) -> dict[str, Any]:
    return {
        "type": "equity",
        "symbol": underlying,
        "asset_id": _uuid(underlying),
        "amount": "100",
        "allocation_percentage": "100",
        "settlement_type": "T+1",
        "settlement_method": "CCC",
        "delayed_settlement": False,
    }


def _uuid(text: str) -> str:
    return str(UUID(bytes=blake2b(text.encode(), digest_size=16).digest()))

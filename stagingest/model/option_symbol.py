"""An option contract's symbol of the OCC, taken apart."""

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

_OCC = re.compile(r"([A-Z]{1,5}[0-9]?|[A-Z]{6})(\d{2})(\d{2})(\d{2})([CP])(\d{8})")


@dataclass(frozen=True, slots=True)
class OptionSymbol:
    """The parts of an OCC option symbol; the strike in dollars."""

    root: str
    expiry: date
    type: str
    strike: Decimal

    @classmethod
    def parse(cls, text: str) -> "OptionSymbol | None":
        """The parts of `text`, or None when it is no OCC symbol."""
        found = _OCC.fullmatch(text)
        if not found:
            return None
        root, year, month, day, letter, strike = found.groups()
        try:
            expiry = date(2000 + int(year), int(month), int(day))
        except ValueError:
            return None
        kind = "call" if letter == "C" else "put"
        return cls(root, expiry, kind, Decimal(strike) / 1000)

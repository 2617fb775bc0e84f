"""Contracts that staged listings name, whose underlyings they have, and bounds of those that are meant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path

from stagingest.model.option_symbol import OptionSymbol
from stagingest.model.task import Entry, Outcome
from stagingest.staging import storage

_MILLI = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class Contract:
    """An option contract as the listing knows it."""

    symbol: str
    underlying: str
    expiry: date


@dataclass(frozen=True, slots=True)
class ContractBounds:
    """Which contracts are meant, by expiry, strike in dollars and type, all inclusive; None and '' bound nothing.

    Args:
        moneyness: strike over the underlying's close, lowest and highest; where no close is known it bounds nothing.
    """

    expiry_gte: date | None = None
    expiry_lte: date | None = None
    strike_gte: Decimal | None = None
    strike_lte: Decimal | None = None
    option_type: str = ""
    moneyness: tuple[Decimal, Decimal] | None = None

    @property
    def given(self) -> list[str]:
        """The names of the bounds there are."""
        return [each.name for each in fields(self) if getattr(self, each.name) not in (None, "")]

    def strikes(self, close: float | None) -> tuple[Decimal | None, Decimal | None]:
        """Lowest and highest strike of contracts of an underlying with that close."""
        low, high = self.strike_gte, self.strike_lte
        if self.moneyness is None or close is None:
            return low, high
        near, far = (Decimal(str(close)) * each for each in self.moneyness)
        near, far = near.quantize(_MILLI, ROUND_FLOOR), far.quantize(_MILLI, ROUND_CEILING)
        return near if low is None else max(low, near), far if high is None else min(high, far)

    def hold(self, contract: Contract, close: float | None) -> bool:
        """Whether a contract is meant, given its underlying's close."""
        parts = OptionSymbol.parse(contract.symbol)
        low, high = self.strikes(close)
        return (
            (self.expiry_gte or date.min) <= contract.expiry <= (self.expiry_lte or date.max)
            and parts is not None
            and self.option_type in ("", parts.type)
            and (low is None or low <= parts.strike)
            and (high is None or parts.strike <= high)
        )


def newest_listings(entries: Iterable[Entry], endpoint: str) -> list[Entry]:
    """The staged listing entries of `endpoint` that no later entry of the same series and underlyings replaces."""
    newest: dict[tuple[str, str], int] = {}
    listings: dict[int, Entry] = {}
    for entry in entries:
        chunk = entry.chunk
        if chunk.series.endpoint != endpoint or entry.outcome not in (Outcome.STAGED, Outcome.EMPTY):
            continue
        listings[entry.seq] = entry
        for symbol in chunk.symbols:
            newest[chunk.series.id, symbol] = entry.seq
    wanted = set(newest.values())
    return [entry for seq, entry in listings.items() if seq in wanted and entry.path]


def listed(entries: Iterable[Entry], endpoint: str) -> set[str]:
    """The underlyings whose contracts were listed, those that turned out to have none too."""
    good = (Outcome.STAGED, Outcome.EMPTY)
    listings = (entry for entry in entries if entry.chunk.series.endpoint == endpoint and entry.outcome in good)
    return {symbol for entry in listings for symbol in entry.chunk.symbols}


def staged_contracts(root: Path, entries: Iterable[Entry], endpoint: str, underlyings: Sequence[str]) -> list[Contract]:
    """The contracts of `underlyings` in the newest staged listings, sorted by underlying, expiry, symbol."""
    import pyarrow.parquet as pq

    wanted = set(underlyings)
    found: set[tuple[str, date, str]] = set()
    files = storage.at(root)
    for entry in newest_listings(entries, endpoint):
        if wanted.isdisjoint(entry.chunk.symbols):
            continue
        table = pq.read_table(files.address(entry.path), columns=["underlying", "expiry", "contract_symbol"])
        found.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return contracts(found, wanted)


def underlyings(root: Path, entries: Iterable[Entry], endpoint: str, after: date) -> set[str]:
    """Whose contracts in the newest staged listings expire on `after` or later."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: set[str] = set()
    for entry in newest_listings(entries, endpoint):
        table = pq.read_table(storage.at(root).address(entry.path), columns=["underlying", "expiry"])
        found.update(pc.unique(table["underlying"].filter(pc.greater_equal(table["expiry"], after))).to_pylist())
    return found


def contracts(rows: Iterable[tuple[str, date, str]], underlyings: Iterable[str]) -> list[Contract]:
    """Contracts from (underlying, expiry, symbol) rows, sorted, of the wanted underlyings only."""
    wanted = set(underlyings)
    ordered = sorted(row for row in set(rows) if row[0] in wanted)
    return [Contract(symbol, underlying, expiry) for underlying, expiry, symbol in ordered]

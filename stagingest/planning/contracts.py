"""Contracts that staged listings name, and whose underlyings they have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from stagingest.model.task import Entry, Outcome


@dataclass(frozen=True, slots=True)
class Contract:
    """An option contract as the listing knows it."""

    symbol: str
    underlying: str
    expiry: date


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
    for entry in newest_listings(entries, endpoint):
        if wanted.isdisjoint(entry.chunk.symbols):
            continue
        table = pq.read_table(root / entry.path, columns=["underlying", "expiry", "contract_symbol"])
        found.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return contracts(found, wanted)


def underlyings(root: Path, entries: Iterable[Entry], endpoint: str, after: date) -> set[str]:
    """Whose contracts in the newest staged listings expire on `after` or later."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: set[str] = set()
    for entry in newest_listings(entries, endpoint):
        table = pq.read_table(root / entry.path, columns=["underlying", "expiry"])
        found.update(pc.unique(table["underlying"].filter(pc.greater_equal(table["expiry"], after))).to_pylist())
    return found


def contracts(rows: Iterable[tuple[str, date, str]], underlyings: Iterable[str]) -> list[Contract]:
    """Contracts from (underlying, expiry, symbol) rows, sorted, of the wanted underlyings only."""
    wanted = set(underlyings)
    ordered = sorted(row for row in set(rows) if row[0] in wanted)
    return [Contract(symbol, underlying, expiry) for underlying, expiry, symbol in ordered]

"""Names to symbols: lists, files, and the contracts of underlyings."""

import csv
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from stagingest.errors import UsageError
from stagingest.model import Entry, Outcome
from stagingest.providers import Endpoint
from stagingest.verdict import plain

LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Contract:
    """An option contract as the listing knows it."""

    symbol: str
    underlying: str
    expiry: date


@dataclass(frozen=True, slots=True)
class Symbols:
    """What a list of names came to.

    Args:
        kept: the provider's spelling, sorted, without duplicates.
        changed: (as given, as kept) where they differ by more than case and blanks.
        rejected: names the provider's pattern refuses.
    """

    kept: tuple[str, ...]
    changed: tuple[tuple[str, str], ...] = ()
    rejected: tuple[str, ...] = ()


def resolve(names: Iterable[str], endpoint: Endpoint) -> Symbols:
    """The symbols of `names` as the endpoint spells them."""
    kept: set[str] = set()
    changed: list[tuple[str, str]] = []
    rejected: list[str] = []
    for name in dict.fromkeys(name.strip() for name in names):
        if not name:
            continue
        symbol = endpoint.symbol(name) if name.isascii() and len(name) <= LONGEST_NAME else None
        if symbol is None:
            # It came from a file, perhaps: shown without what would move a terminal's cursor.
            rejected.append(plain(name, LONGEST_NAME))
            continue
        if symbol != name.upper():
            changed.append((name, symbol))
        kept.add(symbol)
    return Symbols(tuple(sorted(kept)), tuple(changed), tuple(rejected))


def from_file(text: str) -> list[str]:
    """The names in `FILE[:COLUMN]`: a CSV column, or one name a line.

    Without COLUMN, a column headed `symbol` or `ticker` is taken, else the first; a single line is a list. Lines that
    begin with # are skipped.

    Raises UsageError when the file cannot be read or the column is missing, with the nearest one.
    """
    path, column = _split(text)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"Symbols file {path} cannot be read: {reason}.") from None
    if not rows:
        raise UsageError(f"Symbols file {path} is empty.")
    header = [cell.strip() for cell in rows[0]]
    if column:
        return _cells(rows[1:], _index(header, column, path))
    for name in ("symbol", "ticker"):
        if name in (found := [cell.lower() for cell in header]):
            return _cells(rows[1:], found.index(name))
    if len(rows) == 1:
        return [cell for cell in header if cell]
    return _cells(rows, 0)


def _split(text: str) -> tuple[Path, str]:
    if Path(text).exists() or ":" not in text:
        return Path(text), ""
    path, _, column = text.rpartition(":")
    return Path(path), column


def _index(header: Sequence[str], column: str, path: Path) -> int:
    if column in header:
        return header.index(column)
    near = difflib.get_close_matches(column, header, 1, 0.0)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"{path} has no column {column!r}.", f"{hint}It has: {', '.join(header)}.")


def _cells(rows: Sequence[Sequence[str]], index: int) -> list[str]:
    return [row[index].strip() for row in rows if len(row) > index and row[index].strip()]


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


def contracts(rows: Iterable[tuple[str, date, str]], underlyings: Iterable[str]) -> list[Contract]:
    """Contracts from (underlying, expiry, symbol) rows, sorted, of the wanted underlyings only."""
    wanted = set(underlyings)
    ordered = sorted(row for row in set(rows) if row[0] in wanted)
    return [Contract(symbol, underlying, expiry) for underlying, expiry, symbol in ordered]

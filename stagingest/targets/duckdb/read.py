"""What a DuckDB database knows that a fetch need not ask; opened read-only and closed at once."""

from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path

from stagingest.model.windows import Window
from stagingest.targets.duckdb import sql
from stagingest.targets.duckdb.connection import NoTableError, read


def contracts(path: Path, underlyings: Iterable[str], schema: str = "main") -> list[tuple[str, date, str]]:
    """(underlying, expiry, contract symbol) of what a database knows of the underlyings; none without the table."""
    try:
        return read(path, sql.CONTRACTS, schema=schema, underlyings=list(underlyings))[1]
    except NoTableError:
        return []


def underlyings(path: Path, after: date, schema: str = "main") -> list[str]:
    """Whose contracts in a database expire on `after` or later; none without the table."""
    try:
        rows = read(path, sql.UNDERLYINGS, schema=schema, after=after)[1]
    except NoTableError:
        return []
    return [str(name) for (name,) in rows]


def coverage(path: Path, series: Iterable[str], schema: str = "main") -> dict[str, dict[str, list[Window]]]:
    """What a database's ledger covers of series (their ids): series -> symbol -> windows, unmerged."""
    try:
        rows = read(path, sql.COVERED, schema=schema, series=list(series))[1]
    except NoTableError:
        return {}
    found: dict[str, dict[str, list[Window]]] = {}
    for of, symbols, starts, ends in rows:
        windows = [Window(start, end) for start, end in zip(starts, ends, strict=True)]
        for symbol in symbols:
            found.setdefault(of, {}).setdefault(symbol, []).extend(windows)
    return found


def closes(
    path: Path, provider: str, symbols: Iterable[str], schema: str = "main"
) -> list[tuple[str, datetime, float]]:
    """(symbol, ts, close) of the latest raw daily bar of each symbol that a database has; none without the table."""
    try:
        return read(path, sql.CLOSES, schema=schema, provider=provider, symbols=list(symbols))[1]
    except NoTableError:
        return []

"""Names to symbols, and underlyings to their contracts."""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagingest.errors import UsageError, choices, nearest
from stagingest.model.secrets import plain
from stagingest.providers.endpoint import Endpoint

LONGEST_NAME = 64
# What trades against money is no class of shares, however it is spelled.
_PAIR = re.compile(
    r"[A-Z0-9]{2,10}[/-](?:USD[CT]?|EUR|GBP|JPY|CHF|AUD|CAD|NZD|CNY|HKD|SGD|MXN|BTC|ETH)|[XC]:[A-Z0-9]{6,}",
    re.IGNORECASE,
)


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
    """The symbols of `names` as the endpoint spells them.

    Raises UsageError for a pair of currencies, which would be another instrument if it were respelled.
    """
    kept: set[str] = set()
    changed: list[tuple[str, str]] = []
    rejected: list[str] = []
    for name in dict.fromkeys(name.strip() for name in names):
        if not name:
            continue
        if _PAIR.fullmatch(name):
            raise UsageError(f"{name} looks like a pair of currencies.", f"{endpoint.name} is of stocks and options.")
        symbol = endpoint.symbol(name) if name.isascii() and len(name) <= LONGEST_NAME else None
        if symbol is None:
            # It came from a file, perhaps: shown without what would move a terminal's cursor.
            rejected.append(plain(name, LONGEST_NAME))
            continue
        if symbol != name.upper():
            changed.append((name, symbol))
        kept.add(symbol)
    return Symbols(tuple(sorted(kept)), tuple(changed), tuple(rejected))


WATCHLISTS = (Path("watchlists.json"), Path("data/watchlists.json"))
"""Where watchlists are looked for when no file is named."""
USUAL = ("positions", "monitor")
"""The watchlists that a fetch of bars without a symbol asks."""


def from_file(text: str) -> list[str]:
    """The names in `FILE[:COLUMN]`.

    A CSV file: the column, else the one headed `symbol` or `ticker`, else the first; a single line is a list. A text
    file: one name a line; lines that begin with # are skipped. A JSON file (`.json`): a list of names, of objects (the
    member is chosen as the column is), or an object of lists, of which COLUMN names one, else all.

    Raises UsageError when the file cannot be read or the column is missing, with the nearest one.
    """
    path, column = split(text)
    if path.suffix.lower() == ".json":
        return _of_json(_json(path, "Symbols file"), column, path)
    rows = _rows(path)
    header = [cell.strip() for cell in rows[0]]
    if column:
        return _cells(rows[1:], _index(header, column, path))
    for name in ("symbol", "ticker"):
        if name in (found := [cell.lower() for cell in header]):
            return _cells(rows[1:], found.index(name))
    if len(rows) == 1:
        return [cell for cell in header if cell]
    return _cells(rows, 0)


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, or of a JSON list of objects; none of anything else.

    Raises UsageError when the file cannot be read.
    """
    if path.suffix.lower() == ".json":
        found = _json(path, "Symbols file")
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            return []
        return [{str(name): "" if value is None else str(value) for name, value in row.items()} for row in found]
    header, *rows = _rows(path)
    return [{**dict.fromkeys(header, ""), **dict(zip(header, row, strict=False))} for row in rows]


def split(text: str) -> tuple[Path, str]:
    """`FILE[:COLUMN]` as the two."""
    if Path(text).exists() or ":" not in text:
        return Path(text), ""
    path, _, column = text.rpartition(":")
    return Path(path), column


def watchlists(path: Path | None) -> tuple[Path | None, dict[str, list[str]]]:
    """The file and its lists by name; of the usual places when no file is named, none when there is none.

    Raises UsageError when it cannot be read or is no object of lists of names.
    """
    place = path or next((each for each in WATCHLISTS if each.exists()), None)
    if place is None:
        return None, {}
    found = _json(place, "Watchlists file")
    if not isinstance(found, dict) or not all(_is_names(names) for names in found.values()):
        raise UsageError(f"Watchlists file {place} is no object of lists.", 'Write {"positions": ["AAPL", "MSFT"]}.')
    return place, found


def watched(names: Iterable[str], path: Path | None) -> list[str]:
    """The symbols of watchlists. Raises UsageError for one that does not exist, with the nearest name."""
    place, known = watchlists(path)
    symbols = []
    for name in names:
        if name not in known:
            raise UsageError(
                f"There is no watchlist {name!r} in {place or WATCHLISTS[0]}.", choices(name, sorted(known))
            )
        symbols += known[name]
    return symbols


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"Symbols file {path} cannot be read: {reason}.") from None
    if not rows:
        raise UsageError(f"Symbols file {path} is empty.")
    return rows


def _json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise UsageError(f"{what} {path} cannot be read: {reason}.") from None


def _of_json(found: Any, column: str, path: Path) -> list[str]:
    if isinstance(found, dict) and column:
        _index(list(found), column, path)
        found = found[column]
    lists = list(found.values()) if isinstance(found, dict) else [found]
    names: list[str] = []
    for each in lists:
        if _is_names(each):
            names += each
        elif isinstance(each, list) and each and all(isinstance(row, Mapping) for row in each):
            member = column or next((name for name in ("symbol", "ticker") if name in each[0]), next(iter(each[0])))
            _index(list(each[0]), member, path)
            names += [str(row[member]) for row in each if row.get(member)]
        else:
            raise UsageError(f"Symbols file {path} holds no list of names.", 'Write ["AAPL", "MSFT"].')
    return [name.strip() for name in names if name.strip()]


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _index(header: Sequence[str], column: str, path: Path) -> int:
    if column in header:
        return header.index(column)
    near = nearest(column, header)
    hint = f"Did you mean {near!r}? " if near else ""
    raise UsageError(f"{path} has no column {column!r}.", f"{hint}It has: {', '.join(header)}.")


def _cells(rows: Sequence[Sequence[str]], index: int) -> list[str]:
    return [row[index].strip() for row in rows if len(row) > index and row[index].strip()]

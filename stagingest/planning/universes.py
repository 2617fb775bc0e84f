"""Universes of a staging directory: their members are staged as entries, which `load` takes like any other."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path

from stagingest import errors
from stagingest.errors import UsageError
from stagingest.model import calendar
from stagingest.model.datasets import dataset
from stagingest.model.task import Entry
from stagingest.model.windows import Window
from stagingest.providers.user import UniverseMembers
from stagingest.staging import storage
from stagingest.staging.manifest import Manifest, has_manifest

MEMBERS = dataset(UniverseMembers.dataset)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def names(root: Path) -> list[str]:
    """The universes of a staging directory, sorted; none when it is not there."""
    return sorted(newest_entries(root))


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A symbol belongs from `added` to before `removed`; None: still."""

    symbol: str
    added: date
    removed: date | None = None

    def belongs(self, day: date) -> bool:
        """Whether it belonged on a day."""
        return self.added <= day and (self.removed is None or day < self.removed)


def members(root: Path, name: str) -> list[Member]:
    """Every row of a universe, sorted. Raises UsageError when there is none of that name, with the nearest."""
    import pyarrow.parquet as pq

    newest = newest_entries(root)
    if name not in newest:
        raise UsageError(f"There is no universe {name!r} in {root}.", _nearest(name, newest))
    place = storage.at(root).address(newest[name].path)
    table = pq.read_table(place, columns=["symbol", "added_date", "removed_date"], partitioning=None)
    return [Member(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


def _nearest(name: str, known: dict[str, Entry]) -> str:
    return errors.choices(name, sorted(known)) if known else f"Run `stagingest universe import {name} FILE` first."


def newest_entries(root: Path) -> dict[str, Entry]:
    """Universe -> the entry that lists its members last."""
    if not has_manifest(root):
        return {}
    with Manifest.read(root, unseen=True) as manifest:
        entries = [e for e in manifest.entries() if e.chunk.series.endpoint == UniverseMembers.name and e.path]
    return {entry.chunk.symbols[0]: entry for entry in entries}


def as_of(members: Iterable[Member], day: date) -> list[str]:
    """The symbols of a day, sorted."""
    return sorted({member.symbol for member in members if member.belongs(day)})


def during(members: Iterable[Member], window: Window) -> list[str]:
    """The symbols that belonged on some day of a window, sorted: without those that left, a backtest sees survivors."""
    found = set()
    for member in members:
        end = window.end if member.removed is None else min(member.removed, window.end)
        if max(member.added, window.start) < end:
            found.add(member.symbol)
    return sorted(found)


def known_to(members: Iterable[Member]) -> date:
    """The day of the last change."""
    return max(day for member in members for day in (member.added, member.removed) if day is not None)


def listed(members: Sequence[Member], symbols: Iterable[str], day: date) -> list[Member]:
    """The members after a list of all symbols of a day: who is not in it has left, who is new has joined.

    Raises UsageError when later changes are known already.
    """
    if members and day < known_to(members):
        raise UsageError(
            f"Changes up to {known_to(members)} are known, and the list is of {day}.",
            "Import older changes as a file with columns symbol, added and removed.",
        )
    now = set(symbols)
    rows = {(member.symbol, member.added): member for member in members}
    for member in members:
        if member.belongs(day) and member.symbol not in now:
            rows[member.symbol, member.added] = replace(member, removed=day)
    for symbol in now.difference(as_of(members, day)):
        rows[symbol, day] = Member(symbol, day)
    return sorted(rows.values(), key=_key)


def replaced(members: Iterable[Member], history: Iterable[Member]) -> list[Member]:
    """The members after a whole history was given: it holds, and what it does not repeat never was.

    Raises UsageError when a symbol belongs twice on one day, or leaves before it joins.
    """
    rows = {(member.symbol, member.added): replace(member, removed=member.added) for member in members}
    given: dict[str, list[Member]] = {}
    for member in history:
        given.setdefault(member.symbol, []).append(member)
        rows[member.symbol, member.added] = member
    for symbol, stretches in given.items():
        _check(symbol, sorted(stretches, key=_key))
    return sorted(rows.values(), key=_key)


def _check(symbol: str, stretches: Sequence[Member]) -> None:
    for member in stretches:
        if member.removed is not None and member.removed < member.added:
            raise UsageError(f"{symbol} is removed on {member.removed} before it is added on {member.added}.")
    for one, other in pairwise(stretches):
        if one.removed is None or other.added < one.removed:
            raise UsageError(f"{symbol} is added on {other.added} and was not removed since {one.added}.")


def _key(member: Member) -> tuple[str, date]:
    return member.symbol, member.added


def history(rows: Iterable[Mapping[str, str]]) -> list[Member] | None:
    """The members in rows of a table with columns symbol (or ticker), added and removed; None when it has not these.

    Raises UsageError for a day that is none.
    """
    found = []
    for row in rows:
        names = {name.strip().lower().removeprefix("date_").removesuffix("_date"): name for name in row}
        symbol = names.get("symbol", names.get("ticker"))
        if symbol is None or "added" not in names or "removed" not in names:
            return None
        added, removed = row[names["added"]].strip(), row[names["removed"]].strip()
        found.append(
            Member(
                row[symbol].strip(), calendar.day("added", added), calendar.day("removed", removed) if removed else None
            )
        )
    return found or None

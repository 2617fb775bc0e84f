"""Universes taken from files and lists, and staged."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from stagingest.errors import UsageError
from stagingest.model.calendar import day, new_york
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import arrow_schema
from stagingest.model.task import Outcome, Task, TaskResult, footer
from stagingest.model.windows import Window
from stagingest.planning import symbols as planning_symbols
from stagingest.planning import universes
from stagingest.planning.universes import MEMBERS, NAME, Member, members, newest_entries
from stagingest.providers import catalog
from stagingest.providers.user import UniverseMembers
from stagingest.staging import directory, parts
from stagingest.staging.manifest import Commit, Manifest, refuse_lost_manifest
from stagingest.system import platform
from stagingest.system.locks import Lock


def import_universe(
    name: str,
    file: str | Path,
    *,
    as_of: str | date = "",
    staging: str | Path = "staging",
    clock: Callable[[], datetime] = platform.utc_now,
) -> "Kept":
    """Take the members of a universe from a file and stage them; `load` brings them into table `universe_members`.

    Args:
        name: of the universe.
        file: a CSV file, JSON or one symbol a line, as `FILE[:COLUMN]`. With columns symbol, added and removed (days,
            empty: still a member) it is the history and replaces what was known; else it lists all members of a day.
        as_of: the day of such a list, today by default; who is not in it has left.
        staging: the staging directory, made if absent.
        clock: the time, UTC.

    Raises UsageError for a file or day that cannot be read, HeldError while a fetch works in `staging`.
    """

    return imported(Path(staging), name, str(file), str(as_of), clock())


def keep_universe(
    name: str,
    symbols: Iterable[str],
    *,
    as_of: str | date = "",
    staging: str | Path = "staging",
    clock: Callable[[], datetime] = platform.utc_now,
) -> "Kept":
    """As `import_universe`, of all members of a day in a list. Raises as that."""

    return listed(Path(staging), name, list(symbols), str(as_of), clock())


@dataclass(frozen=True, slots=True)
class Kept:
    """What an import did.

    Args:
        members: who belongs now. joined, left: against what was known.
        changed, rejected: as in `universe.Symbols`.
    """

    members: int
    joined: int
    left: int
    changed: tuple[tuple[str, str], ...]
    rejected: tuple[str, ...]


def imported(root: Path, name: str, file: str, as_of: str, now: datetime) -> Kept:
    """Take a universe from a file, see `stagingest.import_universe`."""
    path, column = planning_symbols.split(file)
    history = None if column else universes.history(planning_symbols.table(path))
    if not history:
        return listed(root, name, planning_symbols.from_file(file), as_of, now)
    stocks = catalog.resolve("stock-bars")  # a fetch from another provider respells them
    said = planning_symbols.resolve((each.symbol for each in history), stocks)
    spelled = {each.symbol: stocks.symbol(each.symbol) for each in history}
    rows = [replace(each, symbol=symbol) for each in history if (symbol := spelled[each.symbol])]
    before = _before(root, name)
    return _kept(root, name, before, universes.replaced(before, rows), said, now)


def listed(root: Path, name: str, symbols: Iterable[str], as_of: str, now: datetime) -> Kept:
    """Take all members of a day, see `stagingest.import_universe`."""
    stocks = catalog.resolve("stock-bars")  # a fetch from another provider respells them
    said = planning_symbols.resolve(symbols, stocks)
    at = day("--as-of", as_of) if as_of else new_york(now).date()
    before = _before(root, name)
    return _kept(root, name, before, universes.listed(before, said.kept, at), said, now)


def _before(root: Path, name: str) -> list[Member]:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r:.80} is no name of a universe.", "Use letters, digits, dot, dash and underscore.")
    return members(root, name) if name in newest_entries(root) else []


def _kept(
    root: Path,
    name: str,
    before: Sequence[Member],
    after: Sequence[Member],
    said: planning_symbols.Symbols,
    now: datetime,
) -> Kept:
    if not said.kept:
        raise UsageError("No symbol was named.", "Symbols look like AAPL or BRK.B.")
    today = new_york(now).date()
    old, new = (set(universes.as_of(each, today)) for each in (before, after))
    if list(after) != list(before):
        keep(root, name, after, now)
    return Kept(len(new), len(new - old), len(old - new), said.changed, said.rejected)


def keep(root: Path, name: str, found: Sequence[Member], now: datetime) -> None:
    """Stage the members of a universe.

    Raises StagingError when the directory cannot be used, HeldError while a fetch works in it.
    """
    import pyarrow as pa

    root = directory.prepare(root)
    with Lock.take(root / "run.lock", "importing a universe"):
        refuse_lost_manifest(root)
        today = new_york(now).date()
        series = Series.of(UniverseMembers.name, {"universe": name})
        task = Task(secrets.token_hex(4), 1, Chunk(series, (name,), Window(today, today + timedelta(days=1))))
        columns: dict[str, list[Any]] = {
            "universe": [name] * len(found),
            "symbol": [member.symbol for member in found],
            "added_date": [member.added for member in found],
            "removed_date": [member.removed for member in found],
            "updated_at": [now.astimezone(UTC).replace(tzinfo=None)] * len(found),
        }
        schema = arrow_schema(MEMBERS)
        nothing = [None] * len(found)  # in a column that no import fills
        arrays = [pa.array(columns.get(field.name, nothing), field.type) for field in schema]
        with Manifest.write(root) as manifest:
            parts.begin_part(root, task.part)
            said = footer(manifest.staging_id, task, MEMBERS.schema, now)
            part = parts.write_part(root, task.part, pa.Table.from_arrays(arrays, schema=schema), said)
            (path,) = directory.publish_parts(root, UniverseMembers.name, [part])
            result = TaskResult(Outcome.STAGED, asked_at=now, part=part, symbol_rows=((name, len(found)),))
            with manifest.transaction():
                manifest.plan([task.chunk], task.run)
                manifest.record([Commit(task, result, True, now, MEMBERS.schema, path)])

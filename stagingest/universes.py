"""Universes of a staging directory: their members are staged as entries, which `load` takes like any other."""

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stagingest import lists, membership, staging, universe
from stagingest.datasets import arrow_schema, dataset
from stagingest.days import day
from stagingest.errors import UsageError
from stagingest.locks import Lock
from stagingest.lost import refuse_lost_manifest, there
from stagingest.manifest import Ack, Manifest
from stagingest.membership import Member
from stagingest.model import Chunk, Entry, Outcome, Series, Window
from stagingest.orders import Order, Result, footer
from stagingest.providers.alpaca import StockBars
from stagingest.providers.members import UniverseMembers
from stagingest.sessions import new_york

# Tickers are spelled as the first provider spells them; a fetch from another respells them.
_STOCKS = StockBars()
_DATA = dataset(UniverseMembers.dataset)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def names(root: Path) -> list[str]:
    """The universes of a staging directory, sorted; none when it is not there."""
    return sorted(_newest(root))


def members(root: Path, name: str) -> list[Member]:
    """Every row of a universe, sorted. Raises UsageError when there is none of that name, with the nearest."""
    import pyarrow.parquet as pq

    newest = _newest(root)
    if name not in newest:
        raise UsageError(f"There is no universe {name!r} in {root}.", _nearest(name, newest))
    table = pq.read_table(root / newest[name].path, columns=["symbol", "added_date", "removed_date"], partitioning=None)
    return [Member(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


def _nearest(name: str, known: dict[str, Entry]) -> str:
    return lists.nearest(name, known) if known else f"Run `stagingest universe import {name} FILE` first."


def _newest(root: Path) -> dict[str, Entry]:
    if not there(root):
        return {}
    with Manifest.read(root, unseen=True) as manifest:
        entries = [e for e in manifest.entries() if e.chunk.series.endpoint == UniverseMembers.name and e.path]
    return {entry.chunk.symbols[0]: entry for entry in entries}


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
    path, column = lists.split(file)
    history = None if column else membership.history(lists.table(path))
    if not history:
        return listed(root, name, lists.from_file(file), as_of, now)
    said = universe.resolve((each.symbol for each in history), _STOCKS)
    spelled = {each.symbol: _STOCKS.symbol(each.symbol) for each in history}
    rows = [replace(each, symbol=symbol) for each in history if (symbol := spelled[each.symbol])]
    before = _before(root, name)
    return _kept(root, name, before, membership.replaced(before, rows), said, now)


def listed(root: Path, name: str, symbols: Iterable[str], as_of: str, now: datetime) -> Kept:
    """Take all members of a day, see `stagingest.import_universe`."""
    said = universe.resolve(symbols, _STOCKS)
    at = day("--as-of", as_of) if as_of else new_york(now).date()
    before = _before(root, name)
    return _kept(root, name, before, membership.listed(before, said.kept, at), said, now)


def _before(root: Path, name: str) -> list[Member]:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r:.80} is no name of a universe.", "Use letters, digits, dot, dash and underscore.")
    return members(root, name) if name in _newest(root) else []


def _kept(
    root: Path, name: str, before: Sequence[Member], after: Sequence[Member], said: universe.Symbols, now: datetime
) -> Kept:
    if not said.kept:
        raise UsageError("No symbol was named.", "Symbols look like AAPL or BRK.B.")
    today = new_york(now).date()
    old, new = (set(membership.as_of(each, today)) for each in (before, after))
    if list(after) != list(before):
        keep(root, name, after, now)
    return Kept(len(new), len(new - old), len(old - new), said.changed, said.rejected)


def keep(root: Path, name: str, found: Sequence[Member], now: datetime) -> None:
    """Stage the members of a universe.

    Raises StagingError when the directory cannot be used, HeldError while a fetch works in it.
    """
    import pyarrow as pa

    root = staging.prepare(root)
    with Lock.take(root / "run.lock", "importing a universe"):
        refuse_lost_manifest(root)
        today = new_york(now).date()
        series = Series.of(UniverseMembers.name, {"universe": name})
        order = Order(secrets.token_hex(4), 1, Chunk(series, (name,), Window(today, today + timedelta(days=1))))
        columns = {
            "universe": [name] * len(found),
            "symbol": [member.symbol for member in found],
            "added_date": [member.added for member in found],
            "removed_date": [member.removed for member in found],
            "updated_at": [now.astimezone(UTC).replace(tzinfo=None)] * len(found),
        }
        schema = arrow_schema(_DATA)
        arrays = [pa.array(columns[field.name], field.type) for field in schema]
        with Manifest.write(root) as manifest:
            staging.begin_part(root, order.part)
            said = footer(manifest.staging_id, order, _DATA.schema, now)
            part = staging.write_part(root, order.part, pa.Table.from_arrays(arrays, schema=schema), said)
            (path,) = staging.settle(root, UniverseMembers.name, [part])
            result = Result(Outcome.STAGED, asked_at=now, part=part, symbol_rows=((name, len(found)),))
            with manifest.transaction():
                manifest.plan([order.chunk], order.run)
                manifest.record([Ack(order, result, True, now, _DATA.schema, path)])

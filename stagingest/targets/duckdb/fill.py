"""What a batch does to one table of a DuckDB database, statement by statement; who runs them is handed in."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from stagingest.errors import TargetError
from stagingest.model.datasets import Dataset, Table
from stagingest.targets import Changes, Receipt
from stagingest.targets.batch import Batch, Group, Mode
from stagingest.targets.duckdb import sql


class Ask(Protocol):
    """Runs a statement with named parameters and reads its result to the end."""

    def __call__(self, text: str, **values: Any) -> list[tuple[Any, ...]]:
        """The rows. Raises TargetError."""


Registered = Callable[[str, Mapping[str, list[Any]]], AbstractContextManager[None]]


def fill(ask: Ask, registered: Registered, table: Table, batch: Batch, *, replace: bool) -> Receipt:
    """Put the rows of a batch into a table, inside the transaction of the caller.

    Args:
        ask: runs statements.
        registered: makes columns a table of that name while it is entered.
        replace: whole answers remove what they do not repeat.

    Raises TargetError when the files do not hold as many rows as the manifest says.
    """
    files = {"paths": [item.file for item in batch.files]}
    changes: Changes | None = None
    deleted = 0
    if batch.mode is Mode.NEWEST:
        ((deleted,),) = ask(sql.remove_older(table), **files)
        ((inserted,),) = ask(sql.append_newest(table), **files, ranks=batch.ranks())
        ((staged,),) = ask(sql.COUNT_STAGED, **files)
    else:
        if batch.mode is Mode.REPLACE:
            make_room = _clear if replace else _give_way
            made = [make_room(ask, registered, batch.dataset, table, group) for group in batch.groups(table)]
            deleted = sum(room.removed for room in made)
            if not replace:
                changes = Changes(batch.rows - deleted, sum(r.changed for r in made), sum(r.kept for r in made))
        ((inserted,),) = ask(sql.append(table), **files)
        staged = inserted
    if staged != batch.rows:
        raise TargetError(f"Its files hold {staged} rows where the manifest says {batch.rows}.")
    return Receipt(inserted, deleted, changes)


class _Room(NamedTuple):
    """Rows removed, how many of them come again with another value, and how many stay that do not come again."""

    removed: int
    changed: int = 0
    kept: int = 0


def _clear(ask: Ask, registered: Registered, data: Dataset, table: Table, group: Group) -> _Room:
    """Remove all rows of whole windows, and of the others what is staged. What that changes is not counted: it would
    cost as much as the rest.
    """
    removed = 0
    whole = group.windows(whole=True)
    if whole["symbols"]:
        with registered("windows", whole):
            ((removed,),) = ask(sql.remove_within(data, table, group.fixed), **group.fixed, **group.bounds())
    if len(whole["symbols"]) < len(group.files):
        removed += _remove(ask, data, table, group)
    return _Room(removed)


def _give_way(ask: Ask, registered: Registered, data: Dataset, table: Table, group: Group) -> _Room:
    """Remove what is staged, and count what that changes."""
    with registered("windows", group.windows()):
        values = {**group.fixed, **group.bounds()}
        ((held, met, changed),) = ask(sql.compare(data, table, group.fixed), paths=group.paths(), **values)
    if met:
        _remove(ask, data, table, group)
    return _Room(met, changed, held - met)


def _remove(ask: Ask, data: Dataset, table: Table, group: Group) -> int:
    values = {**group.fixed, **group.bounds()}
    ((removed,),) = ask(sql.remove(data, table, group.fixed), paths=group.paths(), **values)
    return int(removed)

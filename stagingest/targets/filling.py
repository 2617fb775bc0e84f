"""What a batch does to one table of a DuckDB database, statement by statement; who runs them is handed in."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from stagingest import sql
from stagingest.datasets import Table
from stagingest.errors import TargetError
from stagingest.targets import Batch, Changes, Mode, Receipt, columns_of


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
    files = {"paths": [str(item.file) for item in batch.files]}
    changes: Changes | None = None
    deleted = 0
    if batch.mode is Mode.NEWEST:
        ((deleted,),) = ask(sql.remove_older(table), **files)
        ((inserted,),) = ask(sql.append_newest(table), **files, ranks=batch.ranks())
        ((staged,),) = ask(sql.COUNT_STAGED, **files)
    else:
        if batch.mode is Mode.REPLACE:
            with registered("windows", columns_of(batch.windows(table))):
                changes, deleted = _make_room(ask, table, batch, files, replace=replace)
        ((inserted,),) = ask(sql.append(table), **files)
        staged = inserted
    if staged != batch.rows:
        raise TargetError(f"Its files hold {staged} rows where the manifest says {batch.rows}.")
    return Receipt(inserted, deleted, changes)


def _make_room(
    ask: Ask, table: Table, batch: Batch, files: dict[str, Any], *, replace: bool
) -> tuple[Changes | None, int]:
    """Remove what the batch replaces: what that changes (not counted with `replace`: it would cost as much as the
    rest), and the rows removed.
    """
    data, bounds = batch.dataset, batch.bounds()
    if replace:
        ((removed,),) = ask(sql.remove_within(data, table), **bounds)
        if not all(item.entry.covers for item in batch.files):
            ((more,),) = ask(sql.remove(data, table), **files, **bounds)
            removed += more
        return None, removed
    ((held, met, changed),) = ask(sql.compare(data, table), **files, **bounds)
    if met:
        ask(sql.remove(data, table), **files, **bounds)
    return Changes(batch.rows - met, changed, held - met), met

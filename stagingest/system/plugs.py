"""What other installed distributions add to the tool: objects behind their entry points."""

from collections.abc import Iterator
from typing import TypeVar

from stagingest.errors import UsageError

T = TypeVar("T")


def plugged(group: str, kind: type[T], noun: str) -> Iterator[tuple[str, T]]:
    """What entry points of a group lead to, sorted by name: (`name = where it is`, the object).

    Args:
        group: as in pyproject.toml. kind: of each object. noun: what a user calls one.

    Raises UsageError naming an entry point that cannot be imported or leads to something else.
    """
    from importlib.metadata import entry_points  # a command that needs none does without it

    for point in sorted(set(entry_points(group=group))):
        where = f"{point.name} = {point.value}"
        try:
            found = point.load()
        except Exception as error:
            raise UsageError(
                f"The {noun} {where} cannot be imported: {type(error).__name__}.",
                "Uninstall its package, or repair it.",
            ) from error
        if not isinstance(found, kind):
            raise UsageError(f"The entry point {where} is no {noun}.", "Uninstall its package, or repair it.")
        yield where, found

"""Which names a question means: those it lists, those of watchlists, and those that belonged to an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stagingest import lists, membership, universes
from stagingest.errors import UsageError
from stagingest.model import Window


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of symbols that a question refers to.

    Args:
        watchlist: names of watchlists.
        watchlists_file: where they are, '' for the usual places.
        index: names of universes.
    """

    watchlist: tuple[str, ...] = ()
    watchlists_file: str = ""
    index: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.watchlist or self.index)

    def symbols(self, root: Path, window: Window) -> list[str]:
        """The names in the lists. Of an index: all that belonged to it on some day of the window.

        Raises UsageError for a list that does not exist, with the nearest, and for an index without a member then.
        """
        place = Path(self.watchlists_file) if self.watchlists_file else None
        found = lists.watched(self.watchlist, place) if self.watchlist else []
        for name in self.index:
            found += _of_index(root, name, window)
        return found


def _of_index(root: Path, name: str, window: Window) -> Sequence[str]:
    members = universes.members(root, name)
    found = membership.during(members, window)
    if not found:
        first = min(member.added for member in members)
        raise UsageError(
            f"Universe {name} has no member from {window.start} to before {window.end}; its first is of {first}.",
            "Import who belonged before: `stagingest universe import --help`.",
        )
    return found


def usual() -> tuple[Lists, str]:
    """The watchlists that are asked when nothing is named, and a sentence that says so; nothing when there are none."""
    place, known = lists.watchlists(None)
    names = tuple(name for name in lists.USUAL if known.get(name))
    return Lists(names), f"No symbols were named: asking {' and '.join(names)} of {place}." if names else ""

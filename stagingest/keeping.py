"""The public functions beside fetch and load, which the commands call too: retry, repair, verify, prune, universes."""

from collections.abc import Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stagingest import settings

if TYPE_CHECKING:
    from stagingest.destination import How
    from stagingest.pruning import Pruned
    from stagingest.repairing import Repaired
    from stagingest.universes import Kept
    from stagingest.upkeep import Retried
    from stagingest.verifying import Verified


def retry(
    staging: str | Path = "staging",
    dataset: str = "",
    *,
    outcomes: Iterable[str] = (),
    symbols: Iterable[str] = (),
    chunks: Iterable[str] = (),
) -> "Retried":
    """Make due again what was refused, quarantined, failed or forbidden; asks nothing, the next fetch does.

    Args:
        staging: the staging directory.
        dataset: a dataset or endpoint, '' for every one.
        outcomes: of those four, none for all.
        symbols, chunks: only chunks with one of these symbols, or with one of these ids.

    Raises UsageError for a name under which nothing was given up, HeldError while a fetch holds `staging`.
    """
    from stagingest import upkeep

    return upkeep.retry(Path(staging), dataset, tuple(outcomes), tuple(symbols), tuple(chunks))


def repair(staging: str | Path = "staging") -> "Repaired":
    """Rebuild the manifest of a staging directory from its files when it is missing or damaged.

    Raises StagingError when `staging` is no staging directory, HeldError while somebody works in it.
    """
    from stagingest import repairing

    return repairing.repair(Path(staging))


def verify(staging: str | Path = "staging", to: str | Path | None = None, *, how: "How | None" = None) -> "Verified":
    """Read every staged byte, and a target's ledger and tables; name each disagreement and its cure, mend nothing.

    Args:
        staging: the staging directory.
        to: a target as in `load`; None looks at the staging directory alone.
        how: as in `load`.

    Raises StagingError when `staging` is no staging directory, HeldError when another process has the target.
    """
    from stagingest import destination, verifying

    return verifying.verify(Path(staging), None if to is None else destination.target(to, how))


def prune(staging: str | Path = "staging", *, loaded_in: str | Path, how: "How | None" = None) -> "Pruned":
    """Remove the staged files that a target's ledger lists; from then on that target answers for them.

    A fetch counts them as known when it is given the target (`db`); any other target lacks them, and `load` says so.
    Listings and adjusted series are kept.

    Args:
        staging: the staging directory.
        loaded_in: a target as in `load`.
        how: as in `load`.

    Raises StagingError when `staging` is no staging directory, HeldError when somebody works in it or has the target.
    """
    from stagingest import destination, pruning

    return pruning.prune(Path(staging), destination.target(loaded_in, how))


def import_universe(
    name: str,
    file: str | Path,
    *,
    as_of: str | date = "",
    staging: str | Path = "staging",
    clock: Callable[[], datetime] = settings.utc_now,
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
    from stagingest import universes

    return universes.imported(Path(staging), name, str(file), str(as_of), clock())


def keep_universe(
    name: str,
    symbols: Iterable[str],
    *,
    as_of: str | date = "",
    staging: str | Path = "staging",
    clock: Callable[[], datetime] = settings.utc_now,
) -> "Kept":
    """As `import_universe`, of all members of a day in a list. Raises as that."""
    from stagingest import universes

    return universes.listed(Path(staging), name, list(symbols), str(as_of), clock())

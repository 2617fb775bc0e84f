"""Loading, which the command calls too."""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stagingest.loading.loader import Listener as LoadListener
    from stagingest.loading.summary import LoadSummary
    from stagingest.targets import TargetOptions


def load(
    staging: str | Path | Iterable[str | Path] = "staging",
    to: str | Path = "market.duckdb",
    *,
    batch_rows: int = 1_500_000,
    adopt: bool = False,
    follow: bool = False,
    how: "TargetOptions | None" = None,
    listener: "LoadListener | None" = None,
) -> "LoadSummary":
    """Move what is staged and not yet in the ledger of a target into it; exactly once, however often it is run.

    Args:
        staging: staging directories; where they disagree, the later answer wins.
        to: a DuckDB file, made if absent.
        batch_rows: rows in one transaction.
        adopt: load also into a target that holds rows of other staging directories and none of these.
        follow: go on while a fetch works in one of the directories; the target is given back between the rounds.
        how: memory, threads, patience and the like.
        listener: called after each batch.

    Raises:
        HeldError: another process has the target, or is loading from the same staging directory.
        StagingError: `staging` is no staging directory.
        TargetError: the target is none of ours, or a batch cannot be loaded.
    """
    from stagingest.api import target as api_target
    from stagingest.loading import follow as loading_follow
    from stagingest.loading import loader
    from stagingest.loading import source as loading_source
    from stagingest.system.locks import Lock

    roots = [Path(staging)] if isinstance(staging, str | Path) else [Path(root) for root in staging]
    with ExitStack() as stack:
        staged = []
        for root in roots:
            source = loading_source.Staged(root.absolute())
            stack.enter_context(Lock.take(root / "load.lock", "loading"))
            staged.append(stack.enter_context(source))
        target = api_target.target(to, how)
        once = partial(loader.load, staged, target, batch_rows=batch_rows, adopt=adopt, listener=listener)
        return loading_follow.follow(once, roots) if follow else once()

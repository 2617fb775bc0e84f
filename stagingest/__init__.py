"""Backfill market data from rate-limited HTTP APIs: fetch, stage as Parquet, bulk-load.

Public names load lazily, so that importing the package imports no library:

    plan(...)    what a fetch with the same arguments would ask       -> Looked
    fetch(...)   ask a provider for what is missing and stage it      -> Fetched
    load(...)    move what is staged into a target                    -> LoadSummary
    status(...)  what a staging directory holds and is doing          -> Standing
    retry(...)   make due again what was given up                     -> Retried
    verify(...)  whether files, manifest and a target agree           -> Verified
    prune(...)   remove staged files that a target answers for        -> Pruned
    import_universe(...)  keep who belonged to an index when      -> Kept
    repair(...)  rebuild a damaged manifest from the staged files     -> Repaired
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stagingest.api import fetch, load, plan, status
    from stagingest.keeping import import_universe, prune, repair, retry, verify

__version__ = "0.1.0"
__all__ = ["__version__", "fetch", "import_universe", "load", "plan", "prune", "repair", "retry", "status", "verify"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from stagingest import api, keeping

        return getattr(api, name, None) or getattr(keeping, name)
    raise AttributeError(f"module 'stagingest' has no attribute {name!r}")

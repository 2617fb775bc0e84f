"""Backfill market data from rate-limited HTTP APIs: fetch, stage as Parquet, bulk-load.

Public names load lazily, so that importing the package imports no library:

    plan(...)    what a fetch with the same arguments would ask       -> PlanReport
    fetch(...)   ask a provider for what is missing and stage it      -> Fetched
    load(...)    move what is staged into a target                    -> LoadSummary
    status(...)  what a staging directory holds and is doing          -> Status
    retry(...)   make due again what was given up                     -> Retried
    verify(...)  whether files, manifest and a target agree           -> Verified
    prune(...)   remove staged files that a target answers for        -> Pruned
    repair(...)  rebuild a damaged manifest from the staged files     -> Repaired
    import_universe(...)  keep who belonged to an index when          -> Kept

and for notebooks and scripts:

    Pipeline(...)  fetch and load in one call                         -> {'successful': [...], 'failed': [...]}
    bars(...)      fetch bars and return them                         -> pyarrow.Table
    scan(...)      what was staged or loaded, a batch at a time       -> pyarrow.RecordBatchReader
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stagingest.api.fetch import fetch, plan
    from stagingest.api.load import load
    from stagingest.api.pipeline import Pipeline, bars
    from stagingest.api.prune import prune
    from stagingest.api.repair import repair
    from stagingest.api.retry import retry
    from stagingest.api.scan import scan
    from stagingest.api.status import status
    from stagingest.api.universe import import_universe
    from stagingest.api.verify import verify

__version__ = "0.1.0"
__all__ = [
    "Pipeline",
    "__version__",
    "bars",
    "fetch",
    "import_universe",
    "load",
    "plan",
    "prune",
    "repair",
    "retry",
    "scan",
    "status",
    "verify",
]
_ELSEWHERE = {"Pipeline": "pipeline", "bars": "pipeline", "plan": "fetch", "import_universe": "universe"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(f"stagingest.api.{_ELSEWHERE.get(name, name)}"), name)
    raise AttributeError(f"module 'stagingest' has no attribute {name!r}")

"""What crosses the border of a worker process: its set-up, orders in, results and signs of life out.

Light on purpose: the supervisor imports this module, the libraries are imported by the worker's `lanes` only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stagingest.errors import StagingestError, bug
from stagingest.limiter import GateSpec
from stagingest.model import Outcome, Secret
from stagingest.orders import Cost, Order, Result

if TYPE_CHECKING:
    from stagingest.lanes import Lanes


@dataclass(frozen=True, slots=True)
class Route:
    """How a budget is reached from a worker: origin, key headers, and its permit record."""

    origin: str
    headers: tuple[tuple[str, Secret], ...]
    gate: GateSpec


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker process needs to know once.

    Args:
        root: staging root.
        staging_id: written into every file's footer.
        lanes: connections kept.
        cooks: threads that parse and write for the lanes.
        routes: budget -> Route.
        caps: endpoint -> the record of the run's own limit, for those that have one.
        gzip: whether bodies are asked compressed.
        allowance: the file that counts down the requests of a run which may only make so many.
    """

    root: Path
    staging_id: str
    lanes: int
    cooks: int
    routes: Mapping[str, Route]
    caps: Mapping[str, GateSpec]
    gzip: bool = True
    allowance: Path | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life of an order: its cost so far, and what it waits for when nothing can be asked now."""

    run: str = ""
    number: int = 0
    cost: Cost = Cost()
    waiting: str = ""


_lanes: "Lanes | None" = None


def setup(note: Callable[[object], None], with_: Setup) -> None:
    """Make this process a worker; called once before its first order."""
    from stagingest.lanes import Lanes

    global _lanes
    _lanes = Lanes(note, with_)


def fetch_chunk(order: Order) -> Result:
    """Carry out an order in this process. Raises OSError when its file cannot be written."""
    assert _lanes is not None
    try:
        return _lanes.fetch(order)
    except (StagingestError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 -- a bug in reading one chunk must not cost the others
        # The words of a foreign exception may quote a header; they do not leave this process.
        return Result(Outcome.FAILED, f"a bug of stagingest: {bug(error)}")


def abort() -> None:
    """Make the orders of this process end promptly, whatever they wait for; harmless when there are none."""
    if _lanes is not None:
        _lanes.abort()


def close() -> None:
    """Give back what this process's lanes hold; harmless when there are none."""
    global _lanes
    if _lanes is not None:
        _lanes.close()
    _lanes = None

"""What crosses the border of a process: the wall between the supervisor and its workers, frozen values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stagingest.http.rate_limiter import LimiterSpec
from stagingest.model.secrets import Secret
from stagingest.model.task import Cost


@dataclass(frozen=True, slots=True)
class Route:
    """How a budget is reached from a worker: origin, key headers, and its permit record."""

    origin: str
    headers: tuple[tuple[str, Secret], ...]
    limiter: LimiterSpec


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker process needs to know once.

    Args:
        root: staging root.
        staging_id: written into every file's footer.
        lanes: connections kept.
        cpu_slots: threads that parse and write for the lanes.
        routes: budget -> Route.
        endpoint_limits: endpoint -> the record of the run's own limit, for those that have one.
        gzip: whether bodies are asked compressed.
        allowance: the file that counts down the requests of a run which may only make so many.
    """

    root: Path
    staging_id: str
    lanes: int
    cpu_slots: int
    routes: Mapping[str, Route]
    endpoint_limits: Mapping[str, LimiterSpec]
    gzip: bool = True
    quota: Path | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life of a task: its cost so far, and what it waits for when nothing can be asked now."""

    run: str = ""
    number: int = 0
    cost: Cost = Cost()
    waiting: str = ""

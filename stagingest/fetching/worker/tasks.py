"""What crosses the border of a worker process: its set-up, tasks in, results and signs of life out.

Light on purpose: the supervisor imports this module, the libraries are imported by the worker's `lanes` only.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from stagingest.errors import StagingestError, location_of
from stagingest.fetching.messages import WorkerSetup
from stagingest.model.task import Outcome, Task, TaskResult

if TYPE_CHECKING:
    from stagingest.fetching.worker.chunk import ChunkFetcher


_lanes: "ChunkFetcher | None" = None


def setup(notify: Callable[[object], None], with_: WorkerSetup) -> None:
    """Make this process a worker; called once before its first task."""
    from stagingest.fetching.worker.chunk import ChunkFetcher

    global _lanes
    _lanes = ChunkFetcher(notify, with_)


def fetch_chunk(task: Task) -> TaskResult:
    """Carry out a task in this process. Raises OSError when its file cannot be written."""
    assert _lanes is not None
    try:
        return _lanes.fetch(task)
    except (StagingestError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 -- a bug in reading one chunk must not cost the others
        # The words of a foreign exception may quote a header; they do not leave this process.
        return TaskResult(Outcome.FAILED, f"a bug of stagingest: {location_of(error)}")


def abort() -> None:
    """Make the tasks of this process end promptly, whatever they wait for; harmless when there are none."""
    if _lanes is not None:
        _lanes.abort()


def close() -> None:
    """Give back what this process's lanes hold; harmless when there are none."""
    global _lanes
    if _lanes is not None:
        _lanes.close()
    _lanes = None

"""What a fetch needs of whoever carries its tasks out: here, in other processes, or on other machines."""

from concurrent.futures import Executor


class TaskExecutor(Executor):
    """An executor of tasks; `submit` is all that has to be written.

    Where tasks will run it calls `stagingest.fetching.worker.tasks.setup(notify, setup)` once before the first of them,
    in a place that reaches the staging directory; what is notified there it hands on: a task tells how far it is with
    every page, and that is the heartbeat which `status` and the rate limits live on. A future whose place has died gets
    `WorkerLost`: the chunk is asked again, alone the second time, and given up after the third. The answer to a task
    that nobody tells of stays awaited.
    """

    def kill(self) -> None:
        """End at once what runs, cancel what is queued."""
        self.shutdown(wait=False, cancel_futures=True)

    def pids(self) -> tuple[int, ...]:
        """Processes of this machine whose memory counts as the run's."""
        return ()

    def cpu_s(self) -> float:
        """CPU seconds of processes of this machine that have ended."""
        return 0.0

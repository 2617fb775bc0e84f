"""The lanes of one worker process: a task becomes pages, then a file, then an outcome."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from stagingest.fetching.messages import WorkerSetup
from stagingest.fetching.worker import table
from stagingest.fetching.worker.bad_answers import BadAnswers
from stagingest.fetching.worker.progress import OutcomeError, TaskProgress
from stagingest.fetching.worker.requester import Requester
from stagingest.http import classify
from stagingest.http.classify import Decision
from stagingest.model.page import Request
from stagingest.model.task import Outcome, Task, TaskResult
from stagingest.providers import catalog
from stagingest.providers.endpoint import may_be_cut
from stagingest.staging import parts

PAGE_CAP = 2_000
ROW_CAP = 500_000
EMPTY_PAGES_CAP = 20


class ChunkFetcher:
    """The lanes of one process: they share a client, permits, a retry budget and the CPU pool."""

    def __init__(self, notify: Callable[[object], None], setup: WorkerSetup) -> None:
        # The CPU pool is the parallelism: Arrow's own pools would only fight over the same cores.
        self._arrow = pa.cpu_count(), pa.io_thread_count()
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        self._notify = notify
        self._setup = setup
        # Few threads parse and write for all lanes: Arrow keeps memory per thread (FETCH section 6: 1/3 of the memory).
        self._cpu_pool = ThreadPoolExecutor(setup.cpu_slots, thread_name_prefix="cpu")
        self._bad_answers = BadAnswers(setup.root, setup.routes)
        self._exchanges = Requester(notify, setup, self._cpu_pool, self._bad_answers)

    def fetch(self, task: Task) -> TaskResult:
        """Carry out one task; every failure is an outcome."""
        endpoint = catalog.endpoint(task.chunk.series.endpoint)
        progress = TaskProgress(task, endpoint, not_after=task.not_after)
        parts.begin_part(self._setup.root, task.part)
        result = None
        try:
            result = self._carried_out(progress)
            return result
        finally:
            if result is None or result.part is None:
                parts.drop_part(self._setup.root, task.part)

    def _carried_out(self, progress: TaskProgress) -> TaskResult:
        try:
            try:
                self._pages(progress)
            except OutcomeError as end:
                if not end.again and not self._may_begin_again(progress, end.decision):
                    raise
                progress.begin_again()
                self._pages(progress)
            return self._cpu_pool.submit(self._stage, progress).result()
        except OutcomeError as end:
            decision = end.decision
            bad = decision.bad if decision else ()
            return replace(progress.result(end.outcome, end.reason), bad=bad, stop=end.stop)

    def abort(self) -> None:
        """End requests in flight and waits for permits at once."""
        self._exchanges.abort()

    def close(self) -> None:
        """Close connections and records, end the CPU pool, give Arrow its threads back."""
        pa.set_cpu_count(self._arrow[0])
        pa.set_io_thread_count(self._arrow[1])
        self._cpu_pool.shutdown()
        self._exchanges.close()

    def _may_begin_again(self, progress: TaskProgress, decision: Decision | None) -> bool:
        """Whether the task is asked anew, once: ending earlier, or because its page token is not known any more."""
        if decision is None or not decision.recent:
            return decision is not None and decision.kind is classify.Action.SPLIT and progress.page_count > 0
        # A plan without recent data is asked once more, ending 16 minutes ago (WIRE section 1.3).
        limit = (progress.asked_at or datetime.now(UTC)) - timedelta(minutes=16)
        if progress.not_after is not None and progress.not_after <= limit:
            return False
        progress.not_after = limit
        return True

    def _pages(self, progress: TaskProgress) -> None:
        request: Request | None = progress.endpoint.first(progress.task.chunk, progress.not_after)
        asked: set[Request] = set()
        empty = 0
        while request is not None:
            if request in asked:
                raise OutcomeError(Outcome.FAILED, "the provider's page tokens go in a circle")
            if len(asked) == PAGE_CAP or sum(page.num_rows for page in progress.pages) > ROW_CAP:
                raise OutcomeError(Outcome.CAPPED, f"more than {PAGE_CAP} pages or {ROW_CAP:,} rows")
            asked.add(request)
            page = self._exchanges.page(progress, request)
            if progress.stretched:
                raise OutcomeError(Outcome.FAILED, "its pages came too far apart to show one moment", again=True)
            empty = 0 if page.rows else empty + 1
            if empty > EMPTY_PAGES_CAP:
                raise OutcomeError(Outcome.FAILED, f"{EMPTY_PAGES_CAP} empty pages in a row")
            if page.table is not None and page.rows:
                progress.pages.append(page.table)
            progress.page_count += 1
            progress.unknown |= self._bad_answers.shown(page.unknown, request.budget)
            if page.next is None and may_be_cut(progress.endpoint, progress.task.chunk, page):
                raise OutcomeError(Outcome.SPLIT, "the last page is full and names no next one")
            request = page.next
            self._notify(progress.heartbeat())

    def _stage(self, progress: TaskProgress) -> TaskResult:
        if not progress.pages:
            return progress.result(Outcome.EMPTY)
        setup, asked_at = self._setup, progress.asked_at or datetime.now(UTC)
        try:
            written = table.stage(
                setup.root, setup.staging_id, progress.task, progress.endpoint, progress.pages, asked_at
            )
        except table.ConflictError as error:
            return replace(progress.result(Outcome.CONFLICT, str(error)), bad=error.symbols)
        return replace(
            progress.result(Outcome.STAGED), part=written.part, symbol_rows=written.symbol_rows, edges=written.edges
        )

"""Phase one: survey what is due, keep the pool busy with it, and say what became of it."""

import queue
import resource
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from stagingest.fetching import recovery
from stagingest.fetching.commit import RunContext
from stagingest.fetching.in_flight import Workers
from stagingest.fetching.messages import WorkerSetup
from stagingest.fetching.pool.executor import TaskExecutor
from stagingest.fetching.pool.process_pool import ProcessPool
from stagingest.fetching.pool.start import warm
from stagingest.fetching.pool.thread_pool import ThreadPool
from stagingest.fetching.rate_limits import RunRateLimits
from stagingest.fetching.run_limits import RunLimits, StopReason
from stagingest.fetching.summary import FetchSummary, RunCounts, advice, exit_code
from stagingest.fetching.supervisor import Listener, Supervisor
from stagingest.fetching.worker import tasks
from stagingest.fetching.worker.tasks import setup
from stagingest.model.chunk import Chunk, Job
from stagingest.planning.discovery import Discovery
from stagingest.planning.due import FEWEST_LANES, MOST_LANES, SampleLimits
from stagingest.planning.survey import Elsewhere, Plan, survey
from stagingest.providers import catalog, hosts
from stagingest.staging import directory, parts, preflight
from stagingest.staging.manifest import Manifest, refuse_lost_manifest
from stagingest.system import locks, platform

Clock = Callable[[], datetime]
PRELOAD = ("stagingest.fetching.worker.chunk", "pyarrow.csv", "pyarrow.parquet")
# Below this a second process's start costs more than it saves (measured: `scripts/bench job`).
SMALL_JOB_ROWS = 1_000_000
HUNG_S = 120.0


MakeExecutor = Callable[[WorkerSetup, Callable[[object], None]], TaskExecutor]
"""Makes an executor from what its workers need to know, and who is told what they notify."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a fetch runs; what it asks is in its jobs.

    Args:
        root: staging directory.
        environ: where keys, base URLs and the state directory come from.
        processes: worker processes; None chooses (0 is in this process).
        lanes: requests in flight per process; None follows rate and latency.
        max_rps: endpoint -> most requests a second of this run; without it, what the provider allows.
        realtime: ask up to now instead of 16 minutes ago.
        resume: False ignores coverage and stages anew.
        gzip: ask compressed bodies.
        limits: where the run ends by itself.
        log_rate_limits: say every second what the limiter does.
        few: how many underlyings, contracts and expiries it asks about.
        elsewhere: what a target holds and need not be asked.
        discovery: what goes on with answers of the run.
        executor: makes where tasks run, None for worker processes or, without any, threads of this one.
    """

    root: Path
    environ: Mapping[str, str]
    processes: int | None = None
    lanes: int | None = None
    max_rps: Mapping[str, float] = field(default_factory=dict)
    realtime: bool = False
    resume: bool = True
    gzip: bool = True
    limits: RunLimits = field(default_factory=RunLimits)
    few: SampleLimits = SampleLimits()
    log_rate_limits: bool = False
    elsewhere: Elsewhere = field(default_factory=dict)
    discovery: Discovery | None = None
    executor: MakeExecutor | None = None


def fetch(
    jobs: Sequence[Job],
    options: Options,
    listener: Listener,
    clock: Clock = platform.utc_now,
) -> FetchSummary:
    """Fetch and stage what is due for `jobs`.

    Raises:
        CredentialsError, UsageError: before the first request.
        HeldError: another fetch holds the staging directory.
        StagingError: the directory or its manifest cannot be used, or the disk is full.
    """
    budgets = sorted({catalog.endpoint(job.series.endpoint).budget for job in jobs})
    accesses = [hosts.access(budget, options.environ) for budget in budgets]
    root = directory.prepare(options.root)
    preflight.require_private(root)
    if options.processes:
        warm(PRELOAD)
    with ExitStack() as stack:
        stack.enter_context(locks.Lock.take(root / "run.lock", "fetching"))
        preflight.probe(root)
        refuse_lost_manifest(root)
        manifest = stack.enter_context(Manifest.write(root))
        recovery.tidy(root, manifest)
        plan = survey(
            jobs,
            manifest,
            clock(),
            options.few,
            resume=options.resume,
            max_rps=options.max_rps,
            elsewhere=options.elsewhere,
        )
        run = _Run(options, root, manifest, plan, accesses, listener, clock)
        return run.go()


class _Run:
    """One fetch from plan to summary."""

    def __init__(
        self,
        options: Options,
        root: Path,
        manifest: Manifest,
        plan: Plan,
        accesses: Sequence[hosts.Access],
        listener: Listener,
        clock: Clock,
    ) -> None:
        self.options, self.root, self.manifest, self.plan = options, root, manifest, plan
        self.accesses, self.listener, self.clock = accesses, listener, clock
        self.id = secrets.token_hex(4)
        self.peak_bytes = 0
        self.cpu_s = 0.0
        self._pools: list[TaskExecutor] = []
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def go(self) -> FetchSummary:
        """Record the plan, run it, record how it ended."""
        started, self._began_s = self.clock(), time.monotonic()
        self.manifest.begin(self.id, [str(job.series) for job in self.plan.jobs], started)
        recovery.close_stale(self.manifest, self.plan.stale, self.id, started)
        self.manifest.plan(self.plan.chunks, self.id)
        counts = RunCounts(failures={failure.symbol: failure for failure in self.plan.given_up})
        every = recovery.give_up_killers(self.manifest, self.plan.all_chunks, counts, self.id, started)
        chunks, left = self.options.limits.begin(every)
        if not chunks:
            return self._end(counts, ("", ""), None)
        counts.add(left)
        rate_limits = self._rate_limits()
        supervisor = self._supervisor(chunks, counts, rate_limits)
        try:
            supervisor.run()
            if supervisor.under_way:
                self._drop()
        except BaseException as error:
            self._drop()
            if isinstance(error, OSError):
                need_bytes = sum(estimate.bytes for estimate in self.plan.estimates.values())
                raise preflight.explain_os_error(error, preflight.measure(self.root), need_bytes) from None
            raise
        finally:
            self._measure()
            for pool in self._pools:
                pool.shutdown()
                self.cpu_s += pool.cpu_s()
            tasks.close()
            for task in supervisor.under_way:
                parts.drop_part(self.root, task.part)
            rate_limits.note(self.clock())
            rate_limits.close()
        stopped = [(kind, advice(name, kind, why)) for name, (kind, why) in supervisor.queue.stopped.items()]
        ending = supervisor.ending
        if ending is None and left:
            ending = self.options.limits.left()
        if ending is None and self.plan.held_back:
            ending = StopReason(str(self.options.few))
        return self._end(supervisor.counts, stopped[0] if stopped else ("", ""), ending)

    def _drop(self) -> None:
        """End what is in flight: its chunks stay open."""
        tasks.abort()
        for pool in self._pools:
            pool.kill()

    def _end(self, counts: RunCounts, stopped: tuple[str, str], ending: StopReason | None) -> FetchSummary:
        summary = self._summary(counts, stopped, ending)
        self.manifest.end(self.id, asdict(summary), self.clock())
        return summary

    def _supervisor(self, chunks: tuple[Chunk, ...], counts: RunCounts, rate_limits: RunRateLimits) -> Supervisor:
        processes, lanes = self._size(chunks)
        context = RunContext(self.id, self.root, self.plan.jobs, chunks, self.plan.known, self.options.discovery)
        self._look_around(processes, lanes, len(chunks))
        cpu_slots = max(1, platform.cores() // max(1, processes))
        pool = self._pool(processes, lanes, cpu_slots, rate_limits)
        workers = Workers(
            pool,
            lambda: self._pools[1] if len(self._pools) > 1 else self._pool(1, 1, 1, rate_limits),
            max(1, processes) * lanes,
            self.options.lanes is not None,
            cpu_slots * max(1, processes),
            rate_limits.granted_per_s,
            self._events,
            self.options.realtime,
        )
        sample = partial(self._measure, rate_limits)
        return Supervisor(
            context, workers, self.manifest, self.listener, self.clock, sample, self.options.limits, counts
        )

    def _rate_limits(self) -> RunRateLimits:
        options = self.options
        return RunRateLimits(
            self.root, self.id, self.accesses, options.environ, {job.series.endpoint for job in self.plan.jobs},
            options.max_rps, options.limits.requests, self.listener.say if options.log_rate_limits else None,
        )  # fmt: skip

    def _look_around(self, processes: int, lanes: int, files: int) -> None:
        surroundings = preflight.measure(self.root)
        preflight.make_room_for_files(surroundings, preflight.files_needed(processes, lanes))
        need_bytes = sum(estimate.bytes for estimate in self.plan.estimates.values())
        for text in preflight.warnings(surroundings, need_bytes, files):
            self.listener.say(text)

    def _size(self, chunks: Sequence[Chunk]) -> tuple[int, int]:
        """Processes and lanes each: as many processes as cores, none extra for a small job."""
        processes = self.options.processes
        if processes is None:
            rows = sum(estimate.rows for estimate in self.plan.estimates.values())
            processes = 0 if rows < SMALL_JOB_ROWS else min(platform.cores(), len(chunks))
        return processes, self.options.lanes or -(-most_lanes() // max(1, processes))

    def _pool(self, processes: int, lanes: int, cpu_slots: int, rate_limits: RunRateLimits) -> TaskExecutor:
        identity, gzip = self.manifest.staging_id, self.options.gzip
        arg = WorkerSetup(
            self.root,
            identity,
            lanes,
            cpu_slots,
            rate_limits.routes,
            rate_limits.endpoint_limits,
            gzip,
            rate_limits.quota,
        )
        pool: TaskExecutor
        if self.options.executor:
            pool = self.options.executor(arg, self._events.put)
        elif processes:
            pool = ProcessPool(
                processes, lanes, setup=setup, setup_arg=arg, preload=PRELOAD,
                on_note=self._note, hung_after_s=HUNG_S, hold=self.root / "workers.lock",
            )  # fmt: skip
        else:
            pool = ThreadPool(lanes, setup=setup, setup_arg=arg, on_note=self._note)
        self._pools.append(pool)
        return pool

    def _note(self, slot: int, note: object) -> None:
        self._events.put(note)

    def _measure(self, rate_limits: RunRateLimits | None = None) -> None:
        if rate_limits:
            rate_limits.note(self.clock())
        pids = [pid for pool in self._pools for pid in pool.pids()]
        self.peak_bytes = max(self.peak_bytes, platform.memory_bytes(pids))

    def _summary(self, counts: RunCounts, stopped: tuple[str, str], ending: StopReason | None) -> FetchSummary:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return FetchSummary(
            run=self.id,
            series=tuple(str(job.series) for job in self.plan.jobs),
            planned=counts.planned,
            outcomes={outcome.value: number for outcome, number in sorted(counts.outcomes.items())},
            left=counts.planned - counts.done,
            provisional=counts.provisional,
            rows=counts.rows,
            bytes=counts.bytes,
            pages=counts.cost.pages,
            requests=counts.cost.requests,
            limited=counts.cost.limited,
            symbols=self.plan.symbols,
            symbols_had=self.plan.symbols
            - len(counts.failures.keys() | {s for s, n in counts.waiting.items() if n > 0}),
            symbols_covered=self.plan.covered,
            failures=tuple(counts.failures.values()),
            refetched=tuple(sorted(counts.refetched)),
            unknown_fields=tuple(sorted(counts.unknown)),
            elapsed_s=time.monotonic() - self._began_s,
            cpu_s=used.ru_utime + used.ru_stime + self.cpu_s,
            peak_memory_bytes=self.peak_bytes,
            stopped=stopped[1],
            ended_by=ending.why if ending else "",
            exit_code=(ending and ending.exit_code) or exit_code(counts, stopped[0]),
        )


# What a lane may hold: a page as it came and inflated, and the rows of its chunk.
LANE_BYTES = 32 << 20


def most_lanes() -> int:
    """Requests in flight that half of the free memory holds, 64 at most."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return MOST_LANES
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    return max(FEWEST_LANES, min(MOST_LANES, free // 2 // LANE_BYTES)) if free else MOST_LANES

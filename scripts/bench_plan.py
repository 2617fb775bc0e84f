"""CPU seconds of a plan of 100,000 chunks made and persisted, of `status` on it, of a day's top-up of 8,000 symbols."""

import json
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import stagingest
from stagingest.model.chunk import Chunk
from stagingest.model.task import Outcome, Task, TaskResult
from stagingest.model.windows import Window
from stagingest.planning import jobs, request, survey
from stagingest.providers import catalog
from stagingest.staging import directory
from stagingest.staging.manifest import Commit, Manifest

SYMBOLS, KNOWN = 3_400, 8_000


def child(code: str, folder: Path) -> float:
    """CPU seconds of a fresh interpreter that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def names(number: int = SYMBOLS) -> list[str]:
    """So many symbols."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [f"{a}{b}{c}" for a in letters for b in letters for c in letters][:number]


def persist() -> int:
    """Plan ten years of minutes for every symbol and write it; the number of chunks."""
    root = Path("staging")
    root.mkdir()
    now = datetime(2026, 1, 5, 12, tzinfo=UTC)
    wanted = request.query(
        "stock-bars", {"symbols": names(), "timeframe": "1Min", "start": "2016-01-04", "end": "2025-12-31"}
    )
    question = jobs.question(wanted, request.KnownState(root), now)
    with Manifest.write(root) as manifest:
        plan = survey.survey(question.jobs, manifest, now)
        manifest.begin("bench", [], now)
        manifest.plan(plan.chunks, "bench")
        return len(plan.chunks)


def grown(days: int) -> None:
    """Stage entries that cover a hundred days of every symbol, a chunk a day for the last ones, without any row."""
    root = Path("known")
    directory.prepare(root)
    series = catalog.endpoint("alpaca/stock-bars").canonical({"timeframe": "1Day"})
    symbols, per_chunk, last = names(KNOWN), 200, date(2026, 1, 2)
    windows = [Window(last - timedelta(days=100), last - timedelta(days=days))]
    windows += [Window(last - timedelta(days=n), last - timedelta(days=n - 1)) for n in range(days, 0, -1)]
    commits = []
    for window in windows:
        for at in range(0, len(symbols), per_chunk):
            task = Task("bench", len(commits) + 1, Chunk(series, tuple(symbols[at : at + per_chunk]), window))
            asked_at = datetime(2026, 1, 2, 12, tzinfo=UTC)
            commits.append(Commit(task, TaskResult(Outcome.EMPTY, asked_at=asked_at), True, asked_at, 1))
    with Manifest.write(root) as manifest:
        manifest.plan([commit.task.chunk for commit in commits], "bench")
        manifest.record(commits)


def topped_up() -> None:
    """Print what a top-up by one day of everything known asks."""
    looked = stagingest.plan(
        "stock-bars", staging="known", top_up=True, end="2026-01-02", clock=lambda: datetime(2026, 1, 5, 12, tzinfo=UTC)
    )
    sys.stdout.write(json.dumps([looked.plan.symbols, sum(e.requests for e in looked.plan.estimates.values())]))


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_plan; bench_plan.persist()"
        )
        plan_s = child(code, folder)
        run = "import runpy; runpy.run_module('stagingest', run_name='__main__')"
        status_s = child(f"import sys; sys.argv = ['stagingest', 'status']; {run}", folder)
        document = subprocess.run(
            [sys.executable, "-m", "stagingest", "status", "--json"], cwd=folder, check=True, capture_output=True
        )
        chunks = json.loads(document.stdout)["datasets"][0]["planned"]
        here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_plan; bench_plan."
        subprocess.run([sys.executable, "-c", f"{here}grown(60)"], cwd=folder, check=True)
        top_up_s = child(f"{here}topped_up()", folder)
        said = subprocess.run(
            [sys.executable, "-c", f"{here}topped_up()"], cwd=folder, check=True, capture_output=True
        ).stdout
        known, requests = json.loads(said)
    print(f"plan    {chunks:,} chunks made and persisted in {plan_s:.2f} CPU s (at most 2)")
    print(f"status  on them in {status_s:.2f} CPU s (at most 0.5)")
    most = known / 100
    print(f"top-up  of {known:,} symbols by a day: {top_up_s:.2f} CPU s (at most 1)")
    print(f"        and {requests} requests (at most {most:.0f})")
    sys.exit(plan_s > 2 or status_s > 0.5 or chunks < 100_000 or top_up_s > 1 or requests > most or known < KNOWN)


if __name__ == "__main__":
    main()

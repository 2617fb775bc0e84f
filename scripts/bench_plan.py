"""A plan of 100,000 chunks made and persisted, and `status` on it: CPU seconds of each command."""

import json
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from stagingest import asking, surveying, wanting
from stagingest.manifest import Manifest

SYMBOLS = 3_400


def child(code: str, folder: Path) -> float:
    """CPU seconds of a fresh interpreter that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def names() -> list[str]:
    """As many symbols as the plan needs."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [f"{a}{b}{c}" for a in letters for b in letters for c in letters][:SYMBOLS]


def persist() -> int:
    """Plan ten years of minutes for every symbol and write it; the number of chunks."""
    root = Path("staging")
    root.mkdir()
    now = datetime(2026, 1, 5, 12, tzinfo=UTC)
    wanted = wanting.Wanted("stock-bars", tuple(names()), timeframe="1Min", start="2016-01-04", end="2025-12-31")
    question = asking.question(wanted, wanting.Known(root), now)
    with Manifest.write(root) as manifest:
        plan = surveying.survey(question.jobs, manifest, now)
        manifest.begin("bench", [], now)
        manifest.plan(plan.chunks, "bench")
        return len(plan.chunks)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_plan; bench_plan.persist()"
        )
        plan_s = child(code, folder)
        status_s = child(
            "import sys; sys.argv = ['stagingest', 'status']; import stagingest.cli; stagingest.cli.main()", folder
        )
        document = subprocess.run(
            [sys.executable, "-m", "stagingest", "status", "--json"], cwd=folder, check=True, capture_output=True
        )
        chunks = json.loads(document.stdout)["datasets"][0]["planned"]
    print(f"plan    {chunks:,} chunks made and persisted in {plan_s:.2f} CPU s (at most 2)")
    print(f"status  on them in {status_s:.2f} CPU s (at most 0.5)")
    sys.exit(plan_s > 2 or status_s > 0.5 or chunks < 100_000)


if __name__ == "__main__":
    main()

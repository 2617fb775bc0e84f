"""The counts of a run."""

from datetime import date

import pytest

from stagingest.cli.progress import duration, line
from stagingest.fetching.summary import Progress, RunCounts, exit_code
from stagingest.model.chunk import Chunk, Series
from stagingest.model.task import Outcome, PartFile, TaskResult
from stagingest.model.windows import Window

CHUNK = Chunk(Series.of("alpaca/stock-bars", {}), ("A", "B"), Window(date(2024, 1, 1), date(2024, 2, 1)))


def test_a_split_counts_as_its_children() -> None:
    counts = RunCounts()
    counts.add([CHUNK])
    counts.split(CHUNK.halves())
    for half, outcome in zip(CHUNK.halves(), (Outcome.STAGED, Outcome.REFUSED), strict=True):
        counts.close(
            half,
            TaskResult(outcome, "bad", part=PartFile("p", 10, "", 5) if outcome == "staged" else None),
            covers=True,
        )
    assert (counts.planned, counts.done, counts.failed(), counts.rows, counts.bytes) == (2, 2, 1, 5, 10)
    assert [(f.symbol, f.outcome) for f in counts.failures.values()] == [("B", "refused")]


@pytest.mark.parametrize(
    ("outcome", "stopped", "code"),
    [
        (Outcome.STAGED, "", 0),
        (Outcome.EMPTY, "", 0),
        (Outcome.FAILED, "", 3),
        (Outcome.FORBIDDEN, "forbidden", 4),
        (Outcome.FAILED, "credentials", 4),
        (Outcome.FAILED, "unreachable", 5),
        (Outcome.FAILED, "refused", 1),
    ],
)
def test_the_exit_code_says_what_to_do_next(outcome: Outcome, stopped: str, code: int) -> None:
    counts = RunCounts()
    counts.add([CHUNK])
    counts.close(CHUNK, TaskResult(outcome), covers=False)
    assert exit_code(counts, stopped) == code


def test_progress_names_everything_a_person_waits_for() -> None:
    text = line(
        Progress(planned=10, done=5, failed=1, in_flight=2, rows=1000, pages=45, requests=50, limited=3, elapsed_s=10.0)
    )
    for words in (
        "5/10 chunks 50%",
        "succeeded=4",
        "failed=1",
        "remaining=5",
        "100 rows/s",
        "5.0 requests/s",
        "429s=3",
    ):
        assert words in text
    assert text.endswith("elapsed=10s left=10s")


@pytest.mark.parametrize(("seconds", "text"), [(4.2, "4s"), (200, "3m20s"), (7500, "2h05m")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text

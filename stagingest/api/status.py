"""How a staging directory stands: a reading of its manifest, its run and its loads."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stagingest.staging import directory
from stagingest.staging import manifest as staging_manifest
from stagingest.staging.loads import read_complaints
from stagingest.staging.manifest import EndpointCounts, Manifest
from stagingest.system import locks, platform

_FAILED = ("deferred", "failed", "lost", "capped", "conflict", "quarantined")


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """Chunks of one endpoint by what became of them; `loaded` counts entries in each target's ledger."""

    endpoint: str
    planned: int
    open: int
    staged: int
    empty: int
    refused: int
    forbidden: int
    failed: int
    rows: int
    bytes: int
    loaded: dict[str, int]


@dataclass(frozen=True, slots=True)
class Status:
    """A staging directory as it stands.

    `running` is what the living fetch published a second ago (in flight with ages in seconds), None when none lives;
    `problems` are (endpoint, outcome, symbols, reason, chunk id) of the newest failures; `complaints` of `load` are
    (seq, reason) of entries whose file the next fetch will replace.
    """

    staging: str
    staging_id: str
    datasets: tuple[EndpointStatus, ...]
    running: dict[str, Any] | None
    run_age_s: float | None
    loading: bool
    last_run: tuple[str, str, str | None, str] | None
    problems: tuple[tuple[str, str, str, str, str], ...]
    complaints: tuple[tuple[int, str], ...]
    free_bytes: int


def status(staging: str | Path = "staging") -> Status:
    """How a staging directory stands: counts per endpoint, what is in flight, what failed and why.

    Raises StagingError when it is none.
    """
    root = Path(staging)
    with Manifest.read(root, unseen=True) as manifest:
        staged = {seq for seq, _, _ in manifest.files()}
        complaints = {seq: why for seq, why in read_complaints(root, unseen=True).items() if seq in staged}
        loaded = manifest.loaded()
        datasets = tuple(_dataset(counts, loaded.get(counts.endpoint, {})) for counts in manifest.tallies())
        state = directory.published(root)
        alive = locks.is_held(root / "run.lock")
        age_s = None
        if alive and state:
            age_s = (datetime.now(UTC) - datetime.fromisoformat(state["updated_at"])).total_seconds()
        return Status(
            str(root), manifest.staging_id, datasets, state if alive else None, age_s,
            locks.is_held(root / "load.lock"), manifest.last_run(), tuple(staging_manifest.problems(manifest)),
            tuple(complaints.items()), platform.free_bytes(root),
        )  # fmt: skip


def _dataset(counts: EndpointCounts, loaded: dict[str, int]) -> EndpointStatus:
    def chunks(*names: str) -> int:
        return sum(counts.outcomes.get(name, (0, 0, 0))[0] for name in names)

    closed = sum(count for name, (count, _, _) in counts.outcomes.items() if name != "split")
    return EndpointStatus(
        endpoint=counts.endpoint,
        planned=counts.open + closed,
        open=counts.open,
        staged=chunks("staged", "pruned"),
        empty=chunks("empty"),
        refused=chunks("refused"),
        forbidden=chunks("forbidden"),
        failed=chunks(*_FAILED),
        rows=sum(rows for _, rows, _ in counts.outcomes.values()),
        bytes=sum(size for _, _, size in counts.outcomes.values()),
        loaded=loaded,
    )

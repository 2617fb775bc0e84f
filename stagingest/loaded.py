"""What a load says of itself: while it goes on, and at its end."""

from dataclasses import dataclass

from stagingest.targets import Changes


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch is in: its number and what the load has done so far, of how much."""

    batch: int
    entries: int
    entries_due: int
    rows: int
    rows_due: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A staged file that was left out, and why; its chunk is due again at the next fetch."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What a load did.

    Args:
        target: its name.
        entries, files, rows: taken by this load; rows as staged.
        replaced: rows deleted for newer ones.
        changes: per dataset, what answers to windows loaded before changed.
        batches: transactions.
        skipped: files left out.
        seconds: wall seconds per step: open, plan, hash, insert, checkpoint.
        bytes_before, bytes_after: size of the target.
    """

    target: str
    entries: int
    files: int
    rows: int
    replaced: int
    changes: dict[str, Changes]
    batches: int
    skipped: tuple[Skipped, ...]
    seconds: dict[str, float]
    bytes_before: int
    bytes_after: int

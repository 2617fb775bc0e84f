"""What a load says of itself: while it goes on, and at its end."""

from dataclasses import dataclass

from stagingest.model.chunk import Chunk
from stagingest.targets import Changes


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch is in: its number and what the load has done so far, of how much. Before the first, number 0 may warn."""

    batch: int
    entries: int
    entries_due: int
    rows: int
    rows_due: int
    warning: str = ""


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
        pruned: chunks whose files were removed because another target answers for them; this one lacks them.
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
    pruned: tuple[Chunk, ...]
    skipped: tuple[Skipped, ...]
    seconds: dict[str, float]
    bytes_before: int
    bytes_after: int

    def __add__(self, later: "LoadSummary") -> "LoadSummary":
        """Both, one after the other."""
        names = self.changes.keys() | later.changes.keys()
        steps = self.seconds.keys() | later.seconds.keys()
        return LoadSummary(
            self.target, self.entries + later.entries, self.files + later.files, self.rows + later.rows,
            self.replaced + later.replaced,
            {name: self.changes.get(name, Changes()) + later.changes.get(name, Changes()) for name in sorted(names)},
            self.batches + later.batches, later.pruned, self.skipped + later.skipped,
            {step: self.seconds.get(step, 0.0) + later.seconds.get(step, 0.0) for step in sorted(steps)},
            self.bytes_before, later.bytes_after,
        )  # fmt: skip

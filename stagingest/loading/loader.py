"""Phase two: which entries a target lacks, in which batches they go, and the loading of them."""

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from operator import itemgetter

from stagingest.errors import FullError, SpoiledError, TargetError, TooLargeError
from stagingest.loading.batches import LedgerHead, Planner, fitting
from stagingest.loading.source import NEVER_LOADED, Staged, damage, dataset_of, is_in, item_of
from stagingest.loading.summary import Loaded, LoadSummary, Skipped
from stagingest.model.chunk import Chunk
from stagingest.model.task import Outcome
from stagingest.model.windows import merged, minus
from stagingest.targets import Changes, Receipt, Target, open_window
from stagingest.targets.batch import Batch, Mode, Near, StagedEntry

# Between checkpoints; bounds the memory of a load that has hundreds of thousands of entries to take.
_GROUP = 2_000
_ROW_BYTES = 30  # of a bar in a database, rather too many
_HELD = frozenset({Outcome.STAGED, Outcome.EMPTY, Outcome.PRUNED})
_NOT_LOADED = NEVER_LOADED | {Outcome.PRUNED}


Listener = Callable[[Loaded], None]


def load(
    sources: Sequence[Staged],
    target: Target,
    *,
    batch_rows: int = 1_500_000,
    adopt: bool = False,
    listener: Listener | None = None,
) -> LoadSummary:
    """Load every final entry that the target's ledger lacks; a second call finds nothing to do.

    Args:
        sources: staging directories; between them the later `asked_at` wins, within one the greater `seq`.
        target: opened and closed here.
        batch_rows: most rows in one transaction (an entry of more goes alone).
        adopt: load also into a target that holds rows of other staging directories and none of these.
        listener: called after each batch.

    Raises HeldError when another process has the target, TargetError when a batch cannot be loaded: what was loaded
    before stays, and the same call continues.
    """
    return _Load(sources, target, batch_rows, adopt, listener or (lambda _: None)).run()


@dataclass(slots=True)
class _Load:
    """The state of one load."""

    sources: Sequence[Staged]
    target: Target
    most_rows: int
    adopt: bool
    listener: Listener
    taken: dict[str, frozenset[tuple[int, str]]] = field(default_factory=dict)
    done: dict[str, set[int]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    batch_rows: int = 0
    entries_due: int = 0
    rows_due: int = 0
    entries: int = 0
    files: int = 0
    rows: int = 0
    replaced: int = 0
    changes: dict[str, Changes] = field(default_factory=dict)
    batches: int = 0
    last: dict[str, int] = field(default_factory=dict)

    def run(self) -> LoadSummary:
        before = self.target.size_bytes()
        self.batch_rows = self.most_rows
        try:
            self._open()
            self._refuse_a_strange_target()
            self.done = {staging: {seq for seq, _ in taken} for staging, taken in self.taken.items()}
            near = self._survey()
            if self.entries_due:
                self._load(near)
            for source in self.sources:
                self.target.record_open(source.staging_id, [open_window(chunk) for chunk in source.open_chunks()])
        except FullError as error:
            left = self.rows_due - self.rows
            need = f"The {left:,} rows that are left need about {left * _ROW_BYTES // 10**6 + 1:,} MB."
            raise FullError(f"{error.message} {need}", error.next_step) from None
        finally:
            self.target.close()
            for source in self.sources:
                if source.staging_id in self.done:
                    source.remember(self.target.name, self.done[source.staging_id])
        return LoadSummary(
            self.target.name, self.entries, self.files, self.rows, self.replaced, self.changes,
            self.batches, self._pruned(), tuple(self.skipped), dict(self.seconds), before, self.target.size_bytes(),
        )  # fmt: skip

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - began

    def _open(self) -> None:
        with self._timed("open"):
            self.target.open([source.root for source in self.sources])
            self.taken = {s.staging_id: self.target.loaded_entries(s.staging_id) for s in self.sources}

    def _refuse_a_strange_target(self) -> None:
        """A typing error must not mix two collections: the first load beside rows of others has to be asked for."""
        mine = any(self.taken.values())
        if not (mine or self.adopt) and self.target.newest(self.sources[0].staging_id):
            raise TargetError(
                f"{self.target.name} holds rows of other staging directories and none of this one.",
                "Name another --to, or load into it with --adopt.",
            )

    def _survey(self) -> Near:
        """Count what is due; what of the ledger it may meet.

        What a fetch stages from here on waits for the next load: it may meet something else.
        """
        lines = set()
        symbols = {""}
        since = datetime.max
        last = {source.staging_id: 0 for source in self.sources}
        with self._timed("plan"):
            for item in self._due():
                self.entries_due += 1
                last[item.staging] = max(item.entry.seq, last.get(item.staging, 0))
                self.rows_due += item.entry.rows
                if item.entry.path:
                    lines.add(item.line[0])
                    since = min(since, item.span[0])
                    symbols |= {min(item.entry.chunk.symbols), max(item.entry.chunk.symbols)}
        self.last = last
        return Near(frozenset(lines), min(symbols - {""}, default=""), max(symbols), since)

    def _pruned(self) -> tuple[Chunk, ...]:
        """Chunks whose files another target answered for when they were removed, and that this one lacks."""
        lacking, held = [], defaultdict(list)
        for source in self.sources:
            if not source.has_pruned():
                continue
            done = self.done.get(source.staging_id, ())
            for entry in source.entries():
                if dataset_of(entry).captured:
                    continue  # its moment is over: no fetch brings it again
                if entry.seq in done and entry.outcome in _HELD:
                    for symbol in entry.chunk.symbols:
                        held[entry.chunk.series.id, symbol].append(entry.chunk.window)
                elif entry.seq not in done and entry.outcome is Outcome.PRUNED:
                    lacking.append(entry.chunk)
        return tuple(
            chunk
            for chunk in lacking
            if any(minus(chunk.window, merged(held[chunk.series.id, symbol])) for symbol in chunk.symbols)
        )

    def _due(self) -> Iterator[StagedEntry]:
        """What the ledger lacks, oldest first."""
        streams = [_dated(source, self.taken[source.staging_id]) for source in self.sources]
        items = (item for _, item in heapq.merge(*streams, key=itemgetter(0)))
        return (item for item in items if item.entry.seq <= self.last.get(item.staging, item.entry.seq))

    def _load(self, near: Near) -> None:
        self._warn_of_a_small_disk()
        with self._timed("plan"):
            planner = Planner(
                self.target.spans(near),
                self.target.unexplained(),
                {s.staging_id: self._frontier(s.staging_id) for s in self.sources},
            )
        due = self._due()
        while group := list(islice(due, _GROUP)):
            with self._timed("plan"):
                batches = planner.batches(group, self.batch_rows)
            for batch in batches:
                self._take(batch)
                if batch is batches[-1] or batch.mode is Mode.REPLACE:  # what was deleted is in memory until then
                    with self._timed("checkpoint"):
                        self.target.finish()

    def _warn_of_a_small_disk(self) -> None:
        free = self.target.free_bytes()
        need = self.rows_due * _ROW_BYTES
        if free is not None and free < need:
            said = f"{self.rows_due:,} rows need about {need / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free there."
            self.listener(Loaded(0, 0, self.entries_due, 0, self.rows_due, said))

    def _frontier(self, staging: str) -> LedgerHead:
        last = max((seq for seq, _ in self.taken[staging]), default=0)
        return LedgerHead(last, self.target.newest(staging))

    def _take(self, batch: Batch) -> None:
        with self._timed("hash"):
            batch = replace(batch, items=tuple(item for item in batch.items if self._whole(item)))
        if not batch.items:
            return
        began_s = time.perf_counter()
        with self._timed("insert"):
            batch, receipt = self._try(batch)
        self.batch_rows = fitting(self.batch_rows, self.most_rows, batch.rows, time.perf_counter() - began_s)
        self.batches += 1
        self.entries += len(batch.items)
        self.files += len(batch.files)
        self.rows += batch.rows
        self.replaced += receipt.deleted
        if receipt.changes:
            name = batch.dataset.name
            self.changes[name] = self.changes.get(name, Changes()) + receipt.changes
        for item in batch.items:
            self.done[item.staging].add(item.entry.seq)
        self.listener(Loaded(self.batches, self.entries, self.entries_due, self.rows, self.rows_due))

    def _try(self, batch: Batch) -> tuple[Batch, Receipt]:
        """Load a batch: what of it is in. After an error only the ledger knows; what is not in is tried once more, in
        halves when it was too large, and item by item when the target gave itself up twice.
        """
        try:
            return batch, self.target.take(batch)
        except TargetError as error:
            too_large = isinstance(error, TooLargeError)
        self._reopen()
        if all((item.entry.seq, item.entry.sha256) in self.taken[item.staging] for item in batch.items):
            return batch, Receipt(batch.rows, 0)
        if too_large and len(batch.items) > 1:
            return self._in_halves(batch)
        try:
            return batch, self.target.take(batch)
        except SpoiledError as error:
            self._reopen()
            return self._one_by_one(batch, error)

    def _in_halves(self, batch: Batch) -> tuple[Batch, Receipt]:
        taken: list[StagedEntry] = []
        receipt = Receipt(0, 0)
        for half in batch.halves():
            part, more = self._try(half)
            self.target.finish()  # gives back the memory it took
            taken += part.items
            receipt += more
        return replace(batch, items=tuple(taken)), receipt

    def _one_by_one(self, batch: Batch, error: SpoiledError) -> tuple[Batch, Receipt]:
        """Load what a target bears; one file it does not is set aside, with a second it is not the files' fault."""
        taken, spoiled, receipt = [], [], Receipt(0, 0)
        for item in batch.items:
            try:
                receipt += self.target.take(replace(batch, items=(item,)))
                taken.append(item)
            except SpoiledError:
                self._reopen()
                spoiled.append(item)
                if len(spoiled) > 1 or len(batch.items) == 1:
                    raise error from None
        for item in spoiled:
            self._complain(item, "makes the database give itself up")
        return replace(batch, items=tuple(taken)), receipt

    def _reopen(self) -> None:
        self.target.close()
        self._open()

    def _whole(self, item: StagedEntry) -> bool:
        """Whether the item's file is the one the manifest names; a complaint is made when it is not."""
        reason = damage(item)
        if reason:
            self._complain(item, reason)
        return not reason

    def _complain(self, item: StagedEntry, reason: str) -> None:
        source = next(source for source in self.sources if source.staging_id == item.staging)
        source.complain(item.entry.seq, item.entry.path, reason)
        self.skipped.append(Skipped(item.entry.path, reason))


def _dated(source: Staged, taken: frozenset[tuple[int, str]]) -> Iterator[tuple[datetime, StagedEntry]]:
    """Final entries not taken, each with an instant that grows with `seq`."""
    seqs = {seq for seq, _ in taken}
    newest = datetime.min
    for entry in source.entries(taken):
        if is_in(entry, taken, seqs) or entry.outcome in _NOT_LOADED:
            continue
        newest = max(newest, entry.asked_at.replace(tzinfo=None))
        yield newest, item_of(source.staging_id, source.root, entry)

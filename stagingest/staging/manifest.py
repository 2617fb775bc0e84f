"""The record of plan and entries of a staging directory."""

import json
import secrets
import shlex
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self

from stagingest.errors import StagingError
from stagingest.model.chunk import Chunk, Series, to_json
from stagingest.model.task import Entry, Outcome, Task, TaskResult
from stagingest.model.windows import Window
from stagingest.staging import storage
from stagingest.system.sqlite import Store, reading

# Written by `load`, see `loads`.
LOADS = "loads.sqlite"
_SCHEMA = """
CREATE TABLE staging (id TEXT NOT NULL, created_at TEXT NOT NULL) STRICT;
CREATE TABLE series (id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, params TEXT NOT NULL) STRICT;
CREATE TABLE runs (run TEXT PRIMARY KEY, job TEXT NOT NULL, started_at TEXT NOT NULL,
    ended_at TEXT, summary TEXT) STRICT;
CREATE TABLE chunks (id TEXT PRIMARY KEY, series TEXT NOT NULL, symbols TEXT NOT NULL, start TEXT NOT NULL,
    "end" TEXT NOT NULL, state TEXT NOT NULL, parent TEXT NOT NULL, run TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE entries (seq INTEGER PRIMARY KEY AUTOINCREMENT, chunk TEXT NOT NULL, run TEXT NOT NULL,
    number INTEGER NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, covers INTEGER NOT NULL,
    asked_at TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    rows INTEGER NOT NULL, "schema" INTEGER NOT NULL, symbol_rows TEXT NOT NULL, edges TEXT NOT NULL) STRICT;
CREATE TABLE voids (series TEXT NOT NULL, symbol TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (series, symbol)) STRICT, WITHOUT ROWID;
"""
# Deaths with a chunk in flight: `count` of its worker, `interrupted` of the whole run, which is not the chunk's fault.
_CRASHES = "CREATE TABLE strikes (chunk TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;\n"
_INTERRUPTED = """ALTER TABLE strikes ADD COLUMN interrupted INTEGER NOT NULL DEFAULT 0;
UPDATE strikes SET interrupted = count, count = 0;
"""


@dataclass(frozen=True, slots=True)
class Commit:
    """An outcome to be written: the task, its result, where its file now is, and its children."""

    task: Task
    result: TaskResult
    covers: bool
    asked_at: datetime
    schema: int
    path: str = ""
    children: tuple[Chunk, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointCounts:
    """Counts of one endpoint: (chunks open, and per outcome: entries, rows, bytes)."""

    endpoint: str
    open: int
    outcomes: Mapping[str, tuple[int, int, int]]


class Manifest(Store):
    """Plan and entries of one staging root; written only by the holder of run.lock."""

    file = "manifest.sqlite"
    versions = (_SCHEMA, _CRASHES, _INTERRUPTED)

    @classmethod
    def read(cls, root: Path, *, unseen: bool = False) -> Self:
        """Open for reading, while a fetch may be writing; `unseen` as in Store. Raises StagingError without one."""
        return cls(root, writable=False, unseen=unseen)

    @classmethod
    def write(cls, root: Path) -> Self:
        """Open for writing, made if absent. The caller holds run.lock."""
        return cls(root, writable=True)

    def created(self) -> None:
        """A new manifest gets a random staging id."""
        identity = secrets.token_hex(8)
        self.db.execute("INSERT INTO staging VALUES (?, ?)", (identity, datetime.now(UTC).isoformat()))

    def adopt(self, identity: str, after: int) -> None:
        """A manifest that is made anew takes the id of the old one; its entries are numbered after `after`."""
        self.db.execute("UPDATE staging SET id = ?", (identity,))
        self.db.execute("INSERT INTO sqlite_sequence VALUES ('entries', ?)", (after,))

    @property
    def staging_id(self) -> str:
        """The random id of this staging root, also in every file's footer."""
        return str(self.value("SELECT id FROM staging"))

    def begin(self, run: str, job: object, now: datetime) -> None:
        """Record that a run begins."""
        self.db.execute("INSERT INTO runs VALUES (?, ?, ?, NULL, NULL)", (run, to_json(job), now.isoformat()))

    def end(self, run: str, summary: object, now: datetime) -> None:
        """Record how a run ended."""
        row = (now.isoformat(), to_json(summary), run)
        self.db.execute("UPDATE runs SET ended_at = ?, summary = ? WHERE run = ?", row)

    def plan(self, chunks: Sequence[Chunk], run: str) -> None:
        """Write chunks as open, all in one transaction; a chunk known before is opened again."""
        with self.transaction():
            self._insert(chunks, run)

    def _insert(self, chunks: Iterable[Chunk], run: str, parent: str = "") -> None:
        ids: dict[Series, str] = {}
        rows = []
        for chunk in chunks:
            series = chunk.series.id
            ids[chunk.series] = series
            window = chunk.window
            symbols = ",".join(chunk.symbols)
            rows.append((chunk.id, series, symbols, window.start.isoformat(), window.end.isoformat(), parent, run))
        rows.sort()
        self.db.executemany(
            "INSERT OR IGNORE INTO series VALUES (?, ?, ?)",
            [(text, series.endpoint, to_json(series.params)) for series, text in ids.items()],
        )
        self.db.executemany(
            "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, 'open', ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET state = 'open', run = excluded.run",
            rows,
        )

    def record(self, commits: Sequence[Commit]) -> list[Entry]:
        """Close the acks' chunks, write their entries and children, all in one transaction."""
        entries = []
        with self.transaction():
            for commit in commits:
                chunk = commit.task.chunk
                entries.append(self._entry(commit))
                self.db.execute("UPDATE chunks SET state = 'closed' WHERE id = ?", (chunk.id,))
                self._insert(commit.children, commit.task.run, chunk.id)
        return entries

    def _entry(self, commit: Commit) -> Entry:
        task, result, part = commit.task, commit.result, commit.result.part
        row = (
            task.chunk.id, task.run, task.number, result.outcome.value, result.reason, int(commit.covers),
            commit.asked_at.isoformat(), commit.path, part.bytes if part else 0, part.sha256 if part else "",
            part.rows if part else 0, commit.schema, to_json(dict(result.symbol_rows)),
            to_json([(edge.symbol, edge.session.isoformat(), edge.digest) for edge in result.edges]),
        )  # fmt: skip
        cursor = self.db.execute(f"INSERT INTO entries VALUES (NULL{', ?' * 14})", row)  # noqa: S608
        return Entry(
            cursor.lastrowid or 0, task.chunk, task.run, task.number, result.outcome, result.reason, commit.covers,
            commit.asked_at, commit.path, row[8], row[9], row[10], commit.schema, result.symbol_rows,
        )  # fmt: skip

    def known_series(self) -> dict[str, Series]:
        """Every series of the plan by its id."""
        found = self.db.execute("SELECT id, endpoint, params FROM series").fetchall()
        return {text: Series(endpoint, tuple(map(tuple, json.loads(params)))) for text, endpoint, params in found}

    def open_chunks(self, series: Series | None = None) -> list[Chunk]:
        """The chunks that are planned and not closed, of one series or of all."""
        sql = "SELECT id, series, symbols, start, \"end\" FROM chunks WHERE state = 'open'"
        args: tuple[str, ...] = ()
        if series is not None:
            sql, args = sql + " AND series = ?", (series.id,)
        known = self.known_series()
        return [chunk_of(row, known) for row in self.db.execute(sql, args)]

    def entries(self, after: int = 0, without: Container[tuple[int, str]] = ()) -> Iterator[Entry]:
        """Every entry with a greater `seq`, in order, but for those (seq, sha256) in `without`."""
        known = self.known_series()
        sql = (
            'SELECT c.id, c.series, c.symbols, c.start, c."end", e.seq, e.run, e.number, e.outcome, e.reason, '
            'e.covers, e.asked_at, e.path, e.bytes, e.sha256, e.rows, e."schema", e.symbol_rows '
            "FROM entries e JOIN chunks c ON c.id = e.chunk WHERE e.seq > ? ORDER BY e.seq"
        )
        for row in self.db.execute(sql, (after,)):
            seq, run, number, outcome, reason, covers, asked_at, path, size, sha256, rows, schema, counts = row[5:]
            if (seq, sha256) in without:
                continue
            yield Entry(
                seq, chunk_of(row, known), run, number, Outcome(outcome), reason, bool(covers),
                datetime.fromisoformat(asked_at), path, size, sha256, rows, schema,
                tuple(json.loads(counts).items()),
            )  # fmt: skip

    def coverage(
        self, series: Series, without: frozenset[int] = frozenset(), since: datetime | None = None
    ) -> dict[str, list[Window]]:
        """The covered windows of each symbol of a series, unmerged, leaving out entries named in `without`, and those
        asked before `since`.
        """
        voids = self._voids(series)
        sql = (
            'SELECT e.seq, c.symbols, c.start, c."end", e.asked_at FROM entries e JOIN chunks c ON c.id = e.chunk '
            "WHERE e.covers = 1 AND c.series = ?"
        )
        found: dict[str, list[Window]] = {}
        for seq, symbols, start, end, asked_at in self.db.execute(sql, (series.id,)):
            if seq in without or (since and datetime.fromisoformat(asked_at) < since):
                continue
            window = Window(date.fromisoformat(start), date.fromisoformat(end))
            for symbol in symbols.split(","):
                if seq > voids.get(symbol, 0):
                    found.setdefault(symbol, []).append(window)
        return found

    def _voids(self, series: Series) -> dict[str, int]:
        sql = "SELECT symbol, seq FROM voids WHERE series = ?"
        return dict(self.db.execute(sql, (series.id,)).fetchall())

    def edges(self, series: Series, before: int | None = None) -> dict[str, dict[date, str]]:
        """Digests of known first and last sessions per symbol (the newest answer wins), entries before `before`."""
        voids = self._voids(series)
        sql = (
            "SELECT e.seq, e.edges FROM entries e JOIN chunks c ON c.id = e.chunk "
            "WHERE e.covers = 1 AND c.series = ? AND e.edges <> '[]' AND e.seq < ? ORDER BY e.seq"
        )
        found: dict[str, dict[date, str]] = {}
        for seq, text in self.db.execute(sql, (series.id, before or 1 << 62)):
            for symbol, session, digest in json.loads(text):
                if seq > voids.get(symbol, 0):
                    found.setdefault(symbol, {})[date.fromisoformat(session)] = digest
        return found

    def void(self, series: Series, symbols: Iterable[str], seq: int) -> None:
        """From now on entries up to `seq` do not cover these symbols of the series."""
        rows = [(series.id, symbol, seq) for symbol in symbols]
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO voids VALUES (?, ?, ?)", rows)

    def files(self) -> Iterator[tuple[int, str, int]]:
        """(seq, path, bytes) of every entry with a file."""
        yield from self.db.execute("SELECT seq, path, bytes FROM entries WHERE path <> ''")

    def mark_lost(self, losses: Mapping[int, str]) -> None:
        """Turn staged entries whose file is gone or damaged into lost ones: seq -> reason."""
        rows = [(Outcome.LOST.value, reason, seq) for seq, reason in losses.items()]
        sql = (
            "UPDATE entries SET outcome = ?, reason = ?, covers = 0, path = '', bytes = 0, sha256 = '', rows = 0, "
            "symbol_rows = '{}', edges = '[]' WHERE seq = ?"
        )
        with self.transaction():
            self.db.executemany(sql, rows)

    def prune(self, seqs: Iterable[int]) -> None:
        """From now on these entries have no file and cover nothing here: a target's ledger answers for them."""
        sql = "UPDATE entries SET outcome = ?, covers = 0, path = '', bytes = 0, edges = '[]' WHERE seq = ?"
        with self.transaction():
            self.db.executemany(sql, [(Outcome.PRUNED.value, seq) for seq in seqs])

    def has_pruned(self) -> bool:
        """Whether there is such an entry."""
        return bool(self.value("SELECT EXISTS (SELECT 1 FROM entries WHERE outcome = ?)", Outcome.PRUNED.value))

    def tallies(self) -> list[EndpointCounts]:
        """Counts per endpoint, for `status`; set-based, so that 100,000 chunks cost little."""
        opened = dict(
            self.db.execute(
                "SELECT s.endpoint, count(*) FROM chunks c JOIN series s ON s.id = c.series "
                "WHERE c.state = 'open' GROUP BY 1"
            )
        )
        outcomes: dict[str, dict[str, tuple[int, int, int]]] = {endpoint: {} for endpoint in opened}
        # Only the last word on a chunk counts; earlier entries of the same chunk are history.
        sql = (
            "SELECT s.endpoint, e.outcome, count(*), sum(e.rows), sum(e.bytes) FROM entries e "
            "JOIN chunks c ON c.id = e.chunk JOIN series s ON s.id = c.series "
            "JOIN (SELECT max(seq) AS seq FROM entries GROUP BY chunk) last ON last.seq = e.seq "
            "WHERE c.state = 'closed' GROUP BY 1, 2"
        )
        for endpoint, outcome, chunks, rows, size in self.db.execute(sql):
            outcomes.setdefault(endpoint, {})[outcome] = (chunks, rows, size)
        return [EndpointCounts(name, opened.get(name, 0), counts) for name, counts in sorted(outcomes.items())]

    def loaded(self) -> dict[str, dict[str, int]]:
        """Entries of this root in each target's ledger: endpoint -> target -> number."""
        path = self.root / LOADS
        if not path.exists():
            return {}
        self.db.execute("ATTACH ? AS loads", (reading(path, unseen=self.unseen),))
        sql = (
            "SELECT s.endpoint, t.target, count(*) FROM loads.taken t JOIN entries e ON e.seq = t.seq "
            "JOIN chunks c ON c.id = e.chunk JOIN series s ON s.id = c.series WHERE t.staging = ? GROUP BY 1, 2"
        )
        found: dict[str, dict[str, int]] = {}
        for endpoint, target, number in self.db.execute(sql, (self.staging_id,)):
            found.setdefault(endpoint, {})[target] = number
        self.db.execute("DETACH loads")
        return found

    def last_run(self) -> tuple[str, str, str | None, str] | None:
        """(run, started_at, ended_at, why it stopped early or '') of the newest run."""
        sql = "SELECT run, started_at, ended_at, summary FROM runs ORDER BY started_at DESC LIMIT 1"
        row = self.db.execute(sql).fetchone()
        if row is None:
            return None
        return row[0], row[1], row[2], json.loads(row[3] or "{}").get("stopped", "")


def chunk_of(row: Sequence[Any], known: Mapping[str, Series]) -> Chunk:
    """The chunk in a row (id, series, symbols, start, end, ...)."""
    window = Window(date.fromisoformat(row[3]), date.fromisoformat(row[4]))
    return Chunk(known[row[1]], tuple(row[2].split(",")), window, row[0])


def asked_last(manifest: Manifest, endpoint: str) -> dict[str, str]:
    """When (ISO 8601) each underlying was asked last, within whatever bounds and whatever came of it."""
    sql = (
        "SELECT c.symbols, max(e.asked_at) FROM entries e JOIN chunks c ON c.id = e.chunk "
        "JOIN series s ON s.id = c.series WHERE s.endpoint = ? AND e.outcome <> 'lost' GROUP BY 1"
    )
    return dict(manifest.db.execute(sql, (endpoint,)).fetchall())


RETRIED = (
    Outcome.REFUSED, Outcome.QUARANTINED, Outcome.FAILED, Outcome.FORBIDDEN, Outcome.CONFLICT, Outcome.CAPPED,
    Outcome.LOST,
)  # fmt: skip
# These count as known until somebody asks for a retry; the others are due at the next fetch anyway.
HELD = (Outcome.REFUSED, Outcome.QUARANTINED)

_LAST = "JOIN (SELECT max(seq) AS seq FROM entries GROUP BY chunk) last ON last.seq = e.seq "


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A chunk that was not had: the number of its entry, the outcome, and why."""

    seq: int
    chunk: Chunk
    outcome: Outcome
    reason: str

    @property
    def held(self) -> bool:
        """Whether no fetch asks it again by itself."""
        return self.outcome in HELD


def given_up_by_symbol(manifest: Manifest, series: Series) -> dict[str, tuple[str, str]]:
    """Symbols that no fetch asks again by itself: symbol -> (outcome, reason); what was had later is left out."""
    sql = (
        "SELECT c.symbols, e.outcome, e.reason FROM entries e JOIN chunks c ON c.id = e.chunk "
        "WHERE e.covers = 1 AND c.series = ? AND e.seq >= (SELECT min(e.seq) FROM entries e JOIN chunks c "
        "ON c.id = e.chunk WHERE c.series = ? AND e.outcome IN ('refused', 'quarantined')) ORDER BY e.seq"
    )
    found: dict[str, tuple[str, str]] = {}
    for symbols, outcome, reason in manifest.db.execute(sql, (series.id, series.id)):
        for symbol in symbols.split(","):
            if outcome in HELD:
                found[symbol] = (outcome, reason)
            else:
                found.pop(symbol, None)
    return found


def problems(manifest: Manifest, limit: int = 20) -> list[tuple[str, str, str, str, str]]:
    """(endpoint, outcome, symbols, reason, chunk id) of the newest closed chunks that are neither staged nor empty.

    Those that a retry made due again are left out.
    """
    sql = (
        "SELECT s.endpoint, e.outcome, c.symbols, e.reason, c.id FROM entries e JOIN chunks c ON c.id = e.chunk "  # noqa: S608
        f"JOIN series s ON s.id = c.series {_LAST}"
        "WHERE c.state = 'closed' AND e.outcome NOT IN ('staged', 'empty', 'split') "
        "AND (e.covers = 1 OR e.outcome NOT IN ('refused', 'quarantined')) ORDER BY e.seq DESC LIMIT ?"
    )
    return manifest.db.execute(sql, (limit,)).fetchall()


def given_up_chunks(manifest: Manifest, outcomes: Collection[Outcome] = RETRIED) -> list[GivenUp]:
    """Closed chunks whose last outcome is one of these and that no retry has made due already, oldest first."""
    sql = (
        f'SELECT c.id, c.series, c.symbols, c.start, c."end", e.seq, e.outcome, e.reason FROM entries e '  # noqa: S608
        f"JOIN chunks c ON c.id = e.chunk {_LAST}WHERE c.state = 'closed' "
        f"AND e.outcome IN ({', '.join('?' * len(outcomes))}) "
        "AND (e.covers = 1 OR e.outcome NOT IN ('refused', 'quarantined')) ORDER BY e.seq"
    )
    known = manifest.known_series()
    rows = manifest.db.execute(sql, [outcome.value for outcome in outcomes])
    return [GivenUp(row[5], chunk_of(row, known), Outcome(row[6]), row[7]) for row in rows]


def make_due(manifest: Manifest, given_up: Collection[GivenUp]) -> None:
    """From now on these count as not known: the next fetch that wants them asks. Their entries stay as history."""
    with manifest.transaction():
        manifest.db.executemany("UPDATE entries SET covers = 0 WHERE seq = ?", [(each.seq,) for each in given_up])


def has_manifest(root: Path) -> bool:
    """Whether a staging directory has a manifest; one that a kill left empty is none."""
    path = root / Manifest.file
    return path.exists() and path.stat().st_size > 0


def refuse_lost_manifest(root: Path) -> None:
    """A directory with files and no manifest has lost it: a new one would know nothing of them.

    Raises StagingError naming the command that rebuilds it.
    """
    if not has_manifest(root) and storage.at(root).list():
        raise StagingError(
            f"{root} holds staged files and no manifest.",
            f"Run `stagingest repair --staging {shlex.quote(str(root))}`.",
        )


def crashes(manifest: Manifest) -> dict[str, int]:
    """Chunk id -> deaths of its worker beside a run that lived."""
    return dict(manifest.db.execute("SELECT chunk, count FROM strikes WHERE count > 0").fetchall())


def add_crashes(manifest: Manifest, chunks: Collection[str]) -> None:
    """A worker died with each of these chunk ids."""
    sql = "INSERT INTO strikes VALUES (?, 1, 0) ON CONFLICT (chunk) DO UPDATE SET count = count + 1"
    with manifest.transaction():
        manifest.db.executemany(sql, [(chunk,) for chunk in chunks])


def interrupted(manifest: Manifest) -> dict[str, int]:
    """Chunk id -> deaths of whole runs that had it in flight."""
    return dict(manifest.db.execute("SELECT chunk, interrupted FROM strikes WHERE interrupted > 0").fetchall())


def add_interrupted(manifest: Manifest, chunks: Collection[str]) -> None:
    """A whole run died with these chunk ids in flight."""
    sql = "INSERT INTO strikes VALUES (?, 0, 1) ON CONFLICT (chunk) DO UPDATE SET interrupted = interrupted + 1"
    with manifest.transaction():
        manifest.db.executemany(sql, [(chunk,) for chunk in chunks])


def clear_crashes(manifest: Manifest, chunks: Collection[str]) -> None:
    """Forget the deaths of these chunk ids."""
    with manifest.transaction():
        manifest.db.executemany("DELETE FROM strikes WHERE chunk = ?", [(chunk,) for chunk in chunks])

"""What was asked and not had: which chunks, why, and how they become due again."""

from collections.abc import Collection
from dataclasses import dataclass

from stagingest.manifest import Manifest, chunk_of
from stagingest.model import Chunk, Outcome, Series

RETRIED = (Outcome.REFUSED, Outcome.QUARANTINED, Outcome.FAILED, Outcome.FORBIDDEN)
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


def by_symbol(manifest: Manifest, series: Series) -> dict[str, tuple[str, str]]:
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


def chunks(manifest: Manifest, outcomes: Collection[Outcome] = RETRIED) -> list[GivenUp]:
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

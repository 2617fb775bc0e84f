"""Captures in the manifest: those a run left open, and when each underlying was asked last."""

from stagingest import catalog
from stagingest.manifest import Manifest
from stagingest.model import Chunk, Kind


def left_open(manifest: Manifest) -> list[Chunk]:
    """Captures that were planned and not had: their moment is over, so that no run completes them."""
    known = manifest.known_series().values()
    captured = (series for series in known if catalog.endpoint(series.endpoint).kind is Kind.CAPTURE)
    return [chunk for series in captured for chunk in manifest.open_chunks(series)]


def asked_last(manifest: Manifest, endpoint: str) -> dict[str, str]:
    """When (ISO 8601) each underlying was asked last, within whatever bounds and whatever came of it."""
    sql = (
        "SELECT c.symbols, max(e.asked_at) FROM entries e JOIN chunks c ON c.id = e.chunk "
        "JOIN series s ON s.id = c.series WHERE s.endpoint = ? AND e.outcome <> 'lost' GROUP BY 1"
    )
    return dict(manifest.db.execute(sql, (endpoint,)).fetchall())

"""How often a process died with a chunk, over all runs: kept in the manifest until the chunk is had."""

from collections.abc import Collection

from stagingest.manifest import Manifest


def read(manifest: Manifest) -> dict[str, int]:
    """Chunk id -> deaths."""
    return dict(manifest.db.execute("SELECT chunk, count FROM strikes").fetchall())


def add(manifest: Manifest, chunks: Collection[str]) -> None:
    """One more for each of these chunk ids."""
    sql = "INSERT INTO strikes VALUES (?, 1) ON CONFLICT (chunk) DO UPDATE SET count = count + 1"
    with manifest.transaction():
        manifest.db.executemany(sql, [(chunk,) for chunk in chunks])


def clear(manifest: Manifest, chunks: Collection[str]) -> None:
    """Forget the deaths of these chunk ids."""
    with manifest.transaction():
        manifest.db.executemany("DELETE FROM strikes WHERE chunk = ?", [(chunk,) for chunk in chunks])

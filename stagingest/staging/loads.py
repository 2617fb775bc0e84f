"""What targets have taken of a staging directory, and complaints about its files; written only by `load`."""

from collections.abc import Iterable
from pathlib import Path

from stagingest.staging.manifest import LOADS
from stagingest.system.sqlite import EmptyError, Store

_SCHEMA = """
CREATE TABLE taken (target TEXT NOT NULL, staging TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (target, staging, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE complaints (seq INTEGER PRIMARY KEY, path TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
"""


class Loads(Store):
    """What targets have taken (a cache of their ledgers) and complaints about files; written only by `load`."""

    file = LOADS
    versions = (_SCHEMA,)

    def complain(self, seq: int, path: str, reason: str) -> None:
        """Note that the file of an entry cannot be loaded; the next fetch settles it."""
        self.db.execute("INSERT OR REPLACE INTO complaints VALUES (?, ?, ?)", (seq, path, reason))

    def complaints(self) -> dict[int, str]:
        """seq -> reason."""
        return dict(self.db.execute("SELECT seq, reason FROM complaints").fetchall())

    def greatest(self, staging: str) -> int:
        """The greatest `seq` that a target was seen to have of a staging directory, 0 for none."""
        return int(self.value("SELECT coalesce(max(seq), 0) FROM taken WHERE staging = ?", staging))

    def remember(self, target: str, staging: str, taken: Iterable[int]) -> None:
        """Replace what is known of a target's ledger for this staging root."""
        with self.transaction():
            self.db.execute("DELETE FROM taken WHERE target = ? AND staging = ?", (target, staging))
            rows = ((target, staging, seq) for seq in taken)
            self.db.executemany("INSERT INTO taken VALUES (?, ?, ?)", rows)


def read_complaints(root: Path, *, unseen: bool = False) -> dict[int, str]:
    """Complaints about a root's files (seq -> reason); none when nothing was ever loaded; `unseen` as in Store."""
    if not (root / Loads.file).exists():
        return {}
    try:
        with Loads(root, writable=False, unseen=unseen) as loads:
            return loads.complaints()
    except EmptyError:
        return {}

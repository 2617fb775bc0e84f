"""What a hive tree has taken: the ledger beside it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from stagingest.model.chunk import to_json
from stagingest.system.sqlite import Store
from stagingest.targets.batch import Near, Span

_SCHEMA = """
CREATE TABLE ledger (
    staging TEXT NOT NULL, seq INTEGER NOT NULL, sha256 TEXT NOT NULL, dataset TEXT NOT NULL, provider TEXT NOT NULL,
    endpoint TEXT NOT NULL, series TEXT NOT NULL, params TEXT NOT NULL, symbols TEXT NOT NULL,
    symbol_rows TEXT NOT NULL, rows INTEGER NOT NULL, window_start TEXT NOT NULL, window_end TEXT NOT NULL,
    outcome TEXT NOT NULL, reason TEXT NOT NULL, covers INTEGER NOT NULL, asked_at TEXT NOT NULL,
    loaded_at TEXT NOT NULL, PRIMARY KEY (staging, seq, sha256)) STRICT, WITHOUT ROWID
"""
_SCHEMAS = "CREATE TABLE dataset_schemas (dataset TEXT PRIMARY KEY, schema INTEGER NOT NULL) STRICT"
_COLUMNS = (
    "staging", "seq", "sha256", "dataset", "provider", "endpoint", "series", "params", "symbols", "symbol_rows", "rows",
    "window_start", "window_end", "outcome", "reason", "covers", "asked_at", "loaded_at",
)  # fmt: skip


class ParquetLedger(Store):
    """One row for every final outcome, as in the ledger of a database."""

    file = "ledger.sqlite"
    versions = (_SCHEMA, _SCHEMAS)

    def schemas(self) -> dict[str, int]:
        """The schema number of each dataset whose files have got columns since they had 1."""
        return dict(self.db.execute("SELECT dataset, schema FROM dataset_schemas"))

    def record(self, schemas: Mapping[str, int]) -> None:
        """Replace what is recorded of some datasets."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO dataset_schemas VALUES (?, ?)", schemas.items())

    def loaded_entries(self, staging: str) -> frozenset[tuple[int, str]]:
        """As `Target.taken`."""
        return frozenset(self.db.execute("SELECT seq, sha256 FROM ledger WHERE staging = ?", (staging,)))

    def spans(self, near: Near) -> Iterator[Span]:
        """As `Target.spans`."""
        sql = "SELECT series, endpoint, symbols, window_start, window_end, asked_at FROM ledger WHERE rows > 0"
        for series, endpoint, symbols, start, end, asked in self.db.execute(sql):
            line = series if series in near.lines else endpoint
            names, asked_at = json.loads(symbols), datetime.fromisoformat(asked)
            if line not in near.lines or (line == endpoint and asked_at < near.since):
                continue
            if min(names) <= near.high and max(names) >= near.low:
                yield Span.of(line, names, date.fromisoformat(start), date.fromisoformat(end), asked_at)

    def newest(self, staging: str) -> datetime | None:
        """As `Target.newest`."""
        newest = self.value("SELECT max(asked_at) FROM ledger WHERE staging <> ?", staging)
        return datetime.fromisoformat(newest).replace(tzinfo=UTC) if newest else None

    def enter(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows, as `Item.ledger_row` makes them, in one transaction; one that is there already stays."""
        with self.transaction():
            values = ([_plain(row[name]) for name in _COLUMNS] for row in rows)
            self.db.executemany(f"INSERT OR IGNORE INTO ledger VALUES (?{', ?' * (len(_COLUMNS) - 1)})", values)  # noqa: S608


def _plain(value: Any) -> Any:
    if isinstance(value, str | int):
        return int(value) if isinstance(value, bool) else value
    return value.isoformat() if hasattr(value, "isoformat") else to_json(value)

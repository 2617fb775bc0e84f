"""A target of another distribution: one JSON file, rows and ledger together, written whole."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from stagingest.model.datasets import widened
from stagingest.targets import Receipt, Target, TargetKind, TargetOptions
from stagingest.targets.batch import Batch, Near, Span


class JsonFile:
    """Keeps, of each key, the row that was answered last."""

    def __init__(self, path: Path) -> None:
        self.name = f"json:{path}"
        self._path = path
        self._held: dict[str, Any] = {"ledger": [], "rows": {}}

    def open(self, roots: Iterable[Path]) -> None:
        if self._path.exists():
            self._held = json.loads(self._path.read_text())

    def close(self) -> None:
        self._held = {"ledger": [], "rows": {}}

    def loaded_entries(self, staging: str) -> frozenset[tuple[int, str]]:
        return frozenset((row["seq"], row["sha256"]) for row in self._held["ledger"] if row["staging"] == staging)

    def spans(self, near: Near) -> Iterator[Span]:
        for row in self._held["ledger"]:
            line = row["series"] if row["series"] in near.lines else row["endpoint"]
            if row["rows"] and line in near.lines:
                days = (date.fromisoformat(row[name]) for name in ("window_start", "window_end"))
                yield Span.of(line, row["symbols"], *days, datetime.fromisoformat(row["asked_at"]))

    def newest(self, staging: str) -> datetime | None:
        asked = [row["asked_at"] for row in self._held["ledger"] if row["staging"] != staging]
        return datetime.fromisoformat(max(asked)).replace(tzinfo=UTC) if asked else None

    def unexplained(self) -> frozenset[str]:
        return frozenset()

    def wrong(self) -> Iterator[str]:
        held = sum(len(rows) for rows in self._held["rows"].values())
        if held > sum(row["rows"] for row in self._held["ledger"]) * 2:
            yield f"{self.name} holds {held} rows that its ledger does not explain"

    def take(self, batch: Batch) -> Receipt:
        added = 0
        for item in sorted(batch.files, key=lambda item: item.entry.asked_at):
            rows = widened(pq.read_table(item.file, partitioning=None), batch.dataset, batch.schema)
            for table in batch.dataset.tables:
                held = self._held["rows"].setdefault(table.name, {})
                before = len(held)
                series = {
                    "provider": item.entry.chunk.series.endpoint.partition("/")[0],
                    **dict(item.entry.chunk.series.params),
                }
                for row in rows.to_pylist():
                    row = {**series, **row}
                    plain = {column.name: _plain(row.get(column.name)) for column in table.columns}
                    held["|".join(str(plain[name]) for name in table.key)] = plain
                added += len(held) - before
        now = datetime.now(UTC).replace(tzinfo=None)
        self._held["ledger"] += [_row(item.ledger_row(now)) for item in batch.items]
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._held))
        os.replace(fresh, self._path)
        return Receipt(added, 0)

    def record_open(self, staging: str, windows: Sequence[dict[str, Any]]) -> None:
        pass

    def finish(self) -> None:
        pass

    def size_bytes(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def free_bytes(self) -> int | None:
        return None


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else str(value)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else _plain(value) for name, value in row.items()}


def _path(address: str) -> Path:
    return Path(address.partition(":")[2])


def _make(address: str, how: TargetOptions) -> Target:
    return JsonFile(_path(address))


TARGET = TargetKind(("json",), _make, lambda address: _path(address).parent)

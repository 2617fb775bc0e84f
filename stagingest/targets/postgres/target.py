"""A PostgreSQL database as a target: rows and ledger in one transaction, primary keys kept."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stagingest.errors import HeldError, TargetError
from stagingest.model.datasets import Dataset, Table, arrow_schema, check_schema
from stagingest.system.locks import patiently
from stagingest.targets import Receipt, datasets_where, lacking, naming, raised, sql, steps_from
from stagingest.targets.batch import Batch, Mode, Near, Span, StagedEntry
from stagingest.targets.postgres import sql as postgres_sql
from stagingest.targets.postgres.connection import PostgresConnection, shown

# Any number does that no other program takes: the letters of this one.
_LOCK = int.from_bytes(b"stagings", "big") >> 1


class Postgres:
    """One schema of one database.

    With the TimescaleDB extension the bars become hypertables (proven against a function of its name only).

    Args:
        dsn: `postgresql://host/db`; a secret, for it may hold a password.
        schema: where the tables are; `main` means `public`.
        replace: a whole answer removes rows of its window that it does not repeat.
        lock_timeout_s: how long to wait for another load.
        sleep, clock: for tests.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "main",
        replace: bool = False,
        lock_timeout_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._dsn, self._schema, self._replace = dsn, "public" if schema == "main" else schema, replace
        self._lock_timeout_s, self._sleep, self._clock = lock_timeout_s, sleep, clock
        self.name = shown(dsn) if self._schema == "public" else f"{shown(dsn)} schema {self._schema}"
        self._db: PostgresConnection | None = None

    def open(self, roots: Iterable[Path]) -> None:
        """Connect, take the lock of all loads, make or migrate what is missing.

        Raises HeldError naming the holder, TargetError for a database that cannot be used.
        """
        self._db = PostgresConnection(self._dsn)
        patiently(self._lock, self._lock_timeout_s, self._sleep)
        with self._transaction():
            self._all(f"CREATE SCHEMA IF NOT EXISTS {sql.quoted(self._schema)}")
        self._all(f"SET search_path TO {sql.quoted(self._schema)}, public")
        self._open.commit()
        self._migrate()

    def close(self) -> None:
        """Give it back; what was not committed is rolled back."""
        if self._db is not None:
            self._db.rollback()
            self._db.close()
            self._db = None

    def loaded_entries(self, staging: str) -> frozenset[tuple[int, str]]:
        """(seq, sha256) of every entry of that staging directory in the ledger."""
        rows = self._all("SELECT seq, sha256 FROM ledger WHERE staging = $1", staging)
        return frozenset((seq, digest) for seq, digest in rows)

    def spans(self, near: Near) -> Iterator[Span]:
        """The windows that the ledger has rows for; at least those near by."""
        bounds = (json.dumps(list(near.lines)), near.low, near.high, near.since.isoformat())
        for line, symbols, *window in self._all(postgres_sql.SPANS, *bounds):
            yield Span.of(line, json.loads(symbols), *window)

    def newest(self, staging: str) -> datetime | None:
        """When (UTC) the newest entry of any other staging directory in the ledger was asked."""
        newest = self._one("SELECT max(asked_at) FROM ledger WHERE staging <> $1", staging)
        return newest.replace(tzinfo=UTC) if newest else None

    def unexplained(self) -> frozenset[str]:
        """Names of the datasets whose tables hold rows that the ledger does not explain."""
        known = "SELECT coalesce(sum(inserted - deleted), 0)::BIGINT FROM ledger_batches WHERE table_name = $1"
        return datasets_where(lambda table: self._one(sql.count(table)) != self._one(known, table.name))

    def wrong(self) -> Iterator[str]:
        """Tables whose rows the ledger does not explain; keys are unique, the server sees to that."""
        for name in sorted(self.unexplained()):
            yield f"the tables of {name} hold more or fewer rows than the ledger explains"

    def take(self, batch: Batch) -> Receipt:
        """Load a batch, rows and ledger, or nothing of it; a TargetError names the batch."""
        check_schema(batch.dataset, batch.schema, TargetError)
        now = self._clock().replace(tzinfo=None)
        with naming(batch), self._transaction():
            receipts = [self._fill(table, batch, now) for table in batch.dataset.tables if batch.files]
            self._enter(batch, now)
        return sum(receipts, Receipt(0, 0))

    def record_open(self, staging: str, windows: Sequence[dict[str, Any]]) -> None:
        """Remember what a staging directory has planned and no answer for."""
        rows = [{"staging": staging, **window, "params": json.loads(window["params"])} for window in windows]
        with self._transaction():
            self._all("DELETE FROM open_windows WHERE staging = $1", staging)
            if rows:
                self._all(postgres_sql.EXPECT, json.dumps(rows, default=lambda value: value.isoformat()))

    def finish(self) -> None:
        """Nothing: every transaction is durable when it is committed."""

    def size_bytes(self) -> int:
        """Bytes of the tables, 0 while it is not open or has none."""
        if self._db is not None:
            return self._size()
        self._db = PostgresConnection(self._dsn)
        try:
            return self._size()
        finally:
            self.close()

    def free_bytes(self) -> None:
        """Not known: the disk is the server's."""

    def _size(self) -> int:
        text = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::BIGINT FROM pg_class WHERE relkind = 'r' "
        return int(self._one(text + "AND relnamespace = to_regnamespace($1)", sql.quoted(self._schema)))

    def _fill(self, table: Table, batch: Batch, now: datetime) -> Receipt:
        removed = 0
        if self._replace and batch.mode is Mode.REPLACE:
            removed = self._clear(table, batch)
        if batch.mode is Mode.APPEND:
            inserted, replaced = self._ingest(table, batch, table.name), 0
        else:
            self._all(postgres_sql.stage(table))
            self._ingest(table, batch, postgres_sql.staged(table), batch.ranks())
            newest = batch.mode is Mode.NEWEST
            ((inserted, replaced),) = self._all(postgres_sql.upsert(table, newest=newest))
        deleted = removed + replaced
        values = (table.name, inserted, deleted, now.isoformat())
        self._all("INSERT INTO ledger_batches VALUES ($1, $2, $3, $4::TIMESTAMP)", *values)
        return Receipt(inserted, deleted)

    def _clear(self, table: Table, batch: Batch) -> int:
        removed = 0
        for group in batch.groups(table):
            answers = (item.answered for item in group.files)
            windows = json.dumps([asdict(answer) for answer in answers if answer.whole], default=str)
            text = postgres_sql.remove_within(batch.dataset, table, tuple(group.fixed))
            removed += int(self._one(text, windows, *group.fixed.values()))
        return removed

    def _ingest(self, table: Table, batch: Batch, into: str, ranks: Sequence[int] | None = None) -> int:
        """Append the rows of all files, a file at a time in memory; how many. Raises TargetError for another number."""
        schema = sent(batch.dataset, table.at(batch.schema))
        if ranks is not None:
            schema = schema.append(pa.field(postgres_sql.RANK, pa.int32()))
        tables = (_staged(item, schema, rank) for item, rank in zip(batch.files, ranks or batch.ranks(), strict=True))
        reader = pa.RecordBatchReader.from_batches(schema, (each for one in tables for each in one.to_batches()))
        rows = self._open.ingest(into, reader, temporary=ranks is not None)
        if rows != batch.rows:
            raise TargetError(f"Its files hold {rows} rows where the manifest says {batch.rows}.")
        return rows

    def _enter(self, batch: Batch, now: datetime) -> None:
        rows = [item.ledger_row(now) for item in batch.items]
        for row in rows:
            row["params"] = json.loads(row["params"])
        self._all(postgres_sql.ENTER, json.dumps(rows, default=lambda value: value.isoformat()))

    @property
    def _open(self) -> PostgresConnection:
        assert self._db is not None, "open() comes first"
        return self._db

    def _all(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        return self._open.ask(text, *values)

    def _one(self, text: str, *values: object) -> Any:
        return self._all(text, *values)[0][0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            yield
            self._open.commit()
        except BaseException:
            self._open.rollback()
            raise

    def _lock(self) -> None:
        """Take the lock of all loads into this database; it goes with the connection."""
        if not self._one("SELECT pg_try_advisory_lock($1)", _LOCK):
            message = f"{self.name} is held by {self._holder()}."
            raise HeldError(message, "Wait for it with --lock-timeout, or stop it.")
        self._open.commit()

    def _holder(self) -> str:
        text = (
            "SELECT application_name, pid FROM pg_stat_activity JOIN pg_locks USING (pid) "
            "WHERE locktype = 'advisory' AND granted AND objid = ($1::BIGINT & 4294967295)::OID"
        )
        found = self._all(text, _LOCK)
        return f"{found[0][0] or 'a client'} (server process {found[0][1]})" if found else "another load"

    def _migrate(self) -> None:
        """Bring the tables up to this version, each step in one transaction with its record."""
        for number, statements in steps_from(self._version(), postgres_sql.MIGRATIONS, self.name):
            with self._transaction():
                for statement in statements:
                    self._all(statement)
                self._make_hypertables(number)
                now = self._clock().replace(tzinfo=None).isoformat()
                self._all("INSERT INTO schema_migrations VALUES ($1, $2::TIMESTAMP)", number, now)

        self._add_columns()

    def _add_columns(self) -> None:
        """Give the tables what the datasets have got since, in one transaction; nothing when they have all."""
        news = raised(dict(self._all("SELECT dataset, schema FROM dataset_schemas")), self.name)
        added = lacking(self._columns())
        if news or added:
            with self._transaction():
                for table, column in added:
                    self._all(postgres_sql.add(table, column))
                for view in postgres_sql.VIEWS:
                    self._all(view)
                for name, schema in news.items():
                    self._all(postgres_sql.RECORD_SCHEMA, name, schema)

    def _columns(self) -> set[tuple[str, str]]:
        """(table, column) of everything in our schema."""
        text = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = $1"
        return {(table, column) for table, column in self._all(text, self._schema)}

    def _make_hypertables(self, number: int) -> None:
        if number in postgres_sql.HYPERTABLES and self._one(
            "SELECT count(*) FROM pg_proc WHERE proname = 'create_hypertable'"
        ):
            for table, column in postgres_sql.HYPERTABLES[number]:
                self._all("SELECT create_hypertable($1::REGCLASS, $2::NAME)", table, column)

    def _version(self) -> int:
        """The version of our tables, 0 when there are none. Raises TargetError when they are not ours."""
        columns = self._columns()
        if ("schema_migrations", "applied_at") in columns:
            return int(self._one("SELECT coalesce(max(version), 0) FROM schema_migrations"))
        foreign = sorted({table for table, _ in columns} & postgres_sql.OUR_NAMES)
        if foreign:
            message = f"{self.name} has a table {foreign[0]} that stagingest did not make."
            raise TargetError(message, "Name another database, or another --schema.")
        return 0


def sent(data: Dataset, table: Table) -> pa.Schema:
    """The columns of a table as they travel: those of the staged files, text without dictionaries."""
    staged = arrow_schema(data)
    kinds = ((column.name, staged.field(column.name).type) for column in table.columns)
    return pa.schema([(name, kind.value_type if pa.types.is_dictionary(kind) else kind) for name, kind in kinds])


def _staged(item: StagedEntry, schema: pa.Schema, rank: int) -> pa.Table:
    rows = pq.read_table(item.file, partitioning=None)
    if postgres_sql.RANK in schema.names:
        rows = rows.append_column(postgres_sql.RANK, pa.array([rank] * rows.num_rows, pa.int32()))
    return rows.select(schema.names).cast(schema)

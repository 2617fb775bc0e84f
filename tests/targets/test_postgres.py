"""What PostgreSQL has that no other target has: a server, secrets, extensions."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pglab
import pytest
from desk import desk
from loadlab import BARS, CHAIN, NOON, Staging, bar, snapshot, window

from stagingest.api import target
from stagingest.errors import TargetError, UsageError
from stagingest.loading.loader import load
from stagingest.model.chunk import Chunk
from stagingest.model.task import Outcome
from stagingest.targets import TargetOptions
from stagingest.targets.postgres import sql
from stagingest.targets.postgres.connection import PostgresConnection, completed, shown
from stagingest.targets.postgres.target import Postgres

pytestmark = pytest.mark.postgres
TOOL = [sys.executable, "-m", "stagingest"]
SECRET = "s3cret-of-the-test"


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path / "staging")


@pytest.fixture
def schema(request: pytest.FixtureRequest) -> str:
    return f"of_{abs(hash(request.node.nodeid))}"


@pytest.fixture
def db(schema: str) -> Iterator[PostgresConnection]:
    connection = PostgresConnection(pglab.dsn())
    connection.ask(f"CREATE SCHEMA {schema}")
    connection.ask(f"SET search_path TO {schema}, public")
    connection.commit()
    yield connection
    connection.close()


def ask(db: PostgresConnection, text: str) -> list[tuple[Any, ...]]:
    try:
        return db.ask(text)
    finally:
        db.rollback()


def postgres(schema: str, **how: Any) -> Postgres:
    return Postgres(pglab.dsn(), schema=schema, **how)


def test_coverage_and_candles_are_views_over_what_was_loaded(
    staging: Staging, schema: str, db: PostgresConnection
) -> None:
    staging.bars("A", 0, 2)
    staging.enter(Chunk(BARS, ("B",), window(0, 2)), Outcome.EMPTY)
    staging.enter(Chunk(BARS, ("C",), window(0, 2)), Outcome.REFUSED, reason="no such symbol")
    staging.bars("D", 0, 1)
    staging.enter(Chunk(BARS, ("D",), window(1, 2)), Outcome.FAILED, reason="timed out")
    staging.planned = [Chunk(BARS, ("A", "E"), window(0, 2))]
    load([staging], postgres(schema))  # type: ignore[list-item]
    found = ask(db, 'SELECT symbol, status, "rows", last_error FROM coverage ORDER BY symbol')
    assert found == [
        ("A", "ok", 2, None),
        ("B", "empty", 0, None),
        ("C", "not_found", 0, "no such symbol"),
        ("D", "partial", 1, "timed out"),
        ("E", "pending", 0, None),
    ]
    assert ask(db, "SELECT count(*) FROM candles_daily") == [(3,)]
    assert ask(db, "SELECT version FROM schema_migrations") == [(number,) for number, _ in sql.MIGRATIONS]


def test_a_newer_database_and_tables_of_others_are_refused(
    staging: Staging, schema: str, db: PostgresConnection
) -> None:
    staging.bars("A", 0, 2)
    db.ask("CREATE TABLE stock_bars (mine INTEGER)")
    db.commit()
    with pytest.raises(TargetError, match="has a table stock_bars that stagingest did not make"):
        load([staging], postgres(schema))  # type: ignore[list-item]
    db.ask("DROP TABLE stock_bars")
    db.commit()
    load([staging], postgres(schema))  # type: ignore[list-item]
    db.ask("INSERT INTO schema_migrations VALUES (99, now())")
    db.commit()
    with pytest.raises(TargetError, match=f"is of version 99, this one knows {sql.MIGRATIONS[-1][0]}"):
        load([staging], postgres(schema))  # type: ignore[list-item]


def test_extra_columns_of_the_user_survive(staging: Staging, schema: str, db: PostgresConnection) -> None:
    staging.bars("A", 0, 2)
    load([staging], postgres(schema))  # type: ignore[list-item]
    db.ask("ALTER TABLE stock_bars ADD COLUMN note TEXT DEFAULT 'mine'")
    db.commit()
    staging.bars("A", 1, 3, price=5)
    load([staging], postgres(schema))  # type: ignore[list-item]
    assert ask(db, "SELECT count(*), count(note) FROM stock_bars") == [(3, 3)]


def test_with_timescaledb_bars_and_captures_become_hypertables(
    staging: Staging, schema: str, db: PostgresConnection
) -> None:
    db.ask("CREATE TABLE asked (relation TEXT, col TEXT)")
    db.ask(
        "CREATE FUNCTION create_hypertable(relation REGCLASS, time_column_name NAME) RETURNS VOID LANGUAGE SQL AS "
        "'INSERT INTO asked VALUES (relation::TEXT, time_column_name::TEXT)'"
    )
    db.commit()
    try:
        staging.bars("A", 0, 2)
        load([staging], postgres(schema))  # type: ignore[list-item]
        every = [("option_bars", "ts"), ("option_snapshots", "snapshot_ts"), ("stock_bars", "ts")]
        assert ask(db, "SELECT * FROM asked ORDER BY 1") == every
    finally:
        db.ask("DROP FUNCTION create_hypertable")
        db.commit()


def test_the_coverage_of_captures_counts_every_one_of_a_day(
    staging: Staging, schema: str, db: PostgresConnection
) -> None:
    for minute in range(3):
        moment = NOON + timedelta(minutes=minute)
        rows = [snapshot("AAPL240621C00150500", moment, 1.0)]
        staging.stage(Chunk(CHAIN, ("AAPL",), window(9, 10)).at(moment), rows, asked_at=moment, covers=False)
    load([staging], postgres(schema))  # type: ignore[list-item]
    assert ask(db, "SELECT symbol, status, rows FROM coverage") == [("AAPL", "ok", 3)]


def test_a_count_that_differs_from_the_manifest_is_rolled_back(
    staging: Staging, schema: str, db: PostgresConnection
) -> None:
    good = staging.bars("A", 0, 2)
    staging.listed[0] = type(good)(**{**{name: getattr(good, name) for name in good.__slots__}, "rows": 3})
    with pytest.raises(TargetError, match="hold 2 rows where the manifest says 3"):
        load([staging], postgres(schema))  # type: ignore[list-item]
    assert ask(db, "SELECT (SELECT count(*) FROM stock_bars), (SELECT count(*) FROM ledger)") == [(0, 0)]


# -- addresses and secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dsn", [f"postgresql://me:{SECRET}@host/db", f"postgresql://host/db?user=me&password={SECRET}"]
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path, dsn: str) -> None:
    command = [*TOOL, "load", "--staging", str(tmp_path), "--to", dsn]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    with desk(tmp_path, symbols=2) as place:
        place.fetch(symbols=place.market.symbols, start="2024-05-01", end="2024-05-31")
        command[-3] = str(place.staging)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("DATABASE_URL", "PGPASSWORD", "dsn_env"))
    assert SECRET not in done.stdout + done.stderr


def test_an_address_with_a_password_from_the_environment_shows_it_nowhere(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        place.fetch(symbols=place.market.symbols, start="2024-05-01", end="2024-05-31")
        dsn = f"{pglab.dsn()}&password={SECRET}"
        environ = {**place.environ, "DATABASE_URL": dsn}
        words = [*TOOL, "load", "--staging", str(place.staging), "--to", "DATABASE_URL", "--schema", "secrets"]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        nowhere = {**environ, "DATABASE_URL": f"postgresql://me:{SECRET}@127.0.0.1:1/db?connect_timeout=2"}
        failed = subprocess.run(words, env=nowhere, capture_output=True, text=True, timeout=60)
        assert failed.returncode == 1
        assert "Traceback" not in failed.stderr
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert SECRET.encode() not in written
        assert SECRET not in done.stdout + done.stderr + failed.stdout + failed.stderr


def test_a_target_of_the_configuration_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stagingest.toml").write_text('[target.prices]\ndsn_env = "PRICES"\n[target.tree]\nto = "parquet:tree"\n')
    assert target.target("prices", TargetOptions(), {"PRICES": "postgresql://host/db"}).name == "postgresql://host/db"
    assert target.target("tree", TargetOptions(), {}).name == f"parquet:{tmp_path / 'tree'}"
    with pytest.raises(UsageError, match="takes its address from PRICES, which is not set"):
        target.target("prices", TargetOptions(), {})
    with pytest.raises(UsageError, match="nearest is prices"):
        target.target("price", TargetOptions(), {})


def test_a_server_elsewhere_has_to_prove_itself_and_one_on_this_machine_has_not() -> None:
    assert "sslmode=verify-full" in completed("postgresql://db.example/x", {})
    assert "sslmode=require" in completed("postgresql://db.example/x?sslmode=require", {})
    for dsn in ("postgresql://localhost/x", "postgresql:///x?host=/run/postgresql", "postgresql:///x"):
        assert "sslmode" not in completed(dsn, {})
    assert "sslmode" not in completed("postgresql://db.example/x", {"PGSSLMODE": "disable"})
    assert f"application_name=stagingest%20{os.getpid()}" in completed("postgresql:///x", {})
    assert shown(f"postgresql://me:{SECRET}@db.example:5433/x?sslkey=k") == "postgresql://db.example:5433/x"


def test_verify_and_json_work_on_it(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        place.fetch(symbols=place.market.symbols, start="2024-05-01", end="2024-05-31")
        to = ["--staging", str(place.staging), "--to", pglab.dsn(), "--schema", "verified", "--json"]
        loaded = subprocess.run([*TOOL, "load", *to], env=place.environ, capture_output=True, text=True, timeout=60)
        assert json.loads(loaded.stdout)["rows"] == 44, loaded.stderr
        found = subprocess.run([*TOOL, "verify", *to], env=place.environ, capture_output=True, text=True, timeout=60)
        assert json.loads(found.stdout)["disagreements"] == []


def test_rows_of_a_batch_that_replaces_are_counted(staging: Staging, schema: str) -> None:
    staging.bars("A", 0, 3)
    staging.stage(Chunk(BARS, ("A",), window(0, 3)), [bar("A", 1, 7.0)])
    assert load([staging], postgres(schema)).replaced == 1  # type: ignore[list-item]

"""What an older version left on disk goes on working: directories, a database, a tree and PostgreSQL of tests/old.

The imitation answers as it did then: generated prices depend on seed, symbol and day alone, and no series on its port.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pglab
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from old import make
from old.make import Place

import stagingest
from stagingest.sim import server as sim_server

TOOL = [sys.executable, "-m", "stagingest"]
DATASETS = ("stock-bars", "option-bars", "option-contracts", "option-snapshots", "universe-members")
CONTRACT = ("contract_symbol", "provider", "underlying", "expiry", "option_type", "strike", "style", "status")
BARS_OF_A_SYMBOL = 44  # sessions of April and May 2024
BARS = 3 * BARS_OF_A_SYMBOL + 208 + 2 * BARS_OF_A_SYMBOL  # 1Day, 15Min, 1Day adjusted
LOADED = {"stock_bars": BARS, "option_bars": 719, "option_contracts": 1282, "option_snapshots": 76,
          "option_contract_snapshots": 1282, "universe_members": 3}  # fmt: skip


@pytest.fixture
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Place, sim_server.Server]]:
    """The place a test is marked with, and the imitation that answered it then."""
    root = make.unpacked(request.param, tmp_path / "place")
    with make.imitation(root) as made:
        yield made


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("old", [name], indirect=True)


def tool(place: Place, *words: str) -> str:
    """What a command prints; it succeeds."""
    done = subprocess.run([*TOOL, *words], cwd=place.root, env=place.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked(server: sim_server.Server) -> list[str]:
    """What was asked since the last call."""
    found = [f"{request.path}?{dict(request.query)}" for request in server.log]
    server.reset()
    return found


# Those that were asked of stocks then; one table is of one series.
SERIES = tuple(
    {"timeframe": timeframe, "adjustment": adjustment}
    for timeframe in ("1Day", "15Min")
    for adjustment in ("raw", "split")
)


def rows(dataset: str, **where: Any) -> list[tuple[Any, ...]]:
    """Every row of a dataset, staged or loaded, in a known order; without the time it was asked at."""
    # A database keeps what changes daily of a contract in a table of its own.
    chosen = {"columns": CONTRACT} if dataset == "option-contracts" else {}
    every: list[dict[str, Any]] = []
    for series in SERIES if dataset == "stock-bars" else ({},):
        every += [one for one in ({**series, **where},) if one not in every]
    tables = [stagingest.scan(dataset, **{**chosen, **one}).read_all() for one in every]
    table = pa.concat_tables(tables)
    table = table.drop_columns([name for name in table.column_names if name == "updated_at"])
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True), key=repr)


def calm(root: Path, now: Any, *questions: tuple[str, dict[str, Any]]) -> Path:
    """A staging directory of the present version in which the questions were asked once and calmly."""
    with make.imitation(root) as (place, _):
        place.now = now
        for dataset, options in questions:
            assert place.fetch(dataset, **options).exit_code == 0
        return place.staging


def sound(place: Place, to: str | Path | None = None) -> None:
    assert stagingest.verify(place.staging, to).disagreements == ()


STANDINGS = {  # planned, open, staged, refused, failed, rows
    "alpaca": {
        "alpaca/option-bars": (7, 0, 7, 0, 0, 719),
        "alpaca/option-contracts": (2, 0, 2, 0, 0, 1282),
        "alpaca/option-snapshots": (1, 0, 1, 0, 0, 76),
        "alpaca/stock-bars": (4, 0, 4, 0, 0, BARS + BARS_OF_A_SYMBOL),
        "user/universe-members": (1, 0, 1, 0, 0, 3),
    },
    "massive": {
        "massive/option-contracts": (2, 0, 2, 0, 0, 1282),
        "massive/stock-bars": (2, 0, 2, 0, 0, 2 * BARS_OF_A_SYMBOL),
    },
    "killed": {"massive/stock-bars": (8, 5, 3, 0, 0, 3 * BARS_OF_A_SYMBOL)},
    "pruned": {"alpaca/stock-bars": (1, 0, 1, 0, 0, 4 * BARS_OF_A_SYMBOL)},
    "refused": {"alpaca/stock-bars": (3, 0, 1, 1, 1, 2 * BARS_OF_A_SYMBOL)},
    "struck": {"massive/stock-bars": (1, 0, 0, 0, 1, 0)},
    "early": {"alpaca/stock-bars": (2, 0, 2, 0, 0, 2 * (BARS_OF_A_SYMBOL + 1))},
}


@pytest.mark.parametrize("name", STANDINGS)
def test_an_old_directory_stands_as_it_stood(name: str, tmp_path: Path) -> None:
    place = Place(make.unpacked(name, tmp_path / "place"), "")
    standing = stagingest.status(place.staging)
    found = {
        each.endpoint: (each.planned, each.open, each.staged, each.refused, each.failed, each.rows)
        for each in standing.datasets
    }
    assert found == STANDINGS[name]
    assert standing.running is None
    said = json.loads(tool(place, "status", "--json"))
    assert {each["endpoint"]: each["rows"] for each in said["datasets"]} == {
        endpoint: counts[-1] for endpoint, counts in found.items()
    }
    sound(place)
    assert not stagingest.repair(place.staging).rebuilt


@of("alpaca")
def test_the_questions_of_then_ask_nothing_and_one_more_symbol_only_itself(
    old: tuple[Place, sim_server.Server],
) -> None:
    place, server = old
    for dataset, options in make.ALPACA:
        assert place.fetch(dataset, **options).summary.planned == 0
    symbols = ",".join(make.DAILY["symbols"])
    days = ("--start", make.SPRING["start"], "--end", make.SPRING["end"])
    assert "nothing to ask" in tool(place, "fetch", "stock-bars", "--symbols", symbols, *days)
    assert asked(server) == []
    more = place.fetch("stock-bars", **{**make.DAILY, "symbols": [*make.DAILY["symbols"], "EEEE"]})
    assert (more.exit_code, more.summary.rows) == (0, BARS_OF_A_SYMBOL)
    (request,) = asked(server)
    assert "EEEE" in request
    assert "AAAA" not in request
    sound(place)


@of("massive")
def test_massives_questions_of_then_ask_nothing_and_are_loaded_whole(old: tuple[Place, sim_server.Server]) -> None:
    place, server = old
    for dataset, options in make.MASSIVE:
        assert place.fetch(dataset, **options).summary.planned == 0
    assert asked(server) == []
    assert stagingest.load(place.staging, place.db).rows == 2 * BARS_OF_A_SYMBOL + 1282
    sound(place, place.db)
    whole = calm(place.root / "calm", place.now, *make.MASSIVE)
    for dataset in ("stock-bars", "option-contracts"):
        assert rows(dataset, db=place.db) == rows(dataset, staging=whole)


@of("killed")
def test_a_run_killed_then_is_completed_now_to_the_rows_of_a_calm_one(old: tuple[Place, sim_server.Server]) -> None:
    place, server = old
    before = set(make.BEFORE["symbols"])
    done = place.fetch("massive/stock-bars", **make.KILLED)
    assert (done.exit_code, done.summary.outcomes) == (0, {"staged": 5})
    requests = asked(server)
    assert len(requests) == 5
    assert not any(symbol in request for symbol in before for request in requests)
    whole = calm(place.root / "calm", place.now, ("massive/stock-bars", make.KILLED))
    assert rows("stock-bars", staging=place.staging) == rows("stock-bars", staging=whole)
    assert list((place.staging / "tmp").iterdir()) == []
    assert stagingest.load(place.staging, place.db).rows == 8 * BARS_OF_A_SYMBOL
    sound(place, place.db)


def counts(place: Place, target: str) -> dict[str, int]:
    """Rows of the tables of a target."""
    if target.startswith("parquet:"):
        root = place.root / "tree"
        folders = [folder for folder in root.iterdir() if not folder.name.startswith("_")]
        return {folder.name: ds.dataset(folder).count_rows() for folder in folders}
    if target.startswith("postgresql:"):
        text = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for name in LOADED)
        lines = psql(target, "-At", "-F", ",", "-c", text).splitlines()
        return {name: int(number) for name, _, number in (line.partition(",") for line in lines)}
    with duckdb.connect(target, read_only=True) as db:
        return {name: db.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in LOADED}


def psql(dsn: str, *words: str) -> str:
    tools = pglab.binaries()
    assert tools is not None
    command = [str(tools / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *words, dsn]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def target_of(place: Place, kind: str) -> str:
    """The address of the place's target of a kind; the server's is restored from its dump."""
    if kind == "postgres":
        dsn = pglab.database("older_version")
        psql(dsn, "-f", str(place.root / "postgres.sql"))
        return dsn
    return place.tree if kind == "tree" else str(place.db)


@of("alpaca")
@pytest.mark.parametrize("kind", ["duckdb", "tree", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_an_old_target_takes_only_what_is_new_and_that_once(old: tuple[Place, sim_server.Server], kind: str) -> None:
    place, _ = old
    target = target_of(place, kind)
    before = counts(place, target)
    bars = "stock-bars" if kind == "tree" else "stock_bars"
    assert before[bars] == BARS
    if kind != "tree":
        assert before == LOADED
    loaded = stagingest.load(place.staging, target)
    assert (loaded.entries, loaded.rows, loaded.replaced, loaded.pruned) == (1, BARS_OF_A_SYMBOL, 0, ())
    assert stagingest.load(place.staging, target).entries == 0
    assert counts(place, target) == {**before, bars: BARS + BARS_OF_A_SYMBOL}
    sound(place, target)


@of("alpaca")
def test_an_old_database_and_its_directory_hold_the_same_rows(old: tuple[Place, sim_server.Server]) -> None:
    place, _ = old
    tool(place, "load", "--to", "market.duckdb")
    for dataset in DATASETS:
        staged = rows(dataset, staging=place.staging)
        assert len(staged) == len(set(map(repr, staged))) > 0
        assert rows(dataset, db=place.db) == staged


@of("alpaca")
def test_an_old_directory_is_topped_up_to_what_a_calm_fetch_has(old: tuple[Place, sim_server.Server]) -> None:
    place, server = old
    stagingest.load(place.staging, place.db)
    place.now += timedelta(days=2)
    end = str(place.now.date())
    done = place.fetch("stock-bars", top_up=True, end=end)
    assert (done.exit_code, done.summary.refetched) == (0, ())
    assert 0 < len(asked(server)) <= 4
    split = {**make.ALPACA[2][1], "end": end}
    place.fetch("stock-bars", **split)
    daily = {**make.DAILY, "symbols": make.SYMBOLS[:4], "end": end}
    whole = calm(place.root / "calm", place.now, ("stock-bars", daily), ("stock-bars", split))
    stagingest.load(place.staging, place.db)
    expected = rows("stock-bars", staging=whole)
    assert len(expected) == (4 + 2) * (BARS_OF_A_SYMBOL + 3)
    assert rows("stock-bars", staging=place.staging, timeframe="1Day") == expected
    assert rows("stock-bars", db=place.db, timeframe="1Day") == expected
    sound(place, place.db)


@of("alpaca")
def test_a_chain_captured_now_stands_beside_the_one_of_then(old: tuple[Place, sim_server.Server]) -> None:
    place, _ = old
    place.now += timedelta(minutes=1)
    assert place.fetch("option-snapshots", **make.CHAIN).summary.outcomes == {"staged": 1}
    stagingest.load(place.staging, place.db)
    moments = {row[0] for row in rows("option-snapshots", db=place.db, columns=["snapshot_ts"])}
    assert moments == {make.THEN.replace(tzinfo=None), place.now.replace(tzinfo=None)}
    assert len(rows("option-snapshots", db=place.db)) == 2 * 76


@of("alpaca")
def test_a_universe_of_then_can_be_asked_now(old: tuple[Place, sim_server.Server]) -> None:
    place, server = old
    assert tool(place, "universe", "as-of", "mine", "2024-05-20").split() == ["AAAA", "CCCC"]
    done = place.fetch("stock-bars", index=["mine"], **make.SPRING)
    assert done.question.names.kept == ("AAAA", "BBBB", "CCCC")
    assert (done.summary.planned, asked(server)) == (0, [])


@of("alpaca")
def test_a_lost_manifest_of_then_comes_back_from_the_files_of_then(old: tuple[Place, sim_server.Server]) -> None:
    place, server = old
    stagingest.load(place.staging, place.db)
    before = {dataset: rows(dataset, staging=place.staging) for dataset in DATASETS}
    for path in place.staging.glob("manifest.sqlite*"):
        path.unlink()
    repaired = stagingest.repair(place.staging)
    assert (repaired.rebuilt, repaired.set_aside, repaired.gone) == (True, {}, ())
    for dataset, options in make.ALPACA:
        assert place.fetch(dataset, **options).summary.planned == 0
    assert asked(server) == []
    stagingest.load(place.staging, place.db)
    for dataset, expected in before.items():
        assert rows(dataset, staging=place.staging) == expected
        assert rows(dataset, db=place.db) == expected
    (twice,) = stagingest.verify(place.staging, place.db).disagreements
    assert twice.cure.startswith("none is needed")


@of("alpaca")
def test_files_of_then_are_pruned_where_the_database_of_then_answers(old: tuple[Place, sim_server.Server]) -> None:
    place, server = old
    pruned = stagingest.prune(place.staging, loaded_in=place.db)
    assert (pruned.files, pruned.not_loaded, pruned.needed) == (2 + 7 + 1, 1, 1 + 2 + 1)
    assert place.fetch("stock-bars", **make.DAILY, db=place.db).summary.planned == 0
    assert asked(server) == []
    assert stagingest.load(place.staging, place.db).rows == BARS_OF_A_SYMBOL
    assert counts(place, str(place.db)) == {**LOADED, "stock_bars": BARS + BARS_OF_A_SYMBOL}
    sound(place, place.db)


@of("pruned")
def test_what_was_pruned_then_is_known_by_its_database_and_lacking_elsewhere(
    old: tuple[Place, sim_server.Server],
) -> None:
    place, server = old
    assert place.fetch("stock-bars", **make.PRUNED, db=place.db).summary.planned == 0
    assert asked(server) == []
    assert stagingest.load(place.staging, place.db).entries == 0
    sound(place, place.db)
    other = stagingest.load(place.staging, place.root / "other.duckdb")
    assert [chunk.symbols for chunk in other.pruned] == [tuple(make.PRUNED["symbols"])]
    assert place.fetch("stock-bars", **make.PRUNED).summary.rows == 4 * BARS_OF_A_SYMBOL
    assert stagingest.load(place.staging, place.root / "other.duckdb").rows == 4 * BARS_OF_A_SYMBOL
    stagingest.load(place.staging, place.db)
    assert rows("stock-bars", db=place.db) == rows("stock-bars", db=place.root / "other.duckdb")


@of("refused")
def test_what_was_refused_or_failed_then_is_due_as_it_was(old: tuple[Place, sim_server.Server]) -> None:
    place, server = old
    assert place.fetch("stock-bars", **make.REFUSED).summary.planned == 0
    assert asked(server) == []
    retried = stagingest.retry(place.staging)
    assert retried.outcomes == {"failed": 1, "refused": 1}
    assert place.fetch("stock-bars", **make.FAILED).summary.rows == 208
    assert place.fetch("stock-bars", **make.REFUSED).summary.planned == 1
    requests = asked(server)
    assert [make.BAD in request for request in requests] == [False, True]
    assert stagingest.load(place.staging, place.db).rows == 2 * BARS_OF_A_SYMBOL + 208
    sound(place, place.db)


@of("struck")
def test_a_chunk_set_aside_then_is_asked_after_a_retry_and_not_before(old: tuple[Place, sim_server.Server]) -> None:
    place, server = old
    assert place.fetch("massive/stock-bars", **make.STRUCK).summary.planned == 0
    assert asked(server) == []
    said = json.loads(tool(place, "retry", "--json"))
    assert said["outcomes"] == {"quarantined": 1}
    assert place.fetch("massive/stock-bars", **make.STRUCK).summary.outcomes == {"staged": 1}
    assert len(rows("stock-bars", staging=place.staging)) == BARS_OF_A_SYMBOL


@of("early")
def test_bars_that_were_not_final_then_are_asked_again_now_and_replaced(old: tuple[Place, sim_server.Server]) -> None:
    place, server = old
    then = rows("stock-bars", db=place.db)
    place.now += timedelta(days=1)
    done = place.fetch("stock-bars", **make.EARLY)
    assert (done.exit_code, len(asked(server)), done.summary.provisional) == (0, 1, 0)
    assert stagingest.load(place.staging, place.db).entries == 1
    whole = calm(place.root / "calm", place.now, ("stock-bars", make.EARLY))
    final = rows("stock-bars", staging=whole)
    assert len(final) == len(then)
    assert final != then
    assert rows("stock-bars", staging=place.staging) == final
    assert rows("stock-bars", db=place.db) == final
    sound(place, place.db)
    assert place.fetch("stock-bars", **make.EARLY).summary.planned == 0

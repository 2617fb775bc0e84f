"""Named lists of symbols: files, watchlists, and indexes over time."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.dataset as ds
import pytest
from desk import Desk, desk
from hypothesis import given
from hypothesis import strategies as st

import stagingest
from stagingest.errors import UsageError
from stagingest.model.windows import Window
from stagingest.planning import symbols as planning_symbols
from stagingest.planning import universes
from stagingest.planning.universes import Member

DAY = date(2024, 1, 1)
NOW = datetime(2024, 6, 3, 22, tzinfo=UTC)


def day(number: int) -> date:
    return DAY + timedelta(number)


@pytest.mark.parametrize(
    ("name", "text", "column", "names"),
    [
        ("a.csv", "name,ticker\nApple,AAPL\nMicrosoft,MSFT\n", "", ["AAPL", "MSFT"]),
        ("a.csv", "id,code\n1,AAPL\n2,MSFT\n", ":code", ["AAPL", "MSFT"]),
        ("a.txt", "# mine\nAAPL\n\nMSFT\n", "", ["AAPL", "MSFT"]),
        ("a.json", '["AAPL", "MSFT"]', "", ["AAPL", "MSFT"]),
        ("a.json", '[{"name": "Apple", "symbol": "AAPL"}, {"symbol": "MSFT"}]', "", ["AAPL", "MSFT"]),
        ("a.json", '[{"code": "AAPL"}, {"code": "MSFT"}]', ":code", ["AAPL", "MSFT"]),
        ("a.json", '{"one": ["AAPL"], "two": ["MSFT"]}', "", ["AAPL", "MSFT"]),
        ("a.json", '{"one": ["AAPL"], "two": ["MSFT"]}', ":two", ["MSFT"]),
    ],
)
def test_a_file_of_symbols_may_be_csv_text_or_json(
    tmp_path: Path, name: str, text: str, column: str, names: list[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert planning_symbols.from_file(f"{tmp_path / name}{column}") == names


@pytest.mark.parametrize(
    ("name", "text", "column", "says"),
    [
        ("a.csv", "name,ticker\nApple,AAPL\n", ":tickr", "Did you mean 'ticker'? It has: name, ticker."),
        ("a.json", '{"one": ["AAPL"]}', ":on", "Did you mean 'one'? It has: one."),
        ("a.json", '[{"name": "x", "symbol": "A"}]', ":symbo", "Did you mean 'symbol'? It has: name, symbol."),
        ("a.json", "[1, 2]", "", "holds no list of names"),
        ("a.json", "[" * 100_000, "", "it is not JSON"),
    ],
)
def test_a_file_without_the_column_names_those_it_has(
    tmp_path: Path, name: str, text: str, column: str, says: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        planning_symbols.from_file(f"{tmp_path / name}{column}")
    assert says in str(caught.value)


steps = st.lists(st.sets(st.sampled_from("ABCDE"), min_size=1), min_size=1, max_size=8)


@given(steps)
def test_lists_of_days_give_back_the_members_of_every_day(told: list[set[str]]) -> None:
    members: list[Member] = []
    for number, symbols in enumerate(told):
        members = universes.listed(members, symbols, day(2 * number))
    for number, symbols in enumerate(told):
        assert universes.as_of(members, day(2 * number)) == sorted(symbols)
        assert universes.as_of(members, day(2 * number + 1)) == sorted(symbols)
    assert universes.during(members, Window(day(0), day(2 * len(told)))) == sorted(set().union(*told))
    assert len({(member.symbol, member.added) for member in members}) == len(members)


def test_a_history_replaces_what_was_known_and_keeps_its_keys() -> None:
    before = universes.listed([], ["A", "B"], day(10))
    after = universes.replaced(
        before, [Member("A", day(0), day(5)), Member("A", day(7)), Member("B", day(10), day(12))]
    )
    assert universes.as_of(after, day(6)) == []
    assert universes.as_of(after, day(11)) == ["A", "B"]
    assert {(member.symbol, member.added) for member in before} <= {(member.symbol, member.added) for member in after}


def test_a_list_older_than_known_changes_is_refused() -> None:
    members = universes.listed([], ["A"], day(10))
    with pytest.raises(UsageError, match="Changes up to 2024-01-11 are known"):
        universes.listed(members, ["A"], day(9))


def test_a_history_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(UsageError, match="before it is added"):
        universes.replaced([], [Member("A", day(5), day(4))])
    with pytest.raises(UsageError, match="was not removed since"):
        universes.replaced([], [Member("A", day(5)), Member("A", day(7))])


def stored(place: Path) -> list[tuple[str, str, date, date | None]]:
    text = "SELECT universe, symbol, added_date, removed_date FROM universe_members ORDER BY ALL"
    with duckdb.connect(str(place), read_only=True) as db:
        return db.execute(text).fetchall()


def test_members_are_staged_loaded_and_followed_when_they_leave(tmp_path: Path) -> None:
    staging, db, tree = tmp_path / "staging", tmp_path / "market.duckdb", tmp_path / "tree"
    (tmp_path / "one.txt").write_text("brk/b\nBRK.B\nAAPL\nnot a symbol\n")
    (tmp_path / "two.txt").write_text("AAPL\nMSFT\n")

    kept = stagingest.import_universe("sp", tmp_path / "one.txt", as_of=day(0), staging=staging, clock=lambda: NOW)
    assert (kept.members, kept.joined, kept.rejected) == (2, 2, ("not a symbol",))
    stagingest.load(staging, db)
    kept = stagingest.import_universe(
        "sp", tmp_path / "two.txt", as_of=day(9), staging=staging, clock=lambda: NOW + timedelta(hours=1)
    )
    assert (kept.members, kept.joined, kept.left) == (2, 1, 1)
    again = stagingest.import_universe("sp", tmp_path / "two.txt", as_of=day(9), staging=staging, clock=lambda: NOW)
    assert (again.joined, again.left) == (0, 0)

    assert stagingest.load(staging, db).entries == 1
    stagingest.load(staging, f"parquet:{tree}")
    expected = [
        ("sp", "AAPL", day(0), None), ("sp", "BRK.B", day(0), day(9)), ("sp", "MSFT", day(9), None)
    ]  # fmt: skip
    assert stored(db) == expected
    found = ds.dataset(tree / "universe-members").to_table(columns=["universe", "symbol", "added_date", "removed_date"])
    rows = zip(*(column.to_pylist() for column in found.columns), strict=True)
    assert sorted(rows, key=str) == sorted(expected, key=str)
    assert stagingest.verify(staging, db).disagreements == ()


@pytest.fixture
def place(tmp_path: Path):
    with desk(tmp_path) as made:
        yield made


def test_an_index_asks_for_all_who_belonged_in_the_window(place: Desk) -> None:
    one, two, three = place.market.symbols[:3]
    (place.root / "index.csv").write_text(
        f"symbol,added,removed\n{one},2024-01-01,2024-03-01\n{two},2024-01-01,\n{three},2024-05-20,\n"
    )
    stagingest.import_universe("mine", place.root / "index.csv", staging=place.staging, clock=lambda: NOW)
    february = place.plan(index=["mine"], start="2024-02-01", end="2024-02-29")
    assert february.question.names.kept == tuple(sorted((one, two)))
    may = place.fetch(index=["mine"], start="2024-05-01", end="2024-05-31")
    assert may.question.names.kept == tuple(sorted((two, three)))
    with pytest.raises(UsageError, match="has no member from 2023-01-01"):
        place.plan(index=["mine"], start="2023-01-01", end="2023-01-31")
    with pytest.raises(UsageError, match="There is no universe 'mime'"):
        place.plan(index=["mime"], start="2024-02-01")


def tool(place: Desk, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stagingest", *words]
    environ = {**place.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return subprocess.run(command, cwd=place.root, env=environ, capture_output=True, text=True, timeout=60)


def test_watchlists_are_found_by_name_and_the_usual_ones_without_a_name(place: Desk) -> None:
    one, two, three = place.market.symbols[:3]
    known = {"positions": [one], "monitor": [two, one], "ideas": [three]}
    (place.root / "data").mkdir()
    (place.root / "data" / "watchlists.json").write_text(json.dumps(known))

    usual = tool(place, "plan", "stock-bars", "--start", "2024-05-01", "--json")
    said = json.loads(usual.stdout)
    assert said["symbols"] == 2, usual.stdout
    assert "No symbols were named: asking positions and monitor of data/watchlists.json." in usual.stdout
    ideas = tool(place, "plan", "stock-bars", "--watchlist", "ideas", "--start", "2024-05-01", "--json")
    assert json.loads(ideas.stdout)["symbols"] == 1
    wrong = tool(place, "plan", "stock-bars", "--watchlist", "idees", "--start", "2024-05-01")
    assert wrong.returncode == 2
    assert "The nearest is ideas; there are ideas, monitor, positions." in wrong.stderr


def test_the_universe_commands_import_list_show_and_rebuild_a_past_day(place: Desk) -> None:
    (place.root / "old.txt").write_text("AAPL\nFB\n")
    (place.root / "new.txt").write_text("AAPL\nMETA\n")
    assert (
        "2 members, 2 joined, 0 left"
        in tool(place, "universe", "import", "big", "old.txt", "--as-of", "2021-01-04").stdout
    )
    assert (
        "2 members, 1 joined, 1 left"
        in tool(place, "universe", "import", "big", "new.txt", "--as-of", "2022-06-09").stdout
    )
    assert "big  2 members, changed 2022-06-09" in tool(place, "universe", "list").stdout
    shown = tool(place, "universe", "show", "big").stdout
    assert shown == "symbol,added,removed\nAAPL,2021-01-04,\nFB,2021-01-04,2022-06-09\nMETA,2022-06-09,\n"
    assert tool(place, "universe", "as-of", "big", "2022-01-03").stdout == "AAPL\nFB\n"
    missing = tool(place, "universe", "show", "bug")
    assert missing.returncode == 2
    assert "The nearest is big" in missing.stderr
    refused = tool(place, "fetch", "user/universe-members")
    assert refused.returncode == 2

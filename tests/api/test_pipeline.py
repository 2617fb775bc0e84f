"""The library in a notebook: fetch and load in one call, bars as Arrow, and scans of what is there."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from desk import Desk, desk

import stagingest
from stagingest.errors import CredentialsError, ProviderError, UsageError
from stagingest.planning import universes
from stagingest.sim import policy
from stagingest.targets.duckdb.connection import read


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, symbols=["AAAA", "BBBB", "CCCC"]) as made:
        yield made


def pipeline(place: Desk, **how: Any) -> stagingest.Pipeline:
    words = {"staging": place.staging, "to": place.db, "processes": 0, "max_rps": 5000, **how}
    return stagingest.Pipeline(environ=place.environ, clock=lambda: place.now, **words)


def test_a_file_of_symbols_becomes_loaded_bars_and_an_index(place: Desk) -> None:
    file = place.root / "top 500.csv"
    file.write_text("name,symbol\nOne,AAAA\nTwo,bbbb\nThree,CSP1\n")
    found = pipeline(place).from_csv(file, "2024-05-01", "2024-05-31", timeframe="1Hour")
    assert found["successful"] == ["AAAA", "BBBB"]
    assert found["failed"] == [("CSP1", "is no symbol of the provider")]
    counted = read(
        place.db, 'SELECT symbol, any_value("interval"::VARCHAR), count(*) FROM stock_bars GROUP BY 1 ORDER BY 1'
    )
    assert [(symbol, interval) for symbol, interval, _ in counted[1]] == [("AAAA", "1h"), ("BBBB", "1h")]
    assert universes.names(place.staging) == ["top-500"]
    members = "SELECT symbol FROM universe_members WHERE universe = 'top-500' ORDER BY 1"
    assert read(place.db, members)[1] == [("AAAA",), ("BBBB",)]


def test_the_index_is_named_as_the_caller_says(place: Desk) -> None:
    file = place.root / "a.txt"
    file.write_text("AAAA\n")
    pipeline(place).from_csv(file, "2024-05-01", index_name="sp500")
    pipeline(place).from_csv(file, "2024-05-01", index_name="")
    pipeline(place).symbols(["BBBB"], "2024-05-01", index_name="mine")
    assert universes.names(place.staging) == ["mine", "sp500"]


def test_the_same_call_continues_and_asks_nothing_twice(place: Desk) -> None:
    asked: dict[str, Any] = {"start": "2016-01-01", "end": "2016-12-31", "timeframe": "1Min"}
    first = pipeline(place, max_chunks=1).symbols(["AAAA", "BBBB", "CCCC"], **asked)
    assert first["failed"]
    assert "run it again" in first["failed"][0][1]
    whole = pipeline(place).symbols(["AAAA", "BBBB", "CCCC"], **asked)
    assert whole == {"successful": ["AAAA", "BBBB", "CCCC"], "failed": []}
    place.requests()
    assert pipeline(place).symbols(["AAAA"], **asked)["failed"] == []
    assert place.requests() == 0


def test_a_symbol_the_provider_refuses_is_told_with_its_reason(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA"], policy=policy.Policy(opra=False)) as place:
        found = pipeline(place).symbols(["AAAA240621C00010000"], "2024-05-01", dataset="option-bars")
        assert found["successful"] == []
        assert "OPRA agreement" in found["failed"][0][1]


def bars(place: Desk, *words: Any, **asked: Any) -> pa.Table:
    return stagingest.bars(
        *words, staging=place.staging, environ=place.environ, clock=lambda: place.now, processes=0, **asked
    )


def test_bars_come_as_arrow_sorted_and_are_not_asked_again(place: Desk) -> None:
    found = bars(place, ["BBBB", "AAAA"], "2024-05-01", "2024-05-31")
    assert found.num_rows == 44
    assert found["symbol"].to_pylist() == ["AAAA"] * 22 + ["BBBB"] * 22
    assert found["session_date"].to_pylist()[0] == date(2024, 5, 1)
    assert found.schema.field("symbol").type == pa.string()
    place.requests()
    assert bars(place, ["AAAA"], "2024-05-13", date(2024, 5, 17)).num_rows == 5
    assert place.requests() == 0


def test_bars_that_may_not_be_had_raise(tmp_path: Path) -> None:
    with (
        desk(tmp_path, symbols=["AAAA"], policy=policy.Policy(opra=False)) as place,
        pytest.raises(CredentialsError, match="OPRA"),
    ):
        bars(place, ["AAAA240621C00010000"], "2024-05-01", dataset="option-bars")


def test_a_scan_gives_each_key_once_as_it_was_answered_last(place: Desk) -> None:
    place.fetch(symbols=["AAAA", "BBBB"], start="2024-05-01", end="2024-06-03")
    place.now += timedelta(days=1)
    place.fetch(symbols=["AAAA"], start="2024-05-20", end="2024-06-04", resume=False)
    place.load()
    staged = stagingest.scan("stock-bars", staging=place.staging).read_all()
    loaded = stagingest.scan("stock-bars", db=place.db).read_all()
    keys = [("symbol", "ascending"), ("ts", "ascending")]
    assert staged.sort_by(keys) == loaded.sort_by(keys)
    assert staged.num_rows == len({(row["symbol"], row["ts"]) for row in staged.to_pylist()})


@pytest.mark.parametrize("loaded", [False, True])
def test_a_scan_chooses_symbols_days_series_and_columns(place: Desk, loaded: bool) -> None:
    place.fetch(symbols=["AAAA", "BBBB"], start="2024-05-01", end="2024-05-31")
    place.fetch(symbols=["AAAA"], start="2024-05-01", end="2024-05-31", adjustment="split")
    place.load()
    where = {"db": place.db} if loaded else {"staging": place.staging}
    found = stagingest.scan(
        "stock-bars", symbols=["AAAA"], start="2024-05-06", end="2024-05-07", timeframe="1Day", adjustment="raw",
        columns=["ts", "symbol", "close"], **where,
    )  # fmt: skip
    assert isinstance(found, pa.RecordBatchReader)
    table = found.read_all()
    assert table.column_names == ["ts", "symbol", "close"]
    assert table["symbol"].to_pylist() == ["AAAA", "AAAA"]
    assert table["ts"].to_pylist() == [datetime(2024, 5, 6, 4), datetime(2024, 5, 7, 4)]


def test_contracts_and_chains_can_be_scanned(place: Desk) -> None:
    asked = {"underlyings": ["AAAA"], "expiry_gte": "2024-06-01", "expiry_lte": "2024-06-30"}
    place.fetch("option-contracts", **asked)
    place.fetch("option-snapshots", **asked)
    place.load()
    for dataset in ("option-contracts", "option-snapshots"):
        names = ["contract_symbol", "underlying"]
        staged, loaded = (
            stagingest.scan(dataset, columns=names, **where).read_all().sort_by(names[0])
            for where in ({"staging": place.staging}, {"db": place.db})
        )
        assert staged == loaded
        assert staged.num_rows > 0
    assert stagingest.scan("option-contracts", symbols=["BBBB"], staging=place.staging).read_all().num_rows == 0


def test_a_scan_of_nothing_has_its_columns_and_no_rows(tmp_path: Path) -> None:
    found = stagingest.scan("stock-bars", staging=tmp_path / "nowhere").read_all()
    assert (found.num_rows, found.column_names[:2]) == (0, ["symbol", "interval"])


@pytest.mark.parametrize(
    ("dataset", "words", "says"),
    [
        ("stock-bar", {}, "The nearest is stock-bars"),
        ("stock-bars", {"columns": ["clos"]}, "The nearest is close"),
        ("stock-bars", {"start": "2024-02-30"}, "is no day"),
        ("option-contracts", {"start": "2024-02-01"}, "has no time"),
        ("option-bars", {"feed": "sip"}, "has no column 'feed'"),
    ],
)
def test_a_scan_that_is_wrong_names_what_there_is(
    dataset: str, words: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        stagingest.scan(dataset, staging=tmp_path, **words)
    assert says in str(caught.value)


def test_rows_of_several_series_are_refused_with_the_choices_there_are(place: Desk) -> None:
    asked = {"symbols": ["AAAA"], "start": "2024-05-01", "end": "2024-05-03"}
    place.fetch(**asked)
    place.fetch(**asked, timeframe="1Hour")
    place.fetch(**asked, adjustment="split")
    place.load()
    for where in ({"staging": place.staging}, {"db": place.db}):
        with pytest.raises(UsageError, match=r"of timeframe '1d', '1h'\. Choose one with timeframe="):
            stagingest.scan("stock-bars", **where)
        with pytest.raises(UsageError, match=r"of adjustment 'raw', 'split'\. Choose one with adjustment="):
            stagingest.scan("stock-bars", timeframe="1Day", **where)
        whole = stagingest.scan("stock-bars", timeframe="1Day", adjustment="split", **where).read_all()
        assert set(whole["adjustment"].to_pylist()) == {"split"}
        assert whole.num_rows == 3


def test_bars_are_of_the_series_asked_and_of_no_other(place: Desk) -> None:
    asked: dict[str, Any] = {"staging": place.staging, "environ": place.environ, "clock": lambda: place.now}
    days = ("2024-05-01", "2024-05-03")
    stagingest.bars(["AAAA"], *days, **asked)
    for more in ({"currency": "EUR"}, {"asof": "2024-05-02"}, {"adjustment": "split"}, {}):
        found = stagingest.bars(["AAAA"], *days, **asked, **more)
        assert found.num_rows == 3
        for name, value in more.items():
            assert set(found[name].to_pylist()) == {value}


def test_bars_that_could_not_be_had_whole_raise_and_say_of_whom(tmp_path: Path) -> None:
    trouble = policy.Fault("status", status=500, contains="BBBB")
    with desk(tmp_path, symbols=["AAAA", "BBBB"], policy=policy.Policy(faults=(trouble,))) as place:
        asked: dict[str, Any] = {"staging": place.staging, "environ": place.environ, "clock": lambda: place.now}
        with pytest.raises(ProviderError, match="BBBB: failed"):
            stagingest.bars(["AAAA", "BBBB"], "2024-05-01", "2024-05-03", **asked)

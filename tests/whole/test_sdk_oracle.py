"""alpaca-py and massive, the providers' own clients, get from the imitation exactly what its market holds."""

from datetime import date

import orjson
import pytest
from desk import desk
from sdkrows import (
    ask_oracle,
    bar_rows,
    contract_rows,
    massive_bar_rows,
    massive_contract_rows,
    massive_rows,
    snapshot_rows,
    staged_bar_rows,
    staged_contract_rows,
    staged_massive_rows,
    staged_snapshot_rows,
)
from simlab import MARKET, NOON, fixed

from stagingest.sim.market.bars import Spec, Timeframe
from stagingest.sim.market.calendar import Moment, stamp
from stagingest.sim.policy import Policy
from stagingest.sim.server import Server

MOMENT = Moment.at(NOON)
WINDOW = {"start": "2026-10-01T04:00:00+00:00", "end": "2026-11-20T23:59:59+00:00"}
BOUNDS = (stamp(date(2026, 10, 1)), stamp(date(2026, 11, 21)) - 1)
EXPIRIES = (date(2026, 9, 1), date(2026, 12, 31))
STOCKS = ["AAA", "BBB", "BRK.B", "NOPE"]


def rows_of(run):
    i, j = run.span(*BOUNDS)
    return orjson.loads(b"[" + run.cut(i, j) + b"]") if i < j else []


def market_stocks(timeframe, **spec):
    parsed = Timeframe.parse(timeframe)
    assert parsed
    spec = Spec(parsed, **spec)
    return {
        symbol: [bar for run in MARKET.stock_bars(symbol, spec, *BOUNDS, MOMENT) for bar in rows_of(run)]
        for symbol in STOCKS
    }


def market_contracts():
    chains = [one for symbol in ("AAA", "BRK.B") for one in MARKET.contracts(symbol, MOMENT.today)]
    return [one for one in chains if EXPIRIES[0] <= one.expiry <= EXPIRIES[1]]


def market_options(symbols, timeframe):
    parsed = Timeframe.parse(timeframe)
    assert parsed
    runs = {symbol: MARKET.option_bars(symbol, parsed, MOMENT) for symbol in symbols}
    return {symbol: rows_of(run) for symbol, run in runs.items() if run}


@pytest.mark.sdk
def test_alpaca_py_gets_every_row_of_the_market_over_many_pages(sdk_python):
    contracts = market_contracts()
    options = [one.symbol for one in contracts]
    question = {
        "stock_bars": {"symbols": STOCKS, "timeframe": [1, "Hour"], "feed": "iex", "adjustment": "all", **WINDOW},
        "option_bars": {"symbols": options, "timeframe": [1, "Day"], **WINDOW},
        "option_contracts": {
            "underlying_symbols": ["AAA", "BRK.B"],
            "expiration_date_gte": str(EXPIRIES[0]),
            "expiration_date_lte": str(EXPIRIES[1]),
        },
    }
    with Server(MARKET, Policy(page_cap=97), clock=fixed) as server:
        found = ask_oracle(sdk_python, server.url, question)
        asked = [entry.path for entry in server.log]

    adjusted = frozenset({"split", "dividend", "spin-off"})
    assert bar_rows(found["stock_bars"]) == bar_rows(market_stocks("1Hour", feed="iex", adjustment=adjusted))
    assert bar_rows(found["option_bars"]) == bar_rows(market_options(options, "1Day"))
    assert contract_rows(found["option_contracts"]) == contract_rows(one.row(MOMENT.today) for one in contracts)
    assert {row["status"] for row in found["option_contracts"]} == {"active", "inactive"}
    pages = {path: asked.count(path) for path in set(asked)}
    assert len(pages) == 3
    assert min(pages.values()) > 5, pages


@pytest.mark.sdk
def test_alpaca_py_gets_every_row_of_plain_daily_bars(sdk_python):
    question = {"stock_bars": {"symbols": STOCKS, "timeframe": [1, "Day"], **WINDOW}}
    with Server(MARKET, Policy(page_cap=10), clock=fixed) as server:
        found = ask_oracle(sdk_python, server.url, question)

    assert bar_rows(found["stock_bars"]) == bar_rows(market_stocks("1Day"))
    assert "NOPE" not in found["stock_bars"]


@pytest.mark.sdk
def test_the_tool_stages_exactly_the_rows_alpaca_py_gets(tmp_path, sdk_python):
    window = {"start": "2024-05-01T04:00:00+00:00", "end": "2024-06-01T03:59:59+00:00"}
    days = {"start": "2024-05-01", "end": "2024-05-31"}
    expiries = {"expiration_date_gte": "2024-01-01", "expiration_date_lte": "2024-12-31"}
    with desk(tmp_path, symbols=["AAAA", "BBBB", "CCCC"], policy=Policy(page_cap=97)) as place:
        place.fetch(symbols=["AAAA", "BBBB", "CCCC"], timeframe="1Hour", adjustment="all", processes=2, **days)
        place.fetch("option-contracts", underlyings=["AAAA"], expiry_gte="2024-01-01", expiry_lte="2024-12-31")
        place.fetch("option-bars", underlyings=["AAAA"], processes=2, **days)
        staged = {name: place.paths(f"alpaca/{name}") for name in ("stock-bars", "option-contracts", "option-bars")}
        listed = staged_contract_rows(staged["option-contracts"])
        adjusted = {"adjustment": "all", **window}
        question = {
            "stock_bars": {"symbols": ["AAAA", "BBBB", "CCCC"], "timeframe": [1, "Hour"], "feed": "sip", **adjusted},
            "option_bars": {"symbols": [row[0] for row in listed], "timeframe": [1, "Day"], **window},
            "option_contracts": {"underlying_symbols": ["AAAA"], **expiries},
        }
        found = ask_oracle(sdk_python, place.server.url, question)

    assert staged_bar_rows(staged["stock-bars"]) == bar_rows(found["stock_bars"])
    assert staged_bar_rows(staged["option-bars"]) == bar_rows(found["option_bars"])
    assert listed == contract_rows(found["option_contracts"])
    assert min(len(listed), len(found["option_bars"]), len(found["stock_bars"])) >= 3


@pytest.mark.sdk
def test_the_tool_stages_exactly_the_snapshots_alpaca_py_gets(tmp_path, sdk_python):
    bounds = {"feed": "opra", "type": "call", "strike_price_gte": 200.5, "expiration_date_lte": "2024-06-28"}
    with desk(tmp_path, symbols=["AAAA", "BRK.B"], policy=Policy(page_cap=97)) as place:
        place.fetch("option-snapshots", underlyings=["AAAA"])
        place.fetch("option-snapshots", underlyings=["BRK.B"])
        few = {"strike_gte": "200.5", "option_type": "call", "expiry_lte": "2024-06-28", "feed": "opra"}
        place.fetch("option-snapshots", underlyings=["AAAA"], **few)
        whole, other, some = place.paths()
        symbols = [row[0] for row in staged_snapshot_rows([whole])]
        chains = [
            {"underlying_symbol": "AAAA"},
            {"underlying_symbol": "BRK.B"},
            {"underlying_symbol": "AAAA", **bounds},
        ]
        url = place.server.url
        found = [snapshot_rows(ask_oracle(sdk_python, url, {"option_chain": each})["option_chain"]) for each in chains]
        named = ask_oracle(sdk_python, url, {"option_snapshots": {"symbols": symbols}})["option_snapshots"]
        log = [entry.path for entry in place.server.log]

    assert [staged_snapshot_rows([path]) for path in (whole, other, some)] == found
    assert snapshot_rows(named) == found[0]
    assert 0 < len(found[2]) < len(found[0])
    # Every column is filled somewhere and empty elsewhere, and every chain came in pages.
    columns = list(zip(*found[0], strict=True))[1:]
    assert all({value is None for value in column} == {True, False} for column in columns)
    assert log.count("/v1beta1/options/snapshots/AAAA") > 20


@pytest.mark.sdk
def test_the_tool_stages_exactly_the_chain_massives_client_gets(tmp_path, sdk_python):
    with desk(tmp_path, symbols=["AAAA"], policy=Policy(page_cap=97)) as place:
        place.fetch("massive/option-snapshots", underlyings=["AAAA"])
        place.fetch("massive/option-snapshots", underlyings=["AAAA"], strike_gte="200.5", option_type="put")
        whole, some = place.paths()
        params = {"strike_price.gte": 200.5, "contract_type": "put"}
        asked = [{"underlying": "AAAA", "params": each} for each in ({}, params)]
        found = [ask_oracle(sdk_python, place.server.url, {"massive_chain": each})["massive_chain"] for each in asked]

    assert [staged_massive_rows([path]) for path in (whole, some)] == [massive_rows(each) for each in found]
    assert 0 < len(found[1]) < len(found[0])
    columns = list(zip(*massive_rows(found[0]), strict=True))[1:-1]
    assert all({value is None for value in column} == {True, False} for column in columns)


@pytest.mark.sdk
def test_the_tool_stages_exactly_the_bars_massives_client_gets(tmp_path, sdk_python):
    days = {"start": "2024-05-01", "end": "2024-05-31"}
    bounds = {"start": stamp(date(2024, 5, 1)) * 1000, "end": stamp(date(2024, 6, 1)) * 1000 - 1}
    stocks = ["AAAA", "BRK.B", "NOPE"]
    with desk(tmp_path, symbols=stocks[:2], policy=Policy(page_cap=97)) as place:
        place.fetch("massive/stock-bars", symbols=stocks, timeframe="5Min", adjustment="split", **days)
        place.fetch("massive/option-contracts", underlyings=["AAAA"], expiry_gte="2024-01-01", expiry_lte="2024-12-31")
        place.fetch("massive/option-bars", underlyings=["AAAA"], timeframe="1Min", expiry_lte="2024-06-30", **days)
        stock_files, option_files = (place.paths(f"massive/{name}") for name in ("stock-bars", "option-bars"))
        options = sorted({symbol for entry in place.entries() for symbol in entry.chunk.symbols if len(symbol) > 15})
        place.requests()
        asked = {"tickers": stocks, "span": [5, "minute"], "adjusted": True, **bounds}
        found = ask_oracle(sdk_python, place.server.url, {"massive_bars": asked})["massive_bars"]
        pages = [entry.path.split("/")[4] for entry in place.server.log]
        asked = {"tickers": [f"O:{each}" for each in options], "span": [1, "minute"], "adjusted": False, **bounds}
        traded = ask_oracle(sdk_python, place.server.url, {"massive_bars": asked})["massive_bars"]

    assert staged_bar_rows(stock_files) == massive_bar_rows(found)
    assert staged_bar_rows(option_files) == massive_bar_rows(traded)
    assert pages.count("AAAA") > 5
    assert pages.count("NOPE") == 1
    assert min(len(found["BRK.B"]), len(massive_bar_rows(traded))) > 300


@pytest.mark.sdk
def test_the_tool_stages_exactly_the_contracts_massives_client_gets(tmp_path, sdk_python):
    with desk(tmp_path, symbols=["AAAA"], policy=Policy(page_cap=97)) as place:
        place.fetch("massive/option-contracts", underlyings=["AAAA"], expiry_gte="2024-01-01", expiry_lte="2024-12-31")
        files = place.paths()
        place.requests()
        params = {"expiration_date.gte": "2024-01-01", "expiration_date.lte": "2024-12-31"}
        question = {"massive_contracts": {"underlying": "AAAA", "params": params}}
        found = ask_oracle(sdk_python, place.server.url, question)["massive_contracts"]
        pages = place.requests()

    assert [row[:10] for row in staged_contract_rows(files)] == massive_contract_rows(found)
    assert min(map(len, found.values())) > 50
    assert pages > 8


def test_staged_rows_compare_with_the_providers(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    bars = market_stocks("1Day")
    names = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
    rows = [dict(zip(names, row[2:], strict=True)) | {"symbol": row[0], "ts": row[1]} for row in bar_rows(bars)]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(table.column_names.index("ts"), "ts", table["ts"].cast(pa.timestamp("us")))
    pq.write_table(table, tmp_path / "a.parquet")

    assert staged_bar_rows([tmp_path / "a.parquet"]) == bar_rows(bars)

"""Real prices, replayed over HTTP, fetched, loaded, and compared with their source row by row."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from desk import Desk, desk

from stagingest import sim

pytestmark = pytest.mark.realdata
NOW = datetime(2024, 6, 3, 22, 0, tzinfo=UTC)
CUT = sim.Policy(page_cap=3_333)
PRICES = "open, high, low, close, volume"


def rows(place: Desk, text: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(place.db), read_only=True) as db:
        return db.execute(text).fetchall()


def difference(place: Desk, table: str, symbol: str, stamp: str, source: str) -> list[tuple[Any, ...]]:
    """Rows on one side only: (how many only loaded, how many only in the source, rows in both)."""
    ours = f"SELECT {symbol} AS symbol, {stamp} AS stamp, {PRICES} FROM {table}"
    text = (
        f"WITH ours AS ({ours}), theirs AS ({source}) "
        "SELECT (SELECT count(*) FROM (FROM ours EXCEPT ALL FROM theirs)), "
        "(SELECT count(*) FROM (FROM theirs EXCEPT ALL FROM ours)), (SELECT count(*) FROM ours)"
    )
    return rows(place, text)


def source(path: Path, stamp: str) -> str:
    whole = "open IS NOT NULL AND high IS NOT NULL AND low IS NOT NULL AND close IS NOT NULL"
    prices = PRICES.replace("volume", "volume::BIGINT AS volume")
    return f"SELECT symbol, {stamp} AS stamp, {prices} FROM '{path}' WHERE {whole}"


def names(path: Path) -> list[str]:
    return [row[0] for row in duckdb.execute(f"SELECT DISTINCT symbol FROM '{path}' ORDER BY 1").fetchall()]


def test_505_symbols_of_the_index_come_back_row_by_row(tmp_path: Path, realdata: Path) -> None:
    path = realdata / "equity_daily" / "sp500_2013_2018.parquet"
    with desk(tmp_path, policy=CUT, now=NOW, replay=[path]) as place:
        fetched = place.fetch(symbols=names(path), start="2013-02-08", end="2018-02-07", processes=2)
        assert (fetched.exit_code, fetched.summary.symbols, fetched.summary.rows) == (0, 505, 619_029)
        assert fetched.summary.requests > 619_029 / 3_333
        assert place.load().rows == 619_029
        assert difference(place, "stock_bars", "symbol", "session_date", source(path, "date")) == [(0, 0, 619_029)]
        assert rows(place, "SELECT count(vwap), count(trade_count), count(DISTINCT session_date) FROM stock_bars") == [
            (0, 0, 1_259)
        ]
        assert place.load().rows == 0


def test_daily_and_minute_equities_come_back_row_by_row(tmp_path: Path, realdata: Path) -> None:
    daily = realdata / "equity_daily" / "lean_1998_2021.parquet"
    minute = realdata / "equity_minute" / "lean_trade.parquet"
    with desk(tmp_path, policy=CUT, now=NOW, replay=[daily, minute]) as place:
        place.fetch(symbols=names(daily), start="1998-01-02", end="2021-03-31")
        place.fetch(symbols=names(minute), timeframe="1Min", start="2008-01-01", end="2023-12-31")
        place.load()
        found = difference(
            place, "(FROM stock_bars WHERE \"interval\" = '1d')", "symbol", "session_date", source(daily, "date")
        )
        assert found == [(0, 0, 70_025)]
        minutes = "(FROM stock_bars WHERE \"interval\" = '1min')"
        found = difference(place, minutes, "symbol", "ts", source(minute, "\"timestamp\" AT TIME ZONE 'UTC'"))
        assert found == [(0, 0, 21_258)]


def test_contracts_and_their_bars_come_back_row_by_row(tmp_path: Path, realdata: Path) -> None:
    listed = realdata / "option_contracts" / "lean_contracts.parquet"
    daily = realdata / "option_bars_daily" / "lean_trade.parquet"
    minute = realdata / "option_bars_minute" / "lean_trade.parquet"
    with desk(tmp_path, policy=CUT, now=NOW, replay=[listed, daily, minute]) as place:
        parents = [row[0] for row in duckdb.execute(f"SELECT DISTINCT underlying FROM '{listed}'").fetchall()]
        place.fetch("option-contracts", underlyings=parents, expiry_gte="2012-01-01", expiry_lte="2026-12-31")
        for timeframe, path, day in (("1Day", daily, "date"), ("1Min", minute, '"timestamp"::DATE')):
            spans = f"SELECT underlying, min({day})::TEXT, max({day})::TEXT FROM '{path}' GROUP BY 1"
            for parent, start, end in duckdb.execute(spans).fetchall():
                place.fetch("option-bars", underlyings=[parent], timeframe=timeframe, start=start, end=end)
        place.load()
        mine = "SELECT contract_symbol, underlying, expiry, option_type, strike, style FROM option_contracts"
        theirs = f"SELECT symbol, underlying, expiration::DATE, type, strike::DECIMAL(18,3), style FROM '{listed}'"
        assert rows(place, f"SELECT count(*) FROM ({mine} EXCEPT ALL {theirs})") == [(0,)]
        assert rows(place, "SELECT count(*) FROM option_contracts") == [(8_027,)]
        days = "(FROM option_bars WHERE \"interval\" = '1d')"
        minutes = "(FROM option_bars WHERE \"interval\" = '1min')"
        found = difference(place, days, "contract_symbol", "session_date", source(daily, "date"))
        assert found == [(0, 0, 3_442)]
        found = difference(place, minutes, "contract_symbol", "ts", source(minute, "\"timestamp\" AT TIME ZONE 'UTC'"))
        assert found == [(0, 0, 54_453)]

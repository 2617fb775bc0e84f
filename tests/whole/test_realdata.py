"""Real prices, replayed over HTTP, fetched, loaded, and compared with their source row by row."""

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from desk import Desk, desk

from stagingest.sim import policy

pytestmark = pytest.mark.realdata
NOW = datetime(2024, 6, 3, 22, 0, tzinfo=UTC)
CUT = policy.Policy(page_cap=3_333)
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


def test_massives_bars_of_stocks_come_back_row_by_row(tmp_path: Path, realdata: Path) -> None:
    daily = realdata / "equity_daily" / "lean_1998_2021.parquet"
    minute = realdata / "equity_minute" / "lean_trade.parquet"
    with desk(tmp_path, policy=CUT, now=NOW, replay=[daily, minute]) as place:
        place.fetch("massive/stock-bars", symbols=names(daily), start="1998-01-02", end="2021-03-31")
        asked = {"start": "2008-01-01", "end": "2023-12-31"}
        fetched = place.fetch("massive/stock-bars", symbols=names(minute), timeframe="1Min", **asked)
        assert fetched.summary.requests > 21_258 / 3_333
        place.load()
        days = "(FROM stock_bars WHERE \"interval\" = '1d' AND provider = 'massive')"
        assert difference(place, days, "symbol", "session_date", source(daily, "date")) == [(0, 0, 70_025)]
        minutes = "(FROM stock_bars WHERE \"interval\" = '1min' AND provider = 'massive')"
        found = difference(place, minutes, "symbol", "ts", source(minute, "\"timestamp\" AT TIME ZONE 'UTC'"))
        assert found == [(0, 0, 21_258)]


def test_massives_contracts_and_their_bars_come_back_row_by_row(tmp_path: Path, realdata: Path) -> None:
    listed = realdata / "option_contracts" / "lean_contracts.parquet"
    daily = realdata / "option_bars_daily" / "lean_trade.parquet"
    minute = realdata / "option_bars_minute" / "lean_trade.parquet"
    with desk(tmp_path, policy=CUT, now=NOW, replay=[listed, daily, minute]) as place:
        parents = [row[0] for row in duckdb.execute(f"SELECT DISTINCT underlying FROM '{listed}'").fetchall()]
        place.fetch("massive/option-contracts", underlyings=parents, expiry_gte="2012-01-01", expiry_lte="2026-12-31")
        few = names(daily)[::6]  # each is a request of its own
        for timeframe, symbols in (("1Day", few), ("1Min", names(minute))):
            place.fetch("massive/option-bars", symbols=symbols, timeframe=timeframe, start="2012-01-01")
        place.load()
        mine = "SELECT contract_symbol, underlying, expiry, option_type, strike, style FROM option_contracts"
        theirs = f"SELECT symbol, underlying, expiration::DATE, type, strike::DECIMAL(18,3), style FROM '{listed}'"
        assert rows(place, f"SELECT count(*) FROM ({mine} EXCEPT ALL {theirs})") == [(0,)]
        assert rows(place, "SELECT count(*), any_value(provider) FROM option_contracts") == [(8_027, "massive")]
        days = "(FROM option_bars WHERE \"interval\" = '1d')"
        minutes = "(FROM option_bars WHERE \"interval\" = '1min')"
        theirs = f"{source(daily, 'date')} AND symbol IN {tuple(few)}"
        assert difference(place, days, "contract_symbol", "session_date", theirs) == [(0, 0, 529)]
        found = difference(place, minutes, "contract_symbol", "ts", source(minute, "\"timestamp\" AT TIME ZONE 'UTC'"))
        assert found == [(0, 0, 54_453)]


GREEKS = ("delta", "gamma", "theta", "vega", "rho")
DAY = ("open", "high", "low", "close", "volume")


def chains(realdata: Path) -> tuple[Path, dict[date, list[str]]]:
    """The file of end-of-day chains, and the underlyings it has of each day."""
    path = realdata / "option_chain_eod" / "lean_universe.parquet"
    text = f"SELECT snapshot_date, list(DISTINCT underlying) FROM '{path}' GROUP BY 1 ORDER BY 1"
    return path, dict(duckdb.execute(text).fetchall())


def captured(place: Desk, endpoint: str, days: dict[date, list[str]]) -> None:
    """Capture each day's chains an hour after its close, then load."""
    for day, parents in days.items():
        place.now = datetime.combine(day, time(22), UTC)
        fetched = place.fetch(endpoint, underlyings=parents)
        assert (fetched.exit_code, fetched.summary.symbols_had) == (0, len(parents))
    assert place.load().rows == 59_318


@pytest.mark.parametrize(
    ("provider", "greeks", "more"),
    [("alpaca", GREEKS, ()), ("massive", GREEKS[:-1], ("open_interest",))],
)
def test_59318_rows_of_end_of_day_chains_come_back_row_by_row(
    tmp_path: Path, realdata: Path, provider: str, greeks: tuple[str, ...], more: tuple[str, ...]
) -> None:
    path, days = chains(realdata)
    prices = realdata / "option_chain_eod" / "lean_universe_underlying.parquet"
    with desk(tmp_path, policy=policy.Policy(page_cap=111), now=NOW, replay=[path, prices]) as place:
        captured(place, f"{provider}/option-snapshots", days)
        known = [f"if(isfinite({name}), {name}, NULL)" for name in ("implied_volatility", *greeks)]
        mine = ", ".join([*known, *more, *(f"day_{name}" for name in DAY)])
        mine = f"SELECT contract_symbol, underlying, snapshot_ts::DATE, {mine} FROM option_snapshots"
        theirs = ", ".join([*known, *more, *DAY])
        theirs = f"SELECT symbol, underlying, snapshot_date, {theirs} FROM '{path}'"
        assert rows(place, f"SELECT count(*) FROM (({mine}) INTERSECT ALL ({theirs}))") == [(59_318,)]
        assert rows(place, f"SELECT count(*) FROM (({mine}) EXCEPT ALL ({theirs}))") == [(0,)]
        counts = "count(*), count(DISTINCT (underlying, snapshot_ts)), count(bid), count(quote_ts)"
        assert rows(place, f"SELECT {counts} FROM option_snapshots") == [(59_318, 57, 0, 0)]
        absent = "rho" if provider == "massive" else "open_interest"
        assert rows(place, f"SELECT count({absent}) FROM option_snapshots") == [(0,)]
        spots = "SELECT DISTINCT underlying, snapshot_ts::DATE, underlying_price FROM option_snapshots"
        closes = f"SELECT symbol, date, close FROM '{prices}'"
        priced = rows(place, f"SELECT count(*) FROM ({spots} INTERSECT {closes})")
        assert priced == [(55 if provider == "massive" else 0,)]


def test_open_interest_comes_back_day_by_day(tmp_path: Path, realdata: Path) -> None:
    listed = realdata / "option_contracts" / "lean_contracts.parquet"
    counted = realdata / "option_open_interest" / "lean_daily.parquet"
    text = f"SELECT date, list(DISTINCT underlying) FROM '{counted}' GROUP BY 1 ORDER BY 1"
    days = dict(duckdb.execute(text).fetchall())
    with desk(tmp_path, policy=CUT, now=NOW, replay=[listed, counted]) as place:
        for day, parents in days.items():
            place.now = datetime.combine(day, time(22), UTC)
            place.fetch("option-contracts", underlyings=parents, expiry_gte="2014-01-01", expiry_lte="2018-12-31")
        place.load()
        mine = "SELECT contract_symbol, open_interest_date, open_interest FROM option_contract_snapshots"
        mine += " WHERE open_interest IS NOT NULL"
        theirs = f"SELECT symbol, date, open_interest FROM '{counted}'"
        assert rows(place, f"SELECT count(*) FROM ({theirs})") == [(9_000,)]
        assert rows(place, f"SELECT count(*) FROM ({theirs} EXCEPT {mine})") == [(0,)]
        assert rows(place, f"SELECT count(*) FROM ({mine} EXCEPT {theirs})") == [(0,)]

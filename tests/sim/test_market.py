"""The generated and the replayed market: deterministic, consistent between timeframes, cut at the clock."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stagingest.errors import UsageError
from stagingest.model import calendar
from stagingest.sim.market.bars import Spec, Timeframe
from stagingest.sim.market.calendar import Moment, stamp
from stagingest.sim.market.generated import Generated, names
from stagingest.sim.market.market import market_from
from stagingest.sim.market.replay import Replay

NOON = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # a Monday, in New York
EVENING = datetime(2026, 11, 23, 23, 0, tzinfo=UTC)
FAR = 2**40


def rows(market, symbol, timeframe="1Day", *, now=EVENING, first=0, last=FAR, descending=False, **spec):
    """Every bar of a symbol as the dicts of its JSON."""
    parsed = Timeframe.parse(timeframe)
    assert parsed
    found = []
    spec = Spec(parsed, **spec)
    for run in market.stock_bars(symbol, spec, first, last, Moment.at(now), descending=descending):
        i, j = run.span(first, last)
        if i < j:
            found += orjson.loads(b"[" + run.cut(i, j, descending=descending) + b"]")
    return found


def option_rows(market, symbol, timeframe="1Day", now=EVENING):
    parsed = Timeframe.parse(timeframe)
    assert parsed
    run = market.option_bars(symbol, parsed, Moment.at(now))
    return orjson.loads(b"[" + run.cut(0, len(run.stamps)) + b"]") if run else []


def summed(bars):
    return {
        "o": bars[0]["o"],
        "h": max(bar["h"] for bar in bars),
        "l": min(bar["l"] for bar in bars),
        "c": bars[-1]["c"],
        "v": sum(bar["v"] for bar in bars),
        "n": sum(bar["n"] for bar in bars),
    }


def prices(bar):
    return {name: bar[name] for name in ("o", "h", "l", "c", "v", "n")}


@pytest.fixture(scope="module")
def market():
    return Generated(names(12), seed=3)


@pytest.fixture(scope="module")
def old(market):
    """A symbol listed before the market's history begins."""
    return next(symbol for symbol in market.symbols if market.listed(symbol) == date(2016, 1, 4))


def test_names_are_different_letters_and_the_same_in_every_run():
    found = names(5000)

    assert len(set(found)) == 5000
    assert all(name.isalpha() and name.isupper() for name in found)
    assert names(10) == found[:10]
    with pytest.raises(UsageError, match="at most"):
        names(10**9)


def test_equal_seeds_give_equal_prices_and_another_seed_other_prices(market, old):
    assert rows(Generated(names(12), seed=3), old) == rows(market, old)
    assert rows(Generated(names(12), seed=4), old) != rows(market, old)


def test_daily_bars_are_the_sessions_stamped_midnight_new_york(market, old):
    stamps = [bar["t"] for bar in rows(market, old)]

    days = calendar.between(date(2016, 1, 4), date(2026, 11, 24))
    assert stamps == [f"{calendar.instant(day):%Y-%m-%dT%H:%M:%SZ}" for day in days]


def test_a_symbol_has_no_bars_before_its_listing(market):
    late = next(symbol for symbol in market.symbols if market.listed(symbol) > date(2016, 1, 4))

    first = rows(market, late)[0]["t"]

    assert first.startswith(market.listed(late).isoformat())
    assert rows(market, late, "1Min", last=stamp(market.listed(late))) == []


@pytest.mark.parametrize("timeframe", ["1Day", "1Week", "1Month", "1Hour", "7Min"])
def test_no_bar_has_a_price_outside_its_range(market, old, timeframe):
    for bar in rows(market, old, timeframe, first=stamp(date(2026, 6, 1))):
        assert 0 < bar["l"] <= min(bar["o"], bar["c"]) <= max(bar["o"], bar["c"]) <= bar["h"]
        assert bar["l"] - 0.01 <= bar["vw"] <= bar["h"] + 0.01
        assert bar["v"] > 0


def test_minutes_add_up_to_the_day_and_early_closes_are_short(market, old):
    for day, minutes in ((date(2025, 11, 26), 390), (date(2025, 11, 28), 210)):
        first = stamp(day)
        found = rows(market, old, "1Min", first=first, last=first + 86_399)
        (whole,) = rows(market, old, first=first, last=first)

        assert len(found) == minutes
        assert summed(found) == prices(whole)


def test_hours_lie_on_the_utc_grid_and_add_up_to_the_day(market, old):
    first = stamp(date(2025, 7, 1))

    hours = rows(market, old, "1Hour", first=first, last=first + 86_399)

    assert [bar["t"][11:] for bar in hours] == [f"{hour}:00:00Z" for hour in range(13, 20)]
    assert summed(hours) == prices(rows(market, old, first=first, last=first)[0])


def test_weeks_and_months_are_stamped_at_their_start_and_add_up(market, old):
    week = rows(market, old, "1Week", first=stamp(date(2025, 9, 1)), last=stamp(date(2025, 9, 1)))
    quarter = rows(market, old, "3Month", first=stamp(date(2025, 2, 1)), last=stamp(date(2025, 4, 1)))

    assert week[0]["t"] == "2025-09-01T04:00:00Z"  # Labor Day: no session, still the week's stamp
    days = rows(market, old, first=stamp(date(2025, 9, 1)), last=stamp(date(2025, 9, 5)))
    assert len(days) == 4
    assert prices(week[0]) == summed(days)
    assert [bar["t"] for bar in quarter] == ["2025-04-01T04:00:00Z"]
    assert prices(quarter[0]) == summed(rows(market, old, first=stamp(date(2025, 4, 1)), last=stamp(date(2025, 6, 30))))


def test_todays_bar_holds_what_has_happened_so_far(market, old):
    today = stamp(date(2026, 11, 23))
    minutes = rows(market, old, "1Min", now=NOON, first=today)
    (so_far,) = rows(market, old, now=NOON, first=today)
    (whole,) = rows(market, old, first=today)

    assert minutes[-1]["t"] == "2026-11-23T16:59:00Z"
    assert prices(so_far) == summed(minutes)
    assert so_far["v"] < whole["v"]
    assert rows(market, old, now=NOON - timedelta(hours=3), first=today) == []
    (week,) = rows(market, old, "1Week", now=NOON, first=today)
    assert prices(week) == prices(so_far)


def test_history_does_not_change_as_time_goes_on(market, old):
    earlier = rows(market, old, now=datetime(2025, 3, 7, 22, tzinfo=UTC))

    assert rows(market, old)[: len(earlier)] == earlier


def test_descending_runs_are_the_same_bars_backwards(market, old):
    for timeframe in ("1Day", "1Hour"):
        bounds = {"first": stamp(date(2026, 9, 1)), "last": stamp(date(2026, 11, 20))}
        assert rows(market, old, timeframe, descending=True, **bounds) == rows(market, old, timeframe, **bounds)[::-1]


def test_a_smaller_feed_sees_less_and_other_prices(market, old):
    day = {"first": stamp(date(2026, 11, 20)), "last": stamp(date(2026, 11, 20)) + 86_399}
    (all_of_it,), (part,) = rows(market, old, **day), rows(market, old, feed="iex", **day)

    assert part["v"] < all_of_it["v"] / 20
    assert part["c"] != all_of_it["c"]
    assert len(rows(market, old, "1Min", feed="iex", **day)) < 390


def test_a_split_between_two_asks_moves_the_adjusted_base_and_not_the_raw_one():
    market = Generated(["ABC"], splits={"ABC": [(date(2026, 11, 20), 4)]})
    split = frozenset({"split"})
    before, after = datetime(2026, 11, 19, 23, tzinfo=UTC), datetime(2026, 11, 20, 23, tzinfo=UTC)
    day = stamp(date(2026, 11, 18))

    (raw,), (raw_after,) = (rows(market, "ABC", now=now, first=day, last=day) for now in (before, after))
    (adjusted,) = rows(market, "ABC", now=before, first=day, last=day, adjustment=split)
    (moved,) = rows(market, "ABC", now=after, first=day, last=day, adjustment=split)
    across = rows(market, "ABC", now=after, first=stamp(date(2026, 11, 19)))

    assert raw == raw_after
    assert prices(adjusted) == prices(raw)
    assert moved["c"] == pytest.approx(raw["c"] / 4, abs=1e-4)
    assert moved["v"] == pytest.approx(raw["v"] * 4, rel=1e-6)
    assert across[1]["c"] < across[0]["c"] / 3


def test_every_kind_of_adjustment_changes_some_symbol():
    market = Generated(names(40))
    for kind in ("split", "dividend", "spin-off"):
        early = {"first": stamp(date(2016, 1, 4)), "last": stamp(date(2016, 1, 8))}
        changed = [
            symbol
            for symbol in market.symbols
            if rows(market, symbol, adjustment=frozenset({kind}), **early) != rows(market, symbol, **early)
        ]
        assert 0 < len(changed) < 40, kind


def test_another_currency_scales_the_prices(market, old):
    day = {"first": stamp(date(2026, 11, 20)), "last": stamp(date(2026, 11, 20))}
    (dollars,), (euros,) = rows(market, old, **day), rows(market, old, currency="EUR", **day)

    assert euros["v"] == dollars["v"]
    assert euros["c"] / dollars["c"] == pytest.approx(euros["o"] / dollars["o"], rel=1e-4)
    assert euros["c"] != dollars["c"]


def test_chains_hold_both_sides_weekly_and_monthly_active_and_expired(market, old):
    chain = market.contracts(old, date(2026, 11, 23))

    assert [one.symbol for one in chain] == sorted({one.symbol for one in chain})
    assert {one.type for one in chain} == {"call", "put"}
    active = {one.expiry for one in chain if one.active(date(2026, 11, 23))}
    assert date(2026, 11, 27) in active
    assert date(2027, 10, 15) in active
    assert date(2025, 4, 17) in {one.expiry for one in chain}  # the Friday was Good Friday
    assert all(calendar.is_session(one.expiry) for one in chain)
    assert market.contract(chain[0].symbol, date(2026, 11, 23)) == chain[0]
    assert market.contract(f"{old}261127C99999000", date(2026, 11, 23)) is None


def test_contracts_appear_when_they_are_listed(market, old):
    today, later = date(2026, 11, 23), date(2026, 12, 23)

    new = {one.symbol for one in market.contracts(old, later)} - {one.symbol for one in market.contracts(old, today)}

    assert new
    assert all(market.contract(symbol, today) is None for symbol in new)


def test_option_bars_are_sparse_and_end_with_the_contract(market, old):
    chain = [one for one in market.contracts(old, date(2026, 11, 23)) if one.expiry == date(2026, 9, 18)]
    found = {one.symbol: option_rows(market, one.symbol) for one in chain}

    counts = [len(bars) for bars in found.values()]
    assert 0 < sum(counts) < 200 * len(chain)
    assert max(bar["t"] for bars in found.values() for bar in bars)[:10] <= "2026-09-18"
    assert option_rows(market, f"{old}260918C99999000") == []


def test_a_contract_listed_before_the_open_has_no_bars_yet(market, old):
    listing_day = datetime(2026, 11, 27, 6, 0, tzinfo=UTC)
    chain = [one for one in market.contracts(old, date(2026, 11, 27)) if one.expiry == date(2027, 1, 22)]

    assert chain
    assert all(option_rows(market, one.symbol, name, listing_day) == [] for one in chain for name in ("1Day", "1Min"))


def test_option_minutes_add_up_to_their_days(market, old):
    chain = [one for one in market.contracts(old, date(2026, 11, 23)) if one.expiry == date(2026, 12, 18)]
    for one in chain[20:30]:
        days = {bar["t"][:10]: prices(bar) for bar in option_rows(market, one.symbol, now=NOON)}
        minutes = option_rows(market, one.symbol, "1Min", now=NOON)
        sums = {day: summed([bar for bar in minutes if bar["t"][:10] == day]) for day in days}
        keep = ("o", "h", "l", "c", "v")
        assert days
        assert [[day[name] for name in keep] for day in days.values()] == [
            [day[name] for name in keep] for day in sums.values()
        ]


# --- replay


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)


def daily(symbols, days, close, **columns):
    return {"symbol": symbols, "date": days, "open": close, "high": close, "low": close, "close": close, **columns}


def test_the_first_named_file_wins_and_incomplete_bars_are_not_served(tmp_path):
    monday, tuesday = date(2020, 3, 2), date(2020, 3, 3)
    write(tmp_path / "b.parquet", daily(["XX", "XX"], [monday, tuesday], [1.5, None], volume=[5, 6]))
    write(tmp_path / "a.parquet", daily(["XX", "YY"], [monday, tuesday], [9.0, 2.0], volume=[7, 8]))
    market = Replay([tmp_path / "b.parquet", tmp_path / "a.parquet"])

    assert rows(market, "XX") == [{"c": 1.5, "h": 1.5, "l": 1.5, "o": 1.5, "t": "2020-03-02T05:00:00Z", "v": 5}]
    assert [bar["v"] for bar in rows(market, "YY")] == [8]
    assert rows(market, "XX", "1Hour") == []
    assert market.symbols == ("XX", "YY")


def test_a_directory_serves_every_known_shape_and_names_the_others(tmp_path):
    moment = [datetime(2014, 6, 6, 13, 31, tzinfo=UTC)]
    price = {name: [2.5] for name in ("open", "high", "low", "close")}
    write(tmp_path / "minute" / "m.parquet", {"symbol": ["AA"], "timestamp": moment, **price, "volume": [1]})
    hour = [datetime(2014, 6, 6, 13, tzinfo=UTC)]
    write(tmp_path / "h.parquet", {"symbol": ["AA"], "timestamp": hour, **price, "volume": [1], "vwap": [2.25]})
    occ = "AA140606C00002500"
    write(tmp_path / "o.parquet", {"symbol": [occ], "timestamp": moment, **price, "volume": [1]})
    contract = {"symbol": [occ], "underlying": ["AA"], "expiration": [date(2014, 6, 6)], "type": ["call"]}
    write(tmp_path / "c.parquet", {**contract, "strike": [2.5], "style": ["american"]})
    write(tmp_path / "odd.parquet", {"symbol": ["AA"], "price": [1.0]})
    market = market_from(replay=[tmp_path])

    assert [Path(name).name for name in market.skipped] == ["odd.parquet"]
    assert [bar["t"] for bar in rows(market, "AA", "1Min")] == ["2014-06-06T13:31:00Z"]
    assert rows(market, "AA", "1Hour")[0]["vw"] == 2.25
    assert [bar["t"] for bar in option_rows(market, occ, "1Min")] == ["2014-06-06T13:31:00Z"]
    (found,) = market.contracts("AA", date(2026, 1, 1))
    row = found.row(date(2026, 1, 1))
    assert (row["strike_price"], row["multiplier"], row["size"], row["open_interest"]) == ("2.5", "100", "100", None)


def test_replayed_bars_end_at_the_clock(tmp_path):
    days = [date(2020, 3, 2), date(2020, 3, 3)]
    write(tmp_path / "a.parquet", daily(["XX", "XX"], days, [1.0, 2.0], volume=[5, 6]))
    market = Replay([tmp_path])

    assert len(rows(market, "XX", now=datetime(2020, 3, 3, 20, 59, tzinfo=UTC))) == 1
    assert len(rows(market, "XX", now=datetime(2020, 3, 3, 21, 1, tzinfo=UTC))) == 2


def test_nothing_to_replay_is_said(tmp_path):
    with pytest.raises(UsageError, match="nothing to replay"):
        Replay([tmp_path / "none"])
    with pytest.raises(UsageError, match="known shape"):
        Replay([tmp_path])


@pytest.mark.realdata
def test_real_daily_prices_are_served_as_recorded(realdata):
    source = realdata / "equity_daily" / "sp500_2013_2018.parquet"
    market = Replay([source])
    table = pq.read_table(source).filter(pa.compute.field("symbol").isin(["AAPL", "BRK.B", "DHR"]))
    truth = [row for row in table.to_pylist() if None not in row.values()]

    found = [
        [symbol, calendar.new_york(datetime.fromisoformat(bar["t"])).date(), *(bar[key] for key in "ohlcv")]
        for symbol in ("AAPL", "BRK.B", "DHR")
        for bar in rows(market, symbol)
    ]

    assert len(market.symbols) == 505
    assert found == [list(row.values()) for row in truth]

"""Alpaca's endpoints: what is asked, how it is cut, when an answer is final, how a contract is read."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest

from stagingest.errors import PageError, UsageError
from stagingest.model import calendar
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import DATASETS, arrow_schema
from stagingest.model.page import Page, Request
from stagingest.model.windows import Grid, Window, floor
from stagingest.providers.alpaca.endpoints import AlpacaOptionBars, AlpacaOptionContracts, AlpacaStockBars
from stagingest.providers.timeframe import BarTimeframe

STOCKS, OPTIONS, CONTRACTS = AlpacaStockBars(), AlpacaOptionBars(), AlpacaOptionContracts()
JANUARY = Window(date(2024, 1, 2), date(2024, 2, 1))


# -- series ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spellings", "interval", "wire"),
    [
        ("1Min 1T 1min 1m 1t 1minute min", "1min", "1Min"),
        ("5Min 5T 5min 5m", "5min", "5Min"),
        ("59Min", "59min", "59Min"),
        ("1Hour 1H 1h 1hour", "1h", "1Hour"),
        ("23Hour", "23h", "23Hour"),
        ("1Day 1D 1d 1day Day", "1d", "1Day"),
        ("1Week 1W 1w 1week", "1w", "1Week"),
        ("1Month 1M 1mo 1month", "1mo", "1Month"),
        ("3Month 3M 3mo", "3mo", "3Month"),
    ],
)
def test_every_spelling_of_a_timeframe_is_one_interval(spellings: str, interval: str, wire: str) -> None:
    for spelling in spellings.split():
        series = STOCKS.canonical({"timeframe": spelling})
        assert series["interval"] == interval
        assert STOCKS.first(Chunk(series, ("AAPL",), JANUARY)).param("timeframe") == wire


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("1Dya", "1Day"),
        ("2Day", "1Day"),
        ("60Min", "Min"),
        ("24Hour", "Hour"),
        ("5Month", "Month"),
        ("0Min", "Min"),
    ],
)
def test_an_unknown_timeframe_names_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        BarTimeframe.parse(text)
    assert repr(text) in caught.value.message
    assert nearest.lower() in caught.value.next_step.lower()
    suggestion = caught.value.next_step.removeprefix("The nearest is ").rstrip(".")
    assert BarTimeframe.parse(suggestion)


def test_the_canonical_series_writes_every_default_out() -> None:
    params = {"interval": "1d", "feed": "sip", "adjustment": "raw", "currency": "USD", "asof": ""}
    assert STOCKS.canonical({}) == Series.of("alpaca/stock-bars", params)
    assert STOCKS.canonical({"timeframe": "1D", "feed": "", "currency": "usd", "asof": "latest"}) == STOCKS.canonical(
        {}
    )
    assert OPTIONS.canonical({}) == Series.of("alpaca/option-bars", {"interval": "1d"})


def test_the_canonical_form_of_a_series_is_itself() -> None:
    for series in (
        STOCKS.canonical({"timeframe": "5T", "adjustment": "dividend,split", "asof": "2024-01-02"}),
        OPTIONS.canonical({"timeframe": "1Hour"}),
    ):
        endpoint = STOCKS if series.endpoint == STOCKS.name else OPTIONS
        assert endpoint.canonical(dict(series.params)) == series


@pytest.mark.parametrize(
    ("name", "given", "canonical"),
    [
        ("feed", "IEX", "iex"),
        ("feed", "delayed_sip", "sip"),
        ("adjustment", "dividend,split", "split,dividend"),
        ("adjustment", "spin-off, split", "split,spin-off"),
        ("adjustment", "split,all", "all"),
        ("adjustment", "split,split", "split"),
        ("currency", "eur", "EUR"),
        ("asof", "-", "-"),
        ("asof", " 2022-06-09 ", "2022-06-09"),
    ],
)
def test_a_parameter_has_one_canonical_value(name: str, given: str, canonical: str) -> None:
    assert STOCKS.canonical({name: given})[name] == canonical


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("feed", "spi", "The nearest is sip"),
        ("adjustment", "splits", "The nearest is split"),
        ("adjustment", "raw,split", "raw alone"),
        ("currency", "dollar", "USD"),
        ("asof", "yesterday", "YYYY-MM-DD"),
        ("asof", "2024-02-30", "YYYY-MM-DD"),
        ("strike", "5", "It has timeframe"),
    ],
)
def test_a_bad_parameter_names_a_valid_one(name: str, value: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        STOCKS.canonical({name: value})
    assert hint in caught.value.next_step


def test_option_bars_refuse_what_they_do_not_have_unless_it_asks_for_nothing() -> None:
    assert OPTIONS.canonical({"feed": "sip", "adjustment": "raw", "currency": "USD", "asof": ""}) == OPTIONS.canonical(
        {}
    )
    for name, value in (("feed", "iex"), ("adjustment", "split"), ("currency", "EUR"), ("asof", "2024-01-02")):
        with pytest.raises(UsageError, match=f"has no {name}"):
            OPTIONS.canonical({name: value})


@pytest.mark.parametrize("endpoint", [STOCKS, OPTIONS, CONTRACTS])
def test_every_parameter_that_changes_a_row_is_a_staged_column_or_a_filter(
    endpoint: AlpacaStockBars | AlpacaOptionBars | AlpacaOptionContracts,
) -> None:
    series = endpoint.canonical(
        {"expiry_gte": "2024-01-01", "expiry_lte": "2024-12-31"} if endpoint is CONTRACTS else {}
    )
    columns = {column.name for column in DATASETS[endpoint.dataset].columns}
    assert endpoint.constants(series).keys() <= columns
    assert {name for name, _ in series.params} - columns <= {"expiry_gte", "expiry_lte"}


def test_constants_hold_the_whole_series() -> None:
    assert STOCKS.constants(STOCKS.canonical({})) == {
        "interval": "1d", "provider": "alpaca", "feed": "sip", "adjustment": "raw", "currency": "USD", "asof": ""
    }  # fmt: skip
    assert OPTIONS.constants(OPTIONS.canonical({})) == {"interval": "1d", "provider": "alpaca"}


# -- symbols ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        (" aapl ", "AAPL"),
        ("BRK/B", "BRK.B"),
        ("brk-b", "BRK.B"),
        ("BRK.B", "BRK.B"),
        ("ABR-PD", "ABR-PD"),
        ("CSP1", None),
        ("TAOP:NASDAQ", None),
        ("", None),
        ("A.B.C", None),
        ("AAPL,MSFT", None),
    ],
)
def test_a_stock_is_spelled_as_the_provider_does_or_refused(text: str, symbol: str | None) -> None:
    assert STOCKS.symbol(text) == symbol
    assert CONTRACTS.symbol(text) == symbol


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("O:AAPL240426C00162500", "AAPL240426C00162500"),
        (" spxw240426p05000000", "SPXW240426P05000000"),
        ("XOM2241220P00280000", "XOM2241220P00280000"),
        ("AAPL", None),
        ("AAPL240431C00162500", None),
    ],
)
def test_a_contract_is_a_bare_occ_symbol_or_refused(text: str, symbol: str | None) -> None:
    assert OPTIONS.symbol(text) == symbol


# -- cutting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeframe", ["1Min", "2Min", "7Min", "30Min", "59Min", "1Hour", "5Hour", "23Hour", "1Day"])
def test_a_planned_chunk_holds_at_most_twice_its_rows_when_everything_trades(timeframe: str) -> None:
    for endpoint, minutes in ((STOCKS, 960), (OPTIONS, 405)):
        parsed = BarTimeframe.parse(timeframe)
        cut = endpoint.cut(endpoint.canonical({"timeframe": timeframe}))
        most = -(-minutes // (parsed.length.total_seconds() // 60)) + (minutes != 960) if parsed.intraday else 1
        assert cut.target_rows / cut.rows_per_session * most <= 100_000


def test_cuts_follow_the_timeframe() -> None:
    day = STOCKS.cut(STOCKS.canonical({}))
    assert (day.grid, day.symbol_cap, day.rows_per_session) == (Grid(), 200, 1.0)
    assert STOCKS.cut(STOCKS.canonical({"timeframe": "1Week"})).grid == Grid("week")
    assert STOCKS.cut(STOCKS.canonical({"timeframe": "6Month"})).grid == Grid("month", 6)
    assert OPTIONS.cut(OPTIONS.canonical({})).symbol_cap == 100


def test_more_years_of_expiries_make_fewer_underlyings_a_request() -> None:
    one, four = (
        CONTRACTS.cut(CONTRACTS.canonical({"expiry_gte": "2024-01-01", "expiry_lte": f"{year}-12-31"}))
        for year in (2024, 2027)
    )
    assert one.symbol_cap == 10
    assert 3 <= one.target_rows / one.rows_per_session < 4
    assert 0.9 < four.target_rows / four.rows_per_session < 1.1


# -- final -----------------------------------------------------------------------------------------------------


def new_york(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return calendar.instant(moment.date(), moment.time())


@pytest.mark.parametrize(
    ("timeframe", "asked_at", "final"),
    [
        ("1Day", "2024-07-10T20:14", "2024-07-10"),
        ("1Day", "2024-07-10T20:15", "2024-07-11"),
        ("1Day", "2024-07-11T00:00", "2024-07-11"),
        ("1Day", "2024-07-11T09:30", "2024-07-11"),
        ("1Min", "2024-07-10T20:15", "2024-07-10"),
        ("1Min", "2024-07-10T20:16", "2024-07-11"),
        ("23Hour", "2024-07-11T19:14", "2024-07-10"),
        ("23Hour", "2024-07-11T19:15", "2024-07-11"),
        # Friday evening, Saturday, Sunday, and the 4th of July
        ("1Day", "2024-07-12T21:00", "2024-07-13"),
        ("1Day", "2024-07-13T12:00", "2024-07-13"),
        ("1Day", "2024-07-14T00:00", "2024-07-14"),
        ("1Day", "2024-07-04T23:59", "2024-07-04"),
        ("1Day", "2024-07-05T00:00", "2024-07-05"),
        # the days New York's clock changes
        ("1Day", "2024-03-11T20:15", "2024-03-12"),
        ("1Day", "2024-11-04T20:14", "2024-11-04"),
        ("1Week", "2024-07-10T12:00", "2024-07-08"),
        ("1Week", "2024-07-15T00:00", "2024-07-15"),
        ("1Month", "2024-07-31T20:14", "2024-07-01"),
        ("1Month", "2024-07-31T20:15", "2024-08-01"),
        ("3Month", "2024-08-15T12:00", "2024-07-01"),
        ("12Month", "2024-08-15T12:00", "2024-01-01"),
    ],
)
def test_a_stock_bar_is_final_when_its_last_minute_is_old_enough(timeframe: str, asked_at: str, final: str) -> None:
    series = STOCKS.canonical({"timeframe": timeframe})
    found = STOCKS.final_before(series, new_york(asked_at))
    assert found == date.fromisoformat(final)
    assert found == floor(BarTimeframe.parse(timeframe).grid, found)


def test_the_overnight_feed_is_final_after_midnight_only() -> None:
    series = STOCKS.canonical({"feed": "boats", "timeframe": "1Min"})
    assert STOCKS.final_before(series, new_york("2024-07-10T23:59")) == date(2024, 7, 10)
    assert STOCKS.final_before(series, new_york("2024-07-11T00:16")) == date(2024, 7, 11)


@pytest.mark.parametrize(
    ("asked_at", "final"),
    [
        ("2024-07-10T16:29", "2024-07-10"),
        ("2024-07-10T16:30", "2024-07-11"),
        ("2024-07-03T13:29", "2024-07-03"),
        ("2024-07-03T13:30", "2024-07-04"),
    ],
)
def test_an_option_bar_is_final_half_an_hour_after_the_close(asked_at: str, final: str) -> None:
    assert OPTIONS.final_before(OPTIONS.canonical({}), new_york(asked_at)) == date.fromisoformat(final)


def test_a_listing_is_known_for_the_day_it_was_asked() -> None:
    series = CONTRACTS.canonical({"expiry_gte": "2024-01-01", "expiry_lte": "2024-12-31"})
    assert CONTRACTS.final_before(series, datetime(2024, 7, 11, 3, 59, tzinfo=UTC)) == date(2024, 7, 11)
    assert CONTRACTS.final_before(series, datetime(2024, 7, 11, 4, 0, tzinfo=UTC)) == date(2024, 7, 12)


# -- requests --------------------------------------------------------------------------------------------------


def test_a_request_for_stock_bars_says_everything_it_depends_on() -> None:
    request = STOCKS.first(Chunk(STOCKS.canonical({}), ("AAPL", "BRK.B"), Window(date(2024, 1, 2), date(2024, 7, 1))))
    assert (request.budget, request.path) == ("alpaca/data", "/v2/stocks/bars")
    assert dict(request.query) == {
        "symbols": "AAPL,BRK.B",
        "timeframe": "1Day",
        "start": "2024-01-02T05:00:00Z",
        "end": "2024-07-01T03:59:59Z",
        "limit": "10000",
        "sort": "asc",
        "feed": "sip",
        "adjustment": "raw",
        "currency": "USD",
    }


def test_asof_is_sent_when_it_is_named() -> None:
    chunk = Chunk(STOCKS.canonical({"asof": "2022-06-09"}), ("META",), JANUARY)
    assert STOCKS.first(chunk).param("asof") == "2022-06-09"


def test_option_bars_have_no_feed_and_no_adjustment() -> None:
    request = OPTIONS.first(Chunk(OPTIONS.canonical({}), ("AAPL240426C00162500",), JANUARY))
    assert request.path == "/v1beta1/options/bars"
    assert [name for name, _ in request.query] == ["symbols", "timeframe", "start", "end", "limit", "sort"]


def test_neighbouring_windows_share_no_instant() -> None:
    series = STOCKS.canonical({})
    before, after = Window(date(2024, 3, 1), date(2024, 3, 11)), Window(date(2024, 3, 11), date(2024, 4, 1))
    end = STOCKS.first(Chunk(series, ("A",), before)).param("end")
    start = STOCKS.first(Chunk(series, ("A",), after)).param("start")
    assert (end, start) == ("2024-03-11T03:59:59Z", "2024-03-11T04:00:00Z")


@pytest.mark.parametrize(
    ("not_after", "end"),
    [
        (datetime(2024, 1, 10, 14, 30, 15, 999999, tzinfo=UTC), "2024-01-10T14:30:15Z"),
        (datetime(2030, 1, 1, tzinfo=UTC), "2024-02-01T04:59:59Z"),
        (datetime(2020, 1, 1, tzinfo=UTC), "2024-01-02T05:00:00Z"),
    ],
)
def test_an_order_asks_no_later_than_it_may(not_after: datetime, end: str) -> None:
    assert STOCKS.first(Chunk(STOCKS.canonical({}), ("A",), JANUARY), not_after).param("end") == end


# -- contracts -------------------------------------------------------------------------------------------------

LISTING = CONTRACTS.canonical({"status": "Active", "expiry_gte": "2025-01-01", "expiry_lte": "2025-12-31"})
LISTED = Chunk(LISTING, ("AA", "SPX"), Window(date(2025, 11, 10), date(2025, 11, 11)))
CONTRACT = {
    "id": "f8df3699-b0a4-4666-9bd9-ebf129dcdab3",
    "symbol": "AA251114C00024000",
    "name": "AA Nov 14 2025 24 Call",
    "status": "active",
    "tradable": True,
    "expiration_date": "2025-11-14",
    "root_symbol": "AA",
    "underlying_symbol": "AA",
    "type": "call",
    "style": "american",
    "strike_price": "24",
    "multiplier": "100",
    "size": "100",
    "open_interest": "0",
    "open_interest_date": "2025-11-07",
    "close_price": "13.65",
    "close_price_date": "2025-11-07",
}


def contract(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (CONTRACT | changes).items() if value is not ...}


def listing(*contracts: Any, **rest: Any) -> Page:
    body = orjson.dumps({"option_contracts": list(contracts)} | rest)
    return CONTRACTS.read(LISTED, CONTRACTS.first(LISTED), body)


def only(page: Page) -> dict[str, Any]:
    assert page.table is not None
    (row,) = page.table.to_pylist()
    assert isinstance(row, dict)
    return row


def test_a_listing_is_asked_with_both_bounds_of_the_expiry_on_the_trading_host() -> None:
    assert CONTRACTS.first(LISTED) == Request(
        "alpaca/trading",
        "/v2/options/contracts",
        (
            ("underlying_symbols", "AA,SPX"),
            ("status", "active"),
            ("expiration_date_gte", "2025-11-09"),
            ("expiration_date_lte", "2025-12-31"),
            ("show_deliverables", "true"),
            ("limit", "10000"),
        ),
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "expiry_gte '' is no day"),
        ({"expiry_gte": "2025-01-01"}, "expiry_lte '' is no day"),
        ({"expiry_gte": "2025-02-30", "expiry_lte": "2025-12-31"}, "expiry_gte '2025-02-30' is no day"),
        ({"expiry_gte": "2025-12-31", "expiry_lte": "2025-01-01"}, "is after"),
        ({"status": "actve", "expiry_gte": "2025-01-01", "expiry_lte": "2025-12-31"}, "The nearest is active"),
    ],
)
def test_a_listing_without_bounds_or_with_bad_ones_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        CONTRACTS.canonical(options)


def test_a_contract_becomes_a_row_of_the_dataset() -> None:
    deliverables = [{"type": "equity", "symbol": "AA", "amount": "100"}]
    page = listing(contract(deliverables=deliverables))
    assert page.table is not None
    staged = arrow_schema(DATASETS["option-contracts"])
    added = ("provider", "as_of_date", "updated_at")
    assert page.table.schema == pa.schema([field for field in staged if field.name not in added])
    row = only(page)
    assert orjson.loads(row.pop("raw_json")) == contract(deliverables=deliverables)
    assert orjson.loads(row.pop("deliverables")) == deliverables
    assert row == {
        "contract_symbol": "AA251114C00024000",
        "underlying": "AA",
        "root_symbol": "AA",
        "expiry": date(2025, 11, 14),
        "option_type": "call",
        "strike": Decimal("24.000"),
        "multiplier": 100.0,
        "size": 100.0,
        "style": "american",
        "status": "active",
        "open_interest": 0,
        "open_interest_date": date(2025, 11, 7),
        "close_price": 13.65,
        "close_price_date": date(2025, 11, 7),
    }


def test_what_a_listing_does_not_say_is_null() -> None:
    unsaid = ("multiplier", "size", "open_interest", "open_interest_date", "close_price", "close_price_date", "style")
    for nothing in (None, ...):
        row = only(listing(contract(**dict.fromkeys(unsaid, nothing))))
        assert [row[name] for name in (*unsaid, "deliverables")] == [None] * 8


def test_a_missing_root_is_read_from_the_symbol() -> None:
    row = only(listing(contract(symbol="SPXW251114C05000000", underlying_symbol="SPX", root_symbol=...)))
    assert (row["root_symbol"], row["underlying"]) == ("SPXW", "SPX")


@pytest.mark.parametrize("strike", ["24", "24.0000", "162.5", "0.125", 24, 162.5])
def test_a_strike_is_exact(strike: Any) -> None:
    assert only(listing(contract(strike_price=strike)))["strike"] == Decimal(str(strike))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strike_price": "200.000000001"}, "three decimals"),
        ({"strike_price": "1e15"}, "three decimals"),
        ({"strike_price": None}, "three decimals"),
        ({"strike_price": "NaN"}, "'strike_price' is 'NaN'"),
        ({"strike_price": True}, "'strike_price' is True"),
        ({"multiplier": "many"}, "'multiplier' is 'many'"),
        ({"close_price": "1e999999"}, "'close_price' is '1e999999'"),
        ({"open_interest": "1.5"}, "'open_interest' is '1.5'"),
        ({"open_interest": "-1"}, "'open_interest' is '-1'"),
        ({"expiration_date": "2025-13-01"}, "'expiration_date' is '2025-13-01'"),
        ({"expiration_date": ...}, "'expiration_date' is missing"),
        ({"symbol": ...}, "'symbol' is missing"),
        ({"symbol": "ODD", "root_symbol": None}, "'symbol' is 'ODD'"),
        ({"underlying_symbol": 5}, "'underlying_symbol' is 5"),
        ({"underlying_symbol": "MSFT"}, "not asked for"),
        ({"expiration_date": "2026-01-02"}, "not asked for"),
    ],
)
def test_a_contract_that_is_not_one_or_not_asked_for_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PageError) as caught:
        listing(CONTRACT, contract(**{"symbol": "AA251114P00024000"} | changes))
    assert words in str(caught.value)


def test_a_contract_listed_twice_alike_is_one_and_unlike_stays_two() -> None:
    assert listing(CONTRACT, CONTRACT).rows == 1
    assert listing(CONTRACT, contract(open_interest="7")).rows == 2


def test_an_empty_listing_is_no_rows() -> None:
    assert listing() == Page(None, None)
    for body in (b"{}", b'{"option_contracts":null}', b'{"option_contracts":[],"next_page_token":""}'):
        assert CONTRACTS.read(LISTED, CONTRACTS.first(LISTED), body) == Page(None, None)


def test_a_listing_is_paged_by_token() -> None:
    following = listing(CONTRACT, next_page_token="MTAw").next
    assert following is not None
    assert following.query == (*CONTRACTS.first(LISTED).query, ("page_token", "MTAw"))


@pytest.mark.parametrize(
    "body", [b'{"message":"forbidden."}', b'{"option_contracts":{"a":1}}', b'{"option_contracts":[1]}']
)
def test_a_body_that_is_no_listing_is_refused(body: bytes) -> None:
    with pytest.raises(PageError):
        CONTRACTS.read(LISTED, CONTRACTS.first(LISTED), body)

"""Chain pages of both providers: every member optional, nothing read for what it is not, nobody who was not asked."""

from datetime import date, datetime
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagingest.errors import PageError, UsageError
from stagingest.model.chunk import Chunk
from stagingest.model.datasets import DATASETS, arrow_schema
from stagingest.model.page import Page
from stagingest.model.windows import Window
from stagingest.providers.alpaca import chains
from stagingest.providers.alpaca.endpoints import AlpacaOptionSnapshots
from stagingest.providers.decode import chains as decode_chains
from stagingest.providers.massive import chains as massive_chains

CHAIN = AlpacaOptionSnapshots()
TODAY = Window(date(2024, 4, 22), date(2024, 4, 23))
CALL, PUT = "AAPL240426C00162500", "AAPL240426P00162500"
FULL: dict[str, Any] = {
    "greeks": {"delta": 0.7521, "gamma": 0.0624, "rho": 0.0099, "theta": -0.2848, "vega": 0.0475},
    "impliedVolatility": 0.33724,
    "latestQuote": {
        "ap": 4.3, "as": 91, "ax": "B", "bp": 4.15, "bs": 16, "bx": "C", "c": " ",
        "t": "2024-04-22T19:59:59.992734208Z",
    },
    "latestTrade": {"c": "I", "p": 4, "s": 1, "t": "2024-04-22T19:57:32.589554432Z", "x": "A"},
    "dailyBar": {"c": 4.1, "h": 4.5, "l": 3.9, "n": 7, "o": 4, "t": "2024-04-22T04:00:00Z", "v": 120, "vw": 4.12},
    "minuteBar": {"c": 4.1},
    "prevDailyBar": {"c": 3.0},
}  # fmt: skip


def chunk(**bounds: str) -> Chunk:
    return Chunk(CHAIN.canonical(bounds), ("AAPL",), TODAY)


def body(found: Any, **rest: Any) -> bytes:
    return orjson.dumps({"snapshots": found, **rest})


def read(text: bytes, **bounds: str) -> Page:
    asked = chunk(**bounds)
    return CHAIN.read(asked, CHAIN.first(asked), text)


def rows(page: Page) -> list[dict[str, Any]]:
    assert page.table is not None
    return page.table.to_pylist()


def test_a_page_becomes_columns_of_the_datasets_types() -> None:
    page = read(body({CALL: FULL}, next_page_token="QUFQ"))
    (row,) = rows(page)
    assert row == {
        "contract_symbol": CALL, "implied_volatility": 0.33724, "delta": 0.7521, "gamma": 0.0624, "theta": -0.2848,
        "vega": 0.0475, "rho": 0.0099, "bid": 4.15, "bid_size": 16, "ask": 4.3, "ask_size": 91,
        "quote_ts": datetime(2024, 4, 22, 19, 59, 59, 992734), "last_price": 4.0, "last_size": 1,
        "trade_ts": datetime(2024, 4, 22, 19, 57, 32, 589554), "day_open": 4.0, "day_high": 4.5, "day_low": 3.9,
        "day_close": 4.1, "day_volume": 120, "day_vwap": 4.12, "open_interest": None, "underlying_price": None,
    }  # fmt: skip
    assert page.next is not None
    assert page.next.param("page_token") == "QUFQ"
    assert page.next.query[:-1] == CHAIN.first(chunk()).query
    assert page.unknown == frozenset()
    assert page.table is not None
    promised = arrow_schema(DATASETS["option-snapshots"])
    assert all(page.table.schema.field(name).type == promised.field(name).type for name in page.table.column_names)
    added = {"snapshot_ts", "provider", "feed", "underlying", "updated_at"}
    assert set(promised.names) - set(page.table.column_names) == added


@pytest.mark.parametrize("nothing", [{}, None, {"greeks": {}}, {"greeks": None, "latestQuote": {}, "dailyBar": None}])
def test_what_the_provider_does_not_say_is_null_and_never_zero(nothing: Any) -> None:
    found = rows(read(body({CALL: FULL, PUT: nothing})))
    assert found[1] == {**dict.fromkeys(found[0]), "contract_symbol": PUT}


@pytest.mark.parametrize("member", [name for name in FULL if name not in ("minuteBar", "prevDailyBar")])
def test_every_member_may_be_missing_alone(member: str) -> None:
    partial = {name: value for name, value in FULL.items() if name != member}
    whole, less = rows(read(body({CALL: FULL, PUT: partial})))
    lost = {name for name in whole if less[name] is None and whole[name] is not None}
    assert {name: whole[name] for name in whole.keys() - lost - {"contract_symbol"}} == {
        name: less[name] for name in less.keys() - lost - {"contract_symbol"}
    }
    assert lost == {name for name, (part, key, _) in chains._ALPACA.items() if member in (part or key,)}


@pytest.mark.parametrize("text", [body({}), body(None), body([]), b"{}", body({}, next_page_token="")])
def test_no_snapshots_are_no_rows_and_the_end(text: bytes) -> None:
    page = read(text)
    assert (page.table, page.next) == (None, None)


def test_a_stamp_of_the_year_one_is_none() -> None:
    quote = {**FULL["latestQuote"], "t": "0001-01-01T00:00:00Z"}
    (row,) = rows(read(body({CALL: {"latestQuote": quote}})))
    assert (row["quote_ts"], row["bid"]) == (None, 4.15)


@pytest.mark.parametrize("text", ["2024-04-22T15:59:59.5-04:00", "2024-04-22T19:59:59.500000000Z"])
def test_stamps_of_any_offset_and_digits_are_utc(text: str) -> None:
    (row,) = rows(read(body({CALL: {"latestTrade": {"t": text}}})))
    assert row["trade_ts"] == datetime(2024, 4, 22, 19, 59, 59, 500000)


@pytest.mark.parametrize(
    ("member", "key", "value"),
    [
        ("greeks", "delta", "0.75"),
        ("greeks", "delta", True),
        ("latestQuote", "bp", False),
        ("latestQuote", "bs", -1),
        ("latestQuote", "t", 1713816000),
        ("latestQuote", "t", "2024-04-22"),
        ("latestQuote", "t", "2024-13-22T19:59:59Z"),
        ("dailyBar", "v", "120"),
        ("latestTrade", "s", [1]),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_and_named(member: str, key: str, value: Any) -> None:
    wrong = {**FULL, member: {**FULL[member], key: value}}
    with pytest.raises(PageError, match=rf"{PUT}.*'{member}\.{key}'"):
        read(body({CALL: FULL, PUT: wrong}))


@pytest.mark.parametrize("text", [body("x"), body([1]), body({CALL: 1}), body({CALL: {"greeks": [1]}}), b"[]", b"{"])
def test_what_is_no_chain_is_refused(text: bytes) -> None:
    with pytest.raises(PageError):
        read(text)


def test_an_error_with_status_200_is_told() -> None:
    with pytest.raises(PageError, match="agreement"):
        read(b'{"message":"OPRA agreement is not signed"}')


def test_more_rows_than_asked_are_refused() -> None:
    many = {f"AAPL240426C{strike:08d}": {} for strike in range(1_001)}
    with pytest.raises(PageError, match="1001 contracts where 1000"):
        read(body(many))


def test_a_new_field_is_named() -> None:
    assert read(body({CALL: {**FULL, "openInterest": 5}})).unknown == {"openInterest"}


@pytest.mark.parametrize(
    ("bounds", "fits"),
    [
        ({"strike_gte": "162.5"}, True),
        ({"strike_gte": "162.501"}, False),
        ({"strike_lte": "162.5"}, True),
        ({"strike_lte": "160"}, False),
        ({"option_type": "call"}, True),
        ({"option_type": "put"}, False),
        ({"expiry_gte": "2024-04-26", "expiry_lte": "2024-04-26"}, True),
        ({"expiry_gte": "2024-04-27"}, False),
        ({"expiry_lte": "2024-04-25"}, False),
    ],
)
def test_a_contract_outside_the_bounds_is_refused(bounds: dict[str, str], *, fits: bool) -> None:
    if fits:
        assert len(rows(read(body({CALL: FULL}), **bounds))) == 1
        return
    with pytest.raises(PageError, match=f"{CALL}.*was not asked for"):
        read(body({CALL: FULL}), **bounds)


def test_an_adjusted_root_belongs_to_its_parents_chain() -> None:
    adjusted = "AAPL1240426C00162500"
    assert rows(read(body({adjusted: FULL}), strike_gte="100"))[0]["contract_symbol"] == adjusted


# -- the question ----------------------------------------------------------------------------------------------


def test_bounds_are_sent_as_the_provider_names_them_and_the_feed_always() -> None:
    every = chunk(
        strike_gte="100.0", strike_lte="200", option_type="PUT", expiry_gte="2024-05-01", expiry_lte="2024-06-01"
    )
    request = CHAIN.first(every)
    assert (request.path, request.budget) == ("/v1beta1/options/snapshots/AAPL", "alpaca/data")
    assert dict(request.query) == {
        "feed": "indicative", "strike_price_gte": "100", "strike_price_lte": "200", "type": "put",
        "expiration_date_gte": "2024-05-01", "expiration_date_lte": "2024-06-01", "limit": "1000",
    }  # fmt: skip
    assert dict(CHAIN.first(chunk()).query) == {"feed": "indicative", "limit": "1000"}
    assert dict(CHAIN.first(chunk(feed="opra")).query)["feed"] == "opra"


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"feed": "sip"}, "indicative"),
        ({"option_type": "calls"}, "call"),
        ({"strike_gte": "abc"}, "162.5"),
        ({"strike_gte": "1.2345"}, "three decimals"),
        ({"strike_gte": "5", "strike_lte": "4.5"}, "The highest is 4.5"),
        ({"expiry_gte": "tomorrow"}, "YYYY-MM-DD"),
        ({"expiry_gte": "2024-02-01", "expiry_lte": "2024-01-01"}, "The latest is 2024-01-01"),
        ({"adjustment": "split"}, "feed"),
    ],
)
def test_a_wrong_bound_is_answered_with_a_right_one(bounds: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        CHAIN.canonical(bounds)
    assert said in caught.value.next_step


# -- Massive's rows --------------------------------------------------------------------------------------------

MASSIVE: dict[str, Any] = {
    "break_even_price": 151.2,
    "day": {
        "change": 4.5, "change_percent": 6.76, "close": 21, "high": 21, "last_updated": 1672434000000, "low": 21,
        "open": 21, "previous_close": 20, "volume": 67.0, "vwap": 21,
    },
    "details": {
        "contract_type": "call", "exercise_style": "american", "expiration_date": "2024-04-26",
        "shares_per_contract": 100, "strike_price": 28.57, "ticker": "O:AAPL240426C00028570",
    },
    "greeks": {"delta": 0.55, "gamma": -3.1e-10, "theta": -0.04, "vega": -8.0e-05},
    "implied_volatility": 5.87,
    "last_quote": {"ask": 21.25, "ask_size": 110, "bid": 20.9, "bid_size": 172, "last_updated": 1636573458756383500},
    "last_trade": {"conditions": [209], "price": 0.05, "sip_timestamp": 1675280958783136800, "size": 2},
    "open_interest": 8133,
    "underlying_asset": {"price": 147, "ticker": "AAPL", "timeframe": "DELAYED"},
}  # fmt: skip


def massive(*found: dict[str, Any], symbol: str = "AAPL", **bounds: str) -> list[dict[str, Any]]:
    asked = Chunk(CHAIN.canonical(bounds), (symbol,), TODAY)
    table, _ = massive_chains.massive_table(asked, list(found), orjson.dumps(found))
    return table.to_pylist() if table is not None else []


def test_a_row_of_massive_becomes_the_same_columns() -> None:
    (row,) = massive(MASSIVE)
    assert row == {
        "contract_symbol": "AAPL240426C00028570", "implied_volatility": 5.87, "delta": 0.55, "gamma": -3.1e-10,
        "theta": -0.04, "vega": -8.0e-05, "rho": None, "bid": 20.9, "bid_size": 172, "ask": 21.25, "ask_size": 110,
        "quote_ts": datetime(2021, 11, 10, 19, 44, 18, 756383), "last_price": 0.05, "last_size": 2,
        "trade_ts": datetime(2023, 2, 1, 19, 49, 18, 783136), "day_open": 21.0, "day_high": 21.0, "day_low": 21.0,
        "day_close": 21.0, "day_volume": 67, "day_vwap": 21.0, "open_interest": 8133, "underlying_price": 147.0,
    }  # fmt: skip
    assert set(row) == set(rows(read(body({CALL: FULL})))[0])


@pytest.mark.parametrize("member", [name for name in MASSIVE if name != "details"])
def test_what_a_plan_of_massive_does_not_include_is_null(member: str) -> None:
    for nothing in (..., None, {} if isinstance(MASSIVE[member], dict) else None):
        partial = {name: value for name, value in {**MASSIVE, member: nothing}.items() if value is not ...}
        whole, less = massive(MASSIVE, partial)
        changed = {name for name in whole if whole[name] != less[name]}
        assert all(less[name] is None for name in changed)
        assert changed <= {name for name, (part, key, _) in massive_chains._MASSIVE.items() if member == (part or key)}


def test_an_index_has_a_value_for_a_price() -> None:
    index = {**MASSIVE, "underlying_asset": {"value": 4000.5, "ticker": "I:SPX"}}
    assert massive(index, symbol="I:SPX")[0]["underlying_price"] == 4000.5
    assert massive(index, symbol="SPX")[0]["underlying_price"] == 4000.5


@pytest.mark.parametrize(
    ("stamp", "micros"),
    [
        (1636573458, 1636573458000000),
        (1636573458756, 1636573458756000),
        (1636573458756383, 1636573458756383),
        (1636573458756383999, 1636573458756383),
        (9007199254740993123, 9007199254740993),
        (0, None),
    ],
)
def test_an_integer_stamp_is_read_by_its_size_and_never_through_a_double(stamp: int, micros: int | None) -> None:
    trade = {**MASSIVE, "last_trade": {"sip_timestamp": stamp}}
    asked = Chunk(CHAIN.canonical({}), ("AAPL",), TODAY)
    table, _ = massive_chains.massive_table(asked, [MASSIVE, trade], b"")
    assert table is not None
    assert table.column("trade_ts").cast(pa.int64()).to_pylist()[1] == micros


@pytest.mark.parametrize("stamp", [1.7e18, -5, "1636573458756383500", True])
def test_a_stamp_that_is_no_whole_number_is_refused(stamp: Any) -> None:
    with pytest.raises(PageError, match=r"'last_trade\.sip_timestamp'"):
        massive(MASSIVE, {**MASSIVE, "last_trade": {"sip_timestamp": stamp}})


def test_the_details_say_which_contract_it_is() -> None:
    odd = {**MASSIVE, "details": {**MASSIVE["details"], "ticker": "O:AAPL1240426C000028570"}}
    assert massive(odd, strike_lte="28.57", option_type="call")[0]["contract_symbol"] == "AAPL1240426C000028570"
    with pytest.raises(PageError, match="was not asked for"):
        massive(odd, strike_lte="28.5")
    other = {**MASSIVE, "details": {**MASSIVE["details"], "contract_type": "other"}}
    assert len(massive(other)) == 1
    with pytest.raises(PageError, match="was not asked for"):
        massive(other, option_type="call")


@pytest.mark.parametrize("details", [None, {}, {"ticker": ""}, {"ticker": 5}, []])
def test_a_row_without_a_ticker_is_refused(details: Any) -> None:
    with pytest.raises(PageError, match="ticker"):
        massive({**MASSIVE, "details": details})


def test_rows_of_another_underlying_are_refused() -> None:
    with pytest.raises(PageError, match="AAPL; MSFT was asked for"):
        massive(MASSIVE, symbol="MSFT")


# -- at once and one by one ------------------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False),
    st.sampled_from(["1", "2024-04-22T19:59:59Z", "0001-01-01T00:00:00Z"]),
)  # fmt: skip
FIELDS: decode_chains.Fields = {
    "a": ("", "a", "double"), "n": ("", "n", "count"), "b": ("p", "b", "double"), "m": ("p", "m", "count"),
    "t": ("p", "t", "text"), "e": ("p", "e", "epoch"),
}  # fmt: skip
OBJECTS = st.fixed_dictionaries({}, optional=dict.fromkeys("bmte", VALUES))
ROWS = st.lists(
    st.fixed_dictionaries({}, optional={"a": VALUES, "n": VALUES, "p": st.one_of(st.none(), OBJECTS)}), min_size=1
)


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_rows_read_at_once_equal_rows_read_one_by_one(found: list[dict[str, Any]]) -> None:
    names = [str(number) for number in range(len(found))]

    def outcome(fields: decode_chains.Fields, *, by_itself: bool) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if by_itself:
                patch.setattr(decode_chains, "_at_once", lambda *_: {})
            try:
                return {
                    name: column.to_pylist()
                    for name, column in decode_chains.columns_of(names, found, orjson.dumps(found), fields).items()
                }
            except PageError as error:
                return error.message

    for name, field in FIELDS.items():
        assert outcome({name: field}, by_itself=False) == outcome({name: field}, by_itself=True)

"""Bars pages: read by name, read by proof, and both alike."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import permutations
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagingest.errors import PageError
from stagingest.fetching.worker import table
from stagingest.model.chunk import Chunk, Series
from stagingest.model.page import Page, Request
from stagingest.model.windows import Window
from stagingest.providers.alpaca import bars, fast_bars
from stagingest.providers.alpaca.endpoints import AlpacaStockBars

STOCKS = AlpacaStockBars()
SERIES = STOCKS.canonical({})
WINDOW = Window(date(2024, 1, 2), date(2024, 3, 1))
CHUNK = Chunk(SERIES, ("AAPL", "BRK.B", "TSLA"), WINDOW)
REQUEST = STOCKS.first(CHUNK)
BAR = {"t": "2024-01-02T05:00:00Z", "o": 174, "h": 174.84, "l": 172.31, "c": 174.61, "v": 85998033, "n": 9, "vw": 173.7}


def body(data: Any, **rest: Any) -> bytes:
    return orjson.dumps({"bars": data, "next_page_token": None} | rest)


def read(text: bytes, request: Request = REQUEST) -> Page:
    return STOCKS.read(CHUNK, request, text)


def rows(page: Page) -> list[dict[str, Any]]:
    assert page.table is not None
    return page.table.to_pylist()


def bar(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (BAR | changes).items() if value is not ...}


# -- by name ---------------------------------------------------------------------------------------------------


def test_a_page_becomes_columns_in_the_promised_order_and_types() -> None:
    page = read(body({"AAPL": [BAR], "TSLA": [bar(o=1.5)]}))
    assert page.table is not None
    assert page.table.schema == pa.schema(
        [
            ("symbol", pa.dictionary(pa.int32(), pa.string())),
            ("ts", pa.timestamp("us")),
            *((name, pa.float64()) for name in ("open", "high", "low", "close")),
            ("volume", pa.float64()),
            ("trade_count", pa.int64()),
            ("vwap", pa.float64()),
        ]
    )
    assert [list(row.values()) for row in rows(page)] == [
        ["AAPL", datetime(2024, 1, 2, 5), 174.0, 174.84, 172.31, 174.61, 85998033, 9, 173.7],
        ["TSLA", datetime(2024, 1, 2, 5), 1.5, 174.84, 172.31, 174.61, 85998033, 9, 173.7],
    ]


def test_a_count_or_an_average_not_given_is_null_not_zero() -> None:
    page = read(body({"AAPL": [bar(n=..., vw=...), bar(n=None, vw=None), bar(n=0, vw=0)]}))
    assert [(row["trade_count"], row["vwap"]) for row in rows(page)] == [(None, None), (None, None), (0, 0.0)]


@pytest.mark.parametrize("data", [{}, None, [], {"AAPL": []}, {"AAPL": None}])
def test_an_empty_page_has_no_rows_and_may_have_a_next_page(data: Any) -> None:
    assert read(body(data)) == Page(None, None)
    assert read(body(data, next_page_token="x")).next is not None


def test_a_body_without_bars_is_an_empty_page() -> None:
    assert read(b"{}") == Page(None, None)


@pytest.mark.parametrize("rest", [{"next_page_token": None}, {"next_page_token": ""}, {}])
def test_no_token_ends_the_pages(rest: dict[str, Any]) -> None:
    assert read(orjson.dumps({"bars": {"AAPL": [BAR]}, **rest})).next is None


def test_the_next_page_is_asked_with_everything_again_and_the_newest_token() -> None:
    second = read(body({}, next_page_token="one==")).next
    assert second == Request(REQUEST.budget, REQUEST.path, (*REQUEST.query, ("page_token", "one==")))
    assert second is not None
    third = read(body({}, next_page_token="two"), second).next
    assert third == Request(REQUEST.budget, REQUEST.path, (*REQUEST.query, ("page_token", "two")))


@pytest.mark.parametrize(
    ("stamp", "moment"),
    [
        ("2024-01-02T05:00:00.000059Z", datetime(2024, 1, 2, 5, 0, 0, 59)),
        ("2024-01-02T05:00:00.123456789Z", datetime(2024, 1, 2, 5, 0, 0, 123456)),
        ("2024-01-02T05:00:00+00:00", datetime(2024, 1, 2, 5)),
        ("2024-01-02T00:00:00-05:00", datetime(2024, 1, 2, 5)),
    ],
)
def test_fractions_and_offsets_of_stamps_are_understood(stamp: str, moment: datetime) -> None:
    assert [row["ts"] for row in rows(read(body({"AAPL": [bar(t=stamp), BAR]})))] == [moment, datetime(2024, 1, 2, 5)]


def test_a_volume_printed_as_a_float_is_taken_when_it_is_whole() -> None:
    assert rows(read(body({"AAPL": [bar(v=642646396.0)]})))[0]["volume"] == 642646396


def test_large_counts_keep_every_digit() -> None:
    counts = (2**53 + 1, 2**63 - 1)
    assert [row["trade_count"] for row in rows(read(body({"AAPL": [bar(n=count) for count in counts]})))] == list(
        counts
    )


@pytest.mark.parametrize("volume", [1.5, 0.000001, 642646396, 2**53, 2**63])
def test_a_volume_may_be_a_fraction_and_a_whole_one_stays_exact(volume: float) -> None:
    assert rows(read(body({"AAPL": [bar(v=volume)]})))[0]["volume"] == volume


def test_a_volume_that_no_double_holds_is_refused_and_not_rounded() -> None:
    with pytest.raises(PageError, match="9007199254740993 instead of a number that a double holds exactly"):
        read(body({"AAPL": [bar(v=2**53 + 1)]}))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"o": ...}, "'o' is missing"),
        ({"c": None}, "'c' is None"),
        ({"h": "174.84"}, "'h' is '174.84'"),
        ({"l": True}, "'l' is True"),
        ({"v": False}, "'v' is False"),
        ({"n": 5.5}, "'n' is 5.5"),
        ({"n": 2**63}, "'n' is 9223372036854775808"),
        ({"v": ...}, "'v' is missing"),
        ({"n": 1.25}, "'n' is 1.25"),
        ({"vw": []}, "'vw' is []"),
        ({"t": ...}, "'t' is missing"),
        ({"t": 1704171600}, "'t' is 1704171600"),
        ({"t": "2024-01-02"}, "'t' is '2024-01-02'"),
        ({"t": "2024-01-02T05:00:00"}, "'t' is '2024-01-02T05:00:00'"),
        ({"t": "2024-02-30T05:00:00Z"}, "'t' is '2024-02-30T05:00:00Z'"),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_named_with_its_symbol(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(PageError) as caught:
        read(body({"AAPL": [BAR], "TSLA": [bar(), bar(**changes)]}))
    assert "TSLA" in str(caught.value)
    assert f"field {field}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"<html>", "not JSON"),
        (b'{"bars":{"AAPL":[', "not JSON"),
        (b"[]", "a JSON list"),
        (b"null", "a JSON NoneType"),
        (b'{"message":"forbidden."}', "forbidden."),
        (b'{"code":42910000,"message":"rate limit exceeded"}', "rate limit exceeded"),
        (body([BAR]), "not lists by symbol"),
        (body("x"), "not lists by symbol"),
        (body(0), "not lists by symbol"),
        (body({"AAPL": {}}), "not lists by symbol"),
        (body({"AAPL": [None]}), "A bar of AAPL is a NoneType"),
        (body({"AAPL": [[["o", 1]]]}), "A bar of AAPL is a list"),
        (body({"AAPL": [BAR]}, next_page_token=7), "next_page_token is a int"),
    ],
)
def test_a_body_that_is_no_page_is_refused_with_the_reason(text: bytes, words: str) -> None:
    with pytest.raises(PageError, match=words):
        read(text)


# -- held to the request ---------------------------------------------------------------------------------------


def test_a_symbol_not_asked_for_is_refused_by_name() -> None:
    with pytest.raises(PageError, match="bars of MSFT"):
        read(body({"AAPL": [BAR], "MSFT": [BAR]}))


@pytest.mark.parametrize("stamp", ["2024-01-02T04:59:59Z", "2024-03-01T05:00:00Z", "0000-01-01T00:00:00Z"])
def test_a_bar_outside_the_asked_bounds_is_refused(stamp: str) -> None:
    with pytest.raises(PageError, match="outside of what was asked"):
        read(body({"AAPL": [BAR, bar(t=stamp)]}))


def test_both_bounds_belong_to_what_was_asked() -> None:
    edges = [REQUEST.param("start"), REQUEST.param("end")]
    assert edges == ["2024-01-02T05:00:00Z", "2024-03-01T04:59:59Z"]
    assert read(body({"AAPL": [bar(t=edge) for edge in edges]})).rows == 2


def test_an_order_that_ends_earlier_refuses_later_bars() -> None:
    early = STOCKS.first(CHUNK, datetime(2024, 1, 3, 12, tzinfo=UTC))
    with pytest.raises(PageError, match="2024-01-03T12:00:00Z"):
        read(body({"AAPL": [bar(t="2024-01-04T05:00:00Z")]}), early)


def test_more_rows_than_the_limit_are_refused() -> None:
    small = Request(REQUEST.budget, REQUEST.path, tuple((k, "2" if k == "limit" else v) for k, v in REQUEST.query))
    with pytest.raises(PageError, match="3 bars where 2 is the most"):
        read(body({"AAPL": [BAR] * 3}), small)


def test_a_long_page_is_held_to_the_request_as_well() -> None:
    long = body({"AAPL": [bar(t=f"2024-01-{day:02}T05:00:00Z") for day in range(2, 32)] * 40, "MSFT": [BAR]})
    assert len(long) > bars.PROVED_FROM_BYTES
    assert fast_bars.read(long, minutes=False) is not None
    with pytest.raises(PageError, match="bars of MSFT"):
        read(long)


# -- by proof --------------------------------------------------------------------------------------------------

KEYS = ("c", "h", "l", "n", "o", "t", "v", "vw")
SAMPLE = {
    "c": "1.25",
    "h": "0.5",
    "l": "0",
    "n": "3",
    "o": "174",
    "t": '"2024-02-29T14:31:00Z"',
    "v": "12",
    "vw": "9.75",
}


def line(keys: Sequence[str], **changes: str) -> str:
    return "{" + ",".join(f'"{key}":{(SAMPLE | changes)[key]}' for key in keys) + "}"


def plain(*bars_of: str, symbols: Sequence[str] = ("AAPL",), token: str = '"next_page_token":null') -> bytes:
    lists = ",".join(f'"{symbol}":[{",".join(bars_of)}]' for symbol in symbols)
    return f'{{"bars":{{{lists}}},{token}}}'.encode()


def same(text: bytes) -> bool:
    """Whether the page is proved; if so, what was read equals what is read by name."""
    found = fast_bars.read(text, minutes=True)
    if found is None:
        return False
    expected = bars.named(text)
    on_the_hour = fast_bars.read(text, minutes=False)
    assert on_the_hour is None or on_the_hour.table("symbol").equals(found.table("symbol"))
    assert found.table("symbol").equals(expected.table("symbol"))
    assert {**found.envelope, "bars": None} == {**expected.envelope, "bars": None}
    return True


def test_every_order_of_keys_is_proved_when_it_is_the_same_throughout() -> None:
    for keys in list(permutations(KEYS))[::97]:
        assert same(plain(line(keys), line(keys, o="2.5", n="0"), symbols=("AAPL", "BRK.B", "TSLA")))


@pytest.mark.parametrize("left_out", [{"n"}, {"vw"}, {"n", "vw"}])
def test_pages_without_count_or_average_are_proved(left_out: set[str]) -> None:
    assert same(plain(line([key for key in KEYS if key not in left_out]), symbols=("AAPL", "MSFT")))


@pytest.mark.parametrize(
    "token",
    [
        '"next_page_token":"QUFQTHxEfDE3MTIxMTY4MDAwMDAwMDAwMDA="',
        '"next_page_token":""',
        '"currency":"USD","next_page_token":null',
        '"next_page_token" : null ',
    ],
)
def test_the_envelope_of_a_proved_page_is_kept(token: str) -> None:
    assert same(plain(line(KEYS), token=token))
    assert same(b"{" + token.encode() + b"," + plain(line(KEYS))[1:].replace(b',"next_page_token":null', b""))


def test_a_page_on_the_hour_is_proved_without_minutes_and_another_is_not() -> None:
    hour = plain(line(KEYS, t='"2024-02-29T14:00:00Z"'))
    assert same(hour)
    assert fast_bars.read(hour, minutes=False) is not None
    assert fast_bars.read(plain(line(KEYS)), minutes=False) is None


def test_a_symbol_that_ends_where_another_begins_keeps_its_rows() -> None:
    text = b'{"bars":{"T":[%s],"ZT-Z":[%s,%s]}}' % ((line(KEYS).encode(),) * 3)
    found = fast_bars.read(text, minutes=True)
    assert found is not None
    assert found.symbols.to_pylist() == ["T", "ZT-Z", "ZT-Z"]


@pytest.mark.parametrize(
    "text",
    [
        plain(line(KEYS), line(KEYS[::-1])),
        plain(line(KEYS), line(KEYS[:-1])),
        plain(line((*KEYS, "v"))),
        plain(line(KEYS).replace('"v"', '"x"')),
        plain(line([key for key in KEYS if key != "o"])),
        plain(line(KEYS, n="null")),
        plain(line(KEYS).replace('"c":', '"c1":')),
        plain(line(KEYS).replace('"c":1.25', '"c1":.25')),
        *(
            plain(line(KEYS, o=number))
            for number in ("01", "1.", ".5", "+1", "-1", "1e5", "1-2", '"1"', "1e400", "NaN", "")
        ),
        *(plain(line(KEYS, v=count)) for count in ("007", "9223372036854775808")),
        plain(line(KEYS, o="9007199254740993")),
        plain(line(KEYS, o="9" * 400)),
        *(
            plain(line(KEYS, t=f'"{stamp}"'))
            for stamp in (
                "2024-02-30T05:00:00Z",
                "2023-02-29T05:00:00Z",
                "2024-01-02T24:00:00Z",
                "2024-01-02T05:60:00Z",
                "2024-01-02T05:00:30Z",
                "2024-01-02T05:00:00.5Z",
                "2024-01-02T05:00:00+00:00",
                "0000-01-02T05:00:00Z",
            )
        ),
        plain(line(KEYS), symbols=("AAPL", "AAPL")),
        plain(line(KEYS), symbols=("A\\u0041",)),
        plain(line(KEYS), symbols=("aapl",)),
        plain(symbols=("AAPL",)),
        plain(line(KEYS), line(KEYS)).replace(b"},{", b"}, {"),
        plain(line(KEYS), line(KEYS)).replace(b"},{", b"}{"),
        plain(line(KEYS)).replace(b"]}", b",]}"),
        plain(line(KEYS))[:-1],
        plain(line(KEYS)) + b"x",
        plain(line(KEYS), token='"bars":{}'),
        plain(line(KEYS), token='"x":"\\"bars\\":{"'),
        b'{"x":' + plain(line(KEYS)) + b"}",
        b'{"bars":{}}',
        b'{"bars":{"',
        b"",
    ],
)
def test_what_differs_from_the_proved_shape_is_left_to_the_reader_by_name(text: bytes) -> None:
    assert fast_bars.read(text, minutes=True) is None


PIECES = [
    b'"',
    b",",
    b":",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\\",
    b" ",
    b"\n",
    b"\t",
    b"0",
    b"1",
    b".",
    b"-",
    b"+",
    b"e",
    b"T",
    b"Z",
]
PIECES += [b"null", b"true", b"vw", b"c", b"},{", b']},"bars":{', b'"c":1,', b"\xff", b"\x00"]
NUMBERS = [
    "0",
    "1",
    "0.0",
    "12.5",
    "174",
    "1234567.891",
    "9007199254740992",
    "1e5",
    "-0",
    "1E-3",
    "null",
    "01",
    "1.",
    "true",
]
STAMPS = ["2024-01-02T05:00:00Z", "2024-02-29T14:31:00Z", "2024-02-30T05:00:00Z", "2024-01-02T05:00:00.25Z"]


@st.composite
def pages(draw: st.DrawFn) -> bytes:
    """Pages near the proved shape: a few odd values, then a few odd bytes."""
    optional = draw(st.sets(st.sampled_from(["n", "vw"])))
    keys = draw(st.permutations([key for key in KEYS if key not in optional]))
    number = st.decimals(0, 10**6, places=4).map(str) | st.integers(0, 10**6).map(str)
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        changes = {key: draw(number if key not in "vn" else st.integers(0, 10**12).map(str)) for key in keys}
        changes["t"] = f'"{draw(st.sampled_from(STAMPS[:2]))}"'
        for key in draw(st.lists(st.sampled_from(keys), max_size=1)):
            changes[key] = f'"{draw(st.sampled_from(STAMPS))}"' if key == "t" else draw(st.sampled_from(NUMBERS))
        lines.append(line(keys, **changes))
    text = plain(
        *lines, symbols=draw(st.lists(st.sampled_from(["AAPL", "BRK.B", "ZT", "A\\u0041"]), min_size=1, max_size=3))
    )
    for at, piece, cut in draw(
        st.lists(st.tuples(st.floats(0, 1), st.sampled_from([b"", *PIECES]), st.integers(0, 2)), max_size=2)
    ):
        place = int(at * len(text))
        text = text[:place] + piece + text[place + cut :]
    return text


@settings(max_examples=400, deadline=None)
@given(pages())
def test_what_is_proved_equals_what_is_read_by_name(text: bytes) -> None:
    # Raises PageError when a page is proved that the reader by name refuses.
    same(text)


@settings(max_examples=150, deadline=None)
@given(pages())
def test_the_reader_by_name_answers_or_refuses_and_nothing_else(text: bytes) -> None:
    try:
        found = bars.named(text)
    except PageError:
        return
    assert found.table("symbol").num_rows == sum(map(len, (orjson.loads(text).get("bars") or {}).values()))


# -- session dates ---------------------------------------------------------------------------------------------


def dates(series: Series, window: Window, *stamps: datetime) -> list[date]:
    found: list[date] = table.session_dates(pa.array(stamps, pa.timestamp("us")), series, window).to_pylist()
    return found


@pytest.mark.parametrize("timeframe", ["1Day", "1Week", "3Month"])
def test_a_daily_stamp_belongs_to_its_new_york_day_in_winter_and_summer(timeframe: str) -> None:
    series = STOCKS.canonical({"timeframe": timeframe})
    stamps = (datetime(2024, 1, 2, 5), datetime(2024, 7, 1, 4))
    assert dates(series, Window(date(2024, 1, 1), date(2025, 1, 1)), *stamps) == [date(2024, 1, 2), date(2024, 7, 1)]


def test_an_evening_minute_belongs_to_the_new_york_day_before_the_utc_one() -> None:
    series = STOCKS.canonical({"timeframe": "1Min"})
    window = Window(date(2024, 3, 1), date(2024, 11, 30))
    evenings = {
        datetime(2024, 3, 9, 4, 59): date(2024, 3, 8),
        datetime(2024, 3, 10, 4, 59): date(2024, 3, 9),
        datetime(2024, 3, 10, 5): date(2024, 3, 10),
        datetime(2024, 3, 11, 3, 59): date(2024, 3, 10),
        datetime(2024, 3, 11, 4): date(2024, 3, 11),
        datetime(2024, 11, 3, 3, 59): date(2024, 11, 2),
        datetime(2024, 11, 4, 4, 59): date(2024, 11, 3),
        datetime(2024, 11, 4, 5): date(2024, 11, 4),
    }
    assert dates(series, window, *evenings) == list(evenings.values())
    assert dates(series, window) == []


def test_a_page_for_which_there_is_no_memory_is_not_called_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(text: bytes) -> None:
        raise orjson.JSONDecodeError("Not enough memory to allocate buffer for parsing", "", 0)

    monkeypatch.setattr(orjson, "loads", loads)
    with pytest.raises(MemoryError):
        read(body({"AAPL": [BAR]}))

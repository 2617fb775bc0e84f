"""What the imitation answers: paging, validation, filters, shapes of nothing."""

from base64 import b64decode, b64encode
from datetime import UTC, date, datetime, timedelta
from functools import partial
from urllib.parse import quote, urlencode

import orjson
import pytest
from simlab import MARKET, NOON, bars_target

from stagingest.model import calendar
from stagingest.sim import imitation as sim_imitation
from stagingest.sim.policy import Policy
from stagingest.sim.server import OURS

answer = partial(sim_imitation.answer, imitations=OURS)

JANUARY = len(list(calendar.between(date(2024, 1, 1), date(2024, 2, 1))))


def get(target, policy=None, now=NOON):
    """Status and parsed body."""
    found = answer(MARKET, policy or Policy(), target, now)
    return found.status, orjson.loads(found.body)


def page(target, policy=None, now=NOON):
    status, body = get(target, policy, now)
    assert status == 200, body
    return body


def every_page(target, policy=None, now=NOON):
    """The pages of a question, in order."""
    pages = [page(target, policy, now)]
    while pages[-1].get("next_page_token"):
        assert len(pages) < 500
        token = quote(pages[-1]["next_page_token"], safe="")
        pages.append(page(f"{target}&page_token={token}", policy, now))
    return pages


def keys(pages):
    return [(symbol, bar["t"]) for body in pages for symbol, bars in body["bars"].items() for bar in bars]


def message(target, policy=None):
    status, body = get(target, policy)
    return status, body["message"]


def options(**query):
    return "/v1beta1/options/bars?" + urlencode({"timeframe": "1Day", "start": "2024-01-01", **query})


def contracts(**query):
    return "/v2/options/contracts?" + urlencode(query)


def chain(**query):
    """Every contract of a filter, over pages of 1,000."""
    usual = {"underlying_symbols": "AAA", "expiration_date_lte": "2030-01-01", "limit": 1000}
    return [row for body in every_page(contracts(**(usual | query))) for row in body["option_contracts"]]


# --- bars


def test_pages_are_cut_mid_symbol_and_together_hold_every_bar_once():
    whole = keys(every_page(bars_target(limit=10000)))
    for limit in (1, 7, JANUARY, JANUARY + 1, 2 * JANUARY):
        pages = every_page(bars_target(limit=limit))

        assert keys(pages) == whole == sorted(whole)
        assert len(pages) == -(-len(whole) // limit)
        assert all(sum(map(len, body["bars"].values())) == limit for body in pages[:-1])


def test_descending_pages_hold_each_symbols_bars_newest_first():
    whole = keys(every_page(bars_target()))
    for limit in (5, JANUARY, 1000):
        found = keys(every_page(bars_target(limit=limit, sort="desc")))

        assert found == sorted(whole, key=lambda key: (key[0], [-ord(letter) for letter in key[1]]))


def test_intraday_pages_span_weeks_and_symbols():
    target = bars_target(timeframe="15Min", end="2024-01-12", limit=100)

    found = keys(every_page(target))

    assert found == sorted(set(found))
    assert len(found) == 2 * 26 * len(list(calendar.between(date(2024, 1, 1), date(2024, 1, 13))))


def test_a_token_names_the_next_bar_in_base64():
    body = page(bars_target(limit=3))

    symbol, letter, ns = b64decode(body["next_page_token"]).decode().split("|")
    following = page(bars_target(limit=4))["bars"]["AAA"][3]["t"]
    assert (symbol, letter) == ("AAA", "D")
    assert datetime.fromtimestamp(int(ns) / 1e9, UTC) == datetime.fromisoformat(following)


@pytest.mark.parametrize("raw", ["", "AAA|D", "AAA|M|1", "ZZZ|D|1704171600000000000", "AAA|D|x", "AAA|D|1|2"])
def test_a_token_that_is_not_ours_is_refused(raw):
    token = b64encode(raw.encode()).decode() or "%%%"
    assert message(bars_target(page_token=token)) == (400, "invalid page_token")


def test_the_default_limit_is_a_thousand():
    body = page(bars_target(start="2016-01-01", end="2026-01-01"))

    assert sum(map(len, body["bars"].values())) == 1000
    assert body["next_page_token"]


def test_both_bounds_are_inclusive_and_take_any_offset():
    whole = page(bars_target())["bars"]["AAA"]
    first, last = whole[2]["t"], whole[5]["t"]
    other = datetime.fromisoformat(last) - timedelta(hours=5)

    between = page(bars_target(symbols="AAA", start=first, end=f"{other:%Y-%m-%dT%H:%M:%S}-05:00"))
    shorter = page(bars_target(symbols="AAA", start=f"{first[:-1]}.000000001Z", end=last.replace(":00Z", ":00.0Z")))

    assert between["bars"]["AAA"] == whole[2:6]
    assert shorter["bars"]["AAA"] == whole[3:6]


def test_a_date_covers_new_yorks_day():
    found = keys([page(bars_target(symbols="AAA", timeframe="1Hour", start="2024-01-03", end="2024-01-03"))])

    assert [stamp for _, stamp in found] == [f"2024-01-03T{hour}:00:00Z" for hour in range(14, 21)]


def test_an_unknown_symbol_is_absent_and_the_rest_is_served():
    assert list(page(bars_target(symbols="BBB,NOPE,AAA,AAA"))["bars"]) == ["AAA", "BBB"]


@pytest.mark.parametrize("symbol", ["CSP1", "TAOP:NASDAQ", "aaa", "BRK/B", "", "A.B.C"])
def test_the_first_malformed_symbol_is_named(symbol):
    assert message(bars_target(symbols=f"AAA,{symbol},1X")) == (400, f"invalid symbol: {symbol}")
    assert page(bars_target(symbols="BRK.B"))["bars"].keys() == {"BRK.B"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"limit": 0}, "invalid limit"),
        ({"limit": 10001}, "invalid limit"),
        ({"limit": "x"}, "invalid limit"),
        ({"timeframe": "60Min"}, "invalid timeframe"),
        ({"timeframe": "1day"}, "invalid timeframe"),
        ({"timeframe": "5Month"}, "invalid timeframe"),
        ({"timeframe": ""}, "invalid timeframe"),
        ({"start": "2024-02-01"}, "end should not be before start"),
        ({"start": "yesterday"}, "invalid start"),
        ({"start": "2024-01-01T00:00:00"}, "invalid start"),
        ({"end": "2024-13-01"}, "invalid end"),
        ({"feed": "delayed_sip"}, "invalid feed"),
        ({"adjustment": "raw,other"}, "invalid adjustment"),
        ({"currency": "euro"}, "invalid currency"),
        ({"asof": "2024-1-1"}, "invalid asof"),
        ({"sort": "up"}, "invalid sort"),
        ({"symbols": ""}, "symbols is required"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(query, said):
    status, text = message(bars_target(**query))

    assert status == 400
    assert text.startswith(said)


def test_a_raw_plus_is_a_space_and_no_offset():
    target = "/v2/stocks/bars?symbols=AAA&timeframe=1Day&end=2024-01-31&start=2024-01-02T00:00:00"

    assert message(f"{target}+00:00")[0] == 400
    assert page(f"{target}%2B00:00")["bars"]["AAA"]


def test_one_symbol_in_the_path_gets_a_list_and_its_name():
    body = page("/v2/stocks/BRK.B/bars?timeframe=1Day&start=2024-01-02&end=2024-01-03&limit=1")

    assert [*body] == ["bars", "symbol", "next_page_token"]
    assert (body["symbol"], len(body["bars"])) == ("BRK.B", 1)
    assert page("/v2/stocks/NOPE/bars?timeframe=1Day&start=2024-01-02")["bars"] == []


@pytest.mark.parametrize("short", ["1T", "2H", "1D", "1W", "12M"])
def test_short_timeframes_mean_the_long_ones(short):
    long = short.translate({ord(a): b for a, b in zip("THDWM", ("Min", "Hour", "Day", "Week", "Month"), strict=True)})

    bounds = {"start": "2024-01-01", "end": "2024-01-03"}
    assert page(bars_target(timeframe=short, **bounds)) == page(bars_target(timeframe=long, **bounds))


def test_another_currency_is_echoed_and_asof_accepted():
    assert page(bars_target(currency="EUR"))["currency"] == "EUR"
    assert "currency" not in page(bars_target())
    assert page(bars_target(asof="2024-01-05")) == page(bars_target(asof="-")) == page(bars_target())


def test_adjustments_combine_and_all_means_all_three():
    target = {"symbols": "AAA,BBB,CCC,BRK.B", "start": "2016-01-01", "end": "2016-02-01"}
    combined = page(bars_target(adjustment="spin-off,split,dividend", **target))

    assert combined == page(bars_target(adjustment="all", **target))
    assert combined != page(bars_target(**target)) == page(bars_target(adjustment="raw", **target))


def test_without_bounds_the_answer_is_today_so_far():
    body = page("/v2/stocks/bars?symbols=AAA&timeframe=1Hour")

    assert [bar["t"][:13] for bar in body["bars"]["AAA"]] == [f"2026-11-23T{hour}" for hour in (14, 15, 16)]


def test_without_the_entitlement_recent_sip_is_forbidden_and_the_default_end_is_earlier():
    policy = Policy(recent_sip=False)
    recent = bars_target(timeframe="1Min", start="2026-11-23", end="2026-11-23T16:50:00Z")

    status, body = get(recent, policy)
    assert (status, body["message"]) == (403, "subscription does not permit querying recent SIP data")
    assert get(recent.replace("50:00Z", "45:00Z").replace("50%3A00Z", "45%3A00Z"), policy)[0] == 200
    assert get(f"{recent}&feed=iex", policy)[0] == 200
    open_end = page("/v2/stocks/bars?symbols=AAA&timeframe=1Min", policy)
    assert open_end["bars"]["AAA"][-1]["t"] == "2026-11-23T16:45:00Z"


@pytest.mark.parametrize(
    ("shape", "many", "single"),
    [
        ("{}", {"bars": {}}, {"bars": []}),
        ("null", {"bars": None}, {"bars": None}),
        ("[]", {"bars": []}, {"bars": []}),
        ("missing", {}, {}),
    ],
)
def test_nothing_has_the_shape_the_policy_wants(shape, many, single):
    policy = Policy(empty_shape=shape)

    assert page(bars_target(symbols="NOPE"), policy) == many | {"next_page_token": None}
    alone = page("/v2/stocks/NOPE/bars?timeframe=1Day&start=2024-01-02", policy)
    assert alone == single | {"symbol": "NOPE", "next_page_token": None}
    listing = page(contracts(underlying_symbols="NOPE"), policy)
    assert listing.get("option_contracts") in ([], None)


def test_the_last_page_ends_as_the_policy_wants():
    assert "next_page_token" not in page(bars_target(), Policy(last_token="missing"))
    assert page(bars_target(), Policy(last_token='""'))["next_page_token"] == ""


def test_short_and_empty_pages_lose_nothing():
    whole = keys(every_page(bars_target()))

    short = every_page(bars_target(), Policy(page_cap=9))
    between = every_page(bars_target(), Policy(page_cap=9, empty_pages="between"))
    last = every_page(bars_target(limit=9), Policy(empty_pages="last"))

    assert keys(short) == keys(between) == keys(last) == whole
    assert [len(body["bars"]) > 0 for body in between] == [True, False] * (len(short) - 1) + [True]
    assert last[-1]["bars"] == {}
    assert len(last) == len(short) + 1


# --- options


def test_option_bars_are_served_to_a_hundred_contracts_and_no_more():
    symbols = [row["symbol"] for row in chain(expiration_date_gte="2026-11-24", status="active")]

    body = page(options(symbols=",".join(symbols[:100])))
    assert 0 < len(body["bars"]) <= 100
    assert keys([body]) == sorted(keys([body]))
    assert message(options(symbols=",".join(symbols[:101])))[0] == 400
    assert message(options(symbols="AAA")) == (400, "invalid symbol: AAA")
    assert message(options(symbols=symbols[0]), Policy(opra=False)) == (403, "OPRA agreement is not signed")


def test_option_pages_hold_every_bar_once():
    target = options(symbols=",".join(row["symbol"] for row in chain(status="active")[:60]), timeframe="1Hour")

    whole = keys(every_page(f"{target}&limit=10000"))
    assert keys(every_page(f"{target}&limit=37")) == whole
    assert len(whole) > 37


def test_contracts_default_to_active_ones_until_the_weekend_a_hundred_a_page():
    rows = [row for body in every_page(contracts(underlying_symbols="AAA,BBB")) for row in body["option_contracts"]]

    assert {row["expiration_date"] for row in rows} == {"2026-11-27"}
    assert {row["status"] for row in rows} == {"active"}
    assert len(page("/v2/options/contracts?expiration_date_lte=2027-01-01")["option_contracts"]) == 100


def test_contract_pages_are_offsets_in_base64_and_hold_each_contract_once():
    first = page(contracts(underlying_symbols="AAA", expiration_date_lte="2030-01-01", limit=250))

    assert b64decode(first["next_page_token"]) == b"250"
    symbols = [row["symbol"] for row in chain()]
    assert symbols == sorted(set(symbols))
    assert [row["symbol"] for row in chain(limit=77)] == symbols
    assert message(contracts(page_token="eA=="))[0] == 400


def test_the_two_statuses_split_the_listing_at_the_servers_date():
    active, inactive = chain(), chain(status="inactive")

    assert min(row["expiration_date"] for row in active) >= "2026-11-23" > max(r["expiration_date"] for r in inactive)
    on_the_day = datetime(2026, 11, 27, 23, tzinfo=UTC)
    target = contracts(underlying_symbols="AAA", expiration_date="2026-11-27")
    assert page(target, now=on_the_day)["option_contracts"]
    assert page(target, now=on_the_day + timedelta(hours=7))["option_contracts"] == []


def test_every_filter_of_contracts_filters():
    whole = chain()
    strike = sorted(float(row["strike_price"]) for row in whole)[len(whole) // 2]

    assert {row["type"] for row in chain(type="put")} == {"put"}
    assert {row["expiration_date"] for row in chain(expiration_date="2026-12-18")} == {"2026-12-18"}
    assert min(row["expiration_date"] for row in chain(expiration_date_gte="2027-01-01")) >= "2027-01-01"
    assert min(float(row["strike_price"]) for row in chain(strike_price_gte=strike)) == strike
    assert max(float(row["strike_price"]) for row in chain(strike_price_lte=strike)) == strike
    assert chain(style="european") == []
    assert {row["underlying_symbol"] for row in chain(underlying_symbols="BRK.B,AAA", root_symbol="BRKB")} == {"BRK.B"}
    assert message(contracts(strike_price_gte="x"))[0] == 400
    assert message(contracts(limit=10001))[0] == 400


def test_decimals_are_strings_and_unknown_facts_null():
    rows = chain()

    assert all(isinstance(row["strike_price"], str) and row["multiplier"] == row["size"] == "100" for row in rows)
    assert {type(row["open_interest"]) for row in rows} == {str, type(None)}
    assert all((row["open_interest"] is None) == (row["open_interest_date"] is None) for row in rows)
    assert "deliverables" not in rows[0]
    assert chain(show_deliverables="true")[0]["deliverables"][0]["symbol"] == "AAA"


def test_one_contract_is_a_bare_object_and_an_unknown_one_404():
    row = chain(show_deliverables="true")[0]

    assert get(f"/v2/options/contracts/{row['symbol']}") == (200, row)
    unknown = "TSLA231110C00021000"
    status, body = get(f"/v2/options/contracts/{unknown}")
    assert (status, body) == (404, {"code": 40410000, "message": f"option contract {unknown} not found"})


def test_an_unknown_route_and_a_long_target_are_refused():
    for path in ("/", "/v2/stocks", "/v2/stocks/AAA/quotes", "/v1beta1/options/snapshots/AAA/more"):
        found = answer(MARKET, Policy(), path, NOON)
        assert (found.status, found.body) == (404, b"Not Found")
    unknown = answer(MARKET, Policy(), "/v3/snapshot/nothing", NOON)
    assert (unknown.status, unknown.body) == (404, b"404 page not found")
    assert answer(MARKET, Policy(), bars_target(symbols=",".join(["AAA"] * 3000)), NOON).status == 414

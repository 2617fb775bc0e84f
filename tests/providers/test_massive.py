"""Massive's bars and contracts: the question, every shape of an answer, the imitation of it, and whole fetches."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from desk import MONDAY, Desk, desk
from massiveschema import AGGREGATES, CHAIN, CONTRACTS, REFUSED
from simlab import ask

from stagingest.errors import PageError, UsageError
from stagingest.model.chunk import Chunk, Job, SymbolWindow
from stagingest.model.page import Page, Request
from stagingest.model.windows import Window
from stagingest.planning import due as planning_due
from stagingest.providers import catalog
from stagingest.providers.endpoint import may_be_cut
from stagingest.providers.massive.endpoints import MassiveOptionBars, MassiveOptionContracts, MassiveStockBars, ticker
from stagingest.sim import imitation as sim_imitation
from stagingest.sim import policy as sim_policy
from stagingest.sim import server as sim_server
from stagingest.sim.market import market
from stagingest.sim.server import OURS

answer = partial(sim_imitation.answer, imitations=OURS)

STOCKS, OPTIONS, CONTRACTS_OF = MassiveStockBars(), MassiveOptionBars(), MassiveOptionContracts()
OCC = "AAPL240621C00190000"
DAYS = Window(date(2024, 1, 2), date(2024, 2, 1))


def chunk(endpoint: Any = STOCKS, symbol: str = "AAPL", window: Window = DAYS, **options: str) -> Chunk:
    return Chunk(endpoint.canonical(options), (symbol,), window)


ASKED = chunk()
FIRST = STOCKS.first(ASKED)
BAR = {"t": 1704171600000, "o": 187.15, "h": 188.44, "l": 183.885, "c": 185.64, "v": 82488700}  # 2024-01-02
SAYS: dict[str, Any] = {"ticker": "AAPL", "adjusted": False, "queryCount": 1, "resultsCount": 1, "status": "OK"}
LISTED = chunk(
    CONTRACTS_OF, window=Window(date(2024, 6, 3), date(2024, 6, 4)), expiry_gte="2024-01-01", expiry_lte="2024-12-31"
)
CONTRACT = {
    "cfi": "OCASPS", "contract_type": "call", "exercise_style": "american", "expiration_date": "2024-06-21",
    "primary_exchange": "BATO", "shares_per_contract": 100, "strike_price": 190, "ticker": f"O:{OCC}",
    "underlying_ticker": "AAPL",
}  # fmt: skip


def read(asked: Chunk = ASKED, **envelope: Any) -> Page:
    return STOCKS.read(asked, STOCKS.first(asked), orjson.dumps(envelope))


def bars(*rows: dict[str, Any], **says: Any) -> Page:
    return read(**{**SAYS, "resultsCount": len(rows), "results": rows, **says})


def test_a_fractional_volume_is_kept_as_it_is() -> None:
    """As its aggregates are since 2026-02-23 (its client 2.3.0)."""
    found = bars({**BAR, "v": 82488700.123456, "n": 1009074}).table
    assert found is not None
    assert (found["volume"].to_pylist(), found["trade_count"].to_pylist()) == ([82488700.123456], [1009074])


def listed(*rows: Any, **says: Any) -> list[dict[str, Any]]:
    page = CONTRACTS_OF.read(
        LISTED, CONTRACTS_OF.first(LISTED), orjson.dumps({"results": rows, "status": "OK", **says})
    )
    return page.table.to_pylist() if page.table is not None else []


# -- the question ----------------------------------------------------------------------------------------------


def test_bars_are_asked_in_the_path_in_milliseconds_of_new_yorks_midnights() -> None:
    assert (
        Request(
            "massive/api",
            "/v2/aggs/ticker/AAPL/range/1/day/1704171600000/1706763599999",
            (("adjusted", "false"), ("sort", "asc"), ("limit", "50000")),
        )
        == FIRST
    )
    assert STOCKS.first(chunk(adjustment="split")).param("adjusted") == "true"
    request = OPTIONS.first(chunk(OPTIONS, OCC, timeframe="5Min"), datetime(2024, 1, 3, tzinfo=UTC))
    assert request.path == f"/v2/aggs/ticker/O:{OCC}/range/5/minute/1704171600000/1704240000000"
    assert request.param("adjusted") == "false"


@pytest.mark.parametrize(
    ("timeframe", "span"),
    [("90s", ""), ("7Min", "7/minute"), ("4Hour", "4/hour"), ("1Week", "1/week"), ("1Month", "1/month"),
     ("3Month", "1/quarter"), ("12Month", "1/year"), ("2Month", ""), ("6Month", "")],
)  # fmt: skip
def test_a_timeframe_is_asked_by_the_providers_name_or_refused(timeframe: str, span: str) -> None:
    if not span:
        with pytest.raises(UsageError):
            STOCKS.canonical({"timeframe": timeframe})
        return
    assert f"/range/{span}/" in STOCKS.first(chunk(timeframe=timeframe)).path


def test_every_parameter_that_changes_a_row_is_a_key_column_or_refused() -> None:
    assert STOCKS.constants(STOCKS.canonical({"adjustment": "split", "feed": "delayed_sip"})) == {
        "provider": "massive", "interval": "1d", "feed": "sip", "adjustment": "split", "currency": "USD", "asof": "",
    }  # fmt: skip
    for asked in ({"feed": "iex"}, {"currency": "EUR"}, {"asof": "2020-01-01"}, {"adjustment": "dividend"}):
        with pytest.raises(UsageError):
            STOCKS.canonical(asked)
    with pytest.raises(UsageError, match="no adjustment"):
        OPTIONS.canonical({"adjustment": "split"})


@pytest.mark.parametrize(
    ("text", "symbol"),
    [("aapl", "AAPL"), ("brk/b", "BRK.B"), ("BRK-B", "BRK.B"), ("ABRpD", "ABRpD"), ("ABR-PD", "ABRpD"),
     ("A B", None), ("O:X", None), ("ABC123", None)],
)  # fmt: skip
def test_a_stock_is_spelled_as_massive_does(text: str, symbol: str | None) -> None:
    assert ticker(text) == symbol


def test_option_tickers_are_bare_in_our_words_and_indices_too() -> None:
    assert OPTIONS.symbol(f"o:{OCC.lower()}") == OCC
    assert OPTIONS.symbol("O:SPY") is None
    assert CONTRACTS_OF.symbol("I:SPX") == "SPX"


def test_contracts_are_asked_by_expired_with_dotted_bounds() -> None:
    assert dict(CONTRACTS_OF.first(LISTED).query) == {
        "underlying_ticker": "AAPL", "expired": "false", "expiration_date.gte": "2024-06-02",
        "expiration_date.lte": "2024-12-31", "order": "asc", "sort": "ticker", "limit": "1000",
    }  # fmt: skip
    inactive = chunk(
        CONTRACTS_OF, window=LISTED.window, status="inactive", expiry_gte="2024-01-01", expiry_lte="2024-12-31"
    )
    query = dict(CONTRACTS_OF.first(inactive).query)
    assert (query["expired"], query["expiration_date.lte"]) == ("true", "2024-06-03")


def test_a_session_is_final_when_its_day_is_over_as_the_lowest_plan_sees_it() -> None:
    series = STOCKS.canonical({"timeframe": "1Min"})
    assert STOCKS.final_before(series, MONDAY) == date(2024, 6, 3)
    assert STOCKS.final_before(series, datetime(2024, 6, 4, 4, 15, tzinfo=UTC)) == date(2024, 6, 3)
    assert STOCKS.final_before(series, datetime(2024, 6, 4, 4, 16, tzinfo=UTC)) == date(2024, 6, 4)
    assert STOCKS.final_before(STOCKS.canonical({"timeframe": "1Week"}), MONDAY) == date(2024, 6, 3)


# -- the cut ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "timeframe", "start", "chunks", "requests"),
    [
        (STOCKS, "1Day", STOCKS.floor, 1, 1),
        (STOCKS, "1Min", date(2024, 1, 1), 2, 2),
        (STOCKS, "1Hour", STOCKS.floor, 13, 60),
        (OPTIONS, "1Day", date(2014, 6, 2), 1, 1),
        (OPTIONS, "1Min", date(2014, 6, 2), 1, 1),
    ],
)
def test_a_symbol_is_asked_in_long_windows(
    endpoint: Any, timeframe: str, start: date, chunks: int, requests: int
) -> None:
    series = endpoint.canonical({"timeframe": timeframe})
    job = Job(series, (SymbolWindow(("AAPL",), Window(start, date(2024, 6, 3))),))
    cut = endpoint.cut(series)
    due = planning_due.due(job, cut, date(2024, 6, 3), {})
    assert all(len(each.symbols) == 1 for each in due)
    assert (len(due), planning_due.estimate(due, cut).requests) == (chunks, pytest.approx(requests, abs=2))


def test_a_last_page_is_full_by_what_the_provider_counted_not_by_its_rows() -> None:
    hours = chunk(timeframe="1Hour", window=Window(date(2020, 1, 2), date(2024, 1, 1)))
    assert may_be_cut(STOCKS, hours, Page(None, None, counted=50_000))
    assert not may_be_cut(STOCKS, hours, Page(None, None, counted=49_999))


# -- a page of bars --------------------------------------------------------------------------------------------


def test_a_bar_has_what_it_says_and_null_where_it_says_nothing() -> None:
    page = bars({**BAR, "n": 7, "vw": 185.9}, {**BAR, "t": 1704258000000, "v": 642646396.0})
    assert page.table is not None
    assert page.table.column_names[:2] == ["symbol", "ts"]
    rows = page.table.to_pylist()
    assert rows[0] == {
        "symbol": "AAPL", "ts": datetime(2024, 1, 2, 5), "open": 187.15, "high": 188.44, "low": 183.885,
        "close": 185.64, "volume": 82488700, "trade_count": 7, "vwap": 185.9,
    }  # fmt: skip
    assert (rows[1]["volume"], rows[1]["trade_count"], rows[1]["vwap"]) == (642646396, None, None)
    assert (page.next, page.unknown, page.counted) == (None, frozenset(), 1)


@pytest.mark.parametrize(
    "envelope",
    [{}, {**SAYS, "resultsCount": 0}, {**SAYS, "resultsCount": 0, "status": "DELAYED"}, {"results": []},
     {"results": None, "status": "OK"}],
)  # fmt: skip
def test_no_results_are_no_rows_and_the_end(envelope: dict[str, Any]) -> None:
    page = read(**envelope)
    assert (page.table, page.next) == (None, None)


def test_a_stock_over_the_counter_and_a_row_said_twice_are_rows_like_others() -> None:
    page = bars({**BAR, "otc": True}, {**BAR, "otc": True}, status="DELAYED")
    assert (page.rows, page.unknown) == (2, frozenset())
    assert bars({**BAR, "x": 1}).unknown == {"x"}


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ({"adjusted": True}, "adjusted is True, raw bars"),
        ({"adjusted": None}, "adjusted is None"),
        ({"resultsCount": 2}, "has 1 bars and says that there are 2"),
        ({"resultsCount": "1"}, "instead of a count"),
        ({"ticker": "MSFT"}, "'MSFT', AAPL was asked"),
        ({"status": "ERROR", "error": "down"}, "error: down"),
        ({"status": "NOT_AUTHORIZED", "message": "Upgrade"}, "error: Upgrade"),
        ({"results": {"AAPL": []}}, "no list"),
        ({"results": [1]}, "int instead of an object"),
        ({"results": [{**BAR, "t": 1704085200000}]}, "outside of what was asked"),
        ({"results": [{**BAR, "t": 1706763600000}]}, "outside of what was asked"),
        ({"results": [{**BAR, "t": "2024-01-02"}]}, "milliseconds since 1970"),
        ({"results": [{**BAR, "t": 1704171600000000000}]}, "milliseconds since 1970"),
        ({"results": [{**BAR, "n": 1.5}]}, "'n' is 1.5 instead of a whole number"),
        ({"results": [{**BAR, "o": True}]}, "'o' is True"),
        ({"results": [{key: BAR[key] for key in "tohlv"}]}, "'c' is missing"),
    ],
)
def test_what_is_no_page_of_the_bars_asked_is_refused(says: dict[str, Any], said: str) -> None:
    with pytest.raises(PageError, match=said):
        read(**{**SAYS, "results": [BAR], **says})


@pytest.mark.parametrize("day", [7, 8])  # of January 2024: a Sunday, a Monday
def test_a_week_is_stamped_monday_whichever_day_the_provider_says(day: int) -> None:
    weeks = chunk(timeframe="1Week", window=Window(date(2024, 1, 8), date(2024, 1, 22)))
    assert STOCKS.first(weeks).path.endswith("/range/1/week/1704690000000/1705813199999")  # to Saturday's end
    t = int(datetime(2024, 1, day, 5, tzinfo=UTC).timestamp() * 1000)
    page = read(weeks, **{**SAYS, "results": [{**BAR, "t": t}]})
    assert page.table is not None
    assert page.table["ts"].to_pylist() == [datetime(2024, 1, 8, 5)]


def test_the_next_page_begins_later_and_is_its_cursor_alone() -> None:
    path = "/v2/aggs/ticker/AAPL/range/1/day/1704258000000/1706763599999"
    for host in ("https://api.massive.com", "https://api.polygon.io"):
        page = bars(BAR, next_url=f"{host}{path}?cursor=bGltaXQ9Mg")
        assert page.next == Request("massive/api", path, (("cursor", "bGltaXQ9Mg"),))
        again = STOCKS.read(ASKED, page.next, orjson.dumps({**SAYS, "results": [{**BAR, "t": 1704258000000}]}))
        assert (again.rows, again.next) == (1, None)


def test_an_address_may_name_the_host_that_was_asked_and_a_coupled_colon() -> None:
    asked = chunk(OPTIONS, OCC)
    first = OPTIONS.first(asked)
    proxied = Request(first.budget, first.path, first.query, "https://proxy.example:8443")
    moved = first.path.replace("1704171600000", "1704258000000")
    says = {**SAYS, "ticker": f"O:{OCC}", "results": [BAR], "next_url": f"https://proxy.example:8443{moved}?cursor=a"}
    body = orjson.dumps(says).replace(b"/O:", b"/O%3A")
    page = OPTIONS.read(asked, proxied, body)
    assert page.next == Request("massive/api", moved, (("cursor", "a"),))
    with pytest.raises(PageError, match="another host"):
        OPTIONS.read(asked, first, body)


# -- a page of contracts ---------------------------------------------------------------------------------------


def test_a_contract_has_what_it_says() -> None:
    (row,) = listed(CONTRACT)
    assert orjson.loads(row.pop("raw_json")) == CONTRACT
    assert {name: value for name, value in row.items() if value is not None} == {
        "contract_symbol": OCC, "underlying": "AAPL", "root_symbol": "AAPL", "expiry": date(2024, 6, 21),
        "option_type": "call", "strike": Decimal("190.000"), "size": 100.0, "style": "american", "status": "active",
    }  # fmt: skip


def test_an_odd_contract_is_what_its_fields_say_whatever_its_ticker() -> None:
    more = [{"amount": 44, "type": "equity", "underlying": "VMW"}, {"amount": 6.53, "type": "currency"}]
    odd = {**CONTRACT, "ticker": "O:AAPL1240621C000850000", "strike_price": 2.125, "contract_type": "other",
           "additional_underlyings": more, "correction": 1}  # fmt: skip
    (row,) = listed(odd)
    assert (row["contract_symbol"], row["root_symbol"]) == ("AAPL1240621C000850000", "AAPL1")
    assert (row["strike"], row["option_type"], orjson.loads(row["deliverables"])) == (Decimal("2.125"), "other", more)


def test_a_contract_said_three_times_is_one_and_an_empty_listing_is_none() -> None:
    assert len(listed(CONTRACT, CONTRACT, CONTRACT)) == 1
    assert listed() == []
    assert CONTRACTS_OF.read(LISTED, CONTRACTS_OF.first(LISTED), b"{}") == Page(None, None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"expiration_date": "2025-01-17"}, "was not asked for"),
        ({"underlying_ticker": "MSFT"}, "was not asked for"),
        ({"strike_price": 1.0001}, "three decimals"),
        ({"ticker": None}, "'ticker' is None"),
    ],
)
def test_a_contract_that_was_not_asked_for_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(PageError, match=said):
        listed({**CONTRACT, **changed})


# -- the imitation ---------------------------------------------------------------------------------------------

MARKET = market.market_from(["AAAA", "BBBB"])
STOCK = "/v2/aggs/ticker/AAAA/range/1/{}/2024-05-01/2024-05-31?limit=50000&adjusted={}"
CHAINED = "/v3/snapshot/options/AAAA?limit=250"
REFERENCES = "/v3/reference/options/contracts?underlying_ticker=AAAA&limit=1000&expired={}"
OPTION = MARKET.contracts("AAAA", date(2024, 6, 3))[-1].symbol


@pytest.mark.parametrize(
    "policy",
    [
        sim_policy.Policy(),
        sim_policy.Policy(page_cap=7, empty_pages="last", massive_delayed=True, massive_repeats=True),
        sim_policy.Policy(page_cap=90, empty_shape="missing"),
    ],
    ids=["plain", "odd", "short"],
)
@pytest.mark.parametrize(
    ("target", "schema"),
    [
        *((STOCK.format(span, "true"), AGGREGATES) for span in ("day", "hour", "week")),
        (STOCK.format("minute", "false"), AGGREGATES),
        (f"/v2/aggs/ticker/O:{OPTION}/range/1/day/2024-01-01/2024-06-03", AGGREGATES),
        ("/v2/aggs/ticker/NOPE/range/1/day/2024-01-01/2024-06-03", AGGREGATES),
        (REFERENCES.format("false"), CONTRACTS),
        ("/v3/reference/options/contracts?underlying_ticker=NOPE", CONTRACTS),
        (CHAINED, CHAIN),
    ],
)  # fmt: skip
def test_every_page_of_the_imitation_is_as_massive_promises(
    policy: sim_policy.Policy, target: str, schema: Any
) -> None:
    for _ in range(30):
        found = answer(MARKET, policy, target, MONDAY)
        page = orjson.loads(found.body)
        assert found.status == 200
        schema(page, target)
        assert page.get("resultsCount", found.rows) == len(page.get("results", ())) == found.rows
        if "next_url" not in page:
            break
        target = page["next_url"].removeprefix("https://api.polygon.io")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v2/aggs/ticker/AAAA/range/1/day/2024-06-03/2024-05-01", 400),
        ("/v2/aggs/ticker/AAAA/range/1/day/yesterday/2024-05-01", 400),
        ("/v2/aggs/ticker/AAAA/range/1/fortnight/2024-05-01/2024-06-03", 400),
        (STOCK.format("day", "true").replace("50000", "50001"), 400),
        (f"{CHAINED}&cursor=!", 400),
        ("/v3/reference/options/contracts?limit=1001", 400),
        ("/v3/reference/options/contracts/O:NOPE", 404),
    ],
)
def test_the_imitation_refuses_as_massive_does(target: str, status: int) -> None:
    found = answer(MARKET, sim_policy.Policy(), target, MONDAY)
    assert found.status == status
    REFUSED[status](orjson.loads(found.body), target)


def test_keys_limits_and_plans_are_told_in_massives_words_without_a_header() -> None:
    policy = sim_policy.Policy(keys=(("K", "S"),), rate_per_min=60, burst=1, opra=False)
    option = f"/v2/aggs/ticker/O:{OPTION}/range/1/day/2024-01-01/2024-06-03"
    with sim_server.Server(MARKET, policy, clock=lambda: MONDAY, ticks=lambda: 0.0) as server:
        wrong = ask(server, option, {"Authorization": "Bearer X"})
        forbidden = ask(server, option, {"Authorization": "Bearer S"})
        limited = ask(server, f"{REFERENCES.format('false')}&apiKey=S", {})
    for found, status in ((wrong, 401), (forbidden, 403), (limited, 429)):
        assert found.status == status
        REFUSED[status](found.json, str(status))
        assert not [name for name in found.headers if name.startswith("x-ratelimit") or name == "retry-after"]
    assert answer(MARKET, policy, "/v3/nothing", MONDAY).body == b"404 page not found"
    assert orjson.loads(answer(MARKET, policy, REFERENCES.format("true"), MONDAY).body)["status"] == "OK"


def test_hours_are_cut_where_so_many_minutes_were_looked_through() -> None:
    policy = sim_policy.Policy(page_cap=100)
    target, hours, pages = STOCK.format("hour", "false"), list[int](), 0
    while target:
        page = orjson.loads(answer(MARKET, policy, target, MONDAY).body)
        assert page["queryCount"] <= 100
        hours += [bar["t"] for bar in page["results"]]
        pages += 1
        target = page.get("next_url", "").removeprefix("https://api.polygon.io")
    whole = orjson.loads(answer(MARKET, sim_policy.Policy(), STOCK.format("hour", "false"), MONDAY).body)
    assert hours == [bar["t"] for bar in whole["results"]]
    assert pages > len(hours) / 3


# -- a fetch ---------------------------------------------------------------------------------------------------

CUT = sim_policy.Policy(page_cap=97, empty_pages="last", massive_delayed=True, massive_repeats=True)
BOTH = (
    "SELECT count(*) FROM (SELECT * EXCLUDE (provider, updated_at) FROM {0} WHERE provider = 'massive' "
    "EXCEPT SELECT * EXCLUDE (provider, updated_at) FROM {0} WHERE provider = 'alpaca')"
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, symbols=["AAAA", "BBBB"], policy=CUT) as found:
        yield found


def fetched(place: Desk, dataset: str, **asked: Any) -> Any:
    found = place.fetch(f"massive/{dataset}", **asked)
    assert (found.exit_code, found.summary.failures, found.summary.unknown_fields) == (0, (), ())
    return found.summary


def test_both_providers_bars_of_one_market_are_equal_row_by_row(place: Desk) -> None:
    starts = {"1Day": "2023-01-01", "1Hour": "2024-05-20", "1Week": "2022-01-01", "1Min": "2024-05-31"}
    for timeframe, start in starts.items():
        asked = {"symbols": ["AAAA", "BBBB"], "timeframe": timeframe, "start": start, "end": "2024-05-31"}
        assert fetched(place, "stock-bars", **asked).rows > 0
        place.fetch(**asked)
        adjusted = {**asked, "adjustment": "split"}
        fetched(place, "stock-bars", **adjusted)
        place.fetch(**adjusted)
    place.load()
    with duckdb.connect(str(place.db), read_only=True) as db:
        assert db.execute(BOTH.format("stock_bars")).fetchall() == [(0,)]
        counts = db.execute("SELECT provider, count(*) FROM stock_bars GROUP BY 1").fetchall()
        assert len({count for _, count in counts}) == 1
        assert {provider for provider, _ in counts} == {"alpaca", "massive"}


def test_contracts_are_found_and_their_bars_fetched_one_a_request(place: Desk) -> None:
    found = fetched(place, "option-contracts", underlyings=["AAAA"])
    asked = {"underlyings": ["AAAA"], "start": "2024-05-20", "end": "2024-05-31", "expiry_lte": "2024-06-30"}
    place.requests()
    bars_of = fetched(place, "option-bars", **asked)
    assert found.rows > 1_000
    assert bars_of.planned == bars_of.symbols > 50
    assert {entry.path.split("/")[4][:2] for entry in place.server.log} == {"O:"}
    place.fetch("option-contracts", underlyings=["AAAA"], expiry_gte="2024-01-01")
    place.fetch("option-bars", **asked)
    place.load()
    with duckdb.connect(str(place.db), read_only=True) as db:
        assert db.execute(BOTH.format("option_bars")).fetchall() == [(0,)]
        same = "SELECT contract_symbol, underlying, root_symbol, expiry, option_type, strike, size, style, status"
        same += " FROM option_contracts WHERE expiry BETWEEN '2024-06-03' AND '2024-12-31' AND provider ="
        assert db.execute(f"SELECT count(*) FROM ({same} 'massive' EXCEPT {same} 'alpaca')").fetchall() == [(0,)]
        assert db.execute(f"SELECT count(*) > 50 FROM ({same} 'massive')").fetchall() == [(True,)]


def test_a_second_fetch_asks_nothing_and_the_providers_cover_apart(place: Desk) -> None:
    asked = {"symbols": ["AAAA"], "start": "2024-05-01", "end": "2024-05-31"}
    fetched(place, "stock-bars", **asked)
    place.requests()
    assert fetched(place, "stock-bars", **asked).requests == place.requests() == 0
    assert place.fetch(**asked).summary.requests > 0
    assert "massive/stock-bars" in str(place.plan("stock-bars", provider="massive", symbols=["AAAA"]).question.jobs)


def test_an_endpoint_the_plan_lacks_is_forbidden_by_name_and_the_others_complete(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA"], policy=sim_policy.Policy(opra=False)) as place:
        listed_of = fetched(place, "option-contracts", underlyings=["AAAA"], expiry_gte="2024-01-01")
        refused = place.fetch("massive/option-bars", underlyings=["AAAA"], start="2024-05-01", expiry_lte="2024-06-30")
        stocks = fetched(place, "stock-bars", symbols=["AAAA"], start="2024-05-01")
    assert (refused.exit_code, refused.summary.requests) == (4, 1)
    assert "You are not entitled to this data" in refused.summary.stopped
    assert "The plan of MASSIVE_API_KEY does not include this data, or not so far back" in refused.summary.stopped
    assert listed_of.rows
    assert stocks.rows


def test_a_wrong_key_costs_one_request(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA"], policy=sim_policy.Policy(keys=(("K", "S"),))) as place:
        found = place.fetch("massive/stock-bars", symbols=["AAAA"], start="2024-05-01")
    assert (found.exit_code, found.summary.requests) == (4, 1)
    assert "Unknown API Key" in found.summary.stopped
    assert "MASSIVE_API_KEY" in found.summary.stopped


def test_every_dataset_of_the_provider_is_reached_by_its_name() -> None:
    names = ("stock-bars", "option-bars", "option-contracts", "option-snapshots")
    assert [catalog.resolve(name, "massive").name for name in names] == [f"massive/{name}" for name in names]

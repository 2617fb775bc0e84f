"""Massive's chains: the question, pages by cursor, every shape of an answer, and the imitation of it."""

from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from desk import MONDAY, Desk, desk

from stagingest.errors import PageError, UsageError
from stagingest.model.chunk import Chunk
from stagingest.model.page import Page
from stagingest.model.windows import Window
from stagingest.providers.massive.endpoints import MassiveOptionSnapshots
from stagingest.sim import imitation as sim_imitation
from stagingest.sim import policy as sim_policy
from stagingest.sim.market import market
from stagingest.sim.server import OURS

answer = partial(sim_imitation.answer, imitations=OURS)

CHAIN = MassiveOptionSnapshots()
ASKED = Chunk(CHAIN.canonical({}), ("SPY",), Window(date(2024, 6, 3), date(2024, 6, 4)))
FIRST = CHAIN.first(ASKED)
NEXT = "https://api.massive.com/v3/snapshot/options/SPY?cursor=YXA9MSZ"
ROW = {"details": {"ticker": "O:SPY240621C00500000"}}


def read(**envelope: Any) -> Page:
    return CHAIN.read(ASKED, FIRST, orjson.dumps(envelope))


# -- the question ----------------------------------------------------------------------------------------------


def test_the_question_has_dotted_bounds_the_largest_page_and_an_order_that_does_not_move() -> None:
    assert (FIRST.budget, FIRST.path) == ("massive/api", "/v3/snapshot/options/SPY")
    assert dict(FIRST.query) == {"limit": "250", "order": "asc", "sort": "ticker"}
    bounds = {"strike_gte": "1", "strike_lte": "2.50", "option_type": "put", "expiry_gte": "2024-01-01"}
    series = CHAIN.canonical(bounds | {"expiry_lte": "2024-12-31"})
    assert dict(CHAIN.first(Chunk(series, ("SPY",), ASKED.window)).query) == {
        "order": "asc", "sort": "ticker", "strike_price.gte": "1", "strike_price.lte": "2.5", "contract_type": "put",
        "expiration_date.gte": "2024-01-01", "expiration_date.lte": "2024-12-31", "limit": "250",
    }  # fmt: skip
    assert CHAIN.constants(series) == {"provider": "massive", "feed": ""}


def test_there_is_no_feed_to_choose() -> None:
    with pytest.raises(UsageError, match="has no feed"):
        CHAIN.canonical({"feed": "opra"})


@pytest.mark.parametrize(
    ("text", "symbol"),
    [("spy", "SPY"), ("brk/b", "BRK.B"), ("BRK-B", "BRK.B"), ("I:SPX", "I:SPX"), ("S PY", None), ("O:SPY", None)],
)
def test_an_underlying_is_spelled_as_massive_does(text: str, symbol: str | None) -> None:
    assert CHAIN.symbol(text) == symbol


# -- the answer ------------------------------------------------------------------------------------------------


def test_a_cursor_is_taken_out_of_its_address_and_sent_alone() -> None:
    for host in ("api.massive.com", "api.polygon.io"):
        page = read(results=[ROW], status="OK", next_url=NEXT.replace("api.massive.com", host))
        assert page.rows == 1
        assert page.next is not None
        assert (page.next.path, page.next.query) == (FIRST.path, (("cursor", "YXA9MSZ"),))
        again = CHAIN.read(ASKED, page.next, orjson.dumps({"results": [ROW] * 3, "status": "DELAYED"}))
        assert (again.rows, again.next) == (3, None)


@pytest.mark.parametrize(
    "address", ["https://evil.example/v3/snapshot/options/SPY?cursor=a", NEXT.replace("SPY", "AAPL"), NEXT[:-16], 7]
)
def test_an_address_that_leads_elsewhere_is_refused(address: Any) -> None:
    with pytest.raises(PageError, match="next_url"):
        read(results=[ROW], next_url=address)


@pytest.mark.parametrize(
    "envelope", [{}, {"results": None}, {"results": []}, {"status": "OK"}, {"status": "DELAYED", "next_url": ""}]
)
def test_no_results_are_no_rows_and_the_end(envelope: dict[str, Any]) -> None:
    page = read(**envelope)
    assert (page.table, page.next) == (None, None)


@pytest.mark.parametrize(
    ("envelope", "said"),
    [
        ({"status": "ERROR", "error": "Unknown API Key"}, "Unknown API Key"),
        ({"status": "NOT_AUTHORIZED", "message": "You are not entitled"}, "You are not entitled"),
        ({"status": "ERROR", "results": []}, "ERROR"),
        ({"results": {"a": 1}}, "no list"),
        ({"results": [1]}, "instead of an object"),
        ({"results": [ROW] * 251}, "251 rows where 250"),
    ],
)
def test_an_error_with_status_200_and_what_is_no_chain_are_refused(envelope: dict[str, Any], said: str) -> None:
    with pytest.raises(PageError, match=said):
        read(**envelope)


# -- a fetch ---------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    policy = sim_policy.Policy(page_cap=97, empty_pages="last", massive_delayed=True)
    with desk(tmp_path, symbols=["AAAA", "BBBB"], policy=policy) as found:
        yield found


def capture(place: Desk, **asked: Any) -> Any:
    return place.fetch("massive/option-snapshots", underlyings=["AAAA"], **asked)


def test_every_page_of_a_chain_is_followed_and_both_providers_say_the_same(place: Desk) -> None:
    fetched = capture(place)
    assert (fetched.exit_code, fetched.summary.outcomes, fetched.summary.unknown_fields) == (0, {"staged": 1}, ())
    assert [dict(entry.query).keys() for entry in place.server.log][1:] == [{"cursor"}] * (fetched.summary.pages - 1)
    place.fetch("alpaca/option-snapshots", underlyings=["AAAA"])
    massive, alpaca = (pq.read_table(path) for path in place.paths())
    differ = {"provider", "feed", "rho", "open_interest", "underlying_price"}
    same = [name for name in massive.column_names if name not in differ]
    assert massive.select(same).to_pylist() == alpaca.select(same).to_pylist()
    assert massive["open_interest"].null_count < massive.num_rows == alpaca["open_interest"].null_count
    assert massive["underlying_price"].null_count == 0


def test_duplicate_rows_of_a_page_are_staged_once(place: Desk) -> None:
    place.server.behave(sim_policy.Policy(page_cap=97, faults=(sim_policy.Fault("duplicate-rows"),)))
    capture(place)
    place.server.behave(sim_policy.Policy(page_cap=97))
    capture(place)
    twice, once = (pq.read_table(path).drop_columns("updated_at") for path in place.paths())
    assert twice.equals(once)


def test_a_wrong_key_and_a_plan_without_chains_are_exit_4_and_name_the_cause(place: Desk) -> None:
    place.server.behave(sim_policy.Policy(keys=(("other", "secret"),)))
    fetched = capture(place)
    assert (fetched.exit_code, place.requests()) == (4, 1)
    assert "Unknown API Key" in fetched.summary.stopped
    place.server.behave(sim_policy.Policy(opra=False))
    fetched = capture(place)
    assert (fetched.exit_code, place.requests()) == (4, 1)
    assert "not entitled" in fetched.summary.stopped
    assert "massive-key-of-the-test" not in str(fetched.summary)


def test_the_key_is_a_bearer_token_and_stands_in_no_address(place: Desk) -> None:
    capture(place)
    assert all("Authorization" in entry.headers for entry in place.server.log)
    assert "massive-key" not in str([(entry.path, entry.query) for entry in place.server.log])


# -- the imitation, held to what the provider documents -----------------------------------------------------------

NUMBER, TEXT, WHOLE = (int, float), (str,), (int,)
SCHEMA: dict[str, Any] = {
    "break_even_price": NUMBER,
    "day": {
        "change": NUMBER, "change_percent": NUMBER, "close": NUMBER, "high": NUMBER, "last_updated": WHOLE,
        "low": NUMBER, "open": NUMBER, "previous_close": NUMBER, "volume": NUMBER, "vwap": NUMBER,
    },
    "details": {
        "contract_type": TEXT, "exercise_style": TEXT, "expiration_date": TEXT, "shares_per_contract": NUMBER,
        "strike_price": NUMBER, "ticker": TEXT,
    },
    "greeks": dict.fromkeys(("delta", "gamma", "theta", "vega"), NUMBER),
    "implied_volatility": NUMBER,
    "last_quote": {
        "ask": NUMBER, "ask_size": NUMBER, "ask_exchange": WHOLE, "bid": NUMBER, "bid_size": NUMBER,
        "bid_exchange": WHOLE, "last_updated": WHOLE, "midpoint": NUMBER, "timeframe": TEXT,
    },
    "last_trade": {
        "conditions": (list,), "exchange": WHOLE, "price": NUMBER, "sip_timestamp": WHOLE, "size": WHOLE,
        "timeframe": TEXT,
    },
    "open_interest": NUMBER,
    "underlying_asset": {
        "ticker": TEXT, "price": NUMBER, "value": NUMBER, "change_to_break_even": NUMBER, "last_updated": WHOLE,
        "timeframe": TEXT,
    },
}  # fmt: skip


def misfits(value: Any, schema: Any, path: str = "") -> list[str]:
    """Members of a row that the schema does not know or that have another type."""
    if not isinstance(schema, dict):
        return [] if isinstance(value, schema) and not isinstance(value, bool) else [f"{path} {value!r}"]
    if not isinstance(value, dict):
        return [f"{path} {value!r}"]
    strange = [f"{path}.{name}" for name in value if name not in schema]
    known = (misfits(one, schema[name], f"{path}.{name}") for name, one in value.items() if name in schema)
    return [*strange, *(each for found in known for each in found)]


def test_the_imitations_chains_have_the_documented_members_and_types(place: Desk) -> None:
    found = answer(place.market, sim_policy.Policy(), "/v3/snapshot/options/AAAA?limit=250", MONDAY)
    page = orjson.loads(found.body)
    assert len(page["results"]) == 250
    assert [each for row in page["results"] for each in misfits(row, SCHEMA)] == []
    assert page["next_url"].startswith("https://api.polygon.io/v3/snapshot/options/AAAA?cursor=")
    assert {"status", "request_id", "results", "next_url"} == page.keys()
    members = [frozenset(row) for row in page["results"]]
    assert len(set(members)) > 1  # whatever is not known is left out
    assert any(row["greeks"] == {} for row in page["results"])
    assert page["results"][0]["details"]["ticker"].startswith("O:AAAA")


@pytest.mark.parametrize("words", ["limit=251", "limit=0", "cursor=!", "contract_type=calls", "strike_price.gte=x"])
def test_the_imitation_refuses_what_the_provider_does(words: str) -> None:
    found = answer(market.market_from(["AAAA"]), sim_policy.Policy(), f"/v3/snapshot/options/AAAA?{words}", MONDAY)
    assert (found.status, orjson.loads(found.body)["status"]) == (400, "ERROR")

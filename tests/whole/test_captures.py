"""Chains as they are now, from the question to the tables: always asked, whole or not at all, of one moment each."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from badlab import KEY, SECRET, Place, with_body
from desk import MONDAY, Desk, desk
from faultserver import Answer, FaultServer, Peer, whole

import stagingest
from stagingest.api.fetch import Fetched
from stagingest.errors import UsageError
from stagingest.model.task import Outcome
from stagingest.sim import policy

CHAIN = "option-snapshots"
PAGES = policy.Policy(page_cap=400)
MINUTE = timedelta(minutes=1)
ROUTE = "/v1beta1/options/snapshots"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, symbols=["AAAA", "BBBB"], policy=PAGES) as found:
        yield found


def capture(place: Desk, *underlyings: str, **asked: Any) -> Fetched:
    return place.fetch(CHAIN, underlyings=underlyings or ("AAAA",), **asked)


def moments(place: Desk) -> list[tuple[str, datetime, int]]:
    """(underlying, moment, rows) of every staged file."""
    found = []
    for path in place.paths():
        table = pq.read_table(path, columns=["underlying", "snapshot_ts"])
        assert table.group_by(["underlying", "snapshot_ts"]).aggregate([]).num_rows == 1
        (row,) = table.slice(0, 1).to_pylist()
        found.append((row["underlying"], row["snapshot_ts"], table.num_rows))
    return found


def ask(place: Desk, text: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(place.db), read_only=True) as db:
        return db.execute(text).fetchall()


NOW = MONDAY.replace(tzinfo=None)


def test_two_fetches_a_minute_apart_are_two_captures(place: Desk) -> None:
    active = [one for one in place.market.contracts("AAAA", MONDAY.date()) if one.active(MONDAY.date())]
    assert capture(place).summary.pages == 3
    place.now += MINUTE
    assert capture(place).summary.outcomes == {"staged": 1}
    assert moments(place) == [("AAAA", NOW, len(active)), ("AAAA", NOW + MINUTE, len(active))]
    (standing,) = stagingest.status(place.staging).datasets
    assert (standing.planned, standing.open, standing.staged, standing.rows) == (2, 0, 2, 2 * len(active))
    assert place.load().rows == 2 * len(active)
    assert ask(place, "SELECT count(*), count(DISTINCT snapshot_ts) FROM option_snapshots") == [(2 * len(active), 2)]
    assert ask(place, 'SELECT symbol, status, "rows" FROM coverage') == [("AAAA", "ok", 2 * len(active))]
    assert place.load().entries == 0


def test_a_fetch_always_asks_and_says_nothing_of_open_time(place: Desk) -> None:
    for _ in range(2):
        summary = capture(place).summary
        assert (summary.planned, summary.provisional, summary.symbols_covered, summary.to_do) == (1, 0, 0, 0)
    place.load()
    assert capture(place, db=place.db).summary.planned == 1
    assert not any(entry.covers for entry in place.entries())


def test_bounds_are_kept_by_the_provider_and_are_no_columns(place: Desk) -> None:
    capture(
        place, strike_gte="200", strike_lte=230, option_type="call", expiry_gte="2024-06-10", expiry_lte="2024-07-31"
    )
    (path,) = place.paths()
    symbols = pq.read_table(path)["contract_symbol"].to_pylist()
    assert symbols
    assert all("C00" in symbol and 200 <= int(symbol[-8:]) / 1000 <= 230 for symbol in symbols)
    assert all("240610" <= symbol[4:10] <= "240731" for symbol in symbols)
    asked = dict(place.server.log[-1].query)
    assert {asked[name] for name in ("strike_price_gte", "strike_price_lte", "type")} == {"200", "230", "call"}


def test_a_chain_is_staged_whole_or_not_at_all(place: Desk) -> None:
    fault = policy.Fault("status", route=ROUTE, contains="page_token", nth=(2, 3, 4, 5, 6, 7), status=500)
    place.server.behave(policy.Policy(page_cap=400, faults=(fault,)))
    fetched = capture(place)
    assert (fetched.exit_code, fetched.summary.rows, fetched.summary.pages) == (3, 0, 2)
    assert [(entry.outcome, entry.path, entry.covers) for entry in place.entries()] == [(Outcome.FAILED, "", False)]
    assert not list((place.staging / "tmp").iterdir())
    assert stagingest.retry(place.staging).chunks == ()
    place.server.behave(PAGES)
    place.now += MINUTE
    capture(place)
    assert [moment for _, moment, _ in moments(place)] == [NOW + MINUTE]


def test_a_capture_that_a_run_left_open_is_lost_and_never_completed(place: Desk) -> None:
    capture(place, "AAAA", "BBBB", max_chunks=1)
    capture(place, "BBBB", option_type="put", max_requests=1)
    place.now += timedelta(hours=3)
    assert capture(place, "AAAA").summary.outcomes == {"staged": 1}
    found = [(entry.chunk.symbols, entry.outcome, entry.reason) for entry in place.entries()]
    lost = "the run ended before it; its moment is over"
    assert [each for each in found if each[1] is Outcome.LOST] == [
        (("BBBB",), Outcome.LOST, lost), (("BBBB",), Outcome.LOST, lost),
    ]  # fmt: skip
    assert [(name, moment) for name, moment, _ in moments(place)] == [("AAAA", NOW), ("AAAA", NOW + timedelta(hours=3))]
    assert sum(each.open for each in stagingest.status(place.staging).datasets) == 0


def test_chains_of_a_watchlist_are_captured(place: Desk) -> None:
    lists = place.root / "lists.json"
    lists.write_text('{"mine": ["BBBB", "aaaa", "CSP1!"]}')
    fetched = place.fetch(CHAIN, watchlist=["mine"], watchlists_file=lists)
    assert (fetched.exit_code, fetched.question.names.rejected) == (3, ("CSP1!",))
    assert sorted(name for name, _, _ in moments(place)) == ["AAAA", "BBBB"]


def test_who_was_asked_longest_ago_is_asked_first(place: Desk) -> None:
    for _ in range(3):
        assert capture(place, "AAAA", "BBBB", max_underlyings=1).summary.ended_by == "--max-underlyings 1"
        place.now += MINUTE
    assert [name for name, _, _ in moments(place)] == ["AAAA", "BBBB", "AAAA"]
    # Each has strikes of its own around its price, and so a series.
    for _ in range(2):
        capture(place, "AAAA", "BBBB", max_underlyings=1, moneyness="0.9..1.1")
        place.now += MINUTE
    chains = [entry for entry in place.entries() if entry.chunk.series.endpoint.endswith(CHAIN) and entry.path]
    assert [entry.chunk.symbols[0] for entry in chains[3:]] == ["BBBB", "AAAA"]
    assert 0 < chains[4].rows < chains[0].rows


def test_an_underlying_that_is_refused_is_asked_again_tomorrow_or_after_a_retry(place: Desk) -> None:
    unknown = policy.Fault("status", route=f"{ROUTE}/BBBB", status=404, body=b'{"message":"no such underlying"}')
    place.server.behave(policy.Policy(faults=(unknown,)))
    assert capture(place, "AAAA", "BBBB").summary.outcomes == {"refused": 1, "staged": 1}
    place.requests()
    again = capture(place, "AAAA", "BBBB")
    assert (again.exit_code, again.summary.outcomes, place.requests()) == (3, {"staged": 1}, 1)
    assert "no such underlying" in again.summary.failures[0].reason
    place.now += timedelta(days=1)
    assert capture(place, "AAAA", "BBBB").summary.outcomes == {"refused": 1, "staged": 1}
    retried = stagingest.retry(place.staging)
    assert retried.symbols == ("BBBB",)
    assert retried.commands == (("fetch", "alpaca/option-snapshots", "--underlyings", "BBBB", "--feed", "indicative"),)
    place.server.behave(PAGES)
    assert capture(place, "AAAA", "BBBB").summary.outcomes == {"staged": 2}
    place.server.behave(policy.Policy(faults=(unknown,)))
    capture(place, "BBBB")
    place.server.behave(PAGES)
    place.now += timedelta(days=1)
    assert capture(place, "AAAA", "BBBB").exit_code == 0


def test_a_plan_names_pages_and_no_window_may_be_asked(place: Desk) -> None:
    plan = place.plan(CHAIN, underlyings=["AAAA", "BBBB"]).plan
    assert (len(plan.chunks), plan.estimates["alpaca/data"].requests) == (2, 6)
    assert not place.staging.exists()
    for words in ({"start": "2024-05-01"}, {"end": "2024-05-31"}):
        with pytest.raises(UsageError, match="is of now"):
            capture(place, **words)
    with pytest.raises(UsageError, match="--max-expiries 1 is not for"):
        capture(place, max_expiries=1)
    with pytest.raises(UsageError, match="no feed 'sip'"):
        capture(place, feed="sip")
    with pytest.raises(UsageError, match="No underlyings"):
        place.fetch(CHAIN)


def test_an_agreement_that_is_missing_is_named_and_the_free_feed_answers(place: Desk) -> None:
    place.server.behave(policy.Policy(opra=False))
    fetched = capture(place, feed="opra")
    assert fetched.exit_code == 4
    assert "OPRA agreement is not signed" in fetched.summary.stopped
    assert capture(place).exit_code == 0


def test_captures_are_pruned_verified_and_rebuilt_like_everything_staged(place: Desk) -> None:
    capture(place)
    place.now += MINUTE
    capture(place)
    before = moments(place)
    (place.staging / "manifest.sqlite").unlink()
    assert stagingest.repair(place.staging).files == 2
    assert moments(place) == before
    assert [each.staged for each in stagingest.status(place.staging).datasets] == [2]
    place.load()
    assert stagingest.prune(place.staging, loaded_in=place.db).files == 2
    assert not stagingest.verify(place.staging, place.db).disagreements
    other = place.root / "other.duckdb"
    assert place.load(other).pruned == ()
    (wrong,) = stagingest.verify(place.staging, other).disagreements
    assert "2 captures were pruned" in wrong.what
    assert capture(place).summary.outcomes == {"staged": 1}


# -- answers chosen byte by byte -------------------------------------------------------------------------------


def page(at: datetime, symbol: str, token: str | None = None) -> Answer:
    """A page with a snapshot of one contract, answered at that moment of the provider's clock."""

    def answer(peer: Peer) -> None:
        body = json.dumps({"snapshots": {symbol: {"impliedVolatility": 0.5}}, "next_page_token": token}).encode()
        peer.send(whole(body, "Content-Type: application/json", f"Date: {format_datetime(at, usegmt=True)}"))

    return answer


def refuse(at: datetime, status: str) -> Answer:
    return lambda peer: peer.send(whole(b"{}", f"Date: {format_datetime(at, usegmt=True)}", status=status))


@contextmanager
def facing(root: Path, *answers: Answer) -> Iterator[tuple[Place, Fetched]]:
    """What became of a fetch of one chain that is answered in turn."""
    with FaultServer(*answers) as server:
        found = Place(root, server)
        settings = {"processes": 0, "lanes": 1, "max_rps": 5000, "staging": found.staging}
        yield found, stagingest.fetch(CHAIN, underlyings=["AAPL"], environ=found.environ, listener=found, **settings)


ONE, TWO = "AAPL240621C00150500", "AAPL240621P00150500"


def test_a_chain_over_several_pages_is_of_one_moment_or_begun_again(tmp_path: Path) -> None:
    soon, late = MONDAY + timedelta(minutes=9), MONDAY + timedelta(minutes=11)
    with facing(tmp_path / "soon", page(MONDAY, ONE, "t"), page(soon, TWO)) as (place, fetched):
        assert fetched.summary.outcomes == {"staged": 1}
        assert place.rows()["snapshot_ts"].to_pylist() == [NOW, NOW]
    pages = page(MONDAY, ONE, "t"), page(late, TWO), page(late, ONE, "t"), page(late + MINUTE, TWO)
    with facing(tmp_path / "late", *pages) as (place, fetched):
        assert (fetched.summary.outcomes, fetched.summary.requests) == ({"staged": 1}, 4)
        assert place.rows()["snapshot_ts"].to_pylist() == [late.replace(tzinfo=None)] * 2
    pages = page(MONDAY, ONE, "t"), page(late, TWO), page(late, ONE, "t"), page(late + timedelta(minutes=11), TWO)
    with facing(tmp_path / "never", *pages) as (place, fetched):
        assert (fetched.exit_code, fetched.summary.outcomes) == (3, {"failed": 1})
        assert "too far apart to show one moment" in fetched.summary.failures[0].reason


def test_the_moment_is_that_of_the_first_page_that_came(tmp_path: Path) -> None:
    answers = refuse(MONDAY, "500 Oops"), page(MONDAY + MINUTE, ONE, "t"), page(MONDAY + 2 * MINUTE, TWO)
    with facing(tmp_path / "trouble", *answers) as (place, fetched):
        assert fetched.summary.outcomes == {"staged": 1}
        assert set(place.rows()["snapshot_ts"].to_pylist()) == {NOW + MINUTE}
    expired = refuse(MONDAY + MINUTE, "400 Bad Request")
    answers = page(MONDAY, ONE, "t"), expired, page(MONDAY + 2 * MINUTE, ONE, "t"), page(MONDAY + 3 * MINUTE, TWO)
    with facing(tmp_path / "expired", *answers) as (place, fetched):
        assert fetched.summary.outcomes == {"staged": 1}
        assert set(place.rows()["snapshot_ts"].to_pylist()) == {NOW + 2 * MINUTE}


def test_a_contract_on_two_pages_is_one_row_unless_they_differ(tmp_path: Path) -> None:
    with facing(tmp_path / "same", page(MONDAY, ONE, "t"), page(MONDAY, ONE)) as (place, fetched):
        assert (fetched.summary.outcomes, fetched.summary.rows) == ({"staged": 1}, 1)

    def other(peer: Peer) -> None:
        peer.send(whole(json.dumps({"snapshots": {ONE: {"impliedVolatility": 0.6}}}).encode()))

    with facing(tmp_path / "other", page(MONDAY, ONE, "t"), other) as (place, fetched):
        assert fetched.summary.outcomes == {"conflict": 1}
        assert [entry.path for entry in place.entries()] == [""]
    assert KEY not in fetched.summary.failures[0].reason
    assert SECRET not in fetched.summary.failures[0].reason


def test_a_page_that_was_asked_ahead_and_is_not_the_next_one_is_dropped(tmp_path: Path) -> None:
    decoy = {"next_page_token": None, "snapshots": {ONE: {"new": {"next_page_token": "decoy"}}}}
    said = with_body(json.dumps(decoy, separators=(",", ":")).encode())
    with facing(tmp_path, said, page(MONDAY, TWO)) as (place, fetched):
        assert (fetched.summary.outcomes, fetched.summary.pages, fetched.summary.requests) == ({"staged": 1}, 1, 2)
        assert place.rows()["contract_symbol"].to_pylist() == [ONE]


def test_a_page_asked_ahead_that_fails_is_asked_again(tmp_path: Path) -> None:
    answers = page(MONDAY, ONE, "t"), refuse(MONDAY, "503 Busy"), page(MONDAY + MINUTE, TWO)
    with facing(tmp_path, *answers) as (place, fetched):
        assert (fetched.summary.outcomes, fetched.summary.requests) == ({"staged": 1}, 3)
        assert place.rows()["contract_symbol"].to_pylist() == [ONE, TWO]
        assert set(place.rows()["snapshot_ts"].to_pylist()) == {NOW}

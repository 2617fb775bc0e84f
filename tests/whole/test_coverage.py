"""What may count as known: nothing that was not asked, of one price base, and answered."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from desk import MONDAY, Desk, desk

from stagingest.model.task import Outcome
from stagingest.sim import policy
from stagingest.staging.manifest import Manifest
from stagingest.targets.duckdb.connection import read

SPLIT = {"AAAA": [(date(2024, 6, 5), 4.0)]}
AFTER = MONDAY + timedelta(days=7)


def adjusted(place: Desk, start: str, end: str, **more: Any) -> Any:
    return place.fetch(symbols=["AAAA", "BBBB"], adjustment="split", start=start, end=end, **more)


def closes(place: Desk, symbol: str) -> list[float]:
    place.load()
    return [row[0] for row in read(place.db, f"SELECT close FROM stock_bars WHERE symbol = '{symbol}' ORDER BY ts")[1]]


@pytest.fixture
def place(tmp_path: Path):  # type: ignore[no-untyped-def]
    with desk(tmp_path, symbols=["AAAA", "BBBB"], splits=SPLIT) as made:
        yield made


def test_a_disjoint_window_of_a_series_whose_base_has_moved_fetches_it_whole(place: Desk) -> None:
    adjusted(place, "2024-01-02", "2024-02-29")
    place.now = AFTER
    assert adjusted(place, "2024-05-01", "2024-06-07").summary.refetched == ("AAAA",)
    prices = closes(place, "AAAA")
    assert max(prices) < 2 * min(prices)


def test_a_kill_before_the_moved_base_is_recorded_leaves_it_to_the_next_run(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    adjusted(place, "2024-01-02", "2024-05-31")
    place.now = AFTER

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Manifest, "void", die)
    with pytest.raises(KeyboardInterrupt):
        adjusted(place, "2024-01-02", "2024-06-07")
    monkeypatch.undo()
    assert adjusted(place, "2024-01-02", "2024-06-07").summary.refetched == ("AAAA",)
    prices = closes(place, "AAAA")
    assert max(prices) < 2 * min(prices)


def test_chunks_an_earlier_run_left_open_do_not_join_two_price_bases(tmp_path: Path) -> None:
    refuse = policy.Fault("status", nth=tuple(range(7, 99)), status=401)
    with desk(tmp_path, symbols=["AAAA"], splits=SPLIT, policy=policy.Policy(faults=(refuse,))) as place:
        asked = {"symbols": ["AAAA"], "adjustment": "split", "timeframe": "1Min", "start": "2023-06-01"}
        stopped = place.fetch(end="2024-05-31", lanes=1, **asked)
        assert stopped.summary.left
        assert stopped.summary.rows
        place.server.behave(policy.Policy())
        place.now = AFTER
        assert place.fetch(end="2024-05-31", **asked).summary.refetched == ("AAAA",)
        prices = closes(place, "AAAA")
        assert max(prices) < 3 * min(prices)


def test_weeks_of_an_adjusted_series_are_asked_whole_also_at_their_anchor(place: Desk) -> None:
    adjusted(place, "2024-02-05", "2024-03-01", timeframe="1Week")
    adjusted(place, "2024-01-08", "2024-03-29", timeframe="1Week")
    for entry in place.entries():
        assert entry.chunk.window.start.weekday() == entry.chunk.window.end.weekday() == 0


def test_an_answer_that_came_late_covers_only_what_was_asked(place: Desk) -> None:
    place.now = datetime(2024, 6, 3, 18, 30, tzinfo=UTC)
    order_given = place.now
    asked = {"symbols": ["BBBB"], "timeframe": "1Min", "start": "2024-06-03", "end": "2024-06-03"}
    place.fetch(**asked)  # in the session: provisional
    place.now = datetime(2024, 6, 4, 0, 45, tzinfo=UTC)
    place.user_now = order_given
    place.fetch(**asked)
    assert [entry.covers for entry in place.entries()] == [False, False]


def test_a_wrong_base_url_stops_the_endpoint_and_refuses_no_symbol(tmp_path: Path) -> None:
    nowhere = policy.Fault("status", status=404, body=b"Not Found")
    with desk(tmp_path, symbols=40, policy=policy.Policy(faults=(nowhere,))) as place:
        asked = {"symbols": place.market.symbols, "start": "2024-05-01", "end": "2024-05-31"}
        fetched = place.fetch(**asked)
        assert fetched.exit_code == 1
        assert place.requests() < 20
        assert "APCA_API_DATA_URL" in fetched.summary.stopped
        place.server.behave(policy.Policy())
        assert place.fetch(**asked).exit_code == 0
        assert len(set(place.rows()["symbol"].to_pylist())) > 30


def test_a_canary_whose_every_symbol_is_named_bad_makes_way_for_the_rest(tmp_path: Path) -> None:
    body = b'{"message":"invalid symbol: BADD"}'
    bad = policy.Fault("status", contains="BADD", status=400, body=body)
    with desk(tmp_path, symbols=3, policy=policy.Policy(faults=(bad,))) as place:
        place.fetch(symbols=["BADD"], start="2024-05-01", end="2024-05-31")
        fetched = place.fetch(symbols=["BADD", *place.market.symbols], start="2024-04-01", end="2024-05-31")
        assert [failure.symbol for failure in fetched.summary.failures] == ["BADD"]
        assert len(set(place.rows()["symbol"].to_pylist())) == 3
        assert fetched.summary.left == 0


def test_a_wrong_key_costs_one_request_for_contracts_too(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA"], policy=policy.Policy(keys=(("right", "pair"),))) as place:
        assert place.fetch("option-contracts", underlyings=["AAAA"]).exit_code == 4
        assert place.requests() == 1


def test_an_underlying_without_contracts_does_not_block_the_others(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA"]) as place:
        place.fetch("option-contracts", underlyings=["AAAA", "ZZZZ"], expiry_gte="2024-06-01", expiry_lte="2024-12-31")
        fetched = place.fetch("option-bars", underlyings=["AAAA", "ZZZZ"], start="2024-05-01", end="2024-05-31")
        assert fetched.summary.rows > 0
        assert "No contracts are listed for ZZZZ." in fetched.question.notes


def test_short_pages_are_followed_to_their_end(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=40, policy=policy.Policy(page_cap=20)) as place:
        fetched = place.fetch(symbols=place.market.symbols, start="2024-01-02", end="2024-05-31", max_rps=None)
        assert {entry.outcome for entry in place.entries()} == {Outcome.STAGED}
        assert fetched.summary.pages > 150


def test_a_bar_staged_while_a_load_begins_waits_for_the_next_load(place: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from stagingest.loading import loader

    today = {"start": "2024-06-03", "end": "2024-06-03"}
    place.now = datetime(2024, 6, 3, 16, 0, tzinfo=UTC)
    place.fetch(symbols=["AAAA"], **today)
    place.load()
    place.fetch(symbols=["BBBB"], start="2024-05-01", end="2024-05-31", timeframe="1Hour")
    surveyed = loader._Load._survey

    def survey_then_stage(self: Any) -> Any:
        found = surveyed(self)
        monkeypatch.undo()
        place.now = datetime(2024, 6, 4, 12, 0, tzinfo=UTC)
        place.fetch(symbols=["AAAA"], **today)
        return found

    monkeypatch.setattr(loader._Load, "_survey", survey_then_stage)
    place.load()
    place.load()
    text = "SELECT count(*), count(DISTINCT (symbol, ts, \"interval\")) FROM stock_bars WHERE symbol = 'AAAA'"
    assert read(place.db, text)[1] == [(1, 1)]


def test_symbols_given_up_are_named_in_every_run_until_they_are_had(tmp_path: Path) -> None:
    body = b'{"message":"invalid symbol: BADD"}'
    bad = policy.Fault("status", contains="BADD", status=400, body=body)
    with desk(tmp_path, symbols=["AAAA", "BADD"], policy=policy.Policy(faults=(bad,))) as place:
        asked = {"symbols": ["AAAA", "BADD"], "start": "2024-05-01", "end": "2024-05-31"}
        place.fetch(**asked)
        place.requests()
        again = place.fetch(**asked)
        assert (place.requests(), again.exit_code, again.summary.success_percent) == (0, 3, 50.0)
        assert [(failure.symbol, failure.outcome) for failure in again.summary.failures] == [("BADD", "refused")]
        assert "`stagingest retry` makes it due" in again.summary.failures[0].reason
        place.server.behave(policy.Policy())
        assert place.fetch(resume=False, **asked).exit_code == 0
        assert place.fetch(**asked).exit_code == 0


def test_what_was_not_had_is_no_success(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=4, policy=policy.Policy(keys=(("right", "pair"),))) as place:
        summary = place.fetch(symbols=place.market.symbols, start="2024-05-01", end="2024-05-31").summary
        assert (summary.success_percent, summary.symbols_per_s) == (0.0, 0.0)


def test_a_low_rate_keeps_few_chunks_in_flight(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=12, policy=policy.Policy(page_cap=300, rate_per_min=600)) as place:
        seen: list[int] = []
        place.progress = lambda progress: seen.append(progress.in_flight)  # type: ignore[method-assign]
        asked = {"symbols": place.market.symbols, "timeframe": "1Min", "start": "2024-05-20", "end": "2024-05-24"}
        place.fetch(max_rps=10, **asked)
        assert max(seen) <= 4

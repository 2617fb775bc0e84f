"""A run that ends by itself keeps what it has, and the same command continues it."""

from pathlib import Path

import pytest
from desk import Desk, desk

from stagingest.errors import UsageError
from stagingest.sim import policy

MINUTES = {"timeframe": "1Min", "start": "2024-05-06", "end": "2024-05-24"}


@pytest.fixture
def place(tmp_path: Path) -> "Desk":
    with desk(tmp_path, symbols=8, policy=policy.Policy(page_cap=2_000)) as place:
        yield place


def whole(place: Desk) -> int:
    """Rows staged, each once."""
    table = place.rows()
    assert len(set(zip(table["symbol"].to_pylist(), table["ts"].to_pylist(), strict=True))) == table.num_rows
    return table.num_rows


def until_done(place: Desk, **capped: object) -> int:
    """Runs of the same command until nothing is left."""
    for runs in range(1, 100):
        fetched = place.fetch(symbols=place.market.symbols, **MINUTES, **capped)
        assert fetched.exit_code == 0
        if not fetched.summary.ended_by:
            assert not fetched.summary.left
            return runs
    raise AssertionError("the same command does not come to an end")


def truth(tmp_path: Path) -> int:
    with desk(tmp_path / "calm", symbols=8, policy=policy.Policy(page_cap=2_000)) as calm:
        calm.fetch(symbols=calm.market.symbols, **MINUTES)
        return whole(calm)


def test_max_chunks_ends_a_run_and_the_same_command_continues(place: Desk, tmp_path: Path) -> None:
    first = place.fetch(symbols=place.market.symbols, **MINUTES, max_chunks=3)
    assert (first.exit_code, first.summary.ended_by) == (0, "--max-chunks 3")
    assert first.summary.outcomes == {"staged": 3}
    assert first.summary.left == first.summary.planned - 3 > 0
    assert until_done(place, max_chunks=3) > 1
    assert whole(place) == truth(tmp_path)


@pytest.mark.parametrize("processes", [0, 2])
def test_max_requests_is_never_exceeded_and_the_same_command_continues(
    place: Desk, tmp_path: Path, processes: int
) -> None:
    for _ in range(100):
        fetched = place.fetch(symbols=place.market.symbols, **MINUTES, max_requests=30, processes=processes)
        assert place.requests() <= 30
        assert fetched.exit_code == 0
        if not fetched.summary.ended_by:
            break
        assert fetched.summary.ended_by == "--max-requests 30"
        assert fetched.summary.outcomes["staged"] > 0
    assert whole(place) == truth(tmp_path)


def test_max_minutes_ends_a_run_that_would_take_longer(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=8, policy=policy.Policy(page_cap=2_000, latency_s=0.2)) as place:
        fetched = place.fetch(symbols=place.market.symbols, **MINUTES, max_minutes=0.02, lanes=1)
        assert (fetched.exit_code, fetched.summary.ended_by) == (0, "--max-minutes 0.02")
        assert fetched.summary.left
        assert place.fetch(symbols=place.market.symbols, **MINUTES).summary.left == 0


def test_fail_fast_ends_at_the_first_failure_with_the_code_of_its_cause(tmp_path: Path) -> None:
    broken = policy.Policy(page_cap=2_000, faults=(policy.Fault("status", contains="page_token", status=500),))
    with desk(tmp_path, symbols=8, policy=broken) as place:
        fetched = place.fetch(symbols=place.market.symbols, **MINUTES, fail_fast=True, lanes=1)
        assert (fetched.exit_code, fetched.summary.ended_by) == (5, "--fail-fast")
        assert fetched.summary.left > 0
        place.server.behave(policy.Policy(page_cap=2_000))
        assert place.fetch(symbols=place.market.symbols, **MINUTES).exit_code == 0


def test_what_was_sent_for_chunks_that_were_dropped_is_counted(tmp_path: Path) -> None:
    hang = policy.Fault("hang", nth=(3,))
    with desk(tmp_path, symbols=1, policy=policy.Policy(page_cap=20, faults=(hang,))) as place:
        days = {"start": "2023-01-03", "end": "2024-05-31"}
        fetched = place.fetch(symbols=place.market.symbols, **days, max_minutes=0.02, lanes=1)
        place.server.release()
        assert (fetched.summary.ended_by, fetched.summary.outcomes) == ("--max-minutes 0.02", {})
        assert fetched.summary.requests == 2


def test_max_contracts_asks_the_next_ones_the_next_time(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=3) as place:
        place.fetch("option-contracts", underlyings=place.market.symbols[:2], expiry_gte="2024-01-01")
        asked = {"underlyings": place.market.symbols[:2], "start": "2024-05-06", "end": "2024-05-24"}
        every = place.plan("option-bars", **asked).plan.symbols
        seen: set[str] = set()
        for _ in range(3):
            fetched = place.fetch("option-bars", max_contracts=40, **asked)
            new = {symbol for entry in place.entries() for symbol in entry.chunk.symbols if len(symbol) > 6} - seen
            assert (len(new), fetched.summary.ended_by) == (40, "--max-contracts 40")
            seen |= new
        assert place.fetch("option-bars", **asked).summary.symbols_covered == len(seen) < every


def test_max_underlyings_and_max_expiries_keep_the_first_families_and_the_next_expiries(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=3) as place:
        names = place.market.symbols
        place.fetch("option-contracts", underlyings=names, expiry_gte="2024-01-01")
        asked = {"underlyings": names, "start": "2024-05-06", "end": "2024-05-24"}
        looked = place.plan("option-bars", max_underlyings=1, max_expiries=2, **asked)
        symbols = {symbol for chunk in looked.plan.all_chunks for symbol in chunk.symbols}
        assert {symbol[:-15] for symbol in symbols} == {min(names)}
        assert len({symbol[-15:-9] for symbol in symbols}) == 2


def test_bounds_on_contracts_are_refused_where_they_mean_nothing(place: Desk) -> None:
    with pytest.raises(UsageError, match="--max-contracts 5 is not for alpaca/stock-bars"):
        place.fetch(symbols=place.market.symbols, **MINUTES, max_contracts=5)
    with pytest.raises(UsageError, match="--max-expiries 5 is not for alpaca/option-contracts"):
        place.plan("option-contracts", underlyings=place.market.symbols, max_expiries=5)

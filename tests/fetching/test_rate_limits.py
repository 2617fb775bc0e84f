"""Limits of a run by endpoint, and the record of what the limiter did."""

import json
from pathlib import Path
from typing import Any

import pytest
from desk import desk

from stagingest.errors import UsageError
from stagingest.http.rate import Feedback
from stagingest.http.rate_limiter import SharedLimiter
from stagingest.sim import policy

MAY: dict[str, Any] = {"start": "2024-05-01", "end": "2024-05-31"}


def test_every_request_is_in_the_record_of_the_rate(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=6, policy=policy.Policy(page_cap=20)) as place:
        fetched = place.fetch(symbols=place.market.symbols, **MAY)
        (path,) = (place.staging / "log").glob("*.rates.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert path.name == f"{fetched.summary.run}.rates.jsonl"
        assert path.stat().st_mode & 0o777 == 0o600
        assert sum(line["answered"] for line in lines) == fetched.summary.requests
        assert {line["budget"] for line in lines} == {"alpaca/data"}


def test_who_wants_to_watch_is_told_what_the_limiter_does(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2, policy=policy.Policy(rate_per_min=600)) as place:
        place.fetch(symbols=place.market.symbols, log_rate_limits=True, **MAY)
        assert any("alpaca/data: " in said and "the headers allow 597 a minute" in said for said in place.said)


def test_the_rate_of_another_endpoint_does_not_bind_this_one(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        fetched = place.fetch(symbols=place.market.symbols, max_rps={"alpaca/option-bars": 0.001, "": 5000}, **MAY)
        assert fetched.exit_code == 0


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ({"alpaca/stock-bar": 3.0}, "nearest is alpaca/stock-bars"),
        ({"": 0.0}, "greater than 0"),
        (-1.0, "greater than 0"),
    ],
)
def test_a_rate_of_an_unknown_endpoint_or_that_is_none_is_refused(tmp_path: Path, rates: Any, words: str) -> None:
    with desk(tmp_path, symbols=1) as place, pytest.raises(UsageError, match=words):
        place.fetch(symbols=place.market.symbols, max_rps=rates, **MAY)


def test_another_declared_plan_keeps_the_limit_that_was_just_met(tmp_path: Path) -> None:
    now = [1000.0]
    running = SharedLimiter(tmp_path / "one.permit", 3.3, clock=lambda: now[0])
    running.report(Feedback(200, running.permit().slot_s, limit=200, remaining=100, reset_in_s=30.0))
    told = running.state().told_per_s
    other = SharedLimiter(tmp_path / "one.permit", 3.3, declared_per_s=50.0, clock=lambda: now[0])
    assert other.state().told_per_s == told
    assert other.state().granted_per_s <= told
    now[0] += 3600
    later = SharedLimiter(tmp_path / "one.permit", 3.3, declared_per_s=60.0, clock=lambda: now[0])
    assert later.state().granted_per_s == 60.0

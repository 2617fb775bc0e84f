"""Top-ups: from where what is known ends to now, for months, and equal in the end to one calm fetch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from desk import Desk, desk

from stagingest.errors import UsageError
from stagingest.model import calendar
from stagingest.sim import policy
from stagingest.sim import server as sim_server
from stagingest.sim.market import market as market_market
from stagingest.targets.duckdb.connection import read

FIRST, LAST = date(2024, 4, 1), date(2024, 6, 28)
SPLIT, REVISED, TOLD = date(2024, 5, 14), date(2024, 6, 4), date(2024, 6, 6)
GONE, CAME = date(2024, 5, 3), date(2024, 5, 20)
MISSED = range(date(2024, 4, 22).toordinal(), date(2024, 4, 27).toordinal())
SYMBOLS = ["CAME", "CALM", "GONE", "LATE", "SPLT"]


@dataclass
class Eventful:
    """A market in which a symbol is listed, one is delisted, and one session of one is told wrongly until later."""

    inner: Any
    wrong: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def stock_bars(
        self, symbol: str, spec: Any, first_s: int, last_s: int, moment: Any, *, descending: bool
    ) -> Iterator[Any]:
        def runs(market: Any, first: int, last: int) -> Iterator[Any]:
            for run in market.stock_bars(symbol, spec, first, last, moment, descending=descending):
                yield run.part(*run.span(first, last))

        last_s = min(last_s, _at(GONE) - 1) if symbol == "GONE" else last_s
        first_s = max(first_s, _at(CAME)) if symbol == "CAME" else first_s
        day = _at(REVISED)
        if symbol != "LATE" or moment.today >= TOLD or not first_s <= day <= last_s:
            yield from runs(self.inner, first_s, last_s)
            return
        yield from runs(self.inner, first_s, day - 1)
        yield from runs(self.wrong, day, day)
        yield from runs(self.inner, day + 1, last_s)


def _at(day: date) -> int:
    return int(calendar.instant(day).timestamp())


@contextmanager
def eventful(root: Path) -> Iterator[Desk]:
    inner, wrong = (market_market.market_from(SYMBOLS, seed=seed, splits={"SPLT": [(SPLIT, 4.0)]}) for seed in (0, 1))
    place = Desk(root, inner, None, evening(FIRST))  # type: ignore[arg-type]
    with sim_server.Server(Eventful(inner, wrong), clock=lambda: place.now) as server:
        place.server = server
        yield place


def evening(day: date) -> datetime:
    return datetime.combine(day, time(22, 30), UTC)


def told(place: Desk) -> list[tuple[Any, ...]]:
    text = "SELECT * EXCLUDE (updated_at) FROM stock_bars ORDER BY ALL"
    return read(place.db, text)[1]


@pytest.mark.parametrize("adjustment", ["raw", "split"])
def test_a_quarter_of_daily_top_ups_ends_equal_to_one_calm_fetch(tmp_path: Path, adjustment: str) -> None:
    asked: dict[str, Any] = {"symbols": SYMBOLS, "adjustment": adjustment, "start": str(FIRST)}
    changed = 0
    with eventful(tmp_path / "daily") as place:
        for day in calendar.between(FIRST, LAST + timedelta(days=1)):
            if day.toordinal() in MISSED:
                continue
            place.now = evening(day)
            done = place.fetch(**asked, end=str(day), top_up=True, overlap="3d")
            assert (done.exit_code, done.summary.failures) == (0, ())
            if day.weekday() == 4 or day == LAST:
                changes = place.load().changes.get("stock-bars")
                changed += changes.changed if changes else 0
        place.now = evening(LAST + timedelta(days=3))
        place.fetch(**asked, end=str(LAST), top_up=True, overlap="3d")
        place.load()
        daily = told(place)
    with eventful(tmp_path / "calm") as place:
        place.now = evening(LAST + timedelta(days=3))
        place.fetch(**asked, end=str(LAST))
        place.load()
        assert daily == told(place)
    assert changed
    assert {row[0] for row in daily} == set(SYMBOLS)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, symbols=["AAAA", "BBBB", "CCCC"]) as made:
        yield made


def test_without_names_all_that_is_known_is_topped_up_each_from_where_it_ends(place: Desk) -> None:
    place.fetch(symbols=["AAAA"], start="2024-05-01", end="2024-05-24")
    place.fetch(symbols=["BBBB"], start="2024-05-01", end="2024-05-29")
    looked = place.plan(top_up=True)
    starts = {asked.symbols: asked.window.start for asked in looked.question.jobs[0].asked}
    assert starts == {("AAAA",): date(2024, 5, 25), ("BBBB",): date(2024, 5, 30)}
    assert place.fetch(top_up=True).summary.symbols == 2
    assert place.fetch(top_up=True).summary.planned == 0


def test_the_overlap_is_asked_again_once_a_day(place: Desk) -> None:
    place.fetch(symbols=["AAAA"], start="2024-05-01", end="2024-05-31")
    place.now += timedelta(days=1)
    looked = place.plan(top_up=True, overlap="5d")
    assert min(chunk.window.start for chunk in looked.plan.chunks) == date(2024, 5, 27)
    assert place.fetch(top_up=True, overlap="5d").summary.outcomes["staged"]
    left = place.plan(top_up=True, overlap="5d").plan.chunks
    assert all(chunk.window.start >= date(2024, 6, 3) for chunk in left)


def test_what_a_database_holds_is_topped_up_into_an_empty_directory(place: Desk, tmp_path: Path) -> None:
    place.fetch(symbols=["AAAA", "CCCC"], start="2024-05-01", end="2024-05-24")
    place.load()
    looked = place.plan(top_up=True, staging=tmp_path / "other", db=place.db)
    assert looked.question.names.kept == ("AAAA", "CCCC")
    assert looked.question.jobs[0].asked[0].window.start == date(2024, 5, 25)


def test_an_overlap_wants_days_and_a_top_up(place: Desk) -> None:
    with pytest.raises(UsageError, match="Write 3d"):
        place.plan(symbols=["AAAA"], top_up=True, overlap="3 weeks")
    with pytest.raises(UsageError, match="is for --top-up"):
        place.plan(symbols=["AAAA"], overlap="3d")
    with pytest.raises(UsageError, match="No symbols were named"):
        place.plan(top_up=True)


def test_a_close_that_nobody_knows_is_asked_first_and_counted(place: Desk) -> None:
    place.fetch("option-contracts", underlyings=["AAAA"], expiry_gte="2024-06-01", expiry_lte="2024-06-30")
    asked: dict[str, Any] = {"underlyings": ["AAAA"], "moneyness": "0.9..1.1", "start": "2024-05-28"}
    assert "The closes of AAAA are not known" in place.plan("option-bars", **asked).question.notes[-1]
    found = place.fetch("option-bars", **asked)
    assert "The closes of AAAA were asked first: 1 requests." in found.question.notes[-1]
    bars = pq.read_table(place.paths("alpaca/stock-bars")[0])
    close = bars["close"].to_pylist()[-1]
    asked.pop("moneyness")
    few = place.plan("option-bars", **asked, moneyness="0.9..1.1").question.names.kept
    assert 0 < len(few) < len(place.plan("option-bars", **asked).question.names.kept)
    assert all(0.9 <= int(symbol[-8:]) / 1000 / close <= 1.1 for symbol in few)
    asked["moneyness"] = "0.9..1.1"
    again = place.fetch("option-bars", **asked)
    assert again.question.notes[-1:] != found.question.notes[-1:]


def test_what_failed_in_the_middle_of_a_history_is_asked_by_a_top_up(tmp_path: Path) -> None:
    trouble = policy.Fault("status", status=500, contains="start=2024-02")
    asked = {"symbols": ["AAAA"], "timeframe": "1Min", "start": "2024-01-02"}
    with desk(tmp_path, symbols=["AAAA"], policy=policy.Policy(faults=(trouble,))) as place:
        first = place.fetch(**asked, end="2024-05-29")
        assert first.summary.outcomes.get("failed")
        place.server.behave(policy.Policy())
        assert place.fetch(top_up=True, timeframe="1Min").exit_code == 0
        assert place.plan(**asked, end="2024-05-31").plan.all_chunks == ()


def test_a_question_asks_for_itself_and_what_another_left_open_stays_open(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA", "BBBB", "CCCC"]) as place:
        left = {"symbols": ["AAAA", "BBBB"], "timeframe": "1Min", "start": "2023-01-03", "end": "2024-05-31"}
        assert place.fetch(**left, max_requests=1, lanes=1).summary.left
        other = place.fetch(symbols=["CCCC"], timeframe="1Min", start="2024-05-01", end="2024-05-01")
        assert (other.exit_code, other.summary.planned, set(other.question.names.kept)) == (0, 1, {"CCCC"})
        early = place.fetch(symbols=["AAAA"], timeframe="1Min", start="2024-05-01", end="2024-05-01")
        assert early.summary.planned == 1
        assert place.fetch(top_up=True, timeframe="1Min").exit_code == 0
        assert place.plan(**left).plan.all_chunks == ()

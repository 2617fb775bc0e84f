"""Fetch, from the question to staged files, against the imitation over real sockets."""

import os
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow.compute as pc
import pytest
from desk import MONDAY, Desk, desk

from stagingest.errors import CredentialsError, HeldError, StagingError, UsageError
from stagingest.model.task import Outcome
from stagingest.sim import policy
from stagingest.staging import directory
from stagingest.system import locks

YEAR = {"start": "2023-06-01", "end": "2024-05-31"}


@pytest.fixture
def place(tmp_path: Path):  # type: ignore[no-untyped-def]
    with desk(tmp_path) as made:
        yield made


def sessions_of(place: Desk, symbol: str, start: str, end: str) -> int:
    from stagingest.model import calendar

    listed = place.market.listed(symbol)  # type: ignore[attr-defined]
    first = max(date.fromisoformat(start), listed)
    return calendar.count(first, date.fromisoformat(end) + timedelta(1))


def latest(place: Desk) -> dict[str, object]:
    """The newest answer about the latest bar."""
    rows = place.rows().to_pylist()
    return max(rows, key=lambda row: (row["ts"], row["updated_at"]))


def test_every_session_of_every_symbol_is_staged_once(place: Desk) -> None:
    names = place.market.symbols
    fetched = place.fetch(symbols=names, **YEAR)
    rows = place.rows()
    assert fetched.exit_code == 0
    assert rows.num_rows == fetched.summary.rows == sum(sessions_of(place, name, *YEAR.values()) for name in names)
    keys = set(zip(rows["symbol"].to_pylist(), rows["ts"].to_pylist(), strict=True))
    assert len(keys) == rows.num_rows
    assert set(rows["interval"].to_pylist()) == {"1d"}
    assert set(rows["feed"].to_pylist()) == {"sip"}
    assert pc.all(pc.equal(rows["updated_at"], pc.min(rows["updated_at"]))).as_py()


def test_a_daily_bar_carries_the_new_york_day_it_belongs_to(place: Desk) -> None:
    place.fetch(symbols=place.market.symbols[:1], start="2024-03-07", end="2024-03-12")
    rows = place.rows()
    # Daylight time began on 10 March: midnight moved from 05:00 to 04:00 UTC.
    assert [(stamp.hour, day) for stamp, day in zip(rows["ts"].to_pylist(), rows["session_date"].to_pylist())] == [  # noqa: B905
        (5, date(2024, 3, 7)),
        (5, date(2024, 3, 8)),
        (4, date(2024, 3, 11)),
        (4, date(2024, 3, 12)),
    ]


def test_pages_that_cut_symbols_make_the_same_rows(tmp_path: Path) -> None:
    with desk(tmp_path / "a") as whole, desk(tmp_path / "b", policy=policy.Policy(page_cap=97)) as cut:
        for place in (whole, cut):
            place.fetch(symbols=place.market.symbols, **YEAR)
        assert cut.rows().equals(whole.rows())
        assert cut.requests() > 10 * whole.requests()


def test_the_counts_of_the_summary_add_up_to_the_plan(place: Desk) -> None:
    looked = place.plan(symbols=[*place.market.symbols, "NOSUCH"], **YEAR)
    summary = place.fetch(symbols=[*place.market.symbols, "NOSUCH"], **YEAR).summary
    assert summary.planned == len(looked.plan.chunks) == sum(summary.outcomes.values()) + summary.left
    assert summary.success_percent == 100.0


def test_fetching_the_same_again_asks_the_network_nothing(place: Desk) -> None:
    place.fetch(symbols=place.market.symbols, **YEAR)
    assert place.requests() > 0
    again = place.fetch(symbols=place.market.symbols, **YEAR)
    assert place.requests() == 0
    assert (again.summary.planned, again.summary.symbols_covered, again.exit_code) == (0, 12, 0)


def test_a_longer_window_and_more_symbols_ask_only_for_what_is_missing(place: Desk) -> None:
    names = place.market.symbols
    place.fetch(symbols=names[:6], start="2023-06-01", end="2023-12-29")
    place.fetch(symbols=names, **YEAR)
    place.fetch(symbols=names, start="2023-03-01", end="2024-05-31")
    rows = place.rows()
    keys = set(zip(rows["symbol"].to_pylist(), rows["ts"].to_pylist(), strict=True))
    assert len(keys) == rows.num_rows
    windows = {(entry.chunk.symbols, str(entry.chunk.window)) for entry in place.entries()}
    assert windows == {
        (names[:6], "2023-06-01..2023-12-30"),
        (names[:6], "2023-12-30..2024-06-01"),
        (names[6:], "2023-06-01..2024-06-01"),
        (names, "2023-03-01..2023-06-01"),
    }


def test_a_bar_that_was_not_final_is_loaded_but_asked_again(place: Desk) -> None:
    name = place.market.symbols[:1]
    today = {"symbols": name, "start": "2024-05-30", "end": "2024-06-03"}
    place.now = datetime(2024, 6, 3, 16, 0, tzinfo=UTC)
    first = place.fetch(**today)
    assert first.summary.provisional == 1
    half_day = latest(place)
    place.now = datetime(2024, 6, 4, 12, 0, tzinfo=UTC)
    place.fetch(**today)
    assert sorted((str(e.chunk.window), e.covers) for e in place.entries()) == [
        ("2024-05-30..2024-06-03", True),
        ("2024-06-03..2024-06-04", False),
        ("2024-06-03..2024-06-04", True),
    ]
    assert latest(place)["volume"] > half_day["volume"]
    place.requests()
    place.fetch(**today)
    assert place.requests() == 0


@pytest.mark.parametrize(
    ("timeframe", "unit"), [("1Week", "2024-06-03..2024-06-10"), ("1Month", "2024-06-01..2024-07-01")]
)
def test_this_week_and_this_month_are_asked_again(place: Desk, timeframe: str, unit: str) -> None:
    asked = {"symbols": place.market.symbols[:2], "timeframe": timeframe, "start": "2024-01-02", "end": "2024-06-03"}
    place.fetch(**asked)
    assert [str(entry.chunk.window) for entry in place.entries() if not entry.covers] == [unit]
    place.now = MONDAY + timedelta(days=40)
    place.fetch(**asked)
    assert str(place.entries()[-1].chunk.window) == unit
    assert place.entries()[-1].covers


def test_by_default_only_final_days_are_asked(place: Desk) -> None:
    place.fetch(symbols=place.market.symbols[:1], start="2024-05-01")
    assert max(place.rows()["session_date"].to_pylist()) == date(2024, 5, 31)


def test_extending_an_adjusted_series_asks_its_last_session_again_and_keeps_what_agrees(place: Desk) -> None:
    asked = {"symbols": place.market.symbols[:3], "adjustment": "split"}
    place.fetch(start="2024-01-02", end="2024-04-30", **asked)
    fetched = place.fetch(start="2024-01-02", end="2024-05-31", **asked)
    assert str(place.entries()[-1].chunk.window) == "2024-04-30..2024-06-01"
    assert fetched.summary.refetched == ()


def test_an_adjusted_series_whose_base_has_moved_is_fetched_whole(tmp_path: Path) -> None:
    splits = {"AAAA": [(date(2024, 6, 5), 4.0)]}
    with desk(tmp_path, symbols=["AAAA", "BBBB"], splits=splits) as place:
        place.fetch(symbols=["AAAA", "BBBB"], adjustment="split", start="2024-01-02", end="2024-05-31")
        before = {row["symbol"]: row for row in place.rows().to_pylist()[::-1]}
        place.now = MONDAY + timedelta(days=7)
        fetched = place.fetch(symbols=["AAAA", "BBBB"], adjustment="split", start="2024-01-02", end="2024-06-07")
        assert fetched.summary.refetched == ("AAAA",)
        assert any("AAAA" in text for text in place.said)
        place.load()
        from stagingest.targets.duckdb.connection import read

        text = "SELECT symbol, count(*), count(DISTINCT ts), min_by(close, ts) FROM stock_bars GROUP BY 1 ORDER BY 1"
        _, rows = read(place.db, text)
        assert [(row[0], row[1], row[2]) for row in rows] == [("AAAA", 110, 110), ("BBBB", 110, 110)]
        assert rows[0][3] == pytest.approx(before["AAAA"]["close"] / 4, rel=1e-3)
        assert rows[1][3] == before["BBBB"]["close"]
        place.requests()
        again = place.fetch(symbols=["AAAA", "BBBB"], adjustment="split", start="2024-01-02", end="2024-06-07")
        assert (place.requests(), again.summary.refetched) == (0, ())


def test_an_unknown_symbol_is_a_named_empty_outcome(place: Desk) -> None:
    place.fetch(symbols=["NOSUCH"], **YEAR)
    (entry,) = place.entries()
    assert (entry.outcome, entry.covers, entry.chunk.symbols) == (Outcome.EMPTY, True, ("NOSUCH",))


def test_malformed_symbols_are_named_and_the_rest_proceeds(place: Desk) -> None:
    name = place.market.symbols[0]
    fetched = place.fetch(symbols=[name, "CSP1", "TAOP:NASDAQ"], **YEAR)
    assert fetched.question.names.rejected == ("CSP1", "TAOP:NASDAQ")
    assert fetched.exit_code == 3
    assert fetched.summary.rows == sessions_of(place, name, *YEAR.values())


def test_a_symbol_only_the_provider_refuses_is_dropped_and_the_rest_is_asked(tmp_path: Path) -> None:
    bad = policy.Fault("status", contains="BADD", status=400, body=b'{"message":"invalid symbol: BADD"}')
    with desk(tmp_path, policy=policy.Policy(faults=(bad,))) as place:
        names = [*place.market.symbols, "BADD"]
        fetched = place.fetch(symbols=names, **YEAR)
        assert [(f.symbol, f.outcome) for f in fetched.summary.failures] == [("BADD", "refused")]
        assert "invalid symbol: BADD" in fetched.summary.failures[0].reason
        assert fetched.exit_code == 3
        assert place.requests() == 2
        assert {entry.outcome for entry in place.entries()} == {Outcome.SPLIT, Outcome.REFUSED, Outcome.STAGED}
        place.fetch(symbols=names, **YEAR)
        assert place.requests() == 0


def test_a_refused_chunk_comes_back_as_halves_until_one_symbol_is_left(tmp_path: Path) -> None:
    bad = policy.Fault("status", contains="BADD", status=400, body=b'{"message":"no"}')
    with desk(tmp_path, symbols=7, policy=policy.Policy(faults=(bad,))) as place:
        fetched = place.fetch(symbols=[*place.market.symbols, "BADD"], **YEAR)
        assert [(f.symbol, f.outcome) for f in fetched.summary.failures] == [("BADD", "refused")]
        assert len(set(place.rows()["symbol"].to_pylist())) == 7
        assert fetched.summary.planned == sum(fetched.summary.outcomes.values())


def test_a_wrong_key_costs_one_request_and_names_the_variables(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=400, policy=policy.Policy(keys=(("right", "pair"),))) as place:
        fetched = place.fetch(symbols=place.market.symbols, **YEAR)
        assert place.requests() == 1
        assert fetched.exit_code == 4
        assert "APCA_API_KEY_ID" in fetched.summary.stopped
        assert fetched.summary.left == fetched.summary.planned
        place.server.behave(policy.Policy())
        assert place.fetch(symbols=place.market.symbols, **YEAR).exit_code == 0


def test_a_missing_key_is_named_before_anything_is_asked(place: Desk) -> None:
    from stagingest.api import fetch

    environ = {name: value for name, value in place.environ.items() if name != "APCA_API_SECRET_KEY"}
    with pytest.raises(CredentialsError, match="APCA_API_SECRET_KEY is not set"):
        fetch.fetch("stock-bars", symbols=["A"], staging=place.staging, environ=environ)
    assert place.requests() == 0


def test_a_plan_without_recent_prices_is_asked_once_more_ending_16_minutes_ago(tmp_path: Path) -> None:
    with desk(tmp_path, policy=policy.Policy(recent_sip=False)) as place:
        place.now = datetime(2024, 6, 3, 18, 0, tzinfo=UTC)
        fetched = place.fetch(
            symbols=place.market.symbols[:1], timeframe="1Min", start="2024-06-03", end="2024-06-03", realtime=True
        )
        assert fetched.exit_code == 0
        assert max(place.rows()["ts"].to_pylist()) <= datetime(2024, 6, 3, 17, 44)
        assert [seen.status for seen in place.server.log] == [403, 200]


def test_worker_processes_stage_the_same_rows_as_this_process(tmp_path: Path) -> None:
    with desk(tmp_path / "a") as alone, desk(tmp_path / "b") as crowd:
        alone.fetch(symbols=alone.market.symbols, timeframe="1Hour", **YEAR)
        fetched = crowd.fetch(symbols=crowd.market.symbols, timeframe="1Hour", processes=2, **YEAR)
        assert fetched.exit_code == 0
        one, two = (place.rows().sort_by([("ts", "ascending")]) for place in (alone, crowd))
        assert one.num_rows == two.num_rows == fetched.summary.rows
        key = [("symbol_text", "ascending"), ("ts", "ascending")]
        plain = [t.append_column("symbol_text", t["symbol"].cast("string")).sort_by(key) for t in (one, two)]
        for column in ("symbol_text", "ts", "open", "close", "volume", "vwap", "session_date"):
            assert plain[0][column].equals(plain[1][column])


def test_a_second_fetch_on_the_same_staging_directory_is_told_who_holds_it(place: Desk) -> None:
    directory.prepare(place.staging)
    with (
        locks.Lock.take(place.staging / "run.lock", "fetching"),
        pytest.raises(HeldError, match=f"process {os.getpid()}"),
    ):
        place.fetch(symbols=place.market.symbols, **YEAR)


def test_a_deleted_file_is_noticed_and_asked_again(place: Desk) -> None:
    place.fetch(symbols=place.market.symbols, **YEAR)
    whole = place.rows()
    (entry,) = place.entries()
    (place.staging / entry.path).unlink()
    place.fetch(symbols=place.market.symbols, **YEAR)
    assert place.rows().drop(["updated_at"]).equals(whole.drop(["updated_at"]))


def test_a_damaged_file_is_named_at_load_and_its_chunk_is_due_at_the_next_fetch(place: Desk) -> None:
    names = place.market.symbols
    place.fetch(symbols=names[:6], **YEAR)
    place.fetch(symbols=names[6:], **YEAR)
    victim = place.staging / place.entries()[0].path
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    summary = place.load()
    assert [Path(skipped.path).name for skipped in summary.skipped] == [victim.name]
    assert summary.files == 1
    place.fetch(symbols=names, **YEAR)
    assert (place.staging / "quarantine" / victim.name).exists()
    assert place.load().files == 1
    from stagingest.targets.duckdb.connection import read

    total = sum(sessions_of(place, name, *YEAR.values()) for name in names)
    assert read(place.db, "SELECT count(*), count(DISTINCT (symbol, ts)) FROM stock_bars")[1] == [(total, total)]


def test_contracts_are_listed_active_and_inactive_and_their_bars_follow(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA", "BBBB"]) as place:
        place.fetch("option-contracts", underlyings=["AAAA"], expiry_gte="2024-01-01", expiry_lte="2024-12-31")
        listed = place.rows()
        statuses = set(listed["status"].to_pylist())
        assert statuses == {"active", "inactive"}
        assert set(listed["underlying"].to_pylist()) == {"AAAA"}
        place.requests()
        place.fetch("option-contracts", underlyings=["AAAA"], expiry_gte="2024-01-01", expiry_lte="2024-12-31")
        assert place.requests() == 0
        bars = place.fetch("option-bars", underlyings=["AAAA"], start="2024-05-01", end="2024-05-31")
        assert bars.exit_code == 0
        alive = {
            s
            for s, e in zip(listed["contract_symbol"].to_pylist(), listed["expiry"].to_pylist(), strict=True)
            if e >= date(2024, 5, 1)
        }
        asked = {
            symbol
            for e in place.entries()
            if e.chunk.series.endpoint == "alpaca/option-bars"
            for symbol in e.chunk.symbols
        }
        assert asked == alive
        place.load()
        fresh = place.root / "fresh"
        place.fetch(
            "option-bars", underlyings=["AAAA"], start="2024-05-01", end="2024-05-31", staging=fresh, db=place.db
        )
        assert (fresh / "manifest.sqlite").exists()


def test_bars_of_unlisted_underlyings_name_the_command_that_lists_them(place: Desk) -> None:
    with pytest.raises(UsageError, match="fetch option-contracts --underlyings AAAA"):
        place.fetch("option-bars", underlyings=["AAAA"])


def test_the_next_day_lists_contracts_again(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA"]) as place:
        asked = {"underlyings": ["AAAA"], "expiry_gte": "2024-06-01", "expiry_lte": "2024-12-31"}
        place.fetch("option-contracts", **asked)
        place.requests()
        place.now += timedelta(days=1)
        place.fetch("option-contracts", **asked)
        assert place.requests() == 2
        assert len(set(place.rows()["as_of_date"].to_pylist())) == 2


def test_no_resume_stages_everything_anew(place: Desk) -> None:
    place.fetch(symbols=place.market.symbols, **YEAR)
    place.fetch(symbols=place.market.symbols, resume=False, **YEAR)
    assert len([entry for entry in place.entries() if entry.path]) == 2


def test_a_dry_plan_makes_no_file_and_asks_nothing(place: Desk) -> None:
    looked = place.plan(symbols=place.market.symbols, **YEAR)
    assert looked.plan.estimates["alpaca/data"].requests == 1
    assert place.requests() == 0
    assert not place.staging.exists()


def test_a_full_disk_is_told_and_the_same_fetch_continues(place: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    asked = {"symbols": place.market.symbols, "timeframe": "1Min", "start": "2024-05-28", "end": "2024-05-31"}
    place.fetch(symbols=place.market.symbols[:1], **YEAR)
    import signal

    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StagingError, match="make room and run the same command again"):
            place.fetch(**asked)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    fetched = place.fetch(**asked)
    assert fetched.exit_code == 0
    assert place.plan(**asked).plan.all_chunks == ()


def test_a_provider_that_only_refuses_is_left_alone_and_the_same_command_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stagingest.fetching.worker import requester

    refusing = policy.Policy(faults=(policy.Fault("status", status=429, headers=(("Retry-After", "0"),)),))
    with desk(tmp_path, symbols=3, policy=refusing) as place:
        # Of the time it may refuse, each of its answers takes a little less than half.
        clock = SimpleNamespace(sleep=time.sleep, monotonic=lambda: 0.4 * requester.LIMITED_S * len(place.server.log))
        monkeypatch.setattr(requester, "time", clock)
        fetched = place.fetch(symbols=place.market.symbols, **YEAR)
        assert (fetched.exit_code, fetched.summary.left) == (5, 1)
        assert fetched.summary.limited == fetched.summary.requests == 3
        assert "Run the same command again later" in fetched.summary.stopped
        place.server.behave(policy.Policy())
        assert place.fetch(symbols=place.market.symbols, **YEAR).exit_code == 0

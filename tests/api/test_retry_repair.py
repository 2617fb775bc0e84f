"""What was given up becomes due, and a lost manifest comes back from the files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from desk import Desk, desk

import stagingest
from stagingest.errors import HeldError, StagingError, UsageError
from stagingest.sim import policy
from stagingest.staging import manifest as staging_manifest
from stagingest.staging.manifest import Manifest
from stagingest.system.locks import Lock

YEAR: dict[str, Any] = {"start": "2023-06-01", "end": "2024-05-31"}


def refusing(symbol: str) -> policy.Policy:
    body = json.dumps({"message": f"invalid symbol: {symbol}"}).encode()
    return policy.Policy(faults=(policy.Fault("status", contains=symbol, status=400, body=body),))


def command(place: Desk, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stagingest", *words], env=place.environ, cwd=place.root, capture_output=True, text=True
    )


def table(place: Desk) -> list[Any]:
    with duckdb.connect(str(place.db), read_only=True) as db:
        return db.execute("SELECT * EXCLUDE (updated_at) FROM stock_bars ORDER BY ALL").fetchall()


def test_a_refused_symbol_is_asked_again_after_a_retry_and_not_before(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=3) as place:
        bad = place.market.symbols[1]
        place.server.behave(refusing(bad))
        asked = {"symbols": place.market.symbols, **YEAR}
        assert place.fetch(**asked).exit_code == 3
        place.server.behave(policy.Policy())
        assert place.fetch(**asked).summary.requests == 0
        done = stagingest.retry(place.staging)
        assert (done.outcomes, done.symbols) == ({"refused": 1}, (bad,))
        assert stagingest.status(place.staging).problems == ()
        again = place.fetch(**asked)
        assert (again.exit_code, again.summary.requests) == (0, 1)
        assert set(place.rows()["symbol"].to_pylist()) == set(place.market.symbols)


def test_the_command_that_retry_prints_asks_just_what_became_due(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=3) as place:
        bad = place.market.symbols[1]
        place.server.behave(refusing(bad))
        place.fetch(symbols=place.market.symbols, adjustment="split", **YEAR)
        place.server.behave(policy.Policy())
        told = command(place, "retry", "--json", "--staging", str(place.staging))
        document = json.loads(told.stdout)
        assert (document["outcomes"], document["symbols"]) == ({"refused": 1}, [bad])
        (continued,) = document["commands"]
        assert f"--symbols {bad} --adjustment split --start 2023-06-01 --end 2024-05-31" in continued
        place.requests()
        assert command(place, *continued.split()[1:], "--max-rps", "500").returncode == 0
        assert place.requests() == 1


def test_a_failed_chunk_is_named_with_its_outcome(tmp_path: Path) -> None:
    with desk(
        tmp_path,
        symbols=2,
        policy=policy.Policy(faults=(policy.Fault("status", status=500, nth=(2, 3, 4, 5, 6)),)),
    ) as place:
        place.fetch(symbols=place.market.symbols, lanes=1, timeframe="1Min", start="2024-05-06", end="2024-05-24")
        told = command(place, "retry", "--outcome", "failed", "--staging", str(place.staging))
        assert told.stdout.startswith("due again: 1 chunks (1 failed) of ")
        assert "stagingest fetch alpaca/stock-bars --symbols" in told.stderr


def test_nothing_to_retry_is_no_error(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=1) as place:
        place.fetch(symbols=place.market.symbols, **YEAR)
        told = command(place, "retry", "--staging", str(place.staging))
        assert (told.returncode, told.stdout) == (0, "nothing to retry: nothing was given up\n")


def test_a_name_under_which_nothing_was_given_up_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=3) as place:
        bad = place.market.symbols[1]
        place.server.behave(refusing(bad))
        place.fetch(symbols=place.market.symbols, **YEAR)
        with pytest.raises(UsageError, match=f"nearest is {bad}"):
            stagingest.retry(place.staging, symbols=[bad[:-1] + "1"])
        with pytest.raises(UsageError, match="nearest is refused"):
            stagingest.retry(place.staging, outcomes=["refuse"])
        with Lock.take(place.staging / "run.lock", "fetching"), pytest.raises(HeldError, match=str(os.getpid())):
            stagingest.retry(place.staging)


def test_a_quarantined_chunk_starts_again_without_its_strikes(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=1) as place:
        asked = {"symbols": place.market.symbols, **YEAR}
        chunk = place.plan(**asked).plan.chunks[0].id
        place.fetch(symbols=place.market.symbols, start="2024-05-31", end="2024-05-31")
        with Manifest.write(place.staging) as manifest:
            chunk = place.plan(**asked).plan.chunks[0].id
            for _ in range(3):
                staging_manifest.add_crashes(manifest, [chunk])
        fetched = place.fetch(**asked)
        assert (fetched.exit_code, fetched.summary.outcomes) == (3, {"quarantined": 1})
        assert "its worker died 3 times" in fetched.summary.failures[0].reason
        assert place.fetch(**asked).summary.requests == 0
        assert stagingest.retry(place.staging, chunks=[chunk]).outcomes == {"quarantined": 1}
        assert place.fetch(**asked).exit_code == 0


def ruin_by_truncation(manifest: Path) -> None:
    os.truncate(manifest, 5000)


def ruin_by_emptying(manifest: Path) -> None:
    os.truncate(manifest, 0)


def ruin_by_other_bytes(manifest: Path) -> None:
    manifest.write_bytes(b"these bytes are no database" * 400)


@pytest.mark.parametrize("ruin", [ruin_by_truncation, ruin_by_emptying, ruin_by_other_bytes, os.unlink])
def test_a_lost_manifest_is_rebuilt_and_nothing_is_loaded_twice_or_asked_again(tmp_path: Path, ruin: Any) -> None:
    with desk(tmp_path, symbols=6, policy=policy.Policy(page_cap=300)) as place:
        asked = {"symbols": place.market.symbols, **YEAR}
        adjusted = {"adjustment": "split", **asked}
        place.fetch(**asked)
        place.fetch(**adjusted)
        place.load()
        truth, identity = table(place), stagingest.status(place.staging).staging_id
        with Manifest.read(place.staging) as manifest:
            known = {(entry.chunk, entry.rows, entry.sha256, entry.symbol_rows) for entry in manifest.entries()}
        ruin(place.staging / "manifest.sqlite")
        refused = command(place, "fetch", "stock-bars", "--symbols", "A", "--staging", str(place.staging))
        assert refused.returncode == 1
        assert "stagingest repair --staging" in refused.stderr
        assert "Traceback" not in refused.stderr
        done = stagingest.repair(place.staging)
        assert (done.rebuilt, done.set_aside, done.gone) == (True, {}, ())
        assert stagingest.status(place.staging).staging_id == identity
        with Manifest.read(place.staging) as manifest:
            rebuilt = {(entry.chunk, entry.rows, entry.sha256, entry.symbol_rows) for entry in manifest.entries()}
        assert rebuilt == {each for each in known if each[1]}
        place.load()
        assert table(place) == truth
        place.requests()
        assert place.fetch(**asked).exit_code == place.fetch(**adjusted).exit_code == 0
        assert place.requests() == 0


def test_a_bar_that_was_not_final_is_due_again_after_a_rebuild(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=1) as place:
        asked = {"symbols": place.market.symbols, "start": "2024-05-31", "end": "2024-06-03"}
        place.fetch(**asked)
        due = place.plan(**asked).plan.chunks
        assert due
        os.unlink(place.staging / "manifest.sqlite")
        stagingest.repair(place.staging)
        assert place.plan(**asked).plan.chunks == due


def test_files_of_others_are_set_aside_and_named(tmp_path: Path) -> None:
    with desk(tmp_path / "one", symbols=2) as other, desk(tmp_path / "two", symbols=4) as place:
        other.fetch(symbols=other.market.symbols[:1], **YEAR)
        for symbol in place.market.symbols:
            place.fetch(symbols=[symbol], **YEAR)
        folder = place.paths()[0].parent
        stranger = folder / "stranger.parquet"
        stranger.write_bytes(other.paths()[0].read_bytes())
        broken = folder / "broken.parquet"
        broken.write_bytes(b"PAR1")
        os.unlink(place.staging / "manifest.sqlite")
        done = stagingest.repair(place.staging)
        assert set(done.set_aside) == {str(path.relative_to(place.staging)) for path in (stranger, broken)}
        assert done.files == 4
        assert {path.name for path in (place.staging / "orphans").iterdir()} == {stranger.name, broken.name}


def test_a_sound_manifest_is_checked_and_left_as_it_is(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        place.fetch(symbols=place.market.symbols, **YEAR)
        before = place.entries()
        os.unlink(place.paths()[0])
        told = command(place, "repair", "--staging", str(place.staging))
        assert (told.returncode, told.stdout[:22]) == (0, "the manifest is sound:")
        assert "is gone; the next fetch asks for it again" in told.stderr
        assert place.entries() == before


def test_there_is_nothing_to_rebuild_without_files(tmp_path: Path) -> None:
    with pytest.raises(StagingError, match="no staging directory"):
        stagingest.repair(tmp_path)
    with desk(tmp_path, symbols=1) as place:
        place.fetch(symbols=["ZZZZ"], **YEAR)
        ruin_by_emptying(place.staging / "manifest.sqlite")
        with pytest.raises(StagingError, match="nothing to rebuild"):
            stagingest.repair(place.staging)

"""The commands as a user runs them: words, documents, exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from datetime import date
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from desk import Desk, desk

from stagingest.sim import policy
from stagingest.staging import directory
from stagingest.system import locks
from stagingest.targets.duckdb.connection import read

COMMAND = [sys.executable, "-m", "stagingest"]


def run(place: Desk, *words: str, stdin: str | None = None, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *words],
        cwd=place.root,
        env={**place.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def place(tmp_path: Path):  # type: ignore[no-untyped-def]
    with desk(tmp_path, symbols=["AAAA", "BBBB", "CCCC"]) as made:
        yield made


WINDOW = ("--start", "2024-01-02", "--end", "2024-05-31")


def test_fetch_then_load_then_status_says_what_happened(place: Desk) -> None:
    fetched = run(place, "fetch", "stock-bars", "--symbols", "AAAA,BBBB", *WINDOW)
    assert fetched.returncode == 0, fetched.stderr
    assert "1 planned: 1 staged" in fetched.stdout
    assert "success 100.0%" in fetched.stdout
    assert "stagingest load --staging staging" in fetched.stderr
    loaded = run(place, "load", "--db", "market.duckdb")
    assert loaded.returncode == 0, loaded.stderr
    assert "1 taken in 1 transactions" in loaded.stdout
    status = run(place, "status")
    assert re.search(r"alpaca/stock-bars +1 +0 +1 +0 +0 +0 +0 ", status.stdout)
    assert "1 in market.duckdb" in status.stdout
    assert "no fetch is running" in status.stdout


def test_the_documents_are_versioned_and_complete(place: Desk) -> None:
    fetched = run(place, "fetch", "stock-bars", "--symbols", "AAAA,CSP1", *WINDOW, "--json")
    document = json.loads(fetched.stdout)
    assert fetched.returncode == document["exit_code"] == 3
    assert document["schema"] == 1
    assert document["rejected"] == ["CSP1"]
    for name in ("cpu_s", "success_percent", "limited_percent", "symbols_per_s", "peak_memory_bytes", "failures"):
        assert name in document
    assert document["cpu_s"] > 0
    assert document["peak_memory_bytes"] > 10_000_000
    loaded = json.loads(run(place, "load", "--json").stdout)
    assert loaded["rows"] == document["rows"] > 0
    assert loaded["cpu_s"] > 0
    status = json.loads(run(place, "status", "--json").stdout)
    assert status["datasets"][0]["rows"] == document["rows"]


def test_plan_and_dry_run_use_the_same_words_and_make_nothing(place: Desk) -> None:
    asked = ("stock-bars", "--symbols", "AAAA,BRK/B,BBBB", *WINDOW)
    planned = run(place, "plan", *asked)
    dry = run(place, "fetch", *asked, "--dry-run")
    assert planned.stdout == dry.stdout
    for words in ("3 asked, 0 covered", "requests  about 1 on alpaca/data", "minutes", "free", "BRK/B to BRK.B"):
        assert words in planned.stdout
    assert place.requests() == 0
    assert list(place.root.iterdir()) == []


def test_a_plan_for_bars_of_unlisted_underlyings_shows_the_discovery(place: Desk) -> None:
    planned = run(place, "plan", "option-bars", "--underlyings", "AAAA")
    assert planned.returncode == 0
    assert "No contracts of AAAA are known yet" in planned.stdout
    assert "alpaca/trading" in planned.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--symbols", "AAAA", "--start", "2024-05-01", "--end", "2024-04-01"), "The latest start is 2024-04-01"),
        (("--symbols", "AAAA", "--timeframe", "1Dya"), "1Day"),
        (("--symbols", "AAAA", "--feed", "sipp"), "sip"),
        (("--symbols", "AAAA", "--start", "2024-02-30"), "2024-02-29"),
        (("--symbols-file", "nowhere.csv"), "nowhere.csv cannot be read: No such file"),
        (("--symbols-file", "names.csv:simbol"), "Did you mean 'symbol'"),
        (("--symbols", "AAAA", "--max-rps", "0"), "must be a number greater than 0"),
        ((), "--symbols A,B or --symbols-file"),
        (("--symbols", "AAAA", "--nonsense"), "No such option"),
    ],
)
def test_wrong_input_exits_2_and_names_the_nearest_valid_value(place: Desk, words: tuple[str, ...], says: str) -> None:
    (place.root / "names.csv").write_text("symbol,name\nAAAA,A\n")
    ended = run(place, "fetch", "stock-bars", *words)
    assert ended.returncode == 2, ended.stderr
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert place.requests() == 0


def test_an_unknown_dataset_exits_2_and_names_the_nearest(place: Desk) -> None:
    ended = run(place, "fetch", "stock-bar", "--symbols", "AAAA")
    assert ended.returncode == 2
    assert "stock-bars" in ended.stderr


def test_symbols_come_from_any_column_of_a_file(place: Desk) -> None:
    (place.root / "names.csv").write_text("# watched\nname,ticker\nAlpha,aaaa\nBeta,BBBB\nAlpha,AAAA\n")
    document = json.loads(run(place, "plan", "stock-bars", "--symbols-file", "names.csv", *WINDOW, "--json").stdout)
    assert document["symbols"] == 2
    ended = run(place, "plan", "stock-bars", "--symbols-file", "names.csv:ticker", *WINDOW, "--json")
    assert json.loads(ended.stdout)["symbols"] == 2


def test_a_wrong_key_exits_4_after_one_request_naming_the_variable(place: Desk) -> None:
    place.server.behave(policy.Policy(keys=(("right", "pair"),), forbidden_status=403))
    ended = run(place, "fetch", "stock-bars", "--symbols", "AAAA,BBBB", *WINDOW)
    assert ended.returncode == 4
    assert place.requests() == 1
    assert "APCA_API_KEY_ID" in ended.stderr
    assert "Continue with:" in ended.stderr
    assert "secret-of-the-test" not in ended.stdout + ended.stderr
    assert "it stopped: alpaca/stock-bars: not entitled, or the key is wrong" in run(place, "status").stdout


def test_a_missing_key_exits_4_and_a_file_of_keys_serves(place: Desk) -> None:
    bare = {"APCA_API_KEY_ID": "", "APCA_API_SECRET_KEY": ""}
    asked = ("fetch", "stock-bars", "--symbols", "AAAA", *WINDOW)
    ended = run(place, *asked, **bare)
    assert (ended.returncode, "APCA_API_KEY_ID is not set" in ended.stderr) == (4, True)
    (place.root / "keys").write_text("export APCA_API_KEY_ID='k'\nAPCA_API_SECRET_KEY=s\n")
    (place.root / "keys").chmod(0o600)
    environ = {name: value for name, value in place.environ.items() if name not in bare}
    served = subprocess.run(
        [*COMMAND, *asked, "--env-file", "keys"],
        cwd=place.root,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert served.returncode == 0, served.stderr


def test_keys_are_not_sent_over_http_to_a_foreign_host(place: Desk) -> None:
    ended = run(place, "fetch", "stock-bars", "--symbols", "AAAA", APCA_API_DATA_URL="http://example.invalid")
    assert ended.returncode == 2
    assert "over http to example.invalid" in ended.stderr


def test_an_unreachable_provider_exits_5_and_names_the_variable(place: Desk) -> None:
    ended = run(place, "fetch", "stock-bars", "--symbols", "AAAA", *WINDOW, APCA_API_DATA_URL="http://127.0.0.1:1")
    assert ended.returncode == 5, ended.stderr
    assert "APCA_API_DATA_URL" in ended.stderr
    assert "Continue with:" in ended.stderr


def test_a_held_staging_directory_exits_75_naming_the_holder(place: Desk) -> None:
    with locks.Lock.take(directory.prepare(place.staging) / "run.lock", "fetching"):
        ended = run(place, "fetch", "stock-bars", "--symbols", "AAAA", *WINDOW)
    assert ended.returncode == 75
    assert f"process {os.getpid()}" in ended.stderr


def test_a_held_database_exits_75_naming_the_holder(place: Desk) -> None:
    run(place, "fetch", "stock-bars", "--symbols", "AAAA", *WINDOW)
    code = "import duckdb, sys; db = duckdb.connect('market.duckdb'); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], cwd=place.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        ended = run(place, "load")
    finally:
        holder.communicate("")
    assert ended.returncode == 75
    assert str(holder.pid) in ended.stderr


def test_load_without_a_staging_directory_names_the_command_that_makes_one(place: Desk) -> None:
    ended = run(place, "load")
    assert ended.returncode == 1
    assert "stagingest fetch" in ended.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_signal_ends_a_fetch_and_the_same_command_continues(
    tmp_path: Path, number: signal.Signals, code: int, processes: str
) -> None:
    hang = policy.Fault("hang", nth=(3,))
    with desk(tmp_path, policy=policy.Policy(page_cap=50, faults=(hang,))) as place:
        asked = ("fetch", "stock-bars", "--symbols", ",".join(place.market.symbols), *WINDOW, "--processes", processes)
        started = subprocess.Popen(
            [*COMMAND, *asked], cwd=place.root, env=place.environ, stderr=subprocess.PIPE, text=True
        )
        assert place.server.hung.wait(60)
        started.send_signal(number)
        _, said = started.communicate(timeout=60)
        assert started.returncode == code, said
        assert f"Continue with:\n  stagingest fetch stock-bars --symbols {','.join(place.market.symbols)}" in said
        assert "Traceback" not in said
        place.server.release()
        ended = run(place, *asked)
        assert ended.returncode == 0, ended.stderr
        assert place.plan(symbols=place.market.symbols, start="2024-01-02", end="2024-05-31").plan.all_chunks == ()


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_killed_fetch_continues_and_no_row_is_lost_or_doubled(tmp_path: Path, processes: str) -> None:
    hang = policy.Fault("hang", nth=(9,))
    with desk(tmp_path, symbols=30, policy=policy.Policy(page_cap=100, faults=(hang,))) as place:
        names = ",".join(place.market.symbols)
        asked = ("fetch", "stock-bars", "--symbols", names, *WINDOW, "--max-rps", "1000", "--processes", processes)
        started = subprocess.Popen([*COMMAND, *asked], cwd=place.root, env=place.environ, stderr=subprocess.DEVNULL)
        assert place.server.hung.wait(60)
        loaded = run(place, "load")  # beside the fetch
        assert loaded.returncode == 0, loaded.stderr
        started.kill()
        started.wait()
        place.server.release()
        assert "never ended: run the same fetch again" in run(place, "status").stdout
        ended = run(place, *asked)
        assert ended.returncode == 0, ended.stderr
        assert run(place, "load").returncode == 0
        expected = sum(place.market.listed(name) <= date(2024, 1, 2) for name in place.market.symbols)
        text = "SELECT count(*), count(DISTINCT (symbol, ts)), count(DISTINCT symbol) FROM stock_bars"
        ((rows, keys, symbols),) = read(place.db, text)[1]
        assert rows == keys == place.rows().num_rows
        assert symbols >= expected


@pytest.mark.parametrize("processes", ["0", "2"])
def test_runs_that_die_with_the_same_chunk_in_flight_never_give_it_up(tmp_path: Path, processes: str) -> None:
    hang = policy.Fault("hang", contains="BBBB", times=5)
    with desk(tmp_path, symbols=["AAAA", "BBBB"], policy=policy.Policy(faults=(hang,))) as place:
        names = ",".join(place.market.symbols)
        asked = ("fetch", "stock-bars", "--symbols", names, *WINDOW, "--max-rps", "1000", "--processes", processes)
        for _ in range(5):
            place.server.hung.clear()
            started = subprocess.Popen([*COMMAND, *asked], cwd=place.root, env=place.environ, stderr=subprocess.DEVNULL)
            assert place.server.hung.wait(60)
            started.kill()
            started.wait()
        place.server.release()
        ended = run(place, *asked)
        assert ended.returncode == 0, ended.stderr
        assert place.plan(symbols=place.market.symbols, start="2024-01-02", end="2024-05-31").plan.all_chunks == ()
        assert set(place.rows()["symbol"].to_pylist()) == set(place.market.symbols)


def test_nothing_on_this_page_of_files_shows_a_key(place: Desk) -> None:
    run(place, "fetch", "stock-bars", "--symbols", "AAAA", *WINDOW, "--processes", "2")
    run(place, "load")
    for path in place.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"secret-of-the-test" not in data, path
            assert b"key-id-of-the-test" not in data, path


@pytest.mark.parametrize("command", ["plan", "fetch", "load", "status", "sim", "demo"])
def test_every_command_explains_itself(place: Desk, command: str) -> None:
    ended = run(place, command, "--help")
    assert ended.returncode == 0
    assert "Usage: " in ended.stdout


def test_the_imitation_keeps_a_limit_as_it_is_told_to(place: Desk) -> None:
    limit = ["--rate-per-min", "1", "--rate-mode", "window", "--no-rate-headers", "--retry-after"]
    command = [*COMMAND, "sim", "--port", "0", "--symbols", "2", *limit]
    with subprocess.Popen(command, env=place.environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = next(line.rpartition("//")[2].strip() for line in process.stdout if "APCA_API_DATA_URL" in line)
            # three, because the minute may turn between two
            answers = [bars(url) for _ in range(3)]
        finally:
            process.terminate()
    refused = next(answer for answer in answers if answer.status == 429)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert "X-RateLimit-Limit" not in refused.headers


def bars(host: str) -> HTTPResponse:
    with closing(HTTPConnection(host, timeout=20)) as connection:
        keys = {"APCA-API-KEY-ID": "any", "APCA-API-SECRET-KEY": "any"}
        connection.request("GET", "/v2/stocks/bars?symbols=AAAA&timeframe=1Day", headers=keys)
        return connection.getresponse()


def test_a_reader_that_goes_away_ends_a_command_quietly(place: Desk) -> None:
    words = [*COMMAND, "plan", "stock-bars", "--symbols", "AAAA", "--staging", str(place.staging)]
    with subprocess.Popen(words, env=place.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")


def test_a_full_disk_under_stderr_changes_no_exit_code_and_shows_no_traceback(place: Desk) -> None:
    with Path("/dev/full").open("w") as full:
        for words, code in ((["plan", "stock-bars", "--symbols", "AAAA"], 0), (["load", "--db", "x.duckdb"], 1)):
            command = [*COMMAND, *words, "--staging", str(place.staging)]
            ended = subprocess.run(command, env=place.environ, stdout=subprocess.PIPE, stderr=full, timeout=60)
            assert ended.returncode == code


def test_a_full_disk_under_stdout_is_one_sentence(place: Desk) -> None:
    words = [*COMMAND, "plan", "stock-bars", "--symbols", "AAAA", "--staging", str(place.staging)]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(words, env=place.environ, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr == "Error: No space left on device. What is staged stays; run the same command again.\n"

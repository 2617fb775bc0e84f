"""What a user sees when the clock, the settings, the names or the neighbours are bad (catalogue C, G and O)."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from badlab import KEY, SECRET, Place, facing, good
from desk import desk
from hypothesis import given
from hypothesis import strategies as st

import stagingest
from stagingest.errors import UsageError
from stagingest.planning import symbols
from stagingest.providers import catalog
from stagingest.sim import policy as sim_policy

# -- C: the clock ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=-1), timedelta(minutes=10)], ids=str)
def test_a_wall_clock_that_jumps_changes_no_row_and_no_wait(tmp_path: Path, step: timedelta) -> None:
    asked = {"symbols": ["AAAA", "BBBB", "CCCC"], "timeframe": "1Hour", "start": "2024-01-02", "end": "2024-05-29"}
    with desk(tmp_path, symbols=asked["symbols"]) as place:
        jumps = itertools.cycle([timedelta(0), step])
        there: Callable[[], datetime] = lambda: place.now + next(jumps)  # noqa: E731
        fetched = stagingest.fetch(
            "stock-bars", staging=place.staging, environ=place.environ, clock=there, processes=0, max_rps=5000, **asked
        )
        assert (fetched.exit_code, fetched.summary.left) == (0, 0)
        assert fetched.summary.elapsed_s >= 0
        rows = place.rows()
    with desk(tmp_path / "calm", symbols=asked["symbols"]) as calm:
        calm.fetch(**asked)
        for column in ("ts", "open", "close", "volume", "session_date"):
            assert rows[column].equals(calm.rows()[column])


def test_a_user_whose_clock_is_ten_minutes_off_has_the_same_rows_as_any_other(tmp_path: Path) -> None:
    asked = {"symbols": ["AAAA"], "timeframe": "1Min", "start": "2024-05-31", "end": "2024-05-31"}
    found = []
    for minutes in (-10, 0, 10):
        with desk(tmp_path / str(minutes), symbols=["AAAA"], policy=sim_policy.Policy(rate_per_min=600)) as place:
            place.user_now = place.now + timedelta(minutes=minutes)
            assert place.fetch(**asked).exit_code == 0
            found.append(place.rows().drop_columns(["updated_at"]))
    assert found[0].equals(found[1])
    assert found[1].equals(found[2])


# -- G: settings and keys --------------------------------------------------------------------------------------

BAD_KEYS = {
    "quoted": '"the-very-key"',
    "in single quotes": "'the-very-key'",
    "with a line break at its end": "the-very-key\n",
    "with a blank in front": " the-very-key",
    "with a tab in it": "the-very\tkey",
    "with a letter beyond ASCII": "the-very-kéy",
    "of blanks": "   ",
}


@pytest.mark.parametrize("variable", ["APCA_API_KEY_ID", "APCA_API_SECRET_KEY"])
@pytest.mark.parametrize("value", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_cannot_be_one_is_named_by_its_variable_before_anything_is_asked(
    tmp_path: Path, variable: str, value: str
) -> None:
    with facing(tmp_path, good) as place:
        place.more[variable] = value
        ended = place.run()
        assert ended.returncode == 4
        assert ended.stderr.startswith(f"Error: {variable} holds quotes, white space or control characters.")
        assert "very" not in ended.stderr
        assert ended.stdout == ""
        assert place.server.connections == 0
        assert not place.staging.exists()


def test_a_key_that_is_empty_is_not_set(tmp_path: Path) -> None:
    with facing(tmp_path, good) as place:
        place.more["APCA_API_SECRET_KEY"] = ""
        ended = place.run()
        assert (ended.returncode, "APCA_API_SECRET_KEY is not set" in ended.stderr) == (4, True)


BAD_URLS = {
    "http to a foreign host": "http://data.example.com",
    "http to a host that begins like loopback": "http://127.0.0.1.example.com",
    "http to a host that begins like localhost": "http://localhost.example.com",
    "a user name": "https://me@data.alpaca.markets",
    "a password": "https://:word@data.alpaca.markets",
    "loopback as a user name": "http://127.0.0.1@example.com",
    "no scheme": "data.alpaca.markets",
    "another scheme": "ftp://data.alpaca.markets",
    "no host": "https://",
    "a path": "https://data.alpaca.markets/v2",
    "a query": "https://data.alpaca.markets?x=1",
    "a fragment": "https://data.alpaca.markets#x",
    "half a bracket": "https://[::1",
    "a port that is none": "https://data.alpaca.markets:port",
    "a port beyond all ports": "https://data.alpaca.markets:99999",
    "a line break": "https://data.alpaca.markets\n",
    "an escape": "https://data.alpaca.markets/\x1b[2J",
    "a letter beyond ASCII": "https://dаta.alpaca.markets",  # noqa: RUF001
}


@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS)
def test_a_base_url_that_is_none_or_would_leak_exits_2_and_names_the_variable(tmp_path: Path, url: str) -> None:
    with facing(tmp_path, good) as place:
        place.more["APCA_API_DATA_URL"] = url
        with pytest.raises(UsageError) as raised:
            place.fetch()
        assert re.fullmatch(r"APCA_API_DATA_URL (is no base URL|sends keys over http to \S+)\.", raised.value.message)
        assert "https" in raised.value.next_step
        assert not place.staging.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fetsh", "stock-bars"), "There is no command 'fetsh'. The nearest is fetch."),
        (("fetch", "stok-bars"), "stock-bars"),
        (("fetch", "alpaca/stock-bar"), "alpaca/stock-bars"),
        (("fetch", "stock-bars", "--symbolz", "A"), "--symbols"),
        (("fetch", "stock-bars", "-s", "A", "--lanes", "many"), "must be a number from 1 to 64, not 'many'"),
        (("fetch", "stock-bars", "-s", "A", "--feed", "sipp"), "The nearest is sip"),
        (("fetch", "stock-bars", "-s", "A", "--processes", "-1"), "-1 is not in the range"),
    ],
)
def test_a_misspelt_word_exits_2_and_is_answered_with_the_nearest(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "stagingest", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_of_keys_that_others_may_read_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    with facing(tmp_path, good) as place:
        place.more = {"APCA_API_KEY_ID": "", "APCA_API_SECRET_KEY": ""}
        file = tmp_path / "keys"
        file.write_text(f"APCA_API_KEY_ID={KEY}\nAPCA_API_SECRET_KEY={SECRET}\n")
        file.chmod(mode)
        ended = place.run("--env-file", "keys")
        assert (ended.returncode, place.server.connections) == (2, 0)
        assert ended.stderr == "Error: --env-file keys holds keys and others may read it. Run `chmod 600 keys`.\n"
        file.chmod(0o600)
        assert place.run("--env-file", "keys").returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"APCA_API_KEY_ID\n", "Line 1 of keys is not NAME=value"), (b"\xff\xfe=\n", "not text"), (None, "No such file")],
)
def test_a_file_of_keys_that_is_none_is_named_and_not_quoted(tmp_path: Path, text: bytes | None, said: str) -> None:
    with facing(tmp_path, good) as place:
        if text is not None:
            (tmp_path / "keys").write_bytes(text)
        ended = place.run("--env-file", "keys")
        assert (ended.returncode, said in ended.stderr) == (2, True)


def test_a_rate_above_the_plan_is_refused_learnt_from_and_said_once(tmp_path: Path) -> None:
    """A page is so small that even a busy machine asks for more of them than the plan allows."""
    policy = sim_policy.Policy(rate_per_min=600, burst=5, rate_headers=False, page_cap=50)
    with desk(tmp_path, symbols=60, policy=policy) as place:
        names = ",".join(place.market.symbols)
        words = ("fetch", "stock-bars", "-s", names, "--start", "2024-04-01", "--end", "2024-05-31")
        ended = subprocess.run(
            [sys.executable, "-m", "stagingest", *words, "--max-rps", "400", "--processes", "0"],
            cwd=place.root, env=place.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.count("answered 429: --max-rps is above what the provider allows") == 1
        statuses = [seen.status for seen in place.server.log]
        assert 0 < statuses.count(429) < statuses.count(200)


# -- O, S20: neighbours and names ------------------------------------------------------------------------------


def test_two_fetches_with_one_key_share_one_rate(tmp_path: Path) -> None:
    """The server counts: by themselves they would ask twice as fast as it answers."""
    policy = sim_policy.Policy(rate_per_min=1200, burst=8)
    with desk(tmp_path, symbols=40, policy=policy) as place:
        names = place.market.symbols
        command = [
            [sys.executable, "-m", "stagingest", "fetch", "stock-bars", "-s", ",".join(half), "-t", "1Min",
             "--start", "2024-04-01", "--end", "2024-05-31", "--processes", "0", "--staging", f"staging{number}"]
            for number, half in enumerate((names[::2], names[1::2]))
        ]  # fmt: skip
        with ThreadPoolExecutor(2) as both:
            ended = list(
                both.map(lambda words: subprocess.run(words, cwd=tmp_path, env=place.environ, check=False), command)
            )
        assert [each.returncode for each in ended] == [0, 0]
        statuses = [seen.status for seen in place.server.log]
        assert statuses.count(429) < len(statuses) / 20
        assert len(list((tmp_path / "state").rglob("*.permit"))) == 1


ODD_NAMES = ["=cmd()", "../../etc/passwd", "A'; DROP TABLE x; --", "AA\x1b[2JPL", "A" * 65, "AAРL", "%41", "nul\x00"]  # noqa: RUF001


def test_names_that_are_no_symbols_are_shown_without_harm_and_the_rest_proceeds(tmp_path: Path) -> None:
    with facing(tmp_path, good) as place:
        (tmp_path / "names").write_text("\n".join([*ODD_NAMES, "AAAA"]).replace("\x00", "\x01"))
        ended = place.run("--symbols-file", "names")
        assert ended.returncode == 3
        assert "Rejected, not a symbol of the provider: =cmd()" in ended.stderr
        assert "AA\\x1b[2JPL" in ended.stderr
        assert "\x1b" not in ended.stderr
        assert len(place.entries()) == 1
        assert all(b"symbols=AAAA&" in request for request in place.server.requests)


@given(st.text(max_size=80))
def test_whatever_is_typed_only_plain_symbols_go_on(text: str) -> None:
    for endpoint in ("alpaca/stock-bars", "alpaca/option-bars", "alpaca/option-contracts"):
        names = symbols.resolve([text], catalog.endpoint(endpoint))
        assert all(re.fullmatch(r"[A-Z0-9][A-Z0-9.\-]{0,63}", name) for name in names.kept)
        assert all(name.isprintable() and len(name) <= 64 for name in names.rejected)


def test_a_place_is_what_it_is(tmp_path: Path) -> None:
    """The lab itself: a good server is fetched from without a word."""
    with facing(tmp_path, good) as place:
        assert isinstance(place, Place)
        ended = place.run()
        assert (ended.returncode, len(place.entries())) == (0, 1)
        assert os.stat(place.staging).st_mode & 0o077 == 0


# -- the streams and folders a command is given ------------------------------------------------------------------

FETCH = ("fetch", "stock-bars", "--symbols", "AAAA,BBBB", "--start", "2024-05-01", "--end", "2024-05-31")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_command_whose_streams_are_closed_works_and_writes_into_no_file_of_its_own(
    tmp_path: Path, closed: str, processes: str
) -> None:
    with desk(tmp_path, symbols=["AAAA", "BBBB"]) as place:
        for words in ((*FETCH, "--processes", processes), ("load",), ("status",)):
            command = ["bash", "-c", f'"$@" {closed}', "bash", sys.executable, "-m", "stagingest", *words]
            done = subprocess.run(
                command, cwd=tmp_path, env=place.environ, capture_output=True, timeout=120, check=False
            )
            assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done
        assert stagingest.verify(place.staging, place.db).disagreements == ()
        assert place.rows().num_rows > 40


def test_workers_start_though_the_folder_of_temporary_files_has_a_long_name(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    with desk(tmp_path, symbols=["AAAA", "BBBB"]) as place:
        command = [sys.executable, "-m", "stagingest", *FETCH, "--processes", "2"]
        environ = {**place.environ, "TMPDIR": str(long)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert place.rows().num_rows > 40


@pytest.mark.namespace
def test_a_staging_directory_that_cannot_be_written_into_is_named_with_what_to_do(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA", "BBBB"]) as place:
        place.fetch(symbols=["AAAA"], start="2024-05-01", end="2024-05-31")
        frozen = 'mount --bind staging staging && mount -o remount,ro,bind staging && exec "$@"'
        for words in (FETCH, ("retry",), ("repair",), ("universe", "import", "mine", "names.txt")):
            (tmp_path / "names.txt").write_text("AAAA\n")
            command = ["unshare", "-rm", "bash", "-c", frozen, "bash", sys.executable, "-m", "stagingest", *words]
            done = subprocess.run(
                command, cwd=tmp_path, env=place.environ, capture_output=True, text=True, timeout=120, check=False
            )
            assert (done.returncode, done.stdout) == (1, "")
            assert re.fullmatch(
                r"Error: \S*staging/run.lock cannot be locked: Read-only file system\. "
                r"Make \S*staging writable, or name another folder\.\n",
                done.stderr,
            ), done.stderr

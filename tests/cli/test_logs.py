"""Messages on stderr in three forms, and no secret in any of them."""

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from canary import credential, spelled
from desk import Desk, desk

from stagingest.cli.logs import PRIORITIES, Log, hearing
from stagingest.cli.output import FORMS
from stagingest.cli.progress import Lines
from stagingest.fetching.summary import Progress
from stagingest.model.secrets import clean, secrets
from stagingest.sim import policy

NOON = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
KEY, PASSWORD = credential(21), "correct horse battery"
ENVIRON = {
    "APCA_API_SECRET_KEY": KEY,
    "PGPASSWORD": PASSWORD,
    "DATABASE_URL": "postgresql://reader:s%2Fecret-dsn@db.example/market",
    "HOME": "/home/reader",
    "PGPASSFILE": "/home/reader/.pgpass",
}


def log(form: str) -> Log:
    made = Log(form, lambda: NOON)
    made.hide(ENVIRON)
    return made


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spelling", [each.decode() for name, each in spelled(KEY) if "UTF-16" not in name])
def test_a_key_in_a_message_is_not_shown_however_it_is_spelled(form: str, spelling: str) -> None:
    said = log(form).shown(f"before {spelling} after")
    assert spelling not in said
    assert "before ***" in said
    assert "after" in said


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("cannot reach postgresql://reader:s%2Fecret-dsn@db.example/market", "s%2Fecret-dsn"),
        ("the driver says s/ecret-dsn is refused", "s/ecret-dsn"),
        ("cannot reach postgresql://other:never-seen@db.example/market", "never-seen"),
        ("host=db password=never-seen dbname=market", "never-seen"),
        ("GET /v3/reference?apiKey=never-seen&limit=10", "never-seen"),
        ("Authorization: Bearer never-seen", "never-seen"),
        ("{'APCA-API-SECRET-KEY': 'never-seen'}", "never-seen"),
        (f"it is {PASSWORD}.", PASSWORD),
    ],
)
def test_a_password_by_accident_in_a_message_is_not_shown(form: str, text: str, secret: str) -> None:
    said = log(form).shown(text)
    assert secret not in said
    assert "***" in said


@pytest.mark.parametrize(
    "text",
    [
        "3/4 chunks 75% succeeded=3 failed=0 remaining=1 12 pages",
        "APCA_API_SECRET_KEY is not set. Set APCA_API_SECRET_KEY, or name a file of such lines with --env-file.",
        "the password is not in postgresql://reader@db.example:5432/market",
        "see https://example.com:8080/a@b and /home/reader/.pgpass",
    ],
)
def test_a_message_without_a_secret_is_left_alone(text: str) -> None:
    assert log("text").shown(text) == text


def test_only_what_is_named_as_a_secret_is_one() -> None:
    assert secrets(ENVIRON) == {KEY, PASSWORD, "s%2Fecret-dsn", "s/ecret-dsn"}
    assert secrets({"API_KEY": "short", "MONKEY": "bananas-bananas", "KEYBOARD": "qwertyuiop"}) == set()


def test_bytes_that_are_no_text_pass() -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    assert clean(f"{name} {KEY}", {KEY}) == f"{name} ***"


@pytest.mark.parametrize("level", PRIORITIES)
def test_journald_is_given_a_priority_on_every_line(level: str) -> None:
    said = log("journald").shown("Continue with:\n  stagingest fetch", level)
    assert said.splitlines() == [
        f"<{PRIORITIES[level]}>Continue with:",
        f"<{PRIORITIES[level]}>  stagingest fetch",
    ]


def test_json_is_one_object_a_line_with_the_numbers_of_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(log("json"))
    lines._last_s = float("-inf")
    lines.progress(Progress(4, 3, 1, 1, 100, 12, 13, 0, 2.0))
    lines.say("two\nlines")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert first["at"] == NOON.isoformat()
    assert (first["level"], first["done"], first["planned"], first["rows"]) == ("info", 3, 4, 100)
    assert first["message"].startswith("3/4 chunks 75%")
    assert second == {"at": NOON.isoformat(), "level": "info", "message": "two\nlines"}


def test_what_pythons_logging_hears_is_a_sentence_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    heard = logging.getLogger("stagingest.test")
    with hearing(log("journald")):
        try:
            raise ValueError(KEY)
        except ValueError:
            heard.exception("Note %s could not be taken.", KEY)
        heard.info("not of interest")
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "<3>Note *** could not be taken. ValueError."


@pytest.fixture
def place(tmp_path: Path):  # type: ignore[no-untyped-def]
    with desk(tmp_path, symbols=["AAAA", "BBBB"]) as made:
        yield made


def run(place: Desk, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "stagingest", *words]
    env = {**place.environ, **environ}
    return subprocess.run(command, cwd=place.root, env=env, capture_output=True, text=True, timeout=60, check=False)


FETCH = ("fetch", "stock-bars", "--symbols", "AAAA,CSP1", "--start", "2024-05-01", "--end", "2024-05-31")


def test_a_fetch_says_the_same_in_every_form_and_its_result_on_stdout_alone(place: Desk) -> None:
    text = run(place, *FETCH)
    journald = run(place, "--log-format", "journald", *FETCH, "--no-resume")
    as_json = run(place, *FETCH, "--no-resume", STAGINGEST_LOG_FORMAT="json")
    assert text.returncode == journald.returncode == as_json.returncode == 3
    assert "<4>Rejected, not a symbol of the provider: CSP1." in journald.stderr.splitlines()
    assert all(line.startswith(("<3>", "<4>", "<6>")) for line in journald.stderr.splitlines())
    assert [line[3:] for line in journald.stderr.splitlines()] == text.stderr.splitlines()
    said = [json.loads(line) for line in as_json.stderr.splitlines()]
    assert "\n".join(each["message"] for each in said) == text.stderr.rstrip("\n")
    for ended in (text, journald, as_json):
        assert ended.stdout.startswith("chunks    1 planned: 1 staged")


@pytest.mark.parametrize("words", [("fetch", "stock-barz", "-s", "A"), ("fetsh",), ("fetch", "--nonsense"), ("load",)])
def test_an_error_is_one_message_of_the_form(place: Desk, words: tuple[str, ...]) -> None:
    ended = run(place, "--log-format", "json", *words)
    assert ended.returncode in (1, 2)
    (said,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert said["level"] == "error"
    assert said["message"].startswith("Error: ")


def test_a_password_on_the_command_line_is_refused_and_not_repeated(place: Desk) -> None:
    (place.root / "staging").mkdir()
    ended = run(place, "load", "--to", "postgresql://reader:never-seen@127.0.0.1/market", "--nonsense=password=ABCDEF")
    assert ended.returncode == 2
    assert "never-seen" not in ended.stderr
    assert "ABCDEF" not in ended.stderr


def test_a_key_of_an_env_file_is_hidden_too(place: Desk) -> None:
    file = place.root / "keys.env"
    file.write_text("APCA_API_KEY_ID=AAAA-of-the-file\nAPCA_API_SECRET_KEY=secret-of-the-file\n")
    file.chmod(0o600)
    ended = run(place, "fetch", "stock-bars", "--symbols", "secret-of-the-file,AAAA", "--env-file", str(file),
                "--start", "2024-05-01", "--end", "2024-05-31")  # fmt: skip
    assert ended.returncode == 3
    assert "secret-of-the-file" not in ended.stderr.lower()


def test_the_last_words_of_a_stopped_command_have_the_form_too(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA"], policy=policy.Policy(faults=(policy.Fault("hang", nth=(1,)),))) as place:
        command = [sys.executable, "-m", "stagingest", "--log-format", "journald", *FETCH]
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        process = subprocess.Popen(command, cwd=tmp_path, env=place.environ, stdout=null, stderr=pipe, text=True)
        assert place.server.hung.wait(60)
        process.terminate()
        said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 143
    assert "<4>Terminated; what is staged stays. Continue with:" in said
    assert all(line.startswith(("<3>", "<4>", "<6>")) for line in said)

"""The configuration: what it sets, what it refuses, and profiles that fetch and load in one command."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk, desk

from stagingest.api import config, profile
from stagingest.errors import HeldError, UsageError
from stagingest.sim import policy
from stagingest.system import paths
from stagingest.targets.duckdb.connection import read

HOME = "/home/me"


@pytest.mark.parametrize(
    ("platform", "environ", "config_dir", "state_dir"),
    [
        ("linux", {}, "/home/me/.config/stagingest", "/home/me/.local/state/stagingest"),
        ("linux", {"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}, "/c/stagingest", "/s/stagingest"),
        ("linux", {"XDG_STATE_HOME": "relative"}, "/home/me/.config/stagingest", "/home/me/.local/state/stagingest"),
        (
            "darwin", {}, "/home/me/Library/Application Support/stagingest",
            "/home/me/Library/Application Support/stagingest/state",
        ),
        ("win32", {"APPDATA": r"C:\R", "LOCALAPPDATA": r"C:\L"}, r"C:\R\stagingest", r"C:\L\stagingest"),
    ],
)  # fmt: skip
def test_each_platform_has_its_folders(platform: str, environ: dict[str, str], config_dir: str, state_dir: str) -> None:
    found = paths.places(platform, environ, HOME)
    assert (str(found.config), str(found.state)) == (config_dir, state_dir)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_projects_file_is_over_the_users(tmp_path: Path) -> None:
    project = written(tmp_path / "stagingest.toml", '[fetch]\nfeed = "iex"\n[profile.a]\nto = "x"\n')
    written(tmp_path / "user" / "config.toml", '[fetch]\nfeed = "sip"\nend = "2024-01-31"\n[profile.b]\nto = "y"\n')
    found = config.read(tmp_path / "user", project)
    assert {name: source.value for name, source in found.options["fetch"].items()} == {
        "feed": "iex",
        "end": "2024-01-31",
    }
    assert set(found.named["profile"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[fetch\n", "is no TOML"),
        ('feed = "sip"\n', "feed is a value where a table belongs"),
        ('[load]\napca_api_key_id = "x"\n', "looks like a secret"),
        ('[target.x]\npassword = "x"\n', "looks like a secret"),
        ("[profile]\na = 1\n", "profile.a is a value"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        config.read(None, written(tmp_path / "stagingest.toml", text))


def test_a_preset_is_conservative_aggressive_or_the_users_own(tmp_path: Path) -> None:
    text = '[preset.mine]\nprocesses = 1\nmax_rps = 2\n[preset.mine."alpaca/option-bars"]\nmax_rps = 0.5\nlanes = 4\n'
    found = config.read(None, written(tmp_path / "stagingest.toml", text))
    expected = {"processes": 1, "max_rps": ["2", "alpaca/option-bars=0.5"], "lanes": ["alpaca/option-bars=4"]}
    assert config.preset("mine", found) == expected
    assert config.preset("balanced", found) == {}
    slow = dict(each.split("=") for each in config.preset("conservative", found)["max_rps"])
    assert float(slow["alpaca/stock-bars"]) == pytest.approx(200 / 60 / 2, rel=1e-3)
    with pytest.raises(UsageError, match="The nearest is mine"):
        config.preset("mime", found)


PROFILE = """
[profile.nightly]
staging = "staging"
to = "market.duckdb"
preset = "aggressive"

[[profile.nightly.steps]]
dataset = "option-bars"
underlyings = ["AAAA"]
expiry_gte = "2024-06-01"
expiry_lte = "2024-06-30"
start = "2024-05-28"
processes = 0

[[profile.nightly.steps]]
dataset = "option-contracts"
underlyings = "AAAA"
expiry_gte = "2024-06-01"
expiry_lte = "2024-06-30"
processes = 0

[[profile.nightly.steps]]
dataset = "stock-bars"
symbols = ["AAAA", "BBBB"]
start = "2024-05-01"
max_rps = 500
processes = 0
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    with desk(tmp_path, symbols=["AAAA", "BBBB"]) as made:
        yield made


def nightly(place: Desk, text: str = PROFILE) -> profile.Profile:
    return profile.profile("nightly", config.read(None, written(place.root / "stagingest.toml", text)))


def test_listings_come_first_and_each_step_keeps_its_own_words(place: Desk) -> None:
    plan = nightly(place)
    assert [step.dataset for step in plan.steps] == ["option-contracts", "option-bars", "stock-bars"]
    assert plan.steps[2].asked["max_rps"] == {"": 500.0}
    assert plan.steps[2].asked["lanes"][""] >= 1
    assert plan.steps[0].asked["underlyings"] == ["AAAA"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('symbols = ["AAAA"', 'simbols = ["AAAA"', "step 3 has no 'simbols'. The nearest is symbols."),
        ('dataset = "stock-bars"', 'datset = "stock-bars"', "step 3 names no dataset"),
        ('preset = "aggressive"', 'preset = "agressive"', "The nearest is aggressive"),
        ('to = "market', 'too = "market', "has no 'too'. The nearest is to."),
        ("max_rps = 500", 'max_rps = "fast"', "is no number"),
    ],
)
def test_a_profile_that_is_wrong_names_the_nearest_word(place: Desk, old: str, new: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        nightly(place, PROFILE.replace(old, new))
    assert says in str(caught.value)


def ran(place: Desk, plan: profile.Profile) -> profile.Ran:
    return profile.run(plan, environ=place.environ, listener=place, clock=lambda: place.now)


def test_a_run_fetches_and_loads_and_a_second_has_nothing_to_do(place: Desk) -> None:
    first = ran(place, nightly(place))
    assert first.exit_code == 0
    names = ("stock_bars", "option_contracts", "option_bars")
    counts = [read(place.db, f"SELECT count(*) FROM {name}")[1][0][0] for name in names]
    assert counts == [found.summary.rows for found in (first.steps[2][1], first.steps[0][1], first.steps[1][1])]
    place.requests()
    again = ran(place, nightly(place))
    assert (again.exit_code, again.loaded.rows, place.requests()) == (0, 0, 0)


def test_a_step_that_fails_leaves_the_others_and_the_code_is_the_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with desk(tmp_path, symbols=["AAAA", "BBBB"], policy=policy.Policy(opra=False)) as place:
        result = ran(place, nightly(place))
        codes = {dataset: found.exit_code for dataset, found in result.steps}
        assert codes == {"option-contracts": 0, "option-bars": 4, "stock-bars": 0}
        assert result.exit_code == 4
        assert "OPRA agreement" in result.steps[1][1].summary.stopped
        assert read(place.db, "SELECT count(DISTINCT symbol) FROM stock_bars")[1] == [(2,)]


def tool(place: Desk, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stagingest", *words]
    return subprocess.run(
        command, cwd=place.root, env={**place.environ, **environ}, capture_output=True, text=True, timeout=120
    )


def options(shown: subprocess.CompletedProcess[str]) -> dict[str, tuple[object, str]]:
    return {row["option"]: (row["value"], row["from"]) for row in json.loads(shown.stdout)["options"]}


def test_a_flag_is_over_the_environment_over_the_file_over_the_default(place: Desk) -> None:
    written(place.root / "stagingest.toml", '[defaults]\nstaging = "there"\n[fetch]\nfeed = "iex"\ncurrency = "EUR"\n')
    found = options(tool(place, "config", "show", "--json", STAGINGEST_FETCH_CURRENCY="CHF"))
    assert found["feed"] == ("iex", "stagingest.toml")
    assert found["staging"] == ("there", "stagingest.toml")
    assert found["currency"] == ("CHF", "STAGINGEST_FETCH_CURRENCY")
    assert found["adjustment"] == ("raw", "default")
    written(place.root / "my.env", "STAGINGEST_FETCH_FEED=boats\n")
    asked = ["fetch", "stock-bars", "-s", "AAAA", "--dry-run", "--env-file", "my.env", "--start", "2024-05-01"]
    assert "feed=boats" in tool(place, *asked).stdout
    assert "feed=otc" in tool(place, *asked, "--feed", "otc").stdout


def test_config_is_written_once_and_checked(place: Desk) -> None:
    assert tool(place, "config", "init").returncode == 0
    assert tool(place, "config", "check").stdout == "right: stagingest.toml\n"
    again = tool(place, "config", "init")
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    written(place.root / "stagingest.toml", '[lod]\nto = "x"\n[defaults]\nstagin = "y"\n[fetch]\nfed = "z"\n')
    checked = tool(place, "config", "check")
    assert checked.returncode == 2
    for near in ("nearest is load", "nearest is staging", "nearest is feed"):
        assert near in checked.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[endpoint."alpaca/option-bar"]\nlanes = 3\n', "The nearest is alpaca/option-bars"),
        ('[endpoint."alpaca/option-bars"]\nlane = 3\n', "The nearest is lanes"),
        ('[endpoint."alpaca/option-bars"]\nlanes = 99\n', "lanes must be a number from 1 to 64, not '99'"),
        ('[preset.mine]\nmax_rps = "x"\n', "max_rps must be a number greater than 0, not 'x'"),
        ("[preset.mine]\nmaxrps = 1\n", "The nearest is max_rps"),
    ],
)
def test_endpoints_and_presets_are_checked_too_and_the_file_is_named(place: Desk, text: str, says: str) -> None:
    written(place.root / "stagingest.toml", text)
    checked = tool(place, "config", "check")
    assert checked.returncode == 2
    assert checked.stderr.startswith("stagingest.toml: ")
    assert says in checked.stderr


def test_a_run_killed_at_any_time_continues_with_the_same_command(place: Desk) -> None:
    head, last = PROFILE.partition("[[")[0], PROFILE.rpartition("[[")[2]
    written(place.root / "stagingest.toml", f'{head}[[{last}end = "2024-05-31"\n')
    command = [sys.executable, "-m", "stagingest", "run", "nightly", "--json"]
    with subprocess.Popen(
        command, cwd=place.root, env=place.environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as it:
        while not (place.root / "staging" / "manifest.sqlite").exists():
            os.sched_yield()
        it.send_signal(signal.SIGKILL)
    done = tool(place, "run", "nightly", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exit_code"] == 0
    assert read(place.db, "SELECT count(DISTINCT symbol) FROM stock_bars")[1] == [(2,)]


def test_nothing_to_do_is_an_error_when_it_is_asked_to_be(place: Desk) -> None:
    asked = ["fetch", "stock-bars", "-s", "AAAA", "--start", "2024-05-01", "--end", "2024-05-31", "--fail-if-empty"]
    assert tool(place, *asked).returncode == 0
    assert tool(place, *asked).returncode == 7
    assert tool(place, "load", "--fail-if-empty").returncode == 0
    assert tool(place, "load", "--fail-if-empty").returncode == 7


def test_a_target_somebody_has_fails_the_run_only_at_its_end(place: Desk) -> None:
    script = "import duckdb, sys; c = duckdb.connect('market.duckdb'); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=place.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        result = ran(place, nightly(place))
        holder.communicate(b"")
    assert isinstance(result.loaded, HeldError)
    assert result.exit_code == 75
    assert ran(place, nightly(place)).loaded.rows > 0

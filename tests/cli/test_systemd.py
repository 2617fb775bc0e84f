"""Units of systemd: what they run, when, in which bounds; and that they work side by side."""

import os
import re
import shlex
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from desk import desk

from stagingest.cli import stagingest
from stagingest.cli.systemd import DAILY, IN_SESSION, UnitOptions, units
from stagingest.model import calendar
from stagingest.sim import policy as sim_policy
from stagingest.targets.duckdb.connection import read

SERVICES = [f"stagingest-{job}{load}.service" for job in ("contracts", "snapshots") for load in ("", "-load")]
TIMERS = ["stagingest-contracts.timer", "stagingest-snapshots.timer"]
SETUP = UnitOptions(
    program=(sys.executable, "-m", "stagingest"),
    names=("--underlyings", "AAAA,BBBB"),
    provider="alpaca",
    root="/srv/market/staging",
    to="market.duckdb",
    to_folder="/srv/market",
    env_file="/srv/keys",
    state_home="/srv/state",
    folder="/srv/market",
)


def setting(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def words(text: str) -> list[str]:
    """What a service runs, the program left out; the names here need no quoting."""
    (line,) = setting(text, "ExecStart")
    return shlex.split(line)[len(SETUP.program) :]


def parsed(line: list[str]) -> tuple[str, dict[str, object]]:
    """The command of a line and its parameters, as click reads them."""
    with stagingest.make_context("stagingest", list(line)) as context:
        name, command, rest = stagingest.resolve_command(context, context._protected_args + context.args)
        assert isinstance(command, click.Command)
        with command.make_context(name, rest, parent=context) as inner:
            return str(name), inner.params


@pytest.mark.parametrize("provider", ["alpaca", "massive"])
def test_every_service_runs_a_command_of_the_tool(provider: str) -> None:
    made = {
        name: parsed(words(text)) for name, text in units(replace(SETUP, provider=provider)).items() if name in SERVICES
    }
    assert [name for name, _ in made.values()] == ["fetch", "load"] * 2
    contracts, to_contracts, snapshots, to_snapshots = (options for _, options in made.values())
    assert (contracts["dataset"], contracts["underlyings"]) == (f"{provider}/option-contracts", ("AAAA,BBBB",))
    assert snapshots["dataset"] == f"{provider}/option-snapshots"
    assert contracts["max_minutes"] == snapshots["max_minutes"] == 28
    assert (contracts["in_session"], snapshots["in_session"]) == (False, True)
    assert snapshots["contracts_from"] == contracts["staging"] == to_contracts["staging"][0]
    assert snapshots["staging"] == to_snapshots["staging"][0] != contracts["staging"]
    for load in (to_contracts, to_snapshots):
        assert (load["to"], load["lock_timeout"], load["adopt"]) == ("market.duckdb", 300, True)


def test_a_service_is_bounded_hardened_and_writes_only_where_it_must() -> None:
    made = units(SETUP)
    for name in SERVICES:
        text = made[name]
        assert setting(text, "SuccessExitStatus") == ["75"]
        assert setting(text, "RuntimeMaxSec") == ["30min"]
        assert setting(text, "Type") == ["exec"]
        assert setting(text, "LimitNOFILE") == ["65536"]
        assert setting(text, "EnvironmentFile") == ["/srv/keys"]
        assert setting(text, "ProtectSystem") == ["strict"]
        assert setting(text, "NoNewPrivileges") == setting(text, "PrivateTmp") == ["yes"]
    assert [setting(made[name], "ReadWritePaths") for name in SERVICES] == [
        ["/srv/market/staging/contracts /srv/state/stagingest"],
        ["/srv/market/staging/contracts /srv/market"],
        ["/srv/market/staging/snapshots /srv/state/stagingest"],
        ["/srv/market/staging/snapshots /srv/market"],
    ]


def test_what_is_staged_is_loaded_after_a_failure_too() -> None:
    for job in ("contracts", "snapshots"):
        text = units(SETUP)[f"stagingest-{job}.service"]
        assert setting(text, "OnSuccess") == setting(text, "OnFailure") == [f"stagingest-{job}-load.service"]


def test_names_that_systemd_would_read_otherwise_are_quoted() -> None:
    odd = replace(SETUP, root='/srv/50% "of" it', to="$DATABASE_URL", folder="/srv/100%", to_folder="")
    text = units(odd)["stagingest-contracts-load.service"]
    assert '--staging "/srv/50%% \\"of\\" it/contracts" --to $$DATABASE_URL' in text
    assert setting(text, "ReadWritePaths") == ['"/srv/50%% \\"of\\" it/contracts"']
    assert setting(text, "WorkingDirectory") == ["/srv/100%%"]


def test_folders_that_the_services_would_not_see_are_named() -> None:
    assert SETUP.unseen() == ()
    assert replace(SETUP, folder="/tmp", state_home="/var/tmp/s").unseen() == ("/tmp", "/var/tmp/s/stagingest")


def analyze(place: Path, *line: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(place), "TZ": "UTC"}
    command = ["systemd-analyze", *line]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    program, odd = tmp_path / "a 50% $HOME;" / "program", str(tmp_path / 'a "b" 50% $HOME \\')
    program.parent.mkdir()
    program.symlink_to("/bin/true")  # which is looked for
    setup = replace(SETUP, root=odd, folder=odd, to_folder=odd, program=(str(program),))
    for name, text in units(setup).items():
        (tmp_path / name).write_text(text)
    ended = analyze(tmp_path, "verify", "--user", *(str(tmp_path / name) for name in TIMERS + SERVICES))
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


@pytest.mark.systemd
@pytest.mark.parametrize(
    ("right", "wrong"), [("Type=exec", "Type=oneshot"), ("LimitCORE", "LimitCode"), ("=/", "=/nowhere/")]
)
def test_systemd_would_say_what_is_wrong(tmp_path: Path, right: str, wrong: str) -> None:
    for name, text in units(SETUP).items():
        (tmp_path / name).write_text(text.replace(right, wrong))
    assert analyze(tmp_path, "verify", "--user", str(tmp_path / SERVICES[0])).stderr


def elapses(place: Path, base: str, number: int, *calendars: str) -> set[datetime]:
    ended = analyze(place, "calendar", f"--iterations={number}", f"--base-time={base}", *calendars)
    assert ended.returncode == 0, ended.stderr
    times = re.findall(r"(?:elapse|#\d+): \w+ ([\d-]+ [\d:]+) UTC", ended.stdout)
    return {datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times}


@pytest.mark.systemd
@pytest.mark.parametrize("monday", [datetime(2026, 10, 26, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)])
def test_snapshots_are_due_every_ten_minutes_of_the_session_before_and_after_the_clocks_change(
    tmp_path: Path, monday: datetime
) -> None:
    week = [monday + timedelta(minutes=10 * n) for n in range(7 * 144)]
    due = elapses(tmp_path, f"{monday:%F %T} UTC", 5 * 36, *IN_SESSION)
    assert {moment for moment in due if moment < week[-1]} == {moment for moment in week if calendar.is_open(moment)}


@pytest.mark.systemd
def test_contracts_are_due_at_two_in_new_york(tmp_path: Path) -> None:
    due = elapses(tmp_path, "2026-10-30 12:00:00 UTC", 2, *DAILY)
    assert due == {datetime(2026, 10, 31, 6, tzinfo=UTC), datetime(2026, 11, 1, 7, tzinfo=UTC)}


def run(*line: str) -> "click.testing.Result":
    return CliRunner().invoke(stagingest, ["systemd", *line])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


INSTALL = ("install", "--user", "--underlyings", "SPY,AAPL")


def test_install_writes_the_printed_units_and_the_folders_they_need_and_says_what_starts_them(here: Path) -> None:
    printed, installed = run("print", "--underlyings", "SPY,AAPL").stdout, run(*INSTALL)
    assert installed.exit_code == 0, installed.output
    folder = here / "config" / "systemd" / "user"
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert sorted(written) == sorted(SERVICES + TIMERS)
    assert all(f"# {name}\n{text}" in printed for name, text in written.items())
    for text in written.values():
        for path in shlex.split(" ".join(setting(text, "ReadWritePaths"))):
            assert Path(path).is_dir()
    assert (here / "unattended" / "snapshots").is_dir()
    assert f"systemctl --user enable --now {' '.join(TIMERS)}" in installed.stderr
    assert f"Write your keys into {here}/config/stagingest/env" in installed.stderr
    (program,) = {line.split()[0] for text in written.values() for line in setting(text, "ExecStart")}
    assert os.access(program, os.X_OK)


def test_install_leaves_alone_what_differs_and_says_so_unless_it_is_to_be_replaced(here: Path) -> None:
    assert run(*INSTALL).exit_code == 0
    assert run(*INSTALL).stdout.count("same  ") == len(SERVICES + TIMERS)
    folder = here / "config" / "systemd" / "user"
    (folder / TIMERS[0]).write_text("mine")
    (folder / SERVICES[0]).unlink()
    refused = CliRunner().invoke(stagingest, ["systemd", *INSTALL], standalone_mode=False)
    assert f"other units of these names: {TIMERS[0]}. Nothing was written" in str(refused.exception)
    assert ((folder / TIMERS[0]).read_text(), (folder / SERVICES[0]).exists()) == ("mine", False)
    replaced = run(*INSTALL, "--replace")
    assert replaced.exit_code == 0
    assert f"replaced  {folder / TIMERS[0]}" in replaced.stdout
    assert f"written  {folder / SERVICES[0]}" in replaced.stdout
    assert "OnCalendar" in (folder / TIMERS[0]).read_text()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("install", "--underlyings", "SPY"), "Add --user"),
        (("install", "--user"), "either --underlyings SPY,AAPL or --symbols-file"),
        (("print", "--symbols-file", "nowhere.csv"), "nowhere.csv cannot be read"),
        (("print", "--underlyings", "SPY", "--provider", "alpaka"), "alpaca"),
        (("print", "--underlyings", "SPY", "--db", "postgresql://u:password@host/db"), "does not belong"),
    ],
)
def test_what_no_unit_can_be_made_of_is_refused(here: Path, line: tuple[str, ...], says: str) -> None:
    ended = CliRunner().invoke(stagingest, ["systemd", *line], standalone_mode=False)
    assert getattr(ended.exception, "exit_code", None) == 2
    assert says in str(ended.exception)
    assert list(here.iterdir()) == []


def test_keys_that_others_may_read_or_systemd_may_not_are_refused(here: Path) -> None:
    keys = here / "keys"
    keys.write_text("APCA_API_KEY_ID=x\nAPCA_API_SECRET_KEY=y\n")
    keys.chmod(0o644)
    ended = CliRunner().invoke(stagingest, ["systemd", *INSTALL, "--env-file", "keys"], standalone_mode=False)
    assert "chmod 600" in str(ended.exception)
    keys.write_text("export APCA_API_KEY_ID=x\n")
    keys.chmod(stat.S_IRUSR)
    ended = CliRunner().invoke(stagingest, ["systemd", *INSTALL, "--env-file", "keys"], standalone_mode=False)
    assert "which systemd does not read" in str(ended.exception)
    keys.chmod(0o600)
    keys.write_text("APCA_API_KEY_ID=x\n")
    assert "Write your keys" not in run(*INSTALL, "--env-file", "keys").stderr


def test_a_server_needs_no_folder(here: Path) -> None:
    printed = run("print", "--underlyings", "SPY", "--db", "postgresql://127.0.0.1/market").stdout
    assert f"ReadWritePaths={here}/unattended/snapshots\n" in printed
    printed = run("print", "--underlyings", "SPY", "--db", "parquet:tree").stdout
    assert f"ReadWritePaths={here}/unattended/snapshots {here}/tree\n" in printed


def test_both_services_fetch_and_load_one_database_while_a_long_fetch_holds_a_third_directory(tmp_path: Path) -> None:
    policy = sim_policy.Policy(faults=(sim_policy.Fault("hang", nth=(1,)),))
    with desk(tmp_path, symbols=["AAAA", "BBBB"], policy=policy, now=datetime.now(UTC)) as place:
        setup = replace(SETUP, root=str(tmp_path / "staging"), state_home=str(tmp_path / "state"))
        lines = {name: words(text) for name, text in units(setup).items() if name in SERVICES}
        lines[SERVICES[2]].remove("--in-session")  # whenever this test runs

        def begin(*line: str) -> "subprocess.Popen[str]":
            command = [*SETUP.program, *line]
            pipe = subprocess.PIPE
            return subprocess.Popen(command, cwd=tmp_path, env=place.environ, stdout=pipe, stderr=pipe, text=True)

        def end(process: "subprocess.Popen[str]", code: int = 0) -> None:
            _, said = process.communicate(timeout=120)
            assert process.returncode == code, said

        bars = ("stock-bars", "--symbols", "AAAA", "--start", "2025-01-02", "--end", "2025-01-31")
        long = begin("fetch", *bars, "--staging", "staging/bars")
        assert place.server.hung.wait(60)
        end(begin(*lines[SERVICES[0]]))
        both = [begin(*lines[SERVICES[1]]), begin(*lines[SERVICES[2]])]
        for each in both:
            end(each)
        again = [begin(*lines[SERVICES[1]]), begin(*lines[SERVICES[3]])]
        for each in again:
            end(each)
        assert long.poll() is None
        end(begin("fetch", *bars, "--staging", "staging/bars"), code=75)  # a timer that overlaps itself
        place.server.release()
        end(long)
        end(begin("load", "--staging", "staging/bars", "--to", "market.duckdb", "--adopt"))
        counts = {table: read(place.db, f"SELECT count(*) FROM {table}")[1][0][0] for table in TABLES}
        assert min(counts.values()) > 0, counts
        assert read(place.db, "SELECT count(DISTINCT staging) FROM ledger")[1] == [(3,)]
        captured = "SELECT count(*) FROM option_snapshots s ANTI JOIN option_contracts c USING (contract_symbol)"
        assert read(place.db, captured)[1] == [(0,)]


TABLES = ("option_contracts", "option_snapshots", "stock_bars")

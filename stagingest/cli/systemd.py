"""`stagingest systemd`: services and timers that fetch and load unattended."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from stagingest.cli import options as o
from stagingest.cli import output
from stagingest.errors import StagingestError, UsageError

F = TypeVar("F", bound=Callable[..., Any])
_path = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--underlyings", multiple=True, help="Stocks whose contracts and chains are kept, SPY,AAPL."),
    click.option("--symbols-file", metavar="FILE[:COLUMN]", help="The same from a file, read at every run."),
    click.option("--provider", default="alpaca", show_default=True, help="Provider of contracts and chains."),
    click.option(
        "--staging-root",
        type=_path,
        default=Path("unattended"),
        show_default=True,
        help="Folder in which each service has its own staging directory.",
    ),
    click.option("--to", "--db", default="market.duckdb", show_default=True, metavar="TARGET", help="As of `load`."),
    click.option(
        "--env-file",
        type=_path,
        help="File of NAME=value lines with keys.  [default: stagingest/env in the folder of user settings]",
    ),
)


def _setup(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def systemd() -> None:
    """Print or install units of systemd: contracts daily at 02:00, chain snapshots every ten minutes of the session.

    Each of the two is a timer, a service that fetches into its own staging directory, and a service that loads it
    afterwards into one database. Both run in the folder in which the units are made.
    """


@systemd.command("print")
@_setup
def print_(**given: Any) -> None:
    """Print the units, each after a line with its name."""

    for name, text in units(_as_setup(**given)).items():
        output.out(f"# {name}\n{text}")


@systemd.command()
@_setup
@click.option("--user", is_flag=True, help="For your own systemd; required.")
@click.option("--replace", is_flag=True, help="Overwrite units that differ.")
def install(user: bool, replace: bool, **given: Any) -> None:
    """Write the units into your own systemd's folder, and make the folders they need.

    Nothing is written when a unit is there that differs, unless --replace is given. Nothing is started: the commands
    that do are printed.
    """

    if not user:
        raise UsageError("Units are installed for a user.", "Add --user, or see `stagingest systemd print`.")
    setup = _as_setup(**given)
    from stagingest.system import paths

    folder, texts = Path(paths.folders(os.environ).config).parent / "systemd" / "user", units(setup)
    there = {name: (folder / name).read_text() for name in texts if (folder / name).exists()}
    differing = [name for name, text in there.items() if text != texts[name]]
    if differing and not replace:
        raise StagingestError(
            f"{folder} has other units of these names: {', '.join(differing)}. Nothing was written.",
            "Add --replace to overwrite them.",
        )
    for place in (*map(Path, setup.writable()), folder):
        place.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        if there.get(name) != text:
            (folder / name).write_text(text)
        output.out(
            f"{'same' if there.get(name) == text else 'replaced' if name in there else 'written'}  {folder / name}"
        )
    _next(setup, [name for name in texts if name.endswith(".timer")])


def _next(setup: "UnitOptions", timers: list[str]) -> None:
    if setup.unseen():
        output.say(
            f"Services see a /tmp of their own, not {output.few(setup.unseen())}: name other folders.", "warning"
        )
    if not Path(setup.env_file).exists():
        output.say(f"Write your keys into {setup.env_file}, NAME=value lines, for you alone (chmod 600).", "warning")
    output.say(
        f"Next: systemctl --user daemon-reload && systemctl --user enable --now {shlex.join(timers)}\n"
        "They stop when you log out, unless: loginctl enable-linger"
    )


def _as_setup(
    underlyings: tuple[str, ...],
    symbols_file: str | None,
    provider: str,
    staging_root: Path,
    to: str,
    env_file: Path | None,
) -> "UnitOptions":
    from stagingest.api import config, target
    from stagingest.planning import symbols
    from stagingest.providers import catalog
    from stagingest.system import paths

    for dataset in ("option-contracts", "option-snapshots"):
        catalog.resolve(dataset, provider)
    names = o.listed(underlyings)
    if bool(names) == bool(symbols_file):
        raise UsageError("Whose contracts?", "Give either --underlyings SPY,AAPL or --symbols-file FILE.")
    if symbols_file:
        symbols.from_file(symbols_file)
    env_file = (env_file or Path(paths.folders(os.environ).config) / "env").absolute()
    environ = config.with_env_file(os.environ, env_file if env_file.exists() else None)
    if env_file.exists() and any(line.lstrip().startswith("export ") for line in env_file.read_text().splitlines()):
        raise UsageError(f"{env_file} has `export` before a name, which systemd does not read.", "Write NAME=value.")
    folder = target.folder(to, environ)
    return UnitOptions(
        program=_program(),
        names=("--symbols-file", symbols_file) if symbols_file else ("--underlyings", ",".join(names)),
        provider=provider,
        root=str(staging_root.absolute()),
        to=to,
        to_folder=str(folder.absolute()) if folder else "",
        env_file=str(env_file),
        state_home=str(paths.state_dir(os.environ).parent.absolute()),
        folder=str(Path.cwd()),
    )


def _program() -> tuple[str, ...]:
    beside = Path(sys.executable).with_name("stagingest")
    found = str(beside) if beside.exists() else shutil.which("stagingest")
    return (found,) if found else (sys.executable, "-m", "stagingest")


# A run ends by itself, with what it has, before systemd would end it.
CLEAN_END_MIN, BACKSTOP_MIN = 28, 30
DAILY = ("*-*-* 02:00:00 America/New_York",)
IN_SESSION = ("Mon..Fri *-*-* 09:30..59/10:00 America/New_York", "Mon..Fri *-*-* 10..15:00/10:00 America/New_York")
_PRIVATE = ("/tmp/", "/var/tmp/")  # noqa: S108 -- nothing is written there
_HARDENED = (
    ("NoNewPrivileges", "yes"),
    # A user's manager may make mount namespaces only inside a namespace of users.
    ("PrivateUsers", "yes"),
    ("PrivateTmp", "yes"),
    ("ProtectSystem", "strict"),
    ("ProtectControlGroups", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallErrorNumber", "EPERM"),
    ("UMask", "0077"),
    ("LimitCORE", "0"),
)


@dataclass(frozen=True, slots=True)
class UnitOptions:
    """What the units are made for; every path is absolute.

    Args:
        program: the words that start the tool.
        names: options that name the underlyings, `("--underlyings", "SPY,AAPL")`.
        provider: of contracts and chains.
        root: below it each fetch has its own staging directory.
        to: where rows are loaded, as `load --to` takes it from `folder`.
        to_folder: the folder that loading writes, '' for a server.
        env_file: NAME=value lines with keys.
        state_home: holds the folder of the shared permit records.
        folder: where the commands run: relative paths and `stagingest.toml` are there.
    """

    program: tuple[str, ...]
    names: tuple[str, ...]
    provider: str
    root: str
    to: str
    to_folder: str
    env_file: str
    state_home: str
    folder: str

    def writable(self) -> tuple[str, ...]:
        """The folders that must be there before a unit starts."""
        folders = (*(f"{self.root}/{name}" for name in ("contracts", "snapshots")), self.state, self.to_folder)
        return tuple(folder for folder in folders if folder)

    def unseen(self) -> tuple[str, ...]:
        """The folders that PrivateTmp hides from the services."""
        folders = dict.fromkeys((self.folder, *self.writable()))
        return tuple(path for path in folders if f"{path}/".startswith(_PRIVATE))

    @property
    def state(self) -> str:
        """The folder of the permit records."""
        return f"{self.state_home}/stagingest"


def units(setup: UnitOptions) -> dict[str, str]:
    """Name -> text of every unit: for each of both jobs a timer, a service that fetches, and one that loads."""
    contracts = ("option-contracts", *setup.names)
    snapshots = ("option-snapshots", "--contracts-from", f"{setup.root}/contracts", "--in-session")
    return {
        **_job(setup, "contracts", contracts, DAILY, persistent=True),
        **_job(setup, "snapshots", snapshots, IN_SESSION, persistent=False),
    }


def _job(
    setup: UnitOptions, job: str, asked: Sequence[str], times: Sequence[str], *, persistent: bool
) -> dict[str, str]:
    name, staging = f"stagingest-{job}", f"{setup.root}/{job}"
    fetch = ("fetch", f"{setup.provider}/{asked[0]}", *asked[1:], "--staging", staging)
    # Several staging directories share the target; its holder is waited for.
    load = ("load", "--staging", staging, "--to", setup.to, "--adopt", "--lock-timeout", "5min")
    what = "option contracts" if job == "contracts" else "option chain snapshots"
    # Also after a failure: what is staged is loaded.
    then = [("OnSuccess", f"{name}-load.service"), ("OnFailure", f"{name}-load.service")]
    calendar = [("OnCalendar", each) for each in times]
    timer = [*calendar, ("AccuracySec", "1s"), ("Persistent", "yes" if persistent else "no")]
    return {
        f"{name}.timer": _text(
            Unit=[("Description", f"When stagingest fetches {what}")],
            Timer=timer,
            Install=[("WantedBy", "timers.target")],
        ),
        f"{name}.service": _text(
            Unit=[("Description", f"stagingest fetches {what}"), *then],
            Service=_service(setup, (*fetch, "--max-minutes", str(CLEAN_END_MIN)), (staging, setup.state)),
        ),
        f"{name}-load.service": _text(
            Unit=[("Description", f"stagingest loads {what}")],
            Service=_service(setup, load, (staging, setup.to_folder)),
        ),
    }


def _service(setup: UnitOptions, command: Sequence[str], writes: Iterable[str]) -> list[tuple[str, str]]:
    words = [*setup.program, "--log-format", "journald", *command]
    return [
        # RuntimeMaxSec means nothing to a oneshot.
        ("Type", "exec"),
        # Variables are put into every word but the first.
        ("ExecStart", " ".join([_word(words[0]), *(_word(word).replace("$", "$$") for word in words[1:])])),
        ("WorkingDirectory", _literal(setup.folder)),
        ("EnvironmentFile", _literal(setup.env_file)),
        ("Environment", _word(f"XDG_STATE_HOME={setup.state_home}")),
        # Somebody else holds the staging directory or the database: the next run does it.
        ("SuccessExitStatus", "75"),
        ("RuntimeMaxSec", f"{BACKSTOP_MIN}min"),
        ("KillMode", "mixed"),
        ("TimeoutStopSec", "30"),
        ("LimitNOFILE", "65536"),
        ("ReadWritePaths", " ".join(_word(path) for path in dict.fromkeys(writes) if path)),
        *_HARDENED,
    ]


def _literal(text: str) -> str:
    """Text in which systemd expands nothing."""
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """One word of a list of words, as systemd reads them."""
    escaped = _literal(text).replace("\\", "\\\\").replace('"', '\\"')
    return escaped if text and not set(text) & set(" \t'\"\\;") else f'"{escaped}"'


def _text(**sections: Sequence[tuple[str, str]]) -> str:
    parts = (
        "".join([f"[{name}]\n", *(f"{key}={value}\n" for key, value in lines)]) for name, lines in sections.items()
    )
    return "\n".join(parts)

"""`stagingest systemd`: services and timers that fetch and load unattended."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stagingest.cli import options as o
from stagingest.errors import StagingestError, UsageError

if TYPE_CHECKING:
    from stagingest.units import Setup

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
    from stagingest import units

    for name, text in units.units(_as_setup(**given)).items():
        o.out(f"# {name}\n{text}")


@systemd.command()
@_setup
@click.option("--user", is_flag=True, help="For your own systemd; required.")
@click.option("--replace", is_flag=True, help="Overwrite units that differ.")
def install(user: bool, replace: bool, **given: Any) -> None:
    """Write the units into your own systemd's folder, and make the folders they need.

    Nothing is written when a unit is there that differs, unless --replace is given. Nothing is started: the commands
    that do are printed.
    """
    from stagingest import units

    if not user:
        raise UsageError("Units are installed for a user.", "Add --user, or see `stagingest systemd print`.")
    setup = _as_setup(**given)
    from stagingest import settings

    folder, texts = Path(settings.places(os.environ).config).parent / "systemd" / "user", units.units(setup)
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
        o.out(f"{'same' if there.get(name) == text else 'replaced' if name in there else 'written'}  {folder / name}")
    _next(setup, [name for name in texts if name.endswith(".timer")])


def _next(setup: "Setup", timers: list[str]) -> None:
    if setup.unseen():
        o.say(f"Services see a /tmp of their own, not {o.few(setup.unseen())}: name other folders.", "warning")
    if not Path(setup.env_file).exists():
        o.say(f"Write your keys into {setup.env_file}, NAME=value lines, for you alone (chmod 600).", "warning")
    o.say(
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
) -> "Setup":
    from stagingest import catalog, destination, lists, settings
    from stagingest.units import Setup

    for dataset in ("option-contracts", "option-snapshots"):
        catalog.resolve(dataset, provider)
    names = o.listed(underlyings)
    if bool(names) == bool(symbols_file):
        raise UsageError("Whose contracts?", "Give either --underlyings SPY,AAPL or --symbols-file FILE.")
    if symbols_file:
        lists.from_file(symbols_file)
    env_file = (env_file or Path(settings.places(os.environ).config) / "env").absolute()
    environ = settings.with_env_file(os.environ, env_file if env_file.exists() else None)
    if env_file.exists() and any(line.lstrip().startswith("export ") for line in env_file.read_text().splitlines()):
        raise UsageError(f"{env_file} has `export` before a name, which systemd does not read.", "Write NAME=value.")
    folder = destination.folder(to, environ)
    return Setup(
        program=_program(),
        names=("--symbols-file", symbols_file) if symbols_file else ("--underlyings", ",".join(names)),
        provider=provider,
        root=str(staging_root.absolute()),
        to=to,
        to_folder=str(folder.absolute()) if folder else "",
        env_file=str(env_file),
        state_home=str(settings.state_dir(os.environ).parent.absolute()),
        folder=str(Path.cwd()),
    )


def _program() -> tuple[str, ...]:
    beside = Path(sys.executable).with_name("stagingest")
    found = str(beside) if beside.exists() else shutil.which("stagingest")
    return (found,) if found else (sys.executable, "-m", "stagingest")

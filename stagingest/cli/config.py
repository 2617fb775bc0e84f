"""`stagingest config`: write, show and check the configuration."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from stagingest.cli import defaults, output
from stagingest.cli import options as o
from stagingest.errors import Exit, UsageError

_TEMPLATE = """\
# Options of commands, below flags and STAGINGEST_* variables. Secrets do not belong here: keys come from the
# environment or from --env-file.

[defaults]                      # of every command that has the option
staging = "staging"
# env_file = "keys.env"

[load]
to = "market.duckdb"
# memory_limit = "2GB"

# [endpoint."alpaca/option-bars"]
# max_rps = 3.0                 # requests a second
# lanes = 8                     # requests in flight per process

# [preset.night]                # beside conservative, balanced and aggressive
# processes = 1

[profile.nightly]               # stagingest run nightly
to = "market.duckdb"
preset = "balanced"

[[profile.nightly.steps]]
dataset = "stock-bars"
symbols = ["AAPL", "MSFT"]      # or symbols_file, watchlist, index
timeframe = "1Day"
start = "2020-01-01"

[[profile.nightly.steps]]
dataset = "option-contracts"
underlyings = ["SPY"]

# [target.warehouse]            # stagingest load --to warehouse
# dsn_env = "DATABASE_URL"      # the variable that holds the address
"""


@click.group()
def config() -> None:
    """Write, show or check ./stagingest.toml and the user's own config.toml."""


@config.command()
def init() -> None:
    """Write a commented ./stagingest.toml to begin with; one that is there stays."""
    from stagingest.api.config import FILE

    try:
        with FILE.open("x", encoding="utf-8") as file:
            file.write(_TEMPLATE)
    except FileExistsError:
        raise UsageError(
            f"{FILE} is there already.", "Run `stagingest config check` to see whether it is right."
        ) from None
    output.out(f"wrote {FILE}; next: stagingest run nightly --dry-run")


@config.command()
@click.argument("command", default="fetch")
@o.as_json
@click.pass_context
def show(context: click.Context, command: str, as_json: bool) -> None:
    """Print every option of COMMAND (fetch unless named), its value, and where that comes from."""
    found = defaults.read()
    rows = defaults.origins(context.find_root(), found, command, _command(context, command))
    keys = _keys()
    if as_json:
        output.document("config show", files=[str(path) for path in found.files], options=rows, keys=keys)
        return
    output.out(f"files     {', '.join(map(str, found.files)) or 'none'}")
    for row in rows:
        output.out(f"{row['option']:22} {_shown(row['value']):24} {row['from']}")
    for name, known in keys.items():
        output.out(f"{name:22} {known}")


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "-"
    return "-" if value in (None, "", {}) else str(value)


def _keys() -> dict[str, str]:
    from stagingest.providers import hosts

    return {name: "set" if os.environ.get(name) else "not set" for name in sorted(hosts.key_variables())}


def _command(context: click.Context, name: str) -> click.Command:
    root = context.find_root()
    assert isinstance(root.command, click.Group)
    found = root.command.get_command(root, name)
    if found is None or isinstance(found, click.Group):
        raise UsageError(f"{name} has no options of its own.", "Name a command such as fetch or load.")
    return found


@config.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Say what is wrong with the configuration; exit 2 when something is."""
    from stagingest.api import profile
    from stagingest.api.config import NAMED, check_names

    found = defaults.read()
    root = context.find_root().command
    assert isinstance(root, click.Group)
    names = root.list_commands(context)
    wrong = list(profile.problems(found, defaults.options_of(_command(context, "fetch"))))
    known: set[str] = set()
    for name in names:
        command = root.get_command(context, name)
        assert command is not None
        known |= set(defaults.options_of(command))
        wrong += _said(defaults.defaults, found, name, command)
    for table, values in found.options.items():
        where = next(iter(values.values())).file if values else Path("stagingest.toml")
        if table != "defaults":
            wrong += _said(check_names, str(where), [table], [*names, *NAMED, "defaults"])
        else:
            wrong += _said(check_names, f"{where}: [defaults]", values, known)
    for sentence in dict.fromkeys(wrong):
        output.say(sentence, "error")
    if wrong:
        sys.exit(Exit.USAGE)
    output.out(f"right: {', '.join(map(str, found.files))}" if found.files else "there is no configuration")


def _said(check: Any, *arguments: Any) -> list[str]:
    try:
        check(*arguments)
    except UsageError as error:
        return [str(error)]
    return []

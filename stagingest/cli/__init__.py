"""The command line: options in, one call, words out; only this package knows click.

Imports: errors api fetching loading planning providers targets model system sim
"""

import gc
import io
import os
import sys
from importlib import import_module

import click

from stagingest import __version__
from stagingest.cli.defaults import lay_under
from stagingest.cli.output import FORMS, ReaderGoneError, log, log_as, same_command, say
from stagingest.cli.signals import Stopping, Terminated
from stagingest.errors import Exit, StagingestError, UsageError, location_of, nearest

_CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "STAGINGEST", "max_content_width": 110}
_COMMANDS = (
    *("plan", "fetch", "load", "run", "status", "universe", "config"),
    *("verify", "retry", "prune", "repair", "doctor", "systemd", "sim", "demo", "help"),
)


class _Commands(click.Group):
    """Commands, each in the module of its name and imported only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order a user meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None when there is none."""
        if cmd_name not in _COMMANDS:
            near = nearest(cmd_name, _COMMANDS, 0.6)
            if near and not ctx.resilient_parsing:
                raise UsageError(f"There is no command {cmd_name!r}.", f"The nearest is {near}.")
            return None
        command: click.Command = getattr(import_module(f"stagingest.cli.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="stagingest")
@click.option(
    "--log-format",
    type=click.Choice(FORMS),
    default="text",
    show_default=True,
    expose_value=False,
    is_eager=True,
    callback=log_as,
    help="How messages are written on stderr: for people, one JSON object a line, or with journald's priorities.",
)
@click.pass_context
def stagingest(context: click.Context) -> None:
    """Backfill market data from rate-limited HTTP APIs.

    `fetch` asks a provider with several processes and stages every chunk as a Parquet file under a manifest; `load`
    moves what is staged into DuckDB in set-based statements. Kill either at any time and run the same command again.

    Exit codes: 0 done, 1 failed, 2 usage, 3 done but some chunks or symbols failed, 4 credentials or entitlement,
    5 provider down, 7 nothing to do (with --fail-if-empty), 75 the staging directory or database is held by someone
    else, 130 Ctrl-C, 143 terminated.
    """
    log()  # before anything can be interrupted: no module is imported well within a signal
    lay_under(context)


def main() -> None:
    """Run the command line and exit with the code of DESIGN section 7."""
    _open_what_is_closed()
    os.umask(0o077)
    # Importing and parsing allocate a lot and leave no cycles: collecting often only costs (5 % of a small fetch).
    gc.set_threshold(100_000, 20, 20)
    stopping = Stopping(
        lambda word: log().shown(f"{word}; what is staged stays. Continue with:\n  {same_command()}", "warning")
    )
    stopping.arm()
    try:
        code = stagingest.main(prog_name="stagingest", standalone_mode=False)
    except click.ClickException as error:
        words = io.StringIO()
        error.show(words)
        say(words.getvalue().rstrip("\n") if log().form == "text" else f"Error: {error.format_message()}", "error")
        code = error.exit_code
    except StagingestError as error:
        say(f"Error: {error}", "error")
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort, Terminated):
        # DuckDB forgets which exception a signal raised in the middle of a query.
        code = stopping.farewell()
    except ReaderGoneError:
        code = Exit.BROKEN_PIPE  # the reader of stdout went away (`| head`): nobody is left to tell
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"Error: {where}{error.strerror or error}. What is staged stays; run the same command again.", "error")
        code = Exit.FAILED
    except Exception as error:  # noqa: BLE001 -- a traceback helps no user, and its last line may quote anything
        say(
            f"Error: a bug of stagingest: {location_of(error)}. What is staged stays; please report the command.",
            "error",
        )
        code = Exit.FAILED
    _let_go_of_the_unsaid()
    sys.exit(stopping.over(code if isinstance(code, int) else 0))


def _open_what_is_closed() -> None:
    """Give `2>&-` and the like a place to write to, for children too: what is opened next would take their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 -- as long as the process
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _let_go_of_the_unsaid() -> None:
    """Text that cannot be written must not be tried again by the ending interpreter: it would exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

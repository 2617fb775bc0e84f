"""What a command prints: the result on stdout, messages on stderr, one JSON document where it is asked."""

import json
import os
import shlex
import sys
from functools import cache
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stagingest.cli.logs import Log


class ReaderGoneError(BaseException):
    """Whoever read stdout has gone away (`| head`); click would make a failure of it."""


SCHEMA = 1
FORMS = ("text", "json", "journald")


def document(command: str, **fields: object) -> None:
    """Print the one JSON document of a command."""
    out(json.dumps({"schema": SCHEMA, "command": command, **fields}, default=str))


def out(text: str = "") -> None:
    """Print a line of the result on stdout."""
    try:
        click.echo(text)
    except BrokenPipeError:
        raise ReaderGoneError from None


@cache
def log() -> "Log":
    """Where this command's messages go."""
    from stagingest.cli.logs import Log

    made = Log()
    made.hide(os.environ)
    return made


def log_as(context: click.Context, parameter: click.Parameter, form: str) -> None:
    """Take the form of --log-format for the messages of this command."""
    if form != "text":
        log().form = form


def say(text: str, level: str = "info") -> None:
    """Print a message on stderr, of level error, warning or info."""
    log().write(text, level)


def same_command() -> str:
    """The command as it was typed, ready to be pasted, continuing what it began."""
    words = [word for word in sys.argv[1:] if word != "--no-resume"]
    return shlex.join(["stagingest", *words])


def size(number: float) -> str:
    """`number` bytes in a unit a person reads."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def few(names: tuple[str, ...] | list[str], limit: int = 8) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

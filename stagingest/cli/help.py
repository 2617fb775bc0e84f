"""`stagingest help`: the runbook, one page a topic."""

import re
from pathlib import Path

import click

from stagingest.cli import output
from stagingest.errors import UsageError, nearest

_PAGES = Path(__file__).parent / "docs"


@click.command()
@click.argument("topic", default="")
@click.pass_context
def help(context: click.Context, topic: str) -> None:  # noqa: A001 -- a command is named as it is typed
    """Print the page about TOPIC; without one, name the topics.

    Every command on the pages runs as shown against `stagingest sim`. In what they print, `...` stands for any text
    and `…` for a number.
    """
    pages = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_PAGES.glob("*.md"))}
    if topic and topic not in pages:
        commands = context.find_root().command.to_info_dict(context)["commands"]
        if topic in commands:
            raise UsageError(f"{topic} is a command, not a topic.", f"Run `stagingest {topic} --help`.")
        raise UsageError(f"There is no topic {topic!r}.", f"The nearest is {nearest(topic, pages)}.")
    if topic:
        output.out(re.sub(r"<!--.*-->\n", "", pages[topic]).rstrip())
        return
    width = max(map(len, pages))
    for name, page in pages.items():
        output.out(f"{name.ljust(width)}  {page.partition(chr(10))[0].removeprefix('# ')}")

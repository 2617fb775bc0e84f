"""Console blocks of a Markdown page, run: each command says and returns what the block shows.

In a block fenced as `console`, a line `$ ...` is a command for bash (`> ...` continues it), the lines below it are
what it prints, and `[exit N]` its exit code when that is not 0. In the output `...` stands for any text, alone on
a line for any lines, and `…` for a number; how wide a table is drawn does not matter. The blocks of one section
share a directory and variables. `<!-- sim: OPTIONS -->` above a block runs `stagingest sim OPTIONS` beside its
section and points the tool at it; `<!-- postgres -->` puts the address of a server into DATABASE_URL.
"""

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pglab

NUMBER = r"[-+]?\d[\d,._:]*"
# Variables and directory outlive a command, as they do in a terminal.
IN_BASH = (
    '[ ! -e "$1" ] || . "$1"; state=$1; trap \'{ export -p; printf "cd %q\\n" "$PWD"; } >"$state"\' EXIT; eval "$2"'
)


@dataclass
class Command:
    """One command of a block: its text, the output shown below it, the exit code shown last."""

    text: str
    shown: list[str] = field(default_factory=list)
    exit_code: int = 0


@dataclass
class Section:
    """A heading's console commands, and what they need: the imitation with these options (None: none), a server."""

    title: str
    commands: list[Command] = field(default_factory=list)
    sim: str | None = None
    postgres: bool = False


def sections(markdown: str) -> list[Section]:
    """The sections of a page that have commands to run."""
    found, fence = [Section("top")], None
    for line in markdown.splitlines():
        section = found[-1]
        if fence is not None and line.startswith("```"):
            fence = None
        elif line.startswith("```"):
            fence = line.removeprefix("```").strip()
        elif fence == "console":
            _add_line(section.commands, line)
        elif fence is None and line.startswith("#"):
            found.append(Section(line.lstrip("# ")))
        elif fence is None and (directive := re.fullmatch(r"<!-- sim:(.*)-->", line.strip())):
            section.sim = directive[1].strip()
        elif fence is None and line.strip() == "<!-- postgres -->":
            section.postgres = True
    return [section for section in found if section.commands]


def _add_line(commands: list[Command], line: str) -> None:
    if line.startswith("$ "):
        commands.append(Command(line.removeprefix("$ ")))
    elif line.startswith(">") and not commands[-1].shown:
        commands[-1].text += "\n" + line.removeprefix(">").removeprefix(" ")
    elif code := re.fullmatch(r"\[exit (\d+)\]", line):
        commands[-1].exit_code = int(code[1])
    else:
        commands[-1].shown.append(line)


def _plain(lines: Iterable[str]) -> list[str]:
    """Lines without the width of columns, and without blank lines at the end."""
    narrow = [re.sub(r"[─━═-]{3,}", "---", re.sub(r"\s+", " ", line)).strip() for line in lines]
    return "\n".join(narrow).rstrip("\n").splitlines()


def _pattern(shown: list[str]) -> str:
    wild = {"...": ".*", "…": NUMBER}
    return "".join(
        r"(?:.*\n)*?"
        if line == "..."
        else "".join(wild.get(part) or re.escape(part) for part in re.split(r"(\.\.\.|…)", line)) + r"\n"
        for line in _plain(shown)
    )


def agrees(shown: list[str], output: str) -> bool:
    """Whether `output` is what a block shows."""
    printed = "".join(f"{line}\n" for line in _plain(output.splitlines()))
    return re.fullmatch(_pattern(shown), printed) is not None


@contextmanager
def imitation(options: str | None, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Runs the imitation of a provider, if any, and yields the variables that point the tool at it."""
    if options is None:
        yield {}
        return
    command = ["stagingest", "sim", "--port", "0", *shlex.split(options)]
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=both, text=True) as process:
        assert process.stdout
        drain = threading.Thread(target=process.stdout.read)
        said = ""
        try:
            while not (url := re.search(r"http://127\.0\.0\.1:\d+", said)):
                line = process.stdout.readline()
                assert line, f"{shlex.join(command)} ended without a URL:\n{said}"
                said += line
            drain.start()
            urls = dict.fromkeys(["APCA_API_DATA_URL", "APCA_API_BASE_URL", "MASSIVE_API_BASE_URL"], url[0])
            yield urls | dict.fromkeys(["APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "MASSIVE_API_KEY"], "of-the-page")
        finally:
            process.terminate()
            if drain.ident:
                drain.join()


def run_section(section: Section, tmp_path: Path) -> None:
    """Runs a section's commands in one new directory and asserts that each does what is shown."""
    work, state = tmp_path / "work", tmp_path / "state"
    work.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    if section.postgres:
        environment["DATABASE_URL"] = pglab.database(f"page-{section.title}-{os.getpid()}")
    with imitation(section.sim, environment) as variables:
        for command in section.commands:
            done = subprocess.run(
                ["bash", "-c", IN_BASH, "page", str(state), command.text],
                cwd=work,
                env={**environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
            )
            shown = "\n".join(command.shown)
            context = f"$ {command.text}\n--- shown\n{shown}\n--- printed\n{done.stdout}"
            assert done.returncode == command.exit_code, f"exit {done.returncode}, not {command.exit_code}: {context}"
            assert agrees(command.shown, done.stdout), context

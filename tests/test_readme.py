"""README's console blocks are true: each command is run, and says and returns what the block shows.

In a block fenced as `console`, a line `$ ...` is a command for bash (`> ...` continues it), the lines below it are
what it prints, and `[exit N]` its exit code when that is not 0. In the output `...` stands for any text, alone on
a line for any lines, and `…` for a number; how wide a table is drawn does not matter. The blocks of one section
share a directory and variables. `<!-- sim: OPTIONS -->` above a block runs `stagingest sim OPTIONS` beside its
section and points the tool at it.
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
from itertools import chain
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
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
    """A heading's console commands, and the options of the imitation they need (None: no imitation)."""

    title: str
    commands: list[Command] = field(default_factory=list)
    sim: str | None = None


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
    return [section for section in found if section.commands]


def _add_line(commands: list[Command], line: str) -> None:
    if line.startswith("$ "):
        commands.append(Command(line.removeprefix("$ ")))
    elif line.startswith("> ") and not commands[-1].shown:
        commands[-1].text += "\n" + line.removeprefix("> ")
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
            urls = dict.fromkeys(["APCA_API_DATA_URL", "APCA_API_BASE_URL"], url[0])
            yield urls | dict.fromkeys(["APCA_API_KEY_ID", "APCA_API_SECRET_KEY"], "readme")
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
    with imitation(section.sim, environment) as variables:
        for command in section.commands:
            done = subprocess.run(
                ["bash", "-c", IN_BASH, "readme", str(state), command.text],
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


def _page() -> str:
    return README.read_text() if README.exists() else ""


@pytest.mark.parametrize("section", sections(_page()), ids=lambda section: section.title)
def test_readme_is_true(section: Section, tmp_path: Path) -> None:
    run_section(section, tmp_path)


def test_readme_shows_a_run() -> None:
    assert sections(_page())


@pytest.mark.parametrize("command", ["./scripts/demo", "./scripts/test"])
def test_readme_names_the_newcomers_commands(command: str) -> None:
    assert command in _page()


def test_readme_names_every_command_of_the_tool() -> None:
    stagingest = Path(sys.executable).with_name("stagingest")
    text = subprocess.run([stagingest, "--help"], capture_output=True, text=True, check=True).stdout
    commands = set(re.findall(r"^  ([a-z][a-z-]*) {2,}\S", text, re.MULTILINE))

    assert {"plan", "fetch", "load", "status", "sim", "demo"} <= commands
    assert {name for name in commands if f"stagingest {name}" not in _page()} == set()


PAGE = """
Not run:
```sh
exit 1
```
## One
```console
$ export GREETING=hello; mkdir inner; cd inner
$ echo "$GREETING" \\
>   world; pwd
hello world
.../work/inner
$ printf '%s\\n' '| rows |   count |' '|------|---------|' '| AAPL | 1,259 |' a b last
| rows | count |
|---|---|
| AAPL | … |
...
last
$ echo trouble >&2; exit 3
trouble
[exit 3]
```
Text between blocks.
```console
$ echo $GREETING from ${PWD##*/}
hello from inner
```
## Two
```console
$ ls; echo "${GREETING:-nothing}"
nothing
```
"""


@pytest.mark.parametrize("section", sections(PAGE), ids=lambda section: section.title)
def test_a_page_that_is_true_passes(section: Section, tmp_path: Path) -> None:
    run_section(section, tmp_path)


def test_only_console_blocks_are_run_and_a_section_is_one_group() -> None:
    found = sections(PAGE)
    assert [(section.title, len(section.commands)) for section in found] == [("One", 5), ("Two", 1)]
    assert all("exit 1" not in command.text for command in chain(*(section.commands for section in found)))


@pytest.mark.parametrize(
    "block",
    [
        "$ echo one\ntwo",
        "$ echo one",
        "$ true\none",
        "$ false",
        "$ true\n[exit 1]",
        "$ echo 12 rows, and more\n… rows",
        "$ echo many rows\n… rows",
        "$ printf 'a\\nb\\nc\\n'\na\nc",
        "$ no-such-command\n...",
    ],
)
def test_a_block_that_is_not_true_fails(block: str, tmp_path: Path) -> None:
    (section,) = sections(f"```console\n{block}\n```\n")
    with pytest.raises(AssertionError):
        run_section(section, tmp_path)


ASKING = """
<!-- sim: --symbols 2 -->
```console
$ python - <<END
> import os, urllib.request
> url = os.environ["APCA_API_DATA_URL"] + "/v2/stocks/bars?symbols=AAPL&timeframe=1Day&start=2024-01-02"
> names = {"APCA-API-KEY-ID": "APCA_API_KEY_ID", "APCA-API-SECRET-KEY": "APCA_API_SECRET_KEY"}
> keys = {header: os.environ[name] for header, name in names.items()}
> with urllib.request.urlopen(urllib.request.Request(url, headers=keys)) as response:
>     print("bars" in response.read().decode(), response.status)
> END
True 200
```
"""


def test_a_section_may_ask_the_imitation(tmp_path: Path) -> None:
    (section,) = sections(ASKING)
    assert section.sim == "--symbols 2"
    run_section(section, tmp_path)

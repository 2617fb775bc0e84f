"""README's console blocks are true: each command is run, and says and returns what the block shows."""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from console import Section, run_section, sections

README = Path(__file__).resolve().parents[2] / "README.md"


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

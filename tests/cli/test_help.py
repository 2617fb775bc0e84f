"""The runbook: its pages are found, and every command on them does what is shown."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from console import Section, run_section, sections

import stagingest
from stagingest.cli import _COMMANDS

PAGES = sorted((Path(stagingest.__file__).parent / "cli" / "docs").glob("*.md"))
SERVED = {path.stem: path for path in PAGES}


def page(path: Path) -> Section:
    """All commands of a page, which share a directory."""
    parts = sections(path.read_text())
    sims = [part.sim for part in parts if part.sim is not None]
    commands = [command for part in parts for command in part.commands]
    return Section(path.stem, commands, sims[0] if sims else None, any(part.postgres for part in parts))


def marked(path: Path) -> object:
    marks = [pytest.mark.postgres] if page(path).postgres else []
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", [marked(path) for path in PAGES])
def test_a_page_is_true(path: Path, tmp_path: Path) -> None:
    run_section(page(path), tmp_path)


def ask(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "stagingest", "help", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_topic_all_are_named_with_their_titles() -> None:
    lines = ask().stdout.splitlines()
    assert [line.split()[0] for line in lines] == [path.stem for path in PAGES]
    for line, path in zip(lines, PAGES, strict=True):
        title = path.read_text().splitlines()[0]
        assert title.startswith("# ")
        assert line.endswith(f"  {title.removeprefix('# ')}")


@pytest.mark.parametrize("path", PAGES, ids=SERVED)
def test_a_topic_is_printed_as_it_is_written_without_what_only_the_tests_read(path: Path) -> None:
    shown = ask(path.stem)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "<!--" not in shown.stdout
    written = [line for line in path.read_text().splitlines() if not line.startswith("<!--")]
    assert shown.stdout.splitlines() == written


@pytest.mark.parametrize(
    ("topic", "says"), [("exit-code", "exit-codes"), ("xyzzy", "nearest is"), ("fetch", "stagingest fetch --help")]
)
def test_an_unknown_topic_exits_2_and_names_the_nearest(topic: str, says: str) -> None:
    refused = ask(topic)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert says in refused.stderr


def test_every_habit_and_every_trouble_has_a_page() -> None:
    habits = {"options", "watchlists", "batches", "services", "index"}
    assert set(SERVED) >= habits | {"exit-codes", "recovery", "targets", "rate-limits"}


@pytest.mark.parametrize("path", PAGES, ids=SERVED)
def test_a_page_names_only_commands_and_topics_there_are(path: Path) -> None:
    text = path.read_text()
    named = set(re.findall(r"(?:`|^\$ )stagingest ([a-z]+)", text, re.MULTILINE))
    assert named <= set(_COMMANDS)
    assert set(re.findall(r"`stagingest help ([a-z-]+)`", text)) <= set(SERVED)

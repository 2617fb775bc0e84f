"""The maintainer's page is true: what it names is there."""

import re
from pathlib import Path

import pytest

import stagingest

ROOT = Path(stagingest.__file__).parents[1]
PAGE = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
TREE = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)


def test_the_tree_has_a_line_for_every_folder_and_no_other() -> None:
    assert TREE
    named = {line.split()[0] for line in TREE[1].splitlines()}
    package = ROOT / "stagingest"
    there = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")} | {"errors.py"}
    assert named == there


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:stagingest|tests|scripts)/[^` ]*)`", PAGE))))
def test_a_named_file_is_there(path: str) -> None:
    assert (ROOT / path.replace("<folder>/", "")).exists()


@pytest.mark.parametrize(
    ("name", "path"),
    re.findall(r"`([A-Z]\w+)` (?:in|of)\s+`((?:stagingest|tests)/[^`]*)`", PAGE),
    ids=lambda text: text,
)
def test_a_named_thing_stands_in_the_named_file(name: str, path: str) -> None:
    assert re.search(rf"^(class )?{name}\b", (ROOT / path).read_text(), re.MULTILINE)


def test_the_readme_leads_to_it() -> None:
    assert "(.github/CONTRIBUTING.md)" in (ROOT / "README.md").read_text()

"""Every exit code stands in `errors.Exit`, and so does which of several says most."""

import ast
from pathlib import Path

import pytest

import stagingest
from stagingest.errors import Exit, worst

_MODULES = sorted(Path(stagingest.__file__).parent.rglob("*.py"))


def _literal(node: ast.AST | None) -> bool:
    return any(isinstance(one, ast.Constant) and type(one.value) is int for one in ast.walk(node)) if node else False


def _literals(tree: ast.Module) -> list[int]:
    """Lines that assign, pass or leave with a number as an exit code."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            named = any(isinstance(one, ast.Name) and one.id == "exit_code" for one in targets)
            bad = named and _literal(node.value)
        elif isinstance(node, ast.Call):
            bad = ast.unparse(node.func) == "sys.exit" and any(isinstance(one, ast.Constant) for one in node.args)
        else:
            continue
        if bad:
            lines.append(node.lineno)
    return sorted(lines)


def test_the_check_sees_a_literal() -> None:
    assert _literals(ast.parse("import sys\nsys.exit(3)\nexit_code: int = 5\nexit_code = 4\n")) == [2, 3, 4]


def test_no_module_writes_an_exit_code_as_a_number() -> None:
    assert not [path.name for path in _MODULES if _literals(ast.parse(path.read_text()))]


def test_the_codes_are_those_of_the_manual() -> None:
    assert sorted(Exit) == [0, 1, 2, 3, 4, 5, 7, 75, 130, 141, 143]


@pytest.mark.parametrize(
    ("codes", "said"),
    [((), 0), ((0, 7), 7), ((7, 3), 3), ((3, 5), 5), ((5, 4), 4), ((4, 1), 1), ((1, 75), 75), ((75, 143), 143),
     ((143, 130), 130), ((2, 1), 2), ((1, 2), 1), ((3, 2, 0), 2)],
)  # fmt: skip
def test_of_several_codes_the_one_that_says_most_is_given(codes: tuple[int, ...], said: int) -> None:
    assert worst(codes) == said

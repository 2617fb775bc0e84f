"""The house: which module may know which, by reading their imports."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from statistics import median

import pytest

import stagingest

PACKAGE = Path(stagingest.__file__).parent

# A module imports only from groups to its left (above); the words a plan is made of stand left of the decisions.
GROUPS = [
    "errors",
    "model",
    "circuit datasets days redacting sessions waits",
    "planning pace sql sweeping verdict shaping tally agenda",
    "providers",
    "catalog",
    "system",
    "settings",
    "columnar disk locks",
    "store",
    "limiter transport staging manifest pool targets",
    "universe worker",
    "fetching loading",
    "standing upkeep doctor report logs units",
    "progress",
    "api",
    "sim",
    "cli",
]
RANK = {name: rank for rank, group in enumerate(GROUPS) for name in group.split()}
# What a module was divided into shares its place and knows it as the modules of a folder know each other.
PARTS = {
    "api": "askable asking bounds closes keeping known naming optioning pipeline running scanning wanting",
    "cli": "__main__",
    "fetching": "acknowledging advice discovering flights gates opening rates supervising surveying",
    "limiter": "allowance records",
    "loading": "batching destination following loaded sources",
    "manifest": "captures givenup loads lost strikes",
    "model": "orders",
    "pool": "desk inprocess slots starting",
    "settings": "config paths presets",
    "sql": "ddl pgsql",
    "staging": "preflight",
    "transport": "deadline wire",
    "universe": "lists membership universes",
    "upkeep": "pruning repairing verifying",
    "worker": "cooking errand exchanges lanes misread",
}
PART_OF = {part: whole for whole, parts in PARTS.items() for part in parts.split()}
STRANGERS = [("worker", "manifest"), ("worker", "targets"), ("fetching", "targets"), ("providers", "sim")]

DOORS = {"click": "cli", "duckdb": "targets.duckfile", "requests": "transport", "sqlite3": "store"}
DOORS |= {"adbc_driver_manager": "targets.pgconnection", "adbc_driver_postgresql": "targets.pgconnection"}
DOORS |= {"tqdm": "progress", "urllib3": "transport"}
ANYWHERE = {"pyarrow", "orjson"}
PURE = {name for group in GROUPS[:5] for name in group.split()}
SURROUNDINGS = {"logging", "multiprocessing", "os", "random", "shutil", "socket", "subprocess", "threading", "time"}


def _unit(name: str) -> str:
    top = name.partition(".")[0]
    return PART_OF.get(top, top)


@dataclass(frozen=True)
class Import:
    """One import of one name: `importer` and `imported` are dotted, ours without the package's name."""

    importer: str
    imported: str
    ours: bool
    typing_only: bool

    @property
    def from_unit(self) -> str:
        return _unit(self.importer)

    @property
    def unit(self) -> str:
        return _unit(self.imported)


def _modules() -> dict[str, Path]:
    """Dotted name below the package -> file; the package's own `__init__` is ''."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _statements(node: ast.AST, *, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, typing_only
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for part in child.body:
                yield part, True
            yield from _statements(ast.Module(child.orelse, []), typing_only=typing_only)
        else:
            yield from _statements(child, typing_only=typing_only)


def _names(statement: ast.AST, package: str) -> list[str]:
    """The full dotted names that a statement imports."""
    match statement:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            return [f"{resolve_name('.' * level + (module or ''), package)}.{alias.name}" for alias in names]
        case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
            return [name] if ast.unparse(function).endswith(("import_module", "__import__")) else []
    return []


def read_imports(name: str, path: Path) -> Iterator[Import]:
    """Every import of a module, those inside functions and under TYPE_CHECKING too."""
    parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
    package = f"stagingest.{parent}".rstrip(".")
    for statement, typing_only in _statements(ast.parse(path.read_text())):
        for full in _names(statement, package):
            top, _, rest = full.partition(".")
            if top != "stagingest":
                yield Import(name, full, ours=False, typing_only=typing_only)
            elif rest in stagingest.__all__:
                if rest != "__version__":
                    yield Import(name, "api", ours=True, typing_only=typing_only)
            elif rest:
                yield Import(name, rest, ours=True, typing_only=typing_only)


MODULES = _modules()


@cache
def _imports() -> tuple[Import, ...]:
    return tuple(found for name, path in MODULES.items() for found in read_imports(name, path))


def trespasses(imports: Iterable[Import]) -> list[str]:
    """Imports of our own modules from a group that is not to the left."""
    unknown = len(GROUPS)
    return [
        f"{each.importer} imports {each.imported}"
        for each in imports
        if each.ours and each.from_unit not in ("", each.unit)
        if not (each.typing_only and each.unit == "model")
        if RANK.get(each.unit, unknown) >= RANK.get(each.from_unit, unknown)
    ]


def outside_the_door(imports: Iterable[Import]) -> list[str]:
    """Imports of a library elsewhere than in the one module that is its door."""
    return [
        f"{each.importer} imports {each.imported}: its door is {DOORS[each.unit]}"
        for each in imports
        if not each.ours and not each.typing_only and each.unit in DOORS
        if not f"{each.importer}.".startswith(f"{DOORS[each.unit]}.")
    ]


def _reach(start: str) -> set[str]:
    """The units a unit imports, by any path."""
    reached, new = set(), {start}
    while new:
        reached |= new
        new = {each.unit for each in _imports() if each.ours and each.from_unit in new} - reached
    return reached


def test_every_module_has_a_group() -> None:
    strangers = [name for name in MODULES if name and _unit(name) not in RANK]
    assert not strangers, f"{strangers}: which group?"


def test_only_folders_where_things_vary_hold_modules() -> None:
    assert {name.partition(".")[0] for name in MODULES if "." in name} <= {"providers", "targets", "sim", "cli"}


def test_a_module_imports_only_from_groups_to_its_left() -> None:
    found = trespasses(_imports())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_strangers_stay_strangers_by_any_path(one: str, other: str) -> None:
    assert (PACKAGE / f"{one}.py").exists() or (PACKAGE / one).is_dir()
    assert other not in _reach(one)
    assert one not in _reach(other)


def test_the_imitation_knows_nothing_but_errors_and_sessions() -> None:
    imported = {each.unit for each in _imports() if each.ours and each.from_unit == "sim"}
    assert imported <= {"sim", "errors", "sessions"}


def test_each_library_has_one_door() -> None:
    found = outside_the_door(_imports())
    assert not found, "\n".join(found)


def test_no_module_imports_a_library_that_is_not_declared() -> None:
    known = set(sys.stdlib_module_names) | set(DOORS) | ANYWHERE
    assert [
        f"{each.importer}: {each.imported}" for each in _imports() if not each.ours and each.unit not in known
    ] == []


def test_parquet_is_written_in_one_place() -> None:
    writers = ("ParquetWriter", "write_table", "write_to_dataset", "write_dataset")
    assert {name for name, path in MODULES.items() if any(word in path.read_text() for word in writers)} == {"columnar"}


def test_pure_modules_do_not_touch_the_surroundings() -> None:
    touching = [each for each in _imports() if not each.ours and each.unit in SURROUNDINGS]
    found = [f"{each.importer}: {each.imported}" for each in touching if each.from_unit in PURE]
    assert not found, found


def test_no_module_bears_the_name_of_a_public_function() -> None:
    assert set(stagingest.__all__).isdisjoint(MODULES)


def test_every_module_says_in_one_sentence_what_it_knows() -> None:
    parsed = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
    firsts = {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in parsed.items()}
    found = {name: first for name, first in firsts.items() if not first.endswith(".") or ". " in first}
    assert not found, found


def test_no_module_is_longer_than_300_lines() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    found = {name: length for name, length in lengths.items() if length > 300}
    assert not found, found


def test_the_median_function_is_shorter_than_10_lines() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for path in MODULES.values() for node in ast.walk(ast.parse(path.read_text()))]
    assert median(node.end_lineno - node.lineno for node in nodes if isinstance(node, kinds) and node.end_lineno) < 10


def _loaded_by(script: str) -> set[str]:
    """Modules that a fresh interpreter holds after `script`, beyond those it started with."""
    code = (
        "import sys\nbefore = set(sys.modules)\n"
        f"try:\n    {script}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_click_and_no_other_library(option: str) -> None:
    script = f"sys.argv = ['stagingest', '{option}']; from stagingest.cli import main; main()"
    tops = {name.partition(".")[0] for name in _loaded_by(script)}
    assert tops - set(sys.stdlib_module_names) == {"click", "stagingest"}
    assert "sqlite3" not in tops


def test_a_preloaded_worker_holds_no_database_and_no_command_line() -> None:
    tops = {name.partition(".")[0] for name in _loaded_by("import stagingest.lanes")}
    assert not tops & {"duckdb", "sqlite3", "click", "tqdm", "pandas", "numpy"}
    assert "stagingest" in tops


def _planted(directory: Path, importer: str, text: str) -> tuple[Import, ...]:
    path = directory / "planted.py"
    path.write_text(text)
    return tuple(read_imports(importer, path))


@pytest.mark.parametrize(
    ("importer", "text", "caught"),
    [
        ("worker", "from stagingest.fetching import fetch_all", True),
        ("worker", "def f():\n    from stagingest import loading", True),
        ("worker", "from . import fetching", True),
        ("worker", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from stagingest.fetching import X", True),
        ("catalog", "import importlib\nimportlib.import_module('stagingest.targets.duckdb')", True),
        ("sim.market", "from stagingest import load", False),
        ("cli.fetch", "from stagingest import __version__, fetch", False),
        ("targets.duckdb", "from stagingest.targets import base", False),
        ("errors", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from stagingest.model import X", False),
    ],
)
def test_the_reader_of_imports_sees(tmp_path: Path, importer: str, text: str, *, caught: bool) -> None:
    assert bool(trespasses(_planted(tmp_path, importer, text))) == caught


@pytest.mark.parametrize(
    ("importer", "text", "caught"),
    [
        ("worker", "import requests", True),
        ("worker", "import urllib3.exceptions", True),
        ("targets.parquet", "import duckdb", True),
        ("targets.duckfile", "def f():\n    import duckdb", False),
        ("cli.fetch", "from click import option", False),
        ("model", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import duckdb", False),
    ],
)
def test_the_doors_are_watched(tmp_path: Path, importer: str, text: str, *, caught: bool) -> None:
    assert bool(outside_the_door(_planted(tmp_path, importer, text))) == caught

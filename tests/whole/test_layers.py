"""The house: folders are the structure, and what each may import stands in its own `__init__.py`."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from statistics import median

import pytest

import stagingest
from stagingest.fetching.worker.chunk import ChunkFetcher

PACKAGE = Path(stagingest.__file__).parent
DOORS = {"click": "cli", "duckdb": "targets.duckdb.connection", "requests": "http.client", "sqlite3": "system.sqlite"}
DOORS |= {"adbc_driver_manager": "targets.postgres.connection", "adbc_driver_postgresql": "targets.postgres.connection"}
DOORS |= {"tqdm": "cli.progress", "urllib3": "http.client"}
ANYWHERE = {"pyarrow", "orjson"}
PURE = ("model", "providers")
SURROUNDINGS = {"logging", "multiprocessing", "os", "random", "shutil", "socket", "subprocess", "threading", "time"}
STRANGERS = [("fetching", "targets"), ("targets", "staging"), ("fetching", "loading"), ("loading", "fetching")]
STRANGERS += [("fetching.worker", "staging.manifest"), ("fetching.worker", "targets"), ("providers", "sim")]


@dataclass(frozen=True)
class Import:
    """One import of one name: `importer` and `imported` are dotted, ours without the package's name."""

    importer: str
    imported: str
    ours: bool
    typing_only: bool

    @property
    def top(self) -> str:
        return self.imported.partition(".")[0]


def _modules() -> dict[str, Path]:
    """Dotted name below the package -> file; the package's own `__init__` is ''."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()
FOLDERS = {name for name, path in MODULES.items() if path.name == "__init__.py" and name}


def folder_of(module: str) -> str:
    """The folder a module lies in, '' for the package itself."""
    return module if module in FOLDERS else module.rpartition(".")[0]


def declared(folder: str) -> list[str]:
    """What the `Imports:` line of a folder names."""
    text = ast.get_docstring(ast.parse(MODULES[folder].read_text())) or ""
    lines = [line.removeprefix("Imports:") for line in text.splitlines() if line.startswith("Imports:")]
    assert len(lines) == 1, f"{folder}/__init__.py has {len(lines)} lines `Imports: ...`"
    return lines[0].split()


def _within(module: str, folder: str) -> bool:
    return f"{module}.".startswith(f"{folder}.")


def may_import(folder: str, module: str, named: Iterable[str]) -> bool:
    """Whether a module in `folder` may import `module`: it is there too, or named; of a parent, only what is named."""
    for name in named:
        if _within(folder, name):  # a folder above: its own `__init__` and no more
            if module == name:
                return True
        elif _within(module, name):
            return True
    return _within(module, folder)


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


def _module(full: str) -> str:
    """The module that a dotted name is, or is a name in."""
    while full and full not in MODULES:
        full = full.rpartition(".")[0]
    return full


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
                yield Import(name, _module(rest), ours=True, typing_only=typing_only)


@cache
def _imports() -> tuple[Import, ...]:
    return tuple(found for name, path in MODULES.items() for found in read_imports(name, path))


def trespasses(imports: Iterable[Import]) -> list[str]:
    """Imports of our own modules from a folder that the importer's folder does not name."""
    return [
        f"{each.importer} imports {each.imported}"
        for each in imports
        if each.ours and (folder := folder_of(each.importer))
        if not may_import(folder, each.imported, declared(folder))
    ]


def outside_the_door(imports: Iterable[Import]) -> list[str]:
    """Imports of a library elsewhere than in the one module that is its door."""
    return [
        f"{each.importer} imports {each.imported}: its door is {DOORS[each.top]}"
        for each in imports
        if not each.ours and not each.typing_only and each.top in DOORS
        if not _within(each.importer, DOORS[each.top])
    ]


def _order(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The keys of a graph, what is imported first. Raises CycleError."""
    return list(TopologicalSorter({name: set(others) - {name} for name, others in graph.items()}).static_order())


def _reach(start: str) -> set[str]:
    """The modules that those of a folder import, by any path."""
    reached: set[str] = set()
    new = {name for name in MODULES if _within(name, start)}
    while new:
        reached |= new
        new = {each.imported for each in _imports() if each.ours and not each.typing_only and each.importer in new}
        new -= reached
    return reached


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_every_folder_names_what_it_imports_and_names_nothing_that_is_not_there(folder: str) -> None:
    assert [name for name in declared(folder) if name not in MODULES] == []
    used = {each.imported for each in _imports() if each.ours and _within(each.importer, folder)}
    idle = [name for name in declared(folder) if name != "errors" and not any(_within(each, name) for each in used)]
    assert idle == [], "named and never imported"


def test_a_module_imports_only_what_its_folder_names() -> None:
    found = trespasses(_imports())
    assert not found, "\n".join(found)


def test_the_named_folders_are_in_no_circle() -> None:
    _order({folder: [folder_of(_module(name)) or name for name in declared(folder)] for folder in FOLDERS})


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in _imports():
        if each.ours and not each.typing_only and not _within(each.importer, each.imported):
            graph[each.importer].add(each.imported)
    _order(graph)


def test_a_circle_is_seen() -> None:
    with pytest.raises(CycleError):
        _order({"a": ["b"], "b": ["c"], "c": ["a"]})


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_strangers_stay_strangers_by_any_path(one: str, other: str) -> None:
    assert other in MODULES
    assert not {name for name in _reach(one) if _within(name, other)}


def test_the_imitation_knows_nothing_but_errors_and_the_calendar() -> None:
    imported = {each.imported for each in _imports() if each.ours and _within(each.importer, "sim")}
    assert {name for name in imported if not _within(name, "sim")} <= {"errors", "model.calendar"}


def test_each_library_has_one_door() -> None:
    found = outside_the_door(_imports())
    assert not found, "\n".join(found)


def test_no_module_imports_a_library_that_is_not_declared() -> None:
    known = set(sys.stdlib_module_names) | set(DOORS) | ANYWHERE
    assert [f"{each.importer}: {each.imported}" for each in _imports() if not each.ours and each.top not in known] == []


def test_parquet_is_written_in_one_place() -> None:
    writers = ("ParquetWriter", "write_table", "write_to_dataset", "write_dataset")
    found = {name for name, path in MODULES.items() if any(word in path.read_text() for word in writers)}
    assert found == {"system.parquet"}


def test_pure_folders_do_not_touch_the_surroundings() -> None:
    touching = [each for each in _imports() if not each.ours and each.top in SURROUNDINGS]
    assert [f"{each.importer}: {each.imported}" for each in touching if each.importer.startswith(PURE)] == []


def test_no_folder_bears_the_name_of_a_public_function() -> None:
    assert set(stagingest.__all__).isdisjoint(MODULES)


def test_every_module_says_in_one_sentence_what_it_knows() -> None:
    parsed = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
    firsts = {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in parsed.items()}
    found = {name: first for name, first in firsts.items() if not first.endswith(".") or ". " in first}
    assert not found, found


def test_no_module_is_longer_than_500_lines() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    found = {name: length for name, length in lengths.items() if length > 500}
    assert not found, found


def test_a_fragment_with_one_reader_says_which_wall_it_is() -> None:
    readers: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in _imports():
        if each.ours and each.importer != each.imported:
            readers[each.imported].add(each.importer)
    found = {
        name: text.count("\n")
        for name, path in MODULES.items()
        if path.name not in ("__init__.py", "__main__.py") and not name.startswith(("cli.", "api."))
        if (text := path.read_text()).count("\n") < 60 and len(readers[name]) < 2
        if "wall" not in (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    }
    assert not found, found


def test_no_class_name_is_given_twice() -> None:
    places: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


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
    script = f"import runpy; sys.argv = ['stagingest', '{option}']; runpy.run_module('stagingest', run_name='__main__')"
    tops = {name.partition(".")[0] for name in _loaded_by(script)}
    assert tops - set(sys.stdlib_module_names) == {"click", "stagingest"}
    assert "sqlite3" not in tops


def test_a_preloaded_worker_holds_no_database_and_no_command_line() -> None:
    loaded = _loaded_by(f"import {ChunkFetcher.__module__}")
    assert not {name.partition(".")[0] for name in loaded} & {"duckdb", "sqlite3", "click", "tqdm", "pandas", "numpy"}
    assert not {name for name in loaded if name.startswith(("stagingest.targets", "stagingest.planning"))}
    assert "stagingest" in loaded


def _planted(directory: Path, importer: str, text: str) -> tuple[Import, ...]:
    path = directory / "planted.py"
    path.write_text(text)
    return tuple(read_imports(importer, path))


@pytest.mark.parametrize(
    ("importer", "text", "caught"),
    [
        ("fetching.worker.chunk", "from stagingest.fetching.run import fetch", True),
        ("fetching.worker.chunk", "def f():\n    from stagingest.loading import loader", True),
        ("fetching.worker.chunk", "from .. import run", True),
        (
            "fetching.worker.chunk",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from stagingest.staging.manifest import X",
            True,
        ),
        ("fetching.worker.chunk", "from stagingest.staging import parts", False),
        ("fetching.worker.chunk", "from stagingest.staging import manifest", True),
        ("providers.catalog", "import importlib\nimportlib.import_module('stagingest.targets.duckdb')", True),
        ("sim.market.market", "from stagingest import load", True),
        ("cli.fetch", "from stagingest import __version__, fetch", False),
        ("targets.duckdb.target", "from stagingest.targets.postgres import sql", True),
        ("targets.duckdb.target", "from stagingest.targets import Target", False),
        ("model.chunk", "from stagingest.errors import UsageError", False),
    ],
)
def test_the_reader_of_imports_sees(tmp_path: Path, importer: str, text: str, *, caught: bool) -> None:
    assert bool(trespasses(_planted(tmp_path, importer, text))) == caught


@pytest.mark.parametrize(
    ("importer", "text", "caught"),
    [
        ("fetching.worker.chunk", "import requests", True),
        ("fetching.worker.chunk", "import urllib3.exceptions", True),
        ("targets.parquet.target", "import duckdb", True),
        ("targets.duckdb.connection", "def f():\n    import duckdb", False),
        ("cli.fetch", "from click import option", False),
        ("model.chunk", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import duckdb", False),
    ],
)
def test_the_doors_are_watched(tmp_path: Path, importer: str, text: str, *, caught: bool) -> None:
    assert bool(outside_the_door(_planted(tmp_path, importer, text))) == caught

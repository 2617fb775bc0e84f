"""What the package promises to those who import it."""

import inspect
import subprocess
import sys

import pytest

import stagingest

PUBLIC = [
    "Pipeline",
    "__version__",
    "bars",
    "fetch",
    "import_universe",
    "load",
    "plan",
    "prune",
    "repair",
    "retry",
    "scan",
    "status",
    "verify",
]
FUNCTIONS = [name for name in PUBLIC if name not in ("__version__", "Pipeline")]


def test_the_public_names_are_these() -> None:
    assert stagingest.__all__ == PUBLIC


def test_importing_the_package_loads_no_library_and_no_module_of_it() -> None:
    script = "import sys; before = set(sys.modules); import stagingest; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert {name for name in loaded.split() if name.partition(".")[0] not in sys.stdlib_module_names} == {"stagingest"}


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fetsch'"):
        stagingest.fetsch  # noqa: B018 - the access is the test


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_documented_and_typed(name: str) -> None:
    function = getattr(stagingest, name)
    signature = inspect.signature(function)

    assert inspect.getdoc(function)
    assert signature.return_annotation is not signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())

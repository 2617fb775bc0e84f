"""Distributions of others, as installed beside the tool: a module and its entry points on a path of the test's own."""

import os
import shutil
from pathlib import Path

OUTSIDE = Path(__file__).parent / "outside"


def install(folder: Path, module: str, points: dict[str, str], name: str = "") -> dict[str, str]:
    """Put a module of `outside/` and its entry points (group -> `name = object`) into a folder.

    `name` is the distribution's, the module's unless it is given.

    Returns the variables with which a new process finds it.
    """
    for source in (OUTSIDE / module, OUTSIDE / f"{module}.py"):
        if source.is_dir():
            shutil.copytree(source, folder / module, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            folder.mkdir(exist_ok=True)
            shutil.copy(source, folder)
    info = folder / f"{name or module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name or module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{point}\n" for group, point in points.items()))
    return {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

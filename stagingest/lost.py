"""A staging directory that lost its manifest is refused."""

import shlex
from pathlib import Path

from stagingest.errors import StagingError
from stagingest.manifest import Manifest


def refuse_lost_manifest(root: Path) -> None:
    """A directory with files and no manifest has lost it: a new one would know nothing of them.

    Raises StagingError naming the command that rebuilds it.
    """
    path = root / Manifest.file
    if not (path.exists() and path.stat().st_size) and next((root / "data").rglob("*.parquet"), None):
        raise StagingError(
            f"{root} holds staged files and no manifest.",
            f"Run `stagingest repair --staging {shlex.quote(str(root))}`.",
        )

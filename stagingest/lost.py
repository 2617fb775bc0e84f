"""Whether a staging directory has its manifest, and that one which lost it is refused."""

import shlex
from pathlib import Path

from stagingest.errors import StagingError
from stagingest.manifest import Manifest


def there(root: Path) -> bool:
    """Whether a staging directory has a manifest; one that a kill left empty is none."""
    path = root / Manifest.file
    return path.exists() and path.stat().st_size > 0


def refuse_lost_manifest(root: Path) -> None:
    """A directory with files and no manifest has lost it: a new one would know nothing of them.

    Raises StagingError naming the command that rebuilds it.
    """
    if not there(root) and next((root / "data").rglob("*.parquet"), None):
        raise StagingError(
            f"{root} holds staged files and no manifest.",
            f"Run `stagingest repair --staging {shlex.quote(str(root))}`.",
        )

"""Where `load --to` leads: the target that a file, a folder or an address means."""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from stagingest.api import config
from stagingest.errors import UsageError, choices, nearest
from stagingest.system import paths
from stagingest.system.plugs import plugged
from stagingest.targets import Target, TargetKind, TargetOptions
from stagingest.targets import duckdb as targets_duckdb
from stagingest.targets import parquet as targets_parquet
from stagingest.targets import postgres as targets_postgres

GROUP = "stagingest.targets"
"""Entry points under which other distributions announce their targets."""
_FILE = targets_duckdb.TARGET
_OURS = (targets_parquet.TARGET, targets_postgres.TARGET)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)")  # of two letters at least: one is a drive


@cache
def kinds() -> dict[str, TargetKind]:
    """Every kind of target by the scheme of its addresses: the package's own, then those of other distributions.

    Raises UsageError naming an entry point that is no target, or one that takes the scheme of another.
    """
    found = {scheme: kind for kind in _OURS for scheme in kind.schemes}
    for where, kind in plugged(GROUP, TargetKind, "target"):
        for scheme in kind.schemes:
            if scheme in found:
                raise UsageError(
                    f"The entry point {where} is a second target {scheme}:.", "Uninstall one of the packages."
                )
            found[scheme] = kind
    return found


def target(to: str | Path, how: TargetOptions | None = None, environ: Mapping[str, str] = os.environ) -> Target:
    """The target that `to` means; its library is imported only here.

    Args:
        to: a DuckDB file, `parquet:FOLDER`, `postgresql://host/db`, an address of another distribution's target, the
            name of a variable that holds such an address, or NAME of a `[target.NAME]` in ./stagingest.toml with `to`
            or `dsn_env`.
        how: how it is to work, None for the defaults.
        environ: the environment.

    Raises UsageError for an address with a password in it, and for a name or a scheme that is not there.
    """
    kind, address = _meant(str(to), environ)
    return kind.make(address, how or TargetOptions())


def folder(to: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder that loading into `to` (as of `target`) writes; None for a server."""
    kind, address = _meant(to, environ)
    return kind.folder(address)


def _meant(to: str, environ: Mapping[str, str]) -> tuple[TargetKind, str]:
    """The kind of target and its address."""
    address = _named(to, environ)
    found = _SCHEME.fullmatch(address)
    if found is None or Path(address).exists():
        return _FILE, address
    scheme, rest = found[1].lower(), found[2]
    kind = kinds().get(scheme)
    if kind is None:
        if rest.startswith("//") or nearest(scheme, kinds(), 0.7):
            raise UsageError(f"There is no target {scheme}:.", choices(scheme, sorted(kinds())))
        return _FILE, address
    if address == to:
        kind.refuse(address)
    return kind, address


def _named(to: str, environ: Mapping[str, str]) -> str:
    """What a bare name stands for; anything else is itself."""
    if not _NAME.fullmatch(to):
        return to
    targets = config.read(Path(paths.folders(environ).config)).named.get("target", {})
    if to in targets:
        found = targets[to].value
        variable = found.get("dsn_env", "")
        if variable and variable not in environ:
            raise UsageError(f"[target.{to}] takes its address from {variable}, which is not set.", f"Set {variable}.")
        return environ[variable] if variable else str(found.get("to", ""))
    if any(environ.get(to, "").startswith(f"{scheme}:") for scheme in kinds()):
        return environ[to]
    near = nearest(to, targets, 0.6)
    if near:
        raise UsageError(f"stagingest.toml has no [target.{to}].", f"The nearest is {near}.")
    return to

"""The configuration: what ./stagingest.toml and the user's own file say, checked, the nearer one first."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stagingest.errors import UsageError

FILE = Path("stagingest.toml")
NAMED = ("endpoint", "preset", "profile", "target")
"""Tables of tables: each of their names is one thing."""
_SECRET = re.compile(r"secret|passw|token|api_?key|key_?id|^key$|^dsn$|credential", re.IGNORECASE)
_VARIABLES = "APCA_API_KEY_ID, APCA_API_SECRET_KEY, MASSIVE_API_KEY, PGPASSWORD or DATABASE_URL"


@dataclass(frozen=True, slots=True)
class Source:
    """A value and the file it is from."""

    value: Any
    file: Path


@dataclass(frozen=True, slots=True)
class Config:
    """What the files say.

    Args:
        files: those that were read, the nearest first.
        options: table (`defaults`, or a command) -> option with underscores -> value.
        named: `endpoint`, `preset`, `profile`, `target` -> name -> table; a name of the nearer file hides the other.
    """

    files: tuple[Path, ...] = ()
    options: Mapping[str, Mapping[str, Source]] = field(default_factory=dict)
    named: Mapping[str, Mapping[str, Source]] = field(default_factory=dict)

    def table(self, kind: str, name: str) -> Source:
        """The named table, for example `profile` `nightly`. Raises UsageError with the nearest name."""
        known = self.named.get(kind, {})
        if name not in known:
            near = get_close_matches(name, known, 1, 0.0)
            where = self.files[0] if self.files else FILE
            hint = f"The nearest is {near[0]}; there are {', '.join(sorted(known))}." if near else "There is none yet."
            raise UsageError(f"{where} has no [{kind}.{name}].", hint)
        return known[name]


def read(user: Path | None = None, project: Path = FILE) -> Config:
    """The configuration of the project's folder over that of the user (the folder of settings of `paths.places`).

    Raises UsageError for a file that is no TOML, for a value where a table belongs, and for what looks like a secret.
    """
    options: dict[str, dict[str, Source]] = {}
    named: dict[str, dict[str, Source]] = {}
    files = [path for path in (project, user / "config.toml" if user else None) if path and path.exists()]
    for path in files:
        for table, values in _parsed(path).items():
            if not isinstance(values, dict):
                raise UsageError(f"{path}: {table} is a value where a table belongs.", f"Write [{table}].")
            _refuse_secrets(path, table, values)
            into = named if table in NAMED else options
            for name, value in values.items():
                if table in NAMED and not isinstance(value, dict):
                    raise UsageError(f"{path}: {table}.{name} is a value.", f"Write [{table}.{name}] over its options.")
                key = name if table in NAMED else name.replace("-", "_")
                into.setdefault(table, {}).setdefault(key, Source(value, path))
    return Config(tuple(files), options, named)


def check_names(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise UsageError for a name that is not known, with the nearest one."""
    known = sorted(known)
    for name in given:
        if name.replace("-", "_") not in known:
            near = get_close_matches(name.replace("-", "_"), known, 1, 0.0)
            raise UsageError(f"{where} has no {name!r}.", f"The nearest is {near[0]}.")


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}.", "Correct it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from None


def _refuse_secrets(path: Path, table: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _refuse_secrets(path, f"{table}.{name}", value)
        elif _SECRET.search(name) and name != "dsn_env":
            raise UsageError(f"{path}: [{table}] {name} looks like a secret.", f"Put it into {_VARIABLES}.")

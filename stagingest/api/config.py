"""The configuration: what ./stagingest.toml and the user's own file say, checked, the nearer one first."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stagingest.errors import UsageError, choices, nearest
from stagingest.planning import due
from stagingest.providers import catalog
from stagingest.providers.hosts import key_variables
from stagingest.system import platform

FILE = Path("stagingest.toml")
NAMED = ("endpoint", "preset", "profile", "target")
"""Tables of tables: each of their names is one thing."""
_SECRET = re.compile(r"secret|passw|token|api_?key|key_?id|^key$|^dsn$|credential", re.IGNORECASE)


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
            where = self.files[0] if self.files else FILE
            raise UsageError(f"{where} has no [{kind}.{name}].", choices(name, sorted(known)))
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
            near = nearest(name.replace("-", "_"), known)
            raise UsageError(f"{where} has no {name!r}.", f"The nearest is {near}.")


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
            keys = dict.fromkeys(names[0] for budget in catalog.hosts().values() for _, names in budget.keys)
            raise UsageError(
                f"{path}: [{table}] {name} looks like a secret.",
                f"Put it into {', '.join(keys)}, PGPASSWORD or DATABASE_URL.",
            )


def with_env_file(environ: Mapping[str, str], path: Path | None) -> dict[str, str]:
    """The environment with the lines `NAME=value` of a file added; the file, which was named, wins.

    Raises UsageError when the file cannot be read, or by others too, or a line is not of that form.
    """
    if path is None:
        return dict(environ)
    found: dict[str, str] = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {path} cannot be read: {getattr(error, 'strerror', 'not text')}.") from None
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, sign, value = text.partition("=")
        if not sign or not name.strip().isidentifier():
            raise UsageError(f"Line {number} of {path} is not NAME=value.")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    if key_variables() & found.keys() and path.stat().st_mode & 0o077:
        raise UsageError(f"--env-file {path} holds keys and others may read it.", f"Run `chmod 600 {path}`.")
    return {**environ, **found}


NAMES = ("conservative", "balanced", "aggressive")
_OF_ENDPOINTS = ("max_rps", "lanes")


def preset(name: str, config: Config) -> dict[str, Any]:
    """The options that a preset sets, as in the configuration of `fetch`.

    `conservative` stays at half of what every plan may ask (WIRE section 1.2), with one process and few requests in
    flight: for a key that others use too. `balanced` follows what the provider's headers grant, as without a preset.
    `aggressive` fills every core and keeps as many requests in flight as ever helped (FETCH section 3); the rate still
    follows the provider. `[preset.NAME]` of the configuration is another, or hides one of these; tables in it are
    named like endpoints: `[preset.NAME."alpaca/option-bars"]`.

    Raises UsageError naming the nearest when there is none of that name.
    """
    own = config.named.get("preset", {})
    if name in own:
        return flat(own[name].value)
    if name not in NAMES:
        raise UsageError(f"There is no preset {name!r}.", choices(name, [*NAMES, *own]))
    if name == "conservative":
        rates = [
            f"{endpoint.name}={catalog.hosts()[endpoint.budget].lowest_plan_per_s / 2:.4g}"
            for endpoint in catalog.endpoints().values()
        ]
        return {"max_rps": rates, "lanes": [str(due.FEWEST_LANES)], "processes": 1}
    if name == "aggressive":
        processes = platform.cores()
        return {"processes": processes, "lanes": [str(-(-due.MOST_LANES // processes))]}
    return {}


def flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table with tables of endpoints in it as plain options: `[ENDPOINT=]N` of each rate and number of lanes."""
    found = {name.replace("-", "_"): value for name, value in table.items() if not isinstance(value, dict)}
    for name in _OF_ENDPOINTS:
        if name in found:
            given = found[name] if isinstance(found[name], list) else [found[name]]
            found[name] = [str(value) for value in given]
            for value in found[name]:
                _check(name, value.rpartition("=")[2])
    for endpoint, values in table.items():
        if isinstance(values, dict):
            catalog.asked(endpoint)
            for name, value in values.items():
                check_names(f"[endpoint.{endpoint!r}]", [name], _OF_ENDPOINTS)
                _check(name, str(value))
                found[name] = [*found.get(name, []), f"{endpoint}={value}"]
    return found


def _check(name: str, text: str) -> None:
    """Raise UsageError for a rate or a number of lanes that cannot be one."""
    try:
        number = float(text) if name == "max_rps" else int(text)
    except ValueError:
        number = 0
    if not 0 < number <= (due.MOST_LANES if name == "lanes" else 1e9):
        most = f"from 1 to {due.MOST_LANES}" if name == "lanes" else "greater than 0"
        raise UsageError(f"{name} must be a number {most}, not {text!r}.")

"""Credentials, base URLs, plans and folders, from the environment and `--env-file`."""

import os
import re
import resource
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from stagingest import paths
from stagingest.errors import CredentialsError, UsageError
from stagingest.model import Secret
from stagingest.system import cores as cores

# In flight over all processes (FETCH section 3: more never helped, however far the provider).
FEWEST_LANES, MOST_LANES = 4, 64
# What a lane may hold: a page as it came and inflated, and the rows of its chunk.
LANE_BYTES = 32 << 20
# Assumed before the first answer; between a near and a far data centre.
LATENCY_S = 0.25
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Budget:
    """A host of a provider that meters requests on its own.

    Args:
        name: as in Request.budget.
        url_variable, url: where the base URL comes from, and its default.
        lowest_plan_per_s: permits a second that every plan has (WIRE section 1.2).
        keys: header name -> environment variables that may hold its value, first one wins.
        scheme: what stands before a key in its header.
        tells_keys: whether a wrong key is answered 401 always, so that 403 means that the plan lacks the data.
    """

    name: str
    url_variable: str
    url: str
    lowest_plan_per_s: float
    keys: tuple[tuple[str, tuple[str, ...]], ...]
    scheme: str = ""
    tells_keys: bool = False


_ALPACA_KEYS = (("APCA-API-KEY-ID", ("APCA_API_KEY_ID",)), ("APCA-API-SECRET-KEY", ("APCA_API_SECRET_KEY",)))
_MASSIVE_KEYS = (("Authorization", ("MASSIVE_API_KEY", "POLYGON_API_KEY")),)

BUDGETS = {
    budget.name: budget
    for budget in (
        Budget("alpaca/data", "APCA_API_DATA_URL", "https://data.alpaca.markets", 200 / 60, _ALPACA_KEYS),
        Budget("alpaca/trading", "APCA_API_BASE_URL", "https://paper-api.alpaca.markets", 200 / 60, _ALPACA_KEYS),
        Budget(
            "massive/api",
            "MASSIVE_API_BASE_URL",
            "https://api.massive.com",
            5 / 60,
            _MASSIVE_KEYS,
            "Bearer ",
            tells_keys=True,
        ),
    )
}

_KEY_VARIABLES = {name for budget in BUDGETS.values() for _, names in budget.keys for name in names}


@dataclass(frozen=True, slots=True)
class Access:
    """How one budget is reached: origin without trailing slash, and the headers that carry the keys."""

    budget: str
    origin: str
    headers: tuple[tuple[str, Secret], ...]
    lowest_plan_per_s: float

    @property
    def credential(self) -> Secret:
        """All key text of this access, for the fingerprint of its permit record."""
        return Secret("\n".join(value for _, value in self.headers))


def access(budget: str, environ: Mapping[str, str]) -> Access:
    """The access to a budget.

    Raises:
        CredentialsError: a key is missing, quoted or holds white space; names the variable, never its value.
        UsageError: the base URL is not https (http is for loopback only).
    """
    known = BUDGETS[budget]
    headers = tuple((header, Secret(known.scheme + _key(names, environ))) for header, names in known.keys)
    return Access(budget, _origin(known, environ), headers, known.lowest_plan_per_s)


def has_keys(budget: str, environ: Mapping[str, str]) -> bool:
    """Whether any key of a budget is set."""
    return any(environ.get(name) for _, names in BUDGETS[budget].keys for name in names)


def _key(names: tuple[str, ...], environ: Mapping[str, str]) -> Secret:
    for name in names:
        value = environ.get(name)
        if value:
            if value != value.strip() or value[0] in "\"'" or not value.isprintable() or not value.isascii():
                raise CredentialsError(f"{name} holds quotes, white space or control characters.", "Set the bare key.")
            return Secret(value)
    raise CredentialsError(
        f"{names[0]} is not set.", f"Set {' or '.join(names)}, or name a file of such lines with --env-file."
    )


def _origin(budget: Budget, environ: Mapping[str, str]) -> str:
    url = environ.get(budget.url_variable) or budget.url
    refused = UsageError(f"{budget.url_variable} is no base URL.", f"Example: {budget.url}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise refused from None
    if parts.scheme not in ("https", "http") or not host or not re.fullmatch("[!-~]+", url):
        raise refused
    if "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise refused
    if parts.scheme == "http" and host not in LOOPBACK:
        raise UsageError(f"{budget.url_variable} sends keys over http to {host}.", "Use https.")
    return url.rstrip("/")


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
    if _KEY_VARIABLES & found.keys() and path.stat().st_mode & 0o077:
        raise UsageError(f"--env-file {path} holds keys and others may read it.", f"Run `chmod 600 {path}`.")
    return {**environ, **found}


def places(environ: Mapping[str, str]) -> paths.Places:
    """Folders of settings and of state on this machine."""
    return paths.places(sys.platform, environ, environ.get("HOME") or str(Path.home()))


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where this machine's permit records live."""
    return Path(places(environ).state)


def in_flight(rate_per_s: float, latency_s: float = LATENCY_S) -> int:
    """Requests that are worth having in flight: rate times latency, half as many again, from 1 to 64."""
    return max(1, min(MOST_LANES, round(1.5 * rate_per_s * latency_s)))


def most_lanes() -> int:
    """Requests in flight that half of the free memory holds, 64 at most."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return MOST_LANES
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    return max(FEWEST_LANES, min(MOST_LANES, free // 2 // LANE_BYTES)) if free else MOST_LANES


def utc_now() -> datetime:
    """The wall clock, UTC."""
    return datetime.now(UTC)


def memory_bytes(pids: Iterable[int]) -> int:
    """Memory of this process and of `pids`, shared pages counted once (PSS); the largest ever of this process
    alone where the system has no such count."""
    total = 0
    for pid in ("self", *map(str, pids)):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return total or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_bytes(root: Path) -> int:
    """Bytes free on the file system that holds (or would hold) the root."""
    place = root.absolute()
    while not place.exists():
        place = place.parent
    stats = os.statvfs(place)
    return stats.f_bavail * stats.f_frsize

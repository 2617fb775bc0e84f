"""Credentials, base URLs, plans and folders, from the environment and `--env-file`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from stagingest.errors import CredentialsError, UsageError
from stagingest.model.page import LOOPBACK
from stagingest.model.secrets import Secret


@dataclass(frozen=True, slots=True)
class Host:
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

HOSTS = {
    budget.name: budget
    for budget in (
        Host("alpaca/data", "APCA_API_DATA_URL", "https://data.alpaca.markets", 200 / 60, _ALPACA_KEYS),
        Host("alpaca/trading", "APCA_API_BASE_URL", "https://paper-api.alpaca.markets", 200 / 60, _ALPACA_KEYS),
        Host(
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

KEY_VARIABLES = {name for budget in HOSTS.values() for _, names in budget.keys for name in names}


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
    known = HOSTS[budget]
    headers = tuple((header, Secret(known.scheme + _key(names, environ))) for header, names in known.keys)
    return Access(budget, _origin(known, environ), headers, known.lowest_plan_per_s)


def has_keys(budget: str, environ: Mapping[str, str]) -> bool:
    """Whether any key of a budget is set."""
    return any(environ.get(name) for _, names in HOSTS[budget].keys for name in names)


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


def _origin(budget: Host, environ: Mapping[str, str]) -> str:
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

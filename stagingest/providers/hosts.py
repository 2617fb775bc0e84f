"""Credentials, base URLs, plans and folders, from the environment and `--env-file`."""

from collections.abc import Mapping
from dataclasses import dataclass

from stagingest.errors import CredentialsError
from stagingest.model.page import origin_parts
from stagingest.model.secrets import Secret
from stagingest.providers import catalog
from stagingest.providers.endpoint import Host


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
    known = catalog.hosts()[budget]
    headers = tuple((header, Secret(known.scheme + _key(names, environ))) for header, names in known.keys)
    return Access(budget, _origin(known, environ), headers, known.lowest_plan_per_s)


def has_keys(budget: str, environ: Mapping[str, str]) -> bool:
    """Whether any key of a budget is set."""
    return any(environ.get(name) for _, names in catalog.hosts()[budget].keys for name in names)


def key_variables() -> frozenset[str]:
    """Every environment variable that may hold a key of some provider."""
    return frozenset(name for budget in catalog.hosts().values() for _, names in budget.keys for name in names)


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
    origin_parts(url, budget.url_variable, budget.url)
    return url.rstrip("/")

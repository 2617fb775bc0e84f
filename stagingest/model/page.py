"""A request for a page and the page itself, as an endpoint gives them, and the origin both are bound to."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from stagingest.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a provider, without credentials.

    Args:
        budget: which host and rate budget it is sent to, e.g. `alpaca/data`.
        path: absolute path of the route.
        query: parameters in the order they are sent.
        origin: where it was sent, '' before: an answer may name it.
    """

    budget: str
    path: str
    query: tuple[tuple[str, str], ...]
    origin: str = field(default="", compare=False)

    def param(self, name: str) -> str:
        """The value of query parameter `name`, '' when it is not sent."""
        return next((value for key, value in self.query if key == name), "")


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one response and the request for the next page, or None at the end.

    `table` holds the endpoint's page columns only (symbol first, as dictionary; ts as timestamp('us'));
    constants of the series are added when the chunk is staged. `None` stands for zero rows. `unknown` names fields of
    the rows that have no column. `counted` is what the provider counted towards the page's limit, 0 for its rows.
    """

    table: "pa.Table | None"
    next: Request | None
    unknown: frozenset[str] = frozenset()
    counted: int = 0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.table.num_rows if self.table is not None else 0


LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


# -- what the user may get wrong ------------------------------------------------------------------------------


def origin_parts(url: str, named: str, example: str = "https://host") -> tuple[str, str, int | None]:
    """Scheme, host and port of a base URL: an origin and nothing more, over http on this machine only.

    Args:
        named: where it is from, as a user knows it.

    Raises UsageError.
    """
    refused = UsageError(f"{named} is no base URL.", f"Example: {example}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refused from None
    if parts.scheme not in ("https", "http") or not host or not re.fullmatch("[!-~]+", url):
        raise refused
    if "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise refused
    if parts.scheme == "http" and host not in LOOPBACK:
        raise UsageError(f"{named} sends keys over http to {host}.", "Use https.")
    return parts.scheme, host, port


_PORTS = {"https": 443, "http": 80}


class Origin(NamedTuple):
    """Where a URL leads: scheme, host in lower case, port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """The origin of a URL. Raises ValueError when it has none."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("no scheme or no host")
        return cls(parts.scheme, parts.hostname, _PORTS[parts.scheme] if parts.port is None else parts.port)

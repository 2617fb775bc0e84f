"""The `next_url` of a provider is data: what it may say, and the cursor in it; never an address to follow.

A URL out of an answer may name any host. Only its cursor is taken, and where a route allows it a new `from`; the
request is built from our own base URL.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from stagingest.errors import PageError

BYTE_CAP = 8192
_PORTS = {"https": 443, "http": 80}
_COLON = re.compile("%3A", re.IGNORECASE)  # of an option's ticker, which the provider may write either way
_PLAIN = re.compile(r"[!-~]+")
_FROM = re.compile(r"(/v2/aggs/ticker/[^/]+/range/[0-9]+/[a-z]+/)([0-9]{1,14}|[0-9]{4}-[0-9]{2}-[0-9]{2})(/[^/]+)")


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


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a `next_url` says: the cursor, decoded, and the path to send it to."""

    text: str
    path: str


def cursor(next_url: object, path: str, origins: Collection[Origin]) -> Cursor | None:
    """What a `next_url` says, or None when there is no next page (null or '').

    Args:
        next_url: the value as it came.
        path: of the request that was answered, as it was sent.
        origins: where a `next_url` of this provider may lead; nothing is ever sent there.

    Raises PageError when it is anything but an address of the provider with the same path (for aggregates: with another
    `from`) and one cursor.
    """
    if next_url is None or next_url == "":
        return None
    if not isinstance(next_url, str):
        raise PageError(f"The next_url is a {type(next_url).__name__} instead of text.")
    if len(next_url) > BYTE_CAP:
        raise _refused(f"it has over {BYTE_CAP:,} bytes")
    # What urlsplit would drop or repair in silence (tabs, line breaks, backslashes) is refused before it sees it.
    if not _PLAIN.fullmatch(next_url) or "\\" in next_url or "#" in next_url:
        raise _refused("it holds white space, control characters, a backslash, a fragment or letters beyond ASCII")
    try:
        parts, origin = urlsplit(next_url), Origin.of(next_url)
    except ValueError:
        raise _refused("it is no address") from None
    if "@" in parts.netloc:
        raise _refused("it holds a user name")
    if origin not in origins:
        raise _refused("it leads to another host, port or scheme")
    route = _COLON.sub(":", parts.path)
    if not _same_route(route, path):
        raise _refused("its path is not the one that was asked")
    return Cursor(_only(parts.query), route)


def _same_route(path: str, asked: str) -> bool:
    if path == asked:
        return True
    found, was = _FROM.fullmatch(path), _FROM.fullmatch(asked)
    return bool(found and was and found.group(1, 3) == was.group(1, 3))


def _only(query: str) -> str:
    found = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "cursor"]
    if len(found) != 1 or not found[0]:
        raise _refused("it has not exactly one cursor")
    if not (found[0].isascii() and found[0].isprintable()):
        raise _refused("its cursor holds control characters or letters beyond ASCII")
    return found[0]


def _refused(why: str) -> PageError:
    return PageError(f"The next_url is not followed: {why}.")

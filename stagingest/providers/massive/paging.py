"""How Massive's answers are opened: errors that come with status 200, rows under `results`, the next page by cursor."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from stagingest.errors import PageError
from stagingest.model.page import Origin, Request
from stagingest.providers.decode import paging

# Where the provider's own next_url leads; nothing is sent there (the old name still answers).
_ORIGINS = frozenset(map(Origin.of, ("https://api.massive.com", "https://api.polygon.io")))
_ERRORS = frozenset({"ERROR", "NOT_AUTHORIZED"})


def envelope_of(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; `DELAYED` is what a delayed plan answers. Raises PageError for an error."""
    envelope = paging.envelope_of(body, "results")
    if envelope.get("status") in _ERRORS:
        said = envelope.get("error") or envelope.get("message") or envelope["status"]
        raise PageError(f"The answer is an error: {str(said)[:200]}")
    return envelope


def rows_of(envelope: Mapping[str, Any], most: int) -> list[Any]:
    """The rows of a page, none where `results` is null or not there. Raises PageError for more than `most`."""
    rows = envelope.get("results") or []
    if not isinstance(rows, list):
        raise PageError("The answer's results are no list.")
    if len(rows) > most:
        raise PageError(f"The page has {len(rows)} rows where {most} is the most.")
    return rows


def following(request: Request, envelope: Mapping[str, Any]) -> Request | None:
    """The request for the page after `envelope`, None at the end: its cursor alone, which everything asked rides in.

    Raises PageError when the `next_url` leads anywhere but to the provider, or to where `request` was sent.
    """
    origins = _ORIGINS | {Origin.of(request.origin)} if request.origin else _ORIGINS
    found = cursor(envelope.get("next_url"), request.path, origins)
    return Request(request.budget, found.path, (("cursor", found.text),)) if found else None


BYTE_CAP = 8192
_COLON = re.compile("%3A", re.IGNORECASE)  # of an option's ticker, which the provider may write either way
_PLAIN = re.compile(r"[!-~]+")
_FROM = re.compile(r"(/v2/aggs/ticker/[^/]+/range/[0-9]+/[a-z]+/)([0-9]{1,14}|[0-9]{4}-[0-9]{2}-[0-9]{2})(/[^/]+)")


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

"""How Massive's answers are opened: errors that come with status 200, rows under `results`, the next page by cursor."""

from collections.abc import Mapping
from typing import Any

from stagingest.errors import PageError
from stagingest.model import Request
from stagingest.providers import paging
from stagingest.providers.cursor import Origin, cursor

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

"""What every paged answer has in common: a JSON object, and perhaps the token of the next page."""

from collections.abc import Mapping
from typing import Any

import orjson

from stagingest.errors import PageError
from stagingest.model.page import Request


def envelope_of(body: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `body`.

    Args:
        body: a whole response body.
        what: the key a page of this route has; a body with a `message` and without it is an error.

    Raises PageError, and MemoryError when there is none for it.
    """
    try:
        envelope = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "not enough memory" in str(error).lower():  # what orjson says instead of raising MemoryError
            raise MemoryError from None
        raise PageError(f"The answer is not JSON: {error}.") from None
    if not isinstance(envelope, dict):
        raise PageError(f"The answer is a JSON {type(envelope).__name__} instead of an object.")
    if what not in envelope and "message" in envelope:
        raise PageError(f"The answer is an error: {str(envelope['message'])[:200]}")
    return envelope


def following(request: Request, envelope: Mapping[str, Any]) -> Request | None:
    """The request for the page after `envelope`: every parameter again, and its token; None at the end.

    Raises PageError when the token is no text.
    """
    token = envelope.get("next_page_token")
    if token is None or token == "":
        return None
    if not isinstance(token, str):
        raise PageError(f"The next_page_token is a {type(token).__name__} instead of text.")
    kept = tuple(pair for pair in request.query if pair[0] != "page_token")
    return Request(request.budget, request.path, (*kept, ("page_token", token)))


def last_member(body: bytes, name: str) -> dict[str, str]:
    """The plain text member of that name that stands last in a body of JSON; empty where there is none."""
    opening = b'"%s":"' % name.encode()
    start = body.rfind(opening) + len(opening)
    text = body[start : body.find(b'"', start)] if start >= len(opening) else b"\\"
    return {} if b"\\" in text or not text.isascii() else {name: text.decode()}

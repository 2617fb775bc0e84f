"""What Massive's pages have in common: an envelope, and the address of the next page with a cursor in it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson

from stagingest.sim.ask import Query, Refusal
from stagingest.sim.policy import Policy

END = "~"
"""The `after` of the page that follows the last one and has no rows."""
# The provider's addresses still bear its old name.
HOST = "https://api.polygon.io"
_REQUEST_ID = "0d350849a1b2c3d4e5f60718293a4b5c"


def envelope(policy: Policy) -> dict[str, Any]:
    """What every page says."""
    return {"status": "DELAYED" if policy.massive_delayed else "OK", "request_id": _REQUEST_ID}


def body_of(policy: Policy, rows: Sequence[dict[str, Any]], path: str, query: Query, after: str) -> tuple[bytes, int]:
    """A page of rows that follow a key, and their number; `after` is the last row's key, '' at the end.

    The query rides in the cursor; nothing of it stands beside.
    """
    after = after or (END if policy.empty_pages == "last" and rows else "")
    rows = [*rows[:1], *rows[:1], *rows] if policy.massive_repeats else rows
    page = envelope(policy)
    if rows or policy.empty_shape != "missing":
        page["results"] = rows
    if after:
        page["next_url"] = next_url(path, {**query, "after": after})
    return orjson.dumps(page), len(rows)


def next_url(path: str, query: Query) -> str:
    """The address of a page: a query, seen from outside as a cursor."""
    cursor = urlsafe_b64encode(urlencode(query).encode()).decode().rstrip("=")
    return f"{HOST}{path}?cursor={cursor}"


def asked(query: Query) -> Query:
    """The query in a cursor, or the one that has none. Raises Refusal."""
    if "cursor" not in query:
        return query
    cursor = query["cursor"]
    try:
        found = dict(parse_qsl(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode(), strict_parsing=True))
    except ValueError:
        found = {}
    if not found:
        raise Refusal(400, "invalid cursor")
    return found

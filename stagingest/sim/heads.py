"""What the headers of a request say."""

from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the headers, and the few values that matter; a bearer token is key and secret at once."""

    names: tuple[str, ...]
    key: str
    secret: str
    gzip: bool
    close: bool


@lru_cache(maxsize=1024)
def fields(head: bytes) -> Fields:
    """What the header lines of a request say."""
    pairs = [line.partition(":") for line in head.decode("latin-1").split("\r\n") if line]
    values = {name.lower(): value.strip() for name, _, value in pairs}
    key, secret = _credentials(values)
    return Fields(
        names=tuple(name for name, _, _ in pairs),
        key=key,
        secret=secret,
        gzip="gzip" in values.get("accept-encoding", ""),
        close=values.get("connection", "").lower() == "close",
    )


def _credentials(values: dict[str, str]) -> tuple[str, str]:
    """Key id and secret; a bearer token stands for both."""
    scheme, _, given = values.get("authorization", "").partition(" ")
    if scheme == "Bearer":
        return given, given
    if scheme == "Basic":
        try:
            key, _, secret = b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            return "", ""
        return key, secret
    return values.get("apca-api-key-id", ""), values.get("apca-api-secret-key", "")


@lru_cache(maxsize=8)
def http_date(second: int) -> str:
    """The value of a `Date` header."""
    return format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True)

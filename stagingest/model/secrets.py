"""Secrets out of text: by value in every usual spelling, and by the names they go under; pure."""

import html
import json
import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote, unquote


class Secret(str):
    """Text that never shows itself in a repr, a log or a traceback's locals."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


_TELLING = 8
_FOR_URLS = bytes.maketrans(b"+/", b"-_")
# A shorter value stands in too many words by chance.
_SHORTEST = 6
_SECRET_NAME = re.compile(r"(?:(?:^|_)(?:KEY|KEY_ID|SECRET|TOKEN)|PASSWORD|PASSWD)$", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^\s/:@]*:)(?P<secret>[^\s/@]+)(?=@)", re.IGNORECASE)
_UNDER_NAME = re.compile(
    r"""(?P<before>\b(?:password|passwd|api_?key|apca-api-(?:key-id|secret-key)|secret(?:_key)?|access_token)
    ["']?\s*[=:]\s*["']?|\bBearer\s+)(?P<secret>[^\s"'&;,]+)""",
    re.IGNORECASE | re.VERBOSE,
)


def secrets(environ: Mapping[str, str], variables: Collection[str] = ()) -> set[str]:
    """The values of an environment that no message may hold: keys, tokens, passwords, those of addresses too.

    Args:
        variables: names of some that hold secrets, whatever they are called.
    """
    named = {value for name, value in environ.items() if name in variables or _SECRET_NAME.search(name)}
    inside = {found["secret"] for value in environ.values() for found in _IN_ADDRESS.finditer(value)}
    return {value for value in named | inside | {unquote(each) for each in inside} if len(value) >= _SHORTEST}


def clean(text: str, values: Iterable[str]) -> str:
    """A message with `***` for each of the values, and for whatever an address or a name marks as a secret."""
    known = redacted(text.encode(errors="surrogateescape"), sorted(values, key=len, reverse=True))
    shown = known.decode(errors="surrogateescape")
    for marked in (_IN_ADDRESS, _UNDER_NAME):
        shown = marked.sub(r"\g<before>***", shown)
    return shown


def redacted(body: bytes, secrets: Iterable[str]) -> bytes:
    """The body with `***` for each of the secrets, however it is spelled."""
    for secret in secrets:
        for spelling in _spellings(secret):
            body = body.replace(spelling, b"***")
    return body


@lru_cache(maxsize=32)
def _spellings(secret: str) -> list[bytes]:
    """The secret, and the key of `Bearer KEY`, in every usual spelling; longest first."""
    words = {secret, secret.removeprefix("Bearer ")} - {""}
    # A few characters that an encoding leaves of a short key stand everywhere.
    coded = {spelling for word in words for spelling in _spelled(word) if len(spelling) >= _TELLING}
    return sorted({*coded, *(word.encode() for word in words)}, key=len, reverse=True)


def _spelled(word: str) -> Iterator[bytes]:
    raw, percent = word.encode(), quote(word, safe="")
    lower = re.sub("%..", lambda found: found[0].lower(), percent)
    in_json = json.dumps(word)[1:-1]
    escaped = (in_json, json.dumps(in_json)[1:-1], in_json.replace("/", "\\/"), repr(word)[1:-1], repr(raw)[2:-1])
    texts = (word, percent, lower, quote(word), *escaped, word.replace("\\", "\\\\"), html.escape(word))
    yield from (text.encode() for text in texts)
    yield from (raw.hex().encode(), raw.hex().upper().encode(), word.encode("utf-16-le"), word.encode("utf-16-be"))
    for shift in range(3):
        # Whatever stands before it, some characters of its base64 stand for it alone.
        in_base64 = b64encode(b"." * shift + raw).rstrip(b"=")[4 if shift else 0 :]
        yield from (in_base64, in_base64.translate(_FOR_URLS))
        yield from (in_base64[:-2], in_base64[:-2].translate(_FOR_URLS))


TEXT_CAP = 200


def plain(text: str, cap: int = TEXT_CAP) -> str:
    """`text` fit for a terminal and a log: control characters escaped, at most `cap` characters."""
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:cap])
    return escaped if len(escaped) <= cap and len(text) <= cap else escaped[: cap - 1] + "…"

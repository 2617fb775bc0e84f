"""What comes over the wire, in our words: bodies inflated within caps, failures as faults; pure."""

import errno
import http.client
import os
import socket
import ssl
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from stagingest.http.headers import http_date
from stagingest.model.secrets import plain, redacted


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Args:
        status: HTTP status.
        headers: lower-case name -> value, only those that someone reads.
        body: inflated; of an error (status >= 400) at most its first 4 KiB.
        date: the server's `Date` (UTC, aware).
        elapsed_s: from asking to the last byte.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    date: datetime | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class TransportFault:
    """Why there is no whole answer.

    Args:
        kind: dns, connect, tls, timeout, reset (nothing came back), truncated, decode, header, redirect,
            too_large, aborted (we hung up ourselves).
        text: one sentence of at most 200 printable characters, no secret in it.
    """

    kind: str
    text: str


BODY_CAP = 256 << 20
ERROR_BODY_CAP = 4096
RATIO_CAP, RATIO_FREE = 200, 1 << 20
_KEPT = ("content-type", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


class SilenceError(http.client.RemoteDisconnected):
    """The connection ended before the first byte of an answer."""


def refused_head(status: int, headers: Mapping[str, str]) -> TransportFault | None:
    """Why an answer with this head is not read, or None when it may be."""
    if 300 <= status < 400:
        return TransportFault("redirect", f"answers {status}, a redirect to {_target(headers)}, which is not followed")
    if status < 200:
        return TransportFault("truncated", f"an interim answer ({status}) and nothing after it")
    coding = headers.get("transfer-encoding", "").lower()
    if coding not in ("", "chunked"):
        return TransportFault("decode", f"the answer is transferred as {coding!r}, which was not asked for")
    length = headers.get("content-length", "0")
    if not coding and not (length.isascii() and length.isdigit()):
        return TransportFault("header", f"the length of the answer is {length!r}")
    if not coding and status < 400 and int(length[:18]) > BODY_CAP:
        return too_large()
    return None


def _target(headers: Mapping[str, str]) -> str:
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = "an address that is none"
    return plain(host or "itself", 80)


def too_large() -> TransportFault:
    """A body that is not taken."""
    return TransportFault("too_large", f"the answer has over {BODY_CAP:,} bytes")


def reply(
    status: int, headers: Mapping[str, str], data: bytes, secrets: Iterable[str], elapsed_s: float
) -> Reply | TransportFault:
    """The answer whose body came as `data`; an error repeats none of the secrets."""
    coding = headers.get("content-encoding", "").strip().lower()
    body = inflated(data, coding) if status < 400 else error_text(data, coding, secrets)
    if isinstance(body, TransportFault):
        return body
    kept = {name: headers[name] for name in _KEPT if name in headers}
    return Reply(status, kept, body, http_date(headers.get("date", "")), elapsed_s)


def inflated(data: bytes, coding: str) -> bytes | TransportFault:
    """The body that was sent as `data` under a Content-Encoding.

    A gzip stream counts only with its end mark and nothing after it, and as long as it stays below 200 times its
    size (from 1 MiB on) and below 256 MiB.
    """
    if coding in ("", "identity"):
        return data
    if coding not in ("gzip", "x-gzip"):
        return TransportFault("decode", f"the answer is encoded as {coding!r}, which was not asked for")
    decoder = zlib.decompressobj(31)
    cap = min(BODY_CAP, max(RATIO_FREE, RATIO_CAP * len(data)))
    try:
        body = decoder.decompress(data, cap + 1)
    except zlib.error:
        return TransportFault("decode", "the compressed answer is damaged")
    if len(body) > cap:
        return TransportFault("decode", f"the compressed answer inflates to over {cap:,} bytes")
    if not decoder.eof:
        return TransportFault("decode", "the compressed answer is cut short")
    return TransportFault("decode", "the compressed answer has bytes after its end") if decoder.unused_data else body


def error_text(data: bytes, coding: str, secrets: Iterable[str]) -> bytes:
    """The beginning of an error body, as much of it as can be read, without the secrets it may repeat."""
    body = data if coding in ("", "identity") else b""
    if coding in ("gzip", "x-gzip"):
        with suppress(zlib.error):
            body = zlib.decompressobj(31).decompress(data, ERROR_BODY_CAP)
    return redacted(body, secrets)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and every error it wraps or came from; the libraries nest them in four ways."""
    todo, seen = [error], set[int]()
    while todo:
        cause = todo.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            linked = (*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__)
            todo += [other for other in linked if isinstance(other, BaseException)]


def head_fault(error: BaseException, *, asked: bool, proxied: bool) -> TransportFault:
    """The fault of an exchange that brought no response head.

    Args:
        error: what was raised.
        asked: whether there was a connection to ask on.
        proxied: whether it goes through a proxy.

    Raises OSError when this process may open no more files.
    """
    found = list(causes(error))
    if not asked:
        return _connect_fault(found, " through the proxy" if proxied else "")
    if _first(found, TimeoutError):
        return TransportFault("timeout", "no answer for too long")
    if _first(found, ConnectionError, ssl.SSLError):
        return TransportFault("reset", "the connection was closed before an answer")
    if _first(found, http.client.LineTooLong, ValueError) or any(
        type(cause) is http.client.HTTPException for cause in found
    ):
        return TransportFault("header", "the answer's headers are too many, too long or contradict each other")
    return TransportFault("truncated", "the answer is not HTTP")


def _connect_fault(found: list[BaseException], way: str) -> TransportFault:
    if _first(found, socket.gaierror):
        return TransportFault("dns", f"the name cannot be resolved{way}")
    untrusted = _first(found, ssl.SSLCertVerificationError)
    if isinstance(untrusted, ssl.SSLCertVerificationError):
        return TransportFault("tls", f"the certificate is not trusted: {untrusted.verify_message}")
    tls = _first(found, ssl.SSLError)
    if isinstance(tls, ssl.SSLError) and not isinstance(tls, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return TransportFault(
            "tls", f"no TLS connection: {(tls.reason or 'handshake failed').lower().replace('_', ' ')}"
        )
    if _first(found, TimeoutError):
        return TransportFault("connect", f"cannot be reached{way} in time")
    number = next((cause.errno for cause in found if isinstance(cause, OSError) and cause.errno), None)
    if number in (errno.EMFILE, errno.ENFILE):
        # Nothing the provider could be blamed for, or that asking again could mend.
        raise OSError(number, "too many open files: raise `ulimit -n` or fetch with fewer --lanes")
    if number is None and _first(found, ValueError):
        return TransportFault("header", "a key or another header of the request cannot be sent")
    return TransportFault(
        "connect", f"cannot be reached{way}: {os.strerror(number) if number else 'connection broken'}"
    )


def body_fault(error: BaseException, received: int) -> TransportFault:
    """The fault of an answer of which `received` bytes of the body came."""
    if _first(list(causes(error)), TimeoutError):
        return TransportFault("timeout", f"silent for too long after {received:,} bytes")
    return TransportFault("truncated", f"the answer broke off after {received:,} bytes")


def _first(found: list[BaseException], *types: type[BaseException]) -> BaseException | None:
    return next((cause for cause in found if isinstance(cause, types)), None)

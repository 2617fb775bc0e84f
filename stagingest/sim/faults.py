"""What can go wrong with an answer: spoiled pages, spoiled bytes, and which request they happen to."""

import gzip
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import orjson

from stagingest.sim.policy import Fault


@dataclass(frozen=True, slots=True)
class Response:
    """A response about to be sent; headers without those that describe the body."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
    gzipped: bool = False

    def head(self, framing: str = "") -> bytes:
        """Status line and headers; `framing` replaces the Content-Length of the body."""
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Type: {self.content_type}"] if self.content_type else []
        lines += ["Content-Encoding: gzip", "Vary: Accept-Encoding"] if self.gzipped else []
        lines.append(framing or f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def half(self) -> bytes:
        """The first half of the body."""
        return self.body[: len(self.body) // 2]


@dataclass(frozen=True, slots=True)
class Wire:
    """Bytes for a connection, and what becomes of it: `keep`, `close` or `reset`.

    Args:
        pieces: sent in order, `gap_s` apart.
        then: the connection's end.
        held: nothing is sent until the server is told to release.
        delay_s: pause before the first piece.
    """

    pieces: tuple[bytes, ...]
    then: str = "keep"
    held: bool = False
    gap_s: float = 0.0
    delay_s: float = 0.0


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def sent(reply: Response) -> Wire:
    """The reply as it should be."""
    return Wire((reply.head(), reply.body))


# --- spoiled bytes


def _status(fault: Fault, reply: Response) -> Wire:
    kept = tuple(pair for pair in reply.headers if pair[0] == "Date")
    return sent(Response(fault.status, fault.body, kept + fault.headers))


def _truncated(fault: Fault, reply: Response) -> Wire:
    return Wire((reply.head(), reply.half()), "close")


def _cut_chunked(fault: Fault, reply: Response) -> Wire:
    half = reply.half()
    return Wire((reply.head("Transfer-Encoding: chunked"), b"%x\r\n%s\r\n" % (len(half), half)), "close")


def _cut_gzip(fault: Fault, reply: Response) -> Wire:
    body = reply.body if reply.gzipped else gzip.compress(reply.body, 1)
    return sent(replace(reply, body=body[: len(body) // 2], gzipped=True))


def _drip(fault: Fault, reply: Response) -> Wire:
    size, body = fault.piece_bytes, reply.body
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return Wire((reply.head(), *pieces), gap_s=fault.gap_s)


WIRES: dict[str, Callable[[Fault, Response], Wire]] = {
    "status": _status,
    "truncated": _truncated,
    "cut-chunked": _cut_chunked,
    "cut-gzip": _cut_gzip,
    "reset": lambda fault, reply: Wire((), "reset"),
    "close": lambda fault, reply: Wire((), "close"),
    "hang": lambda fault, reply: replace(sent(reply), held=True),
    "drip": _drip,
}


# --- spoiled pages: (body, its request's token, body of the first page) to body


def _lists(page: dict[str, Any]) -> Iterable[list[Any]]:
    """Every list of rows in a page."""
    for value in page.values():
        lists = value.values() if isinstance(value, dict) else [value]
        yield from (rows for rows in lists if isinstance(rows, list))


def _next(page: dict[str, Any]) -> str:
    """The member that names the page after it: an address where pages have numbers of their own."""
    return "next_url" if "request_id" in page else "next_page_token"


def _wrong_json(body: bytes, token: str, first: Callable[[], bytes]) -> bytes:
    return body[: len(body) // 2]


def _repeated_token(body: bytes, token: str, first: Callable[[], bytes]) -> bytes:
    page = orjson.loads(body)
    return orjson.dumps(page | {_next(page): token or page.get(_next(page))})


def _cut_short(body: bytes, token: str, first: Callable[[], bytes]) -> bytes:
    page = orjson.loads(body)
    return orjson.dumps(page | {_next(page): None})


def _duplicate_page(body: bytes, token: str, first: Callable[[], bytes]) -> bytes:
    page = orjson.loads(body)
    return orjson.dumps(orjson.loads(first()) | {_next(page): page.get(_next(page))})


def _duplicate_rows(body: bytes, token: str, first: Callable[[], bytes]) -> bytes:
    page = orjson.loads(body)
    for rows in _lists(page):
        rows[:1] = rows[:1] * 2
    return orjson.dumps(page)


PAGES: dict[str, Callable[[bytes, str, Callable[[], bytes]], bytes]] = {
    "wrong-json": _wrong_json,
    "repeated-token": _repeated_token,
    "cut-short": _cut_short,
    "duplicate-page": _duplicate_page,
    "duplicate-rows": _duplicate_rows,
}


class Faults:
    """Which rule fires for a request; keeps each rule's counts."""

    def __init__(self, rules: Sequence[Fault]) -> None:
        self._rules = [_Rule(rule) for rule in rules]

    def choose(self, path: str, text: str) -> Fault | None:
        """The first rule that fires for a request; `text` is its decoded path and query."""
        fired = [rule.fault for rule in self._rules if rule.fires(path, text)]
        return fired[0] if fired else None


class _Rule:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._seen = self._fired = 0
        self._random = random.Random(fault.seed)

    def fires(self, path: str, text: str) -> bool:
        fault = self.fault
        if not path.startswith(fault.route) or fault.contains not in text:
            return False
        self._seen += 1
        hit = not (fault.nth or fault.every or fault.chance)
        hit |= self._seen in fault.nth
        hit |= bool(fault.every) and self._seen % fault.every == 0
        hit |= bool(fault.chance) and self._random.random() < fault.chance
        hit &= not fault.times or self._fired < fault.times
        self._fired += hit
        return hit

"""What an exchange with a provider means: one pure place decides (RELIABILITY section 4)."""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import orjson

from stagingest.http.headers import LONGEST_WAIT_S, rate_headers, retry_after_s
from stagingest.http.response import Reply, TransportFault
from stagingest.http.retry import Health
from stagingest.model.secrets import plain

MESSAGE_CAP = 4096
NO_END: Final = 2**31


class Action(StrEnum):
    """What to do with an exchange."""

    PAGE = "page"
    RETRY = "retry"
    LIMITED = "limited"
    SPLIT = "split"
    FORBIDDEN = "forbidden"
    CREDENTIALS = "credentials"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Decision:
    """What an exchange means.

    Args:
        kind: page: read the body. retry: ask again, up to `tries` times in all. limited: ask again whenever the
            rate permits. split: ask for less (one symbol alone is refused). forbidden: not for this series or
            window. credentials, stop: the endpoint cannot be asked any more.
        reason: one sentence, the provider's message in it; '' for a page.
        wait_s: the pause the provider asks for, 0 to 900 s; None: back off on our own.
        cost: tokens a retry takes from the RetryBudget.
        bad: symbols the message names as bad.
        recent: the refusal is about recent data only.
        tries: how often the request may be asked, first time included.
        base_s, cap_s: arguments for `waits.backoff_s`.
        unreachable: the host could not be reached at all.
        not_json: the answer is not the provider's.
    """

    kind: Action
    reason: str = ""
    wait_s: float | None = None
    cost: int = 0
    bad: tuple[str, ...] = ()
    recent: bool = False
    tries: int = 1
    base_s: float = 0.5
    cap_s: float = 30.0
    unreachable: bool = False
    not_json: bool = False

    @property
    def stop(self) -> str:
        """What it is called when this is the last word of an endpoint (Result.stop); '' when it is not."""
        if self.kind is Action.CREDENTIALS:
            return "credentials"
        if self.not_json:
            return "not-json"
        return "unreachable" if self.kind is Action.STOP or self.unreachable else ""


_PAGE = Decision(Action.PAGE)
_UNREACHED = Decision(Action.RETRY, cost=5, tries=4, unreachable=True)
_UNREADABLE = Decision(Action.RETRY, cost=5, tries=3)
_FAULTS = {
    "dns": _UNREACHED,
    "connect": _UNREACHED,
    "reset": replace(_UNREACHED, unreachable=False),
    "timeout": Decision(Action.RETRY, cost=10, tries=3, base_s=1.0, cap_s=60.0),
    "truncated": _UNREADABLE,
    "decode": _UNREADABLE,
    "too_large": Decision(Action.RETRY),
    "aborted": Decision(Action.RETRY),
}
_TROUBLE = Decision(Action.RETRY, cost=5, tries=5, cap_s=60.0)
_LIMITED = Decision(Action.LIMITED, tries=NO_END)
_PHRASES = {
    401: "the key is refused",
    402: "payment is required",
    403: "not entitled, or the key is wrong",
    429: "the provider limits us",
}


def classify(exchange: Reply | TransportFault, *, attempt: int, symbols: int) -> Decision:
    """What an exchange means.

    Args:
        exchange: what came back.
        attempt: tries of this request so far, this one included, those answered `limited` not counted.
        symbols: how many symbols the request asked for.
    """
    if isinstance(exchange, TransportFault):
        return _of_fault(exchange, attempt, symbols)
    status = exchange.status
    if status == 200:
        return _PAGE
    message = message_of(exchange.body)
    reason = _sentence(status, message)
    if status == 401:
        return Decision(Action.CREDENTIALS, reason)
    if status in (402, 403):
        return Decision(Action.FORBIDDEN, reason, recent=status == 403 and bool(_RECENT.search(message)))
    if status in (400, 404, 413, 414, 422):
        return Decision(Action.SPLIT, reason, bad=_named(message))
    if status == 429:
        return replace(_LIMITED, reason=reason, wait_s=_asked_wait_s(exchange))
    if status >= 500 or status in (408, 425):
        return _of_trouble(exchange, reason)
    return replace(_UNREADABLE, reason=reason) if status < 300 else Decision(Action.RETRY, reason)


def sign(exchange: Reply | TransportFault) -> Health:
    """What an exchange says about whether the provider can be asked at all."""
    if isinstance(exchange, TransportFault):
        return Health.UNREACHED if exchange.kind in ("dns", "connect") else Health.TROUBLED
    return Health.TROUBLED if exchange.status >= 500 or exchange.status in (408, 425) else Health.ANSWERED


def malformed(text: str, attempt: int, symbols: int) -> Decision:
    """What a 200 means whose body was no page, for the reason `text`: once more, then ask for less."""
    if attempt >= 2 and symbols > 1:
        return Decision(Action.SPLIT, plain(text))
    return replace(_UNREADABLE, reason=plain(text))


def _of_fault(fault: TransportFault, attempt: int, symbols: int) -> Decision:
    if fault.kind == "decode":
        return malformed(fault.text, attempt, symbols)
    if fault.kind == "too_large" and symbols > 1:
        return Decision(Action.SPLIT, plain(fault.text))
    known = _FAULTS.get(fault.kind)
    return replace(known, reason=plain(fault.text)) if known else Decision(Action.STOP, plain(fault.text))


def _of_trouble(reply: Reply, reason: str) -> Decision:
    wait_s = retry_after_s(reply.headers.get("retry-after", ""), reply.date) if reply.status == 503 else None
    if wait_s is None:
        return replace(_TROUBLE, reason=reason)
    return replace(_LIMITED, reason=reason, wait_s=wait_s)


def _asked_wait_s(reply: Reply) -> float | None:
    """Retry-After speaks of this request, the reset of the quota; a reset in the past says nothing."""
    asked = retry_after_s(reply.headers.get("retry-after", ""), reply.date)
    if asked is None:
        asked = rate_headers(reply.headers, reply.date).reset_in_s or None
    return None if asked is None else min(asked, LONGEST_WAIT_S)


_RECENT = re.compile(r"\brecent\b", re.IGNORECASE)
_BAD = re.compile(r"invalid symbols?:\s*([^\s,;\"']+(?:\s*,\s*[^\s,;\"']+)*)", re.IGNORECASE)
_MISSING = re.compile(r"option contract (\S+) not found", re.IGNORECASE)


def _named(message: str) -> tuple[str, ...]:
    found = _BAD.search(message) or _MISSING.search(message)
    return tuple(re.split(r"\s*,\s*", found[1].rstrip("."))) if found else ()


def message_of(body: bytes) -> str:
    """The provider's message in an error body: its `message` or `error`, else the text itself; '' for none."""
    try:
        value = orjson.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace").strip()[:MESSAGE_CAP]
    if isinstance(value, dict):
        for name in ("message", "error"):
            if isinstance(value.get(name), str):
                return str(value[name]).strip()[:MESSAGE_CAP]
    return body.decode().strip()[:MESSAGE_CAP]


def _sentence(status: int, message: str) -> str:
    other = ("an unknown answer", "the request is refused", "the provider is in trouble")
    phrase = _PHRASES.get(status) or other[min(max(status // 100 - 3, 0), 2)]
    return plain(f"{phrase} ({status}: {message})" if message else f"{phrase} ({status})")

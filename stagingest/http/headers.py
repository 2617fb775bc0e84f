"""How long to wait: what a provider's headers ask for, and what we choose ourselves; pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

LONGEST_WAIT_S = 900.0

_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:h|ms|m|s))+")
_DURATION_PART = re.compile(r"([0-9.]+)(h|ms|m|s)")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_EPOCH_S = 1e9
_EPOCH_MS = 1e11


def retry_after_s(text: str, date: datetime | None) -> float | None:
    """The seconds a `Retry-After` asks for, 0 to 900; None when it says nothing usable.

    Understands seconds, decimals, HTTP dates, durations (`1m0s`) and epoch seconds or milliseconds. Points in
    time are measured from `date`, the server's own clock, and say nothing without it. Never raises.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        value = float(text)
        wait_s = value if value <= _EPOCH_S else _until_s(value / 1000 if value > _EPOCH_MS else value, date)
    elif _DURATION.fullmatch(text):
        wait_s = sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(text))
    else:
        moment = http_date(text)
        wait_s = _until_s(moment.timestamp(), date) if moment else None
    return None if wait_s is None else min(max(wait_s, 0.0), LONGEST_WAIT_S)


def _until_s(epoch_s: float, date: datetime | None) -> float | None:
    return epoch_s - date.timestamp() if date else None


@lru_cache(maxsize=32)
def http_date(text: str) -> datetime | None:
    """The instant (UTC, aware) an HTTP date names, or None."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


class RateHeaders(NamedTuple):
    """What `X-RateLimit-*` say: requests a minute, requests left, seconds until the quota changes."""

    limit: int | None
    remaining: int | None
    reset_in_s: float | None


def rate_headers(headers: Mapping[str, str], date: datetime | None) -> RateHeaders:
    """The rate headers of an answer; garbage is None. The reset is measured from `date`, the server's clock."""
    limit, remaining, reset = (_whole(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining", "reset"))
    if reset is None or date is None or not _EPOCH_S < reset < _EPOCH_MS:
        return RateHeaders(limit, remaining, None)
    return RateHeaders(limit, remaining, max(reset - date.timestamp(), 0.0))


def _whole(text: str | None) -> int | None:
    return int(text) if text and len(text) <= 18 and text.isascii() and text.isdigit() else None

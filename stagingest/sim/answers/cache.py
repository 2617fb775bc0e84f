"""Answers made once: compressed, with the fixed part of their head, and kept while they hold."""

import zlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime

from stagingest.sim.faults import Response
from stagingest.sim.imitation import Answer, Imitation, answer
from stagingest.sim.market.calendar import Moment
from stagingest.sim.market.market import Market
from stagingest.sim.policy import Policy

_WORTH_GZIP = 1024


@dataclass(frozen=True, slots=True)
class Prepared:
    """An answer whose body is ready to be sent.

    Args:
        answer: the answer, its body left out.
        body: as sent.
        gzipped: whether it is compressed.
        head: status line and headers of the body, without the empty line.
        valid: when it holds, compared with the moment's own.
    """

    answer: Answer
    body: bytes
    gzipped: bool
    head: bytes
    valid: tuple[object, ...]


class Shelf:
    """The prepared answers of a market under a policy; the most recently used ones, up to `cache_bytes`."""

    def __init__(self, market: Market, policy: Policy, imitations: tuple[Imitation, ...]) -> None:
        self._market = market
        self._policy = policy
        self._imitations = imitations
        self._held: OrderedDict[tuple[str, bool], Prepared] = OrderedDict()
        self._bytes = 0
        self._minute: tuple[int, Moment] | None = None

    def answer(self, target: str, now: datetime) -> Answer:
        """The answer to a request, made anew."""
        return answer(self._market, self._policy, target, now, self._imitations)

    def get(self, target: str, now: datetime, *, gzip: bool) -> Prepared:
        """The answer to a request at `now`, made when none is held that is still true."""
        moment = self._moment(now)
        key = (target, gzip and self._policy.gzip)
        held = self._held.get(key)
        if held and held.valid in ((moment.today,), (moment.today, moment.horizon_s)):
            self._held.move_to_end(key)
            return held
        found = self._prepare(target, now, moment, gzip=key[1])
        if found.valid:
            self._hold(key, found)
        return found

    def _moment(self, now: datetime) -> Moment:
        minute = int(now.timestamp()) // 60
        if not self._minute or self._minute[0] != minute:
            self._minute = (minute, Moment.at(now))
        return self._minute[1]

    def _prepare(self, target: str, now: datetime, moment: Moment, *, gzip: bool) -> Prepared:
        plain = self.answer(target, now)
        packed = gzip and len(plain.body) > _WORTH_GZIP
        body = _compressed(plain.body) if packed else plain.body
        head = Response(plain.status, body, (), plain.content_type, packed).head().removesuffix(b"\r\n\r\n")
        valid = {"day": (moment.today,), "minute": (moment.today, moment.horizon_s)}.get(plain.lasting, ())
        return Prepared(replace(plain, body=b""), body, packed, head, valid)

    def _hold(self, key: tuple[str, bool], found: Prepared) -> None:
        old = self._held.pop(key, None)
        self._held[key] = found
        self._bytes += len(found.body) - (len(old.body) if old else 0)
        while self._bytes > self._policy.cache_bytes and len(self._held) > 1:
            self._bytes -= len(self._held.popitem(last=False)[1].body)


def _compressed(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()

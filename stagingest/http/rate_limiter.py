"""The shared permit records: one small file per budget, by which every process of the machine keeps one rate.

A record is the bytes of a `RateState`, mapped and changed under flock, which the kernel frees when its holder dies.
Nobody sleeps while holding it. Open records after a process is started, never across a fork.
"""

import hashlib
import hmac
import mmap
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

from stagingest.errors import StagingestError
from stagingest.http.rate import WINDOW_S, Feedback, RateState, after, at_rate, grant
from stagingest.system import platform

Clock = Callable[[], float]

_BODY = struct.Struct("<8s5q?13d")  # tag, then the fields of RateState in order
_EPOCH = struct.Struct("<q")
_SUM = struct.Struct("<I")
_BYTES = _BODY.size + _SUM.size
_SLICE_S = 0.05


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission for requests at `slot_s` of the limiter's clock, given at `rate_per_s` in epoch `epoch`."""

    slot_s: float
    rate_per_s: float
    epoch: int


@dataclass(frozen=True, slots=True)
class LimiterCounts:
    """What became of all requests since the record began, and the rate granted now."""

    answered: int
    refused: int
    granted_per_s: float


@cache
def _tag() -> bytes:
    """Names this boot (monotonic clocks begin anew with each) and the layout of the record."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        boot = b""  # elsewhere a clock that went back shows it (`RateState.sane`)
    return hashlib.blake2b(boot + _BODY.format.encode(), digest_size=8).digest()


class _Held:
    """A lock over threads and processes. It belongs to the open file, which all threads here share."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mutex = threading.Lock()

    def __enter__(self) -> None:
        self._mutex.acquire()
        platform.lock(self._fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        platform.unlock(self._fd)
        self._mutex.release()


class SharedLimiter:
    """The record at `path`, shared with every process that opens it; safe for threads.

    Args:
        path: the record; created (0600) when it is not there.
        lowest_plan_per_s: where the search for the limit begins when nothing is declared.
        declared_per_s: the rate of the user's plan. Exceeded only when the provider's headers allow more.
        cap_per_s: never exceeded.
        clock: monotonic seconds, the same for all processes.

    A record that declares otherwise begins anew, with the limit that was met within the last minute: another run may
    be going on. A damaged one begins at half the plan. Raises StagingestError when
    the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        lowest_plan_per_s: float,
        declared_per_s: float | None = None,
        cap_per_s: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._plan = (declared_per_s, lowest_plan_per_s, cap_per_s)
        self._clock = clock
        with explained(path):
            self._fd = opened(path)
            self._held = _Held(self._fd)
            with self._held:
                if os.fstat(self._fd).st_size < _BYTES:
                    os.pwrite(self._fd, _packed(self._fresh()), 0)  # written, not truncated to: the disk may be full
                self._map = mmap.mmap(self._fd, _BYTES)
                self._declare()

    def _fresh(self) -> RateState:
        return RateState.start(*self._plan, self._clock())

    def _declare(self) -> None:
        now_s = self._clock()
        fresh, known = self._fresh(), self._read()
        if not known.sane(now_s):
            known = self._mended()
        same = (fresh.declared_per_s, fresh.cap_per_s) == (known.declared_per_s, known.cap_per_s)
        self._write(known if same else _declared_anew(known, fresh, now_s))

    def _read(self) -> RateState:
        raw = self._map[:]
        if _SUM.unpack_from(raw, _BODY.size)[0] != zlib.crc32(raw[: _BODY.size]):
            return self._mended()
        tag, *fields = _BODY.unpack_from(raw)
        return RateState._make(fields) if tag == _tag() else self._fresh()

    def _mended(self) -> RateState:
        """Half the plan, in an epoch of its own: nothing the damaged record says can be trusted."""
        fresh = self._fresh()
        return fresh._replace(rate_per_s=fresh.rate_per_s / 2, epoch=time.monotonic_ns())

    def _write(self, rate_state: RateState) -> None:
        self._map[:] = _packed(rate_state)

    def permit(self, k: int = 1) -> Permit:
        """Permits for `k` requests; sleep until `slot_s`, then use it unless it is `stale`."""
        with self._held:
            now_s = self._clock()
            slot_s, rate_state = grant(self._read(), now_s, k)
            self._write(rate_state)
        return Permit(slot_s, rate_state.granted_per_s, rate_state.epoch)

    def stale(self, permit: Permit) -> bool:
        """Whether a pause, a cut or a jump has happened since, so that the permit is void: ask for another."""
        epoch: int = _EPOCH.unpack_from(self._map, 8)[0]
        return epoch != permit.epoch

    def report(self, seen: Feedback) -> None:
        """Tell the record how an exchange ended."""
        with self._held:
            now_s = self._clock()
            self._write(after(self._read(), seen, now_s))

    def state(self) -> RateState:
        """What the record holds."""
        with self._held:
            return self._read()

    def counts(self) -> LimiterCounts:
        """What the record has counted."""
        rate_state = self.state()
        return LimiterCounts(rate_state.answered, rate_state.refused, rate_state.granted_per_s)

    def close(self) -> None:
        """Let the file go; the limiter cannot be used afterwards."""
        self._map.close()
        os.close(self._fd)


def _declared_anew(known: RateState, fresh: RateState, now_s: float) -> RateState:
    """The state when another plan is declared: what the provider said or refused a minute ago still holds."""
    rate_state = fresh._replace(epoch=known.epoch + 1, answered=known.answered, refused=known.refused)
    rate_state = rate_state._replace(answered_at_cut=known.answered, answered_before=known.answered)
    rate_state = rate_state._replace(
        pause_until_s=known.pause_until_s, tat_s=max(fresh.tat_s, known.tat_s, known.pause_until_s)
    )
    if now_s - known.reviewed_s > WINDOW_S:
        return rate_state
    if known.told_per_s:
        return at_rate(rate_state._replace(told_per_s=known.told_per_s, searching=False), known.told_per_s)
    if known.refused and now_s - known.last_cut_s <= WINDOW_S:
        rate = min(fresh.rate_per_s, known.rate_per_s)
        return at_rate(rate_state._replace(ceiling_per_s=known.ceiling_per_s, searching=False), rate)
    return rate_state


def _packed(rate_state: RateState) -> bytes:
    body = _BODY.pack(_tag(), *rate_state)
    return body + _SUM.pack(zlib.crc32(body))


@dataclass(frozen=True, slots=True)
class LimiterSpec:
    """What a process needs to open a limiter; the fields are SharedLimiter's."""

    path: Path
    lowest_plan_per_s: float
    declared_per_s: float | None = None
    cap_per_s: float | None = None

    def open(self, clock: Clock = time.monotonic) -> SharedLimiter:
        """The limiter in this process. Raises StagingestError when its file cannot be used."""
        return SharedLimiter(self.path, self.lowest_plan_per_s, self.declared_per_s, self.cap_per_s, clock)


class RateLimiter:
    """The permits of one process: a request needs one of every limiter.

    Of all threads here one at a time waits for a slot, so that a process which is killed takes at most one
    permit along, and a slot given late pushes nobody back.

    Args:
        gates: the shared record of the budget, to which answers are reported, then the run's own caps
            (`--max-rps`), which are asked first, so that no shared slot waits for them.
        clock: of the gates.
        sleep: called with at most 0.05 s.
    """

    def __init__(
        self,
        rate_limits: Sequence[SharedLimiter],
        *,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._budget, *self._caps = rate_limits
        self._clock, self._sleep = clock, sleep
        self._turn = threading.Lock()

    def take(self, stop: threading.Event | None = None) -> Permit | None:
        """Wait for a permit and return it, ready to be used; None as soon as `stop` is set."""
        with self._turn:
            for cap in self._caps:
                if self._waited(cap, stop) is None:
                    return None
            return self._waited(self._budget, stop)

    def _waited(self, limiter: SharedLimiter, stop: threading.Event | None) -> Permit | None:
        permit = limiter.permit()
        while True:
            if stop is not None and stop.is_set():
                return None
            left_s = permit.slot_s - self._clock()
            if left_s <= 0:
                return permit
            self._sleep(min(left_s, _SLICE_S))
            if limiter.stale(permit):
                permit = limiter.permit()

    def report(self, seen: Feedback) -> None:
        """Tell the budget how an exchange ended."""
        self._budget.report(seen)

    def close(self) -> None:
        """Close the gates."""
        for limiter in (self._budget, *self._caps):
            limiter.close()


_LEFT = struct.Struct("<q")


class RequestQuota:
    """The file at `path`, opened in this process; safe for threads.

    The lock on it goes when its holder dies: a killed process takes at most the request along that it was about to
    make.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._mutex = threading.Lock()

    @classmethod
    def grant(cls, path: Path, requests: int) -> None:
        """Make the file, with so many requests to spend."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, _LEFT.pack(requests))
        finally:
            os.close(fd)

    def take(self) -> bool:
        """Spend one request; False when none is left."""
        with self._mutex:
            platform.lock(self._fd)
            try:
                (left,) = _LEFT.unpack(os.pread(self._fd, _LEFT.size, 0))
                if left > 0:
                    os.pwrite(self._fd, _LEFT.pack(left - 1), 0)
                return bool(left > 0)
            finally:
                platform.unlock(self._fd)

    def close(self) -> None:
        """Let the file go."""
        os.close(self._fd)


_SALT_BYTES = 32


def record_path(state_dir: Path, provider: str, origin: str, credential: str, budget: str) -> Path:
    """The record of a budget: `<state dir>/limits/<digest>.permit`.

    The digest is keyed with a random salt of this machine, so that the credential cannot be recovered from it.
    Creates the directory (0700) and the salt (0600). Raises StagingestError when that is not possible.
    """
    folder = state_dir / "limits"
    with explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        salt = _salt(folder / "salt")
    text = "\0".join((provider, origin, credential, budget))
    return folder / f"{hmac.new(salt, text.encode(), hashlib.sha256).hexdigest()[:32]}.permit"


def _salt(path: Path) -> bytes:
    fd = opened(path)
    try:
        platform.lock(fd)  # the first to come writes it; one cut short by a kill is written anew
        salt = os.pread(fd, _SALT_BYTES, 0)
        if len(salt) < _SALT_BYTES:
            salt = os.urandom(_SALT_BYTES)
            os.pwrite(fd, salt, 0)
        return salt
    finally:
        os.close(fd)


def opened(path: Path) -> int:
    """A descriptor of the file, made (0600) if absent."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an OSError into one sentence about `path`."""
    try:
        yield
    except OSError as error:
        raise StagingestError(
            f"The rate record {path} cannot be used: {error.strerror}.",
            "Make its directory writable, or point XDG_STATE_HOME to one that is.",
        ) from error

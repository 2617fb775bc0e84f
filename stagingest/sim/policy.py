"""How the imitation behaves beside its prices: keys, limits, shapes of nothing, and faults."""

import math
from dataclasses import dataclass

from stagingest.errors import UsageError

EMPTY_SHAPES = ("{}", "null", "[]", "missing")
LAST_TOKENS = ("null", "missing", '""')
EMPTY_PAGES = ("none", "between", "last")
RATE_MODES = ("bucket", "window")
FAULT_KINDS = (
    "status",  # an answer of its own
    "truncated",  # half the body, then the end
    "cut-chunked",  # the same without a Content-Length
    "cut-gzip",  # half a gzip stream with a fitting Content-Length
    "reset",  # RST instead of an answer
    "close",  # the end instead of an answer
    "hang",  # no answer until Server.release()
    "drip",  # the answer in small pieces
    "wrong-json",  # half the body with a fitting Content-Length
    "repeated-token",  # the page names itself as the next one
    "cut-short",  # a page with more behind it says it is the last
    "duplicate-page",  # the first page's rows again, under the next token
    "duplicate-rows",  # the first row of each symbol twice
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and with which requests.

    A rule counts the requests that match its route and text; it fires on the counts in `nth`, on every `every`-th,
    or with a `chance` drawn from `seed`; with none of the three on all of them.

    Args:
        kind: one of `FAULT_KINDS`.
        route: only requests whose path begins with this.
        contains: only requests whose path and decoded query hold this text.
        times: fires at most so often (0: no limit).
        status, headers, body: the answer of kind `status`.
        piece_bytes, gap_s: kind `drip` sends so many bytes, then pauses.

    Raises:
        UsageError: an unknown kind.
    """

    kind: str
    route: str = ""
    contains: str = ""
    nth: tuple[int, ...] = ()
    every: int = 0
    chance: float = 0.0
    seed: int = 0
    times: int = 0
    status: int = 500
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    piece_bytes: int = 64
    gap_s: float = 0.01

    def __post_init__(self) -> None:
        _one_of("kind of fault", self.kind, FAULT_KINDS)


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything about the imitation that is not a price.

    Args:
        keys: pairs of key id and secret that are accepted (a secret alone as bearer token); None: any pair.
        forbidden_status: answer to missing or wrong keys, 401 or 403.
        recent_sip: whether the account may see SIP bars of the last 15 minutes.
        opra: whether the account may see option bars, the feed `opra` of chains, and Massive's chains and option
            bars.
        rate_per_min: requests a minute per key on the data host; None: unlimited, and no rate headers.
        trading_rate_per_min: the same for the trading host (contracts); None: as `rate_per_min`.
        rate_mode: `bucket` (tokens flow back steadily) or `window` (all come back at the minute).
        burst: tokens the bucket holds; 0: a tenth of the rate.
        rate_headers: whether the X-RateLimit headers are sent.
        retry_after: whether a 429 carries Retry-After (whole seconds).
        latency_s: pause before each answer.
        gzip: whether bodies are compressed for clients that accept it.
        keep_alive: whether a connection serves more than one request.
        page_cap: most rows in a page whatever its limit; 0: none.
        empty_shape: what stands for no rows: `{}`, `null`, `[]`, or `missing` for no key at all.
        last_token: what stands for no further page: `null`, `missing`, or `""`.
        empty_pages: pages without rows `between` others (bars only), or one after the `last`; or `none`.
        massive_delayed: whether Massive answers `DELAYED`, as a plan without real-time rights sees it.
        massive_repeats: whether Massive's pages say their first row three times.
        most_target_bytes: longest path and query; beyond it 414.
        faults: rules in order; the first that fires decides.
        cache_bytes: memory for prepared bodies.
        log_size: requests remembered.

    Raises:
        UsageError: an unknown choice.
    """

    keys: tuple[tuple[str, str], ...] | None = None
    forbidden_status: int = 401
    recent_sip: bool = True
    opra: bool = True
    rate_per_min: int | None = None
    trading_rate_per_min: int | None = None
    rate_mode: str = "bucket"
    burst: int = 0
    rate_headers: bool = True
    retry_after: bool = False
    latency_s: float = 0.0
    gzip: bool = True
    keep_alive: bool = True
    page_cap: int = 0
    empty_shape: str = "{}"
    last_token: str = "null"  # noqa: S105
    empty_pages: str = "none"
    massive_delayed: bool = False
    massive_repeats: bool = False
    most_target_bytes: int = 8192
    faults: tuple[Fault, ...] = ()
    cache_bytes: int = 256 << 20
    log_size: int = 100_000

    def __post_init__(self) -> None:
        _one_of("empty shape", self.empty_shape, EMPTY_SHAPES)
        _one_of("last token", self.last_token, LAST_TOKENS)
        _one_of("kind of empty pages", self.empty_pages, EMPTY_PAGES)
        _one_of("rate mode", self.rate_mode, RATE_MODES)

    def rate(self, host: str) -> int | None:
        """Requests a minute on `data` or `trading`, None for unlimited."""
        if host == "trading" and self.trading_rate_per_min is not None:
            return self.trading_rate_per_min
        return self.rate_per_min


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"There is no {what} {value!r}.", f"Known: {', '.join(known)}.")


@dataclass(slots=True)
class _Budget:
    left: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass, and the rate headers of its answer."""

    allowed: bool
    headers: tuple[tuple[str, str], ...] = ()


class Limits:
    """The budgets of every (key, host)."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._budgets: dict[tuple[str, str], _Budget] = {}

    def take(self, key: str, host: str, tick_s: float, now_s: float) -> Verdict:
        """One request of `key` on `host` (`data` or `trading`).

        Budgets flow by `tick_s`, a clock that never stands still; headers tell the time in `now_s`, seconds since
        1970, which a caller may have frozen.
        """
        rate = self._policy.rate(host)
        if rate is None:
            return Verdict(allowed=True)
        window = self._policy.rate_mode == "window"
        size = rate if window else self._policy.burst or max(1, rate // 10)
        budget = self._budgets.setdefault((key, host), _Budget(size, tick_s // 60 * 60 if window else tick_s))
        (_turn if window else _flow)(budget, size, rate, tick_s)
        allowed = budget.left >= 1
        budget.left -= allowed
        wait_s = 60 - tick_s % 60 if window else max(0.0, math.floor(budget.left + 1) - budget.left) * 60 / rate
        return Verdict(allowed, self._headers(rate, budget.left, now_s, wait_s, allowed=allowed))

    def _headers(
        self, rate: int, left: float, now_s: float, wait_s: float, *, allowed: bool
    ) -> tuple[tuple[str, str], ...]:
        found: tuple[tuple[str, str], ...] = ()
        if self._policy.rate_headers:
            reset = math.ceil(now_s + wait_s)
            found = (
                ("X-RateLimit-Limit", str(rate)),
                ("X-RateLimit-Remaining", str(int(left))),
                ("X-RateLimit-Reset", str(reset)),
            )
        if self._policy.retry_after and not allowed:
            found += (("Retry-After", str(math.ceil(wait_s))),)
        return found


def _turn(budget: _Budget, size: int, rate: int, tick_s: float) -> None:
    if tick_s >= budget.at_s + 60:
        budget.left, budget.at_s = size, tick_s // 60 * 60


def _flow(budget: _Budget, size: int, rate: int, tick_s: float) -> None:
    budget.left = min(size, budget.left + max(0.0, tick_s - budget.at_s) * rate / 60)
    budget.at_s = tick_s


def rows_member(policy: Policy, name: bytes, rows: bytes, *, lists: bool) -> bytes:
    """The member that holds the rows, in the shape the policy wants for none."""
    empty = "[]" if lists and policy.empty_shape == "{}" else policy.empty_shape
    if rows:
        return b'"%s":%s' % (name, b"[%s]" % rows if lists else b"{%s}" % rows)
    return b"" if empty == "missing" else b'"%s":%s' % (name, empty.encode())


def next_member(policy: Policy, token: str | None) -> bytes:
    """The member that names the next page, in the shape the policy wants for none."""
    if token is not None:
        return b'"next_page_token":"%s"' % token.encode()
    missing = policy.last_token == "missing"  # noqa: S105
    return b"" if missing else b'"next_page_token":%s' % policy.last_token.encode()

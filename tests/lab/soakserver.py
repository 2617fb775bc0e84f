"""The imitation in a process of its own: it outlives whatever is done to its clients, and counts what they ask."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stagingest.sim import policy as sim_policy
from stagingest.sim import server as sim_server
from stagingest.sim.market import generated

NOW = "2024-06-03T22:00:00+00:00"
# What is wrong with answers, and how often; with all of it about one in nine is bad.
SPOILED = (
    ("status", 0.020, {"status": 500}),
    ("status", 0.010, {"status": 502}),
    ("status", 0.020, {"status": 503}),
    ("status", 0.005, {"status": 429, "body": b'{"message":"too many requests."}'}),
    ("truncated", 0.030, {}),
    ("cut-chunked", 0.005, {}),
    ("cut-gzip", 0.010, {}),
    ("reset", 0.020, {}),
    ("close", 0.010, {}),
    ("wrong-json", 0.010, {}),
)


class Asked(NamedTuple):
    """A request as the server saw it: which page, when (its monotonic seconds), the answer's status, what spoiled it.

    The status is 0 when a fault kept the answer from being sent whole.
    """

    page: str
    at_s: float
    status: int
    fault: str

    @property
    def refused(self) -> bool:
        """Whether the vendor's limit refused it."""
        return self.status == 429 and not self.fault

    @property
    def good(self) -> bool:
        """Whether it was answered as it should be."""
        return self.status == 200 and not self.fault


class Alike(generated.Generated):
    """Many symbols at the cost of few: 97 walks, and neighbours never share one."""

    def __init__(self, symbols: int, seed: int) -> None:
        super().__init__(generated.names(symbols), seed=seed)
        self._place = {symbol: place % 97 for place, symbol in enumerate(self.symbols)}
        self._made: dict[tuple[int, object], list[Any]] = {}

    def stock_bars(self, symbol: str, spec: Any, *args: Any, **how: Any) -> Iterator[Any]:
        place = self._place[symbol]
        if (place, spec) not in self._made:
            self._made[place, spec] = list(super().stock_bars(self.symbols[place], spec, *args, **how))
        return iter(self._made[place, spec])


def policy(terms: dict[str, Any]) -> sim_policy.Policy:
    rules = enumerate(SPOILED if terms["spoiled"] else ())
    return sim_policy.Policy(
        rate_per_min=terms["rate_per_min"],
        rate_mode=terms["rate_mode"],
        burst=terms["burst"],
        page_cap=terms["page_cap"],
        latency_s=terms["latency_s"],
        log_size=1_000_000,
        faults=tuple(
            sim_policy.Fault(kind, chance=chance, seed=100 * terms["seed"] + rule, **how)
            for rule, (kind, chance, how) in rules
        ),
    )


class Imitation:
    """The parent's end of the process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.url = self._line()

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def asked(self) -> list[Asked]:
        """Every request so far."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [Asked(*entry) for entry in json.loads(self._line())]


@contextmanager
def imitation(**terms: Any) -> Iterator[Imitation]:
    """Keys: seed, symbols, spoiled, rate_per_min (None: no limit), rate_mode, burst, page_cap, latency_s."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), json.dumps(terms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield Imitation(process)
        finally:
            process.kill()


def main() -> None:
    from datetime import datetime

    terms = json.loads(sys.argv[1])
    market = Alike(terms["symbols"], terms["seed"])
    now = datetime.fromisoformat(NOW)
    with sim_server.Server(market, policy(terms), clock=lambda: now) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            log = [(_page(e.path, e.query), e.at_s, e.status, e.fault) for e in server.log]
            print(json.dumps(log), flush=True)


def _page(path: str, query: tuple[tuple[str, str], ...]) -> str:
    return hashlib.sha256(repr((path, query)).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()

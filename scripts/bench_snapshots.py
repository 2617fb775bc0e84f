"""Prints what staging a chain of 8,300 contracts costs beside fetching its 34 pages without reading them, in one run.

    python scripts/bench_snapshots.py [ROUNDS]

Medians of ROUNDS (9), alternating, against an imitation of Massive in a process of its own. `staged` is the whole of
`stagingest.fetch` into a new directory: plan, manifest, pages, file, syncs. The last lines are CPU microseconds a row:
`orjson.loads` of the pages, reading them, and everything between the last byte and the finished file.
"""

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa

import stagingest
from stagingest.fetching.worker import table
from stagingest.http.client import Client
from stagingest.model.chunk import Chunk
from stagingest.model.datasets import dataset
from stagingest.model.page import Request
from stagingest.model.secrets import Secret
from stagingest.model.windows import Window
from stagingest.providers.massive.endpoints import MassiveOptionSnapshots
from stagingest.sim import policy
from stagingest.sim import server as sim_server
from stagingest.sim.market import generated
from stagingest.sim.market.calendar import Moment
from stagingest.sim.market.contracts import ListedContract
from stagingest.sim.market.snapshots import Snapshot, snapshot
from stagingest.system import parquet

NOW = datetime(2026, 6, 1, 18, 0, tzinfo=UTC)
ROWS = 8_300
CHAIN = MassiveOptionSnapshots()
CHUNK = Chunk(CHAIN.canonical({}), ("SPY",), Window(date(2026, 6, 1), date(2026, 6, 2)))
_NEXT = re.compile(rb'"next_url":"[^"]*[?]cursor=([^"&]+)"')


class Large(generated.Generated):
    """A market with one chain as large as that of the largest fund."""

    def __init__(self) -> None:
        super().__init__(["SPY"])
        self._made: dict[Moment, list[Snapshot]] = {}

    def snapshots(self, underlying: str, moment: Moment) -> list[Snapshot]:
        """50 expiries of 83 strikes, calls and puts, sorted by symbol; most have traded today."""
        if moment not in self._made:
            self._made[moment] = [
                snapshot(one, 620.0, day if number % 3 else None, moment, 0)
                for number, one in enumerate(self._listed())
            ]
        return self._made[moment]

    def _listed(self) -> list[ListedContract]:
        found = []
        for week in range(50):
            expiry = date(2026, 6, 5) + timedelta(days=7 * week)
            for kind in ("call", "put"):
                for step in range(83):
                    strike = Decimal(415 + 5 * step)
                    symbol = f"SPY{expiry:%y%m%d}{kind[0].upper()}{int(strike * 1000):08d}"
                    found.append(ListedContract(symbol, "SPY", "SPY", expiry, kind, strike, open_interest=step * 37))
        return sorted(found, key=lambda one: one.symbol)


day = {"o": 4.1, "h": 4.53, "l": 3.97, "c": 4.15, "v": 1234, "n": 56, "vw": 4.1234, "t": 1780286400}


def serve(latency_ms: str) -> None:
    """Answer until stdin ends."""
    with sim_server.Server(Large(), policy.Policy(latency_s=float(latency_ms) / 1000), clock=lambda: NOW) as server:
        print(server.url, flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def serving(latency_ms: float) -> Iterator[str]:
    """The address of an imitation in another process."""
    command = [sys.executable, __file__, "serve", str(latency_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("")


def pages(url: str) -> list[bytes]:
    """The bodies of the chain, asked one after the other over one connection; no JSON is read."""
    client, found = Client(1), []
    request: Request | None = CHAIN.first(CHUNK)
    while request:
        reply = client.send(url, request, {"Authorization": Secret("Bearer any")})
        body: bytes = reply.body  # type: ignore[union-attr]  # there are no faults on this side of loopback
        found.append(body)
        cursor = _NEXT.search(body[-1000:]) or _NEXT.search(body)
        request = Request(CHAIN.budget, request.path, (("cursor", cursor[1].decode()),)) if cursor else None
    client.close()
    return found


def staged(url: str) -> None:
    """The same chain as a user has it."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {"MASSIVE_API_BASE_URL": url, "MASSIVE_API_KEY": "any", "XDG_STATE_HOME": folder, "HOME": folder}
        fetched = stagingest.fetch(
            "massive/option-snapshots", underlyings=["SPY"], staging=Path(folder) / "staging", max_rps=5_000,
            processes=0, environ={**os.environ, **environ}, clock=lambda: NOW,
        )  # fmt: skip
        assert fetched.summary.rows == ROWS, fetched.summary


def medians(routes: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of each route by this clock, one after the other in each round."""
    spent: dict[str, list[float]] = {name: [] for name in routes}
    for _ in range(rounds):
        for name, route in routes.items():
            began = clock()
            route()
            spent[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in spent.items()}


def whole(bodies: list[bytes]) -> int:
    """From the bodies to the file; its bytes."""
    request, kind = CHAIN.first(CHUNK), dataset("option-snapshots")
    tables = [page.table for body in bodies if (page := CHAIN.read(CHUNK, request, body)).table is not None]
    constants = {**CHAIN.constants(CHUNK.series), "underlying": "SPY", "snapshot_ts": NOW, "updated_at": NOW}
    rows = table.staged(table.joined(tables, ("contract_symbol",)), kind, constants, None)
    return parquet.parquet(rows, {}).size


def main(rounds: int) -> None:
    """Measure and print."""
    bodies: list[bytes] = []
    print(f"{'ms':>22}{'unread':>9}{'staged':>9}{'x':>7}")
    for latency_ms in (0, 20, 50):
        with serving(latency_ms) as url:
            bodies = pages(url)  # the imitation has made its pages now
            staged(url)
            ms = medians({"unread": lambda url=url: pages(url), "staged": lambda url=url: staged(url)}, rounds, time.perf_counter)  # fmt: skip # noqa: E501
        ratio = ms["staged"] / ms["unread"]
        print(f"{f'{len(bodies)} pages, latency {latency_ms} ms':>22}{ms['unread'] * 1e3:9.0f}{ms['staged'] * 1e3:9.0f}{ratio:7.2f}")  # fmt: skip # noqa: E501
    pa.set_cpu_count(1)
    request = CHAIN.first(CHUNK)
    routes: dict[str, Callable[[], object]] = {
        "orjson": lambda: sum(len(orjson.loads(body)) for body in bodies),  # nothing is kept: memory costs too
        "read": lambda: sum(CHAIN.read(CHUNK, request, body).rows for body in bodies),
        "to the file": lambda: whole(bodies),
    }
    us = {name: seconds * 1e6 / ROWS for name, seconds in medians(routes, 3 * rounds, time.thread_time).items()}
    print(f"\nCPU us a row, of {sum(map(len, bodies)) / ROWS:,.0f} bytes")
    for name, each in us.items():
        print(f"{name:>22}{each:9.2f}{each / us['orjson']:7.2f}")
    print(f"staged: {whole(bodies) / ROWS:.0f} bytes a row")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)

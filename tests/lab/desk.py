"""A staging directory, an imitation and a clock to work with in tests of the whole."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import stagingest
from stagingest.api.fetch import Fetched
from stagingest.model.task import Entry
from stagingest.sim import policy as sim_policy
from stagingest.sim import server as sim_server
from stagingest.sim.market import market as market_market
from stagingest.staging.manifest import Manifest

MONDAY = datetime(2024, 6, 3, 22, 0, tzinfo=UTC)
"""18:00 in New York: the session is over, its extended hours are not."""


@dataclass
class Desk:
    """One user's place: `now` moves the provider's clock, and the user's too unless `user_now` is set."""

    root: Path
    market: market_market.Market
    server: sim_server.Server
    now: datetime
    user_now: datetime | None = None
    said: list[str] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "APCA_API_DATA_URL": self.server.url,
            "APCA_API_BASE_URL": self.server.url,
            "MASSIVE_API_BASE_URL": self.server.url,
            "MASSIVE_API_KEY": "massive-key-of-the-test",
            "APCA_API_KEY_ID": "key-id-of-the-test",
            "APCA_API_SECRET_KEY": "secret-of-the-test",
            "HOME": os.environ["HOME"],
            "XDG_STATE_HOME": str(self.root / "state"),
            "PATH": os.environ["PATH"],
        }

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def db(self) -> Path:
        return self.root / "market.duckdb"

    def fetch(self, dataset: str = "stock-bars", **asked: Any) -> Fetched:
        settings = {"processes": 0, "max_rps": 5000, "staging": self.staging, **asked}
        return stagingest.fetch(
            dataset, environ=self.environ, listener=self, clock=lambda: self.user_now or self.now, **settings
        )

    def plan(self, dataset: str = "stock-bars", **asked: Any) -> Any:
        return stagingest.plan(dataset, **{"staging": self.staging, "clock": lambda: self.now, **asked})

    def load(self, db: Path | None = None) -> Any:
        return stagingest.load(self.staging, db or self.db)

    def requests(self) -> int:
        """Requests answered since the last call."""
        number = len(self.server.log)
        self.server.reset()
        return number

    def entries(self) -> list[Entry]:
        with Manifest.read(self.staging) as manifest:
            return list(manifest.entries())

    def paths(self, endpoint: str = "") -> list[Path]:
        """Staged files, of one endpoint or of all, in the order of their entries."""
        entries = [entry for entry in self.entries() if entry.path]
        return [self.staging / entry.path for entry in entries if entry.chunk.series.endpoint.startswith(endpoint)]

    def rows(self) -> pa.Table:
        """Every staged row, files in the order of their entries."""
        return pa.concat_tables([pq.read_table(path) for path in self.paths()])

    def progress(self, progress: object) -> None:
        """Listener."""

    def say(self, text: str) -> None:
        """Listener."""
        self.said.append(text)


@contextmanager
def desk(
    root: Path,
    symbols: int | Sequence[str] = 12,
    policy: sim_policy.Policy | None = None,
    now: datetime = MONDAY,
    **market: Any,
) -> Iterator[Desk]:
    """A desk whose imitation stands still at `now` until the test moves it."""
    prices = market_market.market_from(symbols, **market)
    clock: list[Desk] = []
    with sim_server.Server(prices, policy, clock=lambda: clock[0].now if clock else now) as server:
        clock.append(Desk(root, prices, server, now))
        yield clock[0]

"""Staging directories and targets as commit 6265567 made them, for tests/test_older_versions.py.

    git worktree add ../then 6265567 && cd ../then
    PYTHONPATH=.:tests python .../tests/old/make.py [NAME...]

makes the archives beside this file anew. What is here stays: archives of a later commit would say nothing of the files
that the first users have. Each NAME.tar.xz unpacks into one user's place:

    alpaca    staging/ with stock bars (1Day, 15Min, split-adjusted 1Day), contracts, option bars, a chain and a
              universe, all of it loaded into market.duckdb, into tree/ and into a server (postgres.sql, by pg_dump);
              then bars of DDDD, which are staged and not loaded
    massive   stock bars and contracts in staging/, not loaded
    killed    a fetch of Massive's bars that SIGKILL ended: three symbols staged before it, one answered and four under
              way, with their parts in tmp/ and their chunks open
    pruned    bars loaded into market.duckdb, then pruned
    refused   one symbol refused, one chunk failed
    struck    a chunk that was under way in three processes when SIGKILL ended them, and was set aside for it
    early     bars of a session that was not over, loaded into market.duckdb

Everything is asked of the imitation, which stands still at `THEN`. A series is known by what was asked, not by the
address that answered, which is written nowhere. Two things of the machine are in a staging directory: loads.sqlite
knows targets by their absolute path, and the locks name the host. They are made to say /srv/market and `host`, as if
the place had been moved from there; a moved directory is loaded by the id in its manifest, so nothing else changes.
"""

import io
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import stagingest
from stagingest import sim

HERE = Path(__file__).parent
THEN = datetime(2024, 6, 3, 22, 0, tzinfo=UTC)
MIDDAY = THEN - timedelta(hours=5)  # 13:00 in New York
SYMBOLS = ["AAAA", "BBBB", "CCCC", "DDDD", "EEEE", "FFFF", "GGGG", "HHHH"]
BAD = "BADD"
MOVED_FROM = Path("/srv/market")

SPRING: dict[str, Any] = {"start": "2024-04-01", "end": "2024-05-31"}
WEEK: dict[str, Any] = {"start": "2024-05-28", "end": "2024-05-31"}
SUMMER: dict[str, Any] = {"expiry_gte": "2024-06-01", "expiry_lte": "2024-12-31"}

DAILY: dict[str, Any] = {"symbols": SYMBOLS[:3], **SPRING}
ALPACA: list[tuple[str, dict[str, Any]]] = [
    ("stock-bars", DAILY),
    ("stock-bars", {"symbols": SYMBOLS[:2], "timeframe": "15Min", **WEEK}),
    ("stock-bars", {"symbols": SYMBOLS[:2], "adjustment": "split", **SPRING}),
    ("option-contracts", {"underlyings": ["AAAA"], **SUMMER}),
    ("option-bars", {"underlyings": ["AAAA"], **WEEK}),
]
CHAIN: dict[str, Any] = {"underlyings": ["AAAA"], "option_type": "call", "expiry_lte": "2024-06-30"}
UNLOADED: dict[str, Any] = {"symbols": ["DDDD"], **SPRING}
MASSIVE: list[tuple[str, dict[str, Any]]] = [
    ("massive/stock-bars", {"symbols": SYMBOLS[:2], **SPRING}),
    ("massive/option-contracts", {"underlyings": ["AAAA"], **SUMMER}),
]
BEFORE: dict[str, Any] = {"symbols": SYMBOLS[:3], **SPRING}
KILLED: dict[str, Any] = {"symbols": SYMBOLS, **SPRING}
PRUNED: dict[str, Any] = {"symbols": SYMBOLS[:4], **SPRING}
REFUSED: dict[str, Any] = {"symbols": [*SYMBOLS[:2], BAD], **SPRING}
FAILED: dict[str, Any] = {"symbols": SYMBOLS[:2], "timeframe": "15Min", **WEEK}
STRUCK: dict[str, Any] = {"symbols": SYMBOLS[:1], **SPRING}
EARLY: dict[str, Any] = {"symbols": SYMBOLS[:2], "start": "2024-04-01", "end": "2024-06-03"}
BROKEN = (
    sim.Fault("status", contains=BAD, status=400, body=b'{"message":"invalid symbol: BADD"}'),
    sim.Fault("status", contains="timeframe=15Min", status=500),
)
MEMBERS = "symbol,added,removed\nAAAA,2015-01-05,\nBBBB,2016-03-01,2024-05-10\nCCCC,2024-05-10,\n"


@dataclass
class Place:
    """One user's folder, beside an imitation that stands still at `now`."""

    root: Path
    url: str
    now: datetime = THEN
    said: list[str] = field(default_factory=list)

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def db(self) -> Path:
        return self.root / "market.duckdb"

    @property
    def tree(self) -> str:
        return f"parquet:{self.root / 'tree'}"

    @property
    def environ(self) -> dict[str, str]:
        urls = dict.fromkeys(("APCA_API_DATA_URL", "APCA_API_BASE_URL", "MASSIVE_API_BASE_URL"), self.url)
        keys = dict.fromkeys(("APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "MASSIVE_API_KEY"), "any")
        # Limits are kept beside the folder that is archived.
        state = {"XDG_STATE_HOME": str(self.root.parent / f"{self.root.name}-state")}
        return {**os.environ, **urls, **keys, **state}

    def fetch(self, dataset: str, **asked: Any) -> Any:
        settings = {"processes": 0, "max_rps": 5000, "staging": self.staging, **asked}
        return stagingest.fetch(dataset, environ=self.environ, listener=self, clock=lambda: self.now, **settings)

    def progress(self, progress: object) -> None:
        """Listener."""

    def say(self, text: str) -> None:
        """Listener."""
        self.said.append(text)


@contextmanager
def imitation(root: Path, *faults: sim.Fault) -> Iterator[tuple[Place, sim.Server]]:
    """A place, and the imitation that answers it the same in every version."""
    places: list[Place] = []
    policy = sim.Policy(faults=faults)
    with sim.Server(sim.market_from(SYMBOLS), policy, clock=lambda: places[0].now if places else THEN) as server:
        places.append(Place(root, server.url))
        yield places[0], server


def _alpaca(root: Path) -> None:
    (root.parent / "members.csv").write_text(MEMBERS)
    with imitation(root) as (place, _):
        for dataset, asked in ALPACA:
            place.fetch(dataset, **asked)
        place.fetch("option-snapshots", **CHAIN)
        stagingest.import_universe("mine", root.parent / "members.csv", staging=place.staging, clock=lambda: THEN)
        for target in (place.db, place.tree, _database()):
            print("alpaca", stagingest.load(place.staging, target))
        place.fetch("stock-bars", **UNLOADED)
    (root / "postgres.sql").write_text(_dumped())


def _massive(root: Path) -> None:
    with imitation(root) as (place, _):
        for dataset, asked in MASSIVE:
            place.fetch(dataset, **asked)


def _kill_in(place: Place, server: sim.Server, request: int, question: str) -> None:
    """Have a process ask Massive's bars, and end it when the request of that number waits for its answer."""
    server.behave(sim.Policy(faults=(sim.Fault("hang", nth=(request,)),)))
    server.hung.clear()  # the imitation itself may be late to forget the request before
    command = [sys.executable, __file__, "--killed", str(place.root), place.url, question]
    with subprocess.Popen(command) as child:
        assert server.hung.wait(60)
        child.send_signal(signal.SIGKILL)
    server.release()


def _killed(root: Path) -> None:
    with imitation(root) as (place, server):
        place.fetch("massive/stock-bars", **BEFORE)
        _kill_in(place, server, 2, "KILLED")
    print("killed, left in tmp/:", [(path.name, path.stat().st_size) for path in (root / "staging/tmp").iterdir()])


def _pruned(root: Path) -> None:
    with imitation(root) as (place, _):
        place.fetch("stock-bars", **PRUNED)
        stagingest.load(place.staging, place.db)
        print("pruned", stagingest.prune(place.staging, loaded_in=place.db))


def _refused(root: Path) -> None:
    with imitation(root, *BROKEN) as (place, _):
        print("refused", place.fetch("stock-bars", **REFUSED).summary.outcomes)
        print("failed", place.fetch("stock-bars", **FAILED).summary.outcomes)


def _struck(root: Path) -> None:
    with imitation(root) as (place, server):
        for _ in range(3):
            _kill_in(place, server, 1, "STRUCK")
        server.behave(sim.Policy())
        outcomes = place.fetch("massive/stock-bars", **STRUCK).summary.outcomes
        assert outcomes == {"quarantined": 1}, outcomes


def _early(root: Path) -> None:
    with imitation(root) as (place, _):
        place.now = MIDDAY
        print("early", place.fetch("stock-bars", **EARLY).summary)
        stagingest.load(place.staging, place.db)


PLACES = {
    "alpaca": _alpaca,
    "massive": _massive,
    "killed": _killed,
    "pruned": _pruned,
    "refused": _refused,
    "struck": _struck,
    "early": _early,
}


def _database() -> str:
    import pglab

    if "old" not in _MADE:
        _MADE["old"] = pglab.database("old")
    return _MADE["old"]


_MADE: dict[str, str] = {}


def _dumped() -> str:
    """What pg_dump says of the database, without what only psql of the same minor version understands."""
    import pglab

    tools = pglab.binaries()
    assert tools is not None
    command = [str(tools / "pg_dump"), "--no-owner", "--no-privileges", _database()]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("\\restrict ") and not
                   line.startswith("\\unrestrict "))  # fmt: skip


def _moved(root: Path) -> None:
    """Have the places that are recorded be elsewhere than on this machine."""
    loads = root / "staging" / "loads.sqlite"
    if loads.exists():
        with closing(sqlite3.connect(loads, isolation_level=None)) as db:
            targets = [target for (target,) in db.execute("SELECT DISTINCT target FROM taken")]
            for target in targets:
                new = target.replace(str(root), str(MOVED_FROM))
                new = "postgresql:///market" if target.startswith("postgresql:") else new
                db.execute("UPDATE taken SET target = ? WHERE target = ?", (new, target))
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for lock in [*root.glob("staging/*.lock"), *root.glob("tree/_stagingest/lock")]:
        lock.write_text(lock.read_text().replace(f" on {socket.gethostname()} ", " on host "))


def _paths_of_this_machine(root: Path, work: Path) -> list[str]:
    from canary import Search

    return sorted(place for place, _ in Search(str(work)).tree(root))


def _archive(root: Path, to: Path) -> None:
    def neutral(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(to, "w:xz", preset=9) as archive:
        for path in sorted(root.rglob("*")):
            archive.add(path, str(path.relative_to(root)), recursive=False, filter=neutral)


def unpacked(name: str, root: Path) -> Path:
    """The folder of that archive, put into a new place."""
    with tarfile.open(fileobj=io.BytesIO((HERE / f"{name}.tar.xz").read_bytes())) as archive:
        archive.extractall(root, filter="data")
    return root


def main(names: list[str]) -> None:
    """Make the archives of these names, or all."""
    with tempfile.TemporaryDirectory(prefix="folder-of-the-maker-") as folder:
        work = Path(folder)
        for name in names or PLACES:
            root = work / name
            root.mkdir()
            PLACES[name](root)
            _moved(root)
            found = _paths_of_this_machine(root, work)
            assert not found, found
            _archive(root, HERE / f"{name}.tar.xz")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--killed"]:
        Place(Path(sys.argv[2]), sys.argv[3]).fetch(
            "massive/stock-bars", **{"KILLED": KILLED, "STRUCK": STRUCK}[sys.argv[4]]
        )
    else:
        main(sys.argv[1:])

#!/usr/bin/env python3
"""What `fetch --processes 2` makes of a limit over sockets, counted by the server; exits 1 where a bar is missed.

The server is the imitation, in this process, which otherwise only waits; the command is a real one. It has more
to ask than it can ask in the time, and Ctrl-C ends it. Limits are of 30 requests a second, so that they and not the
machine are what is met; an answer takes 0.1 s.

Goodput is what was answered 200 over what the limit allowed in the same time, and the time begins with the first
request:
- A window is a minute, opens with the first request, and is counted whole: as many answers are allowed as windows
  were begun. A silent one gets three, so that what is learned in the first must be worth something in the others.
- A bucket allows its rate times the time and the tokens it held at the beginning (a second's worth at most), which
  who keeps to --max-rps does not want. Where nothing says what the limit is, it is searched for first: for 20 s, left
  out of the bar and shown as `search`.
A worker is killed in the middle of the time. Pages that were answered before are answers too; they are shown as
`again`: what a kill costs, a chunk of ten pages for each of its lanes at most.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lab"))

from processes import MARK, ours, wait_until
from soakserver import Alike

from stagingest.sim import policy as sim_policy
from stagingest.sim import server as sim_server
from stagingest.sim.market import market as market_market

COMMAND = [sys.executable, "-m", "stagingest", "fetch", "stock-bars"]
PER_S = 30
SYMBOLS, SESSIONS, PAGE_ROWS = 120_000, 10, 200  # 600 chunks of 200 symbols, ten pages each
SEARCH_S, WINDOW_S = 20.0, 60.0
STARTS_S = 60.0  # the plan of so many symbols, on a busy machine
BASIC_PER_MIN, BASIC_SYMBOLS = 200, 1000
BASIC_MOST, BASIC_LEAST_PER_S = 30, 25.0


@dataclass(frozen=True)
class Scene:
    """A limit, what the user says about it, and what must come of it.

    Args:
        name: what it is.
        mode: of the limit, `bucket` or `window`.
        least, most: of the answers allowed, and share of 429s.
        headers: whether answers name the limit.
        max_rps: the user's own limit, 0 for none.
        windows: fewest windows that are counted.
        search_s: time in which the limit is found, left out.
        kills: whether a worker is killed.
    """

    name: str
    mode: str
    least: float
    most: float
    headers: bool = False
    max_rps: float = 0.0
    windows: int = 0
    search_s: float = 0.0
    kills: bool = False

    def killed(self) -> "Scene":
        """The same with a worker killed in the middle."""
        return replace(self, name=f"{self.name}, a worker killed", kills=True)

    def counted_s(self, seconds: float) -> float:
        """How long it is counted when nothing shorter than `seconds` is wanted."""
        return max(self.windows, -(-seconds // WINDOW_S)) * WINDOW_S if self.windows else seconds

    def policy(self) -> sim_policy.Policy:
        """How the imitation behaves."""
        return sim_policy.Policy(
            rate_per_min=60 * PER_S, rate_mode=self.mode, burst=PER_S, rate_headers=self.headers,
            latency_s=0.1, page_cap=PAGE_ROWS, log_size=1_000_000,
        )  # fmt: skip


BUCKET = Scene("bucket that says nothing", "bucket", 0.98, 0.012, search_s=SEARCH_S)
TOLD = Scene("window, headers", "window", 0.98, 0.012, headers=True, windows=2)
SILENT = Scene("window that says nothing", "window", 0.85, 0.02, windows=3)
# The user allows 98 % of the limit; a hundredth of that may be lost at both ends.
CAPPED = Scene("bucket, --max-rps at 98 %", "bucket", 0.97, 0.0, max_rps=0.98 * PER_S)
WINDOWED = Scene("window, --max-rps at 98 %", "window", 0.97, 0.0, max_rps=0.98 * PER_S, windows=2)
SCENES = (BUCKET, BUCKET.killed(), TOLD, TOLD.killed(), SILENT, SILENT.killed(), CAPPED, CAPPED.killed(), WINDOWED)


class Since:
    """Seconds since it was first read: since the first request."""

    def __init__(self) -> None:
        self.began_s: float | None = None

    def __call__(self) -> float:
        now_s = time.monotonic()
        if self.began_s is None:
            self.began_s = now_s
        return now_s - self.began_s

    def wait(self, until_s: float, process: "subprocess.Popen[bytes]") -> None:
        """Return at that second, or when the process has ended."""
        assert self.began_s is not None
        while process.poll() is None and (left_s := until_s - self()) > 0:
            time.sleep(min(left_s, 0.2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="counted at least  [default: 60]")
    parser.add_argument("--only", default="", help="scenes whose name holds this")
    options = parser.parse_args()
    head = f"{'limit of 30/s, counted by the server':44} {'time':>5} {'goodput':>8} {'bar':>6}   {'429s':>6} {'bar':>6}"
    print(f"{head}   {'search':>7} {'again':>6}")
    missed = [not played(scene, options.seconds) for scene in SCENES if options.only in scene.name]
    if options.only in "basic plan":
        missed.append(not basic_plan())
    return int(any(missed))


def played(scene: Scene, seconds: float) -> bool:
    """Run a scene and print its line; whether it meets its bars."""
    since = Since()
    until_s = scene.search_s + scene.counted_s(seconds)
    with tempfile.TemporaryDirectory() as text, sim_server.Server(MARKET, scene.policy(), ticks=since) as server:
        problem = fetched(scene, Path(text), server.url, since, until_s)
        log = [entry for entry in server.log if entry.at_s < until_s]
    counted = [entry.status for entry in log if entry.at_s >= scene.search_s]
    searched = [entry.status for entry in log if entry.at_s < scene.search_s]
    good = counted.count(200) / allowed(scene, log, until_s)
    bad = counted.count(429) / max(1, len(counted))
    pages = [(entry.path, entry.query) for entry in log if entry.status == 200]
    again = 1 - len(set(pages)) / max(1, len(pages))
    search = f"{searched.count(200) / (PER_S * scene.search_s):7.1%}" if searched else " " * 7
    met = good >= scene.least and bad <= scene.most and not problem
    print(
        f"{scene.name:44} {until_s - scene.search_s:4.0f}s {good:8.1%} {scene.least:6.1%}   {bad:6.2%} "
        f"{scene.most:6.1%}   {search} {again:6.1%}{'' if met else f'  MISSED {problem}'}",
        flush=True,
    )
    return met


def allowed(scene: Scene, log: list[sim_server.Logged], until_s: float) -> float:
    """Requests that the limit allows in the time that is counted."""
    if scene.mode == "window" or scene.max_rps:
        return PER_S * until_s
    tokens, last_s = float(PER_S), 0.0
    for entry in log:
        if entry.at_s >= scene.search_s:
            break
        tokens = min(PER_S, tokens + PER_S * (entry.at_s - last_s)) - (entry.status == 200)
        last_s = entry.at_s
    return min(PER_S, tokens + PER_S * (scene.search_s - last_s)) + PER_S * (until_s - scene.search_s)


def fetched(scene: Scene, root: Path, url: str, since: Since, until_s: float) -> str:
    """Run the command until that second; what went wrong with it."""
    window = ["--start", "2024-05-01", "--end", "2024-05-14", "--processes", "2"]
    rate = ["--max-rps", str(scene.max_rps)] if scene.max_rps else []
    (root / "names").write_text("\n".join(MARKET.symbols))
    mark, said = f"rate-{os.getpid()}-{root.name}", root / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, "--symbols-file", "names", *window, *rate], cwd=root, env=environ(root, url) | {MARK: mark},
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        if not wait_until(lambda: since.began_s is not None or process.poll() is not None, STARTS_S):
            return f"no request within {STARTS_S:.0f} s"
        problem = ""
        if scene.kills and process.poll() is None:
            since.wait((scene.search_s + until_s) / 2, process)
            workers = [each for each in ours(mark, process.pid) if each.kind == "worker"]
            if len(workers) != 2 or not workers[0].strike(signal.SIGKILL):
                problem = f"{len(workers)} workers where 2 should be"
        since.wait(until_s, process)
        if process.poll() is not None:
            return f"the command ended early, {process.returncode}: {said.read_text()[-300:]}"
        return problem
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environ(root: Path, url: str) -> dict[str, str]:
    """What leads the command to the imitation, and every record of a rate into the scene's own folder."""
    return {
        "APCA_API_DATA_URL": url, "APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret",
        "HOME": str(root), "PATH": os.environ["PATH"],
    }  # fmt: skip


def basic_plan() -> bool:
    """A thousand symbols, a year of daily bars, the plan of 200 requests a minute: the command from start to end."""
    market = market_market.market_from(BASIC_SYMBOLS)
    policy = sim_policy.Policy(rate_per_min=BASIC_PER_MIN, latency_s=0.1)
    with tempfile.TemporaryDirectory() as text, sim_server.Server(market, policy) as server:
        root = Path(text)
        (root / "names").write_text("\n".join(market.symbols))
        window = ["--start", "2023-06-01", "--end", "2024-05-31", "--processes", "2", "--json"]
        began_s = time.monotonic()
        done = subprocess.run(
            [*COMMAND, "--symbols-file", "names", *window], cwd=root, env=environ(root, server.url), check=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        per_s = BASIC_SYMBOLS / (time.monotonic() - began_s)
        statuses = [entry.status for entry in server.log]
    rows = json.loads(done.stdout)["rows"]
    met = len(statuses) <= BASIC_MOST and per_s >= BASIC_LEAST_PER_S
    print(
        f"\nbasic plan, 200/min: 1,000 symbols x 1 year of daily bars, {rows:,} rows in {len(statuses)} requests (bar "
        f"{BASIC_MOST}), {statuses.count(429)} of them 429; {per_s:.0f} symbols/s (bar {BASIC_LEAST_PER_S:.0f})"
        f"{'' if met else '  MISSED'}"
    )
    return met


MARKET = Alike(SYMBOLS, seed=0)


if __name__ == "__main__":
    sys.exit(main())

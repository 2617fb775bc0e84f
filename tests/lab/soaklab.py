"""The soak: the real commands, any of their processes struck at random, until everything asked is there."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from processes import MARK, Process, ours, wait_until
from soakserver import Asked, Imitation, imitation

from stagingest.model.task import Entry, Outcome
from stagingest.sim.market import generated
from stagingest.staging import manifest as staging_manifest
from stagingest.staging.manifest import Manifest
from stagingest.system.sqlite import EmptyError
from stagingest.targets.duckdb.connection import read

COMMAND = [sys.executable, "-m", "stagingest"]
PROCESSES, LANES = 2, 4
SYMBOLS_PER_CHUNK, SESSIONS, PAGES = 200, 10, 5  # 2,000 rows a chunk
BURST = 25
GONE_S = 20.0  # how long anything that must happen may take on a busy machine
# What is done to whom, and how often.
BLOWS = {
    ("kill", "worker"): 34,
    ("kill", "supervisor"): 7,
    ("kill", "fork server"): 8,
    ("kill", "tracker"): 4,
    ("kill", "group"): 3,
    ("stop", "worker"): 10,
    ("stop", "supervisor"): 4,
    ("stop", "fork server"): 4,
    ("terminate", "worker"): 8,
    ("terminate", "fork server"): 2,
    ("terminate", "supervisor"): 5,
    ("interrupt", "worker"): 2,
    ("interrupt", "group"): 5,
    ("interrupt twice", "group"): 4,
}
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}


@dataclass(frozen=True)
class Terms:
    """One soak.

    Args:
        seed: of faults, prices and blows.
        chunks: how many are fetched, of five pages each.
        rate_per_min: the vendor's limit, told in its headers.
        rate_mode: of the vendor, `bucket` (25 requests at once at most) or `window`.
        max_rps: what the user declares, None for nothing.
        gap_s: shortest and longest time between two blows.
        most_s: the soak has failed when it takes longer.
    """

    seed: int
    chunks: int = 110
    rate_per_min: int = 2400
    rate_mode: str = "bucket"
    max_rps: float | None = None
    gap_s: tuple[float, float] = (0.4, 2.4)
    most_s: float = 240.0

    @property
    def symbols(self) -> int:
        return self.chunks * SYMBOLS_PER_CHUNK

    def served(self, *, spoiled: bool) -> dict[str, object]:
        """What the imitation is told."""
        return {
            "seed": self.seed, "symbols": self.symbols, "spoiled": spoiled,
            "rate_per_min": self.rate_per_min if spoiled else 600_000, "rate_mode": self.rate_mode, "burst": BURST,
            "page_cap": SYMBOLS_PER_CHUNK * SESSIONS // PAGES, "latency_s": 0.05 if spoiled else 0.0,
        }  # fmt: skip


@dataclass(frozen=True)
class Content:
    """What a database holds: rows, different keys, and a sum over everything but when it was asked."""

    rows: int
    keys: int
    checksum: int


@dataclass
class Report:
    """What a soak did and what it found."""

    terms: Terms
    blows: Counter[tuple[str, str]] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    loads: Counter[int] = field(default_factory=Counter)
    quarantined: int = 0
    orphan_s: float = 0.0
    elapsed_s: float = 0.0
    calm_pages: int = 0
    asked: tuple[Asked, ...] = ()
    problems: list[str] = field(default_factory=list)

    def count(self, what: str, *victims: str) -> int:
        return sum(number for (blow, victim), number in self.blows.items() if blow == what and victim in victims)

    @property
    def worker_kills(self) -> int:
        return self.count("kill", "worker") + self.count("terminate", "worker")

    @property
    def supervisor_kills(self) -> int:
        return self.count("kill", "supervisor", "group") + self.count("interrupt twice", "group")

    @property
    def interruptions(self) -> int:
        """First Ctrl-C and SIGTERM: what is finished is acknowledged, what is in flight is dropped."""
        return self.count("terminate", "supervisor") + self.count("interrupt", "group")

    @property
    def beyond(self) -> int:
        """Pages answered as they should be, beyond the calm run's: a retry follows a bad answer, which is no page."""
        return sum(each.good for each in self.asked) - self.calm_pages

    @property
    def most_beyond(self) -> int:
        """The promise: a worker takes its lanes' chunks along, a supervisor all lanes' and an unacknowledged group."""
        lanes = PROCESSES * LANES
        chunks = LANES * self.worker_kills + lanes * self.interruptions + (lanes + 50) * self.supervisor_kills
        return PAGES * chunks

    @property
    def refused(self) -> int:
        return sum(each.refused for each in self.asked)

    @property
    def retries(self) -> int:
        """Requests for a page that the vendor's limit had refused the time before."""
        last: dict[str, Asked] = {}
        number = 0
        for each in self.asked:
            number += each.page in last and last[each.page].refused
            last[each.page] = each
        return number

    @property
    def spoiled(self) -> int:
        return sum(bool(each.fault) for each in self.asked)

    @property
    def burst(self) -> float:
        """The most requests that ever came at once beyond the rate of the vendor's limit or the user's."""
        rate_per_s = self.terms.max_rps or self.terms.rate_per_min / 60
        level = most = 0.0
        last_s = self.asked[0].at_s
        for each in self.asked:
            level = max(0.0, level - rate_per_s * (each.at_s - last_s)) + 1
            most, last_s = max(most, level), each.at_s
        return most


def soak(root: Path, terms: Terms) -> Report:
    """Fetch and load the same in peace and under blows; `problems` says where the two differ and what went wrong.

    Counted by the server: pages answered as they should be, beyond the calm run's (a retry follows a bad answer,
    which is no page), against what the blows may cost; requests at once beyond the rate; answers refused by the
    vendor's limit. Of retries, those after an answer that was spoiled on purpose are left out: the rest may be a
    tenth of all requests.
    """
    began_s = time.monotonic()
    with imitation(**terms.served(spoiled=False)) as calm:
        place = _Place(root / "calm", terms, calm)
        for words in (place.fetch_words, place.load_words):
            subprocess.run([*COMMAND, *words], cwd=place.root, env=place.environ("calm"), check=True, timeout=300)
        truth, pages = place.content(), len(calm.asked())
    with imitation(**terms.served(spoiled=True)) as rough:
        place = _Place(root / "rough", terms, rough)
        driver = _Driver(place, terms)
        report = driver.report
        report.calm_pages = pages
        with driver.loading():
            driver.until_complete()
        subprocess.run([*COMMAND, *place.load_words], cwd=place.root, env=place.environ("load"), check=True)
        report.asked = tuple(rough.asked())
    report.elapsed_s = time.monotonic() - began_s
    report.problems += [*_wrong_rows(place, truth), *_wrong_files(place), *_wrong_manners(report)]
    return report


class _Place:
    """A user's directory, and the commands given there."""

    def __init__(self, root: Path, terms: Terms, server: Imitation) -> None:
        root.mkdir(parents=True)
        self.root, self.terms, self.url = root, terms, server.url
        self.staging, self.db = root / "staging", root / "market.duckdb"
        (root / "names").write_text("\n".join(generated.names(terms.symbols)))
        (root / "t").mkdir()

    def environ(self, mark: str) -> dict[str, str]:
        return {
            "APCA_API_DATA_URL": self.url, "APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret",
            "HOME": str(self.root), "TMPDIR": str(self.root / "t"), "PATH": os.environ["PATH"], MARK: mark,
        }  # fmt: skip

    @property
    def fetch_words(self) -> list[str]:
        window = ["--start", "2024-05-01", "--end", "2024-05-14"]
        size = ["--processes", str(PROCESSES), "--lanes", str(LANES)]
        rate = ["--max-rps", str(self.terms.max_rps)] if self.terms.max_rps else []
        return ["fetch", "stock-bars", "--symbols-file", "names", *window, *size, *rate]

    load_words = ("load",)

    def entries(self, after: int = 0) -> list[Entry]:
        if not (self.staging / Manifest.file).exists():
            return []
        try:
            with Manifest.read(self.staging) as manifest:
                return list(manifest.entries(after))
        except EmptyError:  # it is being made
            return []

    def retry(self) -> int:
        """Make due again the chunks that were given up because processes died with them; how many there are."""
        with Manifest.read(self.staging) as manifest:
            held = len(staging_manifest.given_up_chunks(manifest, [Outcome.QUARANTINED]))
        if held:
            subprocess.run(
                [*COMMAND, "retry", "--outcome", "quarantined"], cwd=self.root, env=self.environ("retry"), check=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        return held

    def content(self) -> Content:
        text = (
            "SELECT count(*), count(DISTINCT (symbol, interval, ts)), sum(hash(t)::HUGEINT) "
            "FROM (SELECT * EXCLUDE (updated_at) FROM stock_bars) t"
        )
        return Content(*read(self.db, text)[1][0])


class _Driver:
    """Gives the commands and the blows."""

    def __init__(self, place: _Place, terms: Terms) -> None:
        self.report = Report(terms)
        self._place, self._terms = place, terms
        self._dice = random.Random(terms.seed)
        self._acknowledged: dict[int, Entry] = {}
        self._stopped: list[Process] = []
        self._runs = 0

    def until_complete(self) -> None:
        """The same command again and again; chunks that were quarantined are made due in between."""
        until_s = time.monotonic() + self._terms.most_s
        while (code := self._run(self._place.fetch_words)) != 0:
            if time.monotonic() > until_s:
                self._complain(f"not complete after {self._terms.most_s} s")
                return
            if code == 3:
                self.report.quarantined += self._place.retry()

    def _complain(self, problem: str) -> None:
        self.report.problems.append(f"run {self._runs}: {problem}")

    def _run(self, words: list[str]) -> int:
        self._runs += 1
        mark, path = f"soak-{os.getpid()}-{self._runs}", self._place.root / f"said-{self._runs}"
        with path.open("wb") as said:
            process = subprocess.Popen(
                [*COMMAND, *words], cwd=self._place.root, env=self._place.environ(mark),
                stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
            )  # fmt: skip
        allowed = self._torment(process, mark)
        code = process.wait()
        self.report.codes[code] += 1
        self._look_for_orphans(mark, process.pid)
        text = path.read_text()
        if code not in allowed:
            self._complain(f"exit code {code}, not one of {sorted(allowed)}: {text[-500:]}")
        if "Traceback" in text:
            self._complain(f"a traceback: {text[-1500:]}")
        if code in (130, 143) and not text.rstrip("\n").rpartition("\n")[2].startswith("  stagingest fetch"):
            self._complain(f"the last line does not continue it: {text[-500:]}")
        self._compare()
        return code

    def _torment(self, process: "subprocess.Popen[bytes]", mark: str) -> set[int]:
        """Blow after blow until it has ended; the exit codes it may have."""
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._dice.uniform(*self._terms.gap_s))
            if process.poll() is not None:
                return {0, 3}
            self._remember()
            before, self._stopped = self._stopped, []
            what, whom = self._blow(process.pid, mark)
            for each in before:
                each.strike(signal.SIGCONT)
            if whom in ("supervisor", "group") and what != "stop":
                code = {"kill": -signal.SIGKILL, "terminate": 143}.get(what, 130)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GONE_S)
                    return {code, 0, 3}
                self._complain(f"it lives {GONE_S} s after {what} {whom}")
                process.kill()
                return {-signal.SIGKILL}

    def _blow(self, supervisor: int, mark: str) -> tuple[str, str]:
        (what, whom) = self._dice.choices(list(BLOWS), list(BLOWS.values()))[0]
        living = ours(mark, supervisor)
        victims = [each for each in living if each.kind == whom or (whom == "group" and each.kind == "supervisor")]
        ready = what in ("kill", "stop") or all(each.catches(signal.SIGTERM) for each in victims)
        if not victims or (whom in ("supervisor", "group") and not ready):
            return "", ""  # it is not born, or python is still reading the command
        victim = self._dice.choice(victims)
        number = SIGNALS[what.partition(" ")[0]]
        for _ in range(2 if what.endswith("twice") else 1):
            if whom == "group":
                os.killpg(supervisor, number)
            else:
                victim.strike(number)
            time.sleep(self._dice.uniform(0, 0.1))
        if what == "stop":
            self._stopped.append(victim)
        self.report.blows[what, whom] += 1
        return what, whom

    def _look_for_orphans(self, mark: str, supervisor: int) -> None:
        """Nothing of a run may outlive its supervisor; workers that are stopped neither."""
        for each in self._stopped:
            if each.kind != "worker":
                each.strike(signal.SIGCONT)
        self._stopped = []
        began_s = time.monotonic()
        if not wait_until(lambda: not ours(mark, supervisor), GONE_S):
            for each in ours(mark, supervisor):
                self._complain(f"an orphan: {each}")
                each.strike(signal.SIGKILL)
        self.report.orphan_s = max(self.report.orphan_s, time.monotonic() - began_s)

    def _remember(self) -> None:
        self._acknowledged.update({each.seq: each for each in self._place.entries(max(self._acknowledged, default=0))})

    def _compare(self) -> None:
        """What was acknowledged is acknowledged, and its file is there."""
        now = {each.seq: each for each in self._place.entries()}
        for seq, entry in self._acknowledged.items():
            if now.get(seq) not in (entry, replace(entry, covers=False)):
                self._complain(f"entry {seq} was {entry} and is {now.get(seq)}")
            elif entry.path and not (self._place.staging / entry.path).exists():
                self._complain(f"the file of entry {seq} is gone")
        self._acknowledged = now

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Loads run beside whatever happens, and are killed too."""
        over = threading.Event()
        thread = threading.Thread(target=self._keep_loading, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _keep_loading(self, over: threading.Event) -> None:
        dice = random.Random(-self._terms.seed)
        while not over.wait(dice.uniform(0.5, 2.0)):
            if not self._place.entries():
                continue
            process = subprocess.Popen(
                [*COMMAND, *self._place.load_words], cwd=self._place.root, env=self._place.environ("load"),
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            with suppress(subprocess.TimeoutExpired):
                process.wait(dice.uniform(0.1, 1.5))
            process.kill()
            said = process.communicate()[1]
            self.report.loads[process.returncode] += 1
            if process.returncode not in (0, -signal.SIGKILL):
                self.report.problems.append(f"load exits {process.returncode}: {said[-500:]}")


def _wrong_rows(place: _Place, truth: Content) -> Iterator[str]:
    if place.content() != truth:
        yield f"the database holds {place.content()}, after the calm run {truth}"


def _wrong_files(place: _Place) -> Iterator[str]:
    with Manifest.read(place.staging) as manifest:
        if manifest.value("PRAGMA integrity_check") != "ok":
            yield "the manifest is damaged"
        if manifest.open_chunks():
            yield f"{len(manifest.open_chunks())} chunks are open"
        for entry in manifest.entries():
            if entry.path and hashlib.sha256((place.staging / entry.path).read_bytes()).hexdigest() != entry.sha256:
                yield f"{entry.path} is not what was acknowledged"
    left = [path.name for path in (place.staging / "tmp").iterdir()]
    if left:
        yield f"left in tmp: {left}"


def _wrong_manners(report: Report) -> Iterator[str]:
    requests = len(report.asked)
    if report.spoiled < 0.09 * requests:
        yield f"only {report.spoiled} of {requests} answers were spoiled"
    if report.beyond > report.most_beyond:
        yield f"{report.beyond} pages beyond the calm run, {report.most_beyond} are allowed"
    if report.burst > BURST:
        yield f"{report.burst:.1f} requests at once beyond the rate"
    if report.refused > (0 if report.terms.max_rps else 0.012 * requests):
        yield f"{report.refused} of {requests} requests were refused"
    if report.retries > 0.1 * requests:
        yield f"{report.retries} of {requests} requests were retries"

"""Keys stay home: after everything that can happen to a fetch they stand in nothing that was ever written."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import bugs
import pytest
from badlab import bars, page
from canary import Found, Search, credential, family, needles, planted, spelled
from faultserver import Answer, FaultServer, Peer, says, whole

from stagingest.sim import policy as sim_policy
from stagingest.sim.market.market import market_from
from stagingest.sim.server import Server

KEY, SECRET, OTHER = (credential(seed) for seed in (11, 12, 13))
NAMES = ("AAAA", "BBBB", "CCCC", "DDDD")
QUESTION = ("stock-bars", "-s", ",".join(NAMES), "-t", "1Min", "--start", "2024-05-28", "--end", "2024-05-31")


@dataclass
class Watch:
    """A user's whole world below one folder, and what was found in it so far."""

    root: Path
    origin: str = ""
    key: str = KEY
    secret: str = SECRET
    search: Search = field(default_factory=lambda: Search(KEY, SECRET, OTHER))
    found: Found = field(default_factory=set)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "APCA_API_DATA_URL": self.origin,
            "APCA_API_BASE_URL": self.origin,
            "APCA_API_KEY_ID": self.key,
            "APCA_API_SECRET_KEY": self.secret,
            "HOME": str(self.root / "home"),
            "XDG_STATE_HOME": str(self.root / "state"),
            "TMPDIR": str(self.root),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.root / "patched"),
        }

    def begin(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "stagingest", *words],
            cwd=self.root, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def ended(self, process: "subprocess.Popen[bytes]") -> tuple[int, str]:
        """Exit code and all that was said, looked through."""
        said = b"".join(process.communicate(timeout=120))
        self.found |= self.search.data("what it said", said)
        return process.returncode, said.decode(errors="replace")

    def run(self, *words: str) -> tuple[int, str]:
        return self.ended(self.begin(words))

    def look(self, process: "subprocess.Popen[bytes] | None" = None) -> None:
        """Look through all files, and through the command lines of a running process and its descendants."""
        self.found |= self.search.tree(self.root)
        if process is not None:
            self.found |= self.search.processes(process.pid)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Whatever a test does, at its end the keys are nowhere."""
    # The world holds the socket of a fork server, whose path must be short.
    with tempfile.TemporaryDirectory(prefix="keys-") as short:
        world = Watch(Path(short))
        (world.root / "home").mkdir()
        yield world
        world.look()
    assert world.search.looked_at > 3
    assert not world.found, sorted(world.found)


def imitated(watch: Watch, stack: ExitStack, **policy: object) -> Server:
    server = stack.enter_context(Server(market_from(NAMES), sim_policy.Policy(**policy)))  # type: ignore[arg-type]
    watch.origin = server.url
    return server


# -- the search itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [KEY, SECRET])
def test_the_search_finds_a_key_in_every_encoding(secret: str, tmp_path: Path) -> None:
    search = Search(secret)
    for encoding, needle in needles(secret).items():
        assert len(needle) >= 8
        assert any(name.endswith(encoding) for _, name in search.data("here", b"before" + needle + b"after")), encoding


def test_the_search_looks_inside_compressed_files_tables_and_names(tmp_path: Path) -> None:
    for kind, path in planted(tmp_path / "planted", SECRET).items():
        found = Search(SECRET).tree(tmp_path / "planted")
        place = str(path.parent) if kind == "name" else str(path)
        assert any(where.partition(",")[0] == place for where, _ in found), kind


def test_the_search_finds_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    planted(tmp_path / "planted", OTHER)
    search = Search(SECRET)
    assert search.tree(tmp_path / "planted") == set()
    assert search.looked_at == 6


# -- everything that happens to a fetch ------------------------------------------------------------------------


def test_a_whole_life_of_plan_fetch_status_and_load_writes_no_key(watch: Watch) -> None:
    with ExitStack() as stack:
        server = imitated(watch, stack, page_cap=400, faults=(sim_policy.Fault("hang", nth=(6,)),), rate_per_min=6000)
        assert watch.run("plan", *QUESTION)[0] == 0
        fetching = watch.begin(["fetch", *QUESTION, "--processes", "2"])
        assert server.hung.wait(60)
        watch.look(fetching)
        assert len(family(fetching.pid)) > 2
        assert watch.run("status")[0] == 0
        assert watch.run("status", "--json")[0] == 0
        server.release()
        assert watch.ended(fetching)[0] == 0
        assert watch.run("fetch", "option-contracts", "--underlyings", "AAAA", "--processes", "2")[0] == 0
        assert watch.run("load", "--db", "market.duckdb")[0] == 0
        code, said = watch.run("fetch", *QUESTION, "--json", "--no-resume")
        assert (code, '"rows"' in said) == (0, True)


def test_a_wrong_key_is_not_repeated(watch: Watch) -> None:
    with ExitStack() as stack:
        imitated(watch, stack, keys=(("another", "pair"),))
        assert watch.run("fetch", *QUESTION)[0] == 4
        assert watch.run("fetch", *QUESTION, "--json")[0] == 4
        assert watch.run("status")[0] == 0


def test_a_fetch_killed_in_the_middle_leaves_no_key_behind_nor_does_the_one_that_completes_it(watch: Watch) -> None:
    with ExitStack() as stack:
        server = imitated(watch, stack, page_cap=300, faults=(sim_policy.Fault("hang", nth=(5,)),))
        fetching = watch.begin(["fetch", *QUESTION, "--processes", "2", "--max-rps", "500"])
        assert server.hung.wait(60)
        os.kill(fetching.pid, signal.SIGKILL)
        watch.look(fetching)
        watch.ended(fetching)
        server.release()
        watch.look()
        watch.key, watch.secret = OTHER, KEY
        assert watch.run("fetch", *QUESTION)[0] == 0


def test_the_imitation_as_a_command_shows_no_key_of_those_who_ask_it(watch: Watch) -> None:
    process = watch.begin(["sim", "--port", "0", "--symbols", "4"])
    assert process.stdout is not None
    while b"APCA_API_DATA_URL" not in (line := process.stdout.readline()):
        assert line
    watch.origin = line.decode().strip().partition("=")[2]
    code, said = watch.run("fetch", "stock-bars", "-s", "AAAA", "--start", "2024-05-01", "--end", "2024-05-31")
    assert code in (0, 3), said
    watch.look(process)
    process.send_signal(signal.SIGINT)
    assert watch.ended(process)[0] == 0


def _repeating() -> dict[str, Answer]:
    """Answers that repeat both keys, in each place an answer has."""
    raw = f"{KEY} {SECRET}"
    quoted = json.dumps(raw)[1:-1].encode()
    spellings = b" | ".join(spelling for secret in (KEY, SECRET) for _, spelling in spelled(secret))

    def in_a_symbol(peer: Peer) -> None:
        peer.send(page({**bars(peer), SECRET: bars(peer)["AAAA"]}))

    def in_a_value(peer: Peer) -> None:
        peer.send(page({name: [{**one[0], "c": "x" * 35 + SECRET}] for name, one in bars(peer).items()}))

    def in_a_field(peer: Peer) -> None:
        peer.send(page({name: [{**one[0], SECRET: 1}] for name, one in bars(peer).items()}))

    def in_a_token(peer: Peer) -> None:
        peer.send(page(bars(peer), SECRET))

    return {
        "a message": says(whole(b'{"message":"bad key %s"}' % quoted, status="400 Bad Request")),
        "a message of a forbidden": says(whole(b'{"message":"bad key %s"}' % quoted, status="403 Forbidden")),
        "a message of a limit": says(whole(b'{"message":"%s"}' % quoted, "Retry-After: 0", status="429 Slow")),
        "every encoding": says(whole(spellings, status="422 No")),
        "a page of an error": says(whole(b"<pre>%s</pre>" % raw.encode() * 60, status="500 Oops")),
        "the end of what is read": says(whole(b"x" * (4096 - 20) + raw.encode(), status="502 Oops")),
        "an answer that is an error": says(whole(b'{"message":"who is %s?"}' % quoted)),
        "an answer that is none": says(whole(b"<html>" + b"%s" % raw.encode() * 3)),
        "the beginning of one": says(whole(b"<html>" + b"." * 60 + raw.encode())),
        "a body that is kept, at its cut": says(whole(b"{" + b"x" * ((64 << 10) - 21) + raw.encode())),
        "a redirect": says(whole(b"", f"Location: https://{SECRET}/?k={SECRET}", status="302 Found")),
        "an encoding": says(whole(b"{}", f"Content-Encoding: {SECRET}")),
        "a transfer": says(whole(b"{}", f"Transfer-Encoding: {SECRET}")),
        "a length": says(f"HTTP/1.1 200 OK\r\nContent-Length: {SECRET}\r\n\r\n".encode()),
        "a status": says(f"HTTP/1.1 599 {SECRET}\r\nContent-Length: 0\r\n\r\n".encode()),
        "a limit": says(whole(b"{}", f"Retry-After: {SECRET}", f"X-RateLimit-Limit: {KEY}", status="503 Busy")),
        "no HTTP": says(f"{SECRET}\r\n\r\n".encode()),
        "a symbol": in_a_symbol,
        "a value": in_a_value,
        "a field": in_a_field,
        "a token": in_a_token,
    }


REPEATING = _repeating()


@pytest.mark.parametrize("answer", REPEATING.values(), ids=REPEATING)
def test_a_server_that_repeats_the_keys_is_not_quoted(watch: Watch, answer: Answer) -> None:
    def then_good(peer: Peer) -> None:
        if len(peer.server.requests) <= 3:
            answer(peer)
        else:
            peer.send(page(bars(peer)))

    with FaultServer(then_good) as server:
        watch.origin = server.origin
        words = ("fetch", "stock-bars", "-s", "AAAA", "--start", "2024-05-01", "--end", "2024-05-31")
        how = ("--max-rps", "1000", "--processes", "0", "--max-requests", "12", "--max-minutes", "0.2")
        code, said = watch.run(*words, *how)
        assert server.requests
        assert "Traceback" not in said
        assert code in (0, 3, 4, 5), said
        assert watch.run("status")[0] == 0
        watch.look()


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize("bug", bugs.ALL, ids=lambda bug: bug.__name__.replace("_", " "))
def test_a_bug_of_ours_is_a_sentence_that_names_its_place_and_not_the_keys_it_held(
    watch: Watch, bug: Callable[[], None], processes: str
) -> None:
    """Python runs `sitecustomize` in every process, workers and fork server included."""
    (watch.root / "patched").mkdir()
    (watch.root / "patched" / "sitecustomize.py").write_text(bugs.sitecustomize(bug))
    with ExitStack() as stack:
        imitated(watch, stack)
        code, said = watch.run("fetch", *QUESTION, "--processes", processes)
        assert code in (1, 3), said
        assert "Traceback" not in said
        assert "a bug of stagingest: " in said
        assert any(name in said for name in ("RuntimeError", "KeyError", "ValueError", "TypeError"))

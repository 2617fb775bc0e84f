"""P14: `plan`, `--dry-run` and `status` ask nothing, make no file and take no lock, seen from below Python."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import watchedtool
from desk import Desk, desk

from stagingest.sim import policy

QUESTION = ("stock-bars", "-s", "AAAA,BBBB,CCCC", "--start", "2024-01-02", "--end", "2024-05-31")
COMMANDS = {
    "plan": ("plan", *QUESTION),
    "plan --json": ("plan", *QUESTION, "--json"),
    "fetch --dry-run": ("fetch", *QUESTION, "--dry-run"),
    "fetch --dry-run anew, fast and in many processes": (
        "fetch", *QUESTION, "--dry-run", "--no-resume", "--processes", "4", "--max-rps", "9",
    ),
    "plan of contracts": ("plan", "option-contracts", "--underlyings", "AAAA"),
    "plan of their bars": ("plan", "option-bars", "--underlyings", "AAAA", "--start", "2024-05-01"),
}  # fmt: skip


def watched(place: Desk, words: tuple[str, ...]) -> "tuple[subprocess.CompletedProcess[str], list[list[str]]]":
    """A command, and what it did to the world as the interpreter saw it."""
    read, write = os.pipe()
    try:
        # The pipe is the child's 3.
        ended = subprocess.run(
            ["bash", "-c", f'exec "$@" 3>&{write}', "-", sys.executable, watchedtool.__file__, *words],
            cwd=place.root, env=place.environ, pass_fds=[write], capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    with open(read) as pipe:
        return ended, json.loads(pipe.read())


def world(place: Desk) -> dict[str, tuple[int, int, bytes]]:
    """Every file and folder: size, time of its last change, content. A living run's own files change by themselves.

    Of SQLite's `-shm`, the memory in which its readers of this moment are noted, only that it is there.
    """
    found = {}
    for path in sorted(place.root.rglob("*")):
        stat = path.stat()
        if path.name.endswith("-shm"):
            found[str(path)] = (0, 0, b"")
            continue
        found[str(path)] = (stat.st_size, stat.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, symbols=["AAAA", "BBBB", "CCCC"]) as made:
        yield made


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_where_there_is_nothing_nothing_is_made(place: Desk, words: tuple[str, ...]) -> None:
    before = world(place)
    ended, seen = watched(place, words)
    assert ended.returncode == 0, ended.stderr
    assert "requests" in ended.stdout
    assert seen == []
    assert world(place) == before
    assert place.requests() == 0


@pytest.mark.parametrize("words", [*COMMANDS.values(), ("status",)], ids=[*COMMANDS, "status"])
def test_beside_what_is_staged_and_loaded_nothing_changes(place: Desk, words: tuple[str, ...]) -> None:
    place.fetch(symbols=["AAAA", "BBBB"], start="2024-01-02", end="2024-03-29")
    place.fetch("option-contracts", underlyings=["AAAA"], expiry_gte="2024-06-01", expiry_lte="2024-12-31")
    place.load()
    place.requests()
    before = world(place)
    ended, seen = watched(place, words)
    assert ended.returncode == 0, ended.stderr
    # `status` asks the kernel whether locks are held; it holds none.
    assert [event for event, _ in seen if (words[0], event) != ("status", "fcntl.flock")] == []
    assert world(place) == before
    assert place.requests() == 0


def others(place: Desk) -> set[str]:
    """Every file and folder but those that a living run makes when it comes to it."""
    return {name for name in world(place) if not re.search(r"/run\.(json|new)$|\.rates\.jsonl$", name)}


@pytest.mark.parametrize("words", [COMMANDS["plan"], COMMANDS["fetch --dry-run"]], ids=["plan", "fetch --dry-run"])
def test_beside_a_living_fetch_nothing_is_asked_waited_for_or_locked(tmp_path: Path, words: tuple[str, ...]) -> None:
    hang = policy.Fault("hang", nth=(2,))
    with desk(tmp_path, symbols=["AAAA", "BBBB", "CCCC"], policy=policy.Policy(page_cap=50, faults=(hang,))) as place:
        fetching = subprocess.Popen(
            [sys.executable, "-m", "stagingest", "fetch", *QUESTION, "--processes", "0"],
            cwd=place.root, env=place.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert place.server.hung.wait(60)
        asked = len(place.server.log)
        names = others(place)
        ended, seen = watched(place, words)
        assert ended.returncode == 0, ended.stderr
        assert re.search(r"1 \(1 left open by an earlier run\)|1 +chunks|chunks +1", ended.stdout)
        assert seen == []
        assert others(place) == names
        assert len(place.server.log) == asked
        place.server.release()
        assert fetching.wait(60) == 0


def test_the_watch_sees_what_a_fetch_does(place: Desk) -> None:
    ended, seen = watched(place, ("fetch", *QUESTION, "--processes", "0"))
    assert ended.returncode == 0, ended.stderr
    assert {"open", "os.mkdir", "os.rename", "fcntl.flock", "socket.connect"} <= {event for event, _ in seen}

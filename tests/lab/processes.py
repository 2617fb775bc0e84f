"""Processes of a command under test: found by a mark in their environment, told apart, struck, and waited for."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "MARK_OF_THE_TEST"


@dataclass(frozen=True)
class Process:
    """A living process; `kind` is supervisor, worker, fork server, tracker, or new for one that is not born yet."""

    pid: int
    kind: str

    def strike(self, number: int) -> bool:
        """Send a signal; whether it was still there."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def catches(self, number: int) -> bool:
        """Whether it has a handler for the signal."""
        text = _read(self.pid, "status").decode()
        line = next((line for line in text.splitlines() if line.startswith("SigCgt")), "SigCgt: 0")
        return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def ours(mark: str, supervisor: int) -> list[Process]:
    """The living processes with the mark in their environment; zombies are dead."""
    return list(_found(f"{MARK}={mark}".encode(), supervisor))


def _found(mark: bytes, supervisor: int) -> Iterator[Process]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and mark in _read(int(folder.name), "environ").split(b"\0"):
            pid = int(folder.name)
            state, parent = ([*_read(pid, "stat").rpartition(b")")[2].split(), b"Z", b"0"])[:2]
            if state not in b"ZX":
                yield Process(pid, _kind(pid, int(parent), supervisor))


def _kind(pid: int, parent: int, supervisor: int) -> str:
    command = _read(pid, "cmdline")
    if pid == supervisor:
        return "supervisor"
    if b"multiprocessing.resource_tracker" in command:
        return "tracker"
    if b"multiprocessing.forkserver" in command:
        return "fork server" if parent == supervisor else "worker"
    return "new"


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    """Look until it holds; whether it did in time."""
    until_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.01)
    return True

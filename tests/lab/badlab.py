"""A fetch against a server whose every byte a test chooses, as a user runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from faultserver import Answer, FaultServer, Peer, whole

import stagingest
from stagingest.api.fetch import Fetched
from stagingest.model.task import Entry
from stagingest.staging.manifest import Manifest

KEY, SECRET = "key-id-of-the-test", "secret-of-the-test"
MAY = {"start": "2024-05-01", "end": "2024-05-31"}
WORDS = ("--start", "2024-05-01", "--end", "2024-05-31")
BAR = {"o": 1.5, "h": 2.5, "l": 0.5, "c": 2.0, "v": 100, "n": 7, "vw": 1.75}


def query(peer: Peer) -> dict[str, str]:
    """The query of a request."""
    target = peer.request.split(b" ", 2)[1].decode()
    return {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}


def bars(peer: Peer, **changed: Any) -> dict[str, list[dict[str, Any]]]:
    """One bar of each symbol asked for, at the first instant asked for."""
    asked = query(peer)
    return {name: [{"t": asked["start"], **BAR, **changed}] for name in asked["symbols"].split(",")}


def page(found: Any, token: str | None = None, *fields: str) -> bytes:
    """A whole answer that holds these bars."""
    body = json.dumps({"bars": found, "next_page_token": token}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return whole(body, "Content-Type: application/json", *fields)


def good(peer: Peer) -> None:
    """Answer with one bar of each symbol asked for."""
    peer.send(page(bars(peer)))


def with_body(body: bytes, *fields: str, status: str = "200 OK") -> Answer:
    """Answer with this body, whole."""
    return lambda peer: peer.send(whole(body, *fields, status=status))


def with_bars(token: str | None = None, **changed: Any) -> Answer:
    """Answer with bars of which some fields are changed, and the token of a next page."""
    return lambda peer: peer.send(page(bars(peer, **changed), token))


@dataclass
class Place:
    """One user's place before a server; `fetch` is a call, `run` a process."""

    root: Path
    server: FaultServer
    said: list[str] = field(default_factory=list)
    more: dict[str, str] = field(default_factory=dict)

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "APCA_API_DATA_URL": self.server.origin,
            "APCA_API_BASE_URL": self.server.origin,
            "MASSIVE_API_BASE_URL": self.server.origin,
            "MASSIVE_API_KEY": "massive-key-of-the-test",
            "APCA_API_KEY_ID": KEY,
            "APCA_API_SECRET_KEY": SECRET,
            "HOME": os.environ["HOME"],
            "XDG_STATE_HOME": str(self.root / "state"),
            "PATH": os.environ["PATH"],
            **self.more,
        }

    def fetch(self, symbols: str = "AAAA", **asked: Any) -> Fetched:
        """Fetch in this process, one request at a time unless told otherwise."""
        settings = {"processes": 0, "lanes": 1, "max_rps": 5000, "staging": self.staging, **MAY, **asked}
        names = symbols.split(",")
        return stagingest.fetch("stock-bars", symbols=names, environ=self.environ, listener=self, **settings)

    def run(self, *words: str, symbols: str = "AAAA") -> "subprocess.CompletedProcess[str]":
        """`stagingest fetch stock-bars` as a process of its own."""
        command = [sys.executable, "-m", "stagingest", "fetch", "stock-bars", "--symbols", symbols, *WORDS, *words]
        return subprocess.run(
            command, cwd=self.root, env=self.environ, capture_output=True, text=True, timeout=120, check=False
        )

    def entries(self) -> list[Entry]:
        with Manifest.read(self.staging) as manifest:
            return list(manifest.entries())

    def rows(self) -> pa.Table:
        """Every staged row, files in the order of their entries."""
        paths = [self.staging / entry.path for entry in self.entries() if entry.path]
        return pa.concat_tables([pq.read_table(path) for path in paths])

    def kept(self) -> list[bytes]:
        """The bodies kept for a person to look at."""
        return [path.read_bytes() for path in sorted((self.staging / "quarantine").glob("*.body"))]

    def progress(self, progress: object) -> None:
        """Listener."""

    def say(self, text: str) -> None:
        """Listener."""
        self.said.append(text)


@contextmanager
def facing(root: Path, *answers: Answer, certificate: Path | None = None) -> Iterator[Place]:
    """A place before a server that gives these answers in turn, the last one for ever."""
    with FaultServer(*answers, certificate=certificate) as server:
        yield Place(root, server)

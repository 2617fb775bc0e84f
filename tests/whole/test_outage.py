"""A provider that is gone for a while, or does not tell all: nothing is burned, nothing is missed."""

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, desk

from stagingest.fetching.worker import requester
from stagingest.http import retry
from stagingest.providers.alpaca import endpoints
from stagingest.sim import policy
from stagingest.sim import server as sim_server

MINUTES: dict[str, Any] = {"timeframe": "1Min", "start": "2024-05-06", "end": "2024-05-24"}


class Outage:
    """A listener that takes the server away after some pages and brings it back when the tool waits for it."""

    cue = "waiting for the network, asking again"

    def __init__(self, place: Desk, *, back_with: policy.Policy) -> None:
        self.place, self.back_with = place, back_with
        self.said: list[str] = []
        self.seen: list[str] = []
        self.gone = threading.Event()

    def progress(self, progress: Any) -> None:
        self.seen.append(progress.waiting)
        if progress.pages and not self.gone.is_set():
            self.gone.set()
            self.leave()

    def say(self, text: str) -> None:
        self.said.append(text)
        if self.cue in text:
            self.come_back()

    def leave(self) -> None:
        self.place.server.__exit__(None, None, None)
        # Nobody else is given the port meanwhile, and who asks there is refused.
        self.reserved = socket.socket()
        self.reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.reserved.bind(("127.0.0.1", self.place.server.port))

    def come_back(self) -> None:
        server = self.place.server
        self.reserved.close()
        self.place.server = sim_server.Server(
            self.place.market, self.back_with, port=server.port, clock=lambda: self.place.now
        ).__enter__()


class Trouble(Outage):
    """The server stays and answers 503 to everything meanwhile."""

    cue = "waiting for it, asking again"

    def leave(self) -> None:
        self.place.server.behave(policy.Policy(faults=(policy.Fault("status", status=503),)))

    def come_back(self) -> None:
        self.place.server.behave(self.back_with)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PROBE_S", 0.1)


def rows(place: Desk) -> list[Any]:
    table = place.rows()
    return sorted(zip(table["symbol"].to_pylist(), table["ts"].to_pylist(), table["close"].to_pylist(), strict=True))


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("kind", "word"), [(Outage, "network"), (Trouble, "provider")])
def test_a_provider_that_is_gone_for_a_while_is_waited_for_and_no_chunk_is_burned(
    tmp_path: Path, kind: type[Outage], word: str
) -> None:
    slow = policy.Policy(page_cap=700, latency_s=0.2)
    with desk(tmp_path / "calm", symbols=8) as calm:
        calm.fetch(symbols=calm.market.symbols, **MINUTES)
        truth = rows(calm)
    with desk(tmp_path, symbols=8, policy=slow) as place:
        outage = kind(place, back_with=policy.Policy())
        place.progress, place.say = outage.progress, outage.say  # type: ignore[method-assign]
        fetched = place.fetch(symbols=place.market.symbols, **MINUTES)
        assert outage.gone.is_set()
        assert word in outage.seen
        assert "asking again every 5 to 60 s" in outage.said[0]
        assert (fetched.exit_code, fetched.summary.failures, fetched.summary.left) == (0, (), 0)
        assert rows(place) == truth


@pytest.mark.usefixtures("soon")
def test_a_provider_in_trouble_for_too_long_is_left_alone_and_its_chunks_stay_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LIMITED_S", 1.5)
    with desk(tmp_path, symbols=8, policy=policy.Policy(page_cap=700, latency_s=0.2)) as place:
        trouble = Trouble(place, back_with=policy.Policy(faults=(policy.Fault("status", status=500),)))
        place.progress, place.say = trouble.progress, trouble.say  # type: ignore[method-assign]
        fetched = place.fetch(symbols=place.market.symbols, **MINUTES)
        assert (fetched.exit_code, fetched.summary.failures) == (5, ())
        assert fetched.summary.left > 0
        assert "Run the same command again later" in fetched.summary.stopped
        place.server.behave(policy.Policy())
        assert place.fetch(symbols=place.market.symbols, **MINUTES).exit_code == 0


def test_a_host_that_cannot_be_reached_at_the_start_ends_the_fetch(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        place.server.__exit__(None, None, None)
        fetched = place.fetch(symbols=place.market.symbols, **MINUTES)
        assert (fetched.exit_code, fetched.summary.left, fetched.summary.failures) == (5, fetched.summary.planned, ())
        assert "Check APCA_API_DATA_URL and the network" in fetched.summary.stopped


@pytest.mark.parametrize(("symbols", "page_rows"), [(8, 700), (1, 380)])
def test_a_full_page_that_says_it_is_the_last_is_asked_again_in_halves(
    tmp_path: Path, symbols: int, page_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "PAGE_ROWS", page_rows)
    cut = policy.Policy(faults=(policy.Fault("cut-short", times=3),))
    with desk(tmp_path / "calm", symbols=symbols) as calm:
        calm.fetch(symbols=calm.market.symbols, **MINUTES)
        truth = rows(calm)
    with desk(tmp_path, symbols=symbols, policy=cut) as place:
        fetched = place.fetch(symbols=place.market.symbols, max_rps=8 * symbols, **MINUTES)
        assert fetched.exit_code == 0
        assert "split" in {entry.outcome for entry in place.entries()}
        assert rows(place) == truth

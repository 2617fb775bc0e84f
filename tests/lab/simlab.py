"""A raw-socket client for the imitation, and what its tests share."""

import socket
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

import orjson

from stagingest.sim.market.generated import Generated
from stagingest.sim.server import Server

NOON = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # a Monday, in New York
KEYS = {"APCA-API-KEY-ID": "K", "APCA-API-SECRET-KEY": "S"}
MARKET = Generated(["AAA", "BBB", "BRK.B", "CCC"], seed=1)


def fixed():
    return NOON


@dataclass(frozen=True)
class Response:
    """A response read to its end; `body` as sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return orjson.loads(self.body)


class Client:
    """One connection that can send requests without waiting for answers."""

    def __init__(self, server: Server) -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self._read = b""

    def close(self) -> None:
        self.sock.close()

    def send(self, target: str, headers: dict[str, str] | None = None) -> None:
        lines = [f"{name}: {value}" for name, value in (KEYS if headers is None else headers).items()]
        self.sock.sendall("\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *lines, "", ""]).encode())

    def receive(self) -> Response:
        """The next response. Raises ConnectionError when it ends before its Content-Length."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        size = int(headers["content-length"])
        while len(self._read) < size:
            self._more()
        body, self._read = self._read[:size], self._read[size:]
        return Response(int(status.split(" ")[1]), headers, body)

    def everything(self) -> bytes:
        """All bytes until the server closes."""
        while data := self.sock.recv(1 << 20):
            self._read += data
        return self._read

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise ConnectionError(f"closed after {len(self._read)} bytes")
        self._read += data


def ask(server: Server, target: str, headers: dict[str, str] | None = None) -> Response:
    """One request on a connection of its own."""
    with closing(Client(server)) as client:
        client.send(target, headers)
        return client.receive()


def bars_target(**query: object) -> str:
    """A target for daily bars of early 2024, unless told otherwise."""
    usual = {"symbols": "AAA,BBB", "timeframe": "1Day", "start": "2024-01-01", "end": "2024-01-31"}
    return "/v2/stocks/bars?" + urlencode(usual | query)

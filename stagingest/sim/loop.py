"""One thread that speaks HTTP/1.1 over many loopback connections and sends prepared bytes.

The standard library's servers copy a large body several times; here it goes from the cache to the socket.
"""

import contextlib
import heapq
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from itertools import count

from stagingest.sim.faults import Wire

_MOST_HEAD = 64 << 10
_END = b"\r\n\r\n"
_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_READ | selectors.EVENT_WRITE


class _Connection:
    """A client's socket, what it has sent, and what it is still to be sent."""

    __slots__ = ("busy", "events", "gap_s", "gone", "inbox", "number", "outbox", "sock", "then")

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.inbox = bytearray()
        self.outbox: deque[memoryview] = deque()
        self.busy = False
        self.gone = False
        self.events = _READ
        self.then = "keep"
        self.gap_s = 0.0


class Loop:
    """Listens on 127.0.0.1 and hands every request head to `handler`, which says what to send.

    Args:
        handler: (number of the connection, request head without its empty line) to the bytes to send.
        port: 0 for any free one.
    """

    def __init__(self, handler: Callable[[int, bytes], Wire], port: int = 0) -> None:
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._selector.register(self._listener, _READ)
        self._selector.register(self._ear, _READ)
        self._connections: set[_Connection] = set()
        self._numbers = count(1)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._held: list[tuple[_Connection, Wire]] = []
        self._stopping = self._releasing = False
        self.hung = threading.Event()
        self.opened = 0

    def run(self) -> None:
        """Serve in the calling thread until `stop`."""
        try:
            while not self._stopping:
                for key, events in self._selector.select(self._pause_s()):
                    self._handle(key, events)
                self._due()
                if self._releasing:
                    self._let_go()
        finally:
            self._close()

    def stop(self) -> None:
        """End `run`; from any thread or signal handler."""
        self._stopping = True
        self._ring()

    def release(self) -> None:
        """Answer the requests that hang; from any thread."""
        self._releasing = True
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    def _close(self) -> None:
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        for sock in (self._listener, self._bell, self._ear):
            sock.close()

    # --- events

    def _pause_s(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _later(self, pause_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + pause_s, next(self._order), call))

    def _due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _let_go(self) -> None:
        self._releasing = False
        self.hung.clear()
        held, self._held = self._held, []
        for connection, wire in held:
            self._begin(connection, wire)

    def _handle(self, key: selectors.SelectorKey, events: int) -> None:
        if key.fileobj is self._listener:
            self._accept()
        elif key.fileobj is self._ear:
            self._ear.recv(1024)
        else:
            connection: _Connection = key.data
            if events & selectors.EVENT_WRITE:
                self._flush(connection)
            if events & selectors.EVENT_READ and not connection.gone:
                self._read(connection)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(sock, next(self._numbers))
            self._connections.add(connection)
            self._selector.register(sock, _READ, connection)
            self.opened += 1

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_MOST_HEAD)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.inbox += data
        if not data or len(connection.inbox) > 2 * _MOST_HEAD:
            self._drop(connection)
        else:
            self._pump(connection)

    # --- requests, one at a time in the order a connection sent them

    def _pump(self, connection: _Connection) -> None:
        while not connection.busy and not connection.gone:
            end = connection.inbox.find(_END)
            if end < 0:
                return
            head = bytes(connection.inbox[:end])
            del connection.inbox[: end + len(_END)]
            connection.busy = True
            wire = self._handler(connection.number, head)
            if wire.held:
                self._held.append((connection, wire))
                self.hung.set()
            elif wire.delay_s:
                self._wait(connection, wire)
            else:
                self._load(connection, wire)
                self._send(connection)

    def _wait(self, connection: _Connection, wire: Wire) -> None:
        self._later(wire.delay_s, lambda: self._begin(connection, wire))

    def _begin(self, connection: _Connection, wire: Wire) -> None:
        if not connection.gone:
            self._load(connection, wire)
            self._flush(connection)

    def _load(self, connection: _Connection, wire: Wire) -> None:
        connection.outbox.extend(memoryview(piece) for piece in wire.pieces if piece)
        connection.then, connection.gap_s = wire.then, wire.gap_s

    def _flush(self, connection: _Connection) -> None:
        if not connection.gone:
            self._send(connection)
            self._pump(connection)

    def _send(self, connection: _Connection) -> None:
        """Send what the socket takes; at the end the connection is kept, closed or reset."""
        outbox = connection.outbox
        try:
            while outbox:
                pieces = [outbox[0]] if connection.gap_s else outbox
                _forget(outbox, connection.sock.sendmsg(pieces))
                if connection.gap_s and outbox:
                    self._watch(connection, _READ)
                    self._later(connection.gap_s, lambda: self._flush(connection))
                    return
        except BlockingIOError:
            self._watch(connection, _WRITE)
            return
        except OSError:
            self._drop(connection)
            return
        self._watch(connection, _READ)
        connection.busy = False
        if connection.then != "keep":
            self._drop(connection)

    def _watch(self, connection: _Connection, events: int) -> None:
        if connection.events != events:
            connection.events = events
            self._selector.modify(connection.sock, events, connection)

    def _drop(self, connection: _Connection) -> None:
        if connection.gone:
            return
        connection.gone = True
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        if connection.then == "reset":
            linger = struct.pack("ii", 1, 0)
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.sock.close()


def _forget(outbox: deque[memoryview], size: int) -> None:
    while outbox and size >= len(outbox[0]):
        size -= len(outbox.popleft())
    if size:
        outbox[0] = outbox[0][size:]


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the headers, their values by name in small letters, and what two of them say."""

    names: tuple[str, ...]
    values: Mapping[str, str]
    gzip: bool
    close: bool


@lru_cache(maxsize=1024)
def fields(head: bytes) -> Fields:
    """What the header lines of a request say."""
    pairs = [line.partition(":") for line in head.decode("latin-1").split("\r\n") if line]
    values = {name.lower(): value.strip() for name, _, value in pairs}
    return Fields(
        names=tuple(name for name, _, _ in pairs),
        values=values,
        gzip="gzip" in values.get("accept-encoding", ""),
        close=values.get("connection", "").lower() == "close",
    )


@lru_cache(maxsize=8)
def http_date(second: int) -> str:
    """The value of a `Date` header."""
    return format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True)

"""Exchanges end at their deadline: one watchdog thread shuts the sockets of those that do not end by themselves.

A timeout bounds one wait for the server, so that a server that trickles holds a lane for ever without this.
"""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any


@dataclass(slots=True, eq=False)
class InFlightRequest:
    """One question under way.

    Args:
        deadline: when it has to be over, on the monotonic clock.
        ended: why it was ended from outside: `timeout`, `aborted`; '' while it was not.
        connection: what holds its socket as `sock`, from the moment it begins to connect.
        sock: the socket itself, once asked; connections that will close forget theirs.
        reused: whether its connection had answered before.
    """

    deadline: float
    ended: str = ""
    connection: Any = None
    sock: socket.socket | None = None
    reused: bool = False

    def restart(self) -> None:
        """Ask anew, on another connection."""
        self.connection = self.sock = None
        self.reused = False

    def end(self, why: str) -> None:
        """Wake whoever waits on the socket; the exchange is a fault from now on."""
        self.ended = why
        held = self.sock or getattr(self.connection, "sock", None)
        if held is not None:
            # The plain shutdown: that of a TLS socket would let its reader go on with what is still encrypted.
            with suppress(OSError):
                socket.socket.shutdown(held, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise TimeoutError when the exchange was ended before its socket could be shut."""
        if self.ended:
            raise TimeoutError


class Watchdog:
    """Knows the exchanges under way, oldest first, and ends each at its deadline."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._live: dict[InFlightRequest, None] = {}
        self._lock = threading.Lock()
        self._aborted = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
        self._thread.start()

    def enter(self) -> InFlightRequest:
        """A new exchange; it is ended already when everything was aborted."""
        with self._lock:
            exchange = InFlightRequest(monotonic() + self._deadline_s)
            if self._aborted:
                exchange.ended = "aborted"
            else:
                self._live[exchange] = None
            return exchange

    def leave(self, exchange: InFlightRequest) -> None:
        """The exchange is over; its socket may serve another."""
        with self._lock:
            self._live.pop(exchange, None)

    def abort(self) -> None:
        """End all exchanges, and those still to come."""
        with self._lock:
            self._aborted = True
            for exchange in self._live:
                exchange.end("aborted")
            self._live.clear()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        # Nobody needs to wake this thread: whatever begins while it sleeps is due later than its next look.
        while not self._closed.wait(self._next_look_s()):
            pass

    def _next_look_s(self) -> float:
        with self._lock:
            now = monotonic()
            while oldest := next(iter(self._live), None):
                if oldest.deadline > now:
                    return oldest.deadline - now
                del self._live[oldest]
                oldest.end("timeout")
            return self._deadline_s

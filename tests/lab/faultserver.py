"""A server on loopback whose every byte is chosen by the test; it tells what happened through events."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Self

TLS_HELLO = b"\x16\x03"
Answer = Callable[["Peer"], None]


def head(*fields: str, status: str = "200 OK") -> bytes:
    """Status line and header fields, ended."""
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


def whole(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """A response with its length."""
    return head(f"Content-Length: {len(body)}", *fields, status=status) + body


def says(data: bytes) -> Answer:
    """Send exactly these bytes and keep the connection."""
    return lambda peer: peer.send(data)


def says_and_closes(data: bytes) -> Answer:
    """Send exactly these bytes, then end the connection."""

    def answer(peer: "Peer") -> None:
        peer.send(data)
        peer.close()

    return answer


def resets(peer: "Peer") -> None:
    """End the connection with a reset, without a byte."""
    peer.reset()


def hangs(peer: "Peer") -> None:
    """Say nothing until the client hangs up."""
    peer.wait_gone()


class Peer:
    """One connection, seen from the server."""

    def __init__(self, server: "FaultServer", sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.request = b""

    def send(self, data: bytes) -> None:
        """Send, as far as the client takes it."""
        try:
            self.sock.sendall(data)
        except OSError:
            self.server.hung_up.set()

    def trickle(self, data: bytes, pause_s: float = 0.02) -> None:
        """Send a byte at a time until the client hangs up."""
        for byte in data:
            if self._gone(pause_s):
                return
            self.send(bytes([byte]))

    def flood(self, data: bytes) -> None:
        """Send the same bytes again and again until the client hangs up."""
        while not self.server.hung_up.is_set():
            self.send(data)

    def wait_gone(self) -> None:
        """Return when the client hangs up."""
        self._gone(None)

    def close(self) -> None:
        """End the connection; what was sent still arrives."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _gone(self, timeout_s: float | None) -> bool:
        if not select([self.sock], [], [], timeout_s)[0]:
            return False
        with suppress(OSError):
            if self.sock.recv(1):
                return False
        self.server.hung_up.set()
        return True

    def _ask(self) -> bool:
        data = b""
        while b"\r\n\r\n" not in data and not data.startswith(TLS_HELLO):
            piece = self.sock.recv(65536)
            if not piece:
                return False
            data += piece
        self.request = data
        return True

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        try:
            with suppress(OSError, ValueError):
                self.sock = self.server.secured(self.sock)
                while self._ask():
                    self.server.answer(self)
        finally:
            self.sock.close()


class FaultServer:
    """Gives each request the next of its answers, the last one for ever.

    Args:
        answers: what to do with a connection that has asked.
        certificate: PEM file of key and certificate, to speak TLS.

    Attributes:
        requests: head of every request, as received.
        connections: how many were accepted.
        asked: set when a request has come.
        hung_up: set when the client ended a connection that the server was not done with.
    """

    def __init__(self, *answers: Answer, certificate: Path | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.asked = threading.Event()
        self.hung_up = threading.Event()
        self._answers = list(answers)
        self._lock = threading.Lock()
        self._context = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._peers: list[tuple[Peer, threading.Thread]] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.origin = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.hung_up.set()
        for peer, thread in self._peers:
            peer.close()
            thread.join()

    def answer(self, peer: Peer) -> None:
        """Answer the request of a connection."""
        with self._lock:
            self.requests.append(peer.request)
            chosen = self._answers[min(len(self.requests), len(self._answers)) - 1]
        self.asked.set()
        chosen(peer)

    def secured(self, sock: socket.socket) -> socket.socket:
        """The connection, over TLS when the server has a certificate."""
        return self._context.wrap_socket(sock, server_side=True) if self._context else sock

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = Peer(self, sock)
                thread = threading.Thread(target=peer.serve, daemon=True)
                self._peers.append((peer, thread))
                thread.start()


CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgn6GjO/53Us0iMNDI
RIEZzBdfZ9h3ca5q08Igl/Jz82GhRANCAASB5rOIYN9opCrMDZ1PhIJxhHEQ+sIz
SxlA8V0TlgwPcTnNs4BtkcaR+TtAcM33yQN4dbo/WFUP3Ld0a9JA9COc
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBqzCCAVGgAwIBAgIUTliMx0u+a4pPuCwZBngKw096XwswCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzA5NTEyOVoYDzIxMjYxMDMw
MDk1MTI5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASB5rOIYN9opCrMDZ1PhIJxhHEQ+sIzSxlA8V0TlgwPcTnNs4BtkcaR
+TtAcM33yQN4dbo/WFUP3Ld0a9JA9COco38wfTAdBgNVHQ4EFgQUi3k5wKNuIpMP
pDY5Z2bxdyJf8jowHwYDVR0jBBgwFoAUi3k5wKNuIpMPpDY5Z2bxdyJf8jowDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwDgYDVR0P
AQH/BAQDAgKEMAoGCCqGSM49BAMCA0gAMEUCIQDb4i/p9a/W5lwkQytWbOKjt8WD
KexW4njtcCk8rnM4wwIgdM2k2O50tDxXAaYoUCuwnur4CQqZsnu1WPknqWrrdOk=
-----END CERTIFICATE-----
"""
"""Key and certificate of 127.0.0.1, signed by itself, of no use anywhere else."""

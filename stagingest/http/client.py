"""One request out, one whole body or one named fault back; the only door to requests and urllib3."""

import http.client
import logging
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from requests import PreparedRequest, RequestException
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from stagingest import __version__
from stagingest.errors import UsageError
from stagingest.http import response as http_response
from stagingest.http.deadline import InFlightRequest, Watchdog
from stagingest.http.response import Reply, TransportFault
from stagingest.model.page import Request, origin_parts
from stagingest.model.secrets import plain, redacted

_PIECE = 4 << 20
_FAILURES = (RequestException, HTTPError, http.client.HTTPException, OSError, ValueError, OverflowError)
_ENDED = {"timeout": "no whole answer before the deadline", "aborted": "ended on request"}
_lane = threading.local()


class Client:
    """Connections to providers, shared by the threads of a process.

    Args:
        connections: kept alive per origin; as many as threads that send.
        connect_timeout_s: for each address of a host, and again for TLS.
        read_timeout_s: longest silence of the server.
        deadline_s: longest time from asking to the last byte, however the server trickles.
        gzip: whether bodies are asked compressed.
        proxy: `http://host:port` through which https is tunnelled; the environment is never read.
        ca_bundle: file of certificates to trust instead of the shipped ones.

    Raises:
        UsageError: the proxy or the bundle cannot be used.
    """

    def __init__(
        self,
        connections: int,
        *,
        connect_timeout_s: float = 5,
        read_timeout_s: float = 20,
        deadline_s: float = 60,
        gzip: bool = True,
        proxy: str | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        # Both libraries log URLs and broken header lines; here every failure is a value instead.
        for name in ("requests", "urllib3"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._adapter = _Adapter(connections, proxy, ca_bundle)
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._watchdog = Watchdog(deadline_s)
        self._headers = {
            "User-Agent": f"stagingest/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip" if gzip else "identity",
        }

    def send(self, origin: str, request: Request, headers: Mapping[str, str]) -> Reply | TransportFault:
        """Ask once; the answer is whole or it is a fault. Thread-safe.

        Args:
            origin: `https://host[:port]` (http for loopback only).
            request: path and query.
            headers: the credentials; no answer and no fault repeats them.

        Raises UsageError when the origin is none, OSError when this process may open no more files.
        """
        question = _Question(self._adapter.pool(origin), request, {**self._headers, **headers})
        started_s = monotonic()
        exchange = self._watchdog.enter()
        try:
            answer = self._ask(question, exchange)
        finally:
            self._watchdog.leave(exchange)
        reply = (
            answer
            if isinstance(answer, TransportFault)
            else http_response.reply(*answer, headers.values(), monotonic() - started_s)
        )
        if exchange.ended:
            reply = TransportFault(exchange.ended, _ENDED[exchange.ended])
        if isinstance(reply, TransportFault):
            # A fault may quote a header, and a server may repeat a key in one.
            text = redacted(reply.text.encode(), headers.values()).decode()
            return TransportFault(reply.kind, plain(f"{origin.partition('://')[2]}: {text}"))
        return reply

    def abort(self) -> None:
        """End every exchange under way, and every later one at once, as an `aborted` fault."""
        self._watchdog.abort()

    def close(self) -> None:
        """Close the connections; nothing may be under way."""
        self._watchdog.close()
        self._adapter.close()

    def _ask(self, question: "_Question", exchange: InFlightRequest) -> "_Answer | TransportFault":
        if exchange.ended:
            return TransportFault(exchange.ended, "")
        try:
            return self._once(question, exchange)
        except http_response.SilenceError:
            # The server closed an idle connection while we wrote on it: no answer, so asked again, once.
            with suppress(http_response.SilenceError):
                return self._once(question, exchange)
            return TransportFault("reset", "the connection was closed before an answer, twice")

    def _once(self, question: "_Question", exchange: InFlightRequest) -> "_Answer | TransportFault":
        """One try. Raises SilenceError when a connection that had answered before died without a word."""
        _lane.exchange = exchange
        exchange.restart()
        try:
            raw: Any = self._adapter.send(question, stream=True, timeout=self._timeouts)
        except _FAILURES as error:
            if exchange.reused and any(
                isinstance(cause, http_response.SilenceError) for cause in http_response.causes(error)
            ):
                raise http_response.SilenceError("nothing came back") from None
            asked = exchange.sock is not None
            return http_response.head_fault(error, asked=asked, proxied=question.pool.proxy is not None)
        try:
            return _read(raw)
        except _FAILURES as error:
            return http_response.body_fault(error, raw.tell())
        finally:
            # Returned to its pool already when the body was read to its end; else it is not used again.
            raw.close()


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    data: bytes


def _read(raw: Any) -> _Answer | TransportFault:
    """The answer whose head is `raw`, its body as it came over the wire. Raises what the libraries raise."""
    status, headers = raw.status, raw.headers
    refused = http_response.refused_head(status, headers)
    if refused:
        return refused
    if status >= 400:
        return _Answer(status, headers, _beginning(raw))
    if "content-length" in headers and "transfer-encoding" not in headers:
        return _Answer(status, headers, raw.read(decode_content=False))
    pieces: list[bytes] = []
    while piece := raw.read(_PIECE, decode_content=False):
        pieces.append(piece)
        if raw.tell() > http_response.BODY_CAP:
            return http_response.too_large()
    return _Answer(status, headers, b"".join(pieces))


def _beginning(raw: Any) -> bytes:
    """The first bytes of an error body: its status says what it is, of its words we take what we get."""
    with suppress(*_FAILURES):
        return bytes(raw.read(http_response.ERROR_BODY_CAP, decode_content=False))
    return b""


# -- requests and urllib3, watched -----------------------------------------------------------------------------


class _Question(PreparedRequest):
    """A GET, prepared by hand: what `prepare` adds beyond this, nobody reads, and it costs as much as the rest."""

    def __init__(self, pool: HTTPConnectionPool, request: Request, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.method = "GET"
        self.headers = headers  # type: ignore[assignment]  # read as a mapping
        self.pool = pool
        self.target = f"{request.path}?{urlencode(request.query)}" if request.query else request.path


class _Adapter(HTTPAdapter):
    """Requests' adapter with one pool per origin; follows, decodes, retries and reads from the environment nothing."""

    def __init__(self, connections: int, proxy: str | None, ca_bundle: str | None) -> None:
        super().__init__(pool_connections=32, pool_maxsize=connections)
        self._proxy = _checked_proxy(proxy)
        self._context = _context(ca_bundle) if ca_bundle else None
        self._pools: dict[str, HTTPConnectionPool] = {}
        self._lock = threading.Lock()

    def pool(self, origin: str) -> HTTPConnectionPool:
        """The connections to an origin. Raises UsageError when it is none."""
        return self._pools.get(origin) or self._opened(origin)

    def _opened(self, origin: str) -> HTTPConnectionPool:
        scheme, host, port = origin_parts(origin, "The base URL")
        with self._lock:
            if origin not in self._pools:
                manager, options = self.poolmanager, {}
                if scheme == "https":
                    # One context for all connections: reading the certificates costs more than a handshake.
                    self._context = self._context or _context(DEFAULT_CA_BUNDLE_PATH)
                    options = {"ssl_context": self._context, "cert_reqs": "CERT_REQUIRED"}
                    manager = self.proxy_manager_for(self._proxy) if self._proxy else manager
                manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
                self._pools[origin] = manager.connection_from_host(host, port, scheme, options)
            return self._pools[origin]

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
        """The pool the question came with."""
        return request.pool

    def cert_verify(self, *_: Any) -> None:
        """Nothing: the pool's context verifies."""

    def request_url(self, request: Any, proxies: Any) -> str:
        """Path and query; only https is ever proxied, and that in a tunnel."""
        return str(request.target)

    def build_response(self, req: PreparedRequest, resp: Any) -> Any:
        """The raw response as it is: no cookies, no history, no decoding."""
        return resp


class _Opening(http.client.HTTPResponse):
    """A response that tells silence from an answer that broke off."""

    def begin(self) -> None:
        try:
            heard = self.fp.peek(1)
        except ConnectionError:
            heard = b""
        if not heard:
            raise http_response.SilenceError("nothing came back")
        super().begin()


class _Connection(HTTPConnection):
    """A connection that shows its socket to the exchange it serves."""

    response_class = _Opening
    answered = False

    def connect(self) -> None:
        self.answered = False
        _lane.exchange.connection = self
        super().connect()
        _lane.exchange.check()

    def getresponse(self) -> Any:
        exchange: InFlightRequest = _lane.exchange
        exchange.reused, exchange.sock = self.answered, self.sock
        exchange.check()
        response = super().getresponse()
        self.answered = True
        return response


class _TLSConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


def _checked_proxy(proxy: str | None) -> str | None:
    if proxy is not None and not (proxy.startswith("http://") and urlsplit(proxy).hostname):
        raise UsageError("The proxy is not an address.", "Use http://host:port.")
    return proxy


def _context(ca_bundle: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError:
        raise UsageError(f"{ca_bundle} holds no certificates.", "Name a PEM file of certificates.") from None

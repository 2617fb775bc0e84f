"""What a user sees when the network or the server does something wrong; real sockets."""

import gzip
import logging
import os
import resource
import socket
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from faultserver import CERTIFICATE, FaultServer, Peer, hangs, head, resets, says, says_and_closes, whole
from hypothesis import given, settings
from hypothesis import strategies as st

from stagingest.errors import UsageError
from stagingest.http.classify import Action, classify
from stagingest.http.client import Client
from stagingest.http.response import Reply, TransportFault
from stagingest.model.page import Request
from stagingest.model.secrets import Secret

KEY = "PKCANARY0123456789"
HEADERS = {"APCA-API-KEY-ID": Secret("KID0123456789"), "Authorization": Secret(f"Bearer {KEY}")}
QUESTION = Request(
    "alpaca/data", "/v2/stocks/bars", (("symbols", "AAPL,BRK.B"), ("start", "2024-01-02T09:30:00+00:00"))
)
BODY = b'{"bars":{"AAPL":[]},"next_page_token":null}'
LARGE = os.urandom(300_000)


@pytest.fixture
def client() -> Iterator[Client]:
    with closing(Client(4)) as client:
        yield client


def ask(client: Client, server: FaultServer) -> Reply | TransportFault:
    return client.send(server.origin, QUESTION, HEADERS)


def faults(client: Client, server: FaultServer) -> str:
    """The fault of one exchange: `kind: text`."""
    fault = ask(client, server)
    assert isinstance(fault, TransportFault)
    assert fault.text.isprintable()
    assert len(fault.text) <= 200
    return f"{fault.kind}: {fault.text}"


def answers(client: Client, server: FaultServer) -> Reply:
    reply = ask(client, server)
    assert isinstance(reply, Reply)
    return reply


# -- the calm case ---------------------------------------------------------------------------------------------


def test_a_page_arrives_whole_with_the_servers_date_and_the_rate_headers(client: Client) -> None:
    fields = ("Date: Sun, 23 Nov 2025 10:00:00 GMT", "X-Ratelimit-Remaining: 7", "Set-Cookie: a=b")
    with FaultServer(says(whole(BODY, *fields))) as server:
        reply = answers(client, server)

    assert (reply.status, reply.body) == (200, BODY)
    assert reply.date == datetime(2025, 11, 23, 10, tzinfo=UTC)
    assert reply.headers == {"x-ratelimit-remaining": "7"}


def test_the_request_carries_the_keys_in_headers_and_nothing_in_the_address(client: Client) -> None:
    with FaultServer(says(whole(BODY))) as server:
        answers(client, server)
        first, *fields = server.requests[0].decode().split("\r\n")

    target = "/v2/stocks/bars?symbols=AAPL%2CBRK.B&start=2024-01-02T09%3A30%3A00%2B00%3A00"
    assert first == f"GET {target} HTTP/1.1"
    assert f"Authorization: Bearer {KEY}" in fields
    assert "Accept-Encoding: gzip" in fields
    assert any(field.startswith("User-Agent: stagingest/") for field in fields)


def test_a_client_without_gzip_says_so() -> None:
    with closing(Client(1, gzip=False)) as client, FaultServer(says(whole(BODY))) as server:
        answers(client, server)

        assert b"Accept-Encoding: identity\r\n" in server.requests[0]


def chunks(data: bytes, size: int) -> bytes:
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


@pytest.mark.parametrize(
    "response",
    [
        whole(LARGE),
        whole(gzip.compress(LARGE), "Content-Encoding: gzip"),
        head("Transfer-Encoding: chunked") + chunks(LARGE, 7000) + b"0\r\n\r\n",
        head("Transfer-Encoding: chunked", "Content-Encoding: gzip") + chunks(gzip.compress(LARGE), 999) + b"0\r\n\r\n",
    ],
    ids=["length", "gzip", "chunked", "chunked gzip"],
)
def test_large_pages_arrive_whole_over_one_connection(client: Client, response: bytes) -> None:
    with FaultServer(says(response)) as server:
        bodies = [answers(client, server).body for _ in range(3)]

        assert bodies == [LARGE] * 3
        assert server.connections == 1


def test_many_threads_each_get_their_own_answer() -> None:
    def echo(peer: Peer) -> None:
        peer.send(whole(peer.request.split(b" ")[1]))

    with closing(Client(16)) as client, FaultServer(echo) as server, ThreadPoolExecutor(16) as threads:

        def mine(number: int) -> bytes:
            reply = client.send(server.origin, Request("b", f"/{number}", ()), HEADERS)
            assert isinstance(reply, Reply)
            return reply.body

        assert list(threads.map(mine, range(400))) == [b"/%d" % number for number in range(400)]
        assert server.connections <= 16


# -- network -----------------------------------------------------------------------------------------------------


def test_a_name_that_does_not_resolve_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    fault = client.send("https://data.nowhere.invalid", QUESTION, HEADERS)

    assert fault == TransportFault("dns", "data.nowhere.invalid: the name cannot be resolved")


def test_a_closed_port_refuses_the_connection(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    fault = client.send(f"http://127.0.0.1:{port}", QUESTION, HEADERS)

    assert fault == TransportFault("connect", f"127.0.0.1:{port}: cannot be reached: Connection refused")


def test_a_host_that_does_not_accept_is_given_up_at_the_connect_timeout() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        client = stack.enter_context(closing(Client(1, connect_timeout_s=0.2)))

        fault = client.send(f"http://127.0.0.1:{listener.getsockname()[1]}", QUESTION, HEADERS)

    assert isinstance(fault, TransportFault)
    assert (fault.kind, fault.text.partition(": ")[2]) == ("connect", "cannot be reached in time")


def test_a_reset_before_the_answer_is_a_fault_and_not_asked_again_in_secret(client: Client) -> None:
    with FaultServer(resets, says(whole(BODY))) as server:
        assert faults(client, server).startswith("reset: ")
        assert len(server.requests) == 1


@pytest.mark.parametrize("ends", [resets, says_and_closes(b"")], ids=["reset", "closed"])
def test_a_connection_that_went_stale_costs_the_user_nothing(client: Client, ends: object) -> None:
    with FaultServer(says(whole(b"1")), ends, says(whole(b"2"))) as server:  # type: ignore[arg-type]
        assert [answers(client, server).body for _ in range(2)] == [b"1", b"2"]
        assert (len(server.requests), server.connections) == (3, 2)


def test_a_connection_opened_anew_is_not_stale(client: Client) -> None:
    with FaultServer(says_and_closes(whole(b"1", "Connection: close")), resets, says(whole(b"3"))) as server:
        answers(client, server)

        assert faults(client, server).startswith("reset: ")
        assert len(server.requests) == 2


def test_a_kept_connection_that_dies_within_its_answer_is_not_stale(client: Client) -> None:
    with FaultServer(says(whole(b"1")), says_and_closes(b"HTTP/1.1 20"), says(whole(b"2"))) as server:
        answers(client, server)

        assert faults(client, server).startswith("truncated: ")
        assert len(server.requests) == 2


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nCont", head("Content-Length: 9") + b"1234"])
def test_a_server_that_falls_silent_is_a_timeout(said: bytes) -> None:
    def stalls(peer: Peer) -> None:
        peer.send(said)
        peer.wait_gone()

    with closing(Client(1, read_timeout_s=0.2)) as client, FaultServer(stalls) as server:
        assert faults(client, server).startswith("timeout: ")


@pytest.mark.parametrize("start", [b"", head("Content-Length: 9999"), head(), head("Transfer-Encoding: chunked")])
def test_a_trickling_server_is_cut_off_at_the_deadline(start: bytes) -> None:
    def trickles(peer: Peer) -> None:
        peer.send(start)
        peer.trickle(head("X-Long: " + "x" * 9000) if not start else b"5\r\nabcde\r\n" * 1000)

    with closing(Client(1, deadline_s=0.3)) as client, FaultServer(trickles, says(whole(BODY))) as server:
        assert "no whole answer before the deadline" in faults(client, server)
        assert server.hung_up.wait(10)
        assert answers(client, server).body == BODY
        assert server.connections == 2


def test_ctrl_c_ends_what_is_under_way_and_what_comes_after(client: Client) -> None:
    with FaultServer(hangs) as server, ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(ask, client, server)
        assert server.asked.wait(10)
        client.abort()

        assert waiting.result(10) == TransportFault("aborted", f"127.0.0.1:{server.port}: ended on request")
        assert faults(client, server).startswith("aborted: ")
        assert len(server.requests) == 1


def test_ctrl_c_while_connecting_sends_nothing_any_more(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def interrupted(*args: object, **more: object) -> object:
        client.abort()
        return resolve(*args, **more)  # type: ignore[arg-type]

    with FaultServer(hangs) as server:
        monkeypatch.setattr(socket, "getaddrinfo", interrupted)

        assert faults(client, server).startswith("aborted: ")
        client.close()
    assert server.requests == []


# -- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "loopback.pem"
    path.write_text(CERTIFICATE)
    return path


def test_a_certificate_nobody_vouches_for_is_refused(client: Client, certificate: Path) -> None:
    with FaultServer(says(whole(BODY)), certificate=certificate) as server:
        assert "tls: " in (said := faults(client, server))
        assert "the certificate is not trusted: self-signed certificate" in said
        assert server.requests == []


def test_https_to_a_server_without_tls_is_a_tls_fault(client: Client) -> None:
    with FaultServer(says(whole(BODY))) as server:
        fault = client.send(f"https://127.0.0.1:{server.port}", QUESTION, HEADERS)

    assert fault == TransportFault("tls", f"127.0.0.1:{server.port}: no TLS connection: wrong version number")


def test_pages_come_over_tls_when_the_users_bundle_vouches(certificate: Path) -> None:
    with (
        closing(Client(2, ca_bundle=str(certificate))) as client,
        FaultServer(says(whole(LARGE)), certificate=certificate) as server,
    ):
        assert [answers(client, server).body for _ in range(3)] == [LARGE] * 3
        assert server.connections == 1


def test_the_deadline_holds_over_tls_too(certificate: Path) -> None:
    def trickles(peer: Peer) -> None:
        peer.trickle(head("X-Long: " + "x" * 9000))

    with (
        closing(Client(1, ca_bundle=str(certificate), deadline_s=0.4)) as client,
        FaultServer(trickles, certificate=certificate) as server,
    ):
        assert "no whole answer before the deadline" in faults(client, server)


# -- HTTP --------------------------------------------------------------------------------------------------------

ZIPPED = gzip.compress(BODY * 50, mtime=0)


@pytest.mark.parametrize(
    "cut",
    [
        head("Content-Length: 100") + b"x" * 50,
        head("Transfer-Encoding: chunked") + b"5\r\nab",
        head("Transfer-Encoding: chunked") + b"5\r\nabcde",
        head("Transfer-Encoding: chunked") + b"5\r\nabcde\r\n",
        head("Transfer-Encoding: chunked") + b"-5\r\nabcde\r\n",
        head("Transfer-Encoding: chunked") + b"ffffffffffffffffff\r\nabcde\r\n",
        head("Transfer-Encoding: chunked") + b"not a number\r\nabcde\r\n",
    ],
)
def test_half_an_answer_is_never_taken_for_a_whole_one(client: Client, cut: bytes) -> None:
    with FaultServer(says_and_closes(cut), says(whole(BODY))) as server:
        assert faults(client, server).startswith("truncated: ")
        assert answers(client, server).body == BODY
        assert server.connections == 2


def test_an_answer_without_length_is_handed_over_as_it_came(client: Client) -> None:
    with FaultServer(says_and_closes(head() + BODY[:20])) as server:
        assert answers(client, server).body == BODY[:20]


@pytest.mark.parametrize(
    ("zipped", "said"),
    [
        (ZIPPED[: len(ZIPPED) // 2], "cut short"),
        (ZIPPED[:-8], "cut short"),
        (ZIPPED[:-3], "cut short"),
        (ZIPPED[:-6] + b"\0\0" + ZIPPED[-4:], "damaged"),
        (ZIPPED[:12] + bytes([ZIPPED[12] ^ 255]) + ZIPPED[13:], "damaged"),
        (ZIPPED + b"garbage", "bytes after its end"),
        (b"", "cut short"),
    ],
)
def test_a_compressed_answer_counts_only_when_proven_whole(client: Client, zipped: bytes, said: str) -> None:
    with FaultServer(says(whole(zipped, "Content-Encoding: gzip"))) as server:
        fault = faults(client, server)

    assert fault.startswith("decode: ")
    assert said in fault


def test_a_decompression_bomb_is_not_inflated(client: Client) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    with FaultServer(says(whole(bomb, "Content-Encoding: gzip"))) as server:
        fault = faults(client, server)

    assert fault.startswith("decode: ")
    assert "inflates to over" in fault


def test_a_small_page_may_be_very_compressible(client: Client) -> None:
    with FaultServer(says(whole(gzip.compress(bytes(1 << 20)), "Content-Encoding: gzip"))) as server:
        assert answers(client, server).body == bytes(1 << 20)


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "gzip, gzip", "gzip,br"])
def test_an_encoding_nobody_asked_for_is_refused(client: Client, coding: str) -> None:
    with FaultServer(says(whole(ZIPPED, f"Content-Encoding: {coding}"))) as server:
        assert faults(client, server).startswith("decode: ")


def test_an_answer_that_announces_too_much_is_not_read(client: Client) -> None:
    def floods(peer: Peer) -> None:
        peer.send(head("Content-Length: 10737418240"))
        peer.flood(bytes(1 << 16))

    with FaultServer(floods) as server:
        assert faults(client, server).startswith("too_large: ")
        assert server.hung_up.wait(10)


@pytest.mark.parametrize(
    "answer",
    [
        whole(BODY, *(f"X-{number}: 1" for number in range(120))),
        whole(BODY, "X-Long: " + "x" * 70_000),
        head("Content-Length: 5", "Content-Length: 7") + b"abcdefg",
        head("Content-Length: many") + b"abcdefg",
        head("Content-Length: -1") + b"abcdefg",
    ],
    ids=["too many", "too long", "contradiction", "no number", "negative"],
)
def test_headers_that_cannot_be_right_are_a_header_fault(client: Client, answer: bytes) -> None:
    with FaultServer(says_and_closes(answer)) as server:
        assert faults(client, server).startswith("header: ")


@pytest.mark.parametrize("extra", [b"x" * 10, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
@pytest.mark.parametrize("body", [b"first", LARGE], ids=["small", "large"])
def test_bytes_after_an_answer_do_not_become_the_next_one(client: Client, body: bytes, extra: bytes) -> None:
    with FaultServer(says(whole(body) + extra), says(whole(b"second"))) as server:
        assert [answers(client, server).body for _ in range(2)] == [body, b"second"]


@pytest.mark.parametrize("status", [102, 103])
def test_an_interim_answer_is_not_mistaken_for_the_answer(client: Client, status: int) -> None:
    interim = head(status=f"{status} Wait")
    with FaultServer(says(interim + whole(b"late")), says(whole(BODY))) as server:
        assert faults(client, server).startswith("truncated: ")
        assert answers(client, server).body == BODY
        assert server.connections == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_that_names_its_host_and_keys_do_not_follow(client: Client, status: int) -> None:
    with FaultServer(says(whole(BODY))) as foreign:
        elsewhere = f"http://127.0.0.1:{foreign.port}/steal?secret=1"

        def redirects(peer: Peer) -> None:
            peer.send(head(f"Location: {elsewhere}", "Content-Length: 10737418240", status=f"{status} Moved"))
            peer.flood(bytes(1 << 16))

        with FaultServer(redirects) as server:
            said = faults(client, server)

            assert said.endswith(f"answers {status}, a redirect to 127.0.0.1, which is not followed")
            assert server.hung_up.wait(10)
        assert foreign.connections == 0


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("//evil.example/x", "to evil.example,"),
        ("https://user:hidden@evil.example:8443/?key=hidden", "to evil.example,"),
        ("/elsewhere", "to itself,"),
        ("https://[broken", "to an address that is none,"),
        ("https://evil\x1b.example/", "to evil\\x1b.example,"),
        ("", "to itself,"),
    ],
)
def test_a_redirect_shows_the_host_only_and_no_terminal_codes(client: Client, location: str, named: str) -> None:
    with FaultServer(says(whole(b"", f"Location: {location}", status="302 Found"))) as server:
        said = faults(client, server)

    assert named in said
    assert "hidden" not in said


def test_html_with_status_200_is_handed_over_for_the_reader_to_refuse(client: Client) -> None:
    with FaultServer(says(whole(b"<html>login</html>", "Content-Type: text/html"))) as server:
        reply = answers(client, server)

    assert reply.headers["content-type"] == "text/html"
    assert classify(reply, attempt=1, symbols=1).kind is Action.PAGE


@pytest.mark.parametrize(
    ("fields", "wait_s"),
    [
        (("Retry-After: 7",), 7.0),
        (("Retry-After: 1.5",), 1.5),
        (("Retry-After: 1m0s",), 60.0),
        (("Retry-After: Sun, 23 Nov 2003 10:00:30 GMT",), 30.0),
        (("Retry-After: 99999999999",), 900.0),
        (("X-RateLimit-Reset: 1069581641", "X-RateLimit-Remaining: 0"), 41.0),
        (("Retry-After: soon",), None),
        ((), None),
    ],
)
def test_a_429_says_how_long_to_wait_by_the_servers_own_clock(
    client: Client, fields: tuple[str, ...], wait_s: float | None
) -> None:
    date = "Date: Sun, 23 Nov 2003 10:00:00 GMT"
    with FaultServer(says(whole(b"slow down", date, *fields, status="429 Too Many"))) as server:
        decision = classify(answers(client, server), attempt=1, symbols=1)

        assert (decision.kind, decision.wait_s) == (Action.LIMITED, wait_s)
        answers(client, server)
        assert server.connections == 1


def test_of_an_error_page_only_the_beginning_is_read(client: Client) -> None:
    def rages(peer: Peer) -> None:
        peer.send(head("Content-Length: 10737418240", status="500 Oops"))
        peer.flood(b"no" * 30_000)

    with FaultServer(rages) as server:
        reply = answers(client, server)

        assert (reply.status, len(reply.body)) == (500, 4096)
        assert server.hung_up.wait(10)


def test_an_error_whose_words_are_cut_is_still_that_error(client: Client) -> None:
    with FaultServer(says_and_closes(head("Content-Length: 999", status="401 No") + b"half")) as server:
        assert answers(client, server).status == 401


@pytest.mark.parametrize("packed", [False, True])
def test_a_key_that_the_server_repeats_is_struck_out(client: Client, packed: bool) -> None:
    text = b'{"message":"no such key: %s of KID0123456789"}' % KEY.encode()
    coding = ("Content-Encoding: gzip",) if packed else ()
    with FaultServer(says(whole(gzip.compress(text) if packed else text, *coding, status="403 No"))) as server:
        reply = answers(client, server)

    assert reply.body == b'{"message":"no such key: *** of ***"}'
    assert KEY not in classify(reply, attempt=1, symbols=1).reason


# -- credentials and settings ------------------------------------------------------------------------------------


def test_nothing_about_an_exchange_is_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    broken = whole(BODY, f"Bad Header {KEY}", "X-Other: 1")
    with FaultServer(says(whole(BODY)), resets, says(broken), says_and_closes(head("Content-Length: 9"))) as server:
        for _ in range(4):
            ask(client, server)

    assert caplog.records == []


def test_environment_proxies_and_netrc_are_not_heeded(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    with FaultServer(says(whole(b"proxy"))) as proxy, FaultServer(says(whole(BODY))) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.origin)
        monkeypatch.setenv("NETRC", str(netrc))

        assert answers(client, server).body == BODY
        assert b"Bearer " + KEY.encode() in server.requests[0]
        assert proxy.connections == 0


def test_a_proxy_sees_the_host_and_never_a_key() -> None:
    refusal = says_and_closes(head("Content-Length: 0", status="407 Proxy Authentication Required"))
    with FaultServer(refusal) as proxy, closing(Client(1, proxy=proxy.origin)) as client:
        fault = client.send("https://data.example.com", QUESTION, HEADERS)

        assert isinstance(fault, TransportFault)
        assert fault.kind == "connect"
        assert "cannot be reached through the proxy" in fault.text
        assert proxy.requests[0].startswith(b"CONNECT data.example.com:443 ")
        assert KEY.encode() not in b"".join(proxy.requests)


def test_a_process_that_may_open_no_more_files_blames_nobody_and_names_the_cure(client: Client) -> None:
    with FaultServer(says(whole(BODY))) as server:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with Path(os.devnull).open("rb") as free:
            lowest = free.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, most[1]))
        try:
            with pytest.raises(OSError, match="raise `ulimit -n` or fetch with fewer --lanes"):
                ask(client, server)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
    with FaultServer(says(whole(BODY))) as server:  # another: that one may have been unable to accept
        assert answers(client, server).status == 200


def test_a_key_that_cannot_be_sent_is_a_fault_that_does_not_show_it(client: Client) -> None:
    with FaultServer(says(whole(BODY))) as server:
        for key in (f"{KEY}\r\nEvil: 1", f"{KEY}\u20ac"):
            fault = client.send(server.origin, QUESTION, {"Authorization": key})

            assert isinstance(fault, TransportFault)
            assert fault.kind == "header"
            assert KEY not in fault.text
        assert server.requests == []


@pytest.mark.parametrize(
    "origin",
    [
        "http://data.alpaca.markets",
        "http://127.0.0.1.evil.example",
        "ftp://127.0.0.1",
        "https://",
        "data.alpaca.markets",
        "https://user:pw@data.alpaca.markets",
        "https://data.alpaca.markets/v2",
        "https://data.alpaca.markets?x=1",
        "https://data.alpaca.markets:port",
        "https://[broken",
    ],
)
def test_keys_go_to_https_origins_only(client: Client, origin: str) -> None:
    with pytest.raises(UsageError) as refused:
        client.send(origin, QUESTION, HEADERS)

    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("setting", [{"proxy": "socks5://x"}, {"proxy": "x:1"}, {"ca_bundle": "/nowhere.pem"}])
def test_a_proxy_or_bundle_that_cannot_be_used_is_refused_at_once(setting: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Client(1, **setting)  # type: ignore[arg-type]


# -- anything ----------------------------------------------------------------------------------------------------

STARTS = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 ",
        b"HTTP/1.1 200 OK\r\n",
        head(),
        head("Transfer-Encoding: chunked"),
        head("Content-Encoding: gzip"),
        head("Content-Length: 9"),
        head(status="302 Found")[:-2] + b"Location: ",
        head(status="429 No")[:-2] + b"Retry-After: ",
    ]
)


def test_whatever_a_server_sends_is_an_answer_or_a_named_fault() -> None:
    said: list[bytes] = []

    def speaks(peer: Peer) -> None:
        peer.send(said[-1])
        peer.close()

    with closing(Client(1, read_timeout_s=5)) as client, FaultServer(speaks) as server:

        @settings(max_examples=150, deadline=None)
        @given(STARTS, st.binary(max_size=200))
        def check(start: bytes, rest: bytes) -> None:
            said.append(start + rest)
            exchange = ask(client, server)

            decision = classify(exchange, attempt=1, symbols=2)
            assert decision.kind is Action.PAGE or decision.reason.isprintable()

        check()


def test_closing_ends_the_watchdog() -> None:
    before = threading.active_count()
    with closing(Client(1)):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before

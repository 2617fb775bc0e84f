"""What a user sees when the network or the server's HTTP is bad (catalogue N and H)."""

import gzip
import socket
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import pytest
from badlab import KEY, SECRET, bars, facing, good, page, with_body
from faultserver import CERTIFICATE, Answer, FaultServer, Peer, hangs, head, resets, says, says_and_closes, whole

from stagingest.fetching.worker import requester
from stagingest.http import client, retry
from stagingest.system import platform


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries of a request there is no pause, unless the server asks for one."""
    monkeypatch.setattr(retry, "backoff_s", lambda *_: 0.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times after which a server is given up, short enough for a test."""
    short = {"connect_timeout_s": 0.2, "read_timeout_s": 0.4, "deadline_s": 0.8}
    monkeypatch.setattr(requester, "Client", partial(client.Client, **short))


# -- N: the network --------------------------------------------------------------------------------------------


def test_a_host_that_has_no_address_stops_the_fetch_and_is_named(tmp_path: Path) -> None:
    with facing(tmp_path, good) as place:
        place.more["APCA_API_DATA_URL"] = "https://no-such-host.invalid"
        summary = place.fetch().summary
        assert (summary.exit_code, summary.left) == (5, 1)
        assert "no-such-host.invalid: the name cannot be resolved" in summary.stopped
        assert "APCA_API_DATA_URL" in summary.stopped
        place.more.clear()
        assert place.fetch().exit_code == 0


@pytest.mark.usefixtures("impatient")
def test_a_host_that_does_not_accept_is_given_up_and_the_chunk_stays_open(tmp_path: Path) -> None:
    full = [socket.create_server(("127.0.0.1", 0), backlog=0)]
    try:
        port = full[0].getsockname()[1]
        for _ in range(8):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
            full.append(waiting)
        with facing(tmp_path, good) as place:
            place.more["APCA_API_DATA_URL"] = f"http://127.0.0.1:{port}"
            summary = place.fetch().summary
            assert (summary.exit_code, summary.left) == (5, 1)
            assert "cannot be reached in time" in summary.stopped
    finally:
        for each in full:
            each.close()


def test_a_certificate_nobody_vouches_for_ends_the_fetch_in_one_sentence_and_is_not_retried(tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    pem.write_text(CERTIFICATE)
    with facing(tmp_path, good, certificate=pem) as place:
        ended = place.run()
        assert ended.returncode == 5
        said = [line for line in ended.stderr.splitlines() if "certificate" in line]
        assert len(said) == 1
        assert f"127.0.0.1:{place.server.port}: the certificate is not trusted: self" in said[0]
        assert "Traceback" not in ended.stderr
        assert place.server.connections == 1
        assert place.server.requests == []


def test_a_connection_reset_before_the_answer_is_asked_again(tmp_path: Path) -> None:
    with facing(tmp_path, resets, good) as place:
        summary = place.fetch().summary
        assert (summary.exit_code, summary.requests, summary.rows) == (0, 2, 1)


def test_a_connection_that_went_stale_between_two_chunks_costs_nothing(tmp_path: Path) -> None:
    def then_closes(peer: Peer) -> None:
        peer.send(page(bars(peer)))
        peer.close()

    with facing(tmp_path, then_closes) as place:
        summary = place.fetch("AAAA,BBBB", timeframe="1Min", start="2024-03-01").summary
        assert summary.exit_code == 0
        assert summary.requests == summary.pages > 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "bad",
    [hangs, lambda peer: (peer.send(head("Content-Length: 900") + b'{"bars'), hangs(peer))],
    ids=["before the head", "in the body"],
)
def test_a_server_that_falls_silent_is_asked_again(tmp_path: Path, bad: Answer) -> None:
    with facing(tmp_path, bad, good) as place:
        summary = place.fetch().summary
        assert (summary.exit_code, summary.requests, summary.rows) == (0, 2, 1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("before", [b"", head("Content-Length: 9000")], ids=["head", "body"])
def test_a_server_that_trickles_is_cut_off_at_the_deadline_and_asked_again(tmp_path: Path, before: bytes) -> None:
    def trickles(peer: Peer) -> None:
        peer.send(before)
        peer.trickle(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 5_000, 0.05)

    with facing(tmp_path, trickles, good) as place:
        summary = place.fetch().summary
        assert (summary.exit_code, summary.requests, summary.rows) == (0, 2, 1)
    with facing(tmp_path / "for ever", trickles) as place:
        summary = place.fetch().summary
        assert summary.exit_code == 3
        assert "no whole answer before the deadline" in summary.failures[0].reason


def test_netrc_and_proxies_of_the_environment_get_no_key_and_change_none(tmp_path: Path) -> None:
    with FaultServer(good) as trap, facing(tmp_path, good) as place:
        home = tmp_path / "home"
        home.mkdir()
        (home / ".netrc").write_text("machine 127.0.0.1 login mallory password of-the-netrc\n")
        (home / ".netrc").chmod(0o600)
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        proxies = {spelled: trap.origin for name in names for spelled in (name, name.lower())}
        place.more = {**proxies, "HOME": str(home), "NETRC": str(home / ".netrc")}
        ended = place.run()
        assert ended.returncode == 0, ended.stderr
        assert trap.connections == 0
        (asked,) = place.server.requests
        assert f"apca-api-key-id: {KEY}".encode() in asked.lower()
        assert b"authorization" not in asked.lower()


# -- H: the answer ---------------------------------------------------------------------------------------------


def _body(peer: Peer) -> bytes:
    return page(bars(peer)).partition(b"\r\n\r\n")[2]


def _cut(peer: Peer) -> None:
    says_and_closes(head(f"Content-Length: {len(_body(peer))}") + _body(peer)[:-9])(peer)


def _cut_in_chunk(peer: Peer) -> None:
    says_and_closes(head("Transfer-Encoding: chunked") + b"%x\r\n%s" % (len(_body(peer)), _body(peer)[:-9]))(peer)


def _cut_between_chunks(peer: Peer) -> None:
    body = _body(peer)[:-9]
    says_and_closes(head("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(body), body))(peer)


def _cut_without_length(peer: Peer) -> None:
    says_and_closes(head("Connection: close") + _body(peer)[:-9])(peer)


def _gzipped(spoil: "slice | None", more: bytes = b"") -> Answer:
    def answer(peer: Peer) -> None:
        data = gzip.compress(_body(peer) + b" " * 500)
        peer.send(whole((data[spoil] if spoil else data) + more, "Content-Encoding: gzip"))

    return answer


def _flipped(peer: Peer) -> None:
    data = bytearray(gzip.compress(_body(peer)))
    data[len(data) // 2] ^= 1
    peer.send(whole(bytes(data), "Content-Encoding: gzip"))


def _wrong_sum(peer: Peer) -> None:
    data = bytearray(gzip.compress(_body(peer)))
    data[-8] ^= 1
    peer.send(whole(bytes(data), "Content-Encoding: gzip"))


DAMAGED = {
    "shorter than its length": _cut,
    "cut within a chunk": _cut_in_chunk,
    "cut between chunks": _cut_between_chunks,
    "cut without a length": _cut_without_length,
    "half a gzip stream of the right length": _gzipped(slice(0, 60)),
    "a gzip stream without its trailer": _gzipped(slice(0, -8)),
    "a gzip stream with garbage after it": _gzipped(None, b"garbage"),
    "a gzip stream with a flipped bit": _flipped,
    "a gzip stream with a wrong checksum": _wrong_sum,
    "a gzip stream that is none": with_body(b"no gzip at all", "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_answer_is_never_staged_and_asked_again(tmp_path: Path, damaged: Answer) -> None:
    with facing(tmp_path / "once", damaged, good) as place:
        summary = place.fetch().summary
        assert (summary.exit_code, summary.requests, summary.rows) == (0, 2, 1)
    with facing(tmp_path / "always", damaged) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.rows) == (3, 0)
        assert fetched.summary.requests == 3
        assert [entry.covers for entry in place.entries()] == [False]


NOW = datetime(2026, 11, 24, 15, 0, 0, tzinfo=UTC)
RETRY_AFTER = {
    "0": "0",
    "a fraction": "0.2",
    "a duration": "100ms",
    "a date that is now": format_datetime(NOW, usegmt=True),
    "a date that is past": format_datetime(NOW - timedelta(days=1), usegmt=True),
    "the epoch's seconds, past": "1700000000",
    "negative": "-3",
    "empty": "",
    "words": "soon",
    "a number nobody can mean": "9" * 400,
}


@pytest.mark.parametrize("asked", RETRY_AFTER.values(), ids=RETRY_AFTER)
def test_a_429_with_any_retry_after_is_waited_out(tmp_path: Path, asked: str) -> None:
    limited = with_body(
        b'{"message":"too many requests."}',
        f"Retry-After: {asked}",
        f"Date: {format_datetime(NOW, usegmt=True)}",
        status="429 Too Many Requests",
    )
    with facing(tmp_path, limited, good) as place:
        summary = place.fetch().summary
        assert (summary.exit_code, summary.limited, summary.requests, summary.rows) == (0, 1, 2, 1)


def test_a_quota_that_resets_in_a_second_of_the_servers_clock_is_not_waited_for_by_ours(tmp_path: Path) -> None:
    """The server's clock is a day ahead: by ours the wait would be a day."""
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    spent = with_body(
        b"{}",
        f"Date: {format_datetime(ahead, usegmt=True)}",
        "X-RateLimit-Limit: 60000",
        "X-RateLimit-Remaining: 0",
        f"X-RateLimit-Reset: {int(ahead.timestamp()) + 1}",
        status="429 Too Many Requests",
    )
    with facing(tmp_path, spent, good) as place:
        summary = place.fetch().summary
        assert (summary.exit_code, summary.limited, summary.rows) == (0, 1, 1)


def test_a_burst_of_server_errors_is_ridden_out(tmp_path: Path) -> None:
    burst = [with_body(b"oops", status=f"{code} Trouble") for code in (500, 502, 503, 504)]
    with facing(tmp_path, *burst, good) as place:
        summary = place.fetch().summary
        assert (summary.exit_code, summary.requests, summary.rows) == (0, 5, 1)


def _after(number: int, answer: Answer) -> list[Answer]:
    return [good] * number + [answer]


def test_a_key_revoked_in_the_middle_exits_4_and_a_new_key_completes(tmp_path: Path) -> None:
    refused = with_body(b'{"message":"unauthorized."}', status="401 Unauthorized")
    asked = {"timeframe": "1Min", "start": "2024-01-02"}
    with facing(tmp_path, *_after(3, refused)) as place:
        fetched = place.fetch("AAAA,BBBB,CCCC", **asked)
        summary = fetched.summary
        assert (fetched.exit_code, summary.outcomes) == (4, {"staged": 3})
        assert summary.left == summary.planned - 3 > 0
        assert "APCA_API_KEY_ID" in summary.stopped
        assert summary.requests == 4
    with facing(tmp_path, good) as place:
        # The budget's record is another one: origin and key are new.
        place.more["APCA_API_SECRET_KEY"] = "the-new-one"
        again = place.fetch("AAAA,BBBB,CCCC", **asked)
        assert (again.exit_code, again.summary.planned, again.summary.left) == (0, summary.left, 0)
        assert all(b"the-new-one" in request for request in place.server.requests)
    holding = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert not [path for path in holding if any(word in path.read_bytes() for word in (SECRET.encode(), b"new-one"))]


def test_a_403_for_one_feed_is_recorded_as_not_entitled(tmp_path: Path) -> None:
    forbidden = with_body(b'{"message":"subscription does not permit querying"}', status="403 Forbidden")
    with facing(tmp_path, forbidden) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.outcomes) == (4, {"forbidden": 1})
        assert "subscription does not permit" in fetched.summary.stopped
        assert place.entries()[0].covers is False


def test_a_redirect_with_a_bomb_for_a_body_is_one_sentence_and_is_not_followed(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(64 << 20), 9)
    with FaultServer(good) as elsewhere:
        place_of = f"{elsewhere.origin}/v2/stocks/bars?next={SECRET}"
        redirect = says(whole(bomb, f"Location: {place_of}", "Content-Encoding: gzip", status="302 Found"))
        with facing(tmp_path, redirect) as place:
            ended = place.run()
            assert ended.returncode == 5
            assert "answers 302, a redirect to 127.0.0.1, which is not followed" in ended.stderr
            assert SECRET not in ended.stderr
            assert (elsewhere.connections, len(place.server.requests)) == (0, 1)
            assert place.run().returncode == 5  # nothing was marked as failed: it is asked again
            assert len(place.server.requests) == 2


PORTAL = b"<html><head><title>Welcome to Hotel\x1b[2J WiFi</title></head><body>" + b"Please log in. " * 50


@pytest.mark.parametrize(
    ("body", "kind", "seen"),
    [
        (PORTAL, "text/html", r"'<html><head><title>Welcome to Hotel\\x1b[2J WiFi</title></head>"),
        (b"", "application/json", "the answer is empty"),
        (b"\xff\xfe\x00garbage", "application/json", "the answer is not JSON but begins"),
    ],
    ids=["html", "nothing", "garbage"],
)
def test_a_captive_portal_stops_the_endpoint_and_every_chunk_stays_open(
    tmp_path: Path, body: bytes, kind: str, seen: str
) -> None:
    portal = with_body(body, f"Content-Type: {kind}")
    many = {"symbols": "AAAA,BBBB,CCCC", "timeframe": "1Min", "start": "2023-01-03"}
    with facing(tmp_path, portal) as place:
        fetched = place.fetch(**many)
        summary = fetched.summary
        assert (fetched.exit_code, summary.outcomes) == (5, {})
        assert seen in summary.stopped
        assert len(summary.stopped) < 400
        assert summary.left == summary.planned > 3
        assert summary.requests == 6
    with facing(tmp_path, good) as place:
        assert place.fetch(**many).summary.left == 0


def test_a_captive_portal_in_the_middle_of_a_run_stops_it(tmp_path: Path) -> None:
    many = {"symbols": "AAAA,BBBB,CCCC", "timeframe": "1Min", "start": "2023-01-03"}
    with facing(tmp_path, *_after(2, with_body(PORTAL))) as place:
        fetched = place.fetch(**many)
        assert (fetched.exit_code, fetched.summary.outcomes) == (5, {"staged": 2})
        assert fetched.summary.requests == 8


@pytest.mark.parametrize(("symbols", "requests"), [(["AAAA"], 4), ([f"{a}{b}" for a in "ABCDEFGH" for b in "XYZ"], 14)])
def test_one_chunk_alone_before_a_captive_portal_exits_5(tmp_path: Path, symbols: list[str], requests: int) -> None:
    with facing(tmp_path, with_body(PORTAL)) as place:
        fetched = place.fetch(",".join(symbols))
        assert (fetched.exit_code, fetched.summary.outcomes.get("failed", 0)) == (5, 0)
        assert fetched.summary.requests == requests
    with facing(tmp_path, good) as place:
        assert place.fetch(",".join(symbols)).summary.left == 0
        assert place.rows().num_rows == len(symbols)


def test_html_for_one_symbol_costs_that_symbol_alone(tmp_path: Path) -> None:
    def answer(peer: Peer) -> None:
        poisoned = b"BBBB" in peer.request
        peer.send(whole(PORTAL) if poisoned else page(bars(peer)))

    with facing(tmp_path, answer) as place:
        fetched = place.fetch("AAAA,BBBB,CCCC,DDDD", timeframe="1Hour")
        assert fetched.exit_code == 3
        assert {failure.symbol for failure in fetched.summary.failures} == {"BBBB"}
        assert set(place.rows()["symbol"].to_pylist()) == {"AAAA", "CCCC", "DDDD"}


def test_a_decompression_bomb_is_a_failed_chunk_and_no_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    with facing(tmp_path, with_body(bomb, "Content-Encoding: gzip")) as place:
        before = platform.memory_bytes(())  # of the tests so far, too
        fetched = place.fetch()
        assert fetched.exit_code == 3
        assert "the compressed answer inflates to over" in fetched.summary.failures[0].reason
        assert fetched.summary.peak_memory_bytes < before + (150 << 20)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_an_encoding_nobody_asked_for_is_a_failed_chunk_that_names_it(tmp_path: Path, coding: str) -> None:
    with facing(tmp_path, with_body(b"whatever", f"Content-Encoding: {coding}")) as place:
        fetched = place.fetch()
        assert fetched.exit_code == 3
        assert f"encoded as '{coding}', which was not asked for" in fetched.summary.failures[0].reason


@pytest.mark.parametrize(
    "fields",
    [[f"X-{number}: 1" for number in range(150)], ["X-Long: " + "x" * 70_000]],
    ids=["150 headers", "70 kB of one"],
)
def test_headers_beyond_all_bounds_stop_the_fetch_after_one_request(tmp_path: Path, fields: list[str]) -> None:
    with facing(tmp_path, says(whole(b"{}", *fields))) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.left, fetched.summary.requests) == (5, 1, 1)
        assert "headers are too many, too long or contradict each other" in fetched.summary.stopped


def test_two_lengths_that_contradict_each_other_stop_the_fetch_after_one_request(tmp_path: Path) -> None:
    with facing(tmp_path, says(head("Content-Length: 2", "Content-Length: 400") + b"{}")) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.requests) == (5, 1)


def test_bytes_after_an_answer_do_not_reach_the_next_chunk(tmp_path: Path) -> None:
    def with_more(peer: Peer) -> None:
        peer.send(page(bars(peer)) + page({"ZZZZ": []}))

    with facing(tmp_path, with_more) as place:
        fetched = place.fetch("AAAA,BBBB", timeframe="1Min", start="2024-03-01")
        assert fetched.exit_code == 0
        assert fetched.summary.requests == fetched.summary.pages == fetched.summary.rows > 2

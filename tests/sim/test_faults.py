"""What goes wrong on purpose, as a client sees it."""

import gzip
import zlib
from contextlib import closing

import orjson
import pytest
from simlab import KEYS, MARKET, Client, ask, bars_target, fixed

from stagingest.errors import UsageError
from stagingest.sim.faults import PAGES, WIRES
from stagingest.sim.policy import FAULT_KINDS, Fault, Policy
from stagingest.sim.server import Server

TRUE = bars_target(limit=10)


@pytest.fixture
def broken():
    """A server with the given faults; `broken(Fault(...))`."""
    running = []

    def start(*faults):
        server = Server(MARKET, Policy(faults=faults), clock=fixed).__enter__()
        running.append(server)
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def truth():
    with Server(MARKET, clock=fixed) as server:
        yield ask(server, TRUE)


def raw(server, headers=None):
    """Every byte of the answer, up to the close."""
    with closing(Client(server)) as client:
        client.send(TRUE, headers)
        return client.everything()


def body_of(data):
    return data.partition(b"\r\n\r\n")[2]


def test_a_status_comes_with_its_own_headers_and_body(broken):
    fault = Fault("status", status=429, headers=(("Retry-After", "0.5"),), body=b"slow down", nth=(2,))
    server = broken(fault)

    statuses = [ask(server, TRUE).status for _ in range(3)]

    assert statuses == [200, 429, 200]
    assert server.stats["faults"] == 1
    server.behave(Policy(faults=(Fault("status", status=302, headers=(("Location", "http://127.0.0.1:1/"),)),)))
    assert ask(server, TRUE).headers["location"] == "http://127.0.0.1:1/"


def test_a_body_is_cut_short_of_its_length(broken, truth):
    data = raw(broken(Fault("truncated")))

    assert f"Content-Length: {len(truth.body)}\r\n".encode() in data
    assert body_of(data) == truth.body[: len(truth.body) // 2]


def test_a_chunked_body_has_no_end(broken, truth):
    data = raw(broken(Fault("cut-chunked")))

    half = truth.body[: len(truth.body) // 2]
    assert b"Transfer-Encoding: chunked" in data
    assert b"Content-Length" not in data
    assert body_of(data) == b"%x\r\n%s\r\n" % (len(half), half)


def test_a_gzip_stream_has_no_end_mark_although_the_length_fits(broken, truth):
    for headers in (KEYS, KEYS | {"Accept-Encoding": "gzip"}):
        found = ask(broken(Fault("cut-gzip")), TRUE, headers)

        unpacker = zlib.decompressobj(31)
        assert truth.body.startswith(unpacker.decompress(found.body))
        assert not unpacker.eof
        with pytest.raises(EOFError):
            gzip.decompress(found.body)


def test_a_connection_is_reset(broken):
    with pytest.raises(ConnectionResetError):
        raw(broken(Fault("reset")))


def test_a_connection_is_closed_before_the_first_byte(broken):
    assert raw(broken(Fault("close"))) == b""


def test_a_request_hangs_until_it_is_released_and_others_go_on(broken, truth):
    server = broken(Fault("hang", nth=(1,)))
    with closing(Client(server)) as client:
        client.send(TRUE)
        assert server.hung.wait(10)
        assert ask(server, TRUE).body == truth.body
        server.release()
        assert client.receive().body == truth.body


def test_a_client_may_leave_while_its_request_hangs(broken, truth):
    server = broken(Fault("hang", nth=(1,)))
    with closing(Client(server)) as client:
        client.send(TRUE)
        assert server.hung.wait(10)
    server.release()

    assert ask(server, TRUE).body == truth.body


def test_a_slow_drip_arrives_whole(broken, truth):
    found = ask(broken(Fault("drip", piece_bytes=100, gap_s=0.001)), TRUE)

    assert found.body == truth.body


def test_a_body_is_no_json_although_its_length_fits(broken, truth):
    found = ask(broken(Fault("wrong-json")), TRUE)

    assert (found.status, found.body) == (200, truth.body[: len(truth.body) // 2])
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(found.body)


def test_a_token_repeats_itself(broken, truth):
    token = truth.json["next_page_token"]

    found = ask(broken(Fault("repeated-token")), f"{TRUE}&page_token={token.replace('=', '%3D')}")

    assert found.json["next_page_token"] == token


def test_the_first_page_comes_again_under_the_next_token(broken, truth):
    token = truth.json["next_page_token"].replace("=", "%3D")

    found = ask(broken(Fault("duplicate-page")), f"{TRUE}&page_token={token}").json

    assert found["bars"] == truth.json["bars"]
    assert found["next_page_token"] not in (None, truth.json["next_page_token"])


def test_rows_come_twice(broken, truth):
    bars = ask(broken(Fault("duplicate-rows")), TRUE).json["bars"]["AAA"]

    assert bars[0] == bars[1]
    assert bars[1:] == truth.json["bars"]["AAA"]


def test_rules_fire_by_count_route_text_and_chance(broken):
    server = broken(
        Fault("status", status=500, route="/v2/options"),
        Fault("status", status=502, contains="symbols=BBB", times=1),
        Fault("status", status=503, every=3, contains="symbols=AAA&"),
    )
    by_symbol = [ask(server, bars_target(symbols="BBB")).status for _ in range(2)]
    by_count = [ask(server, bars_target(symbols="AAA")).status for _ in range(6)]

    assert ask(server, "/v2/options/contracts").status == 500
    assert by_symbol == [502, 200]
    assert by_count == [200, 200, 503] * 2

    drawn = []
    for _ in range(2):
        server.behave(Policy(faults=(Fault("status", chance=0.5, seed=7),)))
        drawn.append([ask(server, TRUE).status for _ in range(20)])
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {200, 500}


def test_every_kind_of_fault_is_done_by_one_table():
    assert sorted([*WIRES, *PAGES]) == sorted(FAULT_KINDS)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="truncated"):
        Fault("explode")

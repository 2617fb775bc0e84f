"""The imitation over real sockets: connections, keys, limits, compression, log and counters."""

import gzip
import threading
from base64 import b64encode
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from simlab import KEYS, MARKET, NOON, Client, ask, bars_target, fixed

from stagingest.errors import UsageError
from stagingest.sim.policy import Limits, Policy
from stagingest.sim.server import Server

RATE = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@pytest.fixture
def server():
    with Server(MARKET, clock=fixed) as running:
        yield running


def serving(policy, **clocks):
    return Server(MARKET, policy, **({"clock": fixed} | clocks))


def test_one_connection_serves_request_after_request_in_their_order(server):
    targets = [bars_target(symbols=symbol) for symbol in ("AAA", "BBB", "CCC")]
    with closing(Client(server)) as client:
        for target in targets:
            client.send(target)

        found = [client.receive().json["bars"] for _ in targets]

    assert [list(bars) for bars in found] == [["AAA"], ["BBB"], ["CCC"]]
    assert {entry.connection for entry in server.log} == {1}


def test_many_connections_are_served_at_once_and_large_bodies_arrive_whole(server):
    target = bars_target(timeframe="1Min", end="2025-01-01", limit=10000)
    with closing(Client(server)) as slow:
        for _ in range(20):
            slow.send(target)  # some 20 MB wait in the server for this client to read
        bodies = [ask(server, target).body for _ in range(3)]
        late = [slow.receive().body for _ in range(20)]

    assert len({*bodies, *late}) == 1
    assert len(bodies[0]) > 1_000_000


def test_bodies_are_compressed_for_clients_that_accept_it_only(server):
    target = bars_target()
    plain, packed = ask(server, target), ask(server, target, KEYS | {"Accept-Encoding": "gzip, deflate"})

    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 2
    assert gzip.decompress(packed.body) == plain.body
    with serving(Policy(gzip=False)) as without:
        assert ask(without, target, KEYS | {"Accept-Encoding": "gzip"}).body == plain.body


def test_the_date_is_the_clocks(server):
    assert parsedate_to_datetime(ask(server, bars_target()).headers["date"]) == NOON


def test_a_cached_page_of_today_follows_the_clock():
    now = [NOON]
    target = bars_target(symbols="AAA", timeframe="1Min", start="2026-11-23", end="2026-11-23")
    with serving(Policy(), clock=lambda: now[0]) as server:
        first = ask(server, target).json["bars"]["AAA"]
        now[0] += timedelta(minutes=2)
        second = ask(server, target).json["bars"]["AAA"]

    assert len(second) == len(first) + 2
    assert second[: len(first)] == first


def test_slow_answers_keep_their_order_and_those_of_a_client_that_left_are_dropped():
    with serving(Policy(latency_s=0.01)) as server, closing(Client(server)) as client:
        with closing(Client(server)) as leaver:
            leaver.send(bars_target())
        for symbol in ("AAA", "BBB"):
            client.send(bars_target(symbols=symbol))

        assert [list(client.receive().json["bars"]) for _ in range(2)] == [["AAA"], ["BBB"]]


def test_the_connection_closes_when_either_side_wants_it(server):
    for policy, headers in ((Policy(), KEYS | {"Connection": "close"}), (Policy(keep_alive=False), KEYS)):
        server.behave(policy)
        with closing(Client(server)) as client:
            client.send(bars_target(), headers)
            assert client.everything().endswith(b'"next_page_token":null}')


@pytest.mark.parametrize("status", [401, 403])
def test_missing_and_wrong_keys_are_forbidden_without_rate_headers(status):
    policy = Policy(keys=(("K", "S"),), forbidden_status=status, rate_per_min=60)
    with serving(policy) as server:
        for headers in (
            {},
            {"APCA-API-KEY-ID": "K"},
            KEYS | {"APCA-API-SECRET-KEY": "x"},
            {"Authorization": "Basic !"},
        ):
            found = ask(server, bars_target(), headers)

            assert (found.status, found.json) == (status, {"message": "forbidden."})
            assert not set(RATE) & set(found.headers)


def test_pair_basic_and_bearer_are_accepted():
    basic = "Basic " + b64encode(b"K:S").decode()
    for headers in (KEYS, {"Authorization": basic}, {"Authorization": "Bearer S"}):
        for policy in (Policy(), Policy(keys=(("K", "S"),))):
            with serving(policy) as server:
                assert ask(server, bars_target(), headers).status == 200
    with serving(Policy(keys=(("K", "S"),))) as server:
        assert ask(server, bars_target(), {"Authorization": "Bearer other"}).status == 401


def test_a_bucket_refills_steadily_and_says_when():
    ticks = [1000.0]
    with serving(Policy(rate_per_min=60, burst=2), ticks=lambda: ticks[0]) as server:
        answers = [ask(server, bars_target()) for _ in range(3)]
        ticks[0] += 1.0
        again = [ask(server, bars_target()).status for _ in range(2)]

    assert [found.status for found in answers] == [200, 200, 429]
    assert [[found.headers[name] for name in RATE] for found in answers] == [
        ["60", "1", str(int(NOON.timestamp()) + 1)],
        ["60", "0", str(int(NOON.timestamp()) + 1)],
        ["60", "0", str(int(NOON.timestamp()) + 1)],
    ]
    assert "retry-after" not in answers[2].headers
    assert again == [200, 429]


def test_a_window_returns_its_whole_quota_at_the_minute():
    limits = Limits(Policy(rate_per_min=3, rate_mode="window"))
    base = 1_000_020.0  # a whole minute

    allowed = [limits.take("K", "data", base + at, 5000.0).allowed for at in (50, 51, 52, 53, 59, 60, 61)]
    last = limits.take("K", "data", base + 75, 5000.0)

    assert allowed == [True, True, True, False, False, True, True]
    assert dict(last.headers) == {
        "X-RateLimit-Limit": "3",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "5045",
    }


def test_each_key_and_each_host_has_its_own_budget():
    ticks = [1000.0]
    with serving(Policy(rate_per_min=60, trading_rate_per_min=120, burst=1), ticks=lambda: ticks[0]) as server:
        other = KEYS | {"APCA-API-KEY-ID": "K2"}
        listing = "/v2/options/contracts?underlying_symbols=NOPE"
        asked = [(bars_target(), KEYS), (bars_target(), KEYS), (bars_target(), other), (listing, KEYS), (listing, KEYS)]
        found = [ask(server, target, headers) for target, headers in asked]

    assert [one.status for one in found] == [200, 429, 200, 200, 429]
    assert [one.headers["x-ratelimit-limit"] for one in found] == ["60", "60", "60", "120", "120"]


def test_rate_headers_can_be_left_out_and_retry_after_sent():
    ticks = [1000.0]
    policy = Policy(rate_per_min=6, burst=1, rate_headers=False, retry_after=True)
    with serving(policy, ticks=lambda: ticks[0]) as server:
        first, second = ask(server, bars_target()), ask(server, bars_target())

    assert not set(RATE) & set(first.headers) | set(RATE) & set(second.headers)
    assert second.headers["retry-after"] == "10"


def test_errors_carry_rate_headers_as_the_provider_sends_them():
    ticks = [1000.0]
    with serving(Policy(rate_per_min=600, recent_sip=False), ticks=lambda: ticks[0]) as server:
        bad = ask(server, bars_target(limit=0))
        recent = ask(server, bars_target(end="2026-11-23"))

    assert (bad.status, set(RATE) <= set(bad.headers)) == (400, True)
    assert (recent.status, set(RATE) & set(recent.headers)) == (403, set())


def test_the_log_tells_every_request_and_no_header_value(server):
    ask(server, bars_target(symbols="AAA,BBB"))
    ask(server, "/v2/stocks/a%20b/bars?start=2024-01-01T00%3A00%3A00%2B00%3A00")

    first, second = server.log
    assert (first.path, dict(first.query)["symbols"], first.status) == ("/v2/stocks/bars", "AAA,BBB", 200)
    assert (second.path, dict(second.query)["start"], second.status) == (
        "/v2/stocks/a b/bars",
        "2024-01-01T00:00:00+00:00",
        400,
    )
    assert first.headers == ("Host", "APCA-API-KEY-ID", "APCA-API-SECRET-KEY")
    assert first.connection != second.connection
    assert first.at_s <= second.at_s


def test_the_log_is_bounded():
    with serving(Policy(log_size=3)) as server:
        for _ in range(5):
            ask(server, bars_target())
        assert len(server.log) == 3
        assert server.stats["requests"] == 5


def test_counters_are_served_and_reset(server):
    for target in (bars_target(), bars_target(limit=0), "/nothing"):
        ask(server, target)

    stats = ask(server, "/__stats").json
    assert stats["statuses"] == {"200": 1, "400": 1, "404": 1}
    assert stats["requests"] == stats["busiest_second"] == 3
    assert stats["rows"] > 40
    assert stats["connections"] == 4
    assert ask(server, "/__reset").json["requests"] == 0
    assert server.log == []


def test_only_get_is_served(server):
    with closing(Client(server)) as client:
        client.sock.sendall(b"POST /v2/stocks/bars HTTP/1.1\r\n\r\n")
        assert client.everything().startswith(b"HTTP/1.1 405")


def test_it_serves_in_the_callers_thread_until_it_is_stopped():
    server = Server(MARKET, clock=lambda: datetime(2026, 1, 5, 20, tzinfo=UTC))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    status = ask(server, bars_target()).status
    server.stop()
    thread.join(10)

    assert status == 200
    assert not thread.is_alive()


def test_an_error_of_its_own_is_raised_where_it_was_started():
    def broken():
        raise ZeroDivisionError

    server = Server(MARKET, clock=broken).__enter__()
    with closing(Client(server)) as client:
        client.send(bars_target())
        assert client.everything() == b""
    with pytest.raises(ZeroDivisionError):
        server.__exit__(None, None, None)


def test_an_unknown_choice_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"no empty shape.*\{\}, null"):
        Policy(empty_shape="none")

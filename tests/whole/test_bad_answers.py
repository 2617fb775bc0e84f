"""What a user sees when an answer arrives whole and is wrong (catalogue P and V)."""

import json
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from badlab import KEY, SECRET, bars, facing, good, page, query, with_bars, with_body
from desk import desk
from faultserver import Answer, Peer, whole

from stagingest.errors import PageError
from stagingest.fetching.worker import chunk as worker_chunk
from stagingest.http import retry
from stagingest.model.task import Outcome
from stagingest.providers.alpaca.endpoints import AlpacaStockBars
from stagingest.sim import policy


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries of a request there is no pause, unless the server asks for one."""
    monkeypatch.setattr(retry, "backoff_s", lambda *_: 0.0)


def text_of(peer: Peer) -> str:
    """A good page of what was asked, as text."""
    return page(bars(peer)).partition(b"\r\n\r\n")[2].decode()


def altered(old: str, new: str | bytes) -> Answer:
    """A good page in which some text is another."""

    def answer(peer: Peer) -> None:
        with_ = new if isinstance(new, bytes) else new.encode()
        assert old in text_of(peer)
        peer.send(whole(text_of(peer).encode().replace(old.encode(), with_)))

    return answer


# -- P: the payload --------------------------------------------------------------------------------------------


def test_no_beginning_of_a_page_is_a_page() -> None:
    endpoint = AlpacaStockBars()
    series = endpoint.canonical({})
    from stagingest.model.chunk import Chunk
    from stagingest.model.windows import Window

    chunk = Chunk(series, ("AAAA",), Window(datetime(2024, 5, 1).date(), datetime(2024, 6, 1).date()))
    request = endpoint.first(chunk)
    bar = {"t": "2024-05-01T04:00:00Z", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}
    body = json.dumps({"bars": {"AAAA": [bar] * 3}, "next_page_token": None}).encode()
    for end in range(len(body)):
        with pytest.raises(PageError):
            endpoint.read(chunk, request, body[:end])
    # Lines of JSON have beginnings that are whole: no answer of several documents is read.
    with pytest.raises(PageError):
        endpoint.read(chunk, request, body + b"\n" + body)


MALFORMED = {
    "NaN": altered('"c": 2.0', '"c": NaN'),
    "Infinity": altered('"c": 2.0', '"c": Infinity'),
    "a number beyond all doubles": altered('"c": 2.0', '"c": 1e400'),
    "a lone surrogate": altered('"next_page_token": null', '"note": "\\ud800"'),
    "bad UTF-8": altered('"next_page_token": null', b'"note": "\xff\xfe"'),
    "1025 brackets": altered('"next_page_token": null', '"note": ' + "[" * 1025 + "]" * 1025),
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_asked_again_and_kept_for_a_person_to_look_at(tmp_path: Path, answer: Answer) -> None:
    with facing(tmp_path / "once", answer, good) as place:
        summary = place.fetch().summary
        assert (summary.exit_code, summary.requests, summary.rows) == (0, 2, 1)
        (kept,) = place.kept()
        assert kept.startswith(b'{"bars": {"AAAA"')
    with facing(tmp_path / "always", answer) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.rows) == (3, 0)
        reason = fetched.summary.failures[0].reason
        assert "The answer is not JSON" in reason or "instead of a number" in reason
        assert "kept in quarantine/" in reason
        assert [entry.covers for entry in place.entries()] == [False]


def test_a_byte_order_mark_before_the_page_is_asked_again(tmp_path: Path) -> None:
    with facing(tmp_path, altered('{"bars"', b'\xef\xbb\xbf{"bars"'), good) as place:
        assert place.fetch().summary.rows == 1


def test_kept_bodies_are_few_short_for_the_user_alone_and_hold_no_key(tmp_path: Path) -> None:
    long = with_body(json.dumps({"message": f"{KEY} and {SECRET}", "more": "x" * 200_000}).encode())
    with facing(tmp_path, long) as place:
        place.fetch("AAAA,BBBB,CCCC,DDDD,EEEE")
        paths = list((place.staging / "quarantine").iterdir())
        assert len(paths) == 3
        for path in paths:
            assert path.stat().st_size <= 64 << 10
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert b'"message": "*** and ***"' in path.read_bytes()


def test_half_a_key_is_not_quoted_either(tmp_path: Path) -> None:
    """A reason shows the first characters of what it quotes; they may be the first of a key."""
    with facing(tmp_path, altered('"c": 2.0', json.dumps("c")[:-1] + '": "' + "x" * 30 + SECRET + '"')) as place:
        reason = place.fetch().summary.failures[0].reason
        assert SECRET[:8] not in reason
        assert "xxx" in reason


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("n", 2**63, "a whole number of 64 bits"),
        ("n", 1e300, "a whole number of 64 bits"),
        ("n", 1.5, "a whole number of 64 bits"),
        ("n", -(2**64), "a whole number of 64 bits"),
        ("c", None, "a number"),
        ("c", "2.0", "a number"),
        ("v", "100", "a number"),
        ("o", True, "a number"),
        ("t", 1714536000, "an RFC 3339 timestamp"),
        ("t", "yesterday", "an RFC 3339 timestamp"),
        ("h", [1], "a number"),
    ],
)
def test_a_field_of_the_wrong_kind_fails_the_chunk_and_names_field_and_symbol(
    tmp_path: Path, field: str, value: Any, wanted: str
) -> None:
    with facing(tmp_path, with_bars(**{field: value})) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.rows) == (3, 0)
        reason = fetched.summary.failures[0].reason
        assert reason.startswith("In a bar of AAAA, ")
        assert f"field '{field}' is " in reason
        assert wanted in reason


def test_a_renamed_field_fails_the_chunk_and_names_the_one_that_is_missing(tmp_path: Path) -> None:
    with facing(tmp_path, altered('"c": ', '"close": ')) as place:
        assert "field 'c' is missing" in place.fetch().summary.failures[0].reason


def test_a_null_average_stays_null_and_is_never_zero(tmp_path: Path) -> None:
    with facing(tmp_path, with_bars(vw=None, n=None)) as place:
        assert place.fetch().exit_code == 0
        assert place.rows().select(["vwap", "trade_count"]).to_pylist() == [{"vwap": None, "trade_count": None}]


def test_fields_nobody_knows_are_named_once_in_the_summary(tmp_path: Path) -> None:
    with facing(tmp_path, with_bars(vwap_2=1.0, auction="x\x1b[2J")) as place:
        ended = place.run("--max-rps", "1000", "--timeframe", "1Min", symbols="AAAA,BBBB")
        assert ended.returncode == 0
        assert ended.stderr.count("Not stored: fields auction, vwap_2 of the provider's rows") == 1
        assert place.fetch("CCCC").summary.unknown_fields == ("auction", "vwap_2")


def _of_another_symbol(peer: Peer) -> None:
    peer.send(page({**bars(peer), "ZZZZ": bars(peer)["AAAA"]}))


def test_a_row_of_another_symbol_is_not_staged_and_named(tmp_path: Path) -> None:
    with facing(tmp_path / "once", _of_another_symbol, good) as place:
        assert place.fetch().summary.rows == 1
    with facing(tmp_path / "always", _of_another_symbol) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.rows) == (3, 0)
        assert "The page has bars of ZZZZ, which was not asked for" in fetched.summary.failures[0].reason


@pytest.mark.parametrize("stamp", ["2024-04-30T03:59:59Z", "2024-06-01T04:00:00Z", "1970-01-01T00:00:00Z"])
def test_a_row_outside_the_window_is_not_staged_and_named(tmp_path: Path, stamp: str) -> None:
    with facing(tmp_path, with_bars(t=stamp)) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.rows) == (3, 0)
        reason = fetched.summary.failures[0].reason
        assert f"A bar of AAAA is stamped {stamp[:10]}" in reason
        assert "outside of what was asked: 2024-05-01T04:00:00Z to" in reason


def _twice(**second: Any) -> Answer:
    def answer(peer: Peer) -> None:
        peer.send(page({name: [*found, {**found[0], **second}] for name, found in bars(peer).items()}))

    return answer


def test_rows_that_come_twice_are_staged_once(tmp_path: Path) -> None:
    with facing(tmp_path, _twice()) as place:
        assert (place.fetch().exit_code, place.rows().num_rows) == (0, 1)


def test_two_rows_of_one_instant_that_differ_are_a_conflict_and_neither_is_staged(tmp_path: Path) -> None:
    with facing(tmp_path, _twice(c=2.25)) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.outcomes) == (3, {"conflict": 1})
        assert "two rows for AAAA 2024-05-01 04:00:00 differ" in fetched.summary.failures[0].reason
        assert [entry.covers for entry in place.entries()] == [False]
    with facing(tmp_path, good) as place:
        assert place.fetch().summary.rows == 1


def test_a_symbol_in_conflict_costs_the_others_of_its_chunk_nothing(tmp_path: Path) -> None:
    def answer(peer: Peer) -> None:
        spoiled = {name: [*found, {**found[0], "c": 2.25}] for name, found in bars(peer).items() if name > "CCCC"}
        peer.send(page({**bars(peer), **spoiled}))

    with facing(tmp_path, answer) as place:
        for requests in (2, 1):
            fetched = place.fetch("AAAA,BBBB,CCCC,DDDD,EEEE")
            assert (fetched.exit_code, fetched.summary.requests) == (3, requests)
            assert {failure.symbol: failure.outcome for failure in fetched.summary.failures} == {
                "DDDD": "conflict", "EEEE": "conflict",
            }  # fmt: skip
            assert "two rows for EEEE 2024-05-01 04:00:00 differ" in fetched.summary.failures[1].reason
            assert set(place.rows()["symbol"].to_pylist()) == {"AAAA", "BBBB", "CCCC"}


def test_rows_out_of_order_are_staged_in_order(tmp_path: Path) -> None:
    def backwards(peer: Peer) -> None:
        days = ("2024-05-03", "2024-05-01", "2024-05-02")
        found = {name: [{**one[0], "t": f"{day}T04:00:00Z"} for day in days] for name, one in bars(peer).items()}
        peer.send(page(dict(reversed(found.items()))))

    with facing(tmp_path, backwards) as place:
        assert place.fetch("AAAA,BBBB").exit_code == 0
        rows = [(row["symbol"], row["ts"].day) for row in place.rows().select(["symbol", "ts"]).to_pylist()]
        assert rows == [("AAAA", 1), ("AAAA", 2), ("AAAA", 3), ("BBBB", 1), ("BBBB", 2), ("BBBB", 3)]


@pytest.mark.parametrize("code", [b"", b'"code":50010000,'], ids=["bare", "with a code"])
def test_an_error_with_status_200_is_told_and_is_not_taken_for_no_data(tmp_path: Path, code: bytes) -> None:
    with facing(tmp_path, with_body(b'{%s"message":"internal server \\u001b[31merror"}' % code)) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.outcomes) == (3, {"failed": 1})
        assert "The answer is an error: internal server \\x1b[31merror" in fetched.summary.failures[0].reason
        assert [entry.covers for entry in place.entries()] == [False]


# -- V: the provider's ways ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [("again", "again"), ("one", "two", "one")], ids=["the same", "a cycle"])
def test_page_tokens_that_go_in_a_circle_end_with_a_reason(tmp_path: Path, tokens: tuple[str, ...]) -> None:
    with facing(tmp_path, *(with_bars(token) for token in tokens)) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.rows) == (3, 0)
        assert "page tokens go in a circle" in fetched.summary.failures[0].reason
        assert fetched.summary.requests == len(tokens)


def _turning(number: int, answer: Answer) -> Iterator[Answer]:
    """`number` empty pages with a token each, then an answer."""
    yield from (with_body(json.dumps({"bars": {}, "next_page_token": f"t{i}"}).encode()) for i in range(number))
    yield answer


def test_twenty_empty_pages_are_followed_and_no_more(tmp_path: Path) -> None:
    with facing(tmp_path / "enough", *_turning(20, good)) as place:
        assert (place.fetch().exit_code, place.rows().num_rows) == (0, 1)
    with facing(tmp_path / "too many", *_turning(21, good)) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.rows) == (3, 0)
        assert "20 empty pages in a row" in fetched.summary.failures[0].reason


def test_a_chunk_of_more_pages_than_the_cap_is_capped_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_chunk, "PAGE_CAP", 5)

    def endless(peer: Peer) -> None:
        number = int(query(peer).get("page_token", "0")) + 1
        peer.send(page(bars(peer), str(number)))

    with facing(tmp_path, endless) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.outcomes) == (3, {"capped": 1})
        assert "more than 5 pages" in fetched.summary.failures[0].reason
        assert fetched.summary.requests == 5
        assert fetched.summary.to_do == 1


def test_a_page_token_that_expired_begins_the_chunk_anew_once(tmp_path: Path) -> None:
    refused = with_body(b'{"message":"invalid page token"}', status="400 Bad Request")
    with facing(tmp_path / "once", with_bars("one"), refused, good) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.requests, fetched.summary.rows) == (0, 3, 1)
    with facing(tmp_path / "always", with_bars("one"), refused, with_bars("two"), refused) as place:
        fetched = place.fetch()
        assert (fetched.exit_code, fetched.summary.outcomes) == (3, {"failed": 1})
        assert "invalid page token" in fetched.summary.failures[0].reason
        assert [entry.covers for entry in place.entries()] == [False]


def test_no_data_today_is_asked_again_tomorrow_and_never_once_it_is_history(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=["AAAA"], now=datetime(2024, 6, 3, 22, 0, tzinfo=UTC)) as place:
        empty = policy.Fault("status", status=200, body=b'{"bars":{},"next_page_token":null}')
        place.server.behave(policy.Policy(faults=(empty,)))
        asked = {"symbols": ["AAAA"], "start": "2024-06-03", "end": "2024-06-03", "realtime": True}
        fetched = place.fetch(**asked)
        assert (fetched.summary.outcomes, fetched.summary.provisional) == ({"empty": 1}, 1)
        place.server.behave(policy.Policy())
        place.now = datetime(2024, 6, 4, 22, 0, tzinfo=UTC)
        place.requests()
        assert place.fetch(**asked).summary.rows == 1
        assert place.requests() == 1
        place.now = datetime(2024, 6, 5, 22, 0, tzinfo=UTC)
        assert place.fetch(**asked).summary.planned == 0
        assert place.requests() == 0
        assert [entry.outcome for entry in place.entries()] == [Outcome.EMPTY, Outcome.STAGED]


def test_a_delisted_symbol_costs_that_symbol_alone(tmp_path: Path) -> None:
    def answer(peer: Peer) -> None:
        if "GONE" in query(peer)["symbols"].split(","):
            peer.send(whole(b'{"message":"symbol was delisted"}', status="422 Unprocessable Entity"))
        else:
            good(peer)

    with facing(tmp_path, answer) as place:
        place.fetch("AAAA", start="2024-04-01", end="2024-04-30")
        fetched = place.fetch("AAAA,BBBB,CCCC,DDDD,GONE")
        assert fetched.exit_code == 3
        assert [(f.symbol, f.outcome) for f in fetched.summary.failures] == [("GONE", "refused")]
        assert "symbol was delisted" in fetched.summary.failures[0].reason
        assert set(place.rows()["symbol"].to_pylist()) == {"AAAA", "BBBB", "CCCC", "DDDD"}


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oops", "503 Busy"])
def test_a_request_is_never_cut_because_of_limits_or_trouble(tmp_path: Path, status: str) -> None:
    trouble = with_body(b"{}", "Retry-After: 0", status=status)
    with facing(tmp_path, trouble, trouble, trouble, good) as place:
        assert place.fetch("AAAA,BBBB,CCCC").exit_code == 0
        assert {query(peer)["symbols"] for peer in map(_Asked, place.server.requests)} == {"AAAA,BBBB,CCCC"}


class _Asked:
    def __init__(self, request: bytes) -> None:
        self.request = request

"""What an exchange means, line by line."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagingest.http import classify, retry
from stagingest.http import headers as http_headers
from stagingest.http.classify import Action, Decision
from stagingest.http.response import Reply, TransportFault
from stagingest.http.retry import RetryBudget
from stagingest.model import secrets

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): text for name, text in headers.items()}, body, NOON, 0.1)


def judged(exchange: Reply | TransportFault, attempt: int = 1, symbols: int = 5) -> Decision:
    return classify.classify(exchange, attempt=attempt, symbols=symbols)


@pytest.mark.parametrize(
    ("kind", "expected", "tries", "cost"),
    [
        ("dns", Action.RETRY, 4, 5),
        ("connect", Action.RETRY, 4, 5),
        ("reset", Action.RETRY, 4, 5),
        ("timeout", Action.RETRY, 3, 10),
        ("truncated", Action.RETRY, 3, 5),
        ("decode", Action.RETRY, 3, 5),
        ("aborted", Action.RETRY, 1, 0),
        ("tls", Action.STOP, 1, 0),
        ("header", Action.STOP, 1, 0),
        ("redirect", Action.STOP, 1, 0),
    ],
)
def test_a_fault_is_retried_as_often_as_it_can_help(kind: str, expected: Action, tries: int, cost: int) -> None:
    decision = judged(TransportFault(kind, "host: what happened"))

    assert (decision.kind, decision.tries, decision.cost) == (expected, tries, cost)
    assert decision.reason == "host: what happened"
    assert decision.unreachable == (kind in ("dns", "connect"))


@pytest.mark.parametrize(
    ("status", "expected", "tries", "cost"),
    [
        (200, Action.PAGE, 1, 0),
        (204, Action.RETRY, 3, 5),
        (400, Action.SPLIT, 1, 0),
        (401, Action.CREDENTIALS, 1, 0),
        (402, Action.FORBIDDEN, 1, 0),
        (403, Action.FORBIDDEN, 1, 0),
        (404, Action.SPLIT, 1, 0),
        (405, Action.RETRY, 1, 0),
        (408, Action.RETRY, 5, 5),
        (413, Action.SPLIT, 1, 0),
        (414, Action.SPLIT, 1, 0),
        (418, Action.RETRY, 1, 0),
        (422, Action.SPLIT, 1, 0),
        (425, Action.RETRY, 5, 5),
        (429, Action.LIMITED, classify.NO_END, 0),
        (500, Action.RETRY, 5, 5),
        (502, Action.RETRY, 5, 5),
        (503, Action.RETRY, 5, 5),
        (504, Action.RETRY, 5, 5),
        (599, Action.RETRY, 5, 5),
    ],
)
def test_a_status_decides(status: int, expected: Action, tries: int, cost: int) -> None:
    decision = judged(reply(status, b'{"message":"why"}'))

    assert (decision.kind, decision.tries, decision.cost) == (expected, tries, cost)
    assert decision.reason.endswith(f"({status}: why)") == (status != 200)


def test_a_503_that_says_when_to_come_back_is_a_limit() -> None:
    decision = judged(reply(503, retry_after="30"))

    assert (decision.kind, decision.wait_s, decision.cost) == (Action.LIMITED, 30.0, 0)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry_after": "2", "x_ratelimit_reset": str(int(NOON.timestamp()) + 40)}, 2.0),
        ({"retry_after": "rubbish", "x_ratelimit_reset": str(int(NOON.timestamp()) + 40)}, 40.0),
        ({"x_ratelimit_reset": str(int(NOON.timestamp()) + 4000)}, 900.0),
        ({"x_ratelimit_reset": str(int(NOON.timestamp()) - 5)}, None),
        ({"x_ratelimit_reset": "60"}, None),
        ({}, None),
    ],
)
def test_a_429_waits_as_long_as_the_provider_says(headers: dict[str, str], wait_s: float | None) -> None:
    assert judged(reply(429, **headers)).wait_s == wait_s


@pytest.mark.parametrize(
    ("message", "bad"),
    [
        ("invalid symbol: CSP1", ("CSP1",)),
        ("invalid symbol: TAOP:NASDAQ", ("TAOP:NASDAQ",)),
        ("Invalid symbols: A1, B-2", ("A1", "B-2")),
        ("code 40010001: invalid symbol: X9.", ("X9",)),
        ("option contract TSLA231110C00021000 not found", ("TSLA231110C00021000",)),
        ("Could not parse the date.", ()),
    ],
)
def test_the_symbol_a_refusal_names_is_known(message: str, bad: tuple[str, ...]) -> None:
    assert judged(reply(400, b'{"message":"%s"}' % message.encode())).bad == bad


def test_a_bad_symbol_is_found_however_long_the_message() -> None:
    assert judged(reply(400, b"x" * 3000 + b" invalid symbol: CSP1")).bad == ("CSP1",)


@pytest.mark.parametrize(
    ("status", "message", "recent"),
    [
        (403, "subscription does not permit querying recent SIP data", True),
        (403, "OPRA agreement is not signed", False),
        (402, "recent", False),
    ],
)
def test_a_refusal_of_recent_data_is_told_apart(status: int, message: str, recent: bool) -> None:
    decision = judged(reply(status, message.encode()))

    assert (decision.kind, decision.recent) == (Action.FORBIDDEN, recent)


def test_a_403_names_both_of_its_causes() -> None:
    decision = judged(reply(403, b'{"message":"forbidden."}'))

    assert decision.reason == "not entitled, or the key is wrong (403: forbidden.)"


@pytest.mark.parametrize(
    ("attempt", "symbols", "expected"),
    [(1, 5, Action.RETRY), (2, 5, Action.SPLIT), (2, 1, Action.RETRY), (3, 1, Action.RETRY)],
)
def test_a_page_that_is_malformed_twice_is_asked_in_parts(attempt: int, symbols: int, expected: Action) -> None:
    assert classify.malformed("not JSON", attempt, symbols).kind is expected
    assert judged(TransportFault("decode", "damaged"), attempt, symbols).kind is expected


@pytest.mark.parametrize("kind", ["timeout", "reset", "truncated", "connect"])
def test_trouble_on_the_way_never_splits_a_request(kind: str) -> None:
    assert judged(TransportFault(kind, "x"), attempt=3).kind is Action.RETRY


def test_an_answer_too_large_is_asked_in_parts_and_of_one_symbol_not_again() -> None:
    assert judged(TransportFault("too_large", "x"), symbols=2).kind is Action.SPLIT
    one = judged(TransportFault("too_large", "x"), symbols=1)
    assert (one.kind, one.tries) == (Action.RETRY, 1)


# -- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message":"forbidden."}', "forbidden."),
        (b'{"status":"ERROR","request_id":"1","error":"Unknown API Key"}', "Unknown API Key"),
        (b'{"code":40410000,"message":" spaced "}', "spaced"),
        (b'{"message":5}', '{"message":5}'),
        (b"[1]", "[1]"),
        (b"404 page not found\n", "404 page not found"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", ""),
        (b"[" * 4096, "[" * 4096),
    ],
)
def test_the_providers_message_is_found(body: bytes, message: str) -> None:
    assert classify.message_of(body) == message


@given(st.binary(max_size=300))
def test_any_error_body_becomes_one_printable_sentence(body: bytes) -> None:
    reason = judged(reply(500, body)).reason

    assert reason.isprintable()
    assert 0 < len(reason) <= 200


def test_terminal_codes_and_line_breaks_do_not_reach_the_terminal() -> None:
    assert secrets.plain("\x1b[31mred\r\n\u202e") == "\\x1b[31mred\\r\\n\\u202e"


def test_long_text_is_cut_where_it_shows() -> None:
    assert secrets.plain("x" * 201) == "x" * 199 + "…"
    assert secrets.plain("x" * 200) == "x" * 200


# -- waiting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("1m0s", 60.0),
        ("1h", 900.0),
        ("1m1.5s", 61.5),
        ("250ms", 0.25),
        ("901", 900.0),
        ("Mon, 23 Nov 2026 12:00:10 GMT", 10.0),
        ("Mon, 23 Nov 2026 11:59:00 GMT", 0.0),
        (str(int(NOON.timestamp()) + 33), 33.0),
        (str(int(NOON.timestamp() * 1000) + 33_500), 33.5),
        ("100000000000", 900.0),
        ("9" * 20, 900.0),
        ("-3", None),
        ("", None),
        ("soon", None),
        ("1,5", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("٣", None),
        ("9" * 5000, None),
        ("s", None),
        ("Mon, 99 Nov 2026 12:00:10 GMT", None),
    ],
)
def test_every_spelling_of_retry_after_is_understood(text: str, wait_s: float | None) -> None:
    assert http_headers.retry_after_s(text, NOON) == wait_s


@pytest.mark.parametrize("text", ["Mon, 23 Nov 2026 12:00:10 GMT", "1795435233"])
def test_a_point_in_time_says_nothing_without_the_servers_clock(text: str) -> None:
    assert http_headers.retry_after_s(text, None) is None


@given(st.text() | st.from_regex(r"[0-9hms.: GMT,-]{0,40}"), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_no_retry_after_raises_or_asks_for_more_than_15_minutes(text: str, date: datetime | None) -> None:
    wait_s = http_headers.retry_after_s(text, date)

    assert wait_s is None or 0 <= wait_s <= 900


@given(st.integers(0, 3600))
def test_an_http_date_is_measured_from_the_servers_clock(ahead_s: int) -> None:
    text = format_datetime(NOON + timedelta(seconds=ahead_s), usegmt=True)

    assert http_headers.retry_after_s(text, NOON) == min(ahead_s, 900)


def test_rate_headers_are_read_by_the_servers_clock() -> None:
    seconds = int(NOON.timestamp())
    headers = {"x-ratelimit-limit": "200", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(seconds + 12)}

    assert http_headers.rate_headers(headers, NOON) == (200, 0, 12.0)
    assert http_headers.rate_headers(headers, None) == (200, 0, None)
    assert http_headers.rate_headers(headers, NOON + timedelta(hours=1)).reset_in_s == 0.0


@pytest.mark.parametrize("text", ["\u00b2", "\u0663", "9" * 5000, "-1", "1.5", ""])
def test_a_rate_header_that_is_no_number_is_nothing(text: str) -> None:
    assert http_headers.rate_headers({"x-ratelimit-limit": text}, NOON) == (None, None, None)


@given(st.dictionaries(st.sampled_from(["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]), st.text()))
def test_garbage_in_rate_headers_is_nothing(headers: dict[str, str]) -> None:
    for name, value in zip(("limit", "remaining", "reset"), http_headers.rate_headers(headers, NOON), strict=True):
        text = headers.get(f"x-ratelimit-{name}", "")
        assert value is None or (text.isascii() and text.isdigit())


def test_backoff_doubles_up_to_its_cap_and_is_drawn_at_random() -> None:
    assert [retry.backoff_s(attempt, 0.5, 30.0, lambda: 1.0) for attempt in (1, 2, 3, 7, 5000)] == [
        0.5,
        1.0,
        2.0,
        30.0,
        30.0,
    ]
    assert retry.backoff_s(3, 0.5, 30.0, lambda: 0.25) == 0.5


def test_a_timeout_backs_off_twice_as_long_as_a_reset() -> None:
    timeout, reset = judged(TransportFault("timeout", "x")), judged(TransportFault("reset", "x"))

    assert (timeout.base_s, timeout.cap_s) == (2 * reset.base_s, 2 * reset.cap_s)


# -- budget ------------------------------------------------------------------------------------------------------


def test_retries_stop_when_the_budget_is_spent() -> None:
    budget: RetryBudget | None = RetryBudget()
    spent = 0
    while budget := budget.after_retry(5):
        spent += 1

    assert spent == 100


def test_first_try_answers_earn_retries_back_up_to_the_start() -> None:
    low = RetryBudget(tokens=4)

    assert low.after_retry(5) is None
    assert low.after_success(first_try=False) == low
    assert low.after_success(first_try=True).after_retry(5) == RetryBudget(tokens=0)
    assert RetryBudget().after_success(first_try=True) == RetryBudget()

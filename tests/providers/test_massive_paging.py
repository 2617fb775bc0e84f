"""A `next_url` is data: 28 addresses, of which five are harmless, and what each of them could do."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagingest.errors import PageError
from stagingest.model.page import Origin
from stagingest.providers.massive.paging import Cursor, cursor

ROUTE = "/v3/reference/options/contracts"
BASE = "https://api.massive.com"
ORIGINS = frozenset(map(Origin.of, ("https://api.massive.com", "https://api.polygon.io", "http://127.0.0.1:8801")))
TOKEN = "YXA9JTdCJTIySUQlMjI"

HARMLESS = {
    "the provider's own host": f"{BASE}{ROUTE}?cursor={TOKEN}",
    "its old name": f"https://api.polygon.io{ROUTE}?cursor={TOKEN}",
    "the port that https means anyway": f"{BASE}:443{ROUTE}?cursor={TOKEN}",
    "the host in capitals": f"https://API.Massive.COM{ROUTE}?cursor={TOKEN}",
    "a key in the query, which is left behind": f"{BASE}{ROUTE}?apiKey=SECRET&cursor={TOKEN}&limit=9",
}
REFUSED = {
    "another host gets the keys": f"https://evil.example{ROUTE}?cursor={TOKEN}",
    "startswith(BASE) is true of a user name": f"{BASE}@evil.example{ROUTE}?cursor={TOKEN}",
    "a user name on the right host changes Authorization": f"https://user:word@api.massive.com{ROUTE}?cursor={TOKEN}",
    "startswith(BASE) is true of a longer host": f"{BASE}.evil.example{ROUTE}?cursor={TOKEN}",
    "endswith(host) is true of a prefix": f"https://evil-api.massive.com{ROUTE}?cursor={TOKEN}",
    "http shows the keys to the network": f"http://api.massive.com{ROUTE}?cursor={TOKEN}",
    "another port is another server": f"{BASE}:8443{ROUTE}?cursor={TOKEN}",
    "another path asks another question": f"{BASE}/v3/reference/tickers?cursor={TOKEN}",
    "dots walk to another path": f"{BASE}{ROUTE}/../tickers?cursor={TOKEN}",
    "encoded slashes are slashes to some servers": f"{BASE}/v3%2Freference/options/contracts?cursor={TOKEN}",
    "a line break begins a header": f"{BASE}{ROUTE}?cursor={TOKEN}\r\nX-Evil: 1",
    "a tab vanishes when the address is read": f"{BASE[:12]}\t{BASE[12:]}{ROUTE}?cursor={TOKEN}",
    "a letter that looks like another": f"https://api.m\N{CYRILLIC SMALL LETTER A}ssive.com{ROUTE}?cursor={TOKEN}",
    "a cursor beyond ASCII": f"{BASE}{ROUTE}?cursor={TOKEN}\N{SNOWMAN}",
    "ten kilobytes": f"{BASE}{ROUTE}?cursor={'A' * 10_000}",
    "two cursors: which one counts?": f"{BASE}{ROUTE}?cursor={TOKEN}&cursor=other",
    "an empty cursor begins again": f"{BASE}{ROUTE}?cursor=",
    "no cursor begins again": f"{BASE}{ROUTE}?limit=1000",
    "no scheme": f"api.massive.com{ROUTE}?cursor={TOKEN}",
    "two slashes take the scheme of whoever reads it": f"//api.massive.com{ROUTE}?cursor={TOKEN}",
    "a backslash is a slash to some readers": f"https://api.massive.com\\@evil.example{ROUTE}?cursor={TOKEN}",
    "a fragment hides what follows": f"{BASE}{ROUTE}#?cursor={TOKEN}",
    "a host with a dot at its end has another certificate": f"https://api.massive.com.{ROUTE}?cursor={TOKEN}",
}


def test_there_are_28_addresses() -> None:
    assert (len(HARMLESS), len(REFUSED)) == (5, 23)


@pytest.mark.parametrize("url", HARMLESS.values(), ids=HARMLESS)
def test_the_cursor_of_a_harmless_address_is_taken_and_nothing_else_of_it(url: str) -> None:
    assert cursor(url, ROUTE, ORIGINS) == Cursor(TOKEN, ROUTE)


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED)
def test_an_address_that_could_lead_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(PageError, match=r"^The next_url is not followed: [ -~]{1,150}\.$"):
        cursor(url, ROUTE, ORIGINS)


MORE = {
    "a port that is none": f"{BASE}:port{ROUTE}?cursor={TOKEN}",
    "a port beyond all ports": f"{BASE}:99999{ROUTE}?cursor={TOKEN}",
    "a bracket without its other": f"https://[::1{ROUTE}?cursor={TOKEN}",
    "a host that is only a port": f"https://:443{ROUTE}?cursor={TOKEN}",
    "another scheme": f"ftp://api.massive.com{ROUTE}?cursor={TOKEN}",
    "a line break under another name": f"{BASE}{ROUTE}?cursor={TOKEN}%0d%0aX-Evil:1",
    "a zero byte": f"{BASE}{ROUTE}?cursor={TOKEN}\0",
    "a blank in front": f" {BASE}{ROUTE}?cursor={TOKEN}",
    "a slash too many": f"{BASE}/{ROUTE}?cursor={TOKEN}",
    "port 0 is no default": f"{BASE}:0{ROUTE}?cursor={TOKEN}",
    "the loopback of the imitation at another port": f"http://127.0.0.1:8802{ROUTE}?cursor={TOKEN}",
    "an encoded host": f"https://api%2emassive.com{ROUTE}?cursor={TOKEN}",
    "no text at all": {"cursor": TOKEN},
    "a number": 7,
}


@pytest.mark.parametrize("url", MORE.values(), ids=MORE)
def test_other_forms_are_refused_too(url: object) -> None:
    with pytest.raises(PageError, match="next_url"):
        cursor(url, ROUTE, ORIGINS)


def test_nothing_in_next_url_is_the_end() -> None:
    assert cursor(None, ROUTE, ORIGINS) is None
    assert cursor("", ROUTE, ORIGINS) is None


def test_the_configured_base_may_stand_in_next_url() -> None:
    assert cursor(f"http://127.0.0.1:8801{ROUTE}?cursor=a%2Bb", ROUTE, ORIGINS) == Cursor("a+b", ROUTE)


AGGREGATES = "/v2/aggs/ticker/{}/range/{}/2020-01-10"


@pytest.mark.parametrize("since", ["1578114000000", "2020-01-04"])
def test_aggregates_go_on_from_a_later_start(since: str) -> None:
    asked, following = (AGGREGATES.format("O:SPY", f"1/day/{start}") for start in ("2020-01-01", since))
    assert cursor(f"{BASE}{following}?cursor={TOKEN}", asked, ORIGINS) == Cursor(TOKEN, following)


@pytest.mark.parametrize(
    ("ticker", "rest"),
    [
        ("MSFT", "1/day/1578114000000/2020-01-10"),
        ("AAPL", "5/day/1578114000000/2020-01-10"),
        ("AAPL", "1/minute/1578114000000/2020-01-10"),
        ("AAPL", "1/day/1578114000000/2020-01-11"),
        ("AAPL", "1/day/..%2f1578114000000/2020-01-10"),
        ("AAPL", "1/day/1578114000000/x/2020-01-10"),
        ("AAPL", "1/day//2020-01-10"),
    ],
)
def test_of_aggregates_nothing_but_the_start_may_change(ticker: str, rest: str) -> None:
    asked = AGGREGATES.format("AAPL", "1/day/2020-01-01")
    with pytest.raises(PageError, match="its path is not the one that was asked"):
        cursor(f"{BASE}/v2/aggs/ticker/{ticker}/range/{rest}?cursor={TOKEN}", asked, ORIGINS)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=200))
def test_every_plain_cursor_comes_through_as_it_was(text: str) -> None:
    url = f"{BASE}{ROUTE}?{urlencode({'cursor': text})}"
    assert cursor(url, ROUTE, ORIGINS) == Cursor(text, ROUTE)


@given(st.one_of(st.text(), st.builds("{}{}{}".format, st.just(BASE), st.text(max_size=40), st.just(ROUTE))))
def test_any_other_text_is_refused_or_of_the_route(text: str) -> None:
    try:
        found = cursor(text, ROUTE, ORIGINS)
    except PageError:
        return
    assert found is None or found.path == ROUTE

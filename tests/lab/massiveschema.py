"""What Massive promises of its answers, written down field by field, and the check of an answer against it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import parse_qs, urlsplit

Check = Callable[[Any, str], None]


@dataclass(frozen=True)
class Object:
    """An object: the fields it must have, those it may have, and no others; `{}` passes where `bare` is set."""

    needed: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)
    bare: bool = False

    def __call__(self, value: Any, at: str) -> None:
        assert isinstance(value, dict), f"{at} is {value!r:.60}"
        if self.bare and not value:
            return
        assert self.needed.keys() <= value.keys(), f"{at} lacks {self.needed.keys() - value.keys()}"
        for name, each in value.items():
            check = self.needed.get(name) or self.optional.get(name)
            assert check is not None, f"{at} has {name}"
            check(each, f"{at}.{name}")


def many(check: Check, most: int) -> Check:
    def every(value: Any, at: str) -> None:
        assert isinstance(value, list), f"{at} is {value!r:.60}"
        assert len(value) <= most, f"{at} has {len(value)}"
        for number, each in enumerate(value):
            check(each, f"{at}[{number}]")

    return every


def of(*types: type) -> Check:
    def typed(value: Any, at: str) -> None:
        assert type(value) in types, f"{at} is {value!r:.60}"

    return typed


def one_of(*words: str) -> Check:
    def word(value: Any, at: str) -> None:
        assert value in words, f"{at} is {value!r:.60}"

    return word


def day(value: Any, at: str) -> None:
    assert isinstance(value, str), f"{at} is {value!r:.60}"
    assert str(date.fromisoformat(value)) == value, f"{at} is {value!r:.60}"


def millis(value: Any, at: str) -> None:
    assert type(value) is int, f"{at} is {value!r:.60}"
    assert 10**11 < value < 10**14, f"{at} is {value}"


def nanos(value: Any, at: str) -> None:
    assert type(value) is int, f"{at} is {value!r:.60}"
    assert 10**17 < value < 2**63, f"{at} is {value}"


def option(value: Any, at: str) -> None:
    assert str(value).startswith("O:"), f"{at} is {value!r:.60}"


def address(value: Any, at: str) -> None:
    """Absolute, on one of the two hosts, with one cursor and never a key."""
    parts = urlsplit(value)
    assert (parts.scheme, parts.netloc) in {("https", "api.massive.com"), ("https", "api.polygon.io")}, f"{at}: {value}"
    assert list(parse_qs(parts.query)) == ["cursor"], f"{at}: {value}"


NUMBER, COUNT, TEXT = of(int, float), of(int), of(str)
STATUS = one_of("OK", "DELAYED")
TYPE, STYLE = one_of("call", "put", "other"), one_of("american", "european", "bermudan")

BAR = Object(
    {"t": millis, **dict.fromkeys("ohlcv", NUMBER)},
    {"n": COUNT, "vw": NUMBER, "otc": of(bool)},
)
AGGREGATES = Object(
    {
        "ticker": TEXT, "adjusted": of(bool), "queryCount": COUNT, "resultsCount": COUNT, "request_id": TEXT,
        "status": STATUS,
    },
    {"count": COUNT, "results": many(BAR, 50_000), "next_url": address},
    bare=True,
)  # fmt: skip
CONTRACT = Object(
    {
        "cfi": TEXT, "contract_type": TYPE, "exercise_style": STYLE, "expiration_date": day,
        "shares_per_contract": NUMBER, "strike_price": NUMBER, "ticker": option, "underlying_ticker": TEXT,
    },
    {
        "primary_exchange": TEXT, "correction": COUNT,
        "additional_underlyings": many(Object({"amount": NUMBER, "type": TEXT, "underlying": TEXT}), 10),
    },
)  # fmt: skip
CONTRACTS = Object(
    {"status": STATUS, "request_id": TEXT},
    {"results": many(CONTRACT, 1_000), "next_url": address},
    bare=True,
)
SNAPSHOT = Object(
    {
        "details": Object(
            {
                "contract_type": TYPE, "exercise_style": STYLE, "expiration_date": day, "shares_per_contract": NUMBER,
                "strike_price": NUMBER, "ticker": option,
            }
        ),
    },
    {
        "greeks": Object(dict.fromkeys(("delta", "gamma", "theta", "vega"), NUMBER), bare=True),
        "implied_volatility": NUMBER,
        "open_interest": COUNT,
        "break_even_price": NUMBER,
        "fmv": NUMBER,
        "day": Object(
            {},
            {
                "last_updated": nanos, **dict.fromkeys(
                    ("change", "change_percent", "close", "high", "low", "open", "previous_close", "volume", "vwap"),
                    NUMBER,
                ),
            },
        ),
        "last_quote": Object(
            {"ask": NUMBER, "ask_size": NUMBER, "bid": NUMBER, "bid_size": NUMBER, "last_updated": nanos},
            {"ask_exchange": COUNT, "bid_exchange": COUNT, "midpoint": NUMBER, "timeframe": TEXT},
        ),
        "last_trade": Object(
            {"price": NUMBER, "sip_timestamp": nanos, "size": NUMBER},
            {"conditions": many(COUNT, 20), "exchange": COUNT, "timeframe": TEXT, "decimal_size": NUMBER},
        ),
        "underlying_asset": Object(
            {"ticker": TEXT},
            {
                "price": NUMBER, "value": NUMBER, "change_to_break_even": NUMBER, "last_updated": nanos,
                "timeframe": one_of("DELAYED", "REAL-TIME"),
            },
        ),
    },
)  # fmt: skip
CHAIN = Object(
    {"status": STATUS, "request_id": TEXT},
    {"results": many(SNAPSHOT, 250), "next_url": address},
    bare=True,
)
REFUSED = {
    400: Object({"status": one_of("ERROR"), "request_id": TEXT, "error": TEXT}),
    401: Object({"status": one_of("ERROR"), "error": one_of("Unknown API Key")}, {"request_id": TEXT}),
    403: Object({"status": one_of("NOT_AUTHORIZED"), "request_id": TEXT, "message": TEXT}),
    404: Object({"status": one_of("NOT_FOUND"), "message": TEXT}, {"request_id": TEXT}),
    429: Object({"status": one_of("ERROR"), "request_id": TEXT, "error": TEXT}),
}

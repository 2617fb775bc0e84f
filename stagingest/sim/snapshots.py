"""What the imitation knows of a contract at a moment, and how each provider writes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stagingest.sim.contracts import Contract

GREEKS = ("delta", "gamma", "theta", "vega", "rho")
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Quote:
    """The best offers: prices in dollars, sizes in contracts, nanoseconds since 1970."""

    bid: float
    bid_size: int
    ask: float
    ask_size: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Trade:
    """The last trade: price in dollars, size in contracts, nanoseconds since 1970."""

    price: float
    size: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A contract at a moment; what is not known is None or not in its mapping.

    Args:
        day: its last daily bar by the keys `o h l c v n vw`, and `t`, its stamp in seconds.
        greeks: those of `GREEKS` that are known.
        spot: price of the underlying, at `at_ns`.
    """

    contract: Contract
    at_ns: int
    day: Mapping[str, Any] | None = None
    quote: Quote | None = None
    trade: Trade | None = None
    volatility: float | None = None
    greeks: Mapping[str, float] | None = None
    open_interest: int | None = None
    spot: float | None = None

    def alpaca(self) -> dict[str, Any]:
        """As Alpaca writes it: whatever is not known is not there."""
        quote, trade, day = self.quote, self.trade, self.day
        return _known(
            greeks=self.greeks or None,
            impliedVolatility=self.volatility,
            latestQuote=quote
            and {
                "ap": quote.ask, "as": quote.ask_size, "ax": "B", "bp": quote.bid, "bs": quote.bid_size, "bx": "C",
                "c": "A", "t": _rfc3339(quote.at_ns),
            },
            latestTrade=trade
            and {"c": "I", "p": trade.price, "s": trade.size, "t": _rfc3339(trade.at_ns), "x": "A"},
            dailyBar=day and {**day, "t": _rfc3339(day["t"] * _NS)},
        )  # fmt: skip

    def massive(self) -> dict[str, Any]:
        """As Massive writes it: unknown Greeks are an empty object, unknown volatility is not there."""
        contract, quote, trade, day = self.contract, self.quote, self.trade, self.day
        greeks = {name: value for name, value in (self.greeks or {}).items() if name != "rho"}
        row = {
            "day": day and _known(
                change=0.0, change_percent=0.0, close=day["c"], high=day["h"], last_updated=day["t"] * _NS,
                low=day["l"], open=day["o"], previous_close=day["c"], volume=day["v"], vwap=day.get("vw"),
            ),
            "details": {
                "contract_type": contract.type, "exercise_style": contract.style,
                "expiration_date": contract.expiry.isoformat(), "shares_per_contract": 100,
                "strike_price": _plain(float(contract.strike)), "ticker": f"O:{contract.symbol}",
            },
            "implied_volatility": self.volatility,
            "last_quote": quote and {
                "ask": quote.ask, "ask_exchange": 302, "ask_size": quote.ask_size, "bid": quote.bid,
                "bid_exchange": 303, "bid_size": quote.bid_size, "last_updated": quote.at_ns,
                "midpoint": round((quote.bid + quote.ask) / 2, 4), "timeframe": "REAL-TIME",
            },
            "last_trade": trade and {
                "conditions": [209], "exchange": 316, "price": trade.price, "sip_timestamp": trade.at_ns,
                "size": trade.size, "timeframe": "REAL-TIME",
            },
            "open_interest": self.open_interest,
            "underlying_asset": _known(
                last_updated=self.at_ns, price=self.spot, ticker=contract.underlying, timeframe="REAL-TIME"
            ),
        }  # fmt: skip
        return {"greeks": greeks, **_known(**row)}


def _known(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number


def _rfc3339(at_ns: int) -> str:
    """With nine digits of a second, or none when it is whole."""
    seconds, rest = divmod(at_ns, _NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09}Z" if rest else f"{text}Z"

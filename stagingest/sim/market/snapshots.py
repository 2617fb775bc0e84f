"""What the imitation knows of a contract at a moment, and how each provider writes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import erf, exp, log, pi, sqrt
from typing import Any

from stagingest.sim.market.arrow import fraction
from stagingest.sim.market.calendar import Moment
from stagingest.sim.market.contracts import ListedContract

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

    contract: ListedContract
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


_RATE = 0.04
_DAY_YEARS = 1 / 365


def snapshot(
    contract: ListedContract, spot: float, day: Mapping[str, Any] | None, moment: Moment, market_seed: int
) -> Snapshot:
    """The contract at the moment.

    Args:
        contract: not expired.
        spot: price of its underlying, dollars.
        day: its last daily bar, None when it has never traded.
        moment: decides time to expiry and the age of quotes.
        market_seed: of the market.
    """

    def luck(name: str) -> float:
        return fraction(market_seed, contract.symbol, moment.horizon_s, name)

    at_ns = moment.horizon_s * _NS
    years = (contract.expiry - moment.today).days * _DAY_YEARS
    volatility = round(0.15 + 0.4 * fraction(market_seed, contract.symbol, "volatility"), 5)
    price, greeks = valued(spot, float(contract.strike), years, volatility, call=contract.type == "call")
    bid = round(max(0.0, price * 0.98 - 0.01), 2)
    quote = Quote(
        bid, 0 if bid == 0 else 1 + int(luck("bid") * 200), round(price * 1.02 + 0.02, 2), 1 + int(luck("ask") * 200),
        at_ns - int(luck("quote") * 60 * _NS),
    )  # fmt: skip
    trade = day and Trade(day["c"], 1 + int(luck("size") * 20), at_ns - int(luck("trade") * 3600 * _NS))
    # The provider computes none without a bid, on the last day, or when its search does not end.
    solved = bid > 0 and years > 0 and luck("solved") > 0.05
    return Snapshot(
        contract, at_ns, day, None if luck("quoted") < 0.02 else quote, trade or None,
        volatility if solved else None, greeks if solved else None, contract.open_interest, spot,
    )  # fmt: skip


def valued(
    spot: float, strike: float, years: float, volatility: float, *, call: bool
) -> tuple[float, dict[str, float]]:
    """Price and Greeks of a European option: theta a day, vega and rho a point, as providers give them."""
    sign = 1 if call else -1
    if years <= 0:
        return max(0.0, sign * (spot - strike)), {}
    spread, discount = volatility * sqrt(years), exp(-_RATE * years)
    d1 = (log(spot / strike) + (_RATE + volatility**2 / 2) * years) / spread
    d2, density = d1 - spread, exp(-d1 * d1 / 2) / sqrt(2 * pi)
    above, below = _normal(sign * d1), _normal(sign * d2)
    theta = -spot * density * volatility / (2 * sqrt(years)) - sign * _RATE * strike * discount * below
    values = (
        sign * above,
        density / (spot * spread),
        theta / 365,
        spot * density * sqrt(years) / 100,
        sign * strike * years * discount * below / 100,
    )
    greeks = {name: round(value, 6) for name, value in zip(GREEKS, values, strict=True)}
    return sign * (spot * above - strike * discount * below), greeks


def _normal(x: float) -> float:
    return (1 + erf(x / sqrt(2))) / 2

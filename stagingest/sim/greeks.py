"""Snapshots of the generated market: quotes around a price by Black and Scholes, and its Greeks."""

from collections.abc import Mapping
from math import erf, exp, log, pi, sqrt
from typing import Any

from stagingest.sim.chance import fraction
from stagingest.sim.contracts import Contract
from stagingest.sim.moments import Moment
from stagingest.sim.snapshots import GREEKS, Quote, Snapshot, Trade

_RATE = 0.04
_DAY_YEARS = 1 / 365
_NS = 1_000_000_000


def snapshot(
    contract: Contract, spot: float, day: Mapping[str, Any] | None, moment: Moment, market_seed: int
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

"""Option prices of the generated market: the days on which contracts of one expiry trade, and their prints."""

from collections.abc import Sequence
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.model import calendar
from stagingest.sim.market.arrow import add, at_least, div, mul, real, sub, uniform, whole
from stagingest.sim.market.bars import Timeframe, aggregate, intraday_buckets
from stagingest.sim.market.calendar import Moment, stamp

_PRINTS = 4  # a day of four or more contracts is four prints: open, high, low, close
_ORDER = [("k", "ascending"), ("t", "ascending")]


def premiums(
    days: Sequence[date], spots: Sequence[float], sides: Sequence[tuple[float, bool]], expiry: date, *key: object
) -> pa.Table:
    """Daily bars of one expiry's contracts, only on days a contract trades.

    Args:
        days: the sessions of the contracts' life.
        spots: the underlying's close on each of them, dollars.
        sides: each contract's strike in dollars, and whether it is a call.
        expiry: the last day.
        key: what the prices are a function of.

    Returns:
        a frame with the contract's number `k` before it, sorted by both, and for its minutes the session's
        opening second `opens`, the minutes in a quarter of it, `quarter`, and a random number `chance`.
    """
    size = len(sides) * len(days)
    cell = pa.array(range(size), pa.int64())
    k = div(cell, len(days))
    day = sub(cell, mul(k, len(days)))
    spot = pc.take(pa.array(spots, pa.float64()), day)
    strike = pc.take(pa.array([strike for strike, _ in sides], pa.float64()), k)
    sign = pc.take(pa.array([1.0 if call else -1.0 for _, call in sides]), k)
    years = pc.take(pa.array([(expiry - day).days / 365 + 0.003 for day in days]), day)
    value, likely = _worth(spot, strike, years, sign)
    hours = [[int(edge.timestamp()) for edge in calendar.hours(day)] for day in days]
    quarters = [(end - start) // 60 // _PRINTS for start, end in hours]
    frame = {
        "k": k,
        "t": pc.take(pa.array([stamp(day) for day in days], pa.int64()), day),
        "opens": pc.take(pa.array([start for start, _ in hours], pa.int64()), day),
        "quarter": pc.take(pa.array(quarters, pa.int64()), day),
        "chance": uniform(size, *key, "minutes"),
        **_prices(value, *(uniform(size, *key, name) for name in ("open", "high", "low", "volume"))),
    }
    return pa.table(frame).filter(pc.less(uniform(size, *key, "traded"), likely))


def _worth(spot: pa.Array, strike: pa.Array, years: pa.Array, sign: pa.Array) -> tuple[pa.Array, pa.Array]:
    """A plausible price, and the chance that the contract trades on a day."""
    difference = sub(spot, strike)
    squared = pc.power(div(difference, spot), 2.0)
    inside = at_least(mul(difference, sign), 0.0)
    near = pc.exp(mul(squared, -25.0))
    time_value = mul(mul(mul(spot, 0.12), pc.sqrt(years)), near)
    likely = add(mul(pc.exp(mul(squared, -150.0)), 0.85), 0.05)
    return add(inside, time_value), likely


def _prices(value: pa.Array, opening: pa.Array, high: pa.Array, low: pa.Array, volume: pa.Array) -> dict[str, pa.Array]:
    def cents(values: pa.Array) -> pa.Array:
        return at_least(pc.round(values, 2), 0.01)

    def off(values: pa.Array, share: pa.Array, most: float) -> pa.Array:
        return mul(values, add(mul(share, most), 1.0))

    close = cents(value)
    contracts = add(whole(mul(pc.power(volume, 4), 900.0)), 1)
    several = pc.greater_equal(contracts, _PRINTS)
    first = pc.if_else(several, cents(off(value, sub(opening, 0.5), 0.2)), close)
    highest, lowest = at_least(first, close), pc.min_element_wise(first, close)
    return {
        "o": first,
        "h": pc.if_else(several, cents(off(highest, high, 0.1)), close),
        "l": pc.if_else(several, cents(off(lowest, low, -0.1)), close),
        "c": close,
        "v": contracts,
        "n": add(div(contracts, 6), 1),
        "vw": close,
    }


def _prints(days: pa.Table) -> pa.Table:
    """The minute bars of daily bars: one print for a small day, else four that make its open, high, low and close."""
    several = pc.greater_equal(days["v"], _PRINTS)
    large = days.filter(several)
    share = div(large["v"], _PRINTS)
    rest = sub(large["v"], mul(share, _PRINTS - 1))
    parts = [_print(large, nth, price, rest if price == "c" else share) for nth, price in enumerate("ohlc")]
    small = days.filter(pc.invert(several))
    return pa.concat_tables([_print(small, 0, "c", small["v"]), *parts]).sort_by(_ORDER)


def _print(days: pa.Table, nth: int, price: str, volume: pa.ChunkedArray) -> pa.Table:
    """One print of each day, in its `nth` quarter, at one of the day's prices."""
    within = whole(mul(days["chance"], real(days["quarter"])))
    minute = add(mul(days["quarter"], nth), within)
    return pa.table(
        {
            "k": days["k"],
            "t": add(days["opens"], mul(minute, 60)),
            **dict.fromkeys(("o", "h", "l", "c", "vw"), days[price]),
            "v": volume,
            "n": add(div(volume, 6), 1),
        }
    )


def until(days: pa.Table, moment: Moment, timeframe: Timeframe) -> pa.Table:
    """Bars of a timeframe out of `premiums`, as far as the moment has come; sorted by `k`, then `t`."""
    today = stamp(moment.session)
    begun = days.filter(pc.less_equal(days["t"], today))
    prints = _prints(begun if timeframe.intraday else begun.filter(pc.equal(begun["t"], today)))
    prints = prints.filter(pc.less_equal(add(prints["t"], 60), moment.horizon_s))
    if timeframe.intraday:
        step_s = timeframe.seconds
        return prints if step_s == 60 else _summed(prints, intraday_buckets(prints["t"].combine_chunks(), step_s))
    so_far = _summed(prints, add(mul(prints["t"], 0), today))
    over = begun.filter(pc.less(begun["t"], today)).select(so_far.column_names)
    frame = pa.concat_tables([over, so_far]).sort_by(_ORDER)
    return frame if timeframe.unit == "Day" else _summed(frame, _period_stamps(frame["t"], timeframe))


def _summed(frame: pa.Table, buckets: pa.Array) -> pa.Table:
    return aggregate(frame, buckets, by=("k",))


def _period_stamps(stamps: pa.ChunkedArray, timeframe: Timeframe) -> pa.Array:
    # midnight in New York is 4 or 5 hours into the UTC day of the same date
    start = {
        at: stamp(timeframe.period(date(1970, 1, 1) + timedelta(days=at // 86_400)))
        for at in stamps.unique().to_pylist()
    }
    return pa.array([start[at] for at in stamps.to_pylist()], pa.int64())

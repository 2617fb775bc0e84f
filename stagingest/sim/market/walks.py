"""Prices drawn at random: days of a walk, minutes within a day, and what a split or a smaller feed makes of them."""

from datetime import date
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.sim.market.arrow import add, at_least, div, fraction, mul, noise, real, sub, uniform, whole
from stagingest.sim.market.calendar import MinuteGrid, grid

# feed: its share of the volume, and the share of minutes in which it sees no trade
FEEDS = {"sip": (1.0, 0.0), "iex": (0.025, 0.35), "boats": (0.004, 0.8), "otc": (0.002, 0.9)}
_PRICES = ("o", "h", "l", "c")
_BRIDGE = 0.04  # of a day's range for one step of its minutes: most of them stay inside, the rest is clipped


def _clip(values: pa.Array, low: pa.Array, high: pa.Array) -> pa.Array:
    return at_least(pc.min_element_wise(values, high), low)


def _up(values: pa.Array, share: float, wiggle: pa.Array) -> pa.Array:
    return mul(values, add(mul(pc.abs(wiggle), share), 1.0))


def walk(stamps: pa.Array, *key: object) -> pa.Table:
    """Daily bars with unrounded prices at `stamps`; a longer walk begins with the shorter one."""
    size = len(stamps)
    start = 20 + 380 * fraction(*key, "price")
    steps = add(mul(noise(size, *key, "steps"), 0.016), 0.0002)
    close = at_least(mul(pc.exp(pc.cumulative_sum(steps)), start), 1.0)
    before = pa.concat_arrays([pa.array([start]), close.slice(0, size - 1)])
    opening = mul(before, pc.exp(mul(noise(size, *key, "gaps"), 0.004)))
    high = _up(at_least(opening, close), 0.006, noise(size, *key, "high"))
    low = _up(pc.min_element_wise(opening, close), -0.006, noise(size, *key, "low"))
    usual = 2e5 + 8e6 * fraction(*key, "volume") ** 3
    volume = mul(pc.exp(mul(noise(size, *key, "volumes"), 0.4)), usual)
    trades = div(volume, 60 + 80 * fraction(*key, "trades"))
    return _table(stamps, {"o": opening, "h": high, "l": low, "c": close}, volume, trades)


def _table(stamps: pa.Array, prices: dict[str, pa.Array], volume: pa.Array, trades: pa.Array) -> pa.Table:
    mean = div(add(add(prices["h"], prices["l"]), prices["c"]), 3.0)
    counts = {"v": whole(volume), "n": whole(trades)}
    return pa.table({"t": stamps, **prices, **counts, "vw": mean})


def scaled(frame: pa.Table, events: list[tuple[int, float]], *, digits: int = 4, volume: bool = True) -> pa.Table:
    """The frame with each event's factor multiplied into all earlier prices, and divided out of the volume.

    A market's raw prices carry the splits to come (factor above one); adjusting takes them out again.
    """
    factors = [pc.if_else(pc.less(frame["t"], at), factor, 1.0) for at, factor in events]
    factor = reduce(mul, factors, pa.scalar(1.0))
    frame = _priced(frame, factor, digits)
    return _replaced(frame, {"v": whole(div(real(frame["v"]), factor))}) if volume else frame


def times(frame: pa.Table, factor: float) -> pa.Table:
    """The frame with its prices in another currency."""
    return _priced(frame, pa.scalar(factor), 4)


def _priced(frame: pa.Table, factor: pa.Array, digits: int) -> pa.Table:
    prices = {name: pc.round(mul(frame[name], factor), digits) for name in _PRICES}
    return _replaced(frame, prices | {"vw": pc.round(mul(frame["vw"], factor), 6)})


def _replaced(frame: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    return pa.table({name: columns.get(name, frame[name]) for name in frame.column_names})


def seen_by(feed: str, days: pa.Table, *key: object) -> pa.Table:
    """Daily bars as a feed sees them: all of it (sip), or a share of the volume and prices that differ a little."""
    share = FEEDS[feed][0]
    if share == 1.0:
        return days
    shift = add(mul(noise(days.num_rows, *key, feed), 0.0004), 1.0)
    close = pc.round(_clip(mul(days["c"], shift), days["l"], days["h"]), 2)
    counts = {name: add(whole(mul(real(days[name]), share)), 1) for name in ("v", "n")}
    return _replaced(days, {"c": close, **counts})


def within(feed: str, days: pa.Table, sessions: tuple[date, ...], *key: object) -> pa.Table:
    """Minute bars of the sessions `days` has rows for; where the feed sees every minute they add up to the days."""
    if not sessions:
        return days
    at, size = grid(sessions), len(grid(sessions).stamps)
    day = {name: pc.take(days[name].combine_chunks(), at.day) for name in _PRICES}
    opening, closing = _bridges(day, at, noise(size, *key, "steps"))
    high = _up(at_least(opening, closing), 0.0005, noise(size, *key, "high"))
    low = _up(pc.min_element_wise(opening, closing), -0.0005, noise(size, *key, "low"))
    high = pc.if_else(_somewhere(at, *key, "highest"), day["h"], pc.round(_clip(high, day["l"], day["h"]), 2))
    low = pc.if_else(_somewhere(at, *key, "lowest"), day["l"], pc.round(_clip(low, day["l"], day["h"]), 2))
    weights = add(uniform(size, *key, "volumes"), 0.2)
    counts = {name: _shared(days[name].combine_chunks(), weights, at) for name in ("v", "n")}
    prices = {"o": opening, "h": high, "l": low, "c": closing}
    mean = pc.round(div(add(add(high, low), closing), 3.0), 6)
    minutes = pa.table({"t": at.stamps, **prices, **counts, "vw": mean})
    traded = pc.greater_equal(uniform(size, *key, "traded"), FEEDS[feed][1])
    return minutes.filter(pc.and_(traded, pc.greater(counts["v"], 0)))


def _bridges(day: dict[str, pa.Array], at: MinuteGrid, steps: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Opening and closing price of each minute, from the day's open to its close and inside its range."""
    done = pc.cumulative_sum(steps)
    before = sub(done, steps)
    base = pc.take(pc.take(before, at.firsts), at.day)
    total = sub(pc.take(pc.take(done, at.lasts), at.day), base)
    swing = mul(sub(day["h"], day["l"]), _BRIDGE)

    def price(share: pa.Array, walked: pa.Array) -> pa.Array:
        straight = add(day["o"], mul(sub(day["c"], day["o"]), share))
        off = sub(sub(walked, base), mul(total, share))
        return pc.round(_clip(add(straight, mul(off, swing)), day["l"], day["h"]), 2)

    return price(at.begins, before), price(at.ends, done)


def _somewhere(at: MinuteGrid, *key: object) -> pa.Array:
    """True in one minute of each session."""
    drawn = mul(uniform(len(at.minutes), *key), real(at.minutes))
    return pc.equal(at.minute, pc.take(pc.cast(pc.floor(drawn), pa.int32()), at.day))


def _per_day(values: pa.Array, at: MinuteGrid) -> pa.Array:
    done = pc.cumulative_sum(values)
    before = sub(done, values)
    return sub(pc.take(done, at.lasts), pc.take(before, at.firsts))


def _shared(totals: pa.Array, weights: pa.Array, at: MinuteGrid) -> pa.Array:
    """Each session's total dealt to its minutes by weight; the last minute takes what rounding leaves."""
    unit = div(real(totals), _per_day(weights, at))
    parts = whole(mul(weights, pc.take(unit, at.day)))
    rest = sub(totals, _per_day(parts, at))
    return add(parts, pc.if_else(at.last, pc.take(rest, at.day), 0))

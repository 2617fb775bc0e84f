"""A market whose prices are a function of seed, symbol and day: walks through real sessions, and option chains.

A session's minutes are drawn inside its daily bar, and every other bar is summed from days or minutes, so that bars
of one feed agree with each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.errors import UsageError
from stagingest.sim.market.arrow import add, fraction, mul, seed
from stagingest.sim.market.bars import Bars, Cache, Spec, Timeframe, aggregate, encode, intraday_buckets
from stagingest.sim.market.calendar import FIRST_DAY, Moment, calendar, periods, stamp
from stagingest.sim.market.chains import Chains
from stagingest.sim.market.contracts import ListedContract
from stagingest.sim.market.snapshots import Snapshot
from stagingest.sim.market.walks import scaled, seen_by, times, walk, within

Splits = Mapping[str, Sequence[tuple[date, float]]]

_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so that a name is never a word
_MOST_NAMES = len(_LETTERS) ** 4
_WEEK = timedelta(days=7)


def names(count: int) -> list[str]:
    """The first `count` generated symbols: four letters each, all different, the same in every run."""
    if not 0 <= count <= _MOST_NAMES:
        raise UsageError(f"There are generated names for at most {_MOST_NAMES:,} symbols.", "Ask for fewer.")
    return [_name((index * 70_001 + 31_337) % _MOST_NAMES) for index in range(count)]


def _name(number: int) -> str:
    letters = ""
    for _ in range(4):
        number, letter = divmod(number, len(_LETTERS))
        letters += _LETTERS[letter]
    return letters


class Generated:
    """A generated market.

    Args:
        symbols: the stocks it knows; each has an option chain.
        seed: another seed, other prices.
        splits: for these symbols, the splits (New York day, new shares per old one) instead of generated ones.
    """

    skipped: tuple[str, ...] = ()

    def __init__(self, symbols: Sequence[str], *, seed: int = 0, splits: Splits | None = None) -> None:
        self.symbols = tuple(sorted(set(symbols)))
        self._known = frozenset(self.symbols)
        self._seed = seed
        self._splits = dict(splits or {})
        self._frames: Cache[pa.Table] = Cache(64 << 20)
        self._bars: Cache[Bars] = Cache(256 << 20)
        self._chains = Chains(self.symbols, seed, self.close)

    @property
    def underlyings(self) -> tuple[str, ...]:
        """Every stock that has contracts: all of them."""
        return self.symbols

    def listed(self, symbol: str) -> date:
        """The first session of a symbol; three in four are older than the market's history."""
        if fraction(self._seed, symbol, "listed?") < 0.75:
            return FIRST_DAY
        days = calendar(2024).days
        return days[seed(self._seed, symbol, "listed") % (len(days) - 250)]

    def close(self, symbol: str, day: date) -> float:
        """The raw closing price of the last session before `day`, at the earliest the first one."""
        frame = self._days(symbol, "sip", day.year)
        row = calendar(day.year).index(day) - 1 - self._skip(symbol)
        return float(frame["c"][min(max(row, 0), frame.num_rows - 1)].as_py())

    def stock_bars(
        self, symbol: str, spec: Spec, first_s: int, last_s: int, moment: Moment, *, descending: bool = False
    ) -> Iterator[Bars]:
        """Runs of bars that together hold every bar from `first_s` to `last_s`, and may hold others."""
        if symbol not in self._known:
            return
        if spec.timeframe.intraday:
            weeks = self._weeks(symbol, first_s, min(last_s, moment.horizon_s), moment)
            for monday in reversed(weeks) if descending else weeks:
                yield self._week(symbol, spec, monday, moment)
        else:
            runs = [self._past(symbol, spec, moment), self._present(symbol, spec, moment)]
            yield from reversed(runs) if descending else runs

    def option_bars(self, symbol: str, timeframe: Timeframe, moment: Moment) -> Bars | None:
        """Every bar of a contract, or None for an unknown one."""
        return self._chains.bars(symbol, timeframe, moment)

    def contracts(self, underlying: str, today: date) -> Sequence[ListedContract]:
        """Every contract ever listed on `underlying` up to `today`, sorted by symbol."""
        return self._chains.contracts(underlying, today) if underlying in self._known else ()

    def contract(self, symbol: str, today: date) -> ListedContract | None:
        """The contract of that symbol, when it has been listed."""
        return self._chains.contract(symbol, today)

    def snapshots(self, underlying: str, moment: Moment) -> Sequence[Snapshot]:
        """The contracts of `underlying` that have not expired, sorted by symbol."""
        return self._chains.snapshots(underlying, moment) if underlying in self._known else ()

    # --- days, weeks, months

    def _skip(self, symbol: str) -> int:
        return calendar(2024).index(self.listed(symbol))

    def _days(self, symbol: str, feed: str, year: int) -> pa.Table:
        """Raw daily bars from the listing to the end of `year`."""
        return self._frames.get((symbol, feed, year), partial(self._make_days, symbol, feed, year))

    def _make_days(self, symbol: str, feed: str, year: int) -> pa.Table:
        splits = self._events(symbol, "split")
        frame = scaled(walk(calendar(year).stamps, self._seed, symbol), splits, digits=2)
        return seen_by(feed, frame, self._seed, symbol).slice(self._skip(symbol))

    def _edge(self, spec: Spec, moment: Moment) -> int:
        return stamp(spec.timeframe.period(moment.session))

    def _rows(self, symbol: str, spec: Spec, year: int, first_s: int, end_s: int) -> pa.Table:
        """Raw days of `[first_s, end_s)`, with the stamp of their bar as `bucket`."""
        frame = self._days(symbol, spec.feed, year)
        frame = frame.append_column("bucket", periods(year, spec.timeframe).slice(self._skip(symbol)))
        inside = pc.and_(pc.greater_equal(frame["t"], first_s), pc.less(frame["t"], end_s))
        return frame.filter(inside)

    def _past(self, symbol: str, spec: Spec, moment: Moment) -> Bars:
        """The bars before the one that holds the last session; they change only when a split comes."""
        edge = self._edge(spec, moment)

        def make() -> Bars:
            rows = self._rows(symbol, spec, moment.session.year, 0, edge)
            return encode(self._finish(symbol, spec, moment, rows))

        return self._bars.get((symbol, spec, edge, self._applied(symbol, spec, moment)), make)

    def _present(self, symbol: str, spec: Spec, moment: Moment) -> Bars:
        """The bar that holds the last session, as far as it has come."""
        year, today = moment.session.year, stamp(moment.session)
        end = today + 1 if moment.complete else today
        rows = self._rows(symbol, spec, year, self._edge(spec, moment), end)
        if not moment.complete and moment.session >= self.listed(symbol):
            minutes = self._minutes(symbol, spec.feed, _monday(moment.session), moment)
            minutes = minutes.filter(pc.greater_equal(minutes["t"], today))
            so_far = aggregate(minutes, add(mul(minutes["t"], 0), today))
            bucket = pa.array([self._edge(spec, moment)] * so_far.num_rows, pa.int64())
            rows = pa.concat_tables([rows, so_far.append_column("bucket", bucket).select(rows.column_names)])
        return encode(self._finish(symbol, spec, moment, rows))

    def _finish(self, symbol: str, spec: Spec, moment: Moment, rows: pa.Table) -> pa.Table:
        buckets = rows["bucket"].combine_chunks()
        frame = self._adjusted(symbol, spec, moment, rows.drop_columns(["bucket"]))
        return frame if spec.timeframe.unit == "Day" else aggregate(frame, buckets)

    # --- minutes and hours

    def _weeks(self, symbol: str, first_s: int, last_s: int, moment: Moment) -> list[date]:
        monday = _monday(max(self.listed(symbol), _day_of(first_s)))
        end = min(_day_of(last_s), moment.session)
        return [monday + _WEEK * n for n in range((end - monday).days // 7 + 1)]

    def _week(self, symbol: str, spec: Spec, monday: date, moment: Moment) -> Bars:
        over = monday + _WEEK <= moment.session
        key = (symbol, spec, monday, None if over else moment.horizon_s, self._applied(symbol, spec, moment))

        def make() -> Bars:
            frame = self._adjusted(symbol, spec, moment, self._minutes(symbol, spec.feed, monday, moment))
            if spec.timeframe.seconds > 60:
                frame = aggregate(frame, intraday_buckets(frame["t"].combine_chunks(), spec.timeframe.seconds))
            return encode(frame)

        return self._bars.get(key, make)

    def _minutes(self, symbol: str, feed: str, monday: date, moment: Moment) -> pa.Table:
        """Raw minute bars of a week, up to the moment's horizon."""
        year = moment.session.year
        known, skip = calendar(year), self._skip(symbol)
        first = max(known.index(monday), skip)
        last = max(known.index(min(monday + _WEEK, moment.session + timedelta(days=1))), first)
        days = self._days(symbol, feed, year).slice(first - skip, last - first)
        frame = within(feed, days, tuple(known.days[first:last]), self._seed, symbol, feed, monday)
        return frame.filter(pc.less_equal(add(frame["t"], 60), moment.horizon_s))

    # --- corporate actions

    def _events(self, symbol: str, kind: str) -> list[tuple[int, float]]:
        """(midnight of the day, factor by which earlier prices are divided)."""
        if kind == "split" and symbol in self._splits:
            return [(stamp(day), float(ratio)) for day, ratio in self._splits[symbol]]
        draw = partial(seed, self._seed, symbol, kind)
        days = calendar(2024).days
        if kind == "dividend" and draw("?") % 2 == 0:
            return [(stamp(day), 1.004) for day in days[40::63]]
        if kind in ("split", "spin-off") and draw("?") % 4 == 0:
            ratio = (2.0, 3.0, 4.0, 0.5)[draw("ratio") % 4] if kind == "split" else 1.12
            return [(stamp(days[draw("day") % len(days)]), ratio)]
        return []

    def _effective(self, symbol: str, kind: str, moment: Moment) -> list[tuple[int, float]]:
        return [event for event in self._events(symbol, kind) if event[0] <= stamp(moment.today)]

    def _applied(self, symbol: str, spec: Spec, moment: Moment) -> tuple[int, ...]:
        return tuple(len(self._effective(symbol, kind, moment)) for kind in sorted(spec.adjustment))

    def _adjusted(self, symbol: str, spec: Spec, moment: Moment, frame: pa.Table) -> pa.Table:
        for kind in sorted(spec.adjustment):
            events = [(at, 1 / factor) for at, factor in self._effective(symbol, kind, moment)]
            frame = scaled(frame, events, volume=kind == "split") if events else frame
        return frame if spec.currency == "USD" else times(frame, 0.5 + fraction(spec.currency, "rate"))


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _day_of(second: int) -> date:
    bounded = min(max(second, stamp(FIRST_DAY)), 4_000_000_000)
    return date(1970, 1, 1) + timedelta(days=bounded // 86_400)

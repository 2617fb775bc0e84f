"""Option chains of the generated market: weekly and monthly expiries with strikes around the price at listing."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from stagingest.model import calendar
from stagingest.model.calendar import DAY
from stagingest.sim.market.arrow import seed
from stagingest.sim.market.bars import Bars, Cache, Timeframe, encode
from stagingest.sim.market.calendar import Moment
from stagingest.sim.market.contracts import OCC, ListedContract
from stagingest.sim.market.premiums import premiums, until
from stagingest.sim.market.snapshots import Snapshot, snapshot

FIRST_DAY = date(2024, 2, 1)
_WEEKLY_LIFE, _MONTHLY_LIFE = timedelta(days=56), timedelta(days=366)
_WEEKLY_STRIKES, _MONTHLY_STRIKES = 15, 31
_BY_DAY = Timeframe(1, "Day")


@dataclass(frozen=True, slots=True)
class Expiry:
    """A day on which contracts end, and the first day they are listed."""

    day: date
    listed: date
    strikes: int


@cache
def _expiries(year: int) -> tuple[Expiry, ...]:
    """The expiries whose Friday lies in `year`; a holiday moves one to the session before."""
    first = date(year, 1, 1)
    friday = first + timedelta(days=(4 - first.weekday()) % 7)
    found = []
    while friday.year == year:
        monthly = 15 <= friday.day <= 21
        life, strikes = (_MONTHLY_LIFE, _MONTHLY_STRIKES) if monthly else (_WEEKLY_LIFE, _WEEKLY_STRIKES)
        day = calendar.previous(friday + DAY)
        found.append(Expiry(day, friday - life, strikes))
        friday += timedelta(days=7)
    return tuple(found)


@lru_cache(maxsize=8)
def expiries(today: date) -> dict[date, Expiry]:
    """Every expiry listed up to `today`, by its day."""
    years = range(FIRST_DAY.year, today.year + 2)
    found = (one for year in years for one in _expiries(year))
    return {one.day: one for one in found if one.day >= FIRST_DAY and one.listed <= today}


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The bars of all contracts of one expiry: each contract's place in them."""

    bars: Bars
    places: dict[str, tuple[int, int]]

    @property
    def nbytes(self) -> int:
        return self.bars.nbytes


class Chains:
    """The option chains of some underlyings.

    Args:
        underlyings: stocks that have a chain.
        seed: of the market.
        close: (underlying, day) to the raw close of the last session before that day.
    """

    def __init__(self, underlyings: Sequence[str], seed: int, close: Callable[[str, date], float]) -> None:
        self._seed = seed
        self._close = close
        self._roots = {_root(underlying): underlying for underlying in reversed(underlyings)}
        self._encoded: Cache[_Encoded] = Cache(128 << 20)
        self._frames: Cache[pa.Table] = Cache(32 << 20)

    def contracts(self, underlying: str, today: date) -> list[ListedContract]:
        """Every contract listed up to `today`, sorted by symbol."""
        rows = (
            self._contract(underlying, one, *side, today)
            for one in expiries(today).values()
            for side in self._sides(underlying, one)
        )
        return sorted(rows, key=lambda contract: contract.symbol)

    def contract(self, symbol: str, today: date) -> ListedContract | None:
        """The contract of that symbol, when it has been listed."""
        found = self._find(symbol, today)
        if not found:
            return None
        underlying, one = found
        side = next(
            (side for side in self._sides(underlying, one) if _occ(_root(underlying), one.day, *side) == symbol), None
        )
        return self._contract(underlying, one, *side, today) if side else None

    def bars(self, symbol: str, timeframe: Timeframe, moment: Moment) -> Bars | None:
        """Every bar of a contract, or None when it is unknown or has not traded."""
        found = self._find(symbol, moment.today)
        if not found:
            return None
        underlying, one = found
        over = one.day < moment.session
        key = (underlying, one, timeframe, None if over else moment.horizon_s)
        encoded = self._encoded.get(key, partial(self._encode, underlying, one, timeframe, moment))
        place = encoded.places.get(symbol)
        return encoded.bars.part(*place) if place else None

    def snapshots(self, underlying: str, moment: Moment) -> list[Snapshot]:
        """The contracts of an underlying that have not expired, as they are at the moment, sorted by symbol."""
        spot = self._close(underlying, moment.session + DAY if moment.complete else moment.session)
        open_ones = (one for one in self.contracts(underlying, moment.today) if one.active(moment.today))
        return [snapshot(one, spot, self._last_day(one.symbol, moment), moment, self._seed) for one in open_ones]

    def _last_day(self, symbol: str, moment: Moment) -> dict[str, Any] | None:
        bars = self.bars(symbol, _BY_DAY, moment)
        last = len(bars.stamps) if bars else 0
        return orjson.loads(bars.cut(last - 1, last)) | {"t": bars.stamps[last - 1]} if bars and last else None

    def _find(self, symbol: str, today: date) -> tuple[str, Expiry] | None:
        found = OCC.fullmatch(symbol)
        underlying = self._roots.get(found[1]) if found else None
        if not found or underlying is None:
            return None
        one = expiries(today).get(_date(*found.groups()[1:4]))
        return (underlying, one) if one else None

    def _sides(self, underlying: str, one: Expiry) -> list[tuple[str, Decimal]]:
        """Type and strike of each contract of an expiry, strikes around the price at listing."""
        spot = self._close(underlying, max(one.listed, FIRST_DAY))
        step = (
            Decimal("0.5") if spot < 10 else Decimal(1) if spot < 40 else Decimal("2.5") if spot < 120 else Decimal(5)
        )
        middle = round(Decimal(spot) / step)
        strikes = [step * (middle + n - one.strikes // 2) for n in range(one.strikes)]
        return [(kind, strike) for kind in ("call", "put") for strike in strikes if strike > 0]

    def _contract(self, underlying: str, one: Expiry, kind: str, strike: Decimal, today: date) -> ListedContract:
        root = _root(underlying)
        symbol = _occ(root, one.day, kind, strike)
        as_of = calendar.previous(min(today, one.day + DAY))
        draw = seed(self._seed, symbol, as_of)
        return ListedContract(
            symbol, underlying, root, one.day, kind, strike,
            open_interest=None if draw % 3 == 0 else draw // 3 % 5000,
            close_price=None if draw % 5 == 0 else (draw // 7 % 4000 + 1) / 100,
            as_of=as_of,
        )  # fmt: skip

    # --- prices

    def _encode(self, underlying: str, one: Expiry, timeframe: Timeframe, moment: Moment) -> _Encoded:
        days = self._frames.get((underlying, one), partial(self._days, underlying, one))
        frame = until(days, moment, timeframe)
        symbols = [_occ(_root(underlying), one.day, *side) for side in self._sides(underlying, one)]
        runs = pc.run_end_encode(frame["k"].combine_chunks())
        places = zip(runs.values.to_pylist(), pairwise([0, *runs.run_ends.to_pylist()]), strict=True)
        return _Encoded(encode(frame), {symbols[k]: place for k, place in places})

    def _days(self, underlying: str, one: Expiry) -> pa.Table:
        days = list(calendar.between(max(one.listed, FIRST_DAY), one.day + DAY))
        spots = [self._close(underlying, day + DAY) for day in days]
        sides = [(float(strike), kind == "call") for kind, strike in self._sides(underlying, one)]
        return premiums(days, spots, sides, one.day, self._seed, underlying, one.day)


def _date(year: str, month: str, day: str) -> date:
    try:
        return date(2000 + int(year), int(month), int(day))
    except ValueError:
        return date.min


def _root(underlying: str) -> str:
    return re.sub(r"[^A-Z]", "", underlying)[:6]


def _occ(root: str, day: date, kind: str, strike: Decimal) -> str:
    return f"{root}{day:%y%m%d}{kind[0].upper()}{int(strike * 1000):08d}"

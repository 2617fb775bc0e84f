"""A market replayed from Parquet files: recorded bars and contracts, served exactly as they are."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, lru_cache, partial
from math import isfinite
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stagingest.errors import UsageError
from stagingest.model import calendar
from stagingest.sim.market.arrow import div, mul
from stagingest.sim.market.bars import Bars, Cache, Spec, Timeframe, encode
from stagingest.sim.market.calendar import Moment, stamp
from stagingest.sim.market.contracts import OCC, ListedContract, of_row
from stagingest.sim.market.snapshots import GREEKS, Snapshot

_PRICES = {"open": "o", "high": "h", "low": "l", "close": "c"}
_COUNTS = {"volume": "v", "trade_count": "n"}
_MEAN = {"vwap": "vw"}
_LENGTH_S = {"Hour": 3600, "Min": 60}  # from a bar's stamp until it is over
_CONTRACT = {"symbol", "underlying", "expiration", "type", "strike", "style"}


@dataclass(frozen=True, slots=True)
class _Source:
    """The bars of one file, sorted by symbol and time, and the rows of each symbol."""

    frame: pa.Table
    places: dict[str, tuple[int, int]]


class Replay:
    """A market of recorded prices; where two files hold the same bar, the one named first is served.

    Each file is one price base: feed, adjustment and currency are taken and change nothing. Only the timeframes
    1Day, 1Hour and 1Min have bars.

    Args:
        paths: Parquet files, or directories below which every Parquet file of a known shape is taken.

    Raises:
        UsageError: a path does not exist, or no file has a known shape.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._sources: dict[tuple[bool, str], list[_Source]] = {}
        self._contracts: dict[str, ListedContract] = {}
        self._bars: Cache[Bars] = Cache(512 << 20)
        self._recorded = Recorded()
        skipped = [path for path in _files(paths) if not self._take(path)]
        self.skipped = tuple(map(str, skipped))
        if not self._sources and not self._contracts:
            raise UsageError("None of the files to replay has a known shape.", "See the columns in `sim --help`.")

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Every stock with bars."""
        stocks = (source.places for (option, _), found in self._sources.items() if not option for source in found)
        return tuple(sorted({symbol for places in stocks for symbol in places}))

    @cached_property
    def _chains(self) -> dict[str, list[ListedContract]]:
        chains: dict[str, list[ListedContract]] = {}
        for _, contract in sorted(self._contracts.items()):
            chains.setdefault(contract.underlying, []).append(contract)
        return chains

    def stock_bars(
        self, symbol: str, spec: Spec, first_s: int, last_s: int, moment: Moment, *, descending: bool = False
    ) -> Iterator[Bars]:
        """The recorded bars of a stock in one run, up to the moment."""
        found = self._until(symbol, spec.timeframe, moment, option=False)
        if found:
            yield found

    def option_bars(self, symbol: str, timeframe: Timeframe, moment: Moment) -> Bars | None:
        """The recorded bars of a contract, up to the moment."""
        return self._until(symbol, timeframe, moment, option=True)

    def contracts(self, underlying: str, today: date) -> Sequence[ListedContract]:
        """The contracts of an underlying, sorted by symbol."""
        return [self._recorded.counted(one, today) for one in self._chains.get(underlying, ())]

    def contract(self, symbol: str, today: date) -> ListedContract | None:
        """The contract of that symbol."""
        found = self._contracts.get(symbol)
        return self._recorded.counted(found, today) if found else None

    def snapshots(self, underlying: str, moment: Moment) -> Sequence[Snapshot]:
        """The newest recorded chain of an underlying whose session is over, sorted by symbol."""
        bars = self._until(underlying, Timeframe(1, "Day"), moment, option=False)
        close = orjson.loads(bars.cut(len(bars.stamps) - 1, len(bars.stamps)))["c"] if bars and bars.stamps else None
        return self._recorded.snapshots(underlying, moment, close)

    @property
    def underlyings(self) -> tuple[str, ...]:
        """Every stock that has contracts."""
        return tuple(self._chains)

    def _until(self, symbol: str, timeframe: Timeframe, moment: Moment, *, option: bool) -> Bars | None:
        kind = (option, timeframe.unit)
        sources = [source for source in self._sources.get(kind, ()) if symbol in source.places]
        if timeframe.amount != 1 or not sources:
            return None
        bars = self._bars.get((kind, symbol), partial(_merged, sources, symbol))
        if timeframe.unit == "Day":  # however early its session closed
            last_s = stamp(moment.session) - (not moment.complete)
        else:
            last_s = moment.horizon_s - _LENGTH_S[timeframe.unit]
        return bars.part(*bars.span(0, last_s))

    def _take(self, path: Path) -> bool:
        """Whether the file has a known shape; if so it is one more source."""
        schema = pq.read_schema(path)
        if set(schema.names) >= CHAIN:
            for contract in self._recorded.take_chains(path):
                self._contracts.setdefault(contract.symbol, contract)
            return True
        if set(schema.names) >= INTEREST and "open" not in schema.names:
            self._recorded.take_interest(path)
            return True
        if set(schema.names) >= _CONTRACT and "open" not in schema.names:
            for row in pq.read_table(path, columns=sorted(_CONTRACT)).to_pylist():
                self._contracts.setdefault(row["symbol"], of_row(row))
            return True
        time = next((name for name in ("date", "timestamp") if name in schema.names), "")
        if not {"symbol", *_PRICES, "volume"} <= set(schema.names) or not time or "expiration" in schema.names:
            return False
        source, unit = _source(path, time, [name for name in (*_COUNTS, *_MEAN) if name in schema.names])
        option = bool(source.places) and OCC.fullmatch(next(iter(source.places))) is not None
        self._sources.setdefault((option, unit), []).append(source)
        return True


def _files(paths: Sequence[Path]) -> list[Path]:
    found = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"There is nothing to replay at {path}.", "Name Parquet files or directories of them.")
        found += sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    return found


def _source(path: Path, time: str, optional: list[str]) -> tuple[_Source, str]:
    """The bars of a file with complete prices, and the unit of their timeframe."""
    table = pq.read_table(path, columns=["symbol", time, *_PRICES, *optional])
    complete = [pc.is_valid(table[name]) for name in ("symbol", time, *_PRICES)]
    table = table.filter(_all(complete))
    stamps = _midnights(table[time]) if time == "date" else _seconds(table[time])
    unit = "Day" if time == "date" else _unit(stamps)
    short = {old: new for old, new in (_PRICES | _COUNTS | _MEAN).items() if old in table.column_names}
    columns = {new: pc.cast(table[old], _type(new)) for old, new in short.items()}
    frame = pa.table({"symbol": table["symbol"], "t": stamps, **columns})
    frame = frame.sort_by([("symbol", "ascending"), ("t", "ascending")])
    runs = pc.run_end_encode(frame["symbol"].combine_chunks())
    ends = runs.run_ends.to_pylist()
    rows = zip(runs.values.to_pylist(), [0, *ends[:-1]], ends, strict=True)
    return _Source(frame.drop_columns(["symbol"]), {symbol: (start, end) for symbol, start, end in rows}), unit


def _type(name: str) -> pa.DataType:
    return pa.int64() if name in _COUNTS.values() else pa.float64()


def _all(flags: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    whole = flags[0]
    for flag in flags[1:]:
        whole = pc.and_(whole, flag)
    return whole


def _midnights(days: pa.ChunkedArray) -> pa.Array:
    coded = pc.dictionary_encode(days.combine_chunks())
    stamps = pa.array([stamp(day) for day in coded.dictionary.to_pylist()], pa.int64())
    return pc.take(stamps, coded.indices)


def _seconds(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.cast(moments, pa.timestamp("s", "UTC"), safe=False), pa.int64())


def _unit(stamps: pa.ChunkedArray) -> str:
    hours = mul(div(stamps, 3600), 3600)
    return "Hour" if pc.all(pc.equal(hours, stamps)).as_py() else "Min"


def _merged(sources: Sequence[_Source], symbol: str) -> Bars:
    """A symbol's bars out of every source, each stamp from the first source that has it."""
    frames: list[pa.Table] = []
    for source in sources:
        start, end = source.places[symbol]
        frame = source.frame.slice(start, end - start)
        for earlier in frames:
            frame = frame.filter(pc.invert(pc.is_in(frame["t"], value_set=earlier["t"].combine_chunks())))
        frames.append(frame)
    if len(frames) == 1:
        return encode(frames[0])
    common = [name for name in frames[0].column_names if all(name in frame.column_names for frame in frames)]
    return encode(pa.concat_tables([frame.select(common) for frame in frames]).sort_by("t"))


CHAIN = frozenset({"symbol", "underlying", "snapshot_date", "expiration", "type", "strike", "implied_volatility"})
"""Columns a file of chains has; `open high low close volume`, `open_interest` and Greeks are taken when there."""
INTEREST = frozenset({"symbol", "date", "open_interest"})
"""Columns a file of open interest has."""
_DAY = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_NS = 1_000_000_000


class Recorded:
    """The chains and the open interest of some files; a chain is that of a day, known when its session is over."""

    def __init__(self) -> None:
        self._chains: dict[str, dict[date, pa.Table]] = {}
        self._interest: dict[str, tuple[list[date], list[int | None]]] = {}
        self._snapshots = lru_cache(maxsize=8)(self._made)

    def take_chains(self, path: Path) -> list[ListedContract]:
        """Add the chains of a file; the contracts in them."""
        table = pq.read_table(path).sort_by([(name, "ascending") for name in ("underlying", "snapshot_date", "symbol")])
        keys = zip(table["underlying"].to_pylist(), table["snapshot_date"].to_pylist(), strict=True)
        starts: dict[tuple[str, date], int] = {}
        for row, key in enumerate(keys):
            starts.setdefault(key, row)
        ends = [*list(starts.values())[1:], table.num_rows]
        for ((underlying, day), start), end in zip(starts.items(), ends, strict=True):
            self._chains.setdefault(underlying, {}).setdefault(day, table.slice(start, end - start))
        named = table.group_by("symbol").aggregate([(name, "min") for name in ("underlying", "expiration", "strike")])
        kinds = dict(zip(table["symbol"].to_pylist(), table["type"].to_pylist(), strict=True))
        rows = named.rename_columns(["symbol", "underlying", "expiration", "strike"]).to_pylist()
        return [of_row({**row, "type": kinds[row["symbol"]]}) for row in rows]

    def take_interest(self, path: Path) -> None:
        """Add the open interest of a file."""
        table = pq.read_table(path, columns=sorted(INTEREST)).sort_by("date")
        for row in table.to_pylist():
            days, counts = self._interest.setdefault(row["symbol"], ([], []))
            days.append(row["date"])
            counts.append(row["open_interest"])

    def counted(self, contract: ListedContract, today: date) -> ListedContract:
        """The contract with the newest open interest recorded up to `today`."""
        days, counts = self._interest.get(contract.symbol, ((), ()))
        at = bisect_right(days, today) - 1
        return replace(contract, open_interest=counts[at], as_of=days[at]) if at >= 0 else contract

    def snapshots(self, underlying: str, moment: Moment, spot: float | None) -> Sequence[Snapshot]:
        """The newest recorded chain of an underlying whose session is over, sorted by symbol."""
        over = [day for day in self._chains.get(underlying, ()) if _is_over(day, moment)]
        return self._snapshots(underlying, max(over), spot) if over else ()

    def _made(self, underlying: str, day: date, spot: float | None) -> Sequence[Snapshot]:
        chain = self._chains[underlying][day]
        at_ns = int(calendar.instant(day).timestamp() + 16 * 3600) * _NS
        return [_snapshot(row, at_ns, stamp(day), spot) for row in chain.to_pylist()]


def _is_over(day: date, moment: Moment) -> bool:
    return day < moment.today or (day == moment.session and moment.complete)


def _snapshot(row: dict[str, Any], at_ns: int, stamp_s: int, spot: float | None) -> Snapshot:
    day = {short: row[name] for name, short in _DAY.items() if row.get(name) is not None}
    greeks = {name: row[name] for name in GREEKS if _is_known(row.get(name))}
    volatility = row["implied_volatility"]
    return Snapshot(
        of_row(row), at_ns, {**day, "t": stamp_s} if len(day) == len(_DAY) else None,
        volatility=volatility if _is_known(volatility) else None, greeks=greeks,
        open_interest=row.get("open_interest"), spot=spot,
    )  # fmt: skip


def _is_known(value: float | None) -> bool:
    return value is not None and isfinite(value)

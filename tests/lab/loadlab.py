"""A staging directory made by hand, and questions to a loaded database."""

import hashlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import Dataset, arrow_schema, dataset
from stagingest.model.task import Entry, Outcome
from stagingest.model.windows import Window

NOON = datetime(2024, 1, 10, 17, tzinfo=UTC)
DAY = timedelta(days=1)


def day(number: int) -> date:
    return date(2024, 1, 1) + number * DAY


def window(start: int, end: int) -> Window:
    return Window(day(start), day(end))


SIP = {"interval": "1d", "feed": "sip", "adjustment": "raw", "currency": "USD", "asof": ""}
BARS = Series.of("alpaca/stock-bars", SIP)
IEX = Series.of("alpaca/stock-bars", {**SIP, "feed": "iex"})
OPTIONS = Series.of("alpaca/option-bars", {"interval": "1d"})
ACTIVE = Series.of("alpaca/option-contracts", {"status": "active"})
BOUNDS = ("strike_gte", "strike_lte", "option_type", "expiry_gte", "expiry_lte")
CHAIN = Series.of("alpaca/option-snapshots", {"feed": "indicative", **dict.fromkeys(BOUNDS, "")})
CALLS = Series.of("alpaca/option-snapshots", {**dict(CHAIN.params), "option_type": "call"})
INACTIVE = Series.of("alpaca/option-contracts", {"status": "inactive"})


@dataclass
class Staging:
    """A source that loading can read: Parquet files below `root`, entries in a list."""

    root: Path
    staging_id: str = "one"
    listed: list[Entry] = field(default_factory=list)
    complaints: dict[int, str] = field(default_factory=dict)
    remembered: dict[str, set[int]] = field(default_factory=dict)
    planned: list[Chunk] = field(default_factory=list)

    def open_chunks(self) -> list[Chunk]:
        return self.planned

    def entries(self, without: Container[tuple[int, str]] = ()) -> Iterator[Entry]:
        return (entry for entry in self.listed if (entry.seq, entry.sha256) not in without)

    def has_pruned(self) -> bool:
        return any(entry.outcome is Outcome.PRUNED for entry in self.listed)

    def complain(self, seq: int, path: str, reason: str) -> None:
        self.complaints[seq] = f"{path} {reason}"

    def remember(self, target: str, taken: Iterable[int]) -> None:
        self.remembered[target] = set(taken)

    def enter(self, chunk: Chunk, outcome: Outcome, *, asked_at: datetime | None = None, **values: Any) -> Entry:
        seq = len(self.listed) + 1
        values = {"reason": "", "covers": outcome in (Outcome.STAGED, Outcome.EMPTY), **values}
        entry = Entry(seq, chunk, "run", seq, outcome, asked_at=asked_at or NOON + seq * timedelta(minutes=1), **values)
        self.listed.append(entry)
        return entry

    def stage(
        self,
        chunk: Chunk,
        rows: list[dict[str, Any]],
        *,
        columns: Iterable[str] = (),
        asked_at: datetime | None = None,
        **values: Any,
    ) -> Entry:
        """Write rows as the chunk's file and enter it; `columns` gives them another order."""
        data = dataset(chunk.series.endpoint.partition("/")[2])
        asked_at = asked_at or NOON + (len(self.listed) + 1) * timedelta(minutes=1)
        for row in rows:
            row.setdefault("updated_at", asked_at.replace(tzinfo=None))
        table = pa.Table.from_pylist(rows, schema=arrow_schema(data))
        path = self.root / "data" / f"{chunk.id}.{len(self.listed)}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.select(list(columns) or table.column_names), path, store_schema=False)
        content = path.read_bytes()
        counts = dict.fromkeys(chunk.symbols, 0)
        for row in rows:
            counts[row[data.symbol]] += 1
        values.setdefault("schema", data.schema)
        return self.enter(
            chunk,
            Outcome.STAGED,
            asked_at=asked_at,
            path=str(path.relative_to(self.root)),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            rows=len(rows),
            symbol_rows=tuple((symbol, count) for symbol, count in counts.items() if count),
            **values,
        )

    def file(self, entry: Entry) -> Path:
        return self.root / entry.path

    def bars(
        self, symbols: str, start: int, end: int, price: float = 1.0, *, series: Series = BARS, **options: Any
    ) -> Entry:
        """Stage daily bars of symbols (one text, blanks between) for the days from `start` to before `end`."""
        chunk = Chunk(series, tuple(symbols.split()), window(start, end))
        rows = [bar(symbol, number, price) for symbol in chunk.symbols for number in range(start, end)]
        return self.stage(chunk, rows, **options)


def bar(symbol: str, number: int, price: float) -> dict[str, Any]:
    """A daily bar of day `number`, stamped midnight New York."""
    return {
        "symbol": symbol, "interval": "1d", "ts": datetime.combine(day(number), datetime.min.time()).replace(hour=5),
        "provider": "alpaca", "feed": "sip", "adjustment": "raw", "currency": "USD", "asof": "",
        "open": price, "high": price + 2, "low": price - 1, "close": price + 1, "volume": 100, "trade_count": None,
        "vwap": None, "session_date": day(number),
    }  # fmt: skip


def contract(symbol: str, as_of: int, **values: Any) -> dict[str, Any]:
    return {
        "contract_symbol": symbol, "provider": "alpaca", "underlying": "AAPL", "root_symbol": "AAPL",
        "expiry": date(2024, 6, 21), "option_type": "call", "strike": Decimal("150.500"), "multiplier": 100.0,
        "size": 100.0, "style": "american", "status": "active", "deliverables": '[{"symbol":"AAPL"}]',
        "as_of_date": day(as_of), "open_interest": 7, "raw_json": '{"id":1}', **values,
    }  # fmt: skip


def snapshot(symbol: str, moment: datetime, bid: float, **values: Any) -> dict[str, Any]:
    """A snapshot of a contract of AAPL, captured at `moment`."""
    return {
        "contract_symbol": symbol, "snapshot_ts": moment.replace(tzinfo=None), "provider": "alpaca",
        "feed": "indicative", "underlying": "AAPL", "bid": bid, **values,
    }  # fmt: skip


def ask(path: Path, text: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of a query on a database nobody holds."""
    with duckdb.connect(str(path), read_only=True) as db:
        return db.execute(text, list(values)).fetchall()


def all_rows(path: Path, data: Dataset) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of a dataset, sorted."""
    return {table.name: ask(path, f'SELECT * FROM "{table.name}" ORDER BY ALL') for table in data.tables}

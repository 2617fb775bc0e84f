"""The latest daily closes of stocks, as they were staged or loaded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from stagingest.lost import there
from stagingest.manifest import Manifest
from stagingest.model import Entry


@dataclass(frozen=True, slots=True)
class Close:
    """A close in dollars, and the session it is of (its bar's stamp, UTC without zone)."""

    ts: datetime
    close: float


def latest(
    root: Path, db: str | Path | None, provider: str, symbols: Iterable[str], since: datetime
) -> dict[str, float]:
    """The latest raw daily closes of a provider's bars that are stamped at `since` (UTC without zone) or later.

    Args:
        root: a staging directory; it need not exist.
        db: a DuckDB file; it need not exist.
        provider: whose prices.
        symbols: of whom; one without such a close is not in the answer.
        since: older closes say nothing of today.
    """
    wanted = set(symbols)
    found: dict[str, Close] = {}
    for symbol, close in (*_staged(root, provider, wanted), *_loaded(db, provider, wanted)):
        if close.ts >= since and (symbol not in found or close.ts > found[symbol].ts):
            found[symbol] = close
    return {symbol: close.close for symbol, close in found.items()}


def _staged(root: Path, provider: str, wanted: set[str]) -> Iterator[tuple[str, Close]]:
    import pyarrow.parquet as pq

    for entry in _newest(root, provider, wanted):
        table = pq.read_table(root / entry.path, columns=["symbol", "ts", "close"], partitioning=None)
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        yield from ((symbol, Close(ts, close)) for symbol, ts, close in rows if symbol in wanted)


def _newest(root: Path, provider: str, wanted: set[str]) -> list[Entry]:
    """For each symbol the entry whose window ends last."""
    if not there(root):
        return []
    last: dict[str, Entry] = {}
    with Manifest.read(root, unseen=True) as manifest:
        for entry in manifest.entries():
            series = entry.chunk.series
            if not entry.path or series.endpoint != f"{provider}/stock-bars":
                continue
            params = dict(series.params)
            if (params["interval"], params["adjustment"], params["currency"]) != ("1d", "raw", "USD"):
                continue
            for symbol, rows in entry.symbol_rows:
                if rows and symbol in wanted and _end(entry) >= _end(last.get(symbol, entry)):
                    last[symbol] = entry
    return list({entry.seq: entry for entry in last.values()}.values())


def _end(entry: Entry) -> tuple[object, int]:
    return entry.chunk.window.end, entry.seq


def _loaded(db: str | Path | None, provider: str, wanted: set[str]) -> list[tuple[str, Close]]:
    if db is None or not Path(db).exists():
        return []
    from stagingest.targets.duckread import closes

    return [(symbol, Close(ts, close)) for symbol, ts, close in closes(Path(db), provider, wanted)]

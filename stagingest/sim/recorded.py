"""Recorded option chains, one a day, and recorded open interest, as files hold them."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stagingest import sessions
from stagingest.sim.contracts import Contract, of_row
from stagingest.sim.moments import Moment, stamp
from stagingest.sim.snapshots import GREEKS, Snapshot

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

    def take_chains(self, path: Path) -> list[Contract]:
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

    def counted(self, contract: Contract, today: date) -> Contract:
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
        at_ns = int(sessions.instant(day).timestamp() + 16 * 3600) * _NS
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

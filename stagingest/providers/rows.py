"""The rows of a bars page, as both of its readers hand them over."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

DOUBLES = {"o": "open", "h": "high", "l": "low", "c": "close", "vw": "vwap"}
COUNTS = {"v": "volume", "n": "trade_count"}
REQUIRED = frozenset("ohlcvt")
KEYS = REQUIRED | {"n", "vw"}


@dataclass(frozen=True, slots=True)
class Rows:
    """What a page holds.

    Args:
        envelope: the page's top level; what stands under `bars` in it is not to be used.
        symbols: dictionary<int32, string>, one value per row; no name is there twice or without a row.
        ts: timestamp('us'), UTC.
        values: float64 (counts: int64) by wire key; `n` and `vw` may be missing or hold nulls.
        unknown: other keys that bars have.
    """

    envelope: Mapping[str, Any]
    symbols: pa.DictionaryArray
    ts: pa.Array
    values: Mapping[str, pa.Array]
    unknown: frozenset[str] = frozenset()

    def table(self, symbol: str) -> pa.Table:
        """The rows as page columns: `symbol`, ts, open, high, low, close, volume, trade_count, vwap."""
        columns = {symbol: self.symbols, "ts": self.ts}
        for key in ("o", "h", "l", "c", "v", "n", "vw"):
            name, kind = (COUNTS[key], pa.int64()) if key in COUNTS else (DOUBLES[key], pa.float64())
            columns[name] = self.values[key] if key in self.values else pa.nulls(len(self.ts), kind)
        return pa.table(columns)


def runs(names: Sequence[str], ends: Sequence[int]) -> pa.DictionaryArray:
    """The symbol of every row: `names[i]` from where the one before it ends up to row `ends[i]`."""
    lengths = [end - start for start, end in pairwise((0, *ends))]
    codes = b"".join(code.to_bytes(4, sys.byteorder) * length for code, length in enumerate(lengths))
    indices = pa.Array.from_buffers(pa.int32(), sum(lengths), [None, pa.py_buffer(codes)])
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))

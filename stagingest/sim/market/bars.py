"""Bars of one symbol: as columns, summed to coarser ones, and as JSON text that is only ever cut.

A *frame* is an Arrow table with `t` (int64, seconds since 1970 UTC), `o h l c` (double), `v` (int64) and, when the
source has them, `n` (int64) and `vw` (double), ascending in `t`.
"""

import re
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.sim.market.arrow import add, constant, div, mul, real, sub

_ALLOWED: dict[str, Collection[int]] = {
    "Min": range(1, 60),
    "Hour": range(1, 24),
    "Day": (1,),
    "Week": (1,),
    "Month": (1, 2, 3, 4, 6, 12),
}
_UNITS = {"T": "Min", "H": "Hour", "D": "Day", "W": "Week", "M": "Month"} | {unit: unit for unit in _ALLOWED}
_TIMEFRAME = re.compile(r"(\d{1,2})([A-Za-z]+)")
_JSON_KEYS = ("c", "h", "l", "n", "o", "t", "v", "vw")  # the order in which the provider writes them
_DAY_S = 86_400


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


Value = TypeVar("Value", bound=_Sized)


@dataclass(frozen=True, slots=True)
class Timeframe:
    """The length of a bar: `amount` of a `unit` (Min, Hour, Day, Week, Month)."""

    amount: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Timeframe | None":
        """The timeframe of `5Min`, `5T`, `1Day` and so on, or None when there is no such one."""
        found = _TIMEFRAME.fullmatch(text)
        unit = _UNITS.get(found[2]) if found else None
        if not found or unit is None or int(found[1]) not in _ALLOWED[unit]:
            return None
        return cls(int(found[1]), unit)

    @property
    def intraday(self) -> bool:
        """Whether several bars fit in a session."""
        return self.unit in ("Min", "Hour")

    @property
    def seconds(self) -> int:
        """Length of an intraday bar."""
        return self.amount * (60 if self.unit == "Min" else 3600)

    def period(self, day: date) -> date:
        """The first day of the bar that holds `day`: itself, its Monday, or the first of its months."""
        if self.unit == "Week":
            return day - timedelta(days=day.weekday())
        if self.unit == "Month":
            return date(day.year, (day.month - 1) // self.amount * self.amount + 1, 1)
        return day


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything but symbol and time that changes a bar."""

    timeframe: Timeframe
    feed: str = "sip"
    adjustment: frozenset[str] = frozenset()
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Bars:
    """Encoded bars: their stamps (seconds) and their JSON objects, each followed by a comma, in one buffer."""

    stamps: memoryview
    offsets: memoryview
    text: memoryview

    def span(self, first_s: int, last_s: int) -> tuple[int, int]:
        """Indices `[i, j)` of the bars stamped from `first_s` to `last_s`, both included."""
        return bisect_left(self.stamps, first_s), bisect_right(self.stamps, last_s)

    def cut(self, i: int, j: int, *, descending: bool = False) -> bytes:
        """The bars `[i, j)` as JSON objects with commas between them."""
        at, text = self.offsets, self.text
        if not descending:
            return bytes(text[at[i] : at[j] - 1])
        return b",".join(bytes(text[at[k] : at[k + 1] - 1]) for k in range(j - 1, i - 1, -1))

    def part(self, i: int, j: int) -> "Bars":
        """The bars `[i, j)`, sharing this one's memory."""
        return Bars(self.stamps[i:j], self.offsets[i : j + 1], self.text)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.text.nbytes + self.stamps.nbytes + self.offsets.nbytes


def _text_of(frame: pa.Table, name: str) -> pa.Array:
    column = frame[name].combine_chunks()
    if name == "t":
        return pc.replace_substring(pc.cast(pc.cast(column, pa.timestamp("s")), pa.string()), " ", "T")
    return pc.cast(column, pa.string())


def _part(part: Any) -> Any:
    return constant(part) if isinstance(part, str) else part


def encode(frame: pa.Table) -> Bars:
    """The JSON of a frame; columns it does not have are not in the JSON."""
    parts: list[Any] = []
    for name in (key for key in _JSON_KEYS if key in frame.column_names):
        quote = '"' if name == "t" else ""
        opening = f'{parts.pop()},"{name}":{quote}' if parts else f'{{"{name}":{quote}'
        parts += [opening, _text_of(frame, name), 'Z"' if quote else ""]
    rows = pc.binary_join_element_wise(*map(_part, [*parts[:-1], parts[-1] + "},", ""]))
    stamps = frame["t"].combine_chunks()
    return Bars(
        _view(stamps.buffers()[1]).cast("q")[stamps.offset : stamps.offset + len(stamps)],
        _view(rows.buffers()[1]).cast("i")[rows.offset : rows.offset + len(rows) + 1],
        memoryview(rows.buffers()[2] or b""),
    )


def _view(buffer: pa.Buffer | None) -> memoryview:
    return memoryview(buffer or b"").cast("B")


def intraday_buckets(stamps: pa.Array, step_s: int) -> pa.Array:
    """The start of each stamp's interval on the UTC grid, which begins anew at each UTC midnight."""
    midnight = mul(div(stamps, _DAY_S), _DAY_S)
    return add(midnight, mul(div(sub(stamps, midnight), step_s), step_s))


def aggregate(frame: pa.Table, buckets: pa.Array, by: tuple[str, ...] = ()) -> pa.Table:
    """The frame summed to one row per bucket (and per value of the columns `by`)."""
    worth = mul(frame["vw"], real(frame["v"]))
    frame = frame.set_column(frame.column_names.index("t"), "t", buckets).append_column("worth", worth)
    how = [("o", "first"), ("h", "max"), ("l", "min"), ("c", "last"), ("v", "sum"), ("n", "sum"), ("worth", "sum")]
    groups = frame.group_by([*by, "t"], use_threads=False).aggregate(how)
    groups = groups.sort_by([(name, "ascending") for name in (*by, "t")])  # groups come in the order of their hash
    sums = {name: groups[f"{name}_{function}"] for name, function in how}
    mean = pc.round(div(sums.pop("worth"), real(sums["v"])), 6)
    return pa.table({**{name: groups[name] for name in (*by, "t")}, **sums, "vw": mean})


class Cache(Generic[Value]):
    """Values with a size (`nbytes`) that are dear to make; the most recently used ones, up to `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._held: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`, made when it is not held."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        value = self._held[key] = make()
        self._bytes += value.nbytes
        while self._bytes > self._max_bytes and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
        return value

"""Which chunks are due: what was asked, minus what is covered, minus what is open, cut to size."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from math import ceil

from stagingest.model import calendar
from stagingest.model.calendar import DAY
from stagingest.model.chunk import Chunk, Cut, Job, SymbolWindow
from stagingest.model.option_symbol import OptionSymbol
from stagingest.model.windows import Covered, Window, aligned, ceiling, merged, minus, split_at
from stagingest.planning.adjusted import Anchors


def due(
    job: Job,
    cut: Cut,
    final_before: date,
    coverage: Covered,
    open_chunks: Iterable[Chunk] = (),
    anchors: Anchors | None = None,
    in_flight: int = 1,
) -> list[Chunk]:
    """The chunks to add for `job`.

    Args:
        job: what was asked.
        cut: how its endpoint cuts.
        final_before: answers for days before this do not change; final and open time never share a chunk.
        coverage: covered windows per symbol, in any order.
        open_chunks: chunks of the same series that are planned already.
        anchors: known sessions, for an adjusted series.
        in_flight: requests that the provider's rate keeps in flight; a small job is cut into at least as many chunks.
    """
    held: dict[str, list[Window]] = {}
    for chunk in open_chunks:
        for symbol in chunk.symbols:
            held.setdefault(symbol, []).append(chunk.window)
    groups: dict[tuple[Window, ...], list[str]] = {}
    for asked in job.asked:
        window = aligned(cut.grid, asked.window)
        for symbol in asked.symbols:
            covered = merged(coverage.get(symbol, ()))
            missing = minus(window, merged([*covered, *held.get(symbol, ())]) if symbol in held else covered)
            if anchors is not None and missing and covered:
                missing = anchors.stretched(symbol, missing, covered, cut.grid)
            if missing:
                groups.setdefault(tuple(missing), []).append(symbol)
    parts = [
        (symbols, part)
        for windows, symbols in groups.items()
        for window in windows
        for part in split_at(window, final_before)
    ]
    rows = sum(len(symbols) * expected_rows(part, cut) for symbols, part in parts)
    cut = replace(cut, target_rows=_target_rows(rows / in_flight, cut))
    return [
        Chunk(job.series, symbols, piece)
        for symbols_due, part in parts
        for symbols, piece in pieces(symbols_due, part, cut)
    ]


def from_starts(symbols: Iterable[str], window: Window, starts: Mapping[str, date]) -> tuple[SymbolWindow, ...]:
    """The window of each symbol, begun later or earlier for those that have a start of their own."""
    groups: dict[date, list[str]] = {}
    for symbol in symbols:
        start = min(starts.get(symbol, window.start), window.end - DAY)  # who has everything still counts as asked
        groups.setdefault(start, []).append(symbol)
    return tuple(SymbolWindow(tuple(group), Window(start, window.end)) for start, group in sorted(groups.items()))


def reopened(
    coverage: Mapping[str, Sequence[Window]], days: int, fresh: Mapping[str, Sequence[Window]]
) -> dict[str, list[Window]]:
    """The coverage without the last `days` of each symbol, but for what is `fresh`."""
    found = {}
    for symbol, windows in coverage.items():
        edge = max(window.end for window in windows) - timedelta(days=days)
        kept = [Window(window.start, min(window.end, edge)) for window in windows if window.start < edge]
        found[symbol] = [*kept, *fresh.get(symbol, ())]
    return found


def _target_rows(rows: float, cut: Cut) -> int:
    """`rows` in whole pages, from one page to the cut's own target."""
    pages = max(1, ceil(rows / cut.full_page))
    return min(cut.target_rows, max(1, int(pages * cut.full_page)))


def expected_rows(window: Window, cut: Cut) -> float:
    """Rows expected of one symbol in a window."""
    return cut.rows_per_session * max(1, calendar.count(window.start, window.end))


def pieces(symbols: Sequence[str], window: Window, cut: Cut) -> Iterator[tuple[tuple[str, ...], Window]]:
    """Cut symbols and window into (symbols, window) pieces of about `cut.target_rows` expected rows."""
    rows = expected_rows(window, cut)
    if rows <= cut.target_rows:
        size = max(1, min(cut.symbol_cap, int(cut.target_rows / rows)))
        for i in range(0, len(symbols), size):
            yield tuple(symbols[i : i + size]), window
        return
    windows = list(_spans(window, cut))
    for symbol in symbols:
        for span in windows:
            yield (symbol,), span


def _spans(window: Window, cut: Cut) -> Iterator[Window]:
    sessions_each = max(1, int(cut.target_rows / cut.rows_per_session))
    start = window.start
    while start < window.end:
        end = max(ceiling(cut.grid, calendar.after(start, sessions_each)), start + DAY)
        end = min(end, window.end)
        yield Window(start, end)
        start = end


@dataclass(frozen=True, slots=True)
class SampleLimits:
    """Of how much a run asks at most; None is all.

    Args:
        underlyings: the first of those that have something due.
        expiries: the next ones, of each underlying.
        contracts: the first ones by underlying, expiry and name.
    """

    underlyings: int | None = None
    expiries: int | None = None
    contracts: int | None = None

    def __bool__(self) -> bool:
        return any(bound is not None for bound in (self.underlyings, self.expiries, self.contracts))

    def of(self, symbols: Iterable[str]) -> frozenset[str]:
        """Which of the symbols are asked: underlyings by themselves, or option contracts."""
        families: dict[str, dict[date, list[str]]] = {}
        for symbol in symbols:
            parts = OptionSymbol.parse(symbol)
            root, expiry = (parts.root, parts.expiry) if parts else (symbol, date.min)
            families.setdefault(root, {}).setdefault(expiry, []).append(symbol)
        kept = [
            symbol
            for family in list(families.values())[: self.underlyings]
            for expiry in sorted(family)[: self.expiries]
            for symbol in sorted(family[expiry])
        ]
        return frozenset(kept[: self.contracts])

    def __str__(self) -> str:
        bounds = (("underlyings", self.underlyings), ("expiries", self.expiries), ("contracts", self.contracts))
        return " ".join(f"--max-{name} {bound}" for name, bound in bounds if bound is not None)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a list of chunks would cost: requests, rows and staged bytes, all expected values."""

    chunks: int = 0
    requests: int = 0
    rows: int = 0
    bytes: int = 0

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(
            self.chunks + other.chunks,
            self.requests + other.requests,
            self.rows + other.rows,
            self.bytes + other.bytes,
        )


def estimate(chunks: Iterable[Chunk], cut: Cut) -> Estimate:
    """Expected cost of chunks of one series; a chunk costs at least one request."""
    number = requests = 0
    rows = 0.0
    per_window: dict[Window, float] = {}
    for chunk in chunks:
        each = per_window.get(chunk.window)
        if each is None:
            each = per_window[chunk.window] = expected_rows(chunk.window, cut)
        expected = each * len(chunk.symbols)
        number += 1
        rows += expected
        requests += max(1, -int(-expected // cut.full_page))
    return Estimate(number, requests, int(rows), int(rows) * cut.row_bytes)


# In flight over all processes (FETCH section 3: more never helped, however far the provider).
FEWEST_LANES, MOST_LANES = 4, 64
# Assumed before the first answer; between a near and a far data centre.
LATENCY_S = 0.25


def in_flight(rate_per_s: float, latency_s: float = LATENCY_S) -> int:
    """Requests that are worth having in flight: rate times latency, half as many again, from 1 to 64."""
    return max(1, min(MOST_LANES, round(1.5 * rate_per_s * latency_s)))

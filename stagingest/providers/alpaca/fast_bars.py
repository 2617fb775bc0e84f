"""Reads a bars page whose whole text one regular expression proves, and declines every other page.

A page of the usual shape is lists of bars that differ in digits only. Once RE2 has matched all of it (plain symbols,
the same keys in the same order everywhere, JSON's own numbers, stamps of whole minutes), one translation of its bytes
leaves CSV that can be read in one way only. Proof and CSV run in C++ without the GIL and cost about as much as parsing
the JSON into objects, of which columns were yet to be made. The order of the keys is learnt from the first bar; nothing
is read from a page that is not matched whole.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from stagingest.providers.decode.bars import COUNTS, DOUBLES, KEYS, REQUIRED, Rows, runs

_OPENING = b'"bars":{'
_NAME = r'"[A-Z0-9.\-]+"'
_COUNT = r"(?:0|[1-9][0-9]*)"
_NUMBER = _COUNT + r"(?:\.[0-9]+)?"
_DAY = "[12][0-9]{3}-[0-9]{2}-[0-9]{2}"
_GRAMMAR = {**dict.fromkeys(COUNTS, _COUNT), **dict.fromkeys(DOUBLES, _NUMBER)}

# `"AAPL":[{"c":1.5,"n":7,"t":"2024-01-02T05:30:00Z"},` becomes a line `AAPL,` and a line
# `,1.5,7,2024-01-02T05,30,00Z`: colons separate, so that a stamp's hour is left in a form Arrow reads as ISO 8601.
_LINES = bytes.maketrans(b"}[:", b"\n\n,")
_DELETED = b'{]",abcdefghijklmnopqrstuvwxyz'
_STAMP_CELLS = ("hour", "minute", "second")

_MINUTE_S = pa.scalar(60, pa.int64())
_MOST_BYTES = 1 << 30
# From here on doubles skip integers: what is right there is for the reader by name to say.
_EXACT = 2.0**53


@dataclass(frozen=True, slots=True)
class _Shape:
    """How bars with the same keys in the same order are proved and read."""

    proof: pc.MatchSubstringOptions
    cells: tuple[str, ...]
    kinds: csv.ConvertOptions


def read(body: bytes, *, minutes: bool) -> Rows | None:
    """The rows of a page, or None when its shape is not proved.

    Args:
        body: a whole response body.
        minutes: whether bars may begin at any minute; otherwise only pages on the hour are proved, sooner.
    """
    opening = body.find(_OPENING)
    start, end = opening + len(_OPENING), body.rfind(b"]") + 1
    if opening < 0 or not start < end < _MOST_BYTES or not body.startswith(b'"', start):
        return None
    head, tail = body[:start], body[end:]
    envelope, keys = _envelope(head, tail), _keys(body, start)
    if envelope is None or keys is None:
        return None
    shape = _shape(keys, minutes)
    if not _matches(body, start, end, shape):
        return None
    text = body.translate(_LINES, _DELETED)
    first, last = len(head.translate(_LINES, _DELETED)), len(text) - len(tail.translate(_LINES, _DELETED))
    lines, symbols = pa.py_buffer(text).slice(first, last - first), list[tuple[int, str]]()
    # One block, so that a column is one array; a block larger than the text costs more.
    reading = csv.ReadOptions(column_names=shape.cells, use_threads=False, block_size=last - first + 1)
    try:
        table = csv.read_csv(lines, reading, _parsing(symbols), shape.kinds)
    except pa.ArrowInvalid:
        return None
    columns = {name: column.chunk(0) for name, column in zip(table.column_names, table.itercolumns(), strict=True)}
    return _rows(envelope, symbols, columns)


def _envelope(head: bytes, tail: bytes) -> dict[str, Any] | None:
    """The page without its bars, when `head` ends and `tail` begins in the one object named `bars`.

    Without backslashes no quote stands inside a string, so the one `"bars":{` in JSON is a key and its object.
    """
    shell = head + tail
    if b"\\" in shell or not tail.startswith(b"}") or shell.count(b'"bars"') != 1:
        return None
    try:
        envelope = orjson.loads(shell)
    except orjson.JSONDecodeError:
        return None
    return envelope if isinstance(envelope, dict) and envelope.get("bars") == {} else None


def _keys(body: bytes, start: int) -> tuple[str, ...] | None:
    """The keys of the first bar in their order, when they are those of a bar."""
    opening = body.find(b"{", start)
    try:
        bar = orjson.loads(body[opening : body.find(b"}", opening) + 1])
    except orjson.JSONDecodeError:
        return None
    return tuple(bar) if REQUIRED <= bar.keys() <= KEYS else None


def _matches(body: bytes, start: int, end: int, shape: _Shape) -> bool:
    offsets = pa.py_buffer(struct.pack("=ii", start, end))
    page = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(body)])
    return bool(pc.match_substring_regex(page, options=shape.proof)[0].as_py())


@lru_cache(maxsize=64)
def _shape(keys: tuple[str, ...], minutes: bool) -> _Shape:  # noqa: FBT001 - caches take arguments by position
    cells = [cell for key in keys for cell in (_STAMP_CELLS if key == "t" else (key,))]
    kinds = {key: pa.int64() if key in COUNTS else pa.float64() for key in keys if key != "t"}
    kinds |= {"hour": pa.timestamp("us"), **({"minute": pa.int64()} if minutes else {})}
    return _Shape(
        _proof(keys, "[0-5][0-9]" if minutes else "00"),
        ("", *cells),
        csv.ConvertOptions(
            column_types=kinds,
            include_columns=list(kinds),
            null_values=[],
            timestamp_parsers=[csv.ISO8601],
            check_utf8=False,
        ),
    )


def _proof(keys: tuple[str, ...], minute: str) -> pc.MatchSubstringOptions:
    """Matches `"SYMBOL":[bar,…],…` and nothing else, of text that begins with a quote.

    A bar is written once, behind each of the three things that may precede it: copies cost time to compile. Whether
    its day and hour exist is left to the CSV reader, which is strict about both.
    """
    grammar = {**_GRAMMAR, "t": f'"{_DAY}T[0-9]{{2}}:{minute}:00Z"'}
    bar = ",".join(f'"{key}":{grammar[key]}' for key in keys)
    return pc.MatchSubstringOptions(rf"\A(?:(?:(?:\A|\}}\],){_NAME}:\[|\}},)\{{{bar})+\}}\]\z")


def _parsing(symbols: list[tuple[int, str]]) -> csv.ParseOptions:
    """A line of a symbol has one separator, a line of a bar never: it is noted with its number, and passed over."""

    def note(line: csv.InvalidRow) -> str:
        symbols.append((line.number, line.text.rstrip(",")))
        return "skip"

    return csv.ParseOptions(
        quote_char=False, double_quote=False, escape_char=False, ignore_empty_lines=False, invalid_row_handler=note
    )


def _rows(envelope: dict[str, Any], symbols: list[tuple[int, str]], columns: dict[str, pa.Array]) -> Rows | None:
    names = [name for _, name in symbols]
    # No double is negative here, so one that is infinite or too large shows in the sum.
    if len(set(names)) < len(names) or any(
        pc.sum(values).as_py() >= _EXACT for key, values in columns.items() if key in DOUBLES
    ):
        return None
    ts, minute = columns.pop("hour"), columns.pop("minute", None)
    if minute is not None:
        ts = pc.add(ts, pc.multiply(minute, _MINUTE_S).view(pa.duration("s")))
    # A line's number counts from 1 and counts the symbols' lines.
    begins = [number - 1 - place for place, (number, _) in enumerate(symbols)]
    return Rows(envelope, runs(names, [*begins[1:], len(ts)]), ts, columns)

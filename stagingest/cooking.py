"""What a cook does at the end of an order: pages become one sorted table, and that one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from stagingest import shaping, staging
from stagingest.datasets import Dataset, dataset
from stagingest.model import Chunk, Kind
from stagingest.orders import Edge, Order, Part, footer
from stagingest.providers import Endpoint, bars


@dataclass(frozen=True, slots=True)
class Dish:
    """A written file, the rows of each symbol in it, and its edges when the order wants them."""

    part: Part
    symbol_rows: tuple[tuple[str, int], ...]
    edges: tuple[Edge, ...]


def stage(
    root: Path, staging_id: str, order: Order, endpoint: Endpoint, pages: Sequence[pa.Table], asked_at: datetime
) -> Dish:
    """Write the pages of an order as its part.

    Raises:
        ConflictError: rows of one key that differ.
        OSError: the part cannot be written.
    """
    kind = dataset(endpoint.dataset)
    history = endpoint.kind is Kind.HISTORY
    rows = shaping.joined(pages, (kind.columns[0].name, kind.time) if history else (kind.columns[0].name,))
    days = _session_dates(rows, kind, order) if history else None
    table = shaping.staged(rows, kind, _constants(endpoint, order.chunk, asked_at), days)
    runs = shaping.runs(table.column(kind.symbol))
    part = staging.write_part(root, order.part, table, footer(staging_id, order, kind.schema, asked_at))
    return Dish(part, shaping.symbol_rows(runs), shaping.edges(table, runs) if order.adjusted else ())


def _constants(endpoint: Endpoint, chunk: Chunk, asked_at: datetime) -> dict[str, shaping.Constant]:
    constants: dict[str, shaping.Constant] = {**endpoint.constants(chunk.series), "updated_at": asked_at}
    if endpoint.kind is Kind.LISTING:
        constants["as_of_date"] = chunk.window.start
    if endpoint.kind is Kind.CAPTURE:
        (constants["underlying"],), constants["snapshot_ts"] = chunk.symbols, asked_at
    return constants


def _session_dates(rows: pa.Table, kind: Dataset, order: Order) -> pa.Array:
    return bars.session_dates(rows.column(kind.time).combine_chunks(), order.chunk.series, order.chunk.window)

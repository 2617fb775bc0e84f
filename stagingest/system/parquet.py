"""How a table becomes the bytes of a Parquet file; the only door to Parquet writing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


# Measured by `scripts/bench write` on real prices: dictionaries on everything double the CPU of writing and save
# nothing; lz4 with deltas for stamps and counts is half of zstd-1. DuckDB verifies no page checksums, pyarrow does.
_DICTIONARIES = ("dictionary<values=string, indices=int32, ordered=0>", "date32[day]")
_FOUND_BY = ("symbol", "contract_symbol", "underlying", "expiry", "ts", "snapshot_ts")
_CONSTANT = ("updated_at", "snapshot_ts")
_FORMAT = {"compression": "lz4", "write_page_checksum": True, "store_schema": False}


def _columns(schema: "pa.Schema") -> dict[str, Any]:
    """Dictionaries for text, days and columns that are the same in every row; deltas for stamps and counts;
    statistics, which cost a fifth of the writing, for the columns rows are found by.
    """
    plain = {field.name: str(field.type) for field in schema}
    dictionary = [name for name, kind in plain.items() if kind in _DICTIONARIES or name in _CONSTANT]
    deltas = {
        name: "DELTA_BINARY_PACKED"
        for name, kind in plain.items()
        if kind in ("int64", "timestamp[us]") and name not in dictionary
    }
    found_by = [name for name in _FOUND_BY if name in plain]
    return {"use_dictionary": dictionary, "column_encoding": deltas, "write_statistics": found_by}


def parquet(table: "pa.Table", footer: Mapping[str, str]) -> "pa.Buffer":
    """A file of one row group.

    Args:
        table: sorted by key.
        footer: goes into the file's key-value metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Through memory: a file object of Python's would be called for every page of every column.
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **_FORMAT, **_columns(table.schema)) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))
        writer.add_key_value_metadata(dict(footer))
    return sink.getvalue()

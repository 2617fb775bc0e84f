"""The datasets: staged columns, keys, schema numbers, and the tables they become."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stagingest.errors import StagingestError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its kind, and the schema number of its dataset that it came with.

    Kinds: `text` and `label` (dictionary-encoded when staged), `json`, `timestamp` (UTC, microseconds, no zone),
    `date`, `double`, `bigint`, `strike` (decimal(18,3)). A label is the one value that a series gives to a key column;
    targets may store it as an enumeration: text that is the same in millions of rows is the dearest column of a load in
    DuckDB (half of its wall time, measured by `scripts/bench load`).

    A column is added here alone: one that is no key, `since` the dataset's next schema number. Files staged before
    hold NULL there, and targets add it to their tables. One that becomes wider (`bigint` to `double`) takes the next
    number too, and a migration of each database; files staged before are cast.
    """

    name: str
    kind: str
    since: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the target: which staged columns it takes, and which of them are its key.

    `keyed` tables are small reference tables that may hold a primary key; the others get none (LOAD: 3x CPU).
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    keyed: bool = False

    def at(self, schema: int) -> "Table":
        """The table with the columns that files of a schema number hold."""
        return replace(self, columns=tuple(column for column in self.columns if column.since <= schema))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Staged columns and the tables they become.

    `symbol` names the column that holds the symbols of a chunk, `time` the one its window cuts ('' for listings). Of a
    `captured` dataset it is the moment a chunk was asked, the same in all its rows: only captures of one moment hold
    the same key.
    """

    name: str
    schema: int
    symbol: str
    time: str
    columns: tuple[Column, ...]
    tables: tuple[Table, ...]
    captured: bool = False


def _columns(text: str) -> tuple[Column, ...]:
    """Columns as `name:kind`, or `name:kind:since`."""
    words = (pair.split(":") for pair in text.split())
    return tuple(Column(name, kind, *map(int, since)) for name, kind, *since in words)


# Volumes and sizes may be fractional: Massive's are since 2026-02-23. Whole ones stay exact up to 2**53.
_BAR = (
    "open:double high:double low:double close:double volume:double trade_count:bigint vwap:double "
    "session_date:date updated_at:timestamp"
)
_STOCK_BARS = _columns(
    "symbol:text interval:label ts:timestamp provider:label feed:label adjustment:label currency:text asof:text " + _BAR
)
_OPTION_BARS = _columns("contract_symbol:text interval:label ts:timestamp provider:label " + _BAR)
_CONTRACTS = _columns(
    "contract_symbol:text provider:label underlying:text root_symbol:text expiry:date option_type:text "
    "strike:strike multiplier:double size:double style:text status:text deliverables:json as_of_date:date "
    "open_interest:bigint open_interest_date:date close_price:double close_price_date:date raw_json:json "
    "updated_at:timestamp"
)

_SNAPSHOTS = _columns(
    "contract_symbol:text snapshot_ts:timestamp provider:label feed:label underlying:text implied_volatility:double "
    "delta:double gamma:double theta:double vega:double rho:double "
    "bid:double bid_size:double ask:double ask_size:double quote_ts:timestamp "
    "last_price:double last_size:double trade_ts:timestamp "
    "day_open:double day_high:double day_low:double day_close:double day_volume:double day_vwap:double "
    "open_interest:bigint underlying_price:double updated_at:timestamp"
)


_MEMBERS = _columns("universe:text symbol:text added_date:date removed_date:date updated_at:timestamp")


def _pick(columns: tuple[Column, ...], names: str) -> tuple[Column, ...]:
    by_name = {column.name: column for column in columns}
    return tuple(by_name[name] for name in names.split())


def dataset(name: str) -> Dataset:
    """The dataset of that name. Raises UsageError naming the known ones."""
    try:
        return DATASETS[name]
    except KeyError:
        raise UsageError(f"There is no dataset {name!r}.", f"Known: {', '.join(DATASETS)}.") from None


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "stock-bars", 2, "symbol", "ts", _STOCK_BARS,
            (
                Table(
                    "stock_bars",
                    ("symbol", "interval", "ts", "provider", "feed", "adjustment", "currency", "asof"),
                    _STOCK_BARS,
                ),
            ),
        ),
        Dataset(
            "option-bars", 2, "contract_symbol", "ts", _OPTION_BARS,
            (Table("option_bars", ("contract_symbol", "interval", "ts", "provider"), _OPTION_BARS),),
        ),
        Dataset(
            "option-contracts", 1, "underlying", "", _CONTRACTS,
            (
                Table(
                    "option_contracts",
                    ("contract_symbol", "provider"),
                    _pick(
                        _CONTRACTS,
                        "contract_symbol provider underlying root_symbol expiry option_type strike multiplier "
                        "size style status deliverables updated_at",
                    ),
                    keyed=True,
                ),
                Table(
                    "option_contract_snapshots",
                    ("contract_symbol", "as_of_date", "provider"),
                    _pick(
                        _CONTRACTS,
                        "contract_symbol as_of_date provider open_interest open_interest_date close_price "
                        "close_price_date raw_json updated_at",
                    ),
                    keyed=True,
                ),
            ),
        ),
        Dataset(
            "option-snapshots", 2, "underlying", "snapshot_ts", _SNAPSHOTS,
            (Table("option_snapshots", ("contract_symbol", "snapshot_ts", "provider", "feed"), _SNAPSHOTS),),
            captured=True,
        ),
        Dataset(
            "universe-members", 1, "universe", "", _MEMBERS,
            (Table("universe_members", ("universe", "symbol", "added_date"), _MEMBERS, keyed=True),),
        ),
    )
}  # fmt: skip


def check_schema(data: Dataset, schema: int, error: type[StagingestError]) -> None:
    """Raise `error` when files of this schema number are newer than this version."""
    if schema > data.schema:
        raise error(
            f"Staged files of {data.name} have schema {schema}, this version reads up to {data.schema}.",
            "Use the version of stagingest that staged them, or a newer one.",
        )


def widened(rows: "pa.Table", data: Dataset, schema: int) -> "pa.Table":
    """Rows of a file of a schema number, with NULL in the columns that the dataset has got since, and wider numbers
    where it has them now; text is plain.
    """
    import pyarrow as pa

    fields = arrow_schema(data)
    for column in data.columns:
        if column.since > schema and column.name not in rows.column_names:
            kind = fields.field(column.name).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            rows = rows.append_column(column.name, pa.nulls(rows.num_rows, kind))
        elif column.kind == "double" and column.name in rows.column_names:
            place, held = rows.column_names.index(column.name), rows.column(column.name)
            rows = (
                rows if pa.types.is_float64(held.type) else rows.set_column(place, column.name, held.cast(pa.float64()))
            )
    return rows


def arrow_schema(dataset: Dataset) -> "pa.Schema":
    """The schema of a staged file: columns in the dataset's order, text as dictionary<int32, string>."""
    import pyarrow as pa

    types = {
        "text": pa.dictionary(pa.int32(), pa.string()),
        "label": pa.dictionary(pa.int32(), pa.string()),
        "json": pa.string(),
        "timestamp": pa.timestamp("us"),
        "date": pa.date32(),
        "double": pa.float64(),
        "bigint": pa.int64(),
        "strike": pa.decimal128(18, 3),
    }
    return pa.schema([(column.name, types[column.kind]) for column in dataset.columns])

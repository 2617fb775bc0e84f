"""SQL text for the datasets, their tables and the ledger, in DuckDB's dialect.

Names come from the tables of `datasets` and pass through `quoted`; values are always named parameters:
`$paths` (list of files), `$ranks` (their order, oldest first), `$since $until` (time), `$low $high` (symbols), and key
columns by their names.
"""

# ruff: noqa: S608 - text is composed here and nowhere else, from quoted names only

from collections.abc import Collection, Sequence

from stagingest.model.datasets import Column, Dataset, Table
from stagingest.targets.sql import quoted

_TYPES = {
    "text": "VARCHAR",
    "json": "JSON",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
    "double": "DOUBLE",
    "bigint": "BIGINT",
    "strike": "DECIMAL(18,3)",
}
_FILES = "read_parquet($paths, hive_partitioning = false)"
_RANKED = (
    "(SELECT * FROM read_parquet($paths, hive_partitioning = false, filename = 'staged_file') "
    "JOIN (SELECT unnest($paths) AS staged_file, unnest($ranks) AS staged_rank) USING (staged_file))"
)


def add(table: Table, column: Column) -> str:
    """Add a column, NULL in every row."""
    return f"ALTER TABLE {quoted(table.name)} ADD COLUMN {quoted(column.name)} {_type(column)}"


def enumeration(label: str, words: Sequence[str]) -> str:
    """Make the type of a label."""
    return f"CREATE TYPE {quoted(f'{label}_label')} AS {_enum(words)}"


def retype(table: Table, column: Column, words: Sequence[str]) -> str:
    """Let a label column hold these words."""
    return f"ALTER TABLE {quoted(table.name)} ALTER {quoted(column.name)} TYPE {_enum(words)}"


def _enum(words: Sequence[str]) -> str:
    return "ENUM (" + ", ".join("'" + word.replace("'", "''") + "'" for word in words) + ")"


def append(table: Table) -> str:
    """Insert every staged row, columns by name."""
    return f"INSERT INTO {quoted(table.name)} BY NAME SELECT {_casts(table)} FROM {_FILES}"


def remove(data: Dataset, table: Table, fixed: Collection[str]) -> str:
    """Delete the rows of the `fixed` key columns' values whose other key columns are staged.

    Times are bounded by parameters besides, so that zone maps keep the cost with the batch.
    """
    return f"{_delete(table, f'SELECT {_keys(table, fixed)} FROM {_FILES}', fixed)} AND {_of(data, table, fixed)}"


def compare(data: Dataset, table: Table, fixed: Collection[str]) -> str:
    """How many rows lie in `windows`, how many of them have a staged key, and how many of those another value.

    Values are compared by their hash: what is joined then is a third as wide.
    """
    name = quoted(table.name)
    values = [column for column in table.columns if column.name not in (*table.key, "updated_at")]
    held = ", ".join(f"{name}.{quoted(value.name)}" for value in values)
    said = ", ".join(f"CAST({quoted(value.name)} AS {_type(value)})" for value in values)
    staged = f"SELECT {_keys(table, fixed)}, hash({said}) AS said FROM {_FILES}"
    return (
        f"SELECT count(*), count(staged.said), count(*) FILTER (staged.said <> hash({held})) "
        f"FROM {name} JOIN {_WINDOWS} ON {_inside(data, table)} AND {_of(data, table, fixed)} "
        f"LEFT JOIN ({staged}) AS staged ON {_same(table, name, fixed)}"
    )


def remove_within(data: Dataset, table: Table, fixed: Collection[str]) -> str:
    """Delete the rows of the `fixed` key columns' values that lie in `windows`."""
    inside = f"{_inside(data, table)} AND {_of(data, table, fixed)}"
    return f"DELETE FROM {quoted(table.name)} USING {_WINDOWS} WHERE {inside}"


_WINDOWS = "(SELECT unnest(symbols) AS symbol, since, until FROM windows) AS windows"


def _inside(data: Dataset, table: Table) -> str:
    name, time = quoted(table.name), f"{quoted(table.name)}.{quoted(data.time)}"
    return f"{name}.{quoted(data.symbol)} = windows.symbol AND {time} >= windows.since AND {time} < windows.until"


def _of(data: Dataset, table: Table, fixed: Collection[str]) -> str:
    """Key columns that are the same in all of a series, and the time, by parameters; a label is compared as a label,
    or the whole table's would be turned into text. Symbols need no bounds: DuckDB takes them from what it joins.
    """
    name = quoted(table.name)
    same = [
        f"{name}.{quoted(column.name)} = CAST(${column.name} AS {_type(column)})"
        for column in table.columns
        if column.name in fixed
    ]
    return " AND ".join([*same, f"{name}.{quoted(data.time)} BETWEEN $since AND $until"])


def remove_older(table: Table) -> str:
    """Delete the rows whose key is staged with the same or a later `updated_at`."""
    keys = _names(table.key)
    staged = f"SELECT {_keys(table)}, max(updated_at) AS updated_at FROM {_FILES} GROUP BY {keys}"
    return f"{_delete(table, staged)} AND {quoted(table.name)}.updated_at <= staged.updated_at"


def append_newest(table: Table) -> str:
    """Insert, of the staged rows of each key not in the table, the one from the file of the highest rank."""
    keys = _names(table.key)
    same = _same(table, "held")
    return (
        f"INSERT INTO {quoted(table.name)} BY NAME SELECT {_casts(table)} FROM {_RANKED} AS staged "
        f"WHERE NOT EXISTS (SELECT 1 FROM {quoted(table.name)} AS held WHERE {same}) "
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY staged_rank DESC) = 1"
    )


def choose(
    data: Dataset, table: Table, names: Collection[str], same: Collection[str], *, bounded: bool, held: Collection[str]
) -> str:
    """Columns of the rows with these values (`$name` of each in `same`), symbols ($symbols, empty: all) and times.

    `held` are the columns that the table has; one that it has not got yet is NULL.
    """
    kinds = {column.name: column for column in table.columns}
    picked = ", ".join(_picked(kinds[name], held) for name in names)
    where = [f"{quoted(name)}::VARCHAR = ${name}" for name in same]
    where += [f"(len($symbols::VARCHAR[]) = 0 OR list_contains($symbols::VARCHAR[], {quoted(data.symbol)}))"]
    where += [f"{quoted(data.time)} >= $since AND {quoted(data.time)} < $until"] if bounded else []
    return f"SELECT {picked} FROM {quoted(table.name)} WHERE {' AND '.join(where)}"


def _picked(column: Column, held: Collection[str]) -> str:
    name = quoted(column.name)
    kind = "VARCHAR" if column.kind in ("label", "json") else _TYPES[column.kind]
    if column.name not in held:
        return f"NULL::{kind} AS {name}"
    return f"{name}::VARCHAR AS {name}" if kind == "VARCHAR" else name


# A read-only database is as it was left: it may lack columns that this version has.
HELD = "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $name"


# Captures of an endpoint are one line, whatever their series: see `Item.line`.
SPANS = """
SELECT if(list_contains($lines, series), series, endpoint) AS line, symbols, list(window_start), list(window_end),
    list(asked_at)
FROM ledger WHERE "rows" > 0
    AND (list_contains($lines, series) OR (list_contains($lines, endpoint) AND asked_at >= $since))
    AND list_min(symbols) <= $high AND list_max(symbols) >= $low
GROUP BY line, symbols
"""
COVERED = """
SELECT series, symbols, list(window_start), list(window_end) FROM ledger
WHERE covers AND outcome IN ('staged', 'empty') AND list_contains($series, series) GROUP BY series, symbols
"""
CONTRACTS = (
    "SELECT underlying, expiry, contract_symbol FROM option_contracts "
    "WHERE list_contains($underlyings, underlying) ORDER BY ALL"
)
UNDERLYINGS = "SELECT DISTINCT underlying FROM option_contracts WHERE expiry >= $after"
CLOSES = """
SELECT symbol, max(ts), arg_max(close, ts) FROM stock_bars
WHERE "interval" = '1d' AND adjustment = 'raw' AND currency = 'USD' AND provider::VARCHAR = $provider
    AND list_contains($symbols, symbol)
GROUP BY symbol
"""
_OPEN_KEYS = "count(*), bit_xor(hash(series, symbols, window_start::DATE, window_end::DATE))"
SAME_OPEN = (
    f"SELECT (SELECT ({_OPEN_KEYS}) FROM expected) = (SELECT ({_OPEN_KEYS}) FROM open_windows WHERE staging = $staging)"
)
ENUMERATIONS = """
SELECT type_name, labels FROM duckdb_types()
WHERE logical_type = 'ENUM' AND NOT internal AND schema_name = current_schema() AND database_name = current_database()
    AND ends_with(type_name, '_label')
"""
COUNT_STAGED = f"SELECT count(*) FROM {_FILES}"


def repeated(table: Table) -> str:
    """How many rows there are beyond one for each key."""
    keys = _names(table.key)
    return (
        f"SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM {quoted(table.name)} GROUP BY {keys})"
    )


def _casts(table: Table) -> str:
    return ", ".join(_cast(column) for column in table.columns)


def _keys(table: Table, fixed: Collection[str] = ()) -> str:
    """The staged key as the table's types, but for what is fixed: comparing a label with text would turn the whole
    table's into text.
    """
    return ", ".join(_cast(column) for column in table.columns if column.name in table.key and column.name not in fixed)


def _cast(column: Column) -> str:
    name = quoted(column.name)
    return f"CAST({name} AS {_type(column)}) AS {name}"


def _type(column: Column) -> str:
    return quoted(f"{column.name}_label") if column.kind == "label" else _TYPES[column.kind]


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(quoted, names))


def _same(table: Table, held: str, fixed: Collection[str] = ()) -> str:
    return " AND ".join(f"{held}.{quoted(name)} = staged.{quoted(name)}" for name in table.key if name not in fixed)


def _delete(table: Table, staged: str, fixed: Collection[str] = ()) -> str:
    name = quoted(table.name)
    return f"DELETE FROM {name} USING ({staged}) AS staged WHERE {_same(table, name, fixed)}"

"""SQL text for the tables and the ledger in PostgreSQL's dialect.

Names come from the tables of `datasets` and pass through `quoted`; values are always parameters.
"""

# ruff: noqa: S608 - text is composed here and nowhere else, from quoted names only

from collections.abc import Sequence

from stagingest.model.datasets import DATASETS, Column, Dataset, Table
from stagingest.targets.sql import quoted

_TYPES = {
    "text": "TEXT",
    "label": "TEXT",
    "json": "JSON",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
    "double": "DOUBLE PRECISION",
    "bigint": "BIGINT",
    "strike": "NUMERIC(18,3)",
}
RANK = "staged_rank"


def add(table: Table, column: Column) -> str:
    """Add a column, NULL in every row."""
    return f"ALTER TABLE {quoted(table.name)} ADD COLUMN {quoted(column.name)} {_TYPES[column.kind]}"


def stage(table: Table) -> str:
    """A table for the rows of one transaction, each with the rank of its file."""
    name = quoted(staged(table))
    return f"CREATE TEMPORARY TABLE {name} (LIKE {quoted(table.name)}, {RANK} INTEGER) ON COMMIT DROP"


def staged(table: Table) -> str:
    """Name of that table."""
    return f"staged_{table.name}"


def upsert(table: Table, *, newest: bool) -> str:
    """Move the staged rows into the table; how many there were, and how many of those replaced one.

    Of one key the row of the highest rank is taken; with `newest` it replaces only what was not answered later.
    """
    names = _names(tuple(column.name for column in table.columns))
    keys = _names(table.key)
    others = [quoted(column.name) for column in table.columns if column.name not in table.key]
    values = ", ".join(f"{name} = excluded.{name}" for name in others)
    later = f" WHERE {quoted(table.name)}.updated_at <= excluded.updated_at" if newest else ""
    return (
        f"WITH moved AS (INSERT INTO {quoted(table.name)} ({names}) SELECT DISTINCT ON ({keys}) {names} "
        f"FROM {quoted(staged(table))} ORDER BY {keys}, {RANK} DESC "
        f"ON CONFLICT ({keys}) DO UPDATE SET {values}{later} RETURNING (xmax <> 0) AS old) "
        "SELECT count(*), count(*) FILTER (WHERE old) FROM moved"
    )


def remove_within(data: Dataset, table: Table, fixed: Sequence[str]) -> str:
    """Delete the rows in windows ($1: JSON, a list of symbols, since, until) that have the values $2, $3 … in the key
    columns `fixed`; how many.
    """
    time = quoted(data.time)
    same = " AND ".join(f"held.{quoted(name)} = ${number}" for number, name in enumerate(fixed, 2))
    return (
        f"WITH gone AS (DELETE FROM {quoted(table.name)} AS held USING json_to_recordset($1::json) "
        f"AS w(symbols TEXT[], since TIMESTAMP, until TIMESTAMP), unnest(w.symbols) AS asked(symbol) "
        f"WHERE held.{quoted(data.symbol)} = asked.symbol AND held.{time} >= w.since AND held.{time} < w.until "
        f"AND {same} RETURNING 1) SELECT count(*) FROM gone"
    )


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(quoted, names))


_LEDGER = """
CREATE TABLE ledger (
    staging TEXT, seq BIGINT, sha256 TEXT,
    dataset TEXT NOT NULL, provider TEXT NOT NULL, endpoint TEXT NOT NULL, series TEXT NOT NULL,
    params JSON NOT NULL, symbols TEXT[] NOT NULL, symbol_rows BIGINT[] NOT NULL, "rows" BIGINT NOT NULL,
    window_start DATE NOT NULL, window_end DATE NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
    covers BOOLEAN NOT NULL, asked_at TIMESTAMP NOT NULL, loaded_at TIMESTAMP NOT NULL,
    PRIMARY KEY (staging, seq, sha256))
"""
_BATCHES = """
CREATE TABLE ledger_batches (
    table_name TEXT NOT NULL, inserted BIGINT NOT NULL, deleted BIGINT NOT NULL, loaded_at TIMESTAMP NOT NULL)
"""
_MIGRATIONS = "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)"
# What a staging directory has planned and no answer for, as its last load found it.
_OPEN = """
CREATE TABLE open_windows (
    staging TEXT NOT NULL, dataset TEXT NOT NULL, provider TEXT NOT NULL, endpoint TEXT NOT NULL, series TEXT NOT NULL,
    params JSON NOT NULL, symbols TEXT[] NOT NULL, window_start DATE NOT NULL, window_end DATE NOT NULL)
"""
EXPECT = """
INSERT INTO open_windows SELECT staging, dataset, provider, endpoint, series, params,
    ARRAY(SELECT json_array_elements_text(symbols)), window_start, window_end
FROM json_to_recordset($1::json) AS expected(
    staging TEXT, dataset TEXT, provider TEXT, endpoint TEXT, series TEXT, params JSON, symbols JSON,
    window_start DATE, window_end DATE)
"""
ENTER = """
INSERT INTO ledger SELECT staging, seq, sha256, dataset, provider, endpoint, series, params,
    ARRAY(SELECT json_array_elements_text(symbols)),
    ARRAY(SELECT json_array_elements_text(symbol_rows)::BIGINT),
    "rows", window_start, window_end, outcome, reason, covers, asked_at, loaded_at
FROM json_to_recordset($1::json) AS entering(
    staging TEXT, seq BIGINT, sha256 TEXT, dataset TEXT, provider TEXT, endpoint TEXT, series TEXT, params JSON,
    symbols JSON, symbol_rows JSON, "rows" BIGINT, window_start DATE, window_end DATE, outcome TEXT, reason TEXT,
    covers BOOLEAN, asked_at TIMESTAMP, loaded_at TIMESTAMP)
"""
SPANS = """
WITH wanted AS (SELECT json_array_elements_text($1::json) AS line)
SELECT line, array_to_json(symbols)::TEXT, window_start, window_end, asked_at
FROM ledger JOIN wanted ON line = series OR (line = endpoint AND asked_at >= $4::TIMESTAMP)
WHERE "rows" > 0 AND EXISTS (SELECT 1 FROM unnest(symbols) AS symbol HAVING min(symbol COLLATE "C") <= $3 COLLATE "C"
        AND max(symbol COLLATE "C") >= $2 COLLATE "C")
"""
_CANDLES = """
CREATE VIEW candles_daily AS
SELECT DISTINCT ON (symbol, session_date) * FROM stock_bars WHERE "interval" = '1d'
ORDER BY symbol, session_date, provider <> 'alpaca', feed <> 'sip', adjustment <> 'raw', currency <> 'USD',
    "asof" <> '', provider, feed, adjustment, currency, "asof"
"""
# A window is cut into pieces where answers begin or end; of each piece the newest answer holds, and what is planned
# and has none is pending.
_COVERAGE = """
CREATE VIEW coverage AS
WITH span AS (
    SELECT l.staging, l.seq, l.dataset, l.provider, l.series, l.params::TEXT AS params, l.window_start, l.window_end,
        l.reason, l.asked_at, each.symbol, each.symbol_rows,
        CASE WHEN outcome = 'staged' AND each.symbol_rows > 0 THEN 'ok'
             WHEN outcome IN ('staged', 'empty') THEN 'empty'
             WHEN outcome = 'refused' THEN 'not_found'
             WHEN outcome = 'forbidden' THEN 'forbidden'
             ELSE 'error' END AS status
    FROM ledger l, unnest(l.symbols, l.symbol_rows) AS each(symbol, symbol_rows)
    UNION ALL
    SELECT o.staging, NULL, o.dataset, o.provider, o.series, o.params::TEXT, o.window_start, o.window_end, NULL, NULL,
        unnest(o.symbols), 0, 'pending'
    FROM open_windows o),
edge AS (
    SELECT series, symbol, day, lead(day) OVER (PARTITION BY series, symbol ORDER BY day) AS next_day
    FROM (SELECT series, symbol, window_start AS day FROM span UNION SELECT series, symbol, window_end FROM span) days),
piece AS (
    SELECT DISTINCT ON (series, symbol, day) series, symbol, day, next_day, status, staging, seq, symbol_rows
    FROM edge JOIN span USING (series, symbol)
    WHERE window_start <= day AND next_day <= window_end
    ORDER BY series, symbol, day, asked_at DESC NULLS LAST, seq DESC),
standing AS (
    SELECT series, symbol,
        CASE WHEN bool_and(status IN ('ok', 'empty'))
                 THEN CASE WHEN bool_or(status = 'ok') THEN 'ok' ELSE 'empty' END
             WHEN bool_or(status IN ('ok', 'empty')) THEN 'partial'
             WHEN bool_or(status = 'error') THEN 'error'
             WHEN bool_or(status = 'forbidden') THEN 'forbidden'
             WHEN bool_or(status = 'not_found') THEN 'not_found'
             ELSE 'pending' END AS status,
        CAST(min(day) FILTER (WHERE status = 'ok') AS TIMESTAMP) AS start_ts,
        CAST(max(next_day) FILTER (WHERE status = 'ok') AS TIMESTAMP) AS end_ts
    FROM piece GROUP BY series, symbol),
counted AS (
    SELECT series, symbol, CAST(sum(symbol_rows) AS BIGINT) AS "rows"
    FROM (SELECT DISTINCT series, symbol, staging, seq, symbol_rows FROM piece) pieces GROUP BY series, symbol),
attempt AS (
    SELECT dataset, provider, series, params, symbol,
        max(asked_at) FILTER (WHERE status IN ('ok', 'empty')) AS last_success_at, max(asked_at) AS last_attempt_at,
        (array_agg(reason ORDER BY asked_at DESC, seq DESC)
            FILTER (WHERE status NOT IN ('ok', 'empty', 'pending')))[1] AS last_error,
        count(*) FILTER (WHERE status NOT IN ('ok', 'empty', 'pending')) AS error_count
    FROM span GROUP BY dataset, provider, series, params, symbol)
SELECT dataset, provider, series, params, symbol, status, "rows", start_ts, end_ts, last_success_at, last_attempt_at,
    last_error, error_count
FROM attempt JOIN standing USING (series, symbol) JOIN counted USING (series, symbol)
"""
_OPTION_BARS_META = """
CREATE VIEW option_bars_meta AS
SELECT symbol AS contract_symbol, provider, series, params, status, "rows", start_ts, end_ts, last_success_at,
    last_attempt_at, last_error, error_count FROM coverage WHERE dataset = 'option-bars'
"""
# Tables as they were first made: columns that datasets have got since are added by what `Postgres` finds missing.
_STOCK_BARS = """
CREATE TABLE stock_bars (
    symbol TEXT NOT NULL, "interval" TEXT NOT NULL, ts TIMESTAMP NOT NULL, provider TEXT NOT NULL,
    feed TEXT NOT NULL, adjustment TEXT NOT NULL, currency TEXT NOT NULL, "asof" TEXT NOT NULL,
    open DOUBLE PRECISION, high DOUBLE PRECISION, low DOUBLE PRECISION, close DOUBLE PRECISION, volume BIGINT,
    trade_count BIGINT, vwap DOUBLE PRECISION, session_date DATE, updated_at TIMESTAMP,
    PRIMARY KEY (symbol, "interval", ts, provider, feed, adjustment, currency, "asof"))
"""
_OPTION_BARS = """
CREATE TABLE option_bars (
    contract_symbol TEXT NOT NULL, "interval" TEXT NOT NULL, ts TIMESTAMP NOT NULL, provider TEXT NOT NULL,
    open DOUBLE PRECISION, high DOUBLE PRECISION, low DOUBLE PRECISION, close DOUBLE PRECISION, volume BIGINT,
    trade_count BIGINT, vwap DOUBLE PRECISION, session_date DATE, updated_at TIMESTAMP,
    PRIMARY KEY (contract_symbol, "interval", ts, provider))
"""
_OPTION_CONTRACTS = """
CREATE TABLE option_contracts (
    contract_symbol TEXT NOT NULL, provider TEXT NOT NULL, underlying TEXT, root_symbol TEXT, expiry DATE,
    option_type TEXT, strike NUMERIC(18,3), multiplier DOUBLE PRECISION, size DOUBLE PRECISION, style TEXT,
    status TEXT, deliverables JSON, updated_at TIMESTAMP, PRIMARY KEY (contract_symbol, provider))
"""
_OPTION_CONTRACT_SNAPSHOTS = """
CREATE TABLE option_contract_snapshots (
    contract_symbol TEXT NOT NULL, as_of_date DATE NOT NULL, provider TEXT NOT NULL, open_interest BIGINT,
    open_interest_date DATE, close_price DOUBLE PRECISION, close_price_date DATE, raw_json JSON,
    updated_at TIMESTAMP, PRIMARY KEY (contract_symbol, as_of_date, provider))
"""
_OPTION_SNAPSHOTS = """
CREATE TABLE option_snapshots (
    contract_symbol TEXT NOT NULL, snapshot_ts TIMESTAMP NOT NULL, provider TEXT NOT NULL, feed TEXT NOT NULL,
    underlying TEXT, implied_volatility DOUBLE PRECISION, delta DOUBLE PRECISION, gamma DOUBLE PRECISION,
    theta DOUBLE PRECISION, vega DOUBLE PRECISION, rho DOUBLE PRECISION, bid DOUBLE PRECISION, bid_size BIGINT,
    ask DOUBLE PRECISION, ask_size BIGINT, quote_ts TIMESTAMP, last_price DOUBLE PRECISION, last_size BIGINT,
    trade_ts TIMESTAMP, day_open DOUBLE PRECISION, day_high DOUBLE PRECISION, day_low DOUBLE PRECISION,
    day_close DOUBLE PRECISION, day_volume BIGINT, day_vwap DOUBLE PRECISION, open_interest BIGINT,
    underlying_price DOUBLE PRECISION, updated_at TIMESTAMP,
    PRIMARY KEY (contract_symbol, snapshot_ts, provider, feed))
"""
_UNIVERSE_MEMBERS = """
CREATE TABLE universe_members (
    universe TEXT NOT NULL, symbol TEXT NOT NULL, added_date DATE NOT NULL, removed_date DATE, updated_at TIMESTAMP,
    PRIMARY KEY (universe, symbol, added_date))
"""
# The schema number of each dataset whose tables have got columns since: a version that knows only less refuses them.
_SCHEMAS = "CREATE TABLE dataset_schemas (dataset TEXT PRIMARY KEY, schema INTEGER NOT NULL)"
_FIRST_TABLES = (_STOCK_BARS, _OPTION_BARS, _OPTION_CONTRACTS, _OPTION_CONTRACT_SNAPSHOTS)
# Besides: of captures every answer counts its rows, not only the newest of a day.
_COVERAGE_3 = _COVERAGE.replace("CREATE VIEW", "CREATE OR REPLACE VIEW").replace(
    "symbol_rows FROM piece)",
    "symbol_rows FROM piece\n"
    "          UNION SELECT series, symbol, staging, seq, symbol_rows FROM span WHERE dataset = 'option-snapshots')",
)
# Volumes and sizes may be fractional.
_FRACTIONAL = (
    "DROP VIEW candles_daily",
    "ALTER TABLE stock_bars ALTER COLUMN volume TYPE DOUBLE PRECISION",
    "ALTER TABLE option_bars ALTER COLUMN volume TYPE DOUBLE PRECISION",
    *(
        f"ALTER TABLE option_snapshots ALTER COLUMN {name} TYPE DOUBLE PRECISION"
        for name in ("bid_size", "ask_size", "last_size", "day_volume")
    ),
    _CANDLES,
)
# Migration -> the tables it makes that TimescaleDB divides by time, and their time.
HYPERTABLES = {1: (("stock_bars", "ts"), ("option_bars", "ts")), 2: (("option_snapshots", "snapshot_ts"),)}
MIGRATIONS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        1,
        (*_FIRST_TABLES, _LEDGER, _BATCHES, _OPEN, _MIGRATIONS, _CANDLES, _COVERAGE, _OPTION_BARS_META),
    ),
    (2, (_OPTION_SNAPSHOTS, _COVERAGE_3)),
    (3, (_UNIVERSE_MEMBERS,)),
    (4, (_SCHEMAS,)),
    (5, _FRACTIONAL),
)
RECORD_SCHEMA = (
    "INSERT INTO dataset_schemas VALUES ($1, $2::INTEGER) ON CONFLICT (dataset) DO UPDATE SET schema = excluded.schema"
)
# Views over tables that may get columns, made again then: a view has the columns it was made with.
VIEWS = (_CANDLES.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"),)
OUR_NAMES = frozenset(
    {table.name for data in DATASETS.values() for table in data.tables}
    | {"ledger", "ledger_batches", "schema_migrations", "candles_daily", "coverage", "option_bars_meta", "open_windows"}
    | {"dataset_schemas"}
)

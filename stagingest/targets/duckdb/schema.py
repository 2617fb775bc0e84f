"""The tables and views of a DuckDB database, version by version."""

from stagingest.model.datasets import DATASETS
from stagingest.targets.duckdb.sql import enumeration

# One row for every final outcome, with or without a file. `series` is Series.id, the exact name of endpoint and
# params, which stand beside it so that a person can read it and a coverage can be rebuilt from the ledger alone;
# symbol_rows[i] counts the rows of symbols[i]; `covers` is false for an answer that may still change. sha256 is in the
# key because a rebuilt manifest numbers anew.
_LEDGER = """
CREATE TABLE ledger (
    staging VARCHAR, seq BIGINT, sha256 VARCHAR,
    dataset VARCHAR NOT NULL, provider VARCHAR NOT NULL, endpoint VARCHAR NOT NULL, series VARCHAR NOT NULL,
    params JSON NOT NULL, symbols VARCHAR[] NOT NULL, symbol_rows BIGINT[] NOT NULL, "rows" BIGINT NOT NULL,
    window_start DATE NOT NULL, window_end DATE NOT NULL, outcome VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    covers BOOLEAN NOT NULL,
    asked_at TIMESTAMP NOT NULL, loaded_at TIMESTAMP NOT NULL,
    PRIMARY KEY (staging, seq, sha256))
"""
# What each batch did to each table: their sum is the number of rows the ledger explains.
_BATCHES = """
CREATE TABLE ledger_batches (
    table_name VARCHAR NOT NULL, inserted BIGINT NOT NULL, deleted BIGINT NOT NULL, loaded_at TIMESTAMP NOT NULL)
"""
_MIGRATIONS = "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)"

_CANDLES = """
CREATE VIEW candles_daily AS
SELECT * FROM stock_bars WHERE "interval" = '1d'
QUALIFY row_number() OVER (PARTITION BY symbol, session_date ORDER BY
    provider <> 'alpaca', feed <> 'sip', adjustment <> 'raw', currency <> 'USD', "asof" <> '',
    provider, feed, adjustment, currency, "asof") = 1
"""
# A window is cut into pieces where answers begin or end; of each piece the newest answer holds, of captures every
# answer counts its rows. What is planned and has no answer at all is pending. Without `if`, which a file keeps under a
# name that older readers do not have.
_COVERAGE = """
CREATE VIEW coverage AS
WITH span AS (
    SELECT *, CASE WHEN outcome = 'staged' AND symbol_rows > 0 THEN 'ok'
                   WHEN outcome IN ('staged', 'empty') THEN 'empty'
                   WHEN outcome = 'refused' THEN 'not_found'
                   WHEN outcome = 'forbidden' THEN 'forbidden'
                   ELSE 'error' END AS status
    FROM (SELECT * REPLACE (unnest(symbols) AS symbols, unnest(symbol_rows) AS symbol_rows) FROM ledger)
    UNION ALL BY NAME
    SELECT * EXCLUDE (symbols), unnest(symbols) AS symbols, 0 AS symbol_rows, 'pending' AS status FROM open_windows),
edge AS (
    SELECT series, symbols, day, lead(day) OVER (PARTITION BY series, symbols ORDER BY day) AS next_day
    FROM (SELECT series, symbols, window_start AS day FROM span
          UNION SELECT series, symbols, window_end FROM span)),
piece AS (
    SELECT DISTINCT ON (series, symbols, day) series, symbols, day, next_day, status, staging, seq, symbol_rows
    FROM edge JOIN span USING (series, symbols)
    WHERE window_start <= day AND next_day <= window_end
    ORDER BY series, symbols, day, asked_at DESC NULLS LAST, seq DESC),
standing AS (
    SELECT series, symbols,
        CASE WHEN bool_and(status IN ('ok', 'empty'))
                 THEN CASE WHEN bool_or(status = 'ok') THEN 'ok' ELSE 'empty' END
             WHEN bool_or(status IN ('ok', 'empty')) THEN 'partial'
             WHEN bool_or(status = 'error') THEN 'error'
             WHEN bool_or(status = 'forbidden') THEN 'forbidden'
             WHEN bool_or(status = 'not_found') THEN 'not_found'
             ELSE 'pending' END AS status,
        CAST(min(day) FILTER (status = 'ok') AS TIMESTAMP) AS start_ts,
        CAST(max(next_day) FILTER (status = 'ok') AS TIMESTAMP) AS end_ts
    FROM piece GROUP BY series, symbols),
counted AS (
    SELECT series, symbols, CAST(sum(symbol_rows) AS BIGINT) AS "rows"
    FROM (SELECT DISTINCT series, symbols, staging, seq, symbol_rows FROM piece
          UNION SELECT series, symbols, staging, seq, symbol_rows FROM span WHERE dataset = 'option-snapshots')
    GROUP BY series, symbols),
attempt AS (
    SELECT dataset, provider, series, params, symbols,
        max(asked_at) FILTER (status IN ('ok', 'empty')) AS last_success_at, max(asked_at) AS last_attempt_at,
        arg_max(reason, (asked_at, seq)) FILTER (status NOT IN ('ok', 'empty', 'pending')) AS last_error,
        count(*) FILTER (status NOT IN ('ok', 'empty', 'pending')) AS error_count
    FROM span GROUP BY ALL)
SELECT dataset, provider, series, params, symbols AS symbol, status, "rows", start_ts, end_ts,
    last_success_at, last_attempt_at, last_error, error_count
FROM attempt JOIN standing USING (series, symbols) JOIN counted USING (series, symbols)
"""
_OPTION_BARS_META = """
CREATE VIEW option_bars_meta AS
SELECT symbol AS contract_symbol, * EXCLUDE (dataset, symbol) FROM coverage WHERE dataset = 'option-bars'
"""
# What a staging directory has planned and no answer for, as its last load found it.
_OPEN = """
CREATE TABLE open_windows (
    staging VARCHAR NOT NULL, dataset VARCHAR NOT NULL, provider VARCHAR NOT NULL, endpoint VARCHAR NOT NULL,
    series VARCHAR NOT NULL, params JSON NOT NULL, symbols VARCHAR[] NOT NULL, window_start DATE NOT NULL,
    window_end DATE NOT NULL)
"""
# Tables as they were first made: columns that datasets have got since are added by what `DuckDB` finds missing.
_STOCK_BARS = """
CREATE TABLE stock_bars (
    symbol VARCHAR NOT NULL, "interval" interval_label NOT NULL, ts TIMESTAMP NOT NULL,
    provider provider_label NOT NULL, feed feed_label NOT NULL, adjustment adjustment_label NOT NULL,
    currency VARCHAR NOT NULL, "asof" VARCHAR NOT NULL, open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE,
    volume BIGINT, trade_count BIGINT, vwap DOUBLE, session_date DATE, updated_at TIMESTAMP)
"""
_OPTION_BARS = """
CREATE TABLE option_bars (
    contract_symbol VARCHAR NOT NULL, "interval" interval_label NOT NULL, ts TIMESTAMP NOT NULL,
    provider provider_label NOT NULL, open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE, volume BIGINT,
    trade_count BIGINT, vwap DOUBLE, session_date DATE, updated_at TIMESTAMP)
"""
_OPTION_CONTRACTS = """
CREATE TABLE option_contracts (
    contract_symbol VARCHAR NOT NULL, provider provider_label NOT NULL, underlying VARCHAR, root_symbol VARCHAR,
    expiry DATE, option_type VARCHAR, strike DECIMAL(18,3), multiplier DOUBLE, size DOUBLE, style VARCHAR,
    status VARCHAR, deliverables JSON, updated_at TIMESTAMP)
"""
_OPTION_CONTRACT_SNAPSHOTS = """
CREATE TABLE option_contract_snapshots (
    contract_symbol VARCHAR NOT NULL, as_of_date DATE NOT NULL, provider provider_label NOT NULL,
    open_interest BIGINT, open_interest_date DATE, close_price DOUBLE, close_price_date DATE, raw_json JSON,
    updated_at TIMESTAMP)
"""
_OPTION_SNAPSHOTS = """
CREATE TABLE option_snapshots (
    contract_symbol VARCHAR NOT NULL, snapshot_ts TIMESTAMP NOT NULL, provider provider_label NOT NULL,
    feed feed_label NOT NULL, underlying VARCHAR, implied_volatility DOUBLE, delta DOUBLE, gamma DOUBLE,
    theta DOUBLE, vega DOUBLE, rho DOUBLE, bid DOUBLE, bid_size BIGINT, ask DOUBLE, ask_size BIGINT,
    quote_ts TIMESTAMP, last_price DOUBLE, last_size BIGINT, trade_ts TIMESTAMP, day_open DOUBLE, day_high DOUBLE,
    day_low DOUBLE, day_close DOUBLE, day_volume BIGINT, day_vwap DOUBLE, open_interest BIGINT,
    underlying_price DOUBLE, updated_at TIMESTAMP)
"""
_UNIVERSE_MEMBERS = """
CREATE TABLE universe_members (
    universe VARCHAR NOT NULL, symbol VARCHAR NOT NULL, added_date DATE NOT NULL, removed_date DATE,
    updated_at TIMESTAMP)
"""
# The schema number of each dataset whose tables have got columns since: a version that knows only less refuses them.
_SCHEMAS = "CREATE TABLE dataset_schemas (dataset VARCHAR PRIMARY KEY, schema INTEGER NOT NULL)"
# Volumes and sizes may be fractional.
_FRACTIONAL = (
    "ALTER TABLE stock_bars ALTER COLUMN volume TYPE DOUBLE",
    "ALTER TABLE option_bars ALTER COLUMN volume TYPE DOUBLE",
    *(
        f"ALTER TABLE option_snapshots ALTER COLUMN {name} TYPE DOUBLE"
        for name in ("bid_size", "ask_size", "last_size", "day_volume")
    ),
    _CANDLES.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"),
)
_FIRST_TABLES = (_STOCK_BARS, _OPTION_BARS, _OPTION_CONTRACTS, _OPTION_CONTRACT_SNAPSHOTS)
# The words that labels had at first; those that come later are added when they are loaded.
_WORDS = {
    "interval": (
        *(f"{step}min" for step in range(1, 60)),
        *(f"{step}h" for step in range(1, 24)),
        *("1d", "1w", "1mo", "2mo", "3mo", "4mo", "6mo", "12mo"),
    ),
    "provider": ("alpaca", "massive"),
    "feed": ("", "boats", "iex", "indicative", "opra", "otc", "sip"),
    "adjustment": (
        *("", "all", "dividend", "dividend,spin-off", "raw", "spin-off", "split"),
        *("split,dividend", "split,dividend,spin-off", "split,spin-off"),
    ),
}
MIGRATIONS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        1,
        (
            *(enumeration(name, words) for name, words in _WORDS.items()),
            *_FIRST_TABLES,
            _LEDGER,
            _BATCHES,
            _MIGRATIONS,
            _CANDLES,
        ),
    ),
    (2, (_OPEN,)),
    (3, (_OPTION_SNAPSHOTS,)),
    (4, (_UNIVERSE_MEMBERS,)),
    (5, (_SCHEMAS,)),
    (
        6,
        (
            "DROP VIEW IF EXISTS option_bars_meta",
            "DROP VIEW IF EXISTS coverage",
            _COVERAGE,
            _OPTION_BARS_META,
        ),
    ),
    (7, _FRACTIONAL),
)
# Views over tables that may get columns, made again then: DuckDB refuses one whose columns are others than it was made
# with.
VIEWS = (_CANDLES.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"),)
OUR_NAMES = frozenset(
    {table.name for data in DATASETS.values() for table in data.tables}
    | {"ledger", "ledger_batches", "schema_migrations", "candles_daily", "coverage", "option_bars_meta", "open_windows"}
    | {"dataset_schemas"}
)

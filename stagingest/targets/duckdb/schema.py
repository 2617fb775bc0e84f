"""The tables and views of a DuckDB database, version by version."""

from stagingest.model.datasets import DATASETS, LABELS, dataset
from stagingest.targets.duckdb.sql import create
from stagingest.targets.sql import quoted

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
# A window is cut into pieces where answers begin or end; of each piece the newest answer holds.
_COVERAGE = """
CREATE VIEW coverage AS
WITH span AS (
    SELECT *, CASE WHEN outcome = 'staged' AND symbol_rows > 0 THEN 'ok'
                   WHEN outcome IN ('staged', 'empty') THEN 'empty'
                   WHEN outcome = 'refused' THEN 'not_found'
                   WHEN outcome = 'forbidden' THEN 'forbidden'
                   ELSE 'error' END AS status
    FROM (SELECT * REPLACE (unnest(symbols) AS symbols, unnest(symbol_rows) AS symbol_rows) FROM ledger)),
edge AS (
    SELECT series, symbols, day, lead(day) OVER (PARTITION BY series, symbols ORDER BY day) AS next_day
    FROM (SELECT series, symbols, window_start AS day FROM span
          UNION SELECT series, symbols, window_end FROM span)),
piece AS (
    SELECT DISTINCT ON (series, symbols, day) series, symbols, day, next_day, status, staging, seq, symbol_rows
    FROM edge JOIN span USING (series, symbols)
    WHERE window_start <= day AND next_day <= window_end
    ORDER BY series, symbols, day, asked_at DESC, seq DESC),
standing AS (
    SELECT series, symbols,
        CASE WHEN bool_and(status IN ('ok', 'empty')) THEN if(bool_or(status = 'ok'), 'ok', 'empty')
             WHEN bool_or(status IN ('ok', 'empty')) THEN 'partial'
             WHEN bool_or(status = 'error') THEN 'error'
             WHEN bool_or(status = 'forbidden') THEN 'forbidden'
             ELSE 'not_found' END AS status,
        CAST(min(day) FILTER (status = 'ok') AS TIMESTAMP) AS start_ts,
        CAST(max(next_day) FILTER (status = 'ok') AS TIMESTAMP) AS end_ts
    FROM piece GROUP BY series, symbols),
counted AS (
    SELECT series, symbols, CAST(sum(symbol_rows) AS BIGINT) AS "rows"
    FROM (SELECT DISTINCT series, symbols, staging, seq, symbol_rows FROM piece) GROUP BY series, symbols),
attempt AS (
    SELECT dataset, provider, series, params, symbols,
        max(asked_at) FILTER (status IN ('ok', 'empty')) AS last_success_at, max(asked_at) AS last_attempt_at,
        arg_max(reason, (asked_at, seq)) FILTER (status NOT IN ('ok', 'empty')) AS last_error,
        count(*) FILTER (status NOT IN ('ok', 'empty')) AS error_count
    FROM span GROUP BY ALL)
SELECT dataset, provider, series, params, symbols AS symbol, status, "rows", start_ts, end_ts,
    last_success_at, last_attempt_at, last_error, error_count
FROM attempt JOIN standing USING (series, symbols) JOIN counted USING (series, symbols)
"""
_OPTION_BARS_META = """
CREATE VIEW option_bars_meta AS
SELECT symbol AS contract_symbol, * EXCLUDE (dataset, symbol) FROM coverage WHERE dataset = 'option-bars'
"""
# Besides: what is planned and has no answer at all is pending.
_COVERAGE_2 = """
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
        CASE WHEN bool_and(status IN ('ok', 'empty')) THEN if(bool_or(status = 'ok'), 'ok', 'empty')
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
    FROM (SELECT DISTINCT series, symbols, staging, seq, symbol_rows FROM piece) GROUP BY series, symbols),
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
# What a staging directory has planned and no answer for, as its last load found it.
_OPEN = """
CREATE TABLE open_windows (
    staging VARCHAR NOT NULL, dataset VARCHAR NOT NULL, provider VARCHAR NOT NULL, endpoint VARCHAR NOT NULL,
    series VARCHAR NOT NULL, params JSON NOT NULL, symbols VARCHAR[] NOT NULL, window_start DATE NOT NULL,
    window_end DATE NOT NULL)
"""
# Besides: of captures every answer counts its rows, not only the newest of a day.
_COVERAGE_3 = _COVERAGE_2.replace(
    "symbol_rows FROM piece)",
    "symbol_rows FROM piece\n"
    "          UNION SELECT series, symbols, staging, seq, symbol_rows FROM span WHERE dataset = 'option-snapshots')",
)
_FIRST_TABLES = tuple(
    table for name in ("stock-bars", "option-bars", "option-contracts") for table in dataset(name).tables
)


def _labels(name: str) -> str:
    values = ", ".join(f"'{value}'" for value in LABELS[name])
    return f"CREATE TYPE {quoted(f'{name}_label')} AS ENUM ({values})"


MIGRATIONS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        1,
        (
            *map(_labels, LABELS),
            *map(create, _FIRST_TABLES),
            _LEDGER,
            _BATCHES,
            _MIGRATIONS,
            _CANDLES,
            _COVERAGE,
            _OPTION_BARS_META,
        ),
    ),
    (2, (_OPEN, "DROP VIEW option_bars_meta", "DROP VIEW coverage", _COVERAGE_2, _OPTION_BARS_META)),
    (
        3,
        (
            *map(create, dataset("option-snapshots").tables),
            "DROP VIEW option_bars_meta",
            "DROP VIEW coverage",
            _COVERAGE_3,
            _OPTION_BARS_META,
        ),
    ),
    (4, tuple(map(create, dataset("universe-members").tables))),
)
OUR_NAMES = frozenset(
    {table.name for data in DATASETS.values() for table in data.tables}
    | {"ledger", "ledger_batches", "schema_migrations", "candles_daily", "coverage", "option_bars_meta", "open_windows"}
)

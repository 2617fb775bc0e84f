"""Rows as tuples that compare: from the provider's JSON and from staged Parquet files, and the way to ask alpaca-py.

A bar is (symbol, ts in microseconds since 1970 UTC, open, high, low, close, volume, trade_count, vwap). A contract is
(contract_symbol, underlying, root_symbol, expiry, option_type, strike, multiplier, size, style, status, open_interest,
open_interest_date, close_price, close_price_date). A snapshot is (contract_symbol, implied_volatility, delta, gamma,
theta, vega, rho, bid, bid_size, ask, ask_size, quote_ts, last_price, last_size, trade_ts, day_open ... day_vwap), all
stamps in microseconds since 1970 UTC.
"""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ORACLE = Path(__file__).parent / "sdk" / "oracle.py"
_BAR = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
_CONTRACT = (
    "contract_symbol",
    "underlying",
    "root_symbol",
    "expiry",
    "option_type",
    "strike",
    "multiplier",
    "size",
    "style",
    "status",
    "open_interest",
    "open_interest_date",
    "close_price",
    "close_price_date",
)
_SNAPSHOT = {
    "implied_volatility": "impliedVolatility",
    **{greek: f"greeks.{greek}" for greek in ("delta", "gamma", "theta", "vega", "rho")},
    "bid": "latestQuote.bp",
    "bid_size": "latestQuote.bs",
    "ask": "latestQuote.ap",
    "ask_size": "latestQuote.as",
    "quote_ts": "latestQuote.t",
    "last_price": "latestTrade.p",
    "last_size": "latestTrade.s",
    "trade_ts": "latestTrade.t",
    "day_open": "dailyBar.o",
    "day_high": "dailyBar.h",
    "day_low": "dailyBar.l",
    "day_close": "dailyBar.c",
    "day_volume": "dailyBar.v",
    "day_vwap": "dailyBar.vw",
}
_MASSIVE = {
    "implied_volatility": ".implied_volatility",
    **{greek: f"greeks.{greek}" for greek in ("delta", "gamma", "theta", "vega")},
    **{name: f"last_quote.{name}" for name in ("bid", "bid_size", "ask", "ask_size")},
    "quote_ts": "last_quote.last_updated",
    "last_price": "last_trade.price",
    "last_size": "last_trade.size",
    "trade_ts": "last_trade.sip_timestamp",
    **{f"day_{name}": f"day.{name}" for name in ("open", "high", "low", "close", "volume", "vwap")},
    "open_interest": ".open_interest",
    "underlying_price": "underlying_asset.price",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ask_oracle(python: Path, url: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """What alpaca-py, run by `python`, gets from the server at `url`."""
    run = subprocess.run(
        [str(python), str(ORACLE), url],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def bar_rows(by_symbol: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[Any, ...]]:
    """Sorted rows of `{"AAA": [{"t": ..., "o": ...}, ...]}`."""
    return sorted(
        (
            symbol,
            _micros(datetime.fromisoformat(bar["t"])),
            *(bar.get(key) for key in ("o", "h", "l", "c", "v", "n", "vw")),
        )
        for symbol, bars in by_symbol.items()
        for bar in bars
    )


def contract_rows(contracts: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Sorted rows of contracts as the trading host writes them."""
    return sorted(map(_contract, contracts))


def snapshot_rows(by_symbol: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Sorted rows of `{"AAA260116C00100000": {"greeks": ..., "latestQuote": ..., ...}, ...}`."""
    return sorted((symbol, *map(partial(_member, one), _SNAPSHOT.values())) for symbol, one in by_symbol.items())


def massive_rows(chain: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Sorted rows of a chain as Massive's client gives it: as `snapshot_rows`, then open interest and price."""
    return sorted(
        (
            one["details"]["ticker"].removeprefix("O:"),
            *(_of_massive(one, *path.split(".")) for path in _MASSIVE.values()),
        )
        for one in chain
    )


def massive_bar_rows(by_ticker: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[Any, ...]]:
    """Sorted rows of bars as Massive's client gives them, which calls trades transactions."""
    wire = (*_BAR[:5], "transactions", "vwap")
    return sorted(
        (ticker.removeprefix("O:"), bar["timestamp"] * 1000, *(bar[name] for name in wire))
        for ticker, bars in by_ticker.items()
        for bar in bars
    )


def massive_contract_rows(by_status: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[Any, ...]]:
    """Sorted rows of contracts as Massive's client gives them: as `contract_rows` up to the status."""
    return sorted(
        (
            one["ticker"].removeprefix("O:"),
            one["underlying_ticker"],
            one["ticker"][2:-15],
            date.fromisoformat(one["expiration_date"]),
            one["contract_type"],
            Decimal(str(one["strike_price"])),
            None,
            float(one["shares_per_contract"]),
            one["exercise_style"],
            status,
        )
        for status, contracts in by_status.items()
        for one in contracts
    )


def _of_massive(one: Mapping[str, Any], part: str, key: str) -> Any:
    value = (one.get(part) or {}).get(key) if part else one.get(key)
    return value // 1000 if key in ("last_updated", "sip_timestamp") and value is not None else value


def staged_massive_rows(paths: Iterable[Path]) -> list[tuple[Any, ...]]:
    """Sorted rows of staged files of Massive's `option-snapshots`."""
    return sorted((row["contract_symbol"], *(_told(row[name]) for name in _MASSIVE)) for row in _staged(paths))


def _member(snapshot: Mapping[str, Any], path: str) -> Any:
    *parts, key = path.split(".")
    for part in parts:
        snapshot = snapshot.get(part) or {}
    value = snapshot.get(key)
    return _micros(datetime.fromisoformat(value)) if isinstance(value, str) else value


def staged_snapshot_rows(paths: Iterable[Path]) -> list[tuple[Any, ...]]:
    """Sorted rows of staged files of `option-snapshots`."""
    return sorted((row["contract_symbol"], *(_told(row[name]) for name in _SNAPSHOT)) for row in _staged(paths))


def _told(value: Any) -> Any:
    return _micros(value.replace(tzinfo=UTC)) if isinstance(value, datetime) else value


def staged_bar_rows(paths: Iterable[Path]) -> list[tuple[Any, ...]]:
    """Sorted rows of staged files of `stock-bars` or of `option-bars`."""
    return sorted(
        (
            row.get("symbol") or row["contract_symbol"],
            _micros(row["ts"].replace(tzinfo=UTC)),
            *(row[name] for name in _BAR),
        )
        for row in _staged(paths)
    )


def staged_contract_rows(paths: Iterable[Path]) -> list[tuple[Any, ...]]:
    """Sorted rows of staged files of `option-contracts`."""
    return sorted(tuple(row[name] for name in _CONTRACT) for row in _staged(paths))


def _staged(paths: Iterable[Path]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.concat_tables([pq.read_table(path) for path in paths]).to_pylist()
    return rows


def _micros(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _contract(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        row["symbol"],
        row["underlying_symbol"],
        row["root_symbol"],
        date.fromisoformat(row["expiration_date"]),
        row["type"],
        Decimal(row["strike_price"]),
        float(row["multiplier"]),
        float(row["size"]),
        row["style"],
        row["status"],
        None if row["open_interest"] is None else int(row["open_interest"]),
        row["open_interest_date"] and date.fromisoformat(row["open_interest_date"]),
        None if row["close_price"] is None else float(row["close_price"]),
        row["close_price_date"] and date.fromisoformat(row["close_price_date"]),
    )

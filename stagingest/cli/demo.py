"""`stagingest demo`: the whole tool in under a minute, against the imitation."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from stagingest.cli import output
from stagingest.errors import StagingestError

SYMBOLS = 300
TABLES = """
SELECT 'stock_bars' AS name, count(*) AS rows, count(DISTINCT symbol) AS symbols,
       min(session_date) AS first, max(session_date) AS last FROM stock_bars
UNION ALL
SELECT 'option_contracts', count(*), count(DISTINCT underlying), min(expiry), max(expiry) FROM option_contracts
UNION ALL
SELECT 'option_bars', count(*), count(DISTINCT contract_symbol), min(session_date), max(session_date)
FROM option_bars
"""
COVERAGE = """
SELECT dataset, status, count(DISTINCT symbol) AS symbols, sum(rows) AS rows, min(start_ts)::DATE AS first,
       max(end_ts)::DATE AS last
FROM coverage GROUP BY ALL ORDER BY ALL
"""
MOVERS = """
SELECT symbol, session_date, close, round(100 * (close / open - 1), 2) AS percent
FROM stock_bars WHERE session_date = (SELECT max(session_date) FROM stock_bars)
ORDER BY abs(percent) DESC, symbol LIMIT 5
"""
MONTHS = """
SELECT date_trunc('month', session_date)::DATE AS month, count(*) AS sessions,
       round(avg(vwap * volume) / 1e6, 1) AS million_usd
FROM stock_bars WHERE symbol = (SELECT min(symbol) FROM stock_bars)
GROUP BY 1 ORDER BY 1 DESC LIMIT 5
"""
CONTRACTS = """
SELECT c.underlying, c.expiry, c.strike, c.option_type, sum(b.volume)::BIGINT AS volume
FROM option_bars b JOIN option_contracts c USING (contract_symbol, provider)
GROUP BY ALL ORDER BY volume DESC, 1, 2, 3, 4 LIMIT 5
"""
QUERIES = (
    ("the biggest moves of the last session", MOVERS),
    ("monthly mean dollar volume of one symbol", MONTHS),
    ("the contracts that traded most", CONTRACTS),
)


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="Keep the demo's files here.  [default: not kept]"
)
@click.option("--symbols", type=click.IntRange(1, 5000), default=SYMBOLS, show_default=True, help="Stocks to fetch.")
def demo(folder: Path | None, symbols: int) -> None:
    """Fetch, stage and load generated prices from an imitation of Alpaca on this machine: no key, no network."""
    output.out("The imitation of Alpaca answers on this machine. Its prices are generated: they mean nothing.")
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stagingest-demo-")))
        place.mkdir(parents=True, exist_ok=True)
        environ = stack.enter_context(_imitation(symbols))
        names = _names(symbols)
        (place / "symbols.txt").write_text("\n".join(names) + "\n")
        _work(place, environ, names[0])
        _show(place / "market.duckdb")
        if folder:
            output.out(f"\nLook around: duckdb {place / 'market.duckdb'}")


def _names(count: int) -> list[str]:
    from stagingest.sim.market.generated import names

    return list(names(count))


@contextmanager
def _imitation(symbols: int) -> Iterator[dict[str, str]]:
    """The environment that leads to a running imitation."""
    command = [sys.executable, "-m", "stagingest", "sim", "--port", "0", "--symbols", str(symbols)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        exports = dict(
            line.split()[1].split("=", 1) for line in iter(process.stdout.readline, "\n") if "export " in line
        )
        if not exports:
            raise StagingestError("The imitation did not start.", "Run `stagingest sim` to see why.")
        yield {**os.environ, **exports}
    finally:
        process.terminate()
        process.communicate()


def _work(place: Path, environ: dict[str, str], underlying: str) -> None:
    today = datetime.now(UTC).date()
    year, month = today - timedelta(days=730), today - timedelta(days=45)
    near = str(today + timedelta(days=60))
    for words in (
        ["fetch", "stock-bars", "--symbols-file", "symbols.txt", "--timeframe", "1Day", "--start", str(year)],
        ["fetch", "option-contracts", "--underlyings", underlying, "--expiry-gte", str(today), "--expiry-lte", near],
        ["fetch", "option-bars", "--underlyings", underlying, "--expiry-lte", near, "--start", str(month)],
        ["load", "--staging", "staging", "--db", "market.duckdb"],
    ):
        output.out(f"\n$ stagingest {shlex.join(words)}")
        done = subprocess.run([sys.executable, "-m", "stagingest", *words], cwd=place, env=environ, check=False)
        if done.returncode:
            raise StagingestError(f"`stagingest {words[0]} {words[1]}` ended with code {done.returncode}.")


def _show(db: Path) -> None:
    from stagingest.targets.duckdb.connection import read

    for title, text in (("tables", TABLES), ("coverage", COVERAGE), *QUERIES):
        output.out(f"\n-- {title}")
        if title not in ("tables", "coverage"):
            output.out(text.strip())
        names, rows = read(db, text)
        _table(names, rows)
    output.out("\nThese prices are generated. With keys in the environment the same commands ask Alpaca.")


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [[str(name) for name in names], *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    for row in cells:
        output.out("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

"""What may be asked, as the keywords of `stagingest.plan` and `stagingest.fetch`."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TypedDict


class Asked(TypedDict, total=False):
    """What may be asked; every field has a default.

    symbols: names of stocks (`AAPL`, `BRK.B`) or of option contracts (OCC, `AAPL240419C00190000`).
    watchlist: names of lists in watchlists_file (JSON, {name: [symbols]}; by default ./watchlists.json, then
    ./data/watchlists.json); bars without a symbol are of the lists `positions` and `monitor`.
    index: names of universes kept in the staging directory: all that belonged on some day asked.
    underlyings: stocks whose contracts are listed, or whose known contracts' bars are fetched.
    provider: `alpaca` unless the dataset names it (`alpaca/stock-bars`).
    timeframe: `1Min` to `59Min`, `1Hour` to `23Hour`, `1Day`, `1Week`, `1Month` to `12Month`.
    start: first New York day; `max` is the provider's first.
    end: last New York day, inclusive; by default the last one whose prices are final.
    feed: of stocks `sip` (the default), `iex`, `otc`, `boats`, of chains `indicative` (the default) or `opra`;
    adjustment: `raw`, `split`, `dividend`, `spin-off`, `all`; currency: ISO 4217;
    asof: the day whose symbol names are meant (YYYY-MM-DD, `-` for no mapping).
    expiry_gte, expiry_lte: bounds of the expiry, whole years are listed.
    moneyness: strike over the latest close, `0.8..1.2`; a close that is neither staged nor loaded is asked first.
    lookback_years: from how long before its expiry bars of a contract are asked.
    top_up: from where what is known of each symbol ends to now; without names all that is known of the series.
    overlap: of a top-up, so many of the last known days again (`3d`), for what the provider revised.
    strike_gte, strike_lte, option_type: bounds of the strike in dollars, `call` or `put`.
    max_underlyings, max_expiries, max_contracts: of how many that have something due is asked, of each underlying so
    many expiries, the nearest first; what is left out is asked by the same call later.
    contracts_from: another staging directory whose listings are known too; where no name is given, option bars and
    snapshots are asked of every underlying known there or in `db`.
    """

    symbols: Iterable[str]
    watchlist: Iterable[str]
    watchlists_file: str | Path | None
    index: Iterable[str]
    underlyings: Iterable[str]
    provider: str | None
    timeframe: str
    start: str | date
    end: str | date
    feed: str
    adjustment: str
    currency: str
    asof: str
    expiry_gte: str | date
    expiry_lte: str | date
    strike_gte: str | float | Decimal
    strike_lte: str | float | Decimal
    option_type: str
    moneyness: str
    lookback_years: int
    top_up: bool
    overlap: str
    max_underlyings: int | None
    max_expiries: int | None
    max_contracts: int | None
    contracts_from: str | Path | None

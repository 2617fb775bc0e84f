"""Which option contracts are known before anything is asked, and whose options are meant where no name is given."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stagingest.errors import UsageError
from stagingest.model.calendar import new_york
from stagingest.model.chunk import Coverage, Series
from stagingest.model.task import Entry
from stagingest.model.windows import Window
from stagingest.planning import contracts as planning_contracts
from stagingest.planning.request import KnownState, moneyness
from stagingest.providers import catalog
from stagingest.staging.manifest import Manifest, has_manifest

if TYPE_CHECKING:
    from stagingest.planning.request import FetchOptions


# A weekend and a holiday; an older close says nothing of where the price is now.
_OLDEST_CLOSE = timedelta(days=7)


def known(dataset: str, root: Path, db: str | Path | None, asked: "FetchOptions", now: datetime) -> KnownState:
    """What is known before anything is asked: contracts of the staging root, of `contracts_from` and of `db`; what is
    covered; closes for --moneyness.
    """
    found = replace(_contracts(root, db, asked), covered=partial(_covered, root, db))
    if not asked.get("moneyness"):
        return found
    endpoint = catalog.resolve(dataset, asked.get("provider"))
    if endpoint.dataset not in ("option-bars", "option-snapshots"):
        raise UsageError(f"--moneyness is not for {endpoint.name}.", "It is for option bars and snapshots.")
    since = now.astimezone(UTC).replace(tzinfo=None) - _OLDEST_CLOSE
    return replace(found, closes=latest(root, db, endpoint.provider, _underlyings(asked), since))


def without_close(wanted: "FetchOptions", found: KnownState) -> list[str]:
    """The underlyings whose close --moneyness needs and nobody knows."""
    if not wanted.get("moneyness"):
        return []
    moneyness(str(wanted["moneyness"]))
    return [name for name in _underlyings(wanted) if name not in found.closes]


def _underlyings(asked: "FetchOptions") -> list[str]:
    return [name.strip().upper() for name in asked.get("underlyings", ())]


def _covered(root: Path, db: str | Path | None, series: Series) -> dict[str, list[Window]]:
    found: dict[str, list[Window]] = {}
    if has_manifest(root):
        with Manifest.read(root, unseen=True) as manifest:
            found = manifest.coverage(series)
    if db is not None and Path(db).exists() and not series.adjusted:
        from stagingest.targets.duckdb.read import coverage

        for symbol, windows in coverage(Path(db), [series.id]).get(series.id, {}).items():
            found.setdefault(symbol, []).extend(windows)
    return found


def _contracts(root: Path, db: str | Path | None, asked: "FetchOptions") -> KnownState:
    listings = _listings(asked)
    underlyings = _underlyings(asked)
    if db is None or not underlyings or not Path(db).exists():
        return KnownState(root, listings=listings)
    from stagingest.targets.duckdb.read import contracts

    return KnownState(root, contracts(Path(db), underlyings), listings=listings)


def named(dataset: str, db: str | Path | None, asked: "FetchOptions", now: datetime) -> "FetchOptions":
    """The question with its underlyings: where it has no names, all that `contracts_from` or `db` has contracts of.

    A chain that is captured is of those whose contracts have not expired.

    Raises UsageError when `contracts_from` knows nothing, or is given where no contract is meant.
    """
    endpoint = catalog.resolve(dataset, asked.get("provider"))
    if endpoint.dataset not in ("option-bars", "option-snapshots"):
        if asked.get("contracts_from"):
            raise UsageError(f"--contracts-from is not for {endpoint.name}.", "It is for option bars and snapshots.")
        return asked
    if any(asked.get(name) for name in ("symbols", "underlyings", "watchlist", "index")):
        return asked
    listings = _listings(asked)
    after = new_york(now).date() if endpoint.kind is Coverage.CAPTURE else date.min
    found = _staged(listings, endpoint.name.partition("/")[0], after) if listings else set()
    if db is not None and Path(db).exists():
        from stagingest.targets.duckdb.read import underlyings

        found.update(underlyings(Path(db), after))
    return {**asked, "underlyings": tuple(sorted(found))} if found else asked


def _staged(root: Path, provider: str, after: date) -> set[str]:
    listing = catalog.resolve("option-contracts", provider)
    with Manifest.read(root, unseen=True) as manifest:
        found = planning_contracts.underlyings(root, manifest.entries(), listing.name, after)
    if not found:
        what = f"that expires from {after} on" if after > date.min else f"of {listing.name}"
        command = f"stagingest fetch {catalog.shortest(listing.name)}"
        raise UsageError(f"{root} knows no contract {what}.", f"Run `{command}` into it first.")
    return found


def _listings(asked: "FetchOptions") -> Path | None:
    """The directory of --contracts-from. Raises UsageError when it is no staging directory."""
    place = asked.get("contracts_from")
    if place is None:
        return None
    if not (Path(place) / Manifest.file).exists():
        raise UsageError(
            f"--contracts-from {place} is no staging directory.",
            "Run `stagingest fetch option-contracts` into it first.",
        )
    return Path(place)


@dataclass(frozen=True, slots=True)
class Close:
    """A close in dollars, and the session it is of (its bar's stamp, UTC without zone)."""

    ts: datetime
    close: float


def latest(
    root: Path, db: str | Path | None, provider: str, symbols: Iterable[str], since: datetime
) -> dict[str, float]:
    """The latest raw daily closes of a provider's bars that are stamped at `since` (UTC without zone) or later.

    Args:
        root: a staging directory; it need not exist.
        db: a DuckDB file; it need not exist.
        provider: whose prices.
        symbols: of whom; one without such a close is not in the answer.
        since: older closes say nothing of today.
    """
    wanted = set(symbols)
    found: dict[str, Close] = {}
    for symbol, close in (*_staged_closes(root, provider, wanted), *_loaded(db, provider, wanted)):
        if close.ts >= since and (symbol not in found or close.ts > found[symbol].ts):
            found[symbol] = close
    return {symbol: close.close for symbol, close in found.items()}


def _staged_closes(root: Path, provider: str, wanted: set[str]) -> Iterator[tuple[str, Close]]:
    import pyarrow.parquet as pq

    for entry in _newest(root, provider, wanted):
        table = pq.read_table(root / entry.path, columns=["symbol", "ts", "close"], partitioning=None)
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        yield from ((symbol, Close(ts, close)) for symbol, ts, close in rows if symbol in wanted)


def _newest(root: Path, provider: str, wanted: set[str]) -> list[Entry]:
    """For each symbol the entry whose window ends last."""
    if not has_manifest(root):
        return []
    last: dict[str, Entry] = {}
    with Manifest.read(root, unseen=True) as manifest:
        for entry in manifest.entries():
            series = entry.chunk.series
            if not entry.path or series.endpoint != f"{provider}/stock-bars":
                continue
            params = dict(series.params)
            if (params["interval"], params["adjustment"], params["currency"]) != ("1d", "raw", "USD"):
                continue
            for symbol, rows in entry.symbol_rows:
                if rows and symbol in wanted and _end(entry) >= _end(last.get(symbol, entry)):
                    last[symbol] = entry
    return list({entry.seq: entry for entry in last.values()}.values())


def _end(entry: Entry) -> tuple[object, int]:
    return entry.chunk.window.end, entry.seq


def _loaded(db: str | Path | None, provider: str, wanted: set[str]) -> list[tuple[str, Close]]:
    if db is None or not Path(db).exists():
        return []
    from stagingest.targets.duckdb.read import closes

    return [(symbol, Close(ts, close)) for symbol, ts, close in closes(Path(db), provider, wanted)]

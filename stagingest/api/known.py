"""Which option contracts are known before anything is asked, and whose options are meant where no name is given."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

from stagingest.errors import UsageError
from stagingest.model.calendar import new_york
from stagingest.model.chunk import Series
from stagingest.model.task import Entry
from stagingest.model.windows import Window
from stagingest.planning import contracts as planning_contracts
from stagingest.planning.fetch_options import takes
from stagingest.planning.request import KnownState, Query
from stagingest.providers import catalog
from stagingest.staging import storage
from stagingest.staging.manifest import Manifest, given_up_chunks, has_manifest

# A weekend and a holiday; an older close says nothing of where the price is now.
_OLDEST_CLOSE = timedelta(days=7)


def known(query: Query, root: Path, db: str | Path | None, now: datetime) -> KnownState:
    """What is known before anything is asked: contracts of the staging root, of `contracts_from` and of `db`; what is
    covered; closes where moneyness bounds something.
    """
    found = replace(_contracts(query, root, db), covered=partial(_covered, root, db), missing=partial(_missing, root))
    if query.bounds.moneyness is None:
        return found
    since = now.astimezone(UTC).replace(tzinfo=None) - _OLDEST_CLOSE
    return replace(found, closes=latest(root, db, query.endpoint.provider, _underlyings(query), since))


def without_close(query: Query, found: KnownState) -> list[str]:
    """The underlyings whose close moneyness needs and nobody knows."""
    if query.bounds.moneyness is None:
        return []
    return [name for name in _underlyings(query) if name not in found.closes]


def _underlyings(query: Query) -> list[str]:
    return [name.strip().upper() for name in query.underlyings]


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


def _missing(root: Path, series: Series) -> dict[str, list[Window]]:
    """What was planned or asked of a series and not had, and that a fetch may ask again."""
    found: dict[str, list[Window]] = {}
    if has_manifest(root):
        with Manifest.read(root, unseen=True) as manifest:
            not_had = [each.chunk for each in given_up_chunks(manifest) if not each.held]
            for chunk in (*not_had, *manifest.open_chunks(series)):
                for symbol in chunk.symbols if chunk.series == series else ():
                    found.setdefault(symbol, []).append(chunk.window)
    return found


def _contracts(query: Query, root: Path, db: str | Path | None) -> KnownState:
    underlyings = _underlyings(query)
    if db is None or not underlyings or not Path(db).exists():
        return KnownState(root, listings=query.contracts_from)
    from stagingest.targets.duckdb.read import contracts

    return KnownState(root, contracts(Path(db), underlyings), listings=query.contracts_from)


def named(query: Query, db: str | Path | None, now: datetime) -> Query:
    """The question with its underlyings: where it has no names, all that `contracts_from` or `db` has contracts of.

    A chain that is captured is of those whose contracts have not expired.

    Raises UsageError when `contracts_from` is no staging directory, or knows nothing.
    """
    place, endpoint = query.contracts_from, query.endpoint
    if place is not None and not (place / Manifest.file).exists():
        raise UsageError(
            f"--contracts-from {place} is no staging directory.",
            "Run `stagingest fetch option-contracts` into it first.",
        )
    if query.named or not takes(endpoint.dataset, "contracts_from"):
        return query
    after = new_york(now).date() if endpoint.kind.momentary else date.min
    found = _staged(place, endpoint.provider, after) if place else set()
    if db is not None and Path(db).exists():
        from stagingest.targets.duckdb.read import underlyings

        found.update(underlyings(Path(db), after))
    return replace(query, underlyings=tuple(sorted(found))) if found else query


def _staged(root: Path, provider: str, after: date) -> set[str]:
    listing = catalog.resolve("option-contracts", provider)
    with Manifest.read(root, unseen=True) as manifest:
        found = planning_contracts.underlyings(root, manifest.entries(), listing.name, after)
    if not found:
        what = f"that expires from {after} on" if after > date.min else f"of {listing.name}"
        command = f"stagingest fetch {catalog.shortest(listing.name)}"
        raise UsageError(f"{root} knows no contract {what}.", f"Run `{command}` into it first.")
    return found


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
        place = storage.at(root).address(entry.path)
        table = pq.read_table(place, columns=["symbol", "ts", "close"], partitioning=None)
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

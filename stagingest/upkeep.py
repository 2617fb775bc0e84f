"""What a person may do to a staging directory: make due again what was given up, and rebuild its manifest."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path

from stagingest import catalog, disk, givenup, strikes
from stagingest.errors import StagingestError, UsageError
from stagingest.givenup import RETRIED, GivenUp
from stagingest.locks import Lock
from stagingest.manifest import Manifest
from stagingest.model import Chunk, Kind, Outcome, Series
from stagingest.targets.duckfile import read

_DAY = timedelta(days=1)
# Parameters of a series that are options of `fetch`, and the values these have when they are not given.
_OPTIONS = {
    "interval": ("timeframe", "1d"),
    "feed": ("feed", "sip"),
    "adjustment": ("adjustment", "raw"),
    "currency": ("currency", "USD"),
    "asof": ("asof", ""),
    "expiry_gte": ("expiry-gte", ""),
    "expiry_lte": ("expiry-lte", ""),
    "strike_gte": ("strike-gte", ""),
    "strike_lte": ("strike-lte", ""),
    "option_type": ("type", ""),
}


@dataclass(frozen=True, slots=True)
class Retried:
    """What became due: the chunks, how many of each outcome, their symbols, and the fetches that ask them."""

    chunks: tuple[GivenUp, ...]
    commands: tuple[tuple[str, ...], ...]

    @property
    def outcomes(self) -> dict[str, int]:
        """Chunks of each outcome."""
        return dict(sorted(Counter(each.outcome.value for each in self.chunks).items()))

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols, sorted."""
        return tuple(sorted({symbol for each in self.chunks for symbol in each.chunk.symbols}))


def retry(
    root: Path,
    dataset: str = "",
    outcomes: Collection[str] = (),
    symbols: Collection[str] = (),
    chunks: Collection[str] = (),
) -> Retried:
    """Make due again what was given up; asks nothing.

    Args:
        root: the staging directory.
        dataset: a dataset or endpoint; '' is every one.
        outcomes: of `refused`, `quarantined`, `failed`, `forbidden`; none is all four.
        symbols, chunks: only chunks with one of these symbols or with one of these ids; none is all.

    Raises:
        UsageError: a name that nothing was given up under, with the nearest one.
        HeldError: a fetch holds the directory.
    """
    wanted = [_outcome(text) for text in outcomes] or list(RETRIED)
    endpoint = catalog.resolve(dataset).name if dataset else ""
    with Lock.take(root / "run.lock", "retrying"), Manifest.write(root) as manifest:
        found = [each for each in givenup.chunks(manifest, wanted) if each.held or not _is_over(each.chunk)]
        if endpoint:
            found = [each for each in found if each.chunk.series.endpoint == endpoint]
        _known("symbol", symbols, {symbol for each in found for symbol in each.chunk.symbols})
        _known("chunk", chunks, {each.chunk.id for each in found})
        if symbols or chunks:
            found = [
                each for each in found if each.chunk.id in chunks or not set(symbols).isdisjoint(each.chunk.symbols)
            ]
        givenup.make_due(manifest, found)
        strikes.clear(manifest, [each.chunk.id for each in found])
    return Retried(tuple(found), tuple(commands([each.chunk for each in found])))


def _is_over(chunk: Chunk) -> bool:
    """Whether no request can bring what was meant any more."""
    return catalog.endpoint(chunk.series.endpoint).kind is Kind.CAPTURE


def _outcome(text: str) -> Outcome:
    names = [outcome.value for outcome in RETRIED]
    if text not in names:
        near = get_close_matches(text, names, 1, 0.0)[0]
        raise UsageError(
            f"There is nothing to retry called {text!r}.", f"The nearest is {near}; there are {', '.join(names)}."
        )
    return Outcome(text)


def _known(what: str, asked: Collection[str], there: Collection[str]) -> None:
    for text in asked:
        if text not in there:
            near = get_close_matches(text, there, 1, 0.0)
            hint = f"The nearest is {near[0]}." if near else "Nothing was given up."
            raise UsageError(f"No {what} {text!r} was given up.", hint)


def commands(chunks: Iterable[Chunk]) -> list[tuple[str, ...]]:
    """The words of the fetches that ask these chunks: one for each series."""
    by_series: dict[Series, list[Chunk]] = {}
    for chunk in chunks:
        by_series.setdefault(chunk.series, []).append(chunk)
    return [_command(series, found) for series, found in by_series.items()]


def _command(series: Series, found: Sequence[Chunk]) -> tuple[str, ...]:
    history = catalog.endpoint(series.endpoint).kind is Kind.HISTORY
    names = sorted({symbol for chunk in found for symbol in chunk.symbols})
    words = ["fetch", series.endpoint, "--symbols" if history else "--underlyings", ",".join(names)]
    for name, value in series.params:
        option, default = _OPTIONS.get(name, ("", value))
        if value not in ("", default):
            words += [f"--{option}", value]
    if history:
        words += ["--start", str(min(chunk.window.start for chunk in found))]
        words += ["--end", str(max(chunk.window.end for chunk in found) - _DAY)]
    return tuple(words)


def set_aside_wal(db: Path) -> Path:
    """Rename the write-ahead log of a DuckDB file that cannot be replayed; its new path.

    The database is then as at its last checkpoint, rows and ledger alike: the next load loads again what is missing.

    Raises:
        UsageError: there is no such log.
        HeldError: another process has the database.
        TargetError: the database cannot be opened without it either; the log is where it was.
    """
    log = Path(f"{db}.wal")
    if not log.exists():
        raise UsageError(f"{db.name} has no write-ahead log.", "Look at the path after --to.")
    taken = {path.name for path in db.parent.glob(f"{log.name}.damaged*")}
    names = (f"{log.name}.damaged{number or ''}" for number in range(len(taken) + 1))
    kept = log.with_name(next(name for name in names if name not in taken))
    disk.rename(log, kept)
    try:
        read(db, "SELECT 1")
    except StagingestError:
        disk.rename(kept, log)
        raise
    disk.sync_folder(db.parent)
    return kept

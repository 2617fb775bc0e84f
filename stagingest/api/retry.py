"""Making due again what was given up."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stagingest.errors import UsageError, choices, nearest
from stagingest.model.calendar import DAY
from stagingest.model.chunk import Chunk, Series
from stagingest.model.task import Outcome
from stagingest.providers import catalog
from stagingest.staging import manifest as staging_manifest
from stagingest.staging.manifest import RETRIED, GivenUp, Manifest
from stagingest.system.locks import Lock

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


def commands(chunks: Iterable[Chunk]) -> list[tuple[str, ...]]:
    """The words of the fetches that ask these chunks: one for each series."""
    by_series: dict[Series, list[Chunk]] = {}
    for chunk in chunks:
        by_series.setdefault(chunk.series, []).append(chunk)
    return [_command(series, found) for series, found in by_series.items()]


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
    staging: str | Path = "staging",
    dataset: str = "",
    *,
    outcomes: Iterable[str] = (),
    symbols: Iterable[str] = (),
    chunks: Iterable[str] = (),
) -> Retried:
    """Make due again what was refused, quarantined, failed or forbidden; asks nothing, the next fetch does.

    Args:
        staging: the staging directory.
        dataset: a dataset or endpoint, '' for every one.
        outcomes: of those four, none for all.
        symbols, chunks: only chunks with one of these symbols, or with one of these ids.

    Raises UsageError for a name under which nothing was given up, HeldError while a fetch holds `staging`.
    """
    root = Path(staging)
    symbols, chunks = frozenset(symbols), frozenset(chunks)
    wanted = [_outcome(text) for text in outcomes] or list(RETRIED)
    endpoint = catalog.resolve(dataset).name if dataset else ""
    with Lock.take(root / "run.lock", "retrying"), Manifest.write(root) as manifest:
        found = [
            each for each in staging_manifest.given_up_chunks(manifest, wanted) if each.held or not _is_over(each.chunk)
        ]
        if endpoint:
            found = [each for each in found if each.chunk.series.endpoint == endpoint]
        _known("symbol", symbols, {symbol for each in found for symbol in each.chunk.symbols})
        _known("chunk", chunks, {each.chunk.id for each in found})
        if symbols or chunks:
            found = [each for each in found if each.chunk.id in chunks or not symbols.isdisjoint(each.chunk.symbols)]
        staging_manifest.make_due(manifest, found)
        staging_manifest.clear_crashes(manifest, [each.chunk.id for each in found])
    return Retried(tuple(found), tuple(commands([each.chunk for each in found])))


def _is_over(chunk: Chunk) -> bool:
    """Whether no request can bring what was meant any more."""
    return catalog.endpoint(chunk.series.endpoint).kind.momentary


def _outcome(text: str) -> Outcome:
    names = [outcome.value for outcome in RETRIED]
    if text not in names:
        raise UsageError(f"There is nothing to retry called {text!r}.", choices(text, names))
    return Outcome(text)


def _known(what: str, asked: Collection[str], there: Collection[str]) -> None:
    for text in asked:
        if text not in there:
            near = nearest(text, there)
            hint = f"The nearest is {near}." if near else "Nothing was given up."
            raise UsageError(f"No {what} {text!r} was given up.", hint)


def _command(series: Series, found: Sequence[Chunk]) -> tuple[str, ...]:
    history = catalog.endpoint(series.endpoint).kind.has_days
    names = sorted({symbol for chunk in found for symbol in chunk.symbols})
    words = ["fetch", series.endpoint, "--symbols" if history else "--underlyings", ",".join(names)]
    for name, value in series.params:
        option, default = _OPTIONS.get(name, ("", value))
        if value not in ("", default):
            words += [f"--{option}", value]
    if history:
        words += ["--start", str(min(chunk.window.start for chunk in found))]
        words += ["--end", str(max(chunk.window.end for chunk in found) - DAY)]
    return tuple(words)

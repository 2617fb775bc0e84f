"""Fetch and load in one call, for a notebook or a script: a list of symbols or a file in, what became of them out."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from stagingest.api import fetch, load, scan, universe
from stagingest.errors import CredentialsError, Exit, ProviderError
from stagingest.model.task import Outcome
from stagingest.planning import symbols as planning_symbols
from stagingest.system import platform

if TYPE_CHECKING:
    import pyarrow as pa

    from stagingest.api.fetch import Fetched
    from stagingest.targets import TargetOptions


__all__ = ["Pipeline", "PipelineResult", "bars"]


class PipelineResult(TypedDict):
    """What became of the symbols asked.

    successful: those that were had whole, in the provider's spelling, sorted.
    failed: the others, (symbol, reason).
    """

    successful: list[str]
    failed: list[tuple[str, str]]


class Pipeline:
    """Bars of symbols, staged and loaded; killed or interrupted, the same call continues.

    Args:
        staging: the staging directory, made if absent.
        to: the target as in `load`: a DuckDB file, `parquet:FOLDER`, `postgresql://host/db`; None stages only.
        provider: `alpaca` or `massive`.
        environ: keys and base URLs; os.environ by default.
        how: memory, threads, patience of the load.
        clock: the time, UTC.
        options: keywords of `fetch` for every call, such as max_rps, processes, feed, adjustment.
    """

    def __init__(
        self,
        staging: str | Path = "staging",
        to: str | Path | None = "market.duckdb",
        *,
        provider: str | None = None,
        environ: Mapping[str, str] | None = None,
        how: "TargetOptions | None" = None,
        clock: Callable[[], datetime] = platform.utc_now,
        **options: Any,
    ) -> None:
        self._staging, self._to, self._how = Path(staging), to, how
        self._environ, self._clock = environ, clock
        self._options = {"provider": provider, **options}

    def symbols(
        self,
        symbols: Iterable[str],
        start: str | date = "max",
        end: str | date = "",
        *,
        timeframe: str = "1Day",
        index_name: str = "",
        dataset: str = "stock-bars",
        **asked: Any,
    ) -> PipelineResult:
        """Fetch and load the bars of symbols.

        Args:
            symbols: stocks, or OCC symbols with dataset `option-bars`.
            start, end: first and last New York day, YYYY-MM-DD, both included.
            timeframe: `1Min`, `1Hour`, `1Day` and so on.
            index_name: keep the symbols as the members of this universe today; '' keeps nothing.
            dataset: of the provider.
            asked: further keywords of `fetch`.

        Raises UsageError for a wrong argument, CredentialsError for a missing key, HeldError when another fetch has the
        staging directory or another process the target, StagingError and TargetError for what cannot be used.
        """
        names = list(symbols)
        fetched = self._fetch(dataset, names, start, end, timeframe, asked)
        if index_name:
            self._keep(index_name, names)
        if self._to is not None:
            load.load(self._staging, self._to, how=self._how)
        return _outcome(fetched)

    def from_csv(
        self,
        file: str | Path,
        start: str | date = "max",
        end: str | date = "",
        *,
        timeframe: str = "1Day",
        index_name: str | None = None,
        dataset: str = "stock-bars",
        **asked: Any,
    ) -> PipelineResult:
        """Fetch and load the bars of the symbols in a file, and keep them as a universe.

        Args:
            file: `FILE[:COLUMN]`, a CSV column (`symbol` or `ticker` unless it is named), JSON or one symbol a line.
            index_name: of the universe; the file's stem by default, '' for none.
            start, end, timeframe, dataset, asked: as in `symbols`.

        Raises as `symbols`, and UsageError for a file that cannot be read or lacks the column, naming those it has.
        """
        path, _ = planning_symbols.split(str(file))
        name = _name(path.stem) if index_name is None else index_name
        return self.symbols(
            planning_symbols.from_file(str(file)),
            start,
            end,
            timeframe=timeframe,
            index_name=name,
            dataset=dataset,
            **asked,
        )

    def _fetch(
        self,
        dataset: str,
        names: list[str],
        start: str | date,
        end: str | date,
        timeframe: str,
        asked: Mapping[str, Any],
    ) -> "Fetched":
        words = {**self._options, **asked, "symbols": names, "start": start, "end": end, "timeframe": timeframe}
        return fetch.fetch(dataset, staging=self._staging, environ=self._environ, clock=self._clock, **words)

    def _keep(self, name: str, symbols: list[str]) -> None:
        universe.keep_universe(name, symbols, staging=self._staging, clock=self._clock)


def _name(stem: str) -> str:
    """A file's stem as the name of a universe."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "universe"


def _outcome(fetched: "Fetched") -> PipelineResult:
    names, summary = fetched.question.names, fetched.summary
    failed = [(failure.symbol, f"{failure.outcome}: {failure.reason}") for failure in summary.failures]
    failed += [(name, "is no symbol of the provider") for name in names.rejected]
    without = {symbol for symbol, _ in failed}
    if summary.stopped or summary.left:
        reason = summary.stopped or f"{summary.ended_by or 'the run'} ended before all was asked; run it again"
        had = set(names.kept) if not summary.left else set()
        failed += [(symbol, reason) for symbol in names.kept if symbol not in had | without]
    bad = {symbol for symbol, _ in failed}
    return {"successful": [symbol for symbol in names.kept if symbol not in bad], "failed": failed}


def bars(
    symbols: Iterable[str],
    start: str | date,
    end: str | date = "",
    *,
    timeframe: str = "1Day",
    staging: str | Path = "staging",
    dataset: str = "stock-bars",
    environ: Mapping[str, str] | None = None,
    clock: Callable[[], datetime] = platform.utc_now,
    **asked: Any,
) -> "pa.Table":
    """Fetch bars and return them; what is staged already is not asked again.

    Args:
        symbols: stocks, or OCC symbols with dataset `option-bars`.
        start, end: first and last New York day, YYYY-MM-DD, both included; end is the last final day by default.
        timeframe: `1Min`, `1Hour`, `1Day` and so on.
        staging: the staging directory, made if absent.
        dataset: of the provider.
        environ: keys and base URLs; os.environ by default.
        clock: the time, UTC.
        asked: further keywords of `fetch`, such as feed and adjustment.

    Returns one row for each bar, sorted by symbol and ts, with the dataset's columns as `scan` types them. Symbols the
    provider does not have are not in it; `fetch` says which.

    Raises CredentialsError when the key is not entitled, ProviderError when the provider could not be asked to the end
    or a symbol was not had whole, and as `fetch`.
    """
    fetched = fetch.fetch(
        dataset, staging=staging, environ=environ, clock=clock,
        symbols=symbols, start=start, end=end, timeframe=timeframe, **asked,
    )  # fmt: skip
    summary = fetched.summary
    if summary.stopped:
        raise (CredentialsError if fetched.exit_code == Exit.CREDENTIALS else ProviderError)(summary.stopped)
    if summary.left:
        raise ProviderError(f"{summary.left} chunks were not asked ({summary.ended_by}).", "Call it again.")
    not_had = [failure for failure in summary.failures if failure.outcome != Outcome.REFUSED]
    if not_had:
        said = "; ".join(f"{failure.symbol}: {failure.outcome}, {failure.reason}" for failure in not_had[:5])
        raise ProviderError(f"{len(not_had)} symbols were not had whole ({said}).", "Call it again.")
    endpoint, series = fetched.question.endpoint, fetched.question.jobs[0].series
    same = {name: value for name, value in series.params if name != "interval"}
    windows = [each.window for each in fetched.question.jobs[0].asked]
    last = max(window.end for window in windows) - timedelta(days=1)
    found = scan.scan(
        endpoint.dataset, symbols=fetched.question.names.kept, timeframe=timeframe, provider=endpoint.provider,
        start=min(window.start for window in windows), end=last, staging=staging, **same,
    ).read_all()  # fmt: skip
    return found.sort_by([(found.column_names[0], "ascending"), ("ts", "ascending")])

"""What a market is to the imitation, and which one a caller asked for."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Protocol

from stagingest.sim.market.bars import Bars, Spec, Timeframe
from stagingest.sim.market.calendar import Moment
from stagingest.sim.market.contracts import ListedContract
from stagingest.sim.market.generated import Generated, Splits, names
from stagingest.sim.market.replay import Replay
from stagingest.sim.market.snapshots import Snapshot


class Market(Protocol):
    """Prices and contracts; everything is a function of its arguments."""

    skipped: tuple[str, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every stock with bars, sorted."""

    @property
    def underlyings(self) -> tuple[str, ...]:
        """Every stock with contracts, sorted."""

    def stock_bars(
        self, symbol: str, spec: Spec, first_s: int, last_s: int, moment: Moment, *, descending: bool = False
    ) -> Iterator[Bars]:
        """Runs of bars that together hold every bar stamped from `first_s` to `last_s`, and may hold others.

        The runs come in time order, or against it when `descending`; inside a run time always ascends.
        An unknown symbol has none.
        """

    def option_bars(self, symbol: str, timeframe: Timeframe, moment: Moment) -> Bars | None:
        """Every bar of a contract, or None."""

    def contracts(self, underlying: str, today: date) -> Sequence[ListedContract]:
        """Every contract listed up to `today`, expired ones included, sorted by symbol."""

    def contract(self, symbol: str, today: date) -> ListedContract | None:
        """The contract of that symbol, when it has been listed."""

    def snapshots(self, underlying: str, moment: Moment) -> Sequence[Snapshot]:
        """The contracts of `underlying` as they are at the moment, expired ones left out, sorted by symbol."""


def market_from(
    symbols: int | Sequence[str] = 100,
    *,
    replay: Sequence[Path] = (),
    seed: int = 0,
    splits: Splits | None = None,
) -> Market:
    """A replayed market when `replay` names files, else a generated one.

    Args:
        symbols: how many generated names (see `names`), or the symbols themselves.
        replay: Parquet files, or directories of them, in order of precedence; `market.skipped` names those
            whose shape is not known.
        seed: of the generated market.
        splits: of the generated market, by symbol: (New York day, new shares per old one).

    Raises:
        UsageError: nothing to replay, or too many symbols.
    """
    if replay:
        return Replay(replay)
    return Generated(names(symbols) if isinstance(symbols, int) else symbols, seed=seed, splits=splits)

"""Which option contracts are known before anything is asked, and whose options are meant where no name is given."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stagingest import catalog, closes, universe
from stagingest.errors import UsageError
from stagingest.lost import there
from stagingest.manifest import Manifest
from stagingest.model import Kind, Series, Window
from stagingest.optioning import moneyness
from stagingest.sessions import new_york
from stagingest.wanting import Known

# A weekend and a holiday; an older close says nothing of where the price is now.
_OLDEST_CLOSE = timedelta(days=7)

if TYPE_CHECKING:
    from stagingest.askable import Asked


def known(dataset: str, root: Path, db: str | Path | None, asked: "Asked", now: datetime) -> Known:
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
    return replace(found, closes=closes.latest(root, db, endpoint.provider, _underlyings(asked), since))


def without_close(wanted: "Asked", found: Known) -> list[str]:
    """The underlyings whose close --moneyness needs and nobody knows."""
    if not wanted.get("moneyness"):
        return []
    moneyness(str(wanted["moneyness"]))
    return [name for name in _underlyings(wanted) if name not in found.closes]


def _underlyings(asked: "Asked") -> list[str]:
    return [name.strip().upper() for name in asked.get("underlyings", ())]


def _covered(root: Path, db: str | Path | None, series: Series) -> dict[str, list[Window]]:
    found: dict[str, list[Window]] = {}
    if there(root):
        with Manifest.read(root, unseen=True) as manifest:
            found = manifest.coverage(series)
    if db is not None and Path(db).exists() and not series.adjusted:
        from stagingest.targets.duckread import coverage

        for symbol, windows in coverage(Path(db), [series.id]).get(series.id, {}).items():
            found.setdefault(symbol, []).extend(windows)
    return found


def _contracts(root: Path, db: str | Path | None, asked: "Asked") -> Known:
    listings = _listings(asked)
    underlyings = _underlyings(asked)
    if db is None or not underlyings or not Path(db).exists():
        return Known(root, listings=listings)
    from stagingest.targets.duckread import contracts

    return Known(root, contracts(Path(db), underlyings), listings=listings)


def named(dataset: str, db: str | Path | None, asked: "Asked", now: datetime) -> "Asked":
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
    after = new_york(now).date() if endpoint.kind is Kind.CAPTURE else date.min
    found = _staged(listings, endpoint.name.partition("/")[0], after) if listings else set()
    if db is not None and Path(db).exists():
        from stagingest.targets.duckread import underlyings

        found.update(underlyings(Path(db), after))
    return {**asked, "underlyings": tuple(sorted(found))} if found else asked


def _staged(root: Path, provider: str, after: date) -> set[str]:
    listing = catalog.resolve("option-contracts", provider)
    with Manifest.read(root, unseen=True) as manifest:
        found = universe.underlyings(root, manifest.entries(), listing.name, after)
    if not found:
        what = f"that expires from {after} on" if after > date.min else f"of {listing.name}"
        command = f"stagingest fetch {catalog.shortest(listing.name)}"
        raise UsageError(f"{root} knows no contract {what}.", f"Run `{command}` into it first.")
    return found


def _listings(asked: "Asked") -> Path | None:
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

"""Contracts known from elsewhere: another staging directory's listings, or a database; and whose chains are meant."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from desk import Desk, desk

import stagingest
from stagingest.cli import stagingest as command
from stagingest.errors import UsageError
from stagingest.system import platform

NAMES = ["AAAA", "BBBB", "CCCC"]
NEXT_YEAR = {"expiry_gte": "2024-06-01", "expiry_lte": "2025-12-31"}
MAY = {"start": "2024-05-01", "end": "2024-05-31"}


@pytest.fixture
def place(tmp_path: Path):  # type: ignore[no-untyped-def]
    with desk(tmp_path, symbols=NAMES) as made:
        yield made


def listed(place: Desk, *names: str) -> Path:
    """A staging directory that knows the contracts of these."""
    root = place.root / "contracts"
    assert place.fetch("option-contracts", underlyings=names, staging=root, **NEXT_YEAR).exit_code == 0
    return root


def test_bars_are_asked_of_contracts_that_another_directory_lists(place: Desk) -> None:
    root = listed(place, "AAAA", "BBBB")
    before = sorted(root.rglob("*"))
    with pytest.raises(UsageError, match="No contracts of AAAA are known yet"):
        place.fetch("option-bars", underlyings=["AAAA"], **MAY)
    here = place.fetch("option-bars", underlyings=["AAAA"], contracts_from=root, **MAY)
    assert here.summary.rows > 0
    assert {name[:4] for name in here.question.names.kept} == {"AAAA"}
    assert sorted(root.rglob("*")) == before
    planned = place.plan("option-bars", underlyings=["AAAA"], contracts_from=root, **MAY)
    assert planned.plan.covered == planned.plan.symbols > 0


@pytest.mark.parametrize("dataset", ["option-bars", "option-snapshots"])
def test_without_a_name_all_who_have_contracts_there_are_asked(place: Desk, dataset: str) -> None:
    root = listed(place, "AAAA", "CCCC")
    window = MAY if dataset == "option-bars" else {}
    question = place.plan(dataset, contracts_from=root, **window).question
    assert {name[:4] for name in question.names.kept} == {"AAAA", "CCCC"}
    named = place.plan(dataset, contracts_from=root, underlyings=["CCCC"], **window).question
    assert {name[:4] for name in named.names.kept} == {"CCCC"}


@pytest.mark.parametrize("dataset", ["option-bars", "option-snapshots"])
def test_without_a_name_all_who_have_contracts_in_the_database_are_asked(place: Desk, dataset: str) -> None:
    stagingest.load(listed(place, "BBBB"), place.db)
    question = place.plan(dataset, db=place.db, **(MAY if dataset == "option-bars" else {})).question
    assert {name[:4] for name in question.names.kept} == {"BBBB"}


def test_a_chain_is_captured_only_of_those_whose_contracts_have_not_expired(place: Desk) -> None:
    root = listed(place, "AAAA")
    place.now = datetime(2031, 1, 6, 15, tzinfo=UTC)
    with pytest.raises(UsageError, match="knows no contract that expires from 2031-01-06 on"):
        place.plan("option-snapshots", contracts_from=root)
    assert place.plan("option-bars", contracts_from=root, **MAY).question.names.kept


def test_a_directory_that_is_none_and_a_dataset_without_contracts_are_refused(place: Desk) -> None:
    with pytest.raises(UsageError, match="nowhere is no staging directory"):
        place.plan("option-snapshots", contracts_from=Path("nowhere"))
    with pytest.raises(UsageError, match="--contracts-from is not for alpaca/stock-bars"):
        place.plan("stock-bars", symbols=["AAAA"], contracts_from=Path("nowhere"))


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_outside_the_session_a_fetch_that_asks_to_be_in_it_ends_well_at_once(
    place: Desk, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    words = ["fetch", "option-snapshots", "--underlyings", "AAAA", "--in-session", *flags]
    monkeypatch.chdir(place.root)
    monkeypatch.setattr(platform, "utc_now", lambda: datetime(2026, 11, 27, 18, tzinfo=UTC))
    ended = CliRunner().invoke(command, words)
    assert (ended.exit_code, place.requests(), list(place.root.iterdir())) == (0, 0, [])
    assert ("2026-11-30T14:30:00" if flags else "opens Mon 2026-11-30 09:30 (14:30 UTC)") in ended.stdout


def test_inside_the_session_it_asks(place: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.root)
    monkeypatch.setattr(platform, "utc_now", lambda: datetime(2026, 11, 27, 17, 59, tzinfo=UTC))
    words = ["fetch", "option-snapshots", "--underlyings", "AAAA", "--in-session", "--dry-run"]
    ended = CliRunner().invoke(command, words)
    assert (ended.exit_code, ended.stdout.startswith("plan of alpaca/option-snapshots")) == (0, True), ended.output

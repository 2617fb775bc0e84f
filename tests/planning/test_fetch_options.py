"""The options of a fetch are declared once, and what is not for a dataset is refused with what is meant."""

import inspect
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import stagingest
from stagingest.errors import UsageError
from stagingest.model.datasets import DATASETS as TABLES
from stagingest.planning import fetch_options, jobs
from stagingest.planning.fetch_options import BY_NAME, DATASETS, EXAMPLES, OPTIONS, FetchOptions, Kind, Topic
from stagingest.planning.request import KnownState, query
from stagingest.providers import catalog

NOON = datetime(2024, 6, 4, 16, tzinfo=UTC)
SOMETHING: dict[Kind, Any] = {
    Kind.TEXT: "x", Kind.NAMES: ["x"], Kind.FILES: ["x"], Kind.FILE: "x", Kind.FOLDER: "x", Kind.FLAG: True,
    Kind.COUNT: 3, Kind.MINUTES: 1.0, Kind.RATES: {"": 1.0}, Kind.LANES: {"": 1},
}  # fmt: skip
NOT_TAKEN = [(name, option.name) for name in DATASETS for option in OPTIONS if name not in option.datasets]


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "stagingest", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_datasets_are_those_that_have_tables_and_can_be_asked() -> None:
    assert set(DATASETS) == {each.dataset for each in catalog.endpoints().values()} <= set(TABLES)


def test_every_declared_keyword_is_one_of_fetch_and_every_keyword_of_fetch_is_declared() -> None:
    own = {"dataset", "environ", "listener", "clock", "asked", "executor"}
    explicit = set(inspect.signature(stagingest.fetch).parameters) - own
    only_typed = {"symbols_file", "env_file", "preset", "in_session", "dry_run", "as_json", "fail_if_empty"}
    assert explicit | set(FetchOptions.__annotations__) | only_typed == set(BY_NAME)
    of_plan = set(inspect.signature(stagingest.plan).parameters) - own
    assert of_plan == {name for name in explicit if not BY_NAME[name].run}
    assert not any(BY_NAME[name].run for name in FetchOptions.__annotations__)


def test_the_default_of_a_keyword_is_the_declared_one() -> None:
    for name, parameter in inspect.signature(stagingest.fetch).parameters.items():
        if name in BY_NAME and parameter.default is not inspect.Parameter.empty:
            assert parameter.default == BY_NAME[name].default, name


@pytest.mark.parametrize(("dataset", "name"), NOT_TAKEN, ids=str)
def test_an_option_that_is_not_for_the_dataset_is_refused_with_what_is_meant(dataset: str, name: str) -> None:
    option = BY_NAME[name]
    with pytest.raises(UsageError, match=f"^{option.typed}.* is not for alpaca/{dataset}\\.") as refused:
        query(dataset, {name: SOMETHING[option.kind]})
    cure = refused.value.next_step
    assert cure
    named = [word.strip(".,:;?") for word in cure.split() if word.startswith("--")]
    for flag in named:
        meant = next(each for each in OPTIONS if each.typed == flag)
        assert dataset in meant.datasets


@pytest.mark.parametrize(("dataset", "name"), NOT_TAKEN, ids=str)
def test_its_default_asks_for_nothing_and_is_taken_by_every_dataset(dataset: str, name: str) -> None:
    query(dataset, {name: BY_NAME[name].default})


def test_a_keyword_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"There is no option 'symbls'\. .*symbols"):
        stagingest.plan("stock-bars", symbls=["AAPL"])  # type: ignore[call-arg]


def test_two_providers_are_refused_with_both() -> None:
    with pytest.raises(UsageError, match="alpaca/stock-bars and --provider massive name two providers"):
        query("alpaca/stock-bars", {"provider": "massive"})


def test_a_question_is_typed() -> None:
    found = query(
        "option-bars",
        {
            "underlyings": "SPY,QQQ", "start": date(2024, 5, 1), "end": "2024-05-31", "strike_gte": 400.5,
            "expiry_lte": "2024-06-21", "option_type": "PUT", "moneyness": "0.8..1.2", "max_contracts": 5,
        },
    )  # fmt: skip
    assert found.endpoint is catalog.endpoint("alpaca/option-bars")
    assert (found.underlyings, found.start, found.end) == (("SPY", "QQQ"), date(2024, 5, 1), date(2024, 5, 31))
    bounds = found.bounds
    assert (bounds.strike_gte, bounds.expiry_lte, bounds.option_type) == (Decimal("400.5"), date(2024, 6, 21), "put")
    assert (bounds.moneyness, found.few.contracts) == ((Decimal("0.8"), Decimal("1.2")), 5)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"expiry_gte": "2024-06-30", "expiry_lte": "2024-06-01"}, "--expiry-gte 2024-06-30 is after"),
        ({"strike_gte": "500", "strike_lte": "400"}, "--strike-gte 500 is above"),
        ({"strike_gte": "much"}, "--strike-gte 'much' is no strike"),
        ({"option_type": "cal"}, "There is no --type 'cal'. .*call"),
        ({"lookback_years": 0}, "--lookback-years must be a whole number from 1 to 50"),
        ({"max_contracts": "5"}, "--max-contracts must be a whole number of at least 1"),
        ({"top_up": "yes"}, "--top-up is true or false"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused_by_the_name_of_its_option(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        query("option-bars", {"underlyings": ["SPY"], **asked})


def test_bounds_of_contracts_that_bound_nothing_are_refused() -> None:
    asked = query("option-bars", {"symbols": ["SPY240621C00500000"], "strike_gte": "400"})
    with pytest.raises(UsageError, match="--strike-gte bounds the contracts of --underlyings"):
        jobs.question(asked, KnownState(Path("nowhere")), NOON)


@pytest.mark.parametrize("dataset", ["option-contracts", "option-snapshots"])
def test_watchlists_name_whose_contracts_are_listed_and_whose_chains_are_captured(dataset: str, tmp_path: Path) -> None:
    file = tmp_path / "lists.json"
    file.write_text('{"mine": ["SPY", "AAPL"]}')
    asked = query(dataset, {"watchlist": "mine", "watchlists_file": file})
    assert jobs.question(asked, KnownState(tmp_path), NOON).names.kept == ("AAPL", "SPY")


def test_the_usual_watchlists_are_those_of_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "lists.json"
    file.write_text('{"positions": ["SPY"], "monitor": ["AAPL"]}')
    found = jobs.question(query("stock-bars", {"watchlists_file": file}), KnownState(tmp_path), NOON)
    assert found.names.kept == ("AAPL", "SPY")


@pytest.mark.parametrize("command", ["fetch", "plan"])
@pytest.mark.parametrize("dataset", [*DATASETS, "massive/option-bars"])
def test_help_of_a_dataset_shows_what_it_takes_in_groups_with_an_example(command: str, dataset: str) -> None:
    shown = run(command, dataset, "--help").stdout
    name = fetch_options.dataset_of(dataset)
    for option in OPTIONS:
        there = name in option.datasets and (command == "fetch" or not option.run)
        there = there and not (option.name == "provider" and "/" in dataset)
        assert (f" {option.typed} " in shown.replace(",", " ").replace("\n", " ")) == there, option.name
    topics = [topic for topic in Topic if (topic, name, command) != (Topic.FAR, "stock-bars", "plan")]
    assert [line[:-1] for line in shown.splitlines() if line[:-1] in set(Topic)] == topics
    assert f"  stagingest {command} {EXAMPLES[name]}" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_help_without_a_dataset_shows_every_option_and_how_to_see_those_of_one() -> None:
    shown = run("fetch", "--help").stdout
    assert all(option.typed in shown for option in OPTIONS)
    assert all(example in shown for example in EXAMPLES.values())
    assert "`stagingest fetch DATASET --help` shows what one dataset takes." in shown


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_example_can_be_planned(dataset: str) -> None:
    _, *words = EXAMPLES[dataset].split()
    assert run("plan", dataset, *words, "--staging", "nowhere").returncode == 0


def test_what_the_configuration_sets_is_for_the_datasets_that_take_it_and_what_is_typed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stagingest.toml").write_text('[fetch]\nadjustment = "split"\n[plan]\nadjustment = "split"\n')
    assert "adjustment=split" in run("plan", "stock-bars", "-s", "AAPL").stdout
    assert run("plan", "option-contracts", "--underlyings", "AAPL").returncode == 0
    refused = run("plan", "option-contracts", "--underlyings", "AAPL", "--adjustment", "split")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--adjustment is not for alpaca/option-contracts. It is for stock-bars." in refused.stderr


def test_a_step_of_a_profile_is_refused_by_the_same_words_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stagingest.toml").write_text(
        '[[profile.mine.steps]]\ndataset = "stock-bars"\nsymbols = "AAPL"\nexpiry_gte = "2024-01-01"\n'
    )
    for words in (("run", "mine"), ("config", "check")):
        refused = run(*words)
        assert refused.returncode == 2
        assert "[profile.mine] step 1: --expiry-gte is not for stock-bars." in refused.stderr
        assert "--start" in refused.stderr

"""Where `--to` leads: files, schemes, names, and the targets of other distributions."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk, desk
from distributions import install

from stagingest.api import target as api_target
from stagingest.api.target import GROUP
from stagingest.errors import UsageError
from stagingest.targets import TargetKind

MAY = {"start": "2024-05-01", "end": "2024-05-31"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, symbols=3) as found:
        yield found


def run(place: Desk, variables: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stagingest", *words], cwd=place.root, env={**place.environ, **variables},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_target_of_another_distribution_is_loaded_once_verified_and_pruned_by(place: Desk) -> None:
    found = install(place.root / "site", "json_target", {GROUP: "json = json_target:TARGET"})
    place.fetch(symbols=place.market.symbols, **MAY)
    for rows in (place.rows().num_rows, 0):
        loaded = run(place, found, "load", "--to", "json:market.json", "--json")
        assert (loaded.returncode, json.loads(loaded.stdout)["rows"]) == (0, rows), loaded.stderr
    held = json.loads((place.root / "market.json").read_text())["rows"]["stock_bars"]
    closes = {(row["symbol"], row["ts"]): row["close"] for row in held.values()}
    staged = place.rows().to_pylist()
    assert closes == {(row["symbol"], str(row["ts"])): row["close"] for row in staged}
    verified = run(place, found, "verify", "--to", "json:market.json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert run(place, found, "prune", "--loaded-in", "json:market.json").returncode == 0
    assert not list((place.staging / "data").rglob("*.parquet"))


def test_without_its_distribution_its_scheme_is_refused_with_those_there_are(place: Desk) -> None:
    place.fetch(symbols=["AAAA"], **MAY)
    refused = run(place, {}, "load", "--to", "json://market")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "There is no target json:." in refused.stderr
    assert "parquet" in refused.stderr


def test_a_second_target_of_a_scheme_is_refused_by_name(place: Desk) -> None:
    found = install(place.root / "site", "json_target", {GROUP: "json = json_target:TARGET"})
    again = install(place.root / "other", "json_target", {GROUP: "too = json_target:TARGET"}, "too")
    both = {"PYTHONPATH": f"{found['PYTHONPATH']}{again['PYTHONPATH']}"}
    place.fetch(symbols=["AAAA"], **MAY)
    refused = run(place, both, "load", "--to", "json:market.json")
    assert refused.returncode == 2
    assert "is a second target json:" in refused.stderr


@pytest.mark.parametrize(
    ("to", "scheme"),
    [
        ("parquet:tree", "parquet"), ("postgresql://host/db", "postgresql"), ("market.duckdb", ""),
        ("C:market.duckdb", ""), ("a b:c.duckdb", ""), ("./x/market.db", ""),
    ],
)  # fmt: skip
def test_a_scheme_means_its_target_and_anything_else_a_file(to: str, scheme: str) -> None:
    kind, address = api_target._meant(to, {"HOME": "/nowhere"})
    assert isinstance(kind, TargetKind)
    assert (scheme in kind.schemes or not (scheme or kind.schemes), address) == (True, to)


@pytest.mark.parametrize("to", ["mysql://host/db", "s3://bucket/tree", "parquets:tree", "postgre:db"])
def test_a_scheme_that_there_is_not_makes_no_file(to: str) -> None:
    with pytest.raises(UsageError, match="There is no target"):
        api_target.target(to)

"""A provider that another distribution brings along goes the whole way, and no file of the package knows of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pglab
import pyarrow.dataset as ds
import pytest
from distributions import OUTSIDE, install

from stagingest.providers.catalog import GROUP
from stagingest.sim.imitation import GROUP as IMITATIONS
from stagingest.sim.market import market as market_market
from stagingest.sim.policy import Policy
from stagingest.sim.server import Logged, Server
from stagingest.targets.duckdb.connection import read

sys.path.append(str(OUTSIDE))
from acme.imitation import IMITATION

PASS = "pass-of-the-test"
NAMES = ("AAAA", "BBBB", "CCCC")
ASKED = ("--symbols", ",".join(NAMES), "--start", "2023-01-03", "--end", "2024-05-31")


@dataclass
class Acme:
    """A user of the provider: a folder, an imitation, and the variables that lead to both."""

    root: Path
    server: Server
    variables: dict[str, str]

    def run(self, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "stagingest", *words], cwd=self.root, env={**self.variables, **more},
            capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    def does(self, *words: str, **more: str) -> str:
        done = self.run(*words, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def log(self) -> list[Logged]:
        return self.server.log


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Acme]:
    points = {GROUP: "acme = acme.endpoints:PROVIDER", IMITATIONS: "acme = acme.imitation:IMITATION"}
    found = install(tmp_path / "site", "acme", points)
    policy = Policy(keys=((PASS, PASS), ("key", "secret")))
    with Server(market_market.market_from(NAMES), policy, imitations=(IMITATION,)) as server:
        variables = {
            "ACME_BASE_URL": server.url, "ACME_PASS": PASS, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin",
            "APCA_API_DATA_URL": server.url, "APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret", **found,
        }  # fmt: skip
        yield Acme(tmp_path, server, variables)


def closes(acme: Acme, db: str, provider: str) -> list[Any]:
    text = f"SELECT symbol, ts, open, close, volume FROM stock_bars WHERE provider = '{provider}' ORDER BY ALL"
    return list(read(acme.root / db, text)[1])


def test_its_bars_are_planned_fetched_by_workers_and_loaded_like_those_of_any_other(acme: Acme) -> None:
    planned = json.loads(acme.does("plan", "acme/stock-bars", *ASKED, "--json"))
    assert (planned["endpoint"], planned["symbols"], list(planned["budgets"])) == ("acme/stock-bars", 3, ["acme/api"])
    fetched = json.loads(acme.does("fetch", "acme/stock-bars", *ASKED, "--processes", "2", "--json"))
    assert (fetched["symbols_had"], fetched["left"]) == (3, 0)
    assert fetched["pages"] > 3
    assert {entry.path.split("/")[1] for entry in acme.log()} == {"acme"}
    again = acme.does("fetch", "stock-bars", "--provider", "acme", *ASKED)
    assert "nothing to ask: all 3 symbols are covered" in again

    assert "acme" in acme.does("status")
    acme.does("load", "--to", "market.duckdb")
    acme.does("verify", "--to", "market.duckdb")
    acme.does("load", "--to", "parquet:tree")
    acme.does("verify", "--to", "parquet:tree")

    acme.does("fetch", "alpaca/stock-bars", *ASKED, "--staging", "other", "--processes", "0")
    acme.does("load", "--staging", "other", "--to", "other.duckdb")
    theirs = closes(acme, "market.duckdb", "acme")
    assert theirs == closes(acme, "other.duckdb", "alpaca")
    tree = ds.dataset(acme.root / "tree" / "stock-bars", format="parquet").to_table(columns=["symbol", "close"])
    assert tree.num_rows == len(theirs) == fetched["rows"]
    assert sum(tree["close"].to_pylist()) == pytest.approx(sum(row[3] for row in theirs))
    scanned = "import stagingest; print(stagingest.scan('stock-bars', provider='acme').read_all().num_rows)"
    done = subprocess.run(
        [sys.executable, "-c", scanned], cwd=acme.root, env=acme.variables, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == len(theirs)


@pytest.mark.postgres
def test_its_bars_go_to_postgres(acme: Acme) -> None:
    acme.does("fetch", "acme/stock-bars", *ASKED, "--processes", "0")
    dsn = pglab.database(f"acme-{acme.server.port}")
    loaded = json.loads(acme.does("load", "--to", "DATABASE_URL", "--json", DATABASE_URL=dsn))
    assert loaded["rows"] > 1000
    acme.does("verify", "--to", "DATABASE_URL", DATABASE_URL=dsn)


def test_its_limit_is_obeyed_at_a_budget_of_its_own(acme: Acme) -> None:
    acme.server.behave(Policy(keys=((PASS, PASS), ("key", "secret")), rate_per_min=240, burst=2, rate_headers=False))
    acme.does("fetch", "acme/stock-bars", *ASKED, "--processes", "0", "--max-rps", "100")
    statuses = [entry.status for entry in acme.log()]
    assert 429 in statuses
    assert statuses.count(200) >= 3


def test_its_key_is_asked_for_by_its_variable_checked_and_shown_nowhere(acme: Acme) -> None:
    missing = acme.run("fetch", "acme/stock-bars", *ASKED, ACME_PASS="")
    assert (missing.returncode, acme.log()) == (4, [])
    assert "ACME_PASS is not set" in missing.stderr
    wrong = acme.run("fetch", "acme/stock-bars", *ASKED, ACME_PASS="another-pass-of-the-test")
    assert wrong.returncode == 4
    assert "ACME_PASS" in wrong.stderr
    checked = acme.run("doctor")
    assert "acme/api" in checked.stdout
    acme.does("fetch", "acme/stock-bars", *ASKED, "--processes", "2")
    said = missing.stderr + wrong.stderr + checked.stdout + checked.stderr
    kept = [path.read_bytes() for path in (acme.root / "staging").rglob("*") if path.is_file()]
    for key in (PASS, "another-pass-of-the-test"):
        assert key not in said
        assert not any(key.encode() in data for data in kept)


def test_what_it_has_not_is_refused_in_its_own_words(acme: Acme) -> None:
    refused = acme.run("plan", "acme/stock-bars", *ASKED, "--timeframe", "1Min")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "ACME has daily bars only." in refused.stderr
    unknown = acme.run("plan", "acme/option-bars", "--underlyings", "AAAA")
    assert unknown.returncode == 2
    assert "acme/stock-bars" in unknown.stderr


def test_stagingest_sim_imitates_it_too(acme: Acme) -> None:
    command = [sys.executable, "-m", "stagingest", "sim", "--port", "0", "--symbols", "2"]
    started = subprocess.Popen(command, cwd=acme.root, env=acme.variables, stdout=subprocess.PIPE, text=True)
    with started:
        assert started.stdout is not None
        lines = list(iter(started.stdout.readline, "\n"))
        exports = dict(line.split()[1].split("=", 1) for line in lines if line.startswith("export "))
        words = ("fetch", "acme/stock-bars", "--symbols", "AAAA", "--start", "2024-05-01", "--end", "2024-05-31")
        acme.does(*words, "--processes", "0", **{name: value for name, value in exports.items() if "ACME" in name})
        started.terminate()
    assert "acme" in lines[0]

"""Whatever instant a crash picks, the manifest never says more than the disk holds, and the same command completes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from crashlab import Recording, State, recording, states
from desk import MONDAY, Desk, desk

from stagingest.fetching import supervisor
from stagingest.sim import policy

SPRING: dict[str, Any] = {"start": "2024-03-01", "end": "2024-05-31"}
EVERY = 40  # of the states, one in so many is recovered from in the suite; `scripts/soak crash` recovers from all


def refusing(symbol: str) -> policy.Policy:
    body = json.dumps({"message": f"invalid symbol: {symbol}"}).encode()
    return policy.Policy(faults=(policy.Fault("status", contains=symbol, status=400, body=body),))


@contextmanager
def place(root: Path) -> Iterator[Desk]:
    """Five symbols; one is refused, one has no bars, one splits between the two fetches of an adjusted series."""
    names = ["AAAA", "BBBB", "CCCC", "DDDD"]
    splits = {"AAAA": [(date(2024, 6, 5), 4.0)]}
    with desk(root, symbols=names, splits=splits, policy=refusing("CCCC")) as found:
        yield found


def work(found: Desk) -> None:
    """What is recorded, and what completes it again: three commands."""
    found.now = MONDAY
    found.fetch(symbols=["AAAA", "BBBB", "CCCC", "DDDD", "NONE"], max_rps=20, lanes=1, timeframe="1Hour", **SPRING)
    found.fetch(symbols=["AAAA", "BBBB"], adjustment="split", lanes=1, **SPRING)
    found.now = MONDAY + timedelta(days=7)
    found.fetch(symbols=["AAAA", "BBBB"], adjustment="split", lanes=1, **{**SPRING, "end": "2024-06-07"})


def covered(found: Desk) -> list[Any]:
    """Rows that a load would leave, by key: the last entry wins."""
    table = {}
    for row in found.rows().to_pylist():
        row.pop("updated_at")
        table[row["symbol"], row["interval"], row["ts"], row["adjustment"]] = row
    return sorted(table.values(), key=str)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, list[Any]]:
    root = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch, place(root) as found:
        patch.setattr(supervisor, "GROUP_S", 0.0)
        with recording(found.staging) as made:
            work(found)
        return made, covered(found)


def test_no_state_claims_a_file_that_is_not_there(recorded: tuple[Recording, list[Any]]) -> None:
    found = states(recorded[0])
    assert len(found) > 200
    assert [lie for state in found for lie in state.lies()] == []


def test_the_same_commands_complete_from_any_state(recorded: tuple[Recording, list[Any]], tmp_path: Path) -> None:
    made, truth = recorded
    for number, state in enumerate(states(made)[::EVERY]):
        complete(state, tmp_path / str(number), truth)


def complete(state: State, root: Path, truth: list[Any]) -> None:
    with place(root) as found:
        state.put(found.staging)
        work(found)
        assert covered(found) == truth, state.told


@pytest.mark.parametrize("forgotten", ["sync", "sync_folder"])
def test_a_tool_that_forgets_to_sync_is_found_out(tmp_path: Path, forgotten: str) -> None:
    with place(tmp_path) as found, recording(found.staging, forgotten) as made:
        work(found)
    assert [lie for state in states(made) for lie in state.lies()]


def test_a_tool_that_commits_before_it_renames_is_found_out(recorded: tuple[Recording, list[Any]]) -> None:
    made = recorded[0]
    ops = list(made.ops)
    renamed = next(index for index, op in enumerate(ops) if op.kind == "rename" and op.paths[1].endswith(".parquet"))
    commit = next(index for index in range(renamed, len(ops)) if ops[index].kind == "commit")
    ops.insert(renamed, ops.pop(commit))
    assert [lie for state in states(replace(made, ops=ops)) for lie in state.lies()]

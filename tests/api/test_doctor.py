"""What a fetch stands on, looked at before it is needed."""

import errno
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from desk import MONDAY, Desk, desk

from stagingest.api import doctor
from stagingest.api.doctor import FAIL, OK, WARN, Check
from stagingest.errors import StagingError
from stagingest.providers import catalog
from stagingest.sim import policy as sim_policy
from stagingest.staging import preflight
from stagingest.staging.preflight import Surroundings
from stagingest.system.locks import Lock

GOOD = Surroundings(Path("/data/staging"), 10**12, 10**9, "", 1024, 4096)


def seen(place: Desk, *, offline: bool = False) -> dict[str, Check]:
    return {
        check.what: check
        for check in doctor.examine(place.staging, place.environ, offline=offline, now=lambda: place.now)
    }


def test_a_sound_place_has_nothing_to_complain_of_and_costs_a_request_an_endpoint(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        checks = seen(place)
        assert {check.level for check in checks.values()} == {OK}
        assert set(catalog.endpoints()) < set(checks)
        assert place.requests() == len(catalog.endpoints())
        assert doctor.exit_code(list(checks.values())) == 0


def test_offline_asks_nothing(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        assert "alpaca/stock-bars" not in seen(place, offline=True)
        assert place.requests() == 0


@pytest.mark.parametrize(
    ("policy", "endpoint", "words"),
    [
        (sim_policy.Policy(keys=(("other", "pair"),)), "alpaca/stock-bars", "Check the keys"),
        (
            sim_policy.Policy(keys=(("other", "pair"),), forbidden_status=403),
            "alpaca/stock-bars",
            "or the key pair is wrong",
        ),
        (sim_policy.Policy(opra=False), "alpaca/option-bars", "plan does not include"),
    ],
)
def test_a_key_that_is_refused_or_not_entitled_is_exit_4(
    tmp_path: Path, policy: sim_policy.Policy, endpoint: str, words: str
) -> None:
    with desk(tmp_path, symbols=2, policy=policy) as place:
        checks = seen(place)
        assert (checks[endpoint].level, checks[endpoint].code) == (FAIL, 4)
        assert words in checks[endpoint].said
        assert doctor.exit_code(list(checks.values())) == 4


def test_a_host_that_is_not_there_is_exit_5(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        place.server.__exit__(None, None, None)
        checks = seen(place)
        assert (checks["alpaca/stock-bars"].level, checks["alpaca/stock-bars"].code) == (FAIL, 5)


def test_a_clock_ten_minutes_off_is_seen(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        late = [
            check
            for check in doctor.examine(place.staging, place.environ, now=lambda: MONDAY - timedelta(minutes=10))
            if check.what == "clock"
        ]
        assert {check.level for check in late} == {WARN}
        assert "600 s behind" in late[0].said


def test_a_missing_key_is_named_and_never_a_value(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        environ = place.environ | {"APCA_API_SECRET_KEY": ""}
        done = subprocess.run(
            [sys.executable, "-m", "stagingest", "doctor", "--staging", str(place.staging)],
            env=environ, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 4
        assert "fail  keys of alpaca/data: APCA_API_SECRET_KEY is not set." in done.stdout
        assert place.environ["APCA_API_KEY_ID"] not in done.stdout + done.stderr


def test_holders_and_a_damaged_manifest_are_named(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        place.fetch(symbols=place.market.symbols, start="2024-05-01", end="2024-05-31")
        with Lock.take(place.staging / "run.lock", "fetching"):
            held = seen(place, offline=True)["run.lock"]
        assert (held.level, f"process {os.getpid()}" in held.said) == (WARN, True)
        os.truncate(place.staging / "manifest.sqlite", 5000)
        checks = seen(place, offline=True)
        assert "stagingest repair --staging" in checks["manifest"].said
        assert doctor.exit_code(list(checks.values())) == 1


def test_the_document_of_doctor_holds_every_check(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=2) as place:
        command = [sys.executable, "-m", "stagingest", "doctor", "--json", "--offline"]
        done = subprocess.run(
            [*command, "--staging", str(place.staging)], env=place.environ, capture_output=True, text=True
        )
        document = json.loads(done.stdout)
        assert (document["exit_code"], done.returncode) == (0, 0)
        assert {"what": "versions", "level": "ok"}.items() <= document["checks"][0].items()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"free_bytes": 10**6}, "about 5 MB at /data/staging and 1 MB are free"),
        ({"free_inodes": 7}, "about 10 files and /data/staging takes 7 more"),
        ({"networked": "NFS"}, "is on NFS"),
    ],
)
def test_what_will_not_fit_is_said_before_it_is_asked(found: dict[str, object], words: str) -> None:
    fields = {name: getattr(GOOD, name) for name in GOOD.__slots__}
    (said,) = preflight.warnings(Surroundings(**{**fields, **found}), 5 * 10**6, 10)
    assert words in said
    assert preflight.warnings(GOOD, 5 * 10**6, 10) == []


def test_a_run_that_needs_more_open_files_than_it_may_have_is_refused() -> None:
    with pytest.raises(StagingError, match="may open 100 files and the run needs 200"):
        preflight.make_room_for_files(Surroundings(GOOD.root, 1, 1, "", 64, 100), 200)


def test_a_staging_directory_everybody_may_write_into_is_refused(tmp_path: Path) -> None:
    with desk(tmp_path, symbols=1) as place:
        place.staging.mkdir()
        place.staging.chmod(0o777)
        with pytest.raises(StagingError, match="Everybody may write into"):
            place.fetch(symbols=place.market.symbols, start="2024-05-01", end="2024-05-31")
        assert place.requests() == 0


def test_a_run_that_may_open_no_more_files_is_told_the_limit_and_the_cure(tmp_path: Path) -> None:
    refused = OSError(errno.EMFILE, "too many open files")
    said = str(preflight.explain_os_error(refused, preflight.measure(tmp_path), 0))
    assert "may open only" in said
    assert "choose fewer --lanes" in said


def test_a_staging_directory_of_another_user_is_refused_and_its_owner_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(StagingError, match=f"belongs to user {owner}, this is user {owner + 1}"):
        preflight.require_private(tmp_path)

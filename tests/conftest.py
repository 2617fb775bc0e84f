"""What every test stands on: a closed network, an empty home, one Hypothesis profile, and an honest NOT RUN."""

import ipaddress
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pglab
import pytest
from hypothesis import settings

NOT_RUN = "NOT RUN: "
TEST_ALL = os.environ.get("STAGINGEST_TEST_ALL") == "1"
BRIEF = os.environ.get("STAGINGEST_TEST_BRIEF") == "1"


def _namespaces() -> bool:
    """Whether a process may mount a small disk of its own."""
    command = ["unshare", "-rm", "true"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, capture_output=True, check=False).returncode


NEEDS = {
    "realdata": (os.environ.get("STAGINGEST_REALDATA"), "set STAGINGEST_REALDATA=DIR to replay real prices"),
    "strace": (shutil.which("strace"), "install strace to make system calls fail"),
    "namespace": (_namespaces(), "allow `unshare -rm` to mount a disk that fills up"),
    "systemd": (shutil.which("systemd-analyze"), "install systemd to have its own reader check the units"),
    "postgres": (pglab.binaries(), "install postgresql to load into a real server"),
    "old_duckdb": (
        os.environ.get("STAGINGEST_OLD_DUCKDB_PYTHON"),
        "set STAGINGEST_OLD_DUCKDB_PYTHON to a Python that has DuckDB 1.5",
    ),
    "sdk": (
        os.environ.get("STAGINGEST_SDK_PYTHON"),
        "set STAGINGEST_SDK_PYTHON to a Python that has alpaca-py and massive",
    ),
}
OURS = ("STAGINGEST_", "APCA_", "MASSIVE_", "POLYGON_")

# A shell starts background jobs with Ctrl-C ignored, which children inherit; the tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Derandomized: a run says the same today and tomorrow; `--hypothesis-profile=default` explores.
settings.register_profile("stagingest", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("stagingest")


def _need(marker: str) -> str:
    value, what = NEEDS[marker]
    if not value:
        pytest.skip(NOT_RUN + what)
    return value


@pytest.fixture
def realdata() -> Path:
    """The directory of real prices; without it the test is NOT RUN."""
    return Path(_need("realdata"))


@pytest.fixture
def sdk_python() -> Path:
    """A Python that has the vendors' own clients; without it the test is NOT RUN."""
    return Path(_need("sdk"))


@pytest.fixture
def old_duckdb_python() -> Path:
    """A Python that has the oldest DuckDB promised; without it the test is NOT RUN."""
    return Path(_need("old_duckdb"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    long = item.get_closest_marker("long")
    if long and BRIEF:
        pytest.skip(f"{NOT_RUN}set STAGINGEST_TEST_ALL=1 for {long.args[0]}")
    for marker in NEEDS:
        if item.get_closest_marker(marker):
            _need(marker)


def _not_run(report: Any) -> str:
    """What a skipped report says was missing, '' for anything else."""
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return ""
    reason = str(report.longrepr[2]).removeprefix("Skipped: ")
    return reason if reason.startswith(NOT_RUN) else ""


def _refused(report: Any) -> Any:
    """The report, failed when it stands for a missing need and none may be missing."""
    missing = _not_run(report) if TEST_ALL else ""
    if missing:
        report.outcome, report.longrepr = "failed", f"{missing} (STAGINGEST_TEST_ALL=1 leaves nothing out)"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return _refused((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return _refused((yield))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Leaves what was not run to the file that scripts/test prints last."""
    path = os.environ.get("STAGINGEST_NOT_RUN")
    if path:
        missing = {_not_run(report) for report in terminalreporter.stats.get("skipped", [])}
        with Path(path).open("a") as file:
            file.writelines(f"{line}\n" for line in sorted(missing - {""}))


def _is_loopback(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _guarded(real: Any) -> Any:
    def connect(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and not _is_loopback(address[0]):
            raise OSError(f"the network beyond loopback is closed for tests: {address[0]}")
        return real(self, address)

    return connect


def _guarded_lookup(real: Any) -> Any:
    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_loopback(host):
            raise socket.gaierror(socket.EAI_NONAME, f"the network beyond loopback is closed for tests: {host}")
        return real(host, *args, **kwargs)

    return getaddrinfo


@pytest.fixture(scope="session", autouse=True)
def closed_network() -> Iterator[None]:
    """Beyond loopback there is no host and no route, as on a machine without a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", _guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", _guarded_lookup(socket.getaddrinfo))
        yield


@pytest.fixture(autouse=True)
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting, key or state of the person who runs the tests reaches one of them, nor one the next."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(OURS) and name != "STAGINGEST_FALLBACKS"]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        for kind in ("CONFIG", "STATE", "CACHE", "DATA"):
            patch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
        yield

"""A PostgreSQL server of the tests' own: on a Unix socket in a temporary folder, gone at the end."""

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import quote

DSN = "POSTGRES_OF_THE_TESTS"
_ACCOUNT = "postgres"  # the server refuses to run as root


def binaries() -> Path | None:
    """The newest server's programs, None where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@cache
def dsn() -> str:
    """The address of the server, which is started with the first call; children of the process find it too."""
    if DSN in os.environ:
        return os.environ[DSN]
    tools = binaries()
    assert tools is not None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.getuid() == 0:
        shutil.chown(folder, _ACCOUNT)
    data = folder / "data"
    _run(tools / "initdb", "-D", data, "-A", "trust", "-U", "tests", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-k {folder} -c listen_addresses= -c fsync=off -c log_min_messages=fatal"
    _run(tools / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
    atexit.register(_stop, tools, folder, os.getpid())
    os.environ[DSN] = f"postgresql:///postgres?host={quote(str(folder))}&user=tests"
    return os.environ[DSN]


def database(name: str) -> str:
    """The address of a new, empty database on the server."""
    tools = binaries()
    assert tools is not None
    _run(tools / "createdb", f"--maintenance-db={dsn()}", name)
    return dsn().replace("///postgres?", f"///{name}?")


def _run(*words: object) -> None:
    account = pwd.getpwnam(_ACCOUNT) if os.getuid() == 0 else None
    subprocess.run(
        [str(word) for word in words],
        check=True,
        cwd="/",
        user=account and account.pw_uid,
        group=account and account.pw_gid,
        extra_groups=[] if account else None,
        stdout=subprocess.DEVNULL,  # the server outlives pg_ctl and must not hold a pipe of ours
        stderr=subprocess.DEVNULL,
    )


def _stop(tools: Path, folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        _run(tools / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)

"""Checks of the surroundings: keys, clock, disk, limits, locks, versions; each with what to do about it."""

import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from stagingest.errors import Exit, StagingestError
from stagingest.http import classify, rate_limiter, response
from stagingest.http import headers as http_headers
from stagingest.http.client import Client
from stagingest.http.rate import Feedback
from stagingest.planning import due
from stagingest.providers import catalog, hosts
from stagingest.providers.endpoint import Endpoint, Host, smallest
from stagingest.staging import directory, preflight
from stagingest.staging.manifest import Manifest
from stagingest.system import locks, paths
from stagingest.system import platform as system_platform
from stagingest.system.sqlite import SQLITE_VERSION

OK, WARN, FAIL = "ok", "warn", "fail"
SKEW_S = 5.0
_LOCKS = (("run.lock", "a fetch"), ("load.lock", "a load"))


@dataclass(frozen=True, slots=True)
class Check:
    """One look: what at, `ok`, `warn` or `fail`, what was seen, and the exit code a failure means."""

    what: str
    level: str
    said: str
    code: int = 0


def exit_code(checks: Sequence[Check]) -> int:
    """0 without a failure, else the code of the failure that DESIGN section 7 puts first."""
    codes = {check.code for check in checks if check.level == FAIL}
    return next((code for code in (Exit.FAILED, Exit.CREDENTIALS, Exit.PROVIDER) if code in codes), Exit.OK)


def examine(
    root: Path,
    environ: Mapping[str, str],
    *,
    offline: bool = False,
    now: Callable[[], datetime] = system_platform.utc_now,
) -> Iterator[Check]:
    """The checks, each when it is done; one request for each endpoint unless `offline`."""
    yield from _versions()
    yield from _place(root)
    yield from _directory(root)
    for budget in catalog.hosts().values():
        yield from _budget(budget, environ, offline=offline, now=now)


def _versions() -> Iterator[Check]:
    mine = f"stagingest {version('stagingest')}, Python {platform.python_version()}, SQLite {SQLITE_VERSION}"
    libraries = ("duckdb", "pyarrow", "orjson", "requests", "urllib3")
    yield Check("versions", OK, ", ".join([mine, *(f"{name} {version(name)}" for name in libraries)]))
    if tuple(map(int, version("urllib3").split(".")[:2])) < (2, 7):
        yield Check("urllib3", FAIL, "urllib3 before 2.7 hands half an answer over as a whole one: update it.", 1)
    if sys.platform != "linux":
        yield Check(
            "platform", WARN, f"On {sys.platform} orphaned workers end only when they notice their parent's end."
        )


def _place(root: Path) -> Iterator[Check]:
    found = preflight.measure(root)
    said = f"{found.free_bytes / 1e9:,.1f} GB"
    if found.free_inodes >= 0:
        said += f" and {found.free_inodes:,} files"
    few = found.free_bytes < 1e9 or 0 <= found.free_inodes < 10_000
    yield Check(
        "disk", WARN if few else OK, f"{said} free at {root}" + (": `plan` says what a job needs." if few else "")
    )
    yield Check(
        "file system",
        WARN if found.networked else OK,
        f"{found.networked}: locks and renames are not proven there, use a local disk." if found.networked else "local",
    )
    needed = preflight.files_needed(system_platform.cores(), due.MOST_LANES)
    enough = found.hard_files < 0 or found.hard_files >= needed
    said = f"{found.soft_files:,} may be open, {found.hard_files:,} at most"
    yield Check("open files", OK if enough else WARN, said + ("" if enough else f"; the largest runs need {needed}."))


def _directory(root: Path) -> Iterator[Check]:
    if not root.is_dir():
        yield Check("staging", OK, f"{root} is not there yet; fetch makes it")
        return
    for name, who in _LOCKS:
        if locks.is_held(root / name):
            yield Check(name, WARN, f"{who} holds {root}: {locks.holder(root / name)}")
    try:
        preflight.require_private(root)
        with Manifest.read(root) as manifest:
            manifest.check()
            yield Check("manifest", OK, f"whole, staging id {manifest.staging_id}")
    except StagingestError as error:
        if not (root / Manifest.file).exists() and directory.strays(root):
            command = f"stagingest repair --staging {shlex.quote(str(root))}"
            yield Check("manifest", FAIL, f"{root} holds staged files and no manifest. Run `{command}`.", 1)
        elif not (root / Manifest.file).exists():
            yield Check("manifest", OK, f"{root} holds nothing yet")
        else:
            yield Check("manifest", FAIL, str(error), 1)


def _budget(budget: Host, environ: Mapping[str, str], *, offline: bool, now: Callable[[], datetime]) -> Iterator[Check]:
    names = " and ".join(variables[0] for _, variables in budget.keys)
    if budget.name.partition("/")[0] != catalog.DEFAULT_PROVIDER and not hosts.has_keys(budget.name, environ):
        yield Check(f"keys of {budget.name}", OK, f"{names} is not set: nothing is asked there")
        return
    try:
        access = hosts.access(budget.name, environ)
    except StagingestError as error:
        yield Check(f"keys of {budget.name}", FAIL, str(error), error.exit_code)
        return
    yield Check(
        f"keys of {budget.name}", OK, f"{names} {'are' if len(budget.keys) > 1 else 'is'} set, for {access.origin}"
    )
    if offline:
        return
    try:
        limiter = rate_limiter.LimiterSpec(_record(access, environ), access.lowest_plan_per_s).open()
    except StagingestError as error:
        yield Check("rate records", FAIL, str(error), 1)
        return
    client = Client(1)
    try:
        for endpoint in catalog.endpoints().values():
            if endpoint.budget == budget.name:
                yield from _asked(endpoint, access, client, limiter, now)
    finally:
        client.close()
        limiter.close()


def _record(access: hosts.Access, environ: Mapping[str, str]) -> Path:
    provider = access.budget.partition("/")[0]
    return rate_limiter.record_path(paths.state_dir(environ), provider, access.origin, access.credential, access.budget)


def _asked(
    endpoint: Endpoint,
    access: hosts.Access,
    client: Client,
    limiter: rate_limiter.SharedLimiter,
    now: Callable[[], datetime],
) -> Iterator[Check]:
    permit = limiter.permit()  # booked and not waited for: every plan lets a few requests a minute through at once
    asked_at = now()
    exchange = client.send(access.origin, smallest(endpoint, asked_at), dict(access.headers))
    if isinstance(exchange, response.Reply):
        headers = http_headers.rate_headers(exchange.headers, exchange.date)
        limiter.report(Feedback(exchange.status, permit.slot_s, *headers))
        yield from _skew(access, exchange, asked_at, now())
    decision = classify.classify(exchange, attempt=1, symbols=1)
    yield _judged(endpoint, decision)


def _judged(endpoint: Endpoint, decision: classify.Decision) -> Check:
    if decision.kind in (classify.Action.PAGE, classify.Action.SPLIT):  # a refused question was understood all the same
        return Check(endpoint.name, OK, "answers")
    if decision.kind is classify.Action.LIMITED:
        return Check(endpoint.name, WARN, f"{decision.reason}: the key's requests are spent for now.")
    if decision.kind is classify.Action.CREDENTIALS:
        return Check(
            endpoint.name,
            FAIL,
            f"{decision.reason}. Check the keys and that they belong to this host.",
            Exit.CREDENTIALS,
        )
    if decision.kind is classify.Action.FORBIDDEN:
        wrong = "" if catalog.hosts()[endpoint.budget].tells_keys else ", or the key pair is wrong"
        said = f"{decision.reason}. The plan does not include this data{wrong}."
        return Check(endpoint.name, FAIL, said, Exit.CREDENTIALS)
    return Check(endpoint.name, FAIL, f"{decision.reason}. Check the base URL and the network.", Exit.PROVIDER)


def _skew(access: hosts.Access, reply: response.Reply, before: datetime, after: datetime) -> Iterator[Check]:
    if reply.date is None:
        return
    middle = before + (after - before) / 2
    ahead_s = (middle.astimezone(UTC) - reply.date).total_seconds()
    if abs(ahead_s) > SKEW_S + (after - before).total_seconds():
        word = "ahead of" if ahead_s > 0 else "behind"
        said = f"this clock is {abs(ahead_s):,.0f} s {word} {access.origin}: what is final would be judged wrongly."
        yield Check("clock", WARN, said)

"""`stagingest run`: fetch and load what a profile of the configuration names."""

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stagingest.cli import defaults, output
from stagingest.cli import options as o
from stagingest.errors import Exit, StagingestError

if TYPE_CHECKING:
    from stagingest.api.profile import Profile, Ran


@click.command()
@click.argument("profile")
@click.option(
    "--staging", type=click.Path(path_type=Path, file_okay=False), help="Staging directory.  [default: profile's]"
)
@click.option("--to", "--db", metavar="TARGET", help="As of `load`.  [default: profile's]")
@click.option(
    "--preset", metavar="NAME", default="", help="Instead of the profile's: conservative, balanced, aggressive."
)
@o.env_file
@click.option("--lock-timeout", default="", help="Wait so long (30s, 5min) for a held database.  [default: profile's]")
@click.option("--in-session", is_flag=True, help="Do nothing, and exit 0, outside the session of New York.")
@click.option("--dry-run", is_flag=True, help="Show the plan of every step; ask nothing, make no file.")
@o.as_json
def run(
    profile: str, preset: str, env_file: Path | None, in_session: bool, dry_run: bool, as_json: bool, **given: Any
) -> None:
    """Fetch every step of PROFILE and load what they stage, meanwhile and afterwards.

    PROFILE is a [profile.NAME] of stagingest.toml: `stagingest config init` writes one to begin with. Kill it at any
    time and run the same command again.
    """
    from dataclasses import replace

    from stagingest.api import profile as api_profile

    if in_session and o.out_of_session("run", as_json=as_json):
        return
    plan = api_profile.profile(profile, defaults.read(), preset)
    staging, to = str(given["staging"] or plan.staging), given["to"] or plan.to
    plan = replace(plan, staging=staging, to=to, lock_timeout=given["lock_timeout"] or plan.lock_timeout)
    if dry_run:
        _show(plan, as_json=as_json)
        return
    ran = _run(plan, env_file, as_json=as_json)
    if as_json:
        output.document("run", **_document(ran))
    else:
        _words(ran, Path(plan.staging))
    sys.exit(ran.exit_code)


def _run(plan: "Profile", env_file: Path | None, *, as_json: bool) -> "Ran":
    from stagingest.api import profile as api_profile
    from stagingest.cli.fetch import listener as listening
    from stagingest.cli.load import warning
    from stagingest.cli.logs import hearing
    from stagingest.targets import TargetOptions

    how = TargetOptions(
        memory_limit=o.memory(None, None, plan.memory_limit),  # type: ignore[arg-type]
        lock_timeout_s=o.duration("lock_timeout", plan.lock_timeout),
    )
    listener = listening(silent=as_json)
    with closing(listener), hearing(output.log()):
        return api_profile.run(plan, how=how, environ=o.environment(env_file), listener=listener, load_listener=warning)


def _show(plan: "Profile", *, as_json: bool) -> None:
    from stagingest.api import profile as api_profile
    from stagingest.cli import plan as planned

    looks = api_profile.looked(plan)
    if as_json:
        output.document("run", profile=plan.name, to=plan.to, steps=[planned.document(look) for look in looks])
        return
    for look in looks:
        planned.words(look)
    output.out(f"then loaded into {plan.to}")


def _document(ran: "Ran") -> dict[str, Any]:
    from stagingest.cli.fetch import document

    steps = [
        {"dataset": dataset, "error": str(found), "exit_code": found.exit_code}
        if isinstance(found, StagingestError)
        else {"dataset": dataset, **document(found)}
        for dataset, found in ran.steps
    ]
    loaded = ran.loaded
    said = {"error": str(loaded)} if isinstance(loaded, StagingestError) else loaded and asdict(loaded)
    return {"steps": steps, "load": said, "exit_code": ran.exit_code}


def _words(ran: "Ran", staging: Path) -> None:
    from stagingest.cli.fetch import words

    for dataset, found in ran.steps:
        output.out(f"== {dataset}")
        if isinstance(found, StagingestError):
            output.say(f"Error: {found}", "error")
        else:
            words(found, staging, alone=False)
    if isinstance(ran.loaded, StagingestError):
        output.say(f"Error: {ran.loaded}", "error")
    elif ran.loaded:
        for skipped in ran.loaded.skipped:
            output.say(
                f"Left out {skipped.path}: {skipped.reason}. Its chunk is due again at the next fetch.", "warning"
            )
        output.out(f"== load into {ran.loaded.target}")
        output.out(
            f"entries   {ran.loaded.entries} taken in {ran.loaded.batches} transactions, {ran.loaded.files} files"
        )
        output.out(f"rows      {ran.loaded.rows:,} loaded, {ran.loaded.replaced:,} older ones replaced")
    if ran.exit_code not in (Exit.OK, Exit.INCOMPLETE):
        output.say(f"Run the same command again:\n  {output.same_command()}")

"""`stagingest doctor`: check keys, clock, disk, limits, locks and versions."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from stagingest.cli import options as o
from stagingest.cli import output


@click.command()
@o.staging
@click.option("--env-file", type=click.Path(path_type=Path, dir_okay=False), help="File of NAME=value lines with keys.")
@click.option("--offline", is_flag=True, help="Ask the provider nothing.")
@o.as_json
def doctor(staging: Path, env_file: Path | None, offline: bool, as_json: bool) -> None:
    """Check what a fetch stands on: keys, entitlements, clock, disk, limits, locks, versions.

    Asks each endpoint one small question. Exits 0 when nothing fails, 4 for keys, 5 for a host that cannot be reached.
    """
    from stagingest.api import doctor as office

    checks = []
    for check in office.examine(staging, o.environment(env_file), offline=offline):
        checks.append(check)
        if not as_json:
            output.out(f"{check.level:5} {check.what}: {check.said}")
    code = office.exit_code(checks)
    if as_json:
        output.document("doctor", checks=[asdict(check) for check in checks], exit_code=code)
    sys.exit(code)

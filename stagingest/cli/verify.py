"""`stagingest verify`: whether staged files, manifest and a target agree."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from stagingest.cli import options as o
from stagingest.cli import output
from stagingest.errors import Exit


@click.command()
@o.staging
@click.option("--to", "--db", metavar="TARGET", help="Look at this database or tree too.")
@click.option("--schema", default="main", show_default=True, help="Schema of its tables.")
@o.as_json
def verify(staging: Path, to: str | None, schema: str, as_json: bool) -> None:
    """Read every staged byte and every ledger entry, and name what does not agree and its cure; nothing is mended.

    Exits 0 when all agree, 3 when something does not.
    """
    from stagingest.api import verify as api_verify
    from stagingest.targets import TargetOptions

    found = api_verify.verify(staging, to, how=TargetOptions(schema=schema))
    code = Exit.INCOMPLETE if found.disagreements else Exit.OK
    if as_json:
        output.document("verify", **asdict(found), exit_code=code)
        sys.exit(code)
    for each in found.disagreements:
        output.out(f"{each.what}. Cure: {each.cure}.")
    output.out(f"read {found.files:,} files, {output.size(found.bytes)}, of {found.entries:,} entries")
    sys.exit(code)

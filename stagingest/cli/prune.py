"""`stagingest prune`: remove staged files that are loaded."""

from dataclasses import asdict
from pathlib import Path

import click

from stagingest.cli import options as o
from stagingest.cli import output


@click.command()
@click.option("--loaded-in", required=True, metavar="FILE", help="The database that answers for them from then on.")
@click.option("--schema", default="main", show_default=True, help="Schema of its tables.")
@o.staging
@o.as_json
def prune(loaded_in: str, schema: str, staging: Path, as_json: bool) -> None:
    """Remove the staged files that a database's ledger lists.

    From then on `fetch` counts them as known when it is given that database (--db); another database lacks them, and
    `load` prints the commands that ask for them again. Listings and adjusted series are kept.
    """
    from stagingest.api import prune as api_prune
    from stagingest.targets import TargetOptions

    done = api_prune.prune(staging, loaded_in=loaded_in, how=TargetOptions(schema=schema))
    if as_json:
        output.document("prune", **asdict(done))
        return
    output.out(f"removed {done.files:,} files, {output.size(done.bytes)}")
    if done.not_loaded:
        output.say(f"Kept {done.not_loaded} that are not in {loaded_in}: stagingest load --to {loaded_in}")
    if done.needed:
        output.say(f"Kept {done.needed} that later fetches need: listings and adjusted series.")

"""`stagingest repair`: rebuild a damaged manifest from the staged files."""

from dataclasses import asdict
from pathlib import Path

import click

from stagingest.cli import options as o


@click.command()
@o.staging
@o.as_json
def repair(staging: Path, as_json: bool) -> None:
    """Rebuild the manifest from the staged files when it is missing or damaged; check it when it is not.

    The old manifest is kept in quarantine/. The next `load` takes every file once more, which leaves equal tables, and
    the next `fetch` asks only what no file holds.
    """
    from stagingest import api

    done = api.repair(staging)
    if as_json:
        o.document("repair", **asdict(done))
        return
    if done.rebuilt:
        o.out(f"rebuilt: {done.files} files, {done.rows:,} rows. {done.why}")
    else:
        o.out(f"the manifest is sound: {done.files} files, {done.rows:,} rows")
    for path, why in done.set_aside.items():
        o.say(f"  {path}: {why}")
    for why in done.gone:
        o.say(f"  {why}; the next fetch asks for it again")

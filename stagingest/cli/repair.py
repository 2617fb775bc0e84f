"""`stagingest repair`: rebuild a damaged manifest from the staged files."""

from dataclasses import asdict
from pathlib import Path

import click

from stagingest.cli import options as o
from stagingest.cli import output


@click.command()
@o.staging
@click.option("--set-aside-wal", is_flag=True, help="Instead: rename the damaged write-ahead log of the database --to.")
@click.option("--to", "--db", type=click.Path(path_type=Path, dir_okay=False), default=Path("market.duckdb"))
@o.as_json
def repair(staging: Path, set_aside_wal: bool, to: Path, as_json: bool) -> None:
    """Rebuild the manifest from the staged files when it is missing or damaged; check it when it is not.

    The old manifest is kept in quarantine/. The next `load` takes every file once more, which leaves equal tables, and
    the next `fetch` asks only what no file holds.
    """
    from stagingest.api import repair as api_repair

    if set_aside_wal:
        kept = api_repair.set_aside_wal(to)
        if as_json:
            output.document("repair", set_aside=str(kept))
        else:
            output.out(f"set aside: {kept}. Next: stagingest load --to {to}")
        return
    done = api_repair.repair(staging)
    if as_json:
        output.document("repair", **asdict(done))
        return
    if done.rebuilt:
        output.out(f"rebuilt: {done.files} files, {done.rows:,} rows. {done.why}")
    else:
        output.out(f"the manifest is sound: {done.files} files, {done.rows:,} rows")
    for path, why in done.set_aside.items():
        output.say(f"  {path}: {why}")
    for why in done.gone:
        output.say(f"  {why}; the next fetch asks for it again")

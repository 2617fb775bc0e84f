"""`stagingest universe`: keep who belonged to an index when."""

import sys
from datetime import date
from pathlib import Path

import click

from stagingest.cli import options as o
from stagingest.cli import output
from stagingest.errors import Exit


@click.group()
def universe() -> None:
    """Keep named lists of symbols over time, so that an index can be rebuilt for any past day.

    They are staged in the staging directory and loaded as table universe_members; a fetch asks one with --index NAME.
    """


_as_of = click.option("--as-of", default="", metavar="DAY", help="Day the list is of, YYYY-MM-DD.  [default: today]")


@universe.command("import")
@click.argument("name")
@click.argument("file", metavar="FILE[:COLUMN]")
@_as_of
@o.staging
@o.as_json
def import_(name: str, file: str, as_of: str, staging: Path, as_json: bool) -> None:
    """Take the members of universe NAME from a file.

    A list of symbols is the whole of it on one day: who is missing has left, who is new has joined. A table with
    columns symbol, added and removed (empty: still a member) is its history, and replaces what was known.
    """
    from stagingest.api import universe as api_universe

    kept = api_universe.import_universe(name, file, as_of=as_of, staging=staging)
    if as_json:
        output.document("universe import", universe=name, members=kept.members, joined=kept.joined, left=kept.left)
        return
    output.out(f"{name}: {kept.members} members, {kept.joined} joined, {kept.left} left")
    for given, symbol in kept.changed:
        output.say(f"Renamed: {given} to {symbol}.")
    if kept.rejected:
        output.say(f"Rejected, not a symbol: {output.few(kept.rejected)}.")
        sys.exit(Exit.INCOMPLETE)


@universe.command("list")
@o.staging
@o.as_json
def list_(staging: Path, as_json: bool) -> None:
    """Name every universe, how many belong to it today, and when it last changed."""
    from stagingest.planning import universes

    rows = []
    for name in universes.names(staging):
        members = universes.members(staging, name)
        now = len(universes.as_of(members, date.today()))
        rows.append({"universe": name, "members": now, "changed": universes.known_to(members)})
    if as_json:
        output.document("universe list", universes=rows)
        return
    for row in rows:
        output.out(f"{row['universe']}  {row['members']} members, changed {row['changed']}")
    if not rows:
        output.out(f"there is no universe in {staging}")


@universe.command()
@click.argument("name")
@o.staging
@o.as_json
def show(name: str, staging: Path, as_json: bool) -> None:
    """Print who belonged to universe NAME from when to when."""
    from stagingest.planning import universes

    members = [each for each in universes.members(staging, name) if each.removed != each.added]
    if as_json:
        rows = [{"symbol": each.symbol, "added": each.added, "removed": each.removed} for each in members]
        output.document("universe show", universe=name, members=rows)
        return
    output.out("symbol,added,removed")
    for each in members:
        output.out(f"{each.symbol},{each.added},{each.removed or ''}")


@universe.command("as-of")
@click.argument("name")
@click.argument("day")
@o.staging
@o.as_json
def as_of(name: str, day: str, staging: Path, as_json: bool) -> None:
    """Print who belonged to universe NAME on DAY (YYYY-MM-DD), one symbol a line."""
    from stagingest.model import calendar
    from stagingest.planning import universes

    symbols = universes.as_of(universes.members(staging, name), calendar.day("DAY", day))
    if as_json:
        output.document("universe as-of", universe=name, day=day, symbols=symbols)
        return
    for symbol in symbols:
        output.out(symbol)

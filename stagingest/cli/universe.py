"""`stagingest universe`: keep who belonged to an index when."""

import sys
from datetime import date
from pathlib import Path

import click

from stagingest.cli import options as o


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
    from stagingest import keeping

    kept = keeping.import_universe(name, file, as_of=as_of, staging=staging)
    if as_json:
        o.document("universe import", universe=name, members=kept.members, joined=kept.joined, left=kept.left)
        return
    o.out(f"{name}: {kept.members} members, {kept.joined} joined, {kept.left} left")
    for given, symbol in kept.changed:
        o.say(f"Renamed: {given} to {symbol}.")
    if kept.rejected:
        o.say(f"Rejected, not a symbol: {o.few(kept.rejected)}.")
        sys.exit(3)


@universe.command("list")
@o.staging
@o.as_json
def list_(staging: Path, as_json: bool) -> None:
    """Name every universe, how many belong to it today, and when it last changed."""
    from stagingest import membership, universes

    rows = []
    for name in universes.names(staging):
        members = universes.members(staging, name)
        now = len(membership.as_of(members, date.today()))
        rows.append({"universe": name, "members": now, "changed": membership.known_to(members)})
    if as_json:
        o.document("universe list", universes=rows)
        return
    for row in rows:
        o.out(f"{row['universe']}  {row['members']} members, changed {row['changed']}")
    if not rows:
        o.out(f"there is no universe in {staging}")


@universe.command()
@click.argument("name")
@o.staging
@o.as_json
def show(name: str, staging: Path, as_json: bool) -> None:
    """Print who belonged to universe NAME from when to when."""
    from stagingest import universes

    members = [each for each in universes.members(staging, name) if each.removed != each.added]
    if as_json:
        rows = [{"symbol": each.symbol, "added": each.added, "removed": each.removed} for each in members]
        o.document("universe show", universe=name, members=rows)
        return
    o.out("symbol,added,removed")
    for each in members:
        o.out(f"{each.symbol},{each.added},{each.removed or ''}")


@universe.command("as-of")
@click.argument("name")
@click.argument("day")
@o.staging
@o.as_json
def as_of(name: str, day: str, staging: Path, as_json: bool) -> None:
    """Print who belonged to universe NAME on DAY (YYYY-MM-DD), one symbol a line."""
    from stagingest import days, membership, universes

    symbols = membership.as_of(universes.members(staging, name), days.day("DAY", day))
    if as_json:
        o.document("universe as-of", universe=name, day=day, symbols=symbols)
        return
    for symbol in symbols:
        o.out(symbol)

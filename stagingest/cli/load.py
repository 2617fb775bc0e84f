"""`stagingest load`: move what is staged into a database."""

import resource
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stagingest.cli import options as o
from stagingest.cli import output
from stagingest.errors import Exit

if TYPE_CHECKING:
    from stagingest.loading.summary import Loaded
    from stagingest.model.chunk import Chunk


@click.command()
@click.option(
    "--staging",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    default=(Path("staging"),),
    show_default="staging",
    help="Staging directory; may be given several times.",
)
@click.option(
    "--to",
    "--db",
    default="market.duckdb",
    show_default=True,
    metavar="TARGET",
    help="DuckDB FILE, parquet:FOLDER (a hive tree), postgresql://HOST/DB, or a configured NAME.",
)
@click.option(
    "--memory-limit",
    default="1GB",
    callback=o.memory,
    show_default=True,
    help="DuckDB's memory; up to 200 MiB more are used.",
)
@click.option(
    "--replace/--upsert",
    default=False,
    help="Remove rows that a later answer does not repeat, or keep them.  [default: keep]",
)
@click.option("--schema", default="main", show_default=True, help="Schema of the tables; made if absent.")
@click.option("--threads", type=click.IntRange(1), help="DuckDB's threads.  [default: cores]")
@click.option("--temp-dir", type=click.Path(path_type=Path, file_okay=False), help="Where DuckDB spills.")
@click.option("--fast", is_flag=True, help="Rows may lose the order of their files; a fifth cheaper.")
@click.option(
    "--storage-version", default="v1.5.0", show_default=True, help="Oldest DuckDB that can read a file made here."
)
@click.option("--adopt", is_flag=True, help="Load also into a database of other staging directories.")
@click.option("--follow", is_flag=True, help="Go on while a fetch is under way.")
@click.option("--lock-timeout", default="0", callback=o.seconds, help="Wait so long (30s, 5min) for a held database.")
@o.fail_if_empty
@o.as_json
def load(
    staging: tuple[Path, ...],
    to: str,
    lock_timeout: float,
    adopt: bool,
    follow: bool,
    fail_if_empty: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Load every staged entry that the database's ledger lacks, exactly once however often it is run.

    May run while `fetch` is still staging.
    """
    from stagingest.api import load as api_load
    from stagingest.targets import TargetOptions

    summary = api_load.load(
        staging,
        to,
        adopt=adopt,
        follow=follow,
        how=TargetOptions(lock_timeout_s=lock_timeout, **how),
        listener=warning if as_json else _line,
    )
    empty = fail_if_empty and not summary.entries
    code = Exit.INCOMPLETE if summary.skipped else Exit.NOTHING_TO_DO if empty else Exit.OK
    again = _asked_again_with(summary.pruned, staging[0])
    if as_json:
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s, peak_bytes = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
        said = {**asdict(summary), "pruned": again}
        output.document("load", **said, cpu_s=cpu_s, peak_memory_bytes=peak_bytes, exit_code=code)
        sys.exit(code)
    if again:
        output.say(
            f"{len(summary.pruned)} chunks were pruned when they were loaded elsewhere; {to} lacks them. Ask again:"
        )
    for command in again:
        output.say(f"  {command}")
    for skipped in summary.skipped:
        output.say(f"Left out {skipped.path}: {skipped.reason}. Its chunk is due again at the next fetch.", "warning")
    seconds = sum(summary.seconds.values())
    output.out(f"entries   {summary.entries} taken in {summary.batches} transactions, {summary.files} files")
    output.out(f"rows      {summary.rows:,} loaded, {summary.replaced:,} older ones replaced")
    for name, changes in summary.changes.items():
        told = f"{changes.added:,} added, {changes.changed:,} changed, {changes.vanished:,} vanished"
        output.out(f"asked again {name}: {told}")
    output.out(f"cost      {seconds:.1f} s, {to} is {output.size(summary.bytes_after)}")
    sys.exit(code)


def _asked_again_with(chunks: "tuple[Chunk, ...]", staging: Path) -> list[str]:
    from stagingest.api import retry

    words = retry.commands(chunks) if chunks else []
    return [shlex.join(["stagingest", *each, "--staging", str(staging)]) for each in words]


def warning(loaded: "Loaded") -> None:
    """Say what a load warns of."""
    if loaded.warning:
        output.say(f"Warning: {loaded.warning}")


def _line(loaded: "Loaded") -> None:
    warning(loaded)
    if sys.stderr.isatty() and loaded.batch:
        output.say(f"batch {loaded.batch}: {loaded.rows:,} of {loaded.rows_due:,} rows")

"""`stagingest retry`: make due again what was given up."""

import shlex
from pathlib import Path

import click

from stagingest.cli import options as o
from stagingest.cli import output


@click.command()
@click.argument("dataset", default="")
@click.option(
    "--outcome",
    multiple=True,
    help="refused, quarantined, failed, forbidden, conflict, capped or lost.  [default: all of them]",
)
@click.option("--symbols", "-s", multiple=True, help="Only chunks with one of these symbols, separated by commas.")
@click.option("--chunk", multiple=True, help="Only this chunk; `status --json` names them.")
@o.staging
@o.as_json
def retry(
    dataset: str,
    outcome: tuple[str, ...],
    symbols: tuple[str, ...],
    chunk: tuple[str, ...],
    staging: Path,
    as_json: bool,
) -> None:
    """Make due again what was asked and not had: nothing is asked now, the next fetch does.

    A symbol that the provider refused and a chunk that took its process down three times count as known until then.
    The others are due anyway at the next fetch that asks about them.
    """
    from stagingest.api import retry as api_retry

    done = api_retry.retry(staging, dataset, outcomes=outcome, symbols=o.listed(symbols), chunks=chunk)
    commands = [shlex.join(["stagingest", *words, "--staging", str(staging)]) for words in done.commands]
    if as_json:
        chunks = [
            {"chunk": each.chunk.id, "outcome": each.outcome, "symbols": each.chunk.symbols, "reason": each.reason}
            for each in done.chunks
        ]
        output.document("retry", outcomes=done.outcomes, symbols=done.symbols, chunks=chunks, commands=commands)
        return
    if not done.chunks:
        output.out("nothing to retry: nothing was given up")
        return
    counts = ", ".join(f"{number} {name}" for name, number in done.outcomes.items())
    output.out(f"due again: {len(done.chunks)} chunks ({counts}) of {output.few(list(done.symbols))}")
    output.say("Ask them with:")
    for command in commands:
        output.say(f"  {command}")

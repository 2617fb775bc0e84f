"""`stagingest fetch`: ask for what is missing and stage it."""

import shlex
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stagingest.cli import options as o
from stagingest.cli import output
from stagingest.errors import Exit
from stagingest.planning.fetch_options import of_plan

if TYPE_CHECKING:
    from stagingest.api.fetch import Fetched
    from stagingest.cli.progress import Bar, Lines
    from stagingest.fetching.summary import FetchSummary, Silent


@click.command(cls=o.FetchCommand)
@o.of_fetch(run=True)
def fetch(
    as_json: bool, dry_run: bool, in_session: bool, fail_if_empty: bool, env_file: Path | None, **options: Any
) -> None:
    """Fetch what is missing of DATASET into the staging directory.

    DATASET is stock-bars, option-contracts, option-bars or option-snapshots, or names its provider: alpaca/stock-bars.
    Keys come from APCA_API_KEY_ID and APCA_API_SECRET_KEY, or MASSIVE_API_KEY. What is covered is not asked again, but
    for option-snapshots: they are the chains as they are now. Run `stagingest load` afterwards, or meanwhile.
    """
    from stagingest.api import fetch as api_fetch
    from stagingest.cli import plan
    from stagingest.cli.logs import hearing

    if in_session and o.out_of_session("fetch", as_json=as_json):
        return
    if dry_run:
        plan.show(of_plan(o.asked(options)), as_json=as_json)
        return
    arguments = o.asked(options)
    listening = listener(silent=as_json and not arguments["log_rate_limits"])
    with closing(listening), hearing(output.log()):
        fetched = api_fetch.fetch(**arguments, environ=o.environment(env_file), listener=listening)
    if as_json:
        output.document("fetch", **document(fetched))
    else:
        words(fetched, arguments["staging"], capped=bool(arguments["max_rps"]))
    nothing = fail_if_empty and not fetched.summary.planned
    sys.exit(fetched.exit_code or (Exit.NOTHING_TO_DO if nothing else Exit.OK))


def listener(*, silent: bool) -> "Bar | Lines | Silent":
    """Who draws how a fetch goes."""
    from stagingest.fetching.summary import Silent

    if silent:
        return Silent()
    from stagingest.cli import progress

    return progress.listener(output.log())


def document(fetched: "Fetched") -> dict[str, Any]:
    """The fields of a fetch's JSON."""
    summary = fetched.summary
    return {
        **asdict(summary),
        "exit_code": fetched.exit_code,
        "success_percent": round(summary.success_percent, 2),
        "limited_percent": round(summary.limited_percent, 3),
        "symbols_per_s": round(summary.symbols_per_s, 2),
        "changed": fetched.question.names.changed,
        "rejected": fetched.question.names.rejected,
        "notes": fetched.question.notes,
        "continue": output.same_command() if summary.to_do or summary.ended_by else None,
    }


def words(fetched: "Fetched", staging: Path, *, capped: bool = False, alone: bool = True) -> None:
    """Print what a fetch did, and what comes next when it is `alone`."""
    summary, names = fetched.summary, fetched.question.names
    for note in fetched.question.notes:
        output.say(note)
    if names.changed:
        output.say(f"Renamed: {output.few([f'{given} to {kept}' for given, kept in names.changed])}.")
    if names.rejected:
        output.say(f"Rejected, not a symbol of the provider: {output.few(names.rejected, 50)}.", "warning")
    if not summary.planned:
        output.out(f"nothing to ask: all {summary.symbols} symbols are covered")
    else:
        _counts(summary)
    if summary.limited and capped:
        output.say(
            f"{summary.limited} requests were answered 429: --max-rps is above what the provider allows.", "warning"
        )
    if summary.unknown_fields:
        output.say(
            f"Not stored: fields {output.few(summary.unknown_fields)} of the provider's rows, which have no column."
        )
    _failures(summary, staging)
    if summary.stopped:
        output.say(f"Stopped: {summary.stopped}", "error")
    if summary.ended_by:
        output.say(f"Ended by {summary.ended_by}.")
    if summary.to_do or summary.ended_by:
        left = f"{summary.to_do} chunks are left. " if summary.to_do else ""
        output.say(f"{left}Continue with:\n  {output.same_command()}")
    elif summary.rows and alone:
        output.say(f"Next: stagingest load --staging {shlex.quote(str(staging))}")


def _failures(summary: "FetchSummary", staging: Path) -> None:
    for failure in summary.failures[:20]:
        output.say(f"  {failure.symbol}: {failure.outcome}, {failure.reason}", "warning")
    if len(summary.failures) > 20:
        output.say(f"  and {len(summary.failures) - 20} more; see `stagingest status --staging {staging}`", "warning")


def _counts(summary: "FetchSummary") -> None:
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in summary.outcomes.items()) or "none closed"
    left = f", {summary.left} left" if summary.left else ""
    output.out(f"chunks    {summary.planned} planned: {outcomes}{left}")
    output.out(f"rows      {summary.rows:,} staged, {output.size(summary.bytes)}")
    if summary.provisional:
        output.out(f"open time {summary.provisional} chunks hold prices that are not final; they will be asked again")
    covered = f", {summary.symbols_covered} of them covered before" if summary.symbols_covered else ""
    output.out(f"symbols   {summary.symbols} asked{covered}; success {summary.success_percent:.1f}%")
    if summary.refetched:
        output.out(f"refetched {output.few(list(summary.refetched))}: adjusted prices had moved")
    output.out(
        f"requests  {summary.requests} for {summary.pages} pages, {summary.limited_percent:.1f}% were 429, "
        f"{summary.symbols_per_s:.1f} symbols/s"
    )
    output.out(
        f"cost      {summary.elapsed_s:.1f} s, {summary.cpu_s:.1f} CPU s, "
        f"peak memory {output.size(summary.peak_memory_bytes)}"
    )

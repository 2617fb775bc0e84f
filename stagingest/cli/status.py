"""`stagingest status`: what a staging directory holds and is doing."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stagingest.cli import options as o
from stagingest.cli import output

if TYPE_CHECKING:
    from stagingest.api.status import Status


@click.command()
@o.staging
@o.as_json
def status(staging: Path, as_json: bool) -> None:
    """Show what is planned, staged, failed and loaded, what is in flight, and why something is stuck."""
    from stagingest.api import status as api_status

    found = api_status.status(staging)
    if as_json:
        output.document("status", **asdict(found))
        return
    _datasets(found)
    _now(found)
    _troubles(found)


_HEAD = ("endpoint", "planned", "open", "staged", "empty", "refused", "forbidden", "failed", "rows", "bytes", "loaded")


def _datasets(found: "Status") -> None:
    rows: list[tuple[str, ...]] = [_HEAD]
    for item in found.datasets:
        loaded = ", ".join(f"{number} in {Path(target).name}" for target, number in item.loaded.items()) or "-"
        counts = (item.planned, item.open, item.staged, item.empty, item.refused, item.forbidden, item.failed)
        rows.append((item.endpoint, *map(str, counts), f"{item.rows:,}", output.size(item.bytes), loaded))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        output.out("  ".join(cells))


def _last(run: str, ended: str | None) -> str:
    how = f"ended {ended[:16].replace('T', ' ')} UTC" if ended else "never ended: run the same fetch again"
    return f"the last one, {run}, {how}"


def _now(found: "Status") -> None:
    from stagingest.cli.progress import duration

    run: dict[str, Any] | None = found.running
    if run is None:
        last = found.last_run
        output.out(f"no fetch is running; {_last(last[0], last[2])}" if last else "no fetch was ever run")
        if last and last[3]:
            output.out(f"  it stopped: {last[3]}")
    else:
        output.out(
            f"fetch {run['run']} (process {run['pid']}) is running: {run['done']}/{run['planned']} chunks, "
            f"{run['failed']} failed, {run['rows']:,} rows, {run['requests']} requests, {run['limited']} of them 429, "
            f"{duration(run['elapsed_s'])}; it last wrote {duration(found.run_age_s or 0)} ago"
        )
        for flight in run["in_flight"][:10]:
            output.out(
                f"  in flight {flight['first_symbol']} and {flight['symbols'] - 1} more, {flight['window']}: "
                f"{flight['pages']} pages, {duration(flight['age_s'])} old, silent {duration(flight['silent_s'])}"
            )
        for endpoint, reason in run["stopped"].items():
            output.out(f"  stopped {endpoint}: {reason}")
    if found.loading:
        output.out("a load is running")
    output.out(f"{output.size(found.free_bytes)} free on its disk")


def _troubles(found: "Status") -> None:
    for endpoint, outcome, symbols, reason, _ in found.problems:
        output.out(f"  {endpoint} {outcome}: {output.few(symbols.split(','), 5)}: {reason}")
    for seq, reason in found.complaints:
        output.out(f"  entry {seq} could not be loaded: {reason}; the next fetch asks for it again")

"""`stagingest plan`: what a fetch would ask."""

from typing import TYPE_CHECKING, Any

import click

from stagingest.cli import options as o
from stagingest.cli import output

if TYPE_CHECKING:
    from stagingest.api.fetch import PlanReport
    from stagingest.planning.survey import Plan


@click.command(cls=o.FetchCommand)
@o.of_fetch(run=False)
def plan(as_json: bool, **options: Any) -> None:
    """Show what `fetch DATASET` with the same options would ask: nothing is asked, no file is made."""
    show(o.asked(options), as_json=as_json)


def show(asked: dict[str, Any], *, as_json: bool) -> None:
    """Plan and print; also `fetch --dry-run`."""
    from stagingest.api import fetch

    report, max_rps = fetch.plan(**asked), asked["max_rps"]
    own = max_rps.get("") or max_rps.get(report.question.endpoint.name)
    if as_json:
        output.document("plan", **document(report, own))
    else:
        words(report, own)


def _minutes(requests: int, budget: str, max_rps: float | None) -> float:
    from stagingest.providers import catalog

    return requests / (max_rps or catalog.hosts()[budget].lowest_plan_per_s) / 60


def document(report: "PlanReport", max_rps: float | None = None) -> dict[str, Any]:
    """The fields of a plan's JSON."""
    names = report.question.names
    found = {
        "endpoint": report.question.endpoint.name,
        "symbols": report.plan.symbols,
        "symbols_covered": report.plan.covered,
        "changed": names.changed,
        "rejected": names.rejected,
        "notes": report.question.notes,
        "disk_free_bytes": report.free_bytes,
        "budgets": _budgets(report.plan, max_rps),
    }
    if report.discovery is not None:
        found["discovery"] = _budgets(report.discovery, max_rps)
    return found


def _budgets(plan: "Plan", max_rps: float | None) -> dict[str, Any]:
    return {
        budget: {
            "chunks": cost.chunks,
            "requests": cost.requests,
            "rows": cost.rows,
            "bytes": cost.bytes,
            "minutes": round(_minutes(cost.requests, budget, max_rps), 2),
        }
        for budget, cost in plan.estimates.items()
    }


def words(report: "PlanReport", max_rps: float | None = None) -> None:
    """Print a plan."""
    names = report.question.names
    output.out(f"plan of {report.question.endpoint.name}")
    if report.discovery is not None:
        output.out(f"  {report.question.notes[-1]} Discovery comes first, then bars can be planned:")
        _costs(report.discovery, max_rps)
        return
    for job in report.question.jobs[:3]:
        days = f"{min(a.window.start for a in job.asked)} to before {max(a.window.end for a in job.asked)}"
        output.out(f"  series    {job.series}, {days}" if job.asked else f"  series    {job.series}, nothing")
    if len(report.question.jobs) > 3:
        output.out(f"            and {len(report.question.jobs) - 3} more series")
    output.out(f"  symbols   {report.plan.symbols} asked, {report.plan.covered} covered already")
    _costs(report.plan, max_rps)
    output.out(f"  disk      {output.size(report.free_bytes)} free at the staging directory")
    for note in report.question.notes:
        output.out(f"  note      {note}")
    if names.changed:
        output.out(f"  renamed   {output.few([f'{given} to {kept}' for given, kept in names.changed])}")
    if names.rejected:
        output.out(f"  rejected  {output.few(names.rejected)}")


def _costs(plan: "Plan", max_rps: float | None) -> None:
    if not plan.all_chunks:
        output.out("  nothing   is missing: fetch would ask no request")
        return
    resumed = f" ({len(plan.resumed)} left open by an earlier run)" if plan.resumed else ""
    for budget, cost in plan.estimates.items():
        rate = "at --max-rps" if max_rps else "at the provider's lowest plan"
        minutes = _minutes(cost.requests, budget, max_rps)
        output.out(f"  chunks    {cost.chunks}{resumed}")
        output.out(f"  requests  about {cost.requests} on {budget}, {minutes:.1f} minutes {rate}")
        output.out(f"  rows      about {cost.rows:,}, {output.size(cost.bytes)} staged")

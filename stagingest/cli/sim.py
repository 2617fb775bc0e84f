"""`stagingest sim`: an imitation of the providers on loopback."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from stagingest.cli import output, signals

_MOMENTS = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8700, show_default=True, help="0 takes a free one.")
@click.option("--symbols", type=click.IntRange(1, 20000), default=500, show_default=True, help="Generated stocks.")
@click.option("--replay", type=click.Path(path_type=Path, exists=True), multiple=True, help="Parquet file or folder.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other generated prices.")
@click.option("--now", type=_MOMENTS, help="Time (UTC) it stands still at.  [default: the real time]")
@click.option("--rate-per-min", type=click.IntRange(1), default=10_000, show_default=True, help="Requests allowed.")
@click.option(
    "--rate-mode",
    type=click.Choice(["bucket", "window"]),
    default="bucket",
    show_default=True,
    help="They come back steadily, or all at the minute.",
)
@click.option("--rate-headers/--no-rate-headers", default=True, help="Answers name the limit.  [default: they do]")
@click.option("--retry-after", is_flag=True, help="A refusal says how long to wait.")
@click.option("--latency-ms", type=click.FloatRange(0), default=0, show_default=True, help="Pause before each answer.")
@click.option("--page-cap", type=click.IntRange(0, 10_000), default=0, help="Most rows a page, whatever was asked.")
def sim(
    port: int,
    symbols: int,
    replay: tuple[Path, ...],
    seed: int,
    now: datetime | None,
    rate_per_min: int,
    rate_mode: str,
    rate_headers: bool,
    retry_after: bool,
    latency_ms: float,
    page_cap: int,
) -> None:
    """Imitate Alpaca and Massive on 127.0.0.1: generated prices, or real ones replayed from Parquet files.

    Prints the variables that lead the other commands to it, then answers until Ctrl-C. Any key is accepted.
    """
    from stagingest.sim import policy as sim_policy
    from stagingest.sim import server as sim_server
    from stagingest.sim.imitation import GROUP, Imitation
    from stagingest.sim.market import market as market_market
    from stagingest.system.plugs import plugged

    market = market_market.market_from(symbols, replay=replay, seed=seed)
    policy = sim_policy.Policy(
        rate_per_min=rate_per_min, rate_mode=rate_mode, rate_headers=rate_headers, retry_after=retry_after,
        latency_s=latency_ms / 1000, page_cap=page_cap,
    )  # fmt: skip
    still = now.replace(tzinfo=UTC) if now else None
    others = tuple(found for _, found in plugged(GROUP, Imitation, "imitation"))
    server = sim_server.Server(market, policy, port=port, clock=lambda: still or datetime.now(UTC), imitations=others)
    variables = [each.variables for each in (*sim_server.OURS, *others)]
    prices = "replayed" if replay else "generated"
    for name in market.skipped:
        output.say(f"Not replayed, its columns are of no known shape: {name}")
    more = "".join(f", {each.name}" for each in others)
    output.out(f"# imitation of Alpaca and Massive{more}; its prices are {prices}")
    for name in dict.fromkeys(name for urls, _ in variables for name in urls):
        output.out(f"export {name}={server.url}")
    for name in dict.fromkeys(name for _, keys in variables for name in keys):
        output.out(f"export {name}=any")
    output.out()
    sys.stdout.flush()
    try:
        server.serve_forever()
    except (KeyboardInterrupt, signals.Terminated):
        output.say("The imitation ends.")

"""Options that several commands share, and the words they print."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stagingest.cli.output import document, log, out
from stagingest.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

staging = click.option(
    "--staging",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("staging"),
    show_default=True,
    help="Staging directory; fetch makes it.",
)
db = click.option(
    "--db",
    type=click.Path(path_type=Path, dir_okay=False),
    help="DuckDB file whose option contracts are known too.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")

max_rps = click.option(
    "--max-rps",
    metavar="[ENDPOINT=]N",
    multiple=True,
    callback=lambda *given: rates(*given),
    help="Most requests a second, of this endpoint or of ENDPOINT; may be given several times.",
)

lanes = click.option(
    "--lanes",
    metavar="[ENDPOINT=]N",
    multiple=True,
    callback=lambda *given: numbers(*given),
    help="Requests in flight per process, 1 to 64, here or of ENDPOINT.  [default: as rate and latency need]",
)
fail_if_empty = click.option("--fail-if-empty", is_flag=True, help="Exit with 7 when there was nothing to do.")

_QUESTION = (
    click.argument("dataset"),
    click.option(
        "--symbols", "-s", multiple=True, help="Symbols, separated by commas; option contracts as OCC symbols."
    ),
    click.option(
        "--symbols-file", metavar="FILE[:COLUMN]", multiple=True, help="A CSV column, JSON, or one symbol a line."
    ),
    click.option("--watchlist", metavar="NAME", multiple=True, help="A list of the watchlists file."),
    click.option(
        "--watchlists-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="JSON, {name: [symbols]}.  [default: ./watchlists.json, ./data/watchlists.json]",
    ),
    click.option("--index", metavar="NAME", multiple=True, help="All who belonged to this universe on some day asked."),
    click.option(
        "--underlyings",
        multiple=True,
        help="Stocks whose contracts are listed, whose contracts' bars are fetched, or whose chains are captured.",
    ),
    click.option("--provider", help="Provider when DATASET does not name it.  [default: alpaca]"),
    click.option(
        "--timeframe",
        "-t",
        default="1Day",
        show_default=True,
        help="1Min to 59Min, 1Hour to 23Hour, 1Day, 1Week, 1Month.",
    ),
    click.option("--start", default="max", show_default=True, help="First day, YYYY-MM-DD; max: provider's first."),
    click.option("--end", default="", help="Last day, inclusive.  [default: the last day whose prices are final]"),
    click.option(
        "--feed",
        default="",
        help="sip, iex, otc, boats or delayed_sip; of chains indicative or opra.  [default: sip; indicative]",
    ),
    click.option("--adjustment", default="raw", show_default=True, help="raw, split, dividend, spin-off or all."),
    click.option("--currency", default="USD", show_default=True, help="ISO 4217 code of the prices."),
    click.option("--asof", default="", help="Day whose symbol names are meant, YYYY-MM-DD; - for no mapping."),
    click.option("--expiry-gte", default="", help="Earliest expiry of contracts; listed by whole years."),
    click.option("--expiry-lte", default="", help="Latest expiry of contracts; listed by whole years."),
    click.option("--strike-gte", default="", help="Lowest strike of contracts, in dollars."),
    click.option("--strike-lte", default="", help="Highest strike of contracts, in dollars."),
    click.option("--type", "option_type", default="", help="Contracts of one type: call or put."),
    click.option("--moneyness", default="", metavar="LOW..HIGH", help="Strikes of contracts over the latest close."),
    click.option(
        "--lookback-years",
        type=click.IntRange(1, 50),
        default=10,
        show_default=True,
        help="Bars of contracts from so long before expiry.",
    ),
    click.option("--top-up", is_flag=True, help="From where what is known ends to now; without names, all of it."),
    click.option("--overlap", default="", metavar="DAYS", help="With --top-up: the last days known again, 3d."),
    *(
        click.option(f"--max-{name}", type=click.IntRange(1), help=f"Ask about so many {name}{more} at most.")
        for name, more in (("underlyings", ""), ("expiries", " of each underlying, the next ones,"), ("contracts", ""))
    ),
    staging,
    db,
    click.option(
        "--contracts-from",
        type=click.Path(path_type=Path, file_okay=False),
        help="Another staging directory whose contracts are known too; without names, all its underlyings are asked.",
    ),
    click.option("--resume/--no-resume", default=True, help="Ask what is missing, or everything anew."),
    as_json,
)


def question(command: F) -> F:
    """The options that say what is asked."""
    for option in reversed(_QUESTION):
        command = option(command)
    return command


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `stagingest.plan` and `stagingest.fetch` in the options of a command."""
    from stagingest.planning import symbols

    names = listed(options.pop("symbols"))
    for file in options.pop("symbols_file"):
        names += symbols.from_file(file)
    options["symbols"] = names
    for name in ("watchlist", "index"):
        options[name] = listed(options.pop(name))
    options["underlyings"] = listed(options.pop("underlyings"))
    return options


def listed(texts: tuple[str, ...]) -> list[str]:
    """The names in texts that separate them by commas."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def out_of_session(command: str, *, as_json: bool) -> bool:
    """Whether the exchange is closed now; says so, and when it opens."""
    from stagingest.model import calendar
    from stagingest.system import platform

    now = platform.utc_now()
    if calendar.is_open(now):
        return False
    opens = calendar.next_open(now)
    there = f"{calendar.new_york(opens):%a %Y-%m-%d %H:%M}"
    if as_json:
        document(command, out_of_session=True, next_open=opens.isoformat(), exit_code=0)
    else:
        out(f"nothing to ask: New York is closed; its next session opens {there} ({opens:%H:%M} UTC)")
    return True


def environment(env_file: Path | None) -> dict[str, str]:
    """The environment with the lines of --env-file added."""
    from stagingest.api import config
    from stagingest.providers import hosts

    found = config.with_env_file(os.environ, env_file)
    log().hide(found, hosts.key_variables())
    return found


def positive(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse zero and less."""
    if value is not None and not 0 < value < float("inf"):
        raise UsageError(
            f"--{(parameter.name or '').replace('_', '-')} must be a number greater than 0, not {value:g}."
        )
    return value


def rates(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """The values of --max-rps: endpoint -> requests a second, '' standing for the command's own endpoint."""
    found: dict[str, float] = {}
    for text in values:
        name, _, number = text.rpartition("=")
        try:
            rate = float(number)
        except ValueError:
            rate = 0.0
        if not 0 < rate < float("inf") or (not name and "=" in text):
            raise UsageError(
                f"--max-rps must be a number greater than 0, not {text!r}.", "Write 3.3 or alpaca/option-bars=3.3."
            )
        found[name] = rate
    return found


def numbers(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, int] | None:
    """The values of --lanes: endpoint -> requests in flight, '' standing for the command's own endpoint."""
    found: dict[str, int] = {}
    for text in values:
        name, _, number = text.rpartition("=")
        if not number.isdecimal() or not 1 <= int(number) <= 64 or (not name and "=" in text):
            raise UsageError(
                f"--lanes must be a number from 1 to 64, not {text!r}.", "Write 8 or alpaca/option-bars=8."
            )
        found[name] = int(number)
    return found or None


def memory(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse what is no size."""
    if not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", value):
        raise UsageError(f"--memory-limit {value!r} is no size.", "Write 500MB or 2GB.")
    return value


_UNITS_S = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


def seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """The seconds in 90, 90s, 5min or 2h."""
    return duration(parameter.opts[0], value)


def duration(name: str, value: str) -> float:
    """The seconds in 90, 90s, 5min or 2h. Raises UsageError naming what it is the value of."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", value)
    if not found or found[2] not in _UNITS_S:
        raise UsageError(f"{name} {value!r} is no time.", "Write 30s, 5min or 2h.")
    return float(found[1]) * _UNITS_S[found[2]]

"""Options that several commands share, and the words they print."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stagingest.cli import defaults
from stagingest.cli.output import document, log, out
from stagingest.errors import UsageError
from stagingest.planning.fetch_options import BY_NAME, EXAMPLES, OPTIONS, Kind, Option, Topic, dataset_of, takes

F = TypeVar("F", bound=Callable[..., Any])
_DATASET = "stagingest.dataset"
_STANDING = (click.core.ParameterSource.DEFAULT_MAP, click.core.ParameterSource.ENVIRONMENT)


def _declared(option: Option) -> Callable[[F], F]:
    """A declared option as click has it."""
    help_ = f"{option.help}  [default: {option.shown}]" if option.shown else option.help
    flags = option.flags or (option.typed,)
    how = {"help": help_, "default": option.default, **_of_kind(option), **_EAGER.get(option.name, {})}
    return click.option(*flags, option.name, metavar=option.metavar or _METAVARS.get(option.kind), **how)


def _of_kind(option: Option) -> dict[str, Any]:
    if option.kind in (Kind.FILE, Kind.FOLDER):
        folder = option.kind is Kind.FOLDER
        path = click.Path(path_type=Path, file_okay=not folder, dir_okay=folder)
        return {"type": path, "default": Path(option.default) if option.default else None}
    if option.kind is Kind.COUNT:
        return {"type": click.IntRange(*option.bounds)}
    if option.kind is Kind.MINUTES:
        return {"type": float, "callback": positive}
    if option.kind is Kind.FLAG:
        return {} if option.pair else {"is_flag": True}
    if option.kind is Kind.TEXT:
        return {}
    callback = {Kind.RATES: lambda *given: rates(*given), Kind.LANES: lambda *given: numbers(*given)}.get(option.kind)
    return {"multiple": True, "default": (), "callback": callback}


_METAVARS = {Kind.NAMES: "A,B", Kind.COUNT: "N", Kind.MINUTES: "N"}
_EAGER = {
    "env_file": {"is_eager": True, "callback": defaults.read_env_file},
    "preset": {"is_eager": True, "callback": defaults.lay_preset, "expose_value": False},
}

staging = _declared(BY_NAME["staging"])
as_json = _declared(BY_NAME["as_json"])
env_file = _declared(BY_NAME["env_file"])
fail_if_empty = _declared(BY_NAME["fail_if_empty"])


def of_fetch(*, run: bool) -> Callable[[F], F]:
    """The argument DATASET and the options of a fetch; those that only a run of it has where it is one."""

    def decorated(command: F) -> F:
        for option in reversed(OPTIONS):
            if run or not option.run:
                command = _declared(option)(command)
        return click.argument("dataset")(command)

    return decorated


class FetchCommand(click.Command):
    """A command with the options of a fetch: its help has groups, and is of one dataset where it names one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find the dataset before anything else is read, for `--help` is obeyed first."""
        try:
            named = self.make_parser(ctx).parse_args(list(args))[0].get("dataset")
        except click.UsageError:
            named = None
        ctx.meta[_DATASET] = named if isinstance(named, str) else ""
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Under the heads of their groups; of a dataset, what it takes."""
        named, params = ctx.meta[_DATASET], {each.name: each for each in self.get_params(ctx)}
        dataset = dataset_of(named)
        for topic in Topic:
            rows = []
            for option in OPTIONS:
                record = params[option.name].get_help_record(ctx) if option.name in params else None
                if option.topic is topic and record and not _idle(named, option.name):
                    rows.append((record[0], option.here.get(dataset, record[1])))
            help_option = self.get_help_option(ctx)
            if topic is Topic.OUTPUT and help_option and (record := help_option.get_help_record(ctx)):
                rows.append(record)
            if rows:
                with formatter.section(topic):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, of the dataset where one is named."""
        dataset = dataset_of(ctx.meta[_DATASET])
        with formatter.section("For example"):
            for example in [EXAMPLES[dataset]] if dataset in EXAMPLES else EXAMPLES.values():
                formatter.write(f"{' ' * formatter.current_indent}{ctx.command_path} {example}\n")
        if dataset not in EXAMPLES:
            formatter.write_paragraph()
            formatter.write_text(f"`{ctx.command_path} DATASET --help` shows what one dataset takes.")


def _idle(named: str, name: str) -> bool:
    """Whether an option has nothing to say about the dataset or endpoint named."""
    return not takes(dataset_of(named), name) or (name == "provider" and "/" in named)


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `stagingest.plan` and `stagingest.fetch` in the options of a command.

    What the configuration, a preset or the environment sets is for every dataset that takes it; what was typed is kept,
    so that it is refused where it is not for the dataset.
    """
    context, named = click.get_current_context(), options["dataset"]
    for name in list(options):
        if _idle(named, name) and context.get_parameter_source(name) in _STANDING:
            del options[name]
    for name, option in BY_NAME.items():
        if option.kind is Kind.NAMES and name in options:
            options[name] = listed(options[name])
    if files := options.pop("symbols_file", ()):
        from stagingest.planning import symbols

        for file in files:
            options["symbols"] = [*options["symbols"], *symbols.from_file(file)]
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

"""Options that the configuration or a preset sets: they are the defaults of commands, below flags and environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stagingest.errors import UsageError

if TYPE_CHECKING:
    from stagingest.api.config import Config, Source


def read() -> "Config":
    """The configuration of this folder and of the user."""
    from stagingest.api import config as api_config
    from stagingest.system import paths

    return api_config.read(Path(paths.folders(os.environ).config))


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Every name an option may have in the configuration, with underscores."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {
        text.lstrip("-").replace("-", "_"): option
        for option in options
        for text in option.opts
        if text.startswith("--")
    }


def defaults(config: "Config", name: str, command: click.Command) -> dict[str, Any]:
    """What click takes as the defaults of a command: `[NAME]` over `[defaults]`.

    Raises UsageError for an option the command does not have, or a value it cannot have, naming the file.
    """
    if isinstance(command, click.Group):
        subs = {sub: command.get_command(click.Context(command), sub) for sub in command.list_commands(None)}  # type: ignore[arg-type]
        return {sub: defaults(config, name, each) for sub, each in subs.items() if each}
    known = options_of(command)
    found: dict[str, Any] = {}
    for table in ("defaults", name):
        for option, source in config.options.get(table, {}).items():
            if option not in known:
                if table == "defaults":
                    continue
                from stagingest.api.config import check_names

                check_names(f"{source.file}: [{table}]", [option], known)
            found[known[option].name or option] = _fitting(known[option], source, f"[{table}] {option}")
    return found


def _fitting(option: click.Option, source: "Source", where: str) -> Any:
    """The value as click takes it. Raises UsageError where it does not fit."""
    value = source.value
    if option.multiple and not isinstance(value, list):
        value = [value]
    try:
        option.type_cast_value(click.Context(click.Command("")), value)
    except click.BadParameter as error:
        raise UsageError(f"{source.file}: {where} = {source.value!r}: {error.message}", "Correct it.") from None
    except (TypeError, ValueError):
        raise UsageError(f"{source.file}: {where} = {source.value!r} is of another kind.", "Correct it.") from None
    return [str(each) for each in value] if option.multiple else value


def lay_under(context: click.Context) -> None:
    """Make the configuration the defaults of the command that is about to run."""
    name = context.invoked_subcommand
    if name is None or not isinstance(context.command, click.Group):
        return
    command = context.command.get_command(context, name)
    config = read()
    if command is None or not config.files:
        return
    context.default_map = {name: {**_endpoints(config, command), **defaults(config, name, command)}}


def _endpoints(config: "Config", command: click.Command) -> dict[str, Any]:
    """Rates and lanes of `[endpoint.NAME]` as the options of a command that has them."""
    if "max_rps" not in options_of(command) or not config.named.get("endpoint"):
        return {}
    from stagingest.api import config as api_config

    found = api_config.flat({name: source.value for name, source in config.named["endpoint"].items()})
    return {name: value for name, value in found.items() if name in options_of(command)}


def lay_preset(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Lay a preset under the options of the command. Raises UsageError for one that there is not, or that cannot be."""
    if value:
        from stagingest.api import config as api_config

        known = options_of(context.command)
        given = api_config.preset(value, read())
        from stagingest.api.config import check_names

        check_names(f"Preset {value}", given, known)
        context.default_map = {
            **(context.default_map or {}),
            **{known[name].name or name: v for name, v in given.items()},
        }
    return value


def read_env_file(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Options in the file count as if they were in the environment: it is read before they are."""
    if value is not None and not context.resilient_parsing:
        from stagingest.api import config as api_config

        for name, text in api_config.with_env_file({}, value).items():
            if name.startswith("STAGINGEST_"):
                os.environ[name] = text
    return value


def origins(context: click.Context, config: "Config", name: str, command: click.Command) -> list[dict[str, Any]]:
    """Every option of a command with its value and where that is from."""
    under = {**_endpoints(config, command), **defaults(config, name, command)}
    sub = command.make_context(name, [], parent=context, default_map=under, resilient_parsing=True)
    files: Mapping[str, Source] = {**config.options.get("defaults", {}), **config.options.get(name, {})}
    found = []
    for text, option in {option.name: (text, option) for text, option in options_of(command).items()}.values():
        value = sub.params.get(option.name or "")
        source = sub.get_parameter_source(option.name or "")
        where = "default"
        if source is click.core.ParameterSource.ENVIRONMENT:
            where = f"STAGINGEST_{name.upper()}_{(option.name or '').upper()}"
        elif source is click.core.ParameterSource.DEFAULT_MAP:
            where = str(files[text].file) if text in files else "[endpoint] tables"
        found.append({"option": text.replace("_", "-"), "value": value, "from": where})
    return found

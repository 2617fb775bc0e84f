"""Presets: how hard a provider is asked, by endpoint; the user's own stand beside these."""

from collections.abc import Mapping
from typing import Any

from stagingest import catalog, settings
from stagingest.config import Config, check_names
from stagingest.errors import UsageError

NAMES = ("conservative", "balanced", "aggressive")
_OF_ENDPOINTS = ("max_rps", "lanes")


def preset(name: str, config: Config) -> dict[str, Any]:
    """The options that a preset sets, as in the configuration of `fetch`.

    `conservative` stays at half of what every plan may ask (WIRE section 1.2), with one process and few requests in
    flight: for a key that others use too. `balanced` follows what the provider's headers grant, as without a preset.
    `aggressive` fills every core and keeps as many requests in flight as ever helped (FETCH section 3); the rate still
    follows the provider. `[preset.NAME]` of the configuration is another, or hides one of these; tables in it are
    named like endpoints: `[preset.NAME."alpaca/option-bars"]`.

    Raises UsageError naming the nearest when there is none of that name.
    """
    own = config.named.get("preset", {})
    if name in own:
        return flat(own[name].value)
    if name not in NAMES:
        raise UsageError(f"There is no preset {name!r}.", _nearest(name, [*NAMES, *own]))
    if name == "conservative":
        rates = [
            f"{endpoint.name}={settings.BUDGETS[endpoint.budget].lowest_plan_per_s / 2:.4g}"
            for endpoint in catalog.ENDPOINTS.values()
        ]
        return {"max_rps": rates, "lanes": [str(settings.FEWEST_LANES)], "processes": 1}
    if name == "aggressive":
        processes = settings.cores()
        return {"processes": processes, "lanes": [str(-(-settings.MOST_LANES // processes))]}
    return {}


def flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table with tables of endpoints in it as plain options: `[ENDPOINT=]N` of each rate and number of lanes."""
    found = {name.replace("-", "_"): value for name, value in table.items() if not isinstance(value, dict)}
    for name in _OF_ENDPOINTS:
        if name in found:
            given = found[name] if isinstance(found[name], list) else [found[name]]
            found[name] = [str(value) for value in given]
            for value in found[name]:
                _check(name, value.rpartition("=")[2])
    for endpoint, values in table.items():
        if isinstance(values, dict):
            catalog.asked(endpoint)
            for name, value in values.items():
                check_names(f"[endpoint.{endpoint!r}]", [name], _OF_ENDPOINTS)
                _check(name, str(value))
                found[name] = [*found.get(name, []), f"{endpoint}={value}"]
    return found


def _check(name: str, text: str) -> None:
    """Raise UsageError for a rate or a number of lanes that cannot be one."""
    try:
        number = float(text) if name == "max_rps" else int(text)
    except ValueError:
        number = 0
    if not 0 < number <= (settings.MOST_LANES if name == "lanes" else 1e9):
        most = f"from 1 to {settings.MOST_LANES}" if name == "lanes" else "greater than 0"
        raise UsageError(f"{name} must be a number {most}, not {text!r}.")


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    return f"The nearest is {get_close_matches(name, known, 1, 0.0)[0]}; there are {', '.join(known)}."

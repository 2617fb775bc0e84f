"""Every endpoint by name."""

import difflib

from stagingest.errors import UsageError
from stagingest.model import Endpoint
from stagingest.providers import alpaca

DEFAULT_PROVIDER = "alpaca"

ENDPOINTS: dict[str, Endpoint] = {
    endpoint.name: endpoint for endpoint in (alpaca.StockBars(), alpaca.OptionBars(), alpaca.OptionContracts())
}


def endpoint(name: str) -> Endpoint:
    """The endpoint of that name, `alpaca/stock-bars`. Raises UsageError with the nearest one."""
    try:
        return ENDPOINTS[name]
    except KeyError:
        near = difflib.get_close_matches(name, ENDPOINTS, 1, 0.0)[0]
        known = ", ".join(ENDPOINTS)
        raise UsageError(f"There is no endpoint {name!r}.", f"Did you mean {near}? Known: {known}.") from None


def resolve(name: str, provider: str | None = None) -> Endpoint:
    """The endpoint of a dataset at a provider, or of a full name.

    Raises UsageError when both name a provider and differ, or there is none such.
    """
    if "/" not in name:
        return endpoint(f"{provider or DEFAULT_PROVIDER}/{name}")
    if provider and name.partition("/")[0] != provider:
        raise UsageError(f"{name} and --provider {provider} name different providers.", "Leave --provider out.")
    return endpoint(name)

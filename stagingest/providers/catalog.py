"""Every endpoint by name, and the endpoint a provider has for a dataset."""

from difflib import get_close_matches

from stagingest.errors import UsageError
from stagingest.providers.alpaca import endpoints
from stagingest.providers.endpoint import Endpoint
from stagingest.providers.massive import endpoints as massive_endpoints
from stagingest.providers.user import UniverseMembers

DEFAULT_PROVIDER = "alpaca"
_EVERY: tuple[Endpoint, ...] = (
    endpoints.AlpacaStockBars(),
    endpoints.AlpacaOptionBars(),
    endpoints.AlpacaOptionContracts(),
    endpoints.AlpacaOptionSnapshots(),
    massive_endpoints.MassiveStockBars(),
    massive_endpoints.MassiveOptionBars(),
    massive_endpoints.MassiveOptionContracts(),
    massive_endpoints.MassiveOptionSnapshots(),
)
ENDPOINTS = {each.name: each for each in _EVERY}
_KEPT: dict[str, Endpoint] = {UniverseMembers.name: UniverseMembers()}


def endpoint(name: str) -> Endpoint:
    """The endpoint that entries of that name belong to. Raises UsageError naming the nearest one."""
    return _KEPT.get(name) or asked(name)


def asked(name: str) -> Endpoint:
    """The endpoint of that name that can be asked. Raises UsageError naming the nearest one."""
    found = ENDPOINTS.get(name)
    if found is None:
        near = get_close_matches(name, ENDPOINTS, n=1, cutoff=0.0)[0]
        raise UsageError(f"There is no endpoint {name!r}.", f"The nearest is {near}; there are {', '.join(ENDPOINTS)}.")
    return found


def shortest(name: str) -> str:
    """What a user may call an endpoint: its dataset alone when its provider is the default."""
    return name.removeprefix(f"{DEFAULT_PROVIDER}/")


def resolve(text: str, provider: str | None = None) -> Endpoint:
    """The endpoint meant by a dataset (`stock-bars`) or an endpoint (`alpaca/stock-bars`).

    Args:
        text: a dataset's or an endpoint's name; an endpoint's says its own provider.
        provider: whose endpoint of a dataset; the default is `alpaca`.

    Raises UsageError naming the nearest valid value.
    """
    if "/" in text:
        return asked(text)
    whose = provider or DEFAULT_PROVIDER
    providers = sorted({each.provider for each in _EVERY})
    if whose not in providers:
        near = get_close_matches(whose, providers, n=1, cutoff=0.0)[0]
        raise UsageError(f"There is no provider {whose!r}.", f"The nearest is {near}.")
    datasets = [each.dataset for each in _EVERY if each.provider == whose]
    if text not in datasets:
        near = get_close_matches(text, datasets, n=1, cutoff=0.0)[0]
        raise UsageError(f"There is no dataset {text!r}.", f"The nearest is {near}; there are {', '.join(datasets)}.")
    return endpoint(f"{whose}/{text}")

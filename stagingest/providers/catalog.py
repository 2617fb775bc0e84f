"""Every provider, every endpoint by name, and the endpoint a provider has for a dataset."""

from functools import cache

from stagingest.errors import UsageError, choices, nearest
from stagingest.providers.alpaca import endpoints as alpaca_endpoints
from stagingest.providers.endpoint import Endpoint, Host, Provider
from stagingest.providers.massive import endpoints as massive_endpoints
from stagingest.providers.user import UniverseMembers
from stagingest.system.plugs import plugged

DEFAULT_PROVIDER = alpaca_endpoints.PROVIDER.name
GROUP = "stagingest.providers"
"""Entry points under which other distributions announce their providers."""
_OURS = (alpaca_endpoints.PROVIDER, massive_endpoints.PROVIDER)
_KEPT: dict[str, Endpoint] = {UniverseMembers.name: UniverseMembers()}


@cache
def providers() -> dict[str, Provider]:
    """Every provider by name: the package's own, then those of installed distributions.

    Raises UsageError naming an entry point that is no provider, or one that takes the name of another.
    """
    found = {each.name: each for each in _OURS}
    for where, each in plugged(GROUP, Provider, "provider"):
        if each.name in found:
            raise UsageError(
                f"The entry point {where} is a second provider {each.name}.", "Uninstall one of the packages."
            )
        found[each.name] = each
    return found


@cache
def endpoints() -> dict[str, Endpoint]:
    """Every endpoint that can be asked, by name."""
    return {each.name: each for provider in providers().values() for each in provider.endpoints}


@cache
def hosts() -> dict[str, Host]:
    """Every host that meters requests, by the name of its budget."""
    return {each.name: each for provider in providers().values() for each in provider.hosts}


def endpoint(name: str) -> Endpoint:
    """The endpoint that entries of that name belong to. Raises UsageError naming the nearest one."""
    return _KEPT.get(name) or asked(name)


def asked(name: str) -> Endpoint:
    """The endpoint of that name that can be asked. Raises UsageError naming the nearest one."""
    known = endpoints()
    found = known.get(name)
    if found is None:
        raise UsageError(f"There is no endpoint {name!r}.", choices(name, known))
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
    known = providers()
    if whose not in known:
        raise UsageError(f"There is no provider {whose!r}.", f"The nearest is {nearest(whose, sorted(known))}.")
    datasets = [each.dataset for each in known[whose].endpoints]
    if text not in datasets:
        raise UsageError(f"There is no dataset {text!r}.", choices(text, datasets))
    return endpoint(f"{whose}/{text}")

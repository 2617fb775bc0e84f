"""What bounds a question or a run, as the user gave it, checked."""

from collections.abc import Mapping

from stagingest import catalog
from stagingest.errors import UsageError
from stagingest.model import Kind
from stagingest.planning import Few
from stagingest.wanting import Question


def rates(max_rps: float | Mapping[str, float] | None, question: Question) -> dict[str, float]:
    """Endpoint -> most requests a second; a bare number and the name '' mean the question's own endpoint.

    Raises UsageError for an unknown endpoint or a rate that is none.
    """
    if max_rps is None:
        return {}
    given = max_rps if isinstance(max_rps, Mapping) else {"": max_rps}
    caps = {catalog.endpoint(name or question.endpoint.name).name: rate for name, rate in given.items()}
    for name, rate in caps.items():
        if not 0 < rate < float("inf"):
            raise UsageError(f"max_rps of {name} must be a number greater than 0, not {rate:g}.")
    return caps


def lanes(given: int | Mapping[str, int] | None, question: Question) -> int | None:
    """Requests in flight per process for the question's endpoint; a bare number and the name '' mean just that.

    Raises UsageError for an unknown endpoint.
    """
    if given is None or isinstance(given, int):
        return given
    named = {catalog.asked(name).name if name else "": number for name, number in given.items()}
    return named.get(question.endpoint.name, named.get(""))


def few(question: Question, underlyings: int | None, expiries: int | None, contracts: int | None) -> Few:
    """Of how much is asked. Raises UsageError where a bound has no meaning."""
    bound = Few(underlyings, expiries, contracts)
    endpoint = question.endpoint
    if bound and endpoint.dataset == "stock-bars":
        raise UsageError(f"{bound} is not for {endpoint.name}.", "Bound the run with --max-chunks or --max-requests.")
    if endpoint.kind is not Kind.HISTORY and (expiries, contracts) != (None, None):
        raise UsageError(f"{bound} is not for {endpoint.name}.", "Bound it with --expiry-gte and --expiry-lte.")
    return bound

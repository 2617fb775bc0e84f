"""What of a provider is imitated: whose paths, which key, what an answer and a refusal look like.

A provider of another distribution brings an `Imitation` along; `stagingest sim` finds it by its entry point:

    [project.entry-points."stagingest.imitations"]
    acme = "acme.imitation:IMITATION"
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from stagingest.sim.market.market import Market
from stagingest.sim.policy import Policy
from stagingest.sim.questions import Query, Refusal

JSON = "application/json; charset=UTF-8"
GROUP = "stagingest.imitations"
"""Entry points under which other distributions announce theirs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response.

    Args:
        status: of HTTP.
        body: identity encoded.
        rows: data rows in it.
        lasting: how long the same request gets the same answer: for the `day`, the `minute`, or not (`never`).
        content_type: of the body.
    """

    status: int
    body: bytes
    rows: int = 0
    lasting: str = "day"
    content_type: str = JSON


Headers = Mapping[str, str]
"""Of a request, names in small letters."""
Answering = Callable[[Market, Policy, str, Query, datetime], Answer | None]
"""(market, policy, path, query, now) -> the answer to who has a good key, None for a path that is not there."""


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.status, orjson.dumps({"message": refusal.message}))


@dataclass(frozen=True, slots=True)
class Imitation:
    """A host of a provider.

    Args:
        name: of its rate budget; unique.
        paths: what its paths begin with.
        key: (headers, path and query) -> the key id and the secret, '' where none is sent; one key is both.
        answer: what a request gets. Raises Refusal.
        variables: base URL and keys of the environment that lead the tool to it.
        refused: a Refusal as the provider writes it.
        forbidden: why a key is not taken. limited: why 429. unknown: the body of 404.
        tells_rate: whether answers carry rate headers.
        key_status: the answer to a wrong key, None as the policy says.
    """

    name: str
    paths: tuple[str, ...]
    key: Callable[[Headers, str], tuple[str, str]]
    answer: Answering
    variables: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    refused: Callable[[Refusal], Answer] = _refused
    forbidden: str = "forbidden."
    limited: str = "too many requests."
    unknown: bytes = b"Not Found"
    tells_rate: bool = True
    key_status: int | None = None

    def admits(self, policy: Policy, key: str, secret: str) -> bool:
        """Whether a key is taken: any pair, or one of the policy's; a bearer token is a secret that stands for both."""
        if policy.keys is None:
            return bool(key and secret)
        return (key, secret) in policy.keys or (key == secret and any(secret == known for _, known in policy.keys))


def split_target(target: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Path and decoded query of a request target."""
    parts = urlsplit(target)
    return unquote(parts.path), tuple(parse_qsl(parts.query, keep_blank_values=True))


def imitation_of(path: str, imitations: tuple[Imitation, ...]) -> Imitation:
    """Whose a path is: the one with the longest beginning of it."""

    def length(each: Imitation) -> int:
        return max((len(start) for start in each.paths if path.startswith(start)), default=-1)

    return max(imitations, key=length)


def answer(market: Market, policy: Policy, target: str, now: datetime, imitations: tuple[Imitation, ...]) -> Answer:
    """The answer to `GET target` at the aware instant `now`, to a client with a good key."""
    if len(target) > policy.most_target_bytes:
        return Answer(414, b"Request-URI Too Large", content_type="text/plain")
    path, pairs = split_target(target)
    imitation = imitation_of(path, imitations)
    try:
        found = imitation.answer(market, policy, path, dict(pairs), now)
    except Refusal as refusal:
        return imitation.refused(refusal)
    return found or Answer(404, imitation.unknown, content_type="text/plain")

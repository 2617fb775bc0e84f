"""Answers that should be pages and are none: what they mean, and the beginnings of some, kept without keys."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import orjson

from stagingest.errors import PageError
from stagingest.fetching.messages import Route
from stagingest.http import classify
from stagingest.model import secrets as model_secrets
from stagingest.model.secrets import redacted
from stagingest.model.task import Task
from stagingest.staging import parts

# A whole run of wrong answers looks like its first ones.
BODIES_KEPT = 3
KEPT_BYTES = 64 << 10
_BEGINNING = 80
_NAMES, _NAME_CHARACTERS = 20, 40


class BadAnswers:
    """The answers of one process that were no page."""

    def __init__(self, root: Path, routes: Mapping[str, Route]) -> None:
        self._root = root
        self._secrets = {name: [value for _, value in route.headers] for name, route in routes.items()}
        self._kept = 0
        self._lock = threading.Lock()

    def decision(
        self, error: PageError, read: Callable[[bytes], object], task: Task, budget: str, body: bytes, attempt: int
    ) -> classify.Decision:
        """What such an answer means.

        Args:
            error: why `body` is no page.
            read: what refused it.
            task: what it was to answer.
            budget: says which keys it may repeat.
            body: the whole body of an answer of status 200.
            attempt: as in `verdict.classify`.

        Raises OSError when its beginning cannot be written.
        """
        clean = redacted(body, self._secrets[budget])
        text = error.message if clean == body else _reason(read, clean)
        if _is_no_json(body):
            beginning = model_secrets.plain(clean[: 4 * _BEGINNING].decode(errors="replace").strip(), _BEGINNING)
            text = f"the answer is not JSON but begins {beginning!r}" if beginning else "the answer is empty"
        decision = classify.malformed(text, attempt, len(task.chunk.symbols))
        if _is_no_json(body):
            # Asking for less helps a page that broke; what no provider wrote, a proxy will write for any question.
            decision = replace(classify.malformed(text, attempt, 1), tries=2, not_json=True)
        kept = self._keep(task, clean)
        return replace(decision, reason=f"{decision.reason} (kept in {kept})") if kept else decision

    def shown(self, names: Iterable[str], budget: str) -> set[str]:
        """Names out of an answer as they may be shown: a few, short, printable and no key."""
        secrets = self._secrets[budget]
        clean = (redacted(name.encode(), secrets).decode() for name in sorted(names)[:_NAMES])
        return {model_secrets.plain(name, _NAME_CHARACTERS) for name in clean}

    def _keep(self, task: Task, body: bytes) -> str:
        """Write the beginning of a body, unless enough are kept; its path relative to the root, '' when it is not."""
        with self._lock:
            if self._kept >= BODIES_KEPT:
                return ""
            self._kept += 1
            return parts.keep_body(self._root, f"{task.part}-{self._kept}", body[:KEPT_BYTES])


def _reason(read: Callable[[bytes], object], clean: bytes) -> str:
    """Why the body without keys is refused: the first reason may quote half a key."""
    try:
        read(clean)
    except PageError as error:
        return error.message
    return "The answer repeats a key."


def _is_no_json(body: bytes) -> bool:
    """Whether the body is not even the beginning of JSON."""
    if body.lstrip()[:1] in (b"{", b"["):
        return False
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return True
    return False

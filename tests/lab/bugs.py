"""Bugs of ours, planted into a process by its `sitecustomize`; each raises with what it was trusted with."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never


def sitecustomize(bug: Callable[[], None]) -> str:
    """The text of a module that plants it in whatever process imports it."""
    return f"import sys\nsys.path.append({str(Path(__file__).parent)!r})\nimport bugs\nbugs.{bug.__name__}()\n"


def in_the_transport_of_a_worker() -> None:
    from stagingest.http import client

    def send(self: object, origin: object, request: object, headers: Any) -> Never:
        raise RuntimeError(f"{request} {dict(headers)!r} {headers}")

    client.Client.send = send  # type: ignore[method-assign]


def in_a_reader_of_pages() -> None:
    from stagingest.providers.alpaca import endpoints

    def read(self: object, chunk: object, request: object, body: object) -> Never:
        raise KeyError(dict(os.environ))

    endpoints._Bars.read = read  # type: ignore[method-assign]


def in_the_supervisor() -> None:
    from stagingest.fetching import summary

    def asked(self: object, result: object) -> Never:
        raise ValueError(f"{dict(os.environ)}")

    summary.RunCounts.asked = asked  # type: ignore[method-assign]


def while_planning() -> None:
    from stagingest.planning import due as planning_due

    def due(*_: object) -> Never:
        raise TypeError(os.environ["APCA_API_SECRET_KEY"])

    planning_due.due = due


ALL = (in_the_transport_of_a_worker, in_a_reader_of_pages, in_the_supervisor, while_planning)

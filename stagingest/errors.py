"""The tree of what can go wrong: one sentence, the next step, an exit code.

    StagingestError            1   something failed
    ├── UsageError             2   the command or its input is wrong
    ├── CredentialsError       4   a key or an entitlement is missing
    ├── ProviderError          5   the provider is down or limits us past the deadline; run again
    ├── HeldError             75   someone else holds the staging directory or the database
    ├── StagingError           1   the staging directory or its manifest cannot be used
    ├── TargetError            1   the database cannot be used
    │   ├── TooLargeError          what it was to do at once does not fit its memory
    │   ├── FullError              its disk is full
    │   └── SpoiledError           it has given itself up and must be opened again
    └── PageError              -   a page is not what the provider promises (never leaves a worker)

Exceptions here are picklable: they carry positional text only.
"""

import difflib
from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Every exit code of the command, the one that says most first: of several, `worst` takes the earliest."""

    INTERRUPTED = 130
    TERMINATED = 143
    HELD = 75
    FAILED = 1
    CREDENTIALS = 4
    PROVIDER = 5
    INCOMPLETE = 3
    NOTHING_TO_DO = 7
    OK = 0
    USAGE = 2  # never of a run that began; among others it weighs as FAILED
    BROKEN_PIPE = 141  # the reader of stdout went away; never one of several


def worst(codes: Iterable[int]) -> int:
    """Of the exit codes of several steps the one that says most, of equals the first; `Exit.OK` without any."""
    ranked = list(Exit)[: list(Exit).index(Exit.OK) + 1]
    return min(codes, key=lambda code: ranked.index(Exit(code) if code in ranked else Exit.FAILED), default=Exit.OK)


def location_of(error: BaseException) -> str:
    """Kind and place of an unforeseen exception, for a report; not its words, which may hold anything."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("stagingest"):
            place = f" in {module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"


class StagingestError(Exception):
    """A failure the user is told about in one sentence.

    Args:
        message: the cause, one sentence, no secret in it.
        next_step: what to run or change next; may be empty.
    """

    exit_code: int = Exit.FAILED

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message, next_step)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()


class UsageError(StagingestError):
    """The command line, a symbols file or a setting is wrong."""

    exit_code = Exit.USAGE


class CredentialsError(StagingestError):
    """A key is missing, refused, or not entitled."""

    exit_code = Exit.CREDENTIALS


class ProviderError(StagingestError):
    """The provider cannot be reached or keeps limiting us; the same command may be run again."""

    exit_code = Exit.PROVIDER


class HeldError(StagingestError):
    """Another process holds the staging directory or the database."""

    exit_code = Exit.HELD


class StagingError(StagingestError):
    """The staging directory or its manifest cannot be used."""


class TargetError(StagingestError):
    """The target cannot be opened or does not have the expected shape."""


class TooLargeError(TargetError):
    """The target has too little memory, or room to spill, for what it was to do at once."""


class FullError(TargetError):
    """The disk of the target is full; what it had taken stays."""


class SpoiledError(TargetError):
    """The open target has declared itself invalid; opened again, it is as after its last transaction."""


class PageError(StagingestError):
    """A response body is not a page: not JSON, not the expected keys, or not what was asked."""


def nearest(name: str, known: Iterable[str], likeness: float = 0.0) -> str:
    """The name among those known that is most like it; '' when none is as like as asked (0 any, 1 equal)."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, likeness)), "")


def choices(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known: the nearest, and what there is, in the order given."""
    every = list(known)
    return f"The nearest is {nearest(name, every)}; there are {', '.join(every)}." if every else "There is none yet."

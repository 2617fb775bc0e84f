"""What the workers of test_pool run: a light module, so that a new worker is up at once."""

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

notes: list[Callable[[object], None]] = []
setups: list[object] = []


def no_setup(note: Callable[[object], None], argument: object) -> None:
    notes[:] = [note]


def counting_setup(note: Callable[[object], None], argument: object) -> None:
    notes[:] = [note]
    setups.append(argument)
    note(("set up", argument))


def failing_setup(note: Callable[[object], None], argument: object) -> None:
    raise ValueError(f"no room for {argument}")


def dying_setup(note: Callable[[object], None], argument: object) -> None:
    os._exit(7)


def count_setups() -> list[object]:
    return list(setups)


def double(number: int) -> int:
    return 2 * number


def worker_pid() -> int:
    return os.getpid()


def say(value: object) -> None:
    notes[0](value)


def wait_for(fifo: Path, value: object) -> object:
    """Notes that it runs, and takes one byte from `fifo`."""
    notes[0](value)
    with fifo.open("rb", buffering=0) as file:
        file.read(1)
    return value


def signal_self(number: int) -> None:
    os.kill(os.getpid(), number)


def say_and_hold_the_interpreter() -> None:
    notes[0](os.getpid())
    ctypes.PyDLL(None).sleep(1000)


def say_and_stop() -> None:
    notes[0](os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)  # the signal may stop another thread first


class KeywordOnlyError(Exception):
    def __init__(self, *, status: int) -> None:
        super().__init__(f"status {status}")


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    def __reduce__(self) -> str:
        raise RuntimeError


def raise_keyword_only() -> None:
    raise KeywordOnlyError(status=418)


def raise_silent() -> None:
    raise SilentError


def raise_value_error() -> None:
    raise ValueError("seven")


def leave() -> None:
    sys.exit(3)


def unpicklable() -> object:
    return lambda: None


class _Unreadable:
    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("not a number",)


def unreadable() -> object:
    return _Unreadable()


def echo(data: bytes) -> bytes:
    return data


def burn(cpu_s: float) -> None:
    begin = time.process_time()
    while time.process_time() - begin < cpu_s:
        pass


def surroundings() -> dict[str, object]:
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "umask": umask,
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "interrupt": signal.getsignal(signal.SIGINT),
        "terminate": signal.getsignal(signal.SIGTERM),
        "modules": sorted(sys.modules),
    }


def without_memory() -> None:
    raise MemoryError

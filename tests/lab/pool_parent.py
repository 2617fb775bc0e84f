"""Parents of pools, in processes of their own: `python pool_parent.py FUNCTION`."""

import os
import resource
import signal
import sys

import click  # noqa: F401 - what a parent has imported and no worker may
import pool_tasks

from stagingest.fetching.pool.handle import PoolBroken
from stagingest.fetching.pool.process_pool import ProcessPool
from stagingest.fetching.pool.start import warm


def printing_what_a_worker_imported() -> None:
    with ProcessPool(1, 1, setup=pool_tasks.no_setup, setup_arg=0, preload=["hashlib"], on_note=print) as pool:
        print(*pool.submit(pool_tasks.surroundings).result()["modules"])


def waiting_with_three_kinds_of_workers() -> None:
    """One holds the interpreter, one is stopped, one is idle."""

    def tell(slot: int, value: object) -> None:
        print(value, *pool.pids(), flush=True)

    pool = ProcessPool(3, 1, setup=pool_tasks.no_setup, setup_arg=0, preload=[], on_note=tell)
    pool.submit(pool_tasks.say_and_hold_the_interpreter)
    pool.submit(pool_tasks.say_and_stop)
    pool.submit(pool_tasks.say, "idle")
    signal.pause()


def counting_interrupts() -> None:
    """Says when it warms and when it works, at each waits for an interrupt, then whether its worker is the same.

    The handler writes to a pipe and prints nothing: a print may be interrupted by the handler's own.
    """
    read, write = os.pipe()
    signal.signal(signal.SIGINT, lambda *_: os.write(write, b"!"))

    def interrupted(moment: str) -> None:
        print(moment, flush=True)
        assert os.read(read, 1) == b"!"
        print("interrupted", flush=True)

    warm(["hashlib"])
    interrupted("warming")
    with ProcessPool(1, 1, setup=pool_tasks.no_setup, setup_arg=0, preload=[], on_note=print) as pool:
        before = pool.submit(pool_tasks.worker_pid).result()
        interrupted("working")
        print(pool.submit(pool_tasks.worker_pid).result() == before)


def short_of_files() -> None:
    """Prints why a pool broke that may open four more files."""
    warm([])
    most = len(os.listdir("/proc/self/fd")) + 4
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    pool = ProcessPool(1, 1, setup=pool_tasks.no_setup, setup_arg=0, preload=[], on_note=print)
    try:
        pool.submit(pool_tasks.double, 1).result()
    except PoolBroken as broken:  # by submit or by the future, whichever comes first
        print(broken)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
elif __name__ == "__mp_main__":  # as multiprocessing would import it
    raise RuntimeError("a worker ran the parent's main module")

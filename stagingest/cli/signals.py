"""How a command is stopped: the first Ctrl-C or SIGTERM ends it in order, the second at once."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from stagingest.errors import Exit


class Terminated(BaseException):
    """SIGTERM, so that the same clean-up runs as for Ctrl-C."""


class Stopping:
    """The signals of one command.

    Args:
        last_words: what a stopped command says, given the word for what happened.
    """

    def __init__(self, last_words: Callable[[str], str]) -> None:
        self._last_words = last_words
        self._number = 0
        self._said = False

    def arm(self) -> None:
        """From now on the signals come here; an ignored Ctrl-C (a shell's background job) stays ignored."""
        signal.signal(signal.SIGTERM, self._stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._number:
            # As if killed: locks go with the process, workers too, and the next run sweeps.
            os._exit(self.farewell())
        self._number = number
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def farewell(self) -> int:
        """Say the last words, once; the exit code."""
        number = self._number or signal.SIGINT
        if not self._said:
            self._said = True
            word = "Terminated" if number == signal.SIGTERM else "Interrupted"
            with suppress(OSError):  # not through Python's own buffer: the second signal may find it in use
                os.write(2, f"{self._last_words(word)}\n".encode())
        return Exit.TERMINATED if number == signal.SIGTERM else Exit.INTERRUPTED

    def over(self, code: int) -> int:
        """The command has ended with this code; a signal cannot change it any more."""
        # An ending interpreter gives its own handlers back to the system, and that would kill it; not these.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        return code

"""What the limiter did, second by second: a line in `log/` for later pictures, a sentence for who watches."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from stagingest.limiter import Gate
from stagingest.model import to_json
from stagingest.pace import Pace

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Rates:
    """The records of the budgets that a run asks.

    Args:
        path: `log/<run>.rates.jsonl`; a line is {at, budget, granted_per_s, answered, refused}, the counts being
            those of all processes of the machine since the line before.
        gates: budget -> its record.
        say: told the same in words; None for nobody.
    """

    def __init__(self, path: Path, gates: Mapping[str, Gate], say: Callable[[str], None] | None) -> None:
        self._path, self._gates, self._say = path, gates, say
        self._last = {budget: gate.state() for budget, gate in gates.items()}
        self._writes = True

    def note(self, now: datetime) -> None:
        """Look at every record; what has not changed is not told."""
        for budget, gate in self._gates.items():
            pace, before = gate.state(), self._last[budget]
            answered, refused = pace.answered - before.answered, pace.refused - before.refused
            if not (answered or refused) and pace.granted_per_s == before.granted_per_s:
                continue
            self._last[budget] = pace
            granted_per_s = round(pace.granted_per_s, 3)
            line = {"at": now.isoformat(timespec="milliseconds"), "budget": budget, "granted_per_s": granted_per_s}
            self._write(to_json({**line, "answered": answered, "refused": refused}))
            if self._say:
                self._say(_words(budget, pace, answered, refused))

    def _write(self, line: str) -> None:
        if not self._writes:
            return
        try:
            with open(os.open(self._path, _FLAGS, 0o600), "a") as file:
                file.write(f"{line}\n")
        except OSError:
            self._writes = False  # a full disk ends the run where it matters, at the chunks


def _words(budget: str, pace: Pace, answered: int, refused: int) -> str:
    told = f", the headers allow {pace.told_per_s * 60:.0f} a minute" if pace.told_per_s else ""
    pause = f", pausing {pace.pause_s:.1f} s at a time" if pace.pause_s else ""
    return f"{budget}: {pace.granted_per_s:.2f}/s granted, {answered} answered, {refused} refused{told}{pause}"

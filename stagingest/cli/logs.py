"""What a command says on stderr: as text, as JSON, or with journald's priorities; no secret gets past the formatter."""

import json
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

from stagingest.errors import location_of
from stagingest.model.secrets import clean, secrets
from stagingest.system.platform import utc_now

# As syslog counts them; journald takes them from the beginning of a line (sd-daemon(3)).
PRIORITIES = {"error": 3, "warning": 4, "info": 6}


@dataclass(slots=True)
class Log:
    """The messages of one command.

    Args:
        form: one of `output.FORMS`.
        clock: the time, UTC.
    """

    form: str = "text"
    clock: Callable[[], datetime] = utc_now
    _secrets: set[str] = field(default_factory=set)

    def hide(self, environ: Mapping[str, str], variables: Collection[str] = ()) -> None:
        """From now on no message shows a secret of this environment, nor the value of one of these variables."""
        self._secrets |= secrets(environ, variables)

    def shown(self, text: str, level: str = "info", **fields: object) -> str:
        """A message as it is written, without the newline; `fields` are for machines, only JSON has them."""
        safe = clean(text, self._secrets)
        if self.form == "json":
            return json.dumps({"at": self.clock().isoformat(), "level": level, "message": safe, **fields}, default=str)
        if self.form == "journald":
            return "\n".join(f"<{PRIORITIES[level]}>{line}" for line in safe.splitlines() or [""])
        return safe

    def write(self, text: str, level: str = "info", **fields: object) -> None:
        """Say it on stderr; what cannot be written (a full disk under a log) costs nothing."""
        with suppress(OSError):
            sys.stderr.write(f"{self.shown(text, level, **fields)}\n")
            sys.stderr.flush()


class _Heard(logging.Handler):
    """What Python's own logging hears, an exception as its kind and place."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record."""
        error = record.exc_info[1] if record.exc_info else None
        why = f" {location_of(error)}." if error else ""
        self._log.write(f"{record.getMessage()}{why}", "error" if record.levelno >= logging.ERROR else "warning")


@contextmanager
def hearing(log: Log) -> Iterator[None]:
    """Meanwhile a Log says what Python's own logging hears."""
    handler = _Heard(log)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)

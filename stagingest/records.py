"""Where the permit records of this machine live, and what they are called without naming a credential."""

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stagingest import system
from stagingest.errors import StagingestError

_SALT_BYTES = 32


def record_path(state_dir: Path, provider: str, origin: str, credential: str, budget: str) -> Path:
    """The record of a budget: `<state dir>/limits/<digest>.permit`.

    The digest is keyed with a random salt of this machine, so that the credential cannot be recovered from it.
    Creates the directory (0700) and the salt (0600). Raises StagingestError when that is not possible.
    """
    folder = state_dir / "limits"
    with explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        salt = _salt(folder / "salt")
    text = "\0".join((provider, origin, credential, budget))
    return folder / f"{hmac.new(salt, text.encode(), hashlib.sha256).hexdigest()[:32]}.permit"


def _salt(path: Path) -> bytes:
    fd = opened(path)
    try:
        system.lock(fd)  # the first to come writes it; one cut short by a kill is written anew
        salt = os.pread(fd, _SALT_BYTES, 0)
        if len(salt) < _SALT_BYTES:
            salt = os.urandom(_SALT_BYTES)
            os.pwrite(fd, salt, 0)
        return salt
    finally:
        os.close(fd)


def opened(path: Path) -> int:
    """A descriptor of the file, made (0600) if absent."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an OSError into one sentence about `path`."""
    try:
        yield
    except OSError as error:
        raise StagingestError(
            f"The rate record {path} cannot be used: {error.strerror}.",
            "Make its directory writable, or point XDG_STATE_HOME to one that is.",
        ) from error

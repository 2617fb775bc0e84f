"""The command line under an audit hook; what it did to the world is written to file descriptor 3 as JSON."""

import json
import os
import sys
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NAMES = (
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown",
    "os.truncate", "os.utime", "os.mknod", "os.mkfifo", "os.setxattr", "os.fork", "os.forkpty", "os.exec",
    "os.posix_spawn", "os.system", "subprocess.Popen",
)  # fmt: skip
FAMILIES = ("socket.", "fcntl.", "shutil.", "tempfile.")
seen: list[list[str]] = []


def hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        path, mode, flags = args
        writes = flags & WRITES if isinstance(flags, int) and flags else set(mode or "") & set("wax+")
        if writes and path != os.devnull:
            seen.append([event, str(path)])
    elif event in NAMES or event.startswith(FAMILIES):
        seen.append([event, repr(args)])


if __name__ == "__main__":
    # What was imported already would not be compiled again; nothing may be written for that either.
    sys.dont_write_bytecode = True
    sys.addaudithook(hook)
    from stagingest.cli import main

    sys.argv[0] = "stagingest"
    try:
        main()
    finally:
        said = json.dumps(seen)
        with os.fdopen(3, "w") as out:
            out.write(said)

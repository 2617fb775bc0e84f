"""Where a platform keeps settings and state of a user; pure."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of this tool: of settings, which the user writes, and of state, which it writes itself."""

    config: PurePath
    state: PurePath


def places(platform: str, environ: Mapping[str, str], home: str) -> Places:
    """The folders on a platform.

    Args:
        platform: as in sys.platform: `win32`, `darwin`, else the XDG base directories are followed.
        environ: the environment; relative XDG paths are ignored, as their specification says.
        home: the user's home.
    """
    if platform == "win32":
        windows = PureWindowsPath(home)
        roaming = environ.get("APPDATA") or str(windows / "AppData" / "Roaming")
        local = environ.get("LOCALAPPDATA") or str(windows / "AppData" / "Local")
        return Places(PureWindowsPath(roaming) / "stagingest", PureWindowsPath(local) / "stagingest")
    posix = PurePosixPath(home)
    if platform == "darwin":
        support = posix / "Library" / "Application Support" / "stagingest"
        config, state = support, support / "state"
    else:
        config, state = posix / ".config" / "stagingest", posix / ".local" / "state" / "stagingest"
    return Places(_xdg(environ, "XDG_CONFIG_HOME") or config, _xdg(environ, "XDG_STATE_HOME") or state)


def _xdg(environ: Mapping[str, str], name: str) -> PurePosixPath | None:
    base = PurePosixPath(environ.get(name) or ".")
    return base / "stagingest" if base.is_absolute() else None


def folders(environ: Mapping[str, str]) -> Places:
    """Folders of settings and of state on this machine."""
    return places(sys.platform, environ, environ.get("HOME") or str(Path.home()))


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where this machine's permit records live."""
    return Path(folders(environ).state)

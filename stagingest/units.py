"""The text of systemd units: contracts listed daily, chains captured every ten minutes of New York's session; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# A run ends by itself, with what it has, before systemd would end it.
CLEAN_END_MIN, BACKSTOP_MIN = 28, 30
DAILY = ("*-*-* 02:00:00 America/New_York",)
IN_SESSION = ("Mon..Fri *-*-* 09:30..59/10:00 America/New_York", "Mon..Fri *-*-* 10..15:00/10:00 America/New_York")
_PRIVATE = ("/tmp/", "/var/tmp/")  # noqa: S108 -- nothing is written there
_HARDENED = (
    ("NoNewPrivileges", "yes"),
    # A user's manager may make mount namespaces only inside a namespace of users.
    ("PrivateUsers", "yes"),
    ("PrivateTmp", "yes"),
    ("ProtectSystem", "strict"),
    ("ProtectControlGroups", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallErrorNumber", "EPERM"),
    ("UMask", "0077"),
    ("LimitCORE", "0"),
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What the units are made for; every path is absolute.

    Args:
        program: the words that start the tool.
        names: options that name the underlyings, `("--underlyings", "SPY,AAPL")`.
        provider: of contracts and chains.
        root: below it each fetch has its own staging directory.
        to: where rows are loaded, as `load --to` takes it from `folder`.
        to_folder: the folder that loading writes, '' for a server.
        env_file: NAME=value lines with keys.
        state_home: holds the folder of the shared permit records.
        folder: where the commands run: relative paths and `stagingest.toml` are there.
    """

    program: tuple[str, ...]
    names: tuple[str, ...]
    provider: str
    root: str
    to: str
    to_folder: str
    env_file: str
    state_home: str
    folder: str

    def writable(self) -> tuple[str, ...]:
        """The folders that must be there before a unit starts."""
        folders = (*(f"{self.root}/{name}" for name in ("contracts", "snapshots")), self.state, self.to_folder)
        return tuple(folder for folder in folders if folder)

    def unseen(self) -> tuple[str, ...]:
        """The folders that PrivateTmp hides from the services."""
        folders = dict.fromkeys((self.folder, *self.writable()))
        return tuple(path for path in folders if f"{path}/".startswith(_PRIVATE))

    @property
    def state(self) -> str:
        """The folder of the permit records."""
        return f"{self.state_home}/stagingest"


def units(setup: Setup) -> dict[str, str]:
    """Name -> text of every unit: for each of both jobs a timer, a service that fetches, and one that loads."""
    contracts = ("option-contracts", *setup.names)
    snapshots = ("option-snapshots", "--contracts-from", f"{setup.root}/contracts", "--in-session")
    return {
        **_job(setup, "contracts", contracts, DAILY, persistent=True),
        **_job(setup, "snapshots", snapshots, IN_SESSION, persistent=False),
    }


def _job(setup: Setup, job: str, asked: Sequence[str], times: Sequence[str], *, persistent: bool) -> dict[str, str]:
    name, staging = f"stagingest-{job}", f"{setup.root}/{job}"
    fetch = ("fetch", f"{setup.provider}/{asked[0]}", *asked[1:], "--staging", staging)
    # Several staging directories share the target; its holder is waited for.
    load = ("load", "--staging", staging, "--to", setup.to, "--adopt", "--lock-timeout", "5min")
    what = "option contracts" if job == "contracts" else "option chain snapshots"
    # Also after a failure: what is staged is loaded.
    then = [("OnSuccess", f"{name}-load.service"), ("OnFailure", f"{name}-load.service")]
    calendar = [("OnCalendar", each) for each in times]
    timer = [*calendar, ("AccuracySec", "1s"), ("Persistent", "yes" if persistent else "no")]
    return {
        f"{name}.timer": _text(
            Unit=[("Description", f"When stagingest fetches {what}")],
            Timer=timer,
            Install=[("WantedBy", "timers.target")],
        ),
        f"{name}.service": _text(
            Unit=[("Description", f"stagingest fetches {what}"), *then],
            Service=_service(setup, (*fetch, "--max-minutes", str(CLEAN_END_MIN)), (staging, setup.state)),
        ),
        f"{name}-load.service": _text(
            Unit=[("Description", f"stagingest loads {what}")],
            Service=_service(setup, load, (staging, setup.to_folder)),
        ),
    }


def _service(setup: Setup, command: Sequence[str], writes: Iterable[str]) -> list[tuple[str, str]]:
    words = [*setup.program, "--log-format", "journald", *command]
    return [
        # RuntimeMaxSec means nothing to a oneshot.
        ("Type", "exec"),
        # Variables are put into every word but the first.
        ("ExecStart", " ".join([_word(words[0]), *(_word(word).replace("$", "$$") for word in words[1:])])),
        ("WorkingDirectory", _literal(setup.folder)),
        ("EnvironmentFile", _literal(setup.env_file)),
        ("Environment", _word(f"XDG_STATE_HOME={setup.state_home}")),
        # Somebody else holds the staging directory or the database: the next run does it.
        ("SuccessExitStatus", "75"),
        ("RuntimeMaxSec", f"{BACKSTOP_MIN}min"),
        ("KillMode", "mixed"),
        ("TimeoutStopSec", "30"),
        ("LimitNOFILE", "65536"),
        ("ReadWritePaths", " ".join(_word(path) for path in dict.fromkeys(writes) if path)),
        *_HARDENED,
    ]


def _literal(text: str) -> str:
    """Text in which systemd expands nothing."""
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """One word of a list of words, as systemd reads them."""
    escaped = _literal(text).replace("\\", "\\\\").replace('"', '\\"')
    return escaped if text and not set(text) & set(" \t'\"\\;") else f'"{escaped}"'


def _text(**sections: Sequence[tuple[str, str]]) -> str:
    parts = (
        "".join([f"[{name}]\n", *(f"{key}={value}\n" for key, value in lines)]) for name, lines in sections.items()
    )
    return "\n".join(parts)

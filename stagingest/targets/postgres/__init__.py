"""Loading into a PostgreSQL database.

Imports: errors model system targets targets.batch targets.sql
"""

from stagingest.errors import UsageError
from stagingest.targets import Target, TargetKind, TargetOptions


def _make(address: str, how: TargetOptions) -> Target:
    from stagingest.targets.postgres.target import Postgres

    return Postgres(address, schema=how.schema, replace=how.replace, lock_timeout_s=how.lock_timeout_s)


def _refuse(address: str) -> None:
    """Every user of the machine can read a command line."""
    from urllib.parse import parse_qsl, urlsplit

    parts = urlsplit(address)
    if parts.password or "password" in dict(parse_qsl(parts.query)):
        raise UsageError(
            "A password does not belong into a command line, where everybody can read it.",
            "Put the address into DATABASE_URL and write --to DATABASE_URL, or the password into PGPASSWORD, or name a "
            "variable as dsn_env of [target.NAME] in stagingest.toml.",
        )


TARGET = TargetKind(("postgresql", "postgres"), _make, lambda address: None, _refuse)

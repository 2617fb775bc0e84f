"""A PostgreSQL database as this tool speaks to it: through ADBC, no secret in any word; the only door to it."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pyarrow as pa

from stagingest.errors import TargetError, UsageError

try:
    import adbc_driver_manager
    from adbc_driver_postgresql import dbapi  # type: ignore[import-untyped]
except ImportError:  # pragma: no cover - the extra is installed wherever tests run
    raise UsageError(
        "PostgreSQL needs its driver, which is not installed.", "Run `pip install 'stagingest[postgres]'`."
    ) from None

_LOCAL = ("", "localhost", "127.0.0.1", "::1")
# Anybody who connects before a first byte of TLS could be anybody.
_STRICT = "verify-full"


def completed(dsn: str, environ: Mapping[str, str]) -> str:
    """The address with what is not said in it: who asks, and TLS verified unless the server is on this machine."""
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    host = query.get("host", parts.hostname or environ.get("PGHOST", ""))
    if not (host.startswith("/") or host in _LOCAL or "sslmode" in query or environ.get("PGSSLMODE")):
        query["sslmode"] = _STRICT
    query.setdefault("application_name", f"stagingest {os.getpid()}")
    return f"postgresql://{parts.netloc}{parts.path}?{urlencode(query, quote_via=quote)}"


def shown(dsn: str) -> str:
    """The address without user, password and options."""
    parts = urlsplit(dsn)
    host = parts.hostname or dict(parse_qsl(parts.query)).get("host", "")
    port = f":{parts.port}" if parts.port else ""
    return f"postgresql://{host}{port}{parts.path}"


class PostgresConnection:
    """One connection; everything is part of a transaction until `commit` or `rollback`. Raises TargetError."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        try:
            self._db = dbapi.connect(completed(dsn, os.environ))
        except adbc_driver_manager.Error as error:
            raise self._failure(error) from None

    def ask(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement with parameters ($1, $2, ...); its rows."""
        try:
            with self._db.cursor() as cursor:
                cursor.execute(text, values or None)
                return cursor.fetchall() if cursor.description else []
        except adbc_driver_manager.Error as error:
            raise self._failure(error) from None

    def ingest(self, table: str, rows: pa.RecordBatchReader, *, temporary: bool) -> int:
        """Append rows to a table; how many."""
        try:
            with self._db.cursor() as cursor:
                return int(cursor.adbc_ingest(table, rows, mode="append", temporary=temporary))
        except adbc_driver_manager.Error as error:
            raise self._failure(error) from None

    def commit(self) -> None:
        """Make the transaction durable."""
        try:
            self._db.commit()
        except adbc_driver_manager.Error as error:
            raise self._failure(error) from None

    def rollback(self) -> None:
        """Undo the transaction; of a connection that is gone nothing is left to undo."""
        with suppress(adbc_driver_manager.Error):
            self._db.rollback()

    def close(self) -> None:
        """Give it back."""
        with suppress(adbc_driver_manager.Error):
            self._db.close()

    def _failure(self, error: Exception) -> TargetError:
        """The driver's words in one line, without whatever of the address could be in them."""
        text = re.sub(r"\s+", " ", str(error)).strip()
        secrets = [urlsplit(self._dsn).password, os.environ.get("PGPASSWORD")]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return TargetError(f"{shown(self._dsn)} cannot be used: {text[:300]}")

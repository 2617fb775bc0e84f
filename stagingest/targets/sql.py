"""SQL text that every dialect shares, and whether files of a schema number can be read at all."""

# ruff: noqa: S608 - text is composed here and nowhere else, from quoted names only

from stagingest.errors import TargetError
from stagingest.model.datasets import Dataset, Table


def quoted(name: str) -> str:
    """An identifier, safe to stand in SQL text."""
    return '"' + name.replace('"', '""') + '"'


def check_schema(data: Dataset, schema: int) -> None:
    """Raise TargetError when files of this schema number cannot be read by this version."""
    if schema != data.schema:
        raise TargetError(
            f"Staged files of {data.name} have schema {schema}, this version reads schema {data.schema}.",
            "Load them with the version of stagingest that staged them, or a newer one.",
        )


def count(table: Table) -> str:
    """The number of rows in a table."""
    return f"SELECT count(*) FROM {quoted(table.name)}"

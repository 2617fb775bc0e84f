"""SQL text that every dialect shares, and whether files of a schema number can be read at all."""

# ruff: noqa: S608 - text is composed here and nowhere else, from quoted names only

from stagingest.model.datasets import Table


def quoted(name: str) -> str:
    """An identifier, safe to stand in SQL text."""
    return '"' + name.replace('"', '""') + '"'


def count(table: Table) -> str:
    """The number of rows in a table."""
    return f"SELECT count(*) FROM {quoted(table.name)}"

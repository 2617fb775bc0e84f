"""Two keys that can be told from anything else, and a search for them in everything that was ever written."""

import base64
import gzip
import json
import os
import random
import sqlite3
import string
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

SHORTEST = 8
_ODD = "+/%\"'\\&<>=$;`{}|"
Found = set[tuple[str, str]]


def credential(seed: int) -> str:
    """A key of 40 characters, many of which some encoding has to escape, from its first ones on."""
    chance = random.Random(seed)
    letters = "".join(chance.choices(string.ascii_letters + string.digits, k=24))
    odd = "".join(chance.sample(_ODD, len(_ODD)))
    return "".join(one + other for one, other in zip(letters, odd, strict=False)) + letters[len(odd) :]


def spelled(text: str) -> Iterator[tuple[str, bytes]]:
    """Encoding and text of a secret in it."""
    raw, percent = text.encode(), quote(text, safe="")
    yield "raw", raw
    yield "percent", percent.encode()
    yield "percent, small letters", "".join(c.lower() if percent[max(0, i - 2) : i].count("%") else c
                                            for i, c in enumerate(percent)).encode()  # fmt: skip
    yield "percent, slashes kept", quote(text).encode()
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "JSON in JSON", json.dumps(json.dumps(text)[1:-1])[1:-1].encode()
    yield "repr", repr(text)[1:-1].encode()
    yield "repr of bytes", repr(raw)[2:-1].encode()
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    yield "UTF-16", text.encode("utf-16-le")
    yield "UTF-16, big end first", text.encode("utf-16-be")
    for shift in range(3):
        # Whatever stands before it, some characters of its base64 stand for it alone.
        whole = base64.b64encode(b"." * shift + raw).rstrip(b"=")
        core = whole[4 if shift else 0 : len(whole) - 2]
        yield f"base64, shifted by {shift}", core
        yield f"base64 for URLs, shifted by {shift}", core.translate(bytes.maketrans(b"+/", b"-_"))


def needles(secret: str) -> dict[str, bytes]:
    """Encoding -> what to look for: the beginning and the end of the secret, of `SHORTEST` characters each."""
    found = {}
    # Twelve characters are the fewest of which eight of base64 stand for nothing else.
    for end, part, longer in (("beginning", secret[:SHORTEST], secret[:12]), ("end", secret[-SHORTEST:], secret[-12:])):
        for name, bytes_ in spelled(part):
            if not name.startswith("base64"):
                found[f"{end}, {name}"] = bytes_
        found |= {f"{end}, {name}": bytes_ for name, bytes_ in spelled(longer) if name.startswith("base64")}
    return found


class Search:
    """Looks for secrets in bytes, files and folders; what it finds are (place, encoding), never the secret."""

    def __init__(self, *secrets: str) -> None:
        self._needles = {
            (f"secret {number}, {name}", needle)
            for number, secret in enumerate(secrets)
            for name, needle in needles(secret).items()
        }
        self.looked_at = 0

    def data(self, place: str, data: bytes) -> Found:
        """What is in some bytes, as they are and inflated."""
        found = {(place, name) for name, needle in self._needles if needle in data}
        for start in _gzip_starts(data):
            with suppress(zlib.error):
                found |= self.data(f"{place}, inflated", zlib.decompressobj(31).decompress(data[start:], 64 << 20))
        return found

    def text(self, place: str, text: str) -> Found:
        """What is in some text."""
        return self.data(place, text.encode("utf-8", "surrogateescape"))

    def tree(self, root: Path) -> Found:
        """What is in every name, link and file below a folder, and in what Parquet, SQLite and DuckDB files hold."""
        found: Found = set()
        for path in sorted(root.rglob("*")):
            found |= self.text(str(path.parent), path.name)
            if path.is_symlink():
                found |= self.text(str(path), os.readlink(path))
            elif path.is_file():
                self.looked_at += 1
                data = path.read_bytes()
                found |= self.data(str(path), data)
                for text in _values(path, data):
                    found |= self.text(f"{path}, its values", text)
        return found

    def processes(self, pid: int) -> Found:
        """What is in the command lines of a process and of all its descendants; `looked_at` counts them."""
        found: Found = set()
        for each in family(pid):
            with suppress(OSError):
                for name in ("cmdline", "comm"):
                    found |= self.data(f"/proc/{each}/{name}", Path(f"/proc/{each}/{name}").read_bytes())
                self.looked_at += 1
        return found


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def _gzip_starts(data: bytes) -> Iterator[int]:
    start = data.find(b"\x1f\x8b\x08")
    while start >= 0:
        yield start
        start = data.find(b"\x1f\x8b\x08", start + 1)


def _values(path: Path, data: bytes) -> Iterator[str]:
    """What a file of columns or tables holds once it is read: compression hides it from a plain search."""
    if data.startswith(b"PAR1"):
        with suppress(pa.ArrowException):
            table = pq.read_table(pa.BufferReader(data))
            yield repr(table.schema.metadata)
            # Plain text, one value a line: a repr would be yet another encoding.
            for column in table.itercolumns():
                yield "\n".join(str(value) for value in column.to_pylist())
    elif data.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                yield "\n".join(map(str, (v for row in database.execute(f'SELECT * FROM "{name}"') for v in row)))
    elif data[8:12] == b"DUCK":
        with duckdb.connect(str(path), read_only=True) as opened:
            tables = "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
            for schema, name in opened.execute(tables).fetchall():
                rows = opened.execute(f'SELECT * FROM "{schema}"."{name}"').fetchall()
                yield "\n".join(str(value) for row in rows for value in row)


def planted(root: Path, secret: str) -> dict[str, Path]:
    """Files below `root` that hide the secret where a search has to look inside; kind -> path."""
    root.mkdir()
    files = {kind: root / kind for kind in ("gzip", "parquet value", "parquet footer", "sqlite", "duckdb", "name")}
    files["gzip"].write_bytes(b"before" + gzip.compress(b"x" * 999 + secret.encode()))
    column = pa.array(["x" * 50, secret] * 500)
    pq.write_table(pa.table({"a": column.dictionary_encode()}), files["parquet value"], compression="zstd")
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"k": secret}), files["parquet footer"])
    with closing(sqlite3.connect(files["sqlite"])) as database:
        database.execute("CREATE TABLE t (a TEXT)")
        database.execute("INSERT INTO t VALUES (?)", ["x" * 4000 + secret])
        database.commit()
    with duckdb.connect(str(files["duckdb"])) as opened:
        opened.execute("CREATE TABLE t AS SELECT ? || (i % 3) AS a FROM range(50000) r(i)", [secret])
    files["name"].with_name(f"a{secret.replace('/', '')[-SHORTEST:]}").touch()
    return files

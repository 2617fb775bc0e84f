"""The files of a staging directory: one seam, paths that stay inside, and another place than a folder behind it."""

import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, desk

import stagingest
from stagingest.errors import StagingError
from stagingest.staging import storage
from stagingest.staging.manifest import Manifest
from stagingest.targets.duckdb.connection import read

ROOT = Path(stagingest.__file__).parent
MAY = {"start": "2024-05-01", "end": "2024-05-31"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, symbols=3) as found:
        yield found


class Bucket:
    """Another place: objects in memory, compressed; only what is read has a file, which is made for it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.parts, self.objects = scratch, dict[str, bytes](), dict[str, bytes]()

    def begin(self, name: str) -> None:
        assert name not in self.parts
        self.parts[name] = b""

    def write(self, name: str, data: Any) -> None:
        self.parts[name] = bytes(data)

    def drop(self, name: str) -> None:
        self.parts.pop(name, None)

    def begun(self) -> Iterator[tuple[str, int]]:
        yield from ((name, len(data)) for name, data in list(self.parts.items()))

    def publish(self, names: Sequence[str], folder: str) -> list[str]:
        paths = [f"data/{folder}/{name}.parquet" for name in names]
        self.objects |= {path: zlib.compress(self.parts.pop(name)) for path, name in zip(paths, names, strict=True)}
        return paths

    def keep(self, path: str, data: bytes) -> None:
        self.objects[path] = zlib.compress(data)

    def list(self) -> dict[str, int]:
        return {path: len(self.read(path)) for path in self.objects if path.startswith("data/")}

    def read(self, path: str) -> bytes:
        return zlib.decompress(self.objects[path])

    def address(self, path: str) -> str:
        copy = self.scratch / path.replace("/", "-")
        copy.write_bytes(self.read(path))
        return str(copy)

    def move(self, path: str, folder: str) -> None:
        self.objects[f"{folder}/{path.rpartition('/')[2]}"] = self.objects.pop(path)

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.objects.pop(path, None)


def test_another_place_is_fetched_into_loaded_verified_scanned_repaired_and_pruned(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = place.root / "scratch"
    scratch.mkdir()
    bucket = Bucket(scratch)
    monkeypatch.setattr(storage, "at", lambda root: bucket)
    fetched = place.fetch(symbols=place.market.symbols, **MAY)
    assert (fetched.exit_code, fetched.summary.outcomes) == (0, {"staged": len(bucket.objects)})
    assert list((place.staging / "data").rglob("*.parquet")) == []
    rows = stagingest.scan("stock-bars", timeframe="1Day", staging=place.staging).read_all().num_rows
    assert rows == fetched.summary.rows
    assert place.fetch(symbols=place.market.symbols, **MAY).summary.planned == 0
    assert stagingest.load(place.staging, place.db).rows == rows
    assert stagingest.verify(place.staging, place.db).disagreements == ()

    (place.staging / "manifest.sqlite").unlink()
    assert stagingest.repair(place.staging).rows == rows
    stagingest.load(place.staging, place.db)
    path = next(iter(bucket.objects))
    bucket.objects[path] = zlib.compress(bucket.read(path)[:-1])
    (damaged,) = stagingest.verify(place.staging).disagreements
    assert path in damaged.what
    assert place.fetch(symbols=place.market.symbols, **MAY).summary.outcomes == {"staged": 1}
    stagingest.load(place.staging, place.db)
    assert stagingest.prune(place.staging, loaded_in=place.db).files == 1
    assert set(bucket.list()) == {path}  # the damaged one, which the next fetch sweeps
    ((kept,),) = read(place.db, "SELECT count(*) FROM stock_bars")[1]
    assert kept == rows


def test_no_other_file_of_the_package_joins_a_root_and_the_path_of_a_staged_file() -> None:
    joined = re.compile(
        r"root / (?:[a-z.]*path\b|\"(?:tmp|data|quarantine|orphans)\")|\.path\)?\.(?:unlink|open|read_)"
    )
    found = {
        str(file.relative_to(ROOT))
        for file in ROOT.rglob("*.py")
        if file.parts[-2] != "sim" and joined.search(file.read_text())
    }
    assert found <= {"staging/storage.py"}


# --- paths that lead elsewhere


def outside(place: Desk, path: str) -> Path:
    """A manifest whose first entry names another file; that file, which is ours byte for byte."""
    with Manifest.write(place.staging) as manifest, manifest.transaction():
        ((seq, real),) = manifest.db.execute("SELECT seq, path FROM entries WHERE path <> '' ORDER BY seq LIMIT 1")
        stranger = place.root / "stranger.parquet"
        stranger.write_bytes((place.staging / real).read_bytes())
        manifest.db.execute("UPDATE entries SET path = ? WHERE seq = ?", (path.format(root=place.root), seq))
    return stranger


OUTSIDE = [
    "{root}/stranger.parquet", "../stranger.parquet", "data/../../stranger.parquet", "./../stranger.parquet",
    "data/alpaca/../../../stranger.parquet", "data//alpaca/../../../stranger.parquet", "..",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_out_of_the_root_is_not_read_not_removed_and_no_advice_names_it(
    place: Desk, path: str
) -> None:
    place.fetch(symbols=place.market.symbols, **MAY)
    stagingest.load(place.staging, place.db)
    stranger = outside(place, path)
    refused = "leads out of the staging directory"
    with pytest.raises(StagingError, match=refused):
        stagingest.prune(place.staging, loaded_in=place.db)
    with pytest.raises(StagingError, match=refused):
        stagingest.load(place.staging, place.root / "another.duckdb")
    with pytest.raises(StagingError, match=refused):
        stagingest.scan("stock-bars", timeframe="1Day", staging=place.staging).read_all()
    said = [f"{each.what} {each.cure}" for each in stagingest.verify(place.staging).disagreements]
    assert any(refused in each for each in said)
    assert not any("rm -f" in each for each in said)
    assert stranger.exists()
    assert place.fetch(symbols=place.market.symbols, **MAY).exit_code == 0  # what it cured itself
    stagingest.prune(place.staging, loaded_in=place.db)
    assert stranger.exists()


def test_a_folder_or_file_that_is_a_link_is_not_followed(place: Desk) -> None:
    place.fetch(symbols=place.market.symbols, **MAY)
    path = next(iter(storage.at(place.staging).list()))
    other = place.root / "other"
    (place.staging / path).parent.rename(other)
    (place.staging / path).parent.symlink_to(other)
    files = storage.LocalStorage(place.staging)
    for act in (files.address, files.read, lambda path: files.remove([path]), lambda path: files.move(path, "orphans")):
        with pytest.raises(StagingError, match="leads out"):
            act(path)
    assert (other / Path(path).name).exists()
    (place.staging / "data" / "link.parquet").symlink_to(other / Path(path).name)
    with pytest.raises(StagingError, match="leads out"):
        files.read("data/link.parquet")


def test_a_root_that_is_reached_over_a_link_is_itself(tmp_path: Path) -> None:
    real = tmp_path / "real" / "staging" / "data"
    real.mkdir(parents=True)
    (real / "x.parquet").write_bytes(b"x")
    os.symlink(tmp_path / "real", tmp_path / "link")
    assert storage.LocalStorage(tmp_path / "link" / "staging").read("data/x.parquet") == b"x"

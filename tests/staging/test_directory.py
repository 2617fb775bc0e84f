"""Chunk files, locks and sweeping, on a real directory."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stagingest.errors import HeldError, StagingError
from stagingest.model.task import PartFile
from stagingest.staging import directory
from stagingest.staging import parts as staging_parts
from stagingest.system import locks

TABLE = pa.table({"symbol": pa.array(["A", "B"]).dictionary_encode(), "close": [1.0, 2.0]})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return directory.prepare(tmp_path / "staging")


def written(root: Path, name: str, table: pa.Table, footer: dict[str, str]) -> PartFile:
    staging_parts.begin_part(root, name)
    return staging_parts.write_part(root, name, table, footer)


def test_a_part_becomes_a_file_with_its_footer(root: Path) -> None:
    part = written(root, "c.r-1", TABLE, {"stagingest.run": "r"})
    assert not list((root / "data").rglob("*.parquet"))
    (path,) = directory.publish_parts(root, "alpaca/stock-bars", [part])
    assert path == "data/alpaca/stock-bars/c.r-1.parquet"
    file = pq.ParquetFile(root / path)
    assert file.metadata.metadata[b"stagingest.run"] == b"r"
    assert file.metadata.num_row_groups == 1
    assert file.read().column("close").to_pylist() == [1.0, 2.0]
    assert (root / path).stat().st_size == part.bytes
    assert (root / path).stat().st_mode & 0o777 == 0o600
    assert list((root / "tmp").iterdir()) == []


def test_the_same_rows_for_another_order_have_another_hash(root: Path) -> None:
    one = written(root, "c.r-1", TABLE, {"stagingest.number": "1"})
    two = written(root, "c.r-2", TABLE, {"stagingest.number": "2"})
    assert one.sha256 != two.sha256


def test_a_part_is_never_written_over(root: Path) -> None:
    written(root, "c.r-1", TABLE, {})
    with pytest.raises(FileExistsError):
        written(root, "c.r-1", TABLE, {})


def test_a_group_of_parts_settles_in_order(root: Path) -> None:
    parts = [written(root, f"c{i}.r-{i}", TABLE, {}) for i in range(5)]
    paths = directory.publish_parts(root, "alpaca/option-bars", parts)
    assert [Path(path).stem for path in paths] == [part.name for part in parts]


def test_a_sweep_empties_tmp_and_sets_unknown_files_aside(root: Path) -> None:
    kept, unknown = (written(root, name, TABLE, {}) for name in ("kept.r-1", "unknown.r-2"))
    paths = directory.publish_parts(root, "alpaca/stock-bars", [kept, unknown])
    written(root, "cut.r-3", TABLE, {})
    assert directory.sweep(root, paths[:1]) == directory.Swept((), ("unknown.r-2.parquet",))
    assert list((root / "tmp").iterdir()) == []
    assert (root / paths[0]).exists()
    assert (root / "orphans" / "unknown.r-2.parquet").exists()


def test_an_order_that_began_and_never_ended_is_told_by_the_sweep(root: Path) -> None:
    staging_parts.begin_part(root, "died.r-1")
    staging_parts.begin_part(root, "ended.r-2")
    staging_parts.drop_part(root, "ended.r-2")
    written(root, "finished.r-3", TABLE, {})
    assert directory.sweep(root, []).unended == ("died",)


def test_gone_and_cut_files_are_named(root: Path) -> None:
    parts = [written(root, f"c{i}.r-{i}", TABLE, {}) for i in range(3)]
    paths = directory.publish_parts(root, "alpaca/stock-bars", parts)
    files = [(seq, path, part.bytes) for seq, (path, part) in enumerate(zip(paths, parts, strict=True))]
    assert directory.missing(root, files) == {}
    os.unlink(root / paths[0])
    os.truncate(root / paths[1], 5)
    found = directory.missing(root, files)
    assert found == {0: f"{paths[0]} is gone", 1: f"{paths[1]} has 5 bytes, not {parts[1].bytes}"}


def test_a_second_holder_is_told_who_has_the_lock(root: Path) -> None:
    with locks.Lock.take(root / "run.lock", "fetching"):
        assert locks.is_held(root / "run.lock")
        with pytest.raises(HeldError, match=rf"held for fetching by process {os.getpid()} on"):
            locks.Lock.take(root / "run.lock", "fetching")
    assert not locks.is_held(root / "run.lock")
    locks.Lock.take(root / "run.lock", "fetching").release()


@pytest.mark.parametrize("name", ["a[1]", "what?", "all*"])
def test_a_path_that_a_database_would_expand_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StagingError, match="holds one of"):
        directory.prepare(tmp_path / name)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StagingError, match="symbolic link"):
        directory.prepare(tmp_path / "link")


def test_what_a_run_publishes_can_be_read_at_any_time(root: Path) -> None:
    assert directory.published(root) is None
    directory.publish(root, {"done": 1})
    directory.publish(root, {"done": 2})
    assert directory.published(root) == {"done": 2}

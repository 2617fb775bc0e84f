"""The record of plan and entries."""

import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from stagingest.errors import StagingError
from stagingest.model.chunk import Chunk, Series
from stagingest.model.task import Outcome, PartFile, SessionDigest, Task, TaskResult
from stagingest.model.windows import Window
from stagingest.staging import manifest as staging_manifest
from stagingest.staging.loads import Loads, read_complaints
from stagingest.staging.manifest import Commit, Manifest

NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
SERIES = Series.of("alpaca/stock-bars", {"interval": "1d", "adjustment": "split"})
JUNE = Window(date(2024, 6, 1), date(2024, 7, 1))


def chunk(*symbols: str, window: Window = JUNE) -> Chunk:
    return Chunk(SERIES, symbols, window)


def commit(what: Chunk, outcome: Outcome = Outcome.STAGED, *, covers: bool = True, **more: object) -> Commit:
    staged = outcome is Outcome.STAGED
    part = PartFile("p", 10, "aa", 2) if staged else None
    rows = tuple((symbol, 1) for symbol in what.symbols) if staged else ()
    result = TaskResult(outcome, "why", NOW, part, rows, **more)  # type: ignore[arg-type]
    return Commit(Task("run", 1, what), result, covers, NOW, 1, "data/x/p.parquet" if staged else "")


@pytest.fixture
def manifest(tmp_path: Path):  # type: ignore[no-untyped-def]
    with Manifest.write(tmp_path) as opened:
        yield opened


def test_what_is_planned_is_open_until_it_is_recorded(manifest: Manifest) -> None:
    first, second = chunk("A", "B"), chunk("C")
    manifest.plan([first, second], "run")
    manifest.record([commit(first)])
    assert manifest.open_chunks(SERIES) == [second]


def test_entries_come_back_as_they_were_recorded(manifest: Manifest) -> None:
    manifest.plan([chunk("A", "B"), chunk("C")], "run")
    recorded = manifest.record([commit(chunk("A", "B")), commit(chunk("C"), Outcome.EMPTY)])
    assert list(manifest.entries()) == recorded
    assert list(manifest.entries(after=recorded[0].seq)) == recorded[1:]


def test_an_entry_covers_its_symbols_whether_they_had_rows_or_not(manifest: Manifest) -> None:
    manifest.plan([chunk("A", "B"), chunk("C"), chunk("D")], "run")
    manifest.record([commit(chunk("A", "B")), commit(chunk("C"), Outcome.EMPTY), commit(chunk("D"), covers=False)])
    assert manifest.coverage(SERIES) == {"A": [JUNE], "B": [JUNE], "C": [JUNE]}


def test_entries_with_a_complaint_do_not_cover(manifest: Manifest) -> None:
    manifest.plan([chunk("A")], "run")
    (entry,) = manifest.record([commit(chunk("A"))])
    assert manifest.coverage(SERIES, frozenset({entry.seq})) == {}


def test_children_are_open_when_their_parent_is_closed(manifest: Manifest) -> None:
    parent = chunk("A", "B", "C")
    manifest.plan([parent], "run")
    split = commit(parent, Outcome.SPLIT, covers=False)
    manifest.record([Commit(split.task, split.result, False, NOW, 1, "", parent.halves())])
    assert sorted(child.symbols for child in manifest.open_chunks()) == [("A", "B"), ("C",)]


def test_a_voided_symbol_is_covered_by_later_entries_only(manifest: Manifest) -> None:
    july = Window(date(2024, 7, 1), date(2024, 8, 1))
    manifest.plan([chunk("A", "B"), chunk("A", window=july)], "run")
    edge = SessionDigest("A", date(2024, 6, 3), "digest")
    old, new = manifest.record([commit(chunk("A", "B"), edges=(edge,)), commit(chunk("A", window=july))])
    assert manifest.edges(SERIES) == {"A": {edge.session: "digest"}}
    manifest.void(SERIES, ["A"], new.seq - 1)
    assert manifest.coverage(SERIES) == {"A": [july], "B": [JUNE]}
    assert manifest.edges(SERIES) == {}
    assert old.covers


def test_a_lost_file_no_longer_covers_and_names_its_reason(manifest: Manifest) -> None:
    manifest.plan([chunk("A")], "run")
    (entry,) = manifest.record([commit(chunk("A"))])
    assert list(manifest.files()) == [(entry.seq, "data/x/p.parquet", 10)]
    manifest.mark_lost({entry.seq: "gone"})
    assert manifest.coverage(SERIES) == {}
    assert list(manifest.files()) == []
    assert [(e.outcome, e.reason) for e in manifest.entries()] == [(Outcome.LOST, "gone")]


def test_a_failing_record_changes_nothing(manifest: Manifest) -> None:
    manifest.plan([chunk("A")], "run")
    broken = Commit(Task("run", 1, chunk("A")), TaskResult(Outcome.EMPTY, None, NOW), True, NOW, 1)  # type: ignore[arg-type]
    with pytest.raises(StagingError, match="NOT NULL"):
        manifest.record([commit(chunk("A")), broken])
    assert list(manifest.entries()) == []
    assert manifest.open_chunks() == [chunk("A")]


def test_the_tally_counts_the_last_word_on_each_chunk(manifest: Manifest) -> None:
    manifest.plan([chunk("A"), chunk("B")], "run")
    manifest.record([commit(chunk("A"), Outcome.FAILED, covers=False)])
    manifest.plan([chunk("A")], "again")
    manifest.record([commit(chunk("A"))])
    (counts,) = manifest.tallies()
    assert (counts.open, dict(counts.outcomes)) == (1, {"staged": (1, 2, 10)})
    assert staging_manifest.problems(manifest) == []


def test_the_staging_id_stays(tmp_path: Path) -> None:
    with Manifest.write(tmp_path) as first:
        identity = first.staging_id
    with Manifest.read(tmp_path) as second:
        assert second.staging_id == identity
    assert (tmp_path / "manifest.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_newer_manifest_is_refused_by_version(tmp_path: Path) -> None:
    Manifest.write(tmp_path).close()
    with sqlite3.connect(tmp_path / "manifest.sqlite") as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(StagingError, match="schema 9, this one knows 3"):
        Manifest.read(tmp_path)


def test_a_folder_without_manifest_is_no_staging_directory(tmp_path: Path) -> None:
    with pytest.raises(StagingError, match="is no staging directory"):
        Manifest.read(tmp_path)


def test_reading_works_while_a_writer_is_at_work(tmp_path: Path) -> None:
    with Manifest.write(tmp_path) as writer:
        writer.plan([chunk("A")], "run")
        with Manifest.read(tmp_path) as reader:
            assert reader.open_chunks() == [chunk("A")]
            writer.record([commit(chunk("A"))])
            assert len(list(reader.entries())) == 1


def test_loads_remember_what_targets_took_and_what_was_wrong(tmp_path: Path) -> None:
    with Manifest.write(tmp_path) as manifest, Loads(tmp_path, writable=True) as loads:
        manifest.plan([chunk("A"), chunk("B")], "run")
        first, _ = manifest.record([commit(chunk("A")), commit(chunk("B"))])
        loads.remember("db", manifest.staging_id, [first.seq])
        loads.complain(2, "data/x/p.parquet", "flipped")
        assert manifest.loaded() == {"alpaca/stock-bars": {"db": 1}}
    assert read_complaints(tmp_path) == {2: "flipped"}


def test_an_empty_or_damaged_file_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "manifest.sqlite").touch()
    (tmp_path / "loads.sqlite").touch()
    assert read_complaints(tmp_path) == {}
    with pytest.raises(StagingError, match="did not finish"):
        Manifest.read(tmp_path)
    (tmp_path / "manifest.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StagingError, match="cannot be used"):
        Manifest.read(tmp_path)


def test_a_transaction_inside_another_is_part_of_it(manifest: Manifest) -> None:
    manifest.plan([chunk("A")], "run")

    def fail() -> None:
        with manifest.transaction():
            manifest.record([commit(chunk("A"))])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(manifest.entries()) == []


def test_a_staging_directory_of_the_first_version_is_opened_and_led_on(tmp_path: Path) -> None:
    with Manifest.write(tmp_path) as manifest:
        manifest.plan([chunk("A")], "run")
        identity = manifest.staging_id
        manifest.db.execute("DROP TABLE strikes")
        manifest.db.execute("PRAGMA user_version = 1")
    with Manifest.read(tmp_path) as old:
        assert old.open_chunks() == [chunk("A")]
    with Manifest.write(tmp_path) as manifest:
        assert (manifest.staging_id, manifest.open_chunks(), staging_manifest.crashes(manifest)) == (
            identity,
            [chunk("A")],
            {},
        )


def test_deaths_that_were_counted_without_saying_whose_are_no_reason_to_give_a_chunk_up(tmp_path: Path) -> None:
    with Manifest.write(tmp_path) as manifest:
        manifest.db.execute("DROP TABLE strikes")
        manifest.db.execute(
            "CREATE TABLE strikes (chunk TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID"
        )
        manifest.db.execute("INSERT INTO strikes VALUES ('a', 3)")
        manifest.db.execute("PRAGMA user_version = 2")
    with Manifest.write(tmp_path) as manifest:
        assert (staging_manifest.crashes(manifest), staging_manifest.interrupted(manifest)) == ({}, {"a": 3})


def test_deaths_are_counted_over_runs_until_the_chunk_is_had(manifest: Manifest) -> None:
    staging_manifest.add_crashes(manifest, ["a", "b"])
    staging_manifest.add_crashes(manifest, ["a"])
    staging_manifest.add_interrupted(manifest, ["a", "c"])
    assert staging_manifest.crashes(manifest) == {"a": 2, "b": 1}
    assert staging_manifest.interrupted(manifest) == {"a": 1, "c": 1}
    staging_manifest.clear_crashes(manifest, ["a"])
    assert (staging_manifest.crashes(manifest), staging_manifest.interrupted(manifest)) == ({"b": 1}, {"c": 1})

"""A dataset gets one more column, or a label a word nobody knew: what was made before goes on."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pglab
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from desk import desk
from loadlab import BARS, NOON, SIP, Staging, all_rows, ask, bar, window
from targetlab import KINDS, Kind

import stagingest
from stagingest.api import universe as api_universe
from stagingest.errors import StagingError, TargetError
from stagingest.loading import source as loading_source
from stagingest.loading.loader import load
from stagingest.model.chunk import Chunk, Series
from stagingest.model.datasets import DATASETS, Column, Dataset
from stagingest.staging.manifest import Manifest
from stagingest.targets import TargetOptions

NEEDS = {"postgres": [pytest.mark.postgres]}
OLD = DATASETS["stock-bars"]
DAYS = {"start": "2024-05-01", "end": "2024-05-31"}


def with_notes(data: Dataset) -> Dataset:
    """The dataset with a column more, in the middle of the others."""
    column = Column("notes", "double", data.schema + 1)
    columns = (*data.columns[:10], column, *data.columns[10:])
    tables = tuple(replace(table, columns=columns) for table in data.tables)
    return replace(data, schema=data.schema + 1, columns=columns, tables=tables)


NEW = with_notes(OLD)


class Versions:
    """Which version of stock-bars the tool knows."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def update(self) -> None:
        self._patch.setitem(DATASETS, OLD.name, NEW)

    def downgrade(self) -> None:
        self._patch.setitem(DATASETS, OLD.name, OLD)


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Versions:
    return Versions(monkeypatch)


@pytest.fixture(params=[pytest.param(name, marks=NEEDS.get(name, [])) for name in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path / "staging")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "target"


def take(staging: Staging, kind: Kind, place: Path, **how: Any) -> Any:
    return load([staging], kind.opened(place, **how), batch_rows=1_000_000)  # type: ignore[arg-type]


def noted(staging: Staging, symbol: str, start: int, end: int, notes: float) -> None:
    """Stage bars as a version that knows the column does."""
    rows = [{**bar(symbol, number, notes), "notes": notes} for number in range(start, end)]
    staging.stage(Chunk(BARS, (symbol,), window(start, end)), rows, schema=NEW.schema)


def notes(kind: Kind, place: Path) -> list[tuple[Any, ...]]:
    names = [column.name for column in NEW.columns]
    symbol, day, at = (names.index(name) for name in ("symbol", "session_date", "notes"))
    rows = kind.rows(place, NEW.tables[0])
    return sorted((row[symbol], (row[day] - date(2024, 1, 1)).days, row[at]) for row in rows)


def test_files_and_a_target_from_before_a_column_go_on_and_hold_null_there(
    staging: Staging, kind: Kind, place: Path, versions: Versions
) -> None:
    staging.bars("A", 0, 2)
    take(staging, kind, place)
    staging.bars("B", 0, 1)
    versions.update()
    noted(staging, "A", 1, 3, 7.0)
    noted(staging, "C", 0, 1, 8.0)
    take(staging, kind, place)
    assert notes(kind, place) == [("A", 0, None), ("A", 1, 7.0), ("A", 2, 7.0), ("B", 0, None), ("C", 0, 8.0)]
    assert take(staging, kind, place).entries == 0


def as_then(staging: Staging) -> None:
    """The newest entry as it was staged when volumes were integers."""
    entry = staging.listed[-1]
    file = staging.file(entry)
    rows = pq.read_table(file)
    whole = rows.set_column(rows.column_names.index("volume"), "volume", rows["volume"].cast(pa.int64()))
    pq.write_table(whole, file, store_schema=False)
    staging.listed[-1] = replace(entry, schema=1, **signed(file))


def test_whole_volumes_of_then_and_fractional_ones_of_now_stand_in_one_table(
    staging: Staging, kind: Kind, place: Path
) -> None:
    staging.bars("A", 0, 2)
    as_then(staging)
    take(staging, kind, place)
    staging.bars("A", 2, 3)
    as_then(staging)
    rows = [{**bar("A", 3, 1.0), "volume": 0.25}, {**bar("A", 4, 1.0), "volume": 2.0**53}]
    staging.stage(Chunk(BARS, ("A",), window(3, 5)), rows)
    take(staging, kind, place)
    names = [column.name for column in OLD.columns]
    volumes = [row[names.index("volume")] for row in sorted(kind.rows(place, OLD.tables[0]), key=lambda row: row[2])]
    then = bar("A", 0, 1.0)["volume"]
    assert volumes == [then, then, then, 0.25, 2.0**53]
    assert {type(volume) for volume in volumes} == {float}


def test_a_universe_is_kept_and_loaded_though_its_table_got_a_column_that_no_import_fills(
    tmp_path: Path, kind: Kind, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = with_notes(DATASETS["universe-members"])
    monkeypatch.setitem(DATASETS, new.name, new)
    monkeypatch.setattr(api_universe, "MEMBERS", new)
    api_universe.keep_universe("mine", ["AAPL", "MSFT"], staging=tmp_path / "kept")
    with loading_source.Staged(tmp_path / "kept") as source:
        load([source], kind.opened(place), batch_rows=1_000_000)
    names = [column.name for column in new.columns]
    symbol, at = names.index("symbol"), names.index("notes")
    assert sorted((row[symbol], row[at]) for row in kind.rows(place, new.tables[0])) == [("AAPL", None), ("MSFT", None)]


def test_an_old_file_that_is_asked_last_leaves_null_where_a_newer_one_had_a_value(
    staging: Staging, kind: Kind, place: Path, versions: Versions
) -> None:
    versions.update()
    noted(staging, "A", 0, 2, 7.0)
    take(staging, kind, place)
    entry = staging.bars("A", 1, 2, 3.0)
    file = staging.file(entry)
    pq.write_table(pq.read_table(file).drop_columns(["notes"]), file, store_schema=False)
    staging.listed[-1] = replace(entry, schema=OLD.schema, **signed(file))
    take(staging, kind, place)
    assert notes(kind, place) == [("A", 0, 7.0), ("A", 1, None)]


def signed(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def test_a_whole_answer_of_an_older_file_replaces_rows(
    staging: Staging, kind: Kind, place: Path, versions: Versions
) -> None:
    staging.bars("A", 0, 3)
    staging.bars("B", 0, 2)
    take(staging, kind, place)
    staging.bars("A", 0, 2, 5.0)
    versions.update()
    take(staging, kind, place, replace=True)
    assert [(symbol, day) for symbol, day, _ in notes(kind, place)] == [
        ("A", 0), ("A", 1), ("A", 2), ("B", 0), ("B", 1),
    ]  # fmt: skip


def test_only_newer_files_are_refused_by_name(staging: Staging, kind: Kind, place: Path) -> None:
    entry = staging.bars("A", 0, 2)
    staging.listed[0] = replace(entry, schema=OLD.schema + 1)
    with pytest.raises(TargetError, match=r"stock-bars have schema 3, this version reads up to 2"):
        take(staging, kind, place)


def test_a_target_with_a_newer_dataset_is_refused_by_name(
    staging: Staging, kind: Kind, place: Path, versions: Versions
) -> None:
    staging.bars("A", 0, 2)
    versions.update()
    take(staging, kind, place)
    versions.downgrade()
    with pytest.raises(TargetError, match=r"stock-bars in .* has schema 3, this one knows 2"):
        take(staging, kind, place)


def test_the_daily_candles_show_the_new_column(staging: Staging, tmp_path: Path, versions: Versions) -> None:
    kind, db = KINDS["duckdb"], tmp_path / "market.duckdb"
    staging.bars("A", 0, 1)
    take(staging, kind, db)
    versions.update()
    noted(staging, "A", 1, 2, 7.0)
    take(staging, kind, db)
    assert ask(db, "SELECT session_date, notes FROM candles_daily ORDER BY 1") == [
        (date(2024, 1, 1), None),
        (date(2024, 1, 2), 7.0),
    ]


# -- the whole -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["duckdb", "parquet", pytest.param("postgres", marks=pytest.mark.postgres)])
def to(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, TargetOptions]]:
    names = {"duckdb": str(tmp_path / "market.duckdb"), "parquet": f"parquet:{tmp_path / 'tree'}"}
    if request.param == "postgres":
        yield pglab.dsn(), TargetOptions(schema=f"schemas_{abs(hash(str(tmp_path)))}")
    else:
        yield names[request.param], TargetOptions()


def test_load_scan_verify_repair_and_fetch_go_on_after_a_column_came(
    tmp_path: Path, to: tuple[str, TargetOptions], versions: Versions
) -> None:
    name, how = to
    with desk(tmp_path, symbols=2) as place:
        asked = {"symbols": place.market.symbols, **DAYS}
        place.fetch(**asked)
        stagingest.load(place.staging, name, how=how)
        before = stagingest.scan("stock-bars", staging=place.staging).read_all()
        versions.update()
        assert place.fetch(**asked).summary.planned == 0
        rows = stagingest.scan("stock-bars", staging=place.staging).read_all()
        assert rows.drop_columns(["notes"]).equals(before)
        assert rows["notes"].null_count == rows.num_rows == 2 * 22
        assert stagingest.load(place.staging, name, how=how).entries == 0
        assert stagingest.verify(place.staging, name, how=how).disagreements == ()
        (place.staging / Manifest.file).unlink()
        assert stagingest.repair(place.staging).rows == 2 * 22
        place.fetch(**{**asked, "start": "2024-04-15"})
        assert {entry.schema for entry in place.entries()} == {OLD.schema, NEW.schema}
        assert stagingest.scan("stock-bars", staging=place.staging).read_all().num_rows == 2 * 34
        stagingest.load(place.staging, name, how=how)
        (known,) = stagingest.verify(place.staging, name, how=how).disagreements
        assert known.cure.startswith("none is needed: the manifest was rebuilt")
        versions.downgrade()
        with pytest.raises(StagingError, match="stock-bars have schema 3"):
            stagingest.scan("stock-bars", staging=place.staging)
        (place.staging / Manifest.file).unlink()
        with pytest.raises(StagingError, match="stock-bars have schema 3"):
            stagingest.repair(place.staging)


def test_a_database_that_no_load_has_opened_since_is_scanned_with_null(tmp_path: Path, versions: Versions) -> None:
    with desk(tmp_path, symbols=2) as place:
        place.fetch(symbols=place.market.symbols, **DAYS)
        place.load()
        versions.update()
        rows = stagingest.scan("stock-bars", db=place.db).read_all()
        assert rows["notes"].null_count == rows.num_rows == 2 * 22


# -- labels ----------------------------------------------------------------------------------------------------

WORDS = {"interval": "90s", "provider": "it's new", "feed": "elsewhere", "adjustment": "half"}


def unheard(staging: Staging) -> None:
    """Stage a bar whose every label is a word that nobody knew."""
    params = {**SIP, **{name: word for name, word in WORDS.items() if name != "provider"}}
    series = Series.of(f"{WORDS['provider']}/stock-bars", params)
    staging.stage(Chunk(series, ("A",), window(0, 1)), [{**bar("A", 0, 4.0), **WORDS}], asked_at=NOON + timedelta(1))


def test_a_word_that_no_label_had_is_loaded_into_what_was_there_before(
    staging: Staging, kind: Kind, place: Path
) -> None:
    staging.bars("A", 0, 2)
    take(staging, kind, place)
    unheard(staging)
    take(staging, kind, place)
    names = [column.name for column in OLD.columns]
    found = {tuple(row[names.index(name)] for name in WORDS) for row in kind.rows(place, OLD.tables[0])}
    assert found == {("1d", "alpaca", "sip", "raw"), tuple(WORDS.values())}


def test_a_new_word_leaves_the_views_and_the_rows_of_other_tables_as_they_were(staging: Staging, place: Path) -> None:
    kind = KINDS["duckdb"]
    staging.bars("A", 0, 2)
    take(staging, kind, place)
    before = ask(place, "SELECT * FROM candles_daily ORDER BY ALL")
    unheard(staging)
    take(staging, kind, place)
    assert ask(place, "SELECT * FROM candles_daily ORDER BY ALL") == before
    types = "SELECT DISTINCT data_type FROM duckdb_columns() WHERE column_name = 'provider' AND data_type LIKE 'ENUM%'"
    assert len(ask(place, types)) == 1
    staging.bars("A", 1, 3, 9.0)
    take(staging, kind, place, replace=True)
    assert ask(place, "SELECT count(*), count(DISTINCT provider) FROM stock_bars") == [(4, 2)]
    assert all_rows(place, OLD)["stock_bars"]


def test_known_words_change_no_type(staging: Staging, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stagingest.targets.duckdb import sql

    def never(*_: object) -> str:
        raise AssertionError("a type was made anew")

    monkeypatch.setattr(sql, "retype", never)
    staging.bars("A", 0, 2)
    take(staging, KINDS["duckdb"], place)
    with duckdb.connect(str(place), read_only=True) as db:
        assert db.execute("SELECT count(*) FROM stock_bars").fetchall() == [(2,)]

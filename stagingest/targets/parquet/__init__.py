"""Loading into a tree of Parquet files, partitioned as Hive does.

Imports: errors model system targets targets.batch
"""

from pathlib import Path

from stagingest.errors import UsageError
from stagingest.targets import Target, TargetKind, TargetOptions


def _folder(address: str) -> Path:
    place = address.partition(":")[2]
    if not place:
        raise UsageError("parquet: names no folder.", "Write parquet:FOLDER.")
    return Path(place)


def _make(address: str, how: TargetOptions) -> Target:
    from stagingest.targets.parquet.target import ParquetTree

    return ParquetTree(_folder(address), replace=how.replace, lock_timeout_s=how.lock_timeout_s)


TARGET = TargetKind(("parquet",), _make, _folder)

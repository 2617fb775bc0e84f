"""Every state a crash may leave a staging directory in, worked out from a recording of what a fetch asked of the disk.

The model is laxer than any file system: what was written and not synced may be absent, cut or whole; each name that was
made, moved or removed since its folder was synced may have reached the disk or not, whatever became of the others. A
finished commit of the manifest is there (SQLite syncs it); one under way is there or not.
"""

import hashlib
import itertools
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stagingest.staging.manifest import Manifest
from stagingest.system import disk
from stagingest.system.sqlite import Store

# Of so many pending names every subset is tried; of more, none, all, each prefix, and all but each one.
EVERY_SUBSET_OF = 5


@dataclass(frozen=True)
class Op:
    """One thing asked of the disk; `data` are the bytes of a fill, or the manifest after a commit."""

    kind: str
    paths: tuple[str, ...] = ()
    data: bytes = b""


@dataclass
class Recording:
    """What was asked, in order, and the manifest as it was before."""

    root: Path
    ops: list[Op] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, kind: str, *paths: Path, data: bytes = b"") -> None:
        with self.lock:
            self.ops.append(Op(kind, tuple(str(path.relative_to(self.root)) for path in paths), data))


@contextmanager
def recording(root: Path, *leave_out: str) -> Iterator[Recording]:
    """Records while it is open; of the kinds named nothing is done or recorded (a tool that forgets them)."""
    made = Recording(root)
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("make_folder", "create", "fill", "sync", "sync_folder", "rename", "replace", "remove"):
            patch.setattr(disk, kind, _noting(made, kind, getattr(disk, kind), silent=kind in leave_out))
        real = Store._commit

        def commit(store: Store) -> None:
            real(store)
            if isinstance(store, Manifest):
                made.add("commit", data=_image(store))

        patch.setattr(Store, "_commit", commit)
        yield made


def _noting(made: Recording, kind: str, real: object, *, silent: bool) -> object:
    def noted(*args: object) -> None:
        if silent:
            return
        with made.lock:
            if kind == "make_folder" and args[0].exists():  # type: ignore[attr-defined]
                return
            real(*args)  # type: ignore[operator]
            if kind == "fill":
                made.add(kind, args[0], data=bytes(memoryview(args[1])))  # type: ignore[arg-type]
            elif kind == "sync":
                made.add(kind, *args[0])  # type: ignore[misc]
            elif all(made.root in (path, *path.parents) for path in args):  # type: ignore[attr-defined]
                made.add(kind, *args)  # type: ignore[arg-type]

    return noted


def _image(store: Store) -> bytes:
    """The whole manifest as its last commit left it."""
    with closing(sqlite3.connect(f"{(store.root / store.file).as_uri()}?mode=ro", uri=True)) as source:
        return _in_one_file(source.serialize())


def _in_one_file(image: bytes) -> bytes:
    """The image out of write-ahead mode, in which an image alone cannot be opened."""
    return image[:18] + b"\x01\x01" + image[20:]


@dataclass(frozen=True)
class State:
    """A staging directory after a crash: path -> contents, and the manifest (None: not there)."""

    files: frozenset[tuple[str, bytes]]
    manifest: bytes | None
    told: str = field(compare=False, default="")

    def lies(self) -> list[str]:
        """Entries whose file is not there, or is another one."""
        if self.manifest is None:
            return []
        held = {path: hashlib.sha256(data).hexdigest() for path, data in self.files}
        with closing(sqlite3.connect(":memory:")) as db:
            db.deserialize(self.manifest)
            staged = db.execute("SELECT path, sha256 FROM entries WHERE path <> ''").fetchall()
        return [f"{self.told}: {path}" for path, sha256 in staged if held.get(path) != sha256]

    def put(self, root: Path) -> None:
        """Make it real below `root`."""
        root.mkdir(mode=0o700, parents=True)
        for path, data in self.files:
            (root / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        if self.manifest is not None:
            (root / Manifest.file).write_bytes(self.manifest)


@dataclass
class _Disk:
    """What is surely there, and what may be."""

    names: dict[str, int] = field(default_factory=dict)  # durable names -> inode
    live: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[str, str | None, int]] = field(default_factory=list)  # (name gone or '', name made, inode)
    contents: dict[int, bytes] = field(default_factory=dict)
    synced: set[int] = field(default_factory=set)
    manifest: bytes | None = None

    def apply(self, op: Op) -> None:
        match op.kind:
            case "create":
                inode = len(self.contents)
                self.contents[inode] = b""
                self.live[op.paths[0]] = inode
                self.pending.append(("", op.paths[0], inode))
            case "fill":
                inode = self.live[op.paths[0]]
                self.contents[inode] = op.data
                self.synced.discard(inode)
            case "sync":
                self.synced.update(self.live[path] for path in op.paths)
            case "rename" | "replace":
                source, target = op.paths
                inode = self.live.pop(source)
                self.live[target] = inode
                self.pending.append((source, target, inode))
            case "remove":
                if op.paths[0] in self.live:
                    self.pending.append((op.paths[0], None, self.live.pop(op.paths[0])))
            case "sync_folder":
                self._settle(op.paths[0])
            case "commit":
                self.manifest = op.data

    def _settle(self, folder: str) -> None:
        left = []
        for gone, made, inode in self.pending:
            there = str(Path(made or gone).parent)
            if there == folder:
                self._persist(self.names, (gone, made, inode))
            else:
                left.append((gone, made, inode))
        self.pending = left

    @staticmethod
    def _persist(names: dict[str, int], change: tuple[str, str | None, int]) -> None:
        gone, made, inode = change
        names.pop(gone, None)
        if made is not None:
            names[made] = inode

    def states(self, told: str, manifests: list[bytes | None]) -> Iterator[State]:
        for chosen in _subsets(self.pending):
            names = dict(self.names)
            for change in chosen:
                self._persist(names, change)
            for whole in (0.0, 0.5, 1.0):
                files = frozenset((name, self._as_found(inode, whole)) for name, inode in names.items())
                for manifest in manifests:
                    yield State(files, manifest, told)

    def _as_found(self, inode: int, whole: float) -> bytes:
        data = self.contents[inode]
        return data if inode in self.synced else data[: int(len(data) * whole)]


def _subsets(pending: list[tuple[str, str | None, int]]) -> Iterator[list[tuple[str, str | None, int]]]:
    if len(pending) <= EVERY_SUBSET_OF:
        for size in range(len(pending) + 1):
            yield from map(list, itertools.combinations(pending, size))
        return
    for end in range(len(pending) + 1):
        yield pending[:end]
    for index in range(len(pending)):
        yield pending[:index] + pending[index + 1 :]


def states(made: Recording) -> list[State]:
    """Every different state a crash during the recording may leave, in the order of the recording."""
    found: dict[State, None] = {}
    place = _Disk()
    for number, op in enumerate([*made.ops, Op("end")]):
        told = f"crash before {op.kind} {number}"
        under_way = [op.data] if op.kind == "commit" else []
        for state in place.states(told, [place.manifest, *under_way]):
            found.setdefault(state)
        place.apply(op)
    return list(found)


def found(root: Path) -> State:
    """What is there now, all of it durable."""
    paths = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(Manifest.file)]
    files = frozenset((str(path.relative_to(root)), path.read_bytes()) for path in paths)
    manifest = root / Manifest.file
    if not manifest.exists():
        return State(files, None)
    with closing(sqlite3.connect(f"{manifest.as_uri()}?mode=ro", uri=True)) as source:
        return State(files, _in_one_file(source.serialize()))


def left(before: State, made: Recording) -> list[State]:
    """Every state a crash at the end of the recording may leave where `before` was."""
    place = _Disk(manifest=before.manifest)
    for inode, (path, data) in enumerate(sorted(before.files)):
        place.names[path] = place.live[path] = inode
        place.contents[inode] = data
        place.synced.add(inode)
    for op in made.ops:
        place.apply(op)
    return list(dict.fromkeys(place.states("crash at the end", [place.manifest])))

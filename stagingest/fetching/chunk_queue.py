"""Which chunk is asked next: canaries first, deferred ones last, suspects alone; no I/O."""

from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from stagingest.model.chunk import Chunk, Series

CRASHES = 3
SUSPECT = 2
FORBIDDEN_IN_A_ROW = 3
REFUSED_UNANSWERED = 12
NOT_JSON_IN_A_ROW = 3
NEVER: Mapping[str, int] = MappingProxyType({})


class ChunkQueue:
    """The chunks of a run that are still to be asked, and why some of them have to wait.

    The smallest chunk of each series goes alone until it has answered one page: a wrong key or a missing entitlement
    costs one request, not twenty thousand (DESIGN section 3).

    Args:
        crashes: how often a worker died with a chunk before this run, by chunk id.
        interrupted: how often a whole run died with it in flight: reason to ask it alone, none to give it up.
    """

    def __init__(self, crashes: Mapping[str, int], interrupted: Mapping[str, int] = NEVER) -> None:
        self.stopped: dict[str, tuple[str, str]] = {}
        self._queue: deque[Chunk] = deque()
        self._deferred: deque[Chunk] = deque()
        self._suspects: deque[Chunk] = deque()
        self._second_wind: set[str] = set()
        self._crashes = dict(crashes)
        self._interrupted = interrupted
        self._open: set[Series] = set()
        self._probing: set[Series] = set()
        self._forbidden: dict[str, int] = {}
        self._endpoints: set[str] = set()
        self._doubts: dict[str, int] = {}
        self._not_json: dict[str, list[Chunk]] = {}

    def __bool__(self) -> bool:
        return bool(self._queue or self._deferred or self._suspects)

    def add(self, chunks: Sequence[Chunk]) -> None:
        """More chunks to ask, the smallest of each series in front, suspects last and alone."""
        self._suspects.extend(chunk for chunk in chunks if self._is_suspect(chunk))
        chunks = [chunk for chunk in chunks if not self._is_suspect(chunk)]
        smallest: dict[Series, Chunk] = {}
        for chunk in chunks:
            best = smallest.get(chunk.series)
            if best is None or _size(chunk) < _size(best):
                smallest[chunk.series] = chunk
        first = {chunk.id for chunk in smallest.values()}
        self._queue.extend(smallest.values())
        self._queue.extend(chunk for chunk in chunks if chunk.id not in first)

    def _is_suspect(self, chunk: Chunk) -> bool:
        return self._crashes.get(chunk.id, 0) + self._interrupted.get(chunk.id, 0) >= SUSPECT

    def peek(self) -> Chunk:
        """Some chunk that is still to be asked. Raises IndexError when there is none."""
        return (self._queue or self._deferred or self._suspects)[0]

    def has_answered(self, endpoint: str) -> bool:
        """Whether the endpoint gave a page in this run."""
        return endpoint in self._endpoints

    def next(self, *, idle: bool) -> tuple[Chunk, bool] | None:
        """The next chunk and whether it must run alone; None when nothing may be asked now.

        `idle` says that no task is in flight: only then deferred chunks and suspects have their turn.
        """
        if idle and not self._queue:
            self._queue, self._deferred = self._deferred, self._queue
        for _ in range(len(self._queue)):
            chunk = self._queue.popleft()
            if chunk.series.endpoint in self.stopped:
                continue
            if chunk.series in self._open:
                return chunk, False
            if self._may_probe(chunk.series):
                self._probing.add(chunk.series)
                return chunk, False
            self._queue.append(chunk)
        while idle and self._suspects:
            chunk = self._suspects.popleft()
            if chunk.series.endpoint not in self.stopped:
                return chunk, True
        return None

    def _may_probe(self, series: Series) -> bool:
        """One canary a series; until its endpoint has answered anything, one for all its series."""
        if series.endpoint in self._endpoints:
            return series not in self._probing
        return all(other.endpoint != series.endpoint for other in self._probing)

    def answered(self, series: Series) -> None:
        """The series gave a page: all its chunks may be asked."""
        self._open.add(series)
        self._endpoints.add(series.endpoint)
        self._forbidden.pop(series.endpoint, None)
        self._not_json.pop(series.endpoint, None)

    def ended(self, series: Series) -> None:
        """A task of the series is over; if it was the canary and brought no page, the next chunk is the canary."""
        self._probing.discard(series)

    def again(self, chunk: Chunk) -> None:
        """Ask this one again soon."""
        self.ended(chunk.series)
        self._queue.appendleft(chunk)

    def defer(self, chunk: Chunk) -> bool:
        """Ask this one at the end of the run; False when it has been there before."""
        if chunk.id in self._second_wind:
            return False
        self.ended(chunk.series)
        self._second_wind.add(chunk.id)
        self._deferred.append(chunk)
        return True

    def crash(self, chunk: Chunk) -> bool:
        """A worker died with this chunk. False when it has had its strikes; from the second on it goes alone."""
        crashes = self._crashes[chunk.id] = self._crashes.get(chunk.id, 0) + 1
        if crashes >= CRASHES:
            self.ended(chunk.series)
            return False
        if not self._is_suspect(chunk):
            self.again(chunk)
        else:
            self._suspects.append(chunk)
        return True

    def forbidden(self, series: Series, reason: str) -> None:
        """402 or 403: a canary's stops the endpoint, later ones when three come in a row."""
        count = self._forbidden[series.endpoint] = self._forbidden.get(series.endpoint, 0) + 1
        if series not in self._open or count >= FORBIDDEN_IN_A_ROW:
            self.stop(series.endpoint, "forbidden", reason)

    def doubt(self, series: Series, reason: str) -> bool:
        """A refusal that names no symbol, from an endpoint that never gave a page: after some, stop it.

        The base URL or a parameter is wrong then, not the symbols. True when the endpoint is stopped.
        """
        endpoint = series.endpoint
        if endpoint in self._endpoints:
            return False
        self._doubts[endpoint] = self._doubts.get(endpoint, 0) + 1
        if self._doubts[endpoint] >= REFUSED_UNANSWERED:
            self.stop(endpoint, "refused", reason)
        return endpoint in self.stopped

    def not_json(self, chunk: Chunk, reason: str) -> bool:
        """An answer that no provider wrote; met by several chunks without a page in between, a captive portal's.

        True when the chunk stays open: its endpoint is stopped, or it is asked again at the end of the run. A chunk
        that overlaps one before it (its half, or itself again) takes its place: it may be the one that is poisoned.
        """
        endpoint = chunk.series.endpoint
        row = [other for other in self._not_json.get(endpoint, ()) if not _overlap(chunk, other)]
        self._not_json[endpoint] = row = [*row, chunk]
        waits = self.defer(chunk)
        hopeless = not waits and len(chunk.symbols) == 1 and endpoint not in self._endpoints
        if len(row) >= NOT_JSON_IN_A_ROW or hopeless:
            self.stop(endpoint, "unreachable", reason)
        return waits or endpoint in self.stopped

    def stop(self, endpoint: str, kind: str, reason: str) -> None:
        """Ask this endpoint nothing more in this run."""
        self.stopped.setdefault(endpoint, (kind, reason))


def _overlap(one: Chunk, other: Chunk) -> bool:
    same_time = one.window.start < other.window.end and other.window.start < one.window.end
    return one.series == other.series and same_time and not set(one.symbols).isdisjoint(other.symbols)


def _size(chunk: Chunk) -> tuple[int, int]:
    return len(chunk.symbols), (chunk.window.end - chunk.window.start).days

"""The permit records of a run: shared ones of its budgets, its own of `--max-rps`, and what it may ask in all."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from stagingest.fetching.messages import Route
from stagingest.http import rate_limiter
from stagingest.http.rate import RateState
from stagingest.http.rate_limiter import LimiterSpec, RequestQuota, SharedLimiter
from stagingest.model.chunk import to_json
from stagingest.providers import catalog, hosts
from stagingest.staging import storage
from stagingest.system import paths


class RunRateLimits:
    """Opened by the supervisor to see how the rate goes, described for the workers to ask.

    Args:
        root: staging root.
        run: id of the run; its own records are `tmp/<run>.*` and gone when it is closed.
        accesses: one per budget.
        environ: where the state directory is named.
        endpoints: what the run asks.
        max_rps: endpoint -> most requests a second of this run.
        requests: most requests of this run, None for no bound.
        say: told every second what the limiter does; None for nobody.
    """

    def __init__(
        self,
        root: Path,
        run: str,
        accesses: Sequence[hosts.Access],
        environ: Mapping[str, str],
        endpoints: Iterable[str],
        max_rps: Mapping[str, float],
        requests: int | None,
        say: Callable[[str], None] | None,
    ) -> None:
        own = root / storage.PARTS
        capped = {name: max_rps[name] for name in endpoints if name in max_rps}
        self.endpoint_limits = {
            name: LimiterSpec(own / f"{run}.{name.replace('/', '.')}.permit", rate, rate, rate)
            for name, rate in capped.items()
        }
        self.routes = {access.budget: _route(access, environ, capped) for access in accesses}
        self.quota = own / f"{run}.requests" if requests is not None else None
        if self.quota is not None and requests is not None:
            RequestQuota.grant(self.quota, requests)
        self._most_per_s = max(capped.values(), default=None)
        self._open: dict[str, SharedLimiter] = {name: route.limiter.open() for name, route in self.routes.items()}
        self._rates = Rates(root / "log" / f"{run}.rates.jsonl", self._open, say)

    def granted_per_s(self) -> float:
        """The rate at which the run gets permits now."""
        granted = min(limiter.counts().granted_per_s for limiter in self._open.values())
        return granted if self._most_per_s is None else min(granted, self._most_per_s)

    def note(self, now: datetime) -> None:
        """Record what happened since the last call."""
        self._rates.note(now)

    def close(self) -> None:
        """Let the shared records go, delete the run's own."""
        for limiter in self._open.values():
            limiter.close()
        for path in [spec.path for spec in self.endpoint_limits.values()] + ([self.quota] if self.quota else []):
            path.unlink(missing_ok=True)


def _route(access: hosts.Access, environ: Mapping[str, str], capped: Mapping[str, float]) -> Route:
    provider = access.budget.partition("/")[0]
    path = rate_limiter.record_path(paths.state_dir(environ), provider, access.origin, access.credential, access.budget)
    # What the user allows is taken for the plan until the provider says otherwise.
    declared = [rate for name, rate in capped.items() if catalog.endpoint(name).budget == access.budget]
    return Route(
        access.origin, access.headers, LimiterSpec(path, access.lowest_plan_per_s, max(declared, default=None))
    )


_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Rates:
    """The records of the budgets that a run asks.

    Args:
        path: `log/<run>.rates.jsonl`; a line is {at, budget, granted_per_s, answered, refused}, the counts being
            those of all processes of the machine since the line before.
        gates: budget -> its record.
        say: told the same in words; None for nobody.
    """

    def __init__(self, path: Path, rate_limits: Mapping[str, SharedLimiter], say: Callable[[str], None] | None) -> None:
        self._path, self._rate_limits, self._say = path, rate_limits, say
        self._last = {budget: limiter.state() for budget, limiter in rate_limits.items()}
        self._writes = True

    def note(self, now: datetime) -> None:
        """Look at every record; what has not changed is not told."""
        for budget, limiter in self._rate_limits.items():
            state, before = limiter.state(), self._last[budget]
            answered, refused = state.answered - before.answered, state.refused - before.refused
            if not (answered or refused) and state.granted_per_s == before.granted_per_s:
                continue
            self._last[budget] = state
            granted_per_s = round(state.granted_per_s, 3)
            line = {"at": now.isoformat(timespec="milliseconds"), "budget": budget, "granted_per_s": granted_per_s}
            self._write(to_json({**line, "answered": answered, "refused": refused}))
            if self._say:
                self._say(_words(budget, state, answered, refused))

    def _write(self, line: str) -> None:
        if not self._writes:
            return
        try:
            with open(os.open(self._path, _FLAGS, 0o600), "a") as file:
                file.write(f"{line}\n")
        except OSError:
            self._writes = False  # a full disk ends the run where it matters, at the chunks


def _words(budget: str, state: RateState, answered: int, refused: int) -> str:
    told = f", the headers allow {state.told_per_s * 60:.0f} a minute" if state.told_per_s else ""
    pause = f", pausing {state.pause_s:.1f} s at a time" if state.pause_s else ""
    return f"{budget}: {state.granted_per_s:.2f}/s granted, {answered} answered, {refused} refused{told}{pause}"

"""The permit records of a run: shared ones of its budgets, its own of `--max-rps`, and what it may ask in all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from stagingest import catalog, records, settings
from stagingest.allowance import Allowance
from stagingest.limiter import Gate, GateSpec
from stagingest.rates import Rates
from stagingest.worker import Route


class Gates:
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
        accesses: Sequence[settings.Access],
        environ: Mapping[str, str],
        endpoints: Iterable[str],
        max_rps: Mapping[str, float],
        requests: int | None,
        say: Callable[[str], None] | None,
    ) -> None:
        own = root / "tmp"
        capped = {name: max_rps[name] for name in endpoints if name in max_rps}
        self.caps = {
            name: GateSpec(own / f"{run}.{name.replace('/', '.')}.permit", rate, rate, rate)
            for name, rate in capped.items()
        }
        self.routes = {access.budget: _route(access, environ, capped) for access in accesses}
        self.allowance = own / f"{run}.requests" if requests is not None else None
        if self.allowance is not None and requests is not None:
            Allowance.grant(self.allowance, requests)
        self._most_per_s = max(capped.values(), default=None)
        self._open: dict[str, Gate] = {name: route.gate.open() for name, route in self.routes.items()}
        self._rates = Rates(root / "log" / f"{run}.rates.jsonl", self._open, say)

    def granted_per_s(self) -> float:
        """The rate at which the run gets permits now."""
        granted = min(gate.counts().granted_per_s for gate in self._open.values())
        return granted if self._most_per_s is None else min(granted, self._most_per_s)

    def note(self, now: datetime) -> None:
        """Record what happened since the last call."""
        self._rates.note(now)

    def close(self) -> None:
        """Let the shared records go, delete the run's own."""
        for gate in self._open.values():
            gate.close()
        for path in [spec.path for spec in self.caps.values()] + ([self.allowance] if self.allowance else []):
            path.unlink(missing_ok=True)


def _route(access: settings.Access, environ: Mapping[str, str], capped: Mapping[str, float]) -> Route:
    provider = access.budget.partition("/")[0]
    path = records.record_path(settings.state_dir(environ), provider, access.origin, access.credential, access.budget)
    # What the user allows is taken for the plan until the provider says otherwise.
    declared = [rate for name, rate in capped.items() if catalog.endpoint(name).budget == access.budget]
    return Route(access.origin, access.headers, GateSpec(path, access.lowest_plan_per_s, max(declared, default=None)))

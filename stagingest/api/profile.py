"""A profile: several fetches, one after the other, and a load that follows them into one target."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagingest.api import config, fetch, load
from stagingest.errors import Exit, StagingError, StagingestError, UsageError, worst
from stagingest.loading.follow import BackgroundLoader
from stagingest.planning import fetch_options, symbols
from stagingest.planning.fetch_options import BY_NAME, OPTIONS, Kind, dataset_of
from stagingest.providers import catalog
from stagingest.staging.manifest import has_manifest
from stagingest.system import platform

if TYPE_CHECKING:
    from stagingest.api.fetch import Fetched, PlanReport
    from stagingest.fetching.supervisor import Listener
    from stagingest.loading.loader import Listener as LoadListener
    from stagingest.loading.summary import LoadSummary
    from stagingest.targets import TargetOptions


_PROFILE = ("staging", "to", "preset", "steps", "lock_timeout", "memory_limit")


@dataclass(frozen=True, slots=True)
class Step:
    """A fetch of a profile: the dataset, and keywords of `stagingest.fetch`."""

    dataset: str
    asked: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Profile:
    """What `[profile.NAME]` says.

    Args:
        steps: in the order they run: listings first, for bars are asked of the contracts they find.
        staging: the staging directory. to: the target, as in `load`.
        lock_timeout: how long the last load waits for a target that somebody else has, as in `load`.
        memory_limit: as in `load`.
    """

    name: str
    steps: tuple[Step, ...]
    staging: str = "staging"
    to: str = "market.duckdb"
    lock_timeout: str = "0"
    memory_limit: str = "1GB"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run did: of each step what it did or the error that ended it, and what was loaded."""

    steps: tuple[tuple[str, "Fetched | StagingestError"], ...]
    loaded: "LoadSummary | StagingestError | None"

    @property
    def exit_code(self) -> int:
        """The worst of all, in the order of `errors.Exit`."""
        codes = [found.exit_code for _, found in self.steps]
        if isinstance(self.loaded, StagingestError):
            codes.append(self.loaded.exit_code)
        elif self.loaded is not None and self.loaded.skipped:
            codes.append(Exit.INCOMPLETE)
        return worst(codes)


def profile(name: str, found: config.Config, preset: str = "") -> Profile:
    """The profile of that name, its steps complete: a step's own words over the profile's preset.

    Raises UsageError naming the file, and the nearest name.
    """
    source = found.table("profile", name)
    where, said = f"{source.file}: [profile.{name}]", dict(source.value)
    config.check_names(where, said, _PROFILE)
    steps = said.pop("steps", [])
    if not isinstance(steps, list) or not steps or not all(isinstance(step, dict) for step in steps):
        raise UsageError(f"{where} has no steps.", f"Write [[profile.{name}.steps]] with a dataset.")
    under = _keywords(where, config.preset(preset or str(said.pop("preset", "balanced")), found))
    said.pop("preset", None)
    made = [_step(f"{where} step {number}", step, under) for number, step in enumerate(steps, 1)]
    made.sort(key=lambda step: not catalog.resolve(step.dataset, step.asked.get("provider")).kind.finds_names)
    return Profile(name, tuple(made), **{key: str(value) for key, value in said.items()})


def _step(where: str, said: Mapping[str, Any], under: Mapping[str, Any]) -> Step:
    asked = {name.replace("-", "_"): value for name, value in said.items()}
    dataset = asked.pop("dataset", None)
    if not isinstance(dataset, str):
        raise UsageError(f"{where} names no dataset.", 'Write dataset = "stock-bars".')
    config.check_names(where, asked, [option.name for option in OPTIONS if option.step])
    for name in asked:
        if BY_NAME[name].kind in (Kind.NAMES, Kind.FILES) and not isinstance(asked[name], list):
            asked[name] = str(asked[name]).split(",")
    try:
        fetch_options.refuse(dataset_of(dataset), dataset, asked)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", error.next_step) from None
    for file in asked.pop("symbols_file", ()):
        asked["symbols"] = [*asked.get("symbols", ()), *symbols.from_file(file)]
    return Step(dataset, {**under, **_keywords(where, asked)})


def _keywords(where: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Rates and lanes as the library takes them: by endpoint."""
    found = dict(asked)
    for name, kind in (("max_rps", float), ("lanes", int)):
        if name in found and not isinstance(found[name], Mapping):
            values = found[name] if isinstance(found[name], list) else [found[name]]
            try:
                pairs = [str(value).rpartition("=")[::2] for value in values]
                found[name] = {endpoint: kind(number) for endpoint, number in pairs}
            except ValueError:
                raise UsageError(f"{where}: {name} = {found[name]!r} is no number.", "Write 3.3 or 8.") from None
    return found


def looked(plan: Profile, clock: Callable[[], datetime] = platform.utc_now) -> list["PlanReport"]:
    """The plan of every step; asks nothing. Raises UsageError for a step that cannot be asked."""
    return [
        fetch.plan(step.dataset, staging=plan.staging, clock=clock, **fetch_options.of_plan(step.asked))
        for step in plan.steps
    ]


def run(
    plan: Profile,
    *,
    how: "TargetOptions | None" = None,
    environ: Mapping[str, str] | None = None,
    listener: "Listener | None" = None,
    load_listener: "LoadListener | None" = None,
    clock: Callable[[], datetime] = platform.utc_now,
) -> Ran:
    """Fetch every step and load what they stage, meanwhile and afterwards; the same call continues after anything.

    A step that fails leaves the others: its error is in the answer. A step that cannot be asked raises before anything
    is.

    Raises UsageError as `looked`.
    """
    with suppress(StagingError):  # what a killed fetch left is for the next one to mend
        looked(plan, clock)
    steps: list[tuple[str, Fetched | StagingestError]] = []

    def once(*, last: bool) -> "LoadSummary":
        from dataclasses import replace

        from stagingest.targets import TargetOptions

        patient = how or TargetOptions(memory_limit=plan.memory_limit)
        patient = patient if last else replace(patient, lock_timeout_s=0.0)
        return load.load(plan.staging, plan.to, how=patient, listener=load_listener)

    loader: BackgroundLoader | None = None
    try:
        for step in plan.steps:
            try:
                found: Fetched | StagingestError = fetch.fetch(
                    step.dataset, staging=plan.staging, environ=environ, listener=listener, clock=clock, **step.asked
                )
            except StagingestError as error:
                found = error
            steps.append((step.dataset, found))
            if loader is None and has_manifest(Path(plan.staging)):
                loader = BackgroundLoader(once)
    except BaseException:
        if loader:
            loader.stop()
        raise
    return Ran(tuple(steps), loader.finish() if loader else None)


def problems(found: config.Config, options: Iterable[str]) -> Sequence[str]:
    """What is wrong with endpoints, presets and profiles, a sentence each; `options` are those of a fetch."""
    known, said = list(options), []

    def endpoint(name: str) -> None:
        config.flat({name: found.named["endpoint"][name].value})

    def preset(name: str) -> None:
        config.check_names(f"[preset.{name}]", config.preset(name, found), known)

    for kind, check in (("endpoint", endpoint), ("preset", preset), ("profile", lambda name: profile(name, found))):
        for name, source in found.named.get(kind, {}).items():
            try:
                check(name)
            except UsageError as error:
                where = f"{source.file}: "
                said.append(str(error) if str(error).startswith(where) else f"{where}[{kind}.{name}]: {error}")
    return said

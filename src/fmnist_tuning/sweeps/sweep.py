"""One YAML file: the arms of a sweep, its seeds, its claims and its figure."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Self

import pydantic
from pydantic import Field, ValidationError

from fmnist_tuning.sweeps.arms import (
    SETTINGS,
    Arm,
    problem_of_arms,
    problems_of_labels,
    problems_of_settings,
    run_config,
    settings_of_arms,
    without_labels,
)
from fmnist_tuning.sweeps.marks import Settings
from fmnist_tuning.sweeps.problems import Frozen, Problem, nearest, problems_of, raise_problems
from fmnist_tuning.sweeps.search import Search, problems_with_fixed, whole_settings
from fmnist_tuning.sweeps.sections import Claim, Combine, Figure, Line, Seed, SweepId, Text
from fmnist_tuning.sweeps.settings import RunConfig, format_value
from fmnist_tuning.text import shorten, shown

MAX_ARMS: Final = 100_000
MAX_SEEDS: Final = 1_000
MAX_RUNS: Final = 100_000
MAX_ID: Final = 64

FINALISTS: Final = "_finalists"
"""What the id of a search's finalists ends with."""

BASE: Final = "base"
"""The name of the configuration that they are compared with: what the search's file fixes."""

Look = Annotated[int, Field(ge=1, le=MAX_SEEDS)]


class Sweep(Frozen):
    """The content of a sweep's file; its arms come from `grid`, `arms`, `combine` or `search`.

    A combination has both `combine` and `arms` once its arms are chosen, and a search has the
    trials so far as its arms. The context
    `{"figures": AXES}` makes the validation check the figure too: it has the axes of every kind.
    It is a `ValidationError` if one of the arms cannot be trained.
    """

    id: Annotated[SweepId, Field(alias="sweep")]
    title: Line
    hypothesis: Text = ""
    fixed: Settings = Field(default_factory=dict)
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    listed: Annotated[tuple[Settings, ...], Field(alias="arms")] = ()
    combine: Combine | None = None
    search: Search | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS)] = (0,)
    # Numbers of seeds at which the claims are judged; none: once, with all seeds.
    looks: Annotated[tuple[Look, ...], Field(max_length=100)] = ()
    # Arms that have more seeds than `seeds`, by label; `fmnist run --decide` extends them.
    arm_seeds: dict[str, Look] = Field(default_factory=dict)
    max_seeds: Look | None = None  # of any arm, for `fmnist run --decide`
    claims: Annotated[tuple[Claim, ...], Field(max_length=100)] = ()
    figure: Figure | None = None
    _arms: tuple[Arm, ...] = pydantic.PrivateAttr(())

    @pydantic.model_validator(mode="after")
    def _trainable(self, info: pydantic.ValidationInfo) -> Self:
        problems = [*problems_of_settings(("fixed",), self.fixed), *self._problems_of_swept()]
        if len(set(self.seeds)) < len(self.seeds):
            text = f"found {shown(self.seeds)}, allowed: each seed once"
            problems.insert(0, Problem(("seeds",), text))
        if list(self.looks) != sorted(set(self.looks)):
            text = f"found {shown(self.looks)}, allowed: growing numbers of seeds, such as [5, 10]"
            problems.insert(0, Problem(("looks",), text))
        # Arms are built only if every single value is right, so that one mistake is reported once.
        if not problems:
            self._arms = tuple(self._build(problems))
        if not problems:
            kinds = info.context and info.context["figures"]
            problems = [*self._problems_of_claims(), *self.problems_of_figure(kinds)]
        raise_problems(problems)
        return self

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms of the list, or of the grid, whose last axis varies fastest."""
        return self._arms

    @property
    def swept(self) -> tuple[str, ...]:
        """The settings that the file varies between arms, in the order of the file."""
        keys = [*self.grid, *(self.search.space if self.search else ())]
        keys += [key for arm in self.listed for key in without_labels(arm)]
        return tuple(dict.fromkeys(keys))

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        """An arm's seeds: the sweep's, and further ones if it is extended.

        All trials of a search have the same one; its `seeds` are those of its finalists.
        """
        if self.search:
            return (self.search.seed,)
        return self.first_seeds(max(len(self.seeds), self.arm_seeds.get(arm.label, 0)))

    def first_seeds(self, count: int) -> tuple[int, ...]:
        """The first `count` seeds: the sweep's own, then those that follow its highest."""
        after = max(self.seeds) + 1
        return (*self.seeds, *range(after, after + count - len(self.seeds)))[:count]

    @property
    def runs(self) -> int:
        """How many runs its arms have."""
        return sum(len(self.seeds_of(arm)) for arm in self.arms)

    @property
    def pending(self) -> bool:
        """Whether the sweep is a combination or a search that has no arms yet."""
        return (self.combine or self.search) is not None and not self.listed

    @property
    def are_finalists(self) -> bool:
        """Whether its arms are chosen, now or later, by a search."""
        return self.combine is not None and self.combine.trials is not None

    @property
    def to_come(self) -> int:
        """How many trials of a search are not proposed yet."""
        return self.search.trials - len(self.listed) if self.search else 0

    def definition(self) -> dict[str, Any]:
        """The content of a file for this sweep, without default values."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def changed(self, **values: object) -> "Sweep":
        """A copy with other values, by their YAML keys; it is validated like any sweep."""
        return Sweep.model_validate(self.model_dump(by_alias=True) | values)

    def _build(self, problems: list[Problem]) -> Iterator[Arm]:
        """Yield every valid arm, and add the problems of the others to `problems`."""
        seen: dict[RunConfig, str] = {}
        names: set[str] = set()
        where = "arms" if self.listed else "grid"
        impossible: dict[Problem, list[tuple[int, str]]] = {}  # with the arms that have it
        combinations = [*self._combinations()]
        settings = self._settings_of([overrides for _, overrides, _ in combinations])
        for index, (name, overrides, predicted) in enumerate(combinations):
            values = " ".join(f"{k}={shorten(format_value(v))}" for k, v in overrides.items())
            try:
                config = run_config(settings[index])
            except ValidationError as error:
                for problem in problems_of(error, RunConfig):
                    impossible.setdefault(problem, []).append((index, name or values))
                continue
            place = (where, index) if self.listed else (where,)
            if config in seen:
                problems.append(Problem(place, f"{name or values} repeats {seen[config]}"))
            if name in names:
                problems.append(Problem(place, f"the name {name} is already taken"))
            seen.setdefault(config, name or values)
            names |= {name} if name else set()
            yield Arm(name, overrides, config, predicted)
        for problem, arms in impossible.items():
            shared = self.fixed if len(arms) == len(combinations) else {}
            problems.append(problem_of_arms(problem, arms, where, shared))

    def _settings_of(self, arms: list[Settings]) -> list[Settings]:
        """What is fixed together with what each arm has of its own."""
        if self.search is None:
            return settings_of_arms(self.fixed, arms)
        return [whole_settings(self.fixed, arm, self.search.space) for arm in arms]

    def _combinations(self) -> Iterator[tuple[str | None, Settings, float | None]]:
        for arm in self.listed:
            yield arm.get("name"), without_labels(arm), arm.get("predicted")
        if self.grid:
            for values in itertools.product(*self.grid.values()):
                yield None, dict(zip(self.grid, values, strict=True)), None

    def _problems_of_swept(self) -> list[Problem]:
        given: dict[str, object] = {"grid": self.grid, "arms": self.listed}
        given |= {"combine": self.combine, "search": self.search}
        makers = [key for key, value in given.items() if value]
        if len(makers) != 1 and makers not in (["arms", "combine"], ["arms", "search"]):
            found = " and ".join(makers) or "none of them"
            return [Problem((), f"found {found}, allowed: one of grid, arms, combine and search")]
        size = len(self.listed) or math.prod(map(len, self.grid.values()))
        if size > MAX_ARMS:
            return [Problem((makers[0],), f"found {size:,} arms, allowed: at most {MAX_ARMS:,}")]
        if size * len(self.seeds) > MAX_RUNS:
            text = f"found {len(self.seeds):,} for each of {size:,} arms"
            return [Problem(("seeds",), f"{text}, allowed: at most {MAX_RUNS:,} runs a sweep")]
        problems = []
        for key, levels in self.grid.items():
            for index, level in enumerate(levels):
                # A wrong key is reported once, a wrong value at its own place.
                place = ("grid", key, index) if key in SETTINGS else ("grid", key)
                found_here = problems_of_settings((), {key: level})
                problems += [Problem((*place, *p.path[1:]), p.text) for p in found_here]
        for index, arm in enumerate(self.listed):
            problems += problems_of_settings(("arms", index), without_labels(arm))
            problems += problems_of_labels(("arms", index), arm)
        if self.search:
            return list(dict.fromkeys([*problems, *self._problems_of_search(self.search)]))
        for key in set(self.fixed) & set(self.swept):
            problems.append(Problem(("fixed", key), "the sweep varies it too; keep one of them"))
        return list(dict.fromkeys(problems))

    def _problems_of_search(self, search: Search) -> list[Problem]:
        judged = "its finalists are judged, by claims of their own; remove it"
        own = {"claims": self.claims, "looks": self.looks, "arm_seeds": self.arm_seeds}
        problems = [Problem((key,), judged) for key, value in own.items() if value]
        if self.figure:
            problems.append(Problem(("figure",), "a search has figures of its own; remove it"))
        if self.seeds and search.seed >= min(self.seeds):  # further ones follow the highest
            text = f"found {min(self.seeds)}, allowed: more than {search.seed}, the search's own"
            problems.append(Problem(("seeds",), text))
        if len(self.id) + len(FINALISTS) > MAX_ID:
            most = MAX_ID - len(FINALISTS)
            problems.append(Problem(("sweep",), f"allowed with search: {most} characters at most"))
        if len(self.listed) > search.trials:
            text = f"found {len(self.listed)}, allowed: at most trials = {search.trials}"
            problems.append(Problem(("arms",), text))
        unknown = {key for arm in self.listed for key in without_labels(arm)} - {*search.space}
        problems += [Problem(("arms",), f"found {key}, which is not searched") for key in unknown]
        if problems or self.listed or problems_of_settings((), self.fixed):
            return problems
        return problems_with_fixed(search, self.fixed)

    def _problems_of_claims(self) -> list[Problem]:
        if self.pending:
            return []
        return [
            Problem(
                ("claims", index, side),
                f"found {shown(selector)}, which matches no arm of this sweep; allowed: "
                + ", ".join(arm.label for arm in self.arms[:8]),
            )
            for index, claim in enumerate(self.claims)
            for side, selector in (("arm", claim.arm), ("versus", claim.versus))
            if not (side == "versus" and claim.versus_sweep)
            and not any(arm.matches(selector) for arm in self.arms)
        ] + [
            Problem(("claims", index, "versus"), "these are the arms of `arm`; name others")
            for index, claim in enumerate(self.claims)
            if not claim.versus_sweep
            and any(arm.matches(claim.arm) for arm in self.arms)
            and all(arm.matches(claim.arm) == arm.matches(claim.versus) for arm in self.arms)
        ]

    def problems_of_figure(self, kinds: Mapping[str, tuple[str, ...]] | None) -> list[Problem]:
        """The problems of the figure; `kinds` has the axes of every kind, if these are known."""
        if self.figure is None or kinds is None:
            return []
        kind = self.figure.kind
        if kind not in kinds:
            return [Problem(("figure", "kind"), f"found {shown(kind)}{nearest(kind, kinds)}")]
        if self.pending:
            return []
        swept = ", ".join(self.swept)
        problems = []
        for axis in ("x", "y"):
            setting, needed = getattr(self.figure, axis), axis in kinds[kind]
            if setting not in self.swept if needed else setting is not None:
                allowed = f"one of {swept}" if needed else "none; remove it"
                text = f"found {shown(setting)}, allowed with {kind}: {allowed}"
                problems.append(Problem(("figure", axis), text))
        axes = {self.figure.x, self.figure.y}
        if len(kinds[kind]) > 1 and not problems and (set(self.swept) != axes or len(axes) == 1):
            text = f"a {kind} has room for two settings, x and y; this sweep varies {swept}"
            problems.append(Problem(("figure", "kind"), text))
        return problems


def search_of(sweep: Sweep) -> Search:
    """The section `search`; a `TypeError` if the sweep has none."""
    if sweep.search is None:
        raise TypeError(f"{sweep.id} is no search")
    return sweep.search

"""Reads sweep files and command-line overrides, and reports all problems of all files at once."""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from fmnist_tuning.errors import ConfigError
from fmnist_tuning.sweeps.arms import (
    SETTINGS,
    problems_of_settings,
    run_config,
    unknown_setting,
)
from fmnist_tuning.sweeps.datasets import Shape
from fmnist_tuning.sweeps.finalists import finalists_sweep
from fmnist_tuning.sweeps.looks import STANDARD_LOOKS
from fmnist_tuning.sweeps.plain_yaml import MAX_BYTES, YamlError, read_yaml
from fmnist_tuning.sweeps.problems import Problem, as_json, dotted, nearest, problems_of
from fmnist_tuning.sweeps.proposing import Trial, propose
from fmnist_tuning.sweeps.search import whole_settings
from fmnist_tuning.sweeps.shapes import all_there_are, too_few
from fmnist_tuning.sweeps.sweep import MAX_SEEDS, Sweep
from fmnist_tuning.text import by_number, shown

FRESH_SEEDS_FROM: Final = 1_000
"""Added to the seeds of a combination, so the seeds that picked its arms do not also judge them."""

_Context = Mapping[str, Any] | None
Lines = Mapping[tuple[str | int, ...], int]


def load_sweeps(
    paths: Sequence[Path],
    overrides: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    *,
    figures: Mapping[str, tuple[str, ...]] | None = None,
    shapes: Mapping[str, Shape] | None = None,
) -> list[Sweep]:
    """Read sweep files in the order given; a folder stands for its YAML files, in order of name.

    A search is followed by the sweep of its finalists. `overrides` replace or extend every sweep's
    `fixed`; `seeds` replace every sweep's own.
    `figures` are the kinds of figure with the axes that each needs; None does not check figures.
    `shapes` are those of data sets whose images are not the published ones, once they are read.

    Raises:
        ConfigError: With every problem of every file.
    """
    problems: list[str] = []
    sweeps: dict[str, tuple[Path, Sweep]] = {}
    context = None if figures is None else {"figures": figures}
    for path in _files(paths, problems):
        sweep = _load(path, dict(overrides or {}), seeds, context, problems, shapes=shapes or {})
        if sweep is None:
            continue
        problems += [f"{path}: {problem}" for problem in _closed(sweep)]
        problems += too_few(path, sweep, shapes or {})
        for one in (sweep, finalists_sweep(sweep)) if sweep.search else (sweep,):
            if one.id in sweeps:
                other = sweeps[one.id][0]
                problems.append(f"{path}: sweep: {one.id} is already the name of {other}")
            sweeps.setdefault(one.id, (path, one))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return [sweep for _, sweep in sweeps.values()]


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` pairs, whose values have the types of YAML.

    Raises:
        ConfigError: For anything else, and for keys that are no settings of a run.
    """
    problems: list[str] = []
    settings: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        place = f"--set {dotted((key,))}"
        if not equals:
            problems.append(f"--set {shown(assignment)}: allowed: key=value")
        elif key == "seed":
            problems.append(f"{place}: is not set here; give `--seeds {text},`")
        elif key not in SETTINGS:
            problems.append(f"{place}: {unknown_setting(key)}")
        elif key in settings:
            problems.append(f"{place}: given twice")
        else:
            try:
                settings[key] = read_yaml(text)[0]
            except YamlError as error:
                problems.append(f"{place}: found {shown(text)}: {error}")
                continue
            wrong = problems_of_settings((), {key: settings[key]})
            problems += [f"--set {problem}" for problem in wrong]
    if problems:
        raise ConfigError(problems)
    return settings


def parse_seeds(text: str) -> list[int]:
    """Read `3` as the seeds 0, 1, 2, and `0,5,7` or `7,` as a list; else raise `ConfigError`."""
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) <= 10]  # noqa: PLR2004  2**32 has ten
    listed = parts[:-1] if len(parts) > 1 and not parts[-1] else parts
    if len(numbers) == len(listed) and max(numbers) < 2**32:
        if len(parts) > 1 and len(numbers) <= MAX_SEEDS and len(set(numbers)) == len(numbers):
            return numbers
        if len(parts) == 1 and 1 <= numbers[0] <= MAX_SEEDS:
            return list(range(numbers[0]))
    problem = (
        f"--seeds: found {shown(text)}, allowed: how many seeds, from 1 to {MAX_SEEDS} (3 is "
        "0,1,2), or a list of different seeds, such as 0,5,7; one seed is named with a comma: 7,"
    )
    raise ConfigError([problem])


def _files(paths: Sequence[Path], problems: list[str]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        try:
            if path.is_dir():
                found = filter(_is_sweep_file, path.iterdir())
                inside = sorted(found, key=lambda file: by_number(file.name))
                if not inside:
                    problems.append(f"{path}: this folder has no .yaml file")
                files += inside
            elif path.exists():
                files.append(path)
            else:
                problems.append(f"{path}: no such file{_nearest_file(path)}")
        except OSError as error:  # the name is too long, or we may not read the folder
            problems.append(f"{shown(str(path))}: cannot be read: {error.strerror}")
    return list(dict.fromkeys(files))


def _is_sweep_file(path: Path) -> bool:
    # Editors and copies from other systems leave hidden files beside a file.
    return path.suffix.lower() in {".yaml", ".yml"} and not path.name.startswith(".")


def _nearest_file(path: Path) -> str:
    """`; did you mean configs/exp1.yaml?`, or the names that are there."""
    folder = next(folder for folder in (path.parent, *path.parents) if folder.is_dir())
    wanted = path.relative_to(folder).parts[0]
    there = [p.name for p in folder.iterdir() if _is_sweep_file(p)]
    if wanted != path.name or not there:  # the folder's name may be the wrong one
        there += [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return nearest(wanted, sorted(there)) if there else ""


def _read(path: Path) -> str:
    try:
        # Reading a pipe or a device might wait for ever, or never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise YamlError("not a file; allowed: files, and folders of them")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise YamlError(f"longer than {MAX_BYTES:,} bytes; a sweep fits into a page")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise YamlError("not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror}") from None


def _load(
    path: Path,
    overrides: dict[str, Any],
    seeds: Sequence[int] | None,
    context: _Context,
    problems: list[str],
    *,
    shapes: Mapping[str, Shape],
) -> Sweep | None:
    try:
        raw, lines = read_yaml(_read(path))
    except YamlError as error:
        line = "" if error.line is None else f":{error.line}"
        problems.append(f"{path}{line}: {error}")
        return None
    if not isinstance(raw, dict):
        problems.append(f"{path}: found {shown(raw)}, allowed: a mapping that starts with `sweep:`")
        return None
    swept = {*_keys(raw.get("grid")), *(k for arm in _items(raw.get("arms")) for k in _keys(arm))}
    swept |= {*_keys(raw["search"].get("space"))} if isinstance(raw.get("search"), dict) else set()
    for key in sorted(overrides.keys() & swept):
        problems.append(f"{path}: --set {key}: this sweep varies it; edit the file instead")
    fixed = {} if raw.get("fixed") is None else raw["fixed"]
    if isinstance(fixed, dict):
        fixed = {**fixed, **{k: v for k, v in overrides.items() if k not in swept}}
        if raw.get("search"):  # a search chooses, so the test set must not
            fixed = {"validation": "holdout"} | fixed
        raw = {**raw, "fixed": all_there_are(fixed, swept, shapes) | fixed}
    if "dataset" in swept and "folder" in _swept_datasets(raw):
        problems.append(f"{path}: dataset: folder is set in `fixed` or by --set, and not varied")
        return None
    raw = _with_seeds(raw, seeds)
    try:
        return Sweep.model_validate_json(as_json(raw), context=context)
    except ValidationError as error:
        found = _all_problems(raw, problems_of(error, Sweep), context)
        given = overrides if seeds is None else {**overrides, "--seeds": seeds}
        found.sort(key=lambda problem: _line_of(problem, lines) or 0)
        problems += [_told(path, p, lines, given) for p in found]
        return None


def _closed(sweep: Sweep) -> list[str]:
    """What only the study itself writes, and a space in which nothing can be tried."""
    if sweep.combine and sweep.combine.trials:
        return ["combine.trials: unknown key; allowed: from, top, max_params"]
    if sweep.search is None:
        return []
    if sweep.listed:
        return ["arms: found with search, which tries its own; remove them"]
    try:
        first = propose(sweep.search, sweep.fixed, (), ())
        tried = run_config(whole_settings(sweep.fixed, first, sweep.search.space))
        if sweep.search.trials > 1:
            propose(sweep.search, sweep.fixed, (Trial(first, "running"),), (tried,))
    except ConfigError as error:
        return error.problems
    return []


def _with_seeds(raw: dict[str, Any], seeds: Sequence[int] | None) -> dict[str, Any]:
    """With `seeds` instead of its own; `{first: 3, most: 12}` is `[0, 1, 2]` and `max_seeds: 12`.

    Of a combination and a search the first one is another. What is wrong stays as it is.
    """
    start = FRESH_SEEDS_FROM if raw.get("combine") or raw.get("search") else 0
    if raw.get("search") and "seeds" not in raw:
        raw = {**raw, "seeds": [*range(start, start + STANDARD_LOOKS[0])]}
    if isinstance(raw.get("seeds"), dict):
        first, most = (raw["seeds"].get(key) for key in ("first", "most"))
        if type(first) is type(most) is int and 1 <= first <= most <= MAX_SEEDS:
            raw = {**raw, "seeds": [*range(start, start + first)], "max_seeds": most}
    return raw if seeds is None else {**raw, "seeds": [start + seed for seed in seeds]}


def _all_problems(raw: dict[str, Any], found: list[Problem], context: _Context) -> list[Problem]:
    # pydantic checks the parts first, and the whole only if all parts are right. So the right parts
    # are checked once more without the wrong ones.
    if any(problem.path[:1] == ("fixed",) and len(problem.path) > 1 for problem in found):
        return found  # the whole was checked, and arms say nothing without their settings
    wrong = {problem.path[0] for problem in found if problem.path}
    rest = {key: value for key, value in raw.items() if key not in wrong}
    try:
        Sweep.model_validate_json(as_json({"sweep": "sweep", "title": "", **rest}), context=context)
    except ValidationError as error:
        more = problems_of(error, Sweep)
        return found + [p for p in more if p.path and p not in found]
    return found


def _swept_datasets(raw: Mapping[str, Any]) -> list[Any]:
    grid = raw.get("grid")
    levels = _items(grid.get("dataset")) if isinstance(grid, dict) else []
    return levels + [a.get("dataset") for a in _items(raw.get("arms")) if isinstance(a, dict)]


def _keys(value: object) -> list[str]:
    return [str(key) for key in value] if isinstance(value, dict) else []


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _line_of(problem: Problem, lines: Lines) -> int | None:
    place = problem.path
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place)


def _told(path: Path, problem: Problem, lines: Lines, overrides: Any) -> str:
    if problem.path[:1] == ("fixed",) and len(problem.path) > 1 and problem.path[1] in overrides:
        return f"--set {dotted(problem.path[1:])}: {problem.text}"
    if problem.path[:1] == ("seeds",) and "--seeds" in overrides:
        return f"{path}: --seeds: {problem.text}"
    number = _line_of(problem, lines)
    line = "" if number is None else f":{number}"
    key = f"{dotted(problem.path)}: " if problem.path else ""
    return f"{path}{line}: {key}{problem.text}"

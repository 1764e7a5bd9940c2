"""The journal: its template, filled in from a study."""

import difflib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from jinja2 import Environment, FunctionLoader, StrictUndefined

from fmnist_tuning import DEFAULT_STUDY
from fmnist_tuning.analysis.looks import CLAIMS_RATE, REST_RATE
from fmnist_tuning.errors import JournalError
from fmnist_tuning.metrics import LATE_ACCURACY, METRICS
from fmnist_tuning.report.journal import answers
from fmnist_tuning.report.journal.blocks import read_blocks, replace_blocks
from fmnist_tuning.report.journal.search_section import SearchSection
from fmnist_tuning.report.journal.section import Section, table
from fmnist_tuning.report.journal.winner import Winner
from fmnist_tuning.report.study import StudyResults
from fmnist_tuning.report.wording import capital, listed, outcome
from fmnist_tuning.store import records
from fmnist_tuning.sweeps.datasets import DATASETS
from fmnist_tuning.text import counted, markdown, markdown_code

_MANY = 8
_SIX: Final = "six_experiments.md"
_OWN: Final = "own_experiments.md"


def read_text(path: Path) -> str | None:
    """A journal's present text, or None if there is no file.

    Raises:
        JournalError: When it cannot be read as text.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        return None  # a pipe or a device has no present text, and reading it might wait for ever
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise JournalError(f"{path}: cannot be read: {reason}") from None


def write_journal(
    results: StudyResults, present: str | None, path: Path, figures: Path = Path("visualizations")
) -> str:
    """The journal's text: a new one, or the present one with its blocks written anew.

    The path is for messages only. A new journal says that the study's pictures are in `figures`.

    Raises:
        JournalError: When the present text's markers are damaged or missing, or name another study.
    """
    fresh = _render(results, figures, present)
    if present is None:
        return fresh
    try:
        _check_study(present, results.study.name)
        return replace_blocks(present, read_blocks(fresh))
    except JournalError as error:
        raise JournalError(f"{path}: {error}") from None


def journal_diff(present: str, text: str, path: Path) -> str:
    """What `write_journal` would change, as a unified diff."""
    lines = difflib.unified_diff(
        present.splitlines(keepends=True), text.splitlines(keepends=True), str(path), "the study"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _direction(sections: Sequence[Section], setting: str, text: str) -> str:
    """A future direction, ticked if the study has runs that differ in its setting."""
    tried = [
        f"*{section.title}* (`{section.id}`)"
        for section in sections
        if len({getattr(arm.config, setting) for arm in section.frames.arms}) > 1
    ]
    return f"- [x] {text}: see {listed(tried)}" if tried else f"- [ ] {text}"


def _check_study(present: str, study: str) -> None:
    """Refuse the journal of another study; journals of older versions do not name theirs."""
    found = re.search(r"<!-- fmnist:study (.+) -->", present)
    if found is not None and found[1] != quote(study):
        raise JournalError(
            f"it is the journal of the study {unquote(found[1])}, not of {study}; name another "
            "file with --output, or that study with --study"
        )


def _render(results: StudyResults, figures: Path, present: str | None) -> str:
    sections = {
        sweep: (SearchSection if frames.sweep.search else Section)(frames, results.sweeps)
        for sweep, frames in results.sweeps.items()
        if frames.arms
    }
    environment = Environment(  # noqa: S701  Markdown, in which `markdown` disarms what comes from outside
        loader=FunctionLoader(_part),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Some sweeps have a section of their own in the template; all others share one at its end.
    six = set(re.findall(r'of\("(\w+)"\)', _part(_SIX)))
    if present is None:
        own = results.study.name != DEFAULT_STUDY and six.isdisjoint(sections)
    else:
        own = "fmnist:begin exp1_dropout.setup" not in present

    return environment.get_template(_OWN if own else _SIX).render(
        sections=defaultdict(lambda: None, sections),
        more=[section for sweep, section in sections.items() if own or sweep not in six],
        answers=answers,
        datasets=_datasets(list(sections.values())),
        direction=partial(_direction, list(sections.values())),
        param=partial(_values, results),
        study=markdown_code(results.study.name),
        study_marker=f"<!-- fmnist:study {quote(results.study.name)} -->",
        figures=markdown_code(figures.as_posix()),
        total_runs=_total(results),
        certain=any(
            verdict is not None and not math.isnan(verdict.contrast.low)
            for section in sections.values()
            for _, verdict in section.judged
        ),
        summary=_summary(list(sections.values())),
        started=_day(min(run.started for run in results.runs)),
        completed=_day(max(run.ended for run in results.runs)),
        author=_tags(results, records.USER),
        python=_tags(results, records.PYTHON),
        torch=_tags(results, records.TORCH),
        mlflow=_tags(results, records.MLFLOW),
        device=_devices(results),
        validated_on=_validated_on(results),
        best=Winner(sections),
        claims=_claims(list(sections.values())),
    )


def _part(name: str) -> str:
    """A template, or a part that templates share."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _summary(sections: Sequence[Section]) -> str:
    """How many claims are decided, at which looks, by which spread, and how often that is wrong."""
    judged = [verdict for section in sections for _, verdict in section.judged]
    if not judged:
        return "No sweep makes claims."
    words = Counter("not judged" if verdict is None else verdict.word for verdict in judged)
    counts = [
        f"{words[word]} {'undecided' if word == 'inconclusive' else word}"
        for word in ("supported", "refuted", "equivalent", "inconclusive", "not judged")
        if words[word]
    ]
    looks = {verdict.look for verdict in judged if verdict is not None}
    claims = [section for section in sections if section.judged]
    wrong = 1 - (1 - CLAIMS_RATE - REST_RATE) ** len(claims)
    spread = claims[0].pool.spread(LATE_ACCURACY, [claims[0].frames.arms[0].config])
    repeats = (
        " Repeats of one configuration have a standard deviation of "
        f"{math.sqrt(spread.paired) * 100:.2f} points ({METRICS[LATE_ACCURACY].label}; "
        f"{spread.freedom} degrees of freedom, pooled over the arms)."
        if spread.prior
        else ""
    )
    return (
        f"**Verdicts:** of {counted(len(judged), 'claim')}, {listed(counts)}, judged at "
        f"{listed([str(look) for look in sorted(looks)])} seed{'s' * (looks != {1})}.{repeats} "
        f"At most {(CLAIMS_RATE + REST_RATE) * 100:.0f} % of such sweeps hold a wrong verdict, and "
        f"{wrong * 100:.0f} % of studies with {counted(len(claims), 'sweep')}."
    )


def _claims(sections: Sequence[Section]) -> str:
    """All claims of a study in a table: what was claimed, and what was found."""
    rows = []
    for section in sections:
        for claim, verdict in section.judged:
            said = outcome(claim, verdict, section.frames)
            word = "not judged" if verdict is None else verdict.word
            rest = said.removeprefix(word).lstrip(": ")
            rows.append([f"`{section.id}`", capital(markdown(claim.that)), f"**{word}**", rest])
    return table(["Experiment", "Claim", "Verdict", "Found"], rows) if rows else ""


def _total(results: StudyResults) -> str:
    places = sum(len(frames.rows) for frames in results.sweeps.values())
    text = f"{counted(places, 'run')} of {counted(len(results.sweeps), 'sweep')}"
    if places == len(results.runs):
        return text
    return (
        f"{text}, which are {counted(len(results.runs), 'training')}: runs of one configuration, "
        "seed and data are shared"
    )


def _tags(results: StudyResults, tag: str) -> str:
    return listed(sorted({markdown(run.tags.get(tag, "unknown")) for run in results.runs}))


def _devices(results: StudyResults) -> str:
    devices = {
        markdown(f"{run.device.upper()} ({run.tags.get(records.PROCESSOR, 'unknown')})")
        for run in results.runs
    }
    return listed(sorted(devices))


def _values(results: StudyResults, param: str) -> str:
    """A setting's value, or all values that occur, thousands with commas; of many, the ends."""
    found = {run.params.get(param, "unknown") for run in results.runs}
    if not all(re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?(e-[0-9]{1,3})?", text) for text in found):
        return listed(sorted(markdown(text) for text in found))
    numbers = sorted(float(text) if {*".e"} & {*text} else int(text) for text in found)
    shown = [str(n) if param == "seed" or n < 1 else f"{n:,}" for n in numbers]
    if len(numbers) > _MANY:
        return f"{shown[0]} to {shown[-1]} ({len(numbers)} of them)"
    return listed(shown)


def _validated_on(results: StudyResults) -> str:
    kinds = {run.params.get("validation", "test") for run in results.runs}
    if kinds == {"test"}:
        return "the test set: what was chosen by it looks a little too good"
    if kinds == {"holdout"}:
        return "held out of the training images"
    return "some runs on the test set, some on images held out"


def _datasets(sections: Sequence[Section]) -> list[str]:
    """What the runs were trained on; three lines for Fashion-MNIST alone, as the journal has it."""
    configs = [arm.config for section in sections for arm in section.frames.arms]
    used = {config.dataset: config for config in configs}
    if [*used] == ["fashion_mnist"]:
        return ["Fashion MNIST", "Classes: 10", "Image size: 28×28 grayscale"]
    shapes = {
        name: f"{config.image_size}×{config.image_size} pixels, "
        f"{'colour' if config.image_channels > 1 else 'grayscale'}"
        for name, config in used.items()
    }
    return [
        f"{DATASETS[name].title}: {config.classes} classes, {shapes[name]}"
        for name, config in used.items()
    ]


def _day(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return "unknown"

"""How results are printed: labelled facts, tables, and text that is safe on a terminal."""

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape as without_markup
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table

from fmnist_tuning import DEFAULT_STUDY
from fmnist_tuning.analysis.best import standings
from fmnist_tuning.analysis.frames import SweepFrames, summary
from fmnist_tuning.analysis.searching import BEST_SHOWN, finalists_of, ranked_trials, trials_of
from fmnist_tuning.analysis.verdicts import judge_claims
from fmnist_tuning.metrics import ACCURACY, LATE_EPOCHS, METRICS
from fmnist_tuning.report.wording import finalist_summary, outcome, search_summary, spread
from fmnist_tuning.running.events import PlanResults
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.sweep import Sweep, search_of
from fmnist_tuning.text import command_name, printable

if TYPE_CHECKING:
    from fmnist_tuning.champion import Evaluation, Finalist
    from fmnist_tuning.prediction import Answer
    from fmnist_tuning.report.study import StudyResults
    from fmnist_tuning.store.study import Study

MOST_LINES: Final = 200
"""What a plan prints of each kind, at most: more is for programs to read."""

_WIDTH_OFF_TERMINAL = 120
_MINUTE = 60
_HOUR = 3600


def escape(text: str) -> str:
    """A text from outside that rich can print: no markup, and no terminal control characters."""
    return without_markup(printable(text))


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console on stdout or stderr; without a terminal, it is wide enough for our tables."""
    made = Console(stderr=stderr, quiet=quiet, highlight=False, soft_wrap=False)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdecimal():
        made.width = _WIDTH_OFF_TERMINAL
    return made


def facts(out: Console, lines: Mapping[str, str]) -> None:
    """Print a labelled line for each fact, without line breaks inside."""
    for label, text in lines.items():
        out.print(f"[bold]{label:<7}[/bold] {escape(text)}", soft_wrap=True)


def print_next(out: Console, study: "Study") -> None:
    """Print what shows the verdicts of a study, and its runs in a browser."""
    more = "" if study.name == DEFAULT_STUDY else f" --study {shlex.quote(study.name)}"
    facts(out, {"judge": f"{command_name('fmnist')} results{more}", "browse": study.browse_hint()})


def print_outcome(out: Console, results: PlanResults, every: Mapping[str, SweepFrames]) -> None:
    """Print a table and the verdicts for each sweep of a plan that was run, and what failed.

    `every` are all of the study's sweeps by id.
    """
    for sweep in results.sweeps:
        if sweep in results.blocked:
            reason = results.blocked[sweep]
            out.print(escape(f"{sweep}: not run: {reason}"), soft_wrap=True)
        if sweep in results.finished:
            _print_sweep(out, every[sweep], every)
        for run, reason in results.failed:
            if run.sweep == sweep:
                out.print(escape(f"{run.name}: FAILED: {reason}"), style="red", soft_wrap=True)


_LOOK: Final[dict[str, Any]] = {
    "box": SIMPLE_HEAD,
    "pad_edge": False,
    "padding": (0, 1),
    "collapse_padding": True,
    "title_style": "bold",
    "title_justify": "left",
}
_COLUMNS: Final = {metric.column: metric for metric in METRICS.values() if metric.column}


def print_arms(out: Console, frames: SweepFrames, others: Mapping[str, SweepFrames]) -> None:
    """Print a row for each arm: the mean over its n seeds, and ± the standard deviation if n > 1.

    A star marks the best validation accuracy. A tilde marks arms that may be just as good.
    """
    header = ("", "arm", "n", *_COLUMNS, "params", "time")
    places = standings(frames, ACCURACY, others)
    lines = []
    for arm in frames.arms:
        place = places[arm.label]
        summaries = {m.name: summary(frames, arm, m.name) for m in _COLUMNS.values()}
        line = (
            "*" if place.best else "~" if place.tied else "",
            escape(arm.label),
            str(summaries[ACCURACY].seeds),
            *(spread(METRICS[name], found, unit=False) for name, found in summaries.items()),
            METRICS["total_params"].format(summary(frames, arm, "total_params").mean),
            duration(summary(frames, arm, "train_seconds").mean),
        )
        lines.append(line)
    least = ("time", "params", "train loss", "val loss", "train acc %")
    title = escape(f"{frames.sweep.id}: {frames.sweep.title}")
    right, least_places = range(2, len(header)), [header.index(column) for column in least]
    print_table(out, header, lines, right=right, least=least_places, title=title)
    marks = {line[0] for line in lines}
    seeds = max(int(line[2]) for line in lines)
    alone = ", as nothing can with one seed" if seeds == 1 else ""
    legend = ["* best mean val accuracy"] if len(lines) > 1 else []
    legend += [f"~ cannot be told apart from it{alone}"] if "~" in marks else []
    legend += ["± standard deviation over the seeds"] if seeds > 1 else []
    epochs = min(arm.config.epochs for arm in frames.arms)
    last = f"the last {LATE_EPOCHS}" if epochs > LATE_EPOCHS else "all"
    legend += [f"late: mean of {last} epochs"] if epochs > 1 else []
    if legend:
        out.print(Padding("; ".join(legend), (0, 0, 0, 2)), style="dim")


def _print_sweep(out: Console, frames: SweepFrames, others: Mapping[str, SweepFrames]) -> None:
    """Print a sweep's table and its verdicts, or a search's best trials and what came of them."""
    if frames.sweep.search:
        print_trials(out, frames, others)
        return
    if frames.arms:
        print_arms(out, frames, others)
    print_verdicts(out, frames, others)


def print_trials(out: Console, frames: SweepFrames, others: Mapping[str, SweepFrames]) -> None:
    """Print a search's best trials, and how much the search flattered its finalists."""
    search, best = search_of(frames.sweep), ranked_trials(frames)
    metric = METRICS[search.metric]
    header = ("trial", "settings", metric.label, "epochs", "params", "time")
    lines = [
        (
            str(trial.number),
            escape(Arm(None, trial.arm.overrides, trial.arm.config).label),
            metric.format(trial.value),
            str(trial.epochs),
            METRICS["total_params"].format(summary(frames, trial.arm, "total_params").mean),
            duration(summary(frames, trial.arm, "train_seconds").mean),
        )
        for trial in best[:BEST_SHOWN]
    ]
    title = escape(f"{frames.sweep.id}: {frames.sweep.title}")
    print_table(out, header, lines, right=(0, 2, 3, 4, 5), least=(5, 4, 3), title=title)
    shown = f"; the best {BEST_SHOWN} are shown" if len(best) > BEST_SHOWN else ""
    summed = search_summary(metric, trials_of(frames), best, frames.sweep.to_come)
    out.print(Padding(escape(summed + shown), (0, 0, 0, 2)))
    for finalist in finalists_of(frames, others):
        text = f"{finalist.arm.name}: {finalist_summary(metric, finalist)}."
        out.print(Padding(escape(text), (0, 0, 0, 2)))


def print_verdicts(out: Console, frames: SweepFrames, others: Mapping[str, SweepFrames]) -> None:
    """Print a line for each claim of a sweep."""
    for claim, verdict in judge_claims(frames, others):
        text = escape(f"{claim.that}: {outcome(claim, verdict, frames)}")
        out.print(Padding(text, (0, 0, 0, 2)))


def print_study(out: Console, results: "StudyResults") -> None:
    """Print each sweep's table and the verdicts on its claims."""
    for frames in results.sweeps.values():
        _print_sweep(out, frames, results.every)
        if frames.missing:
            out.print(escape(frames.lacking), style="yellow")
        out.print()


def print_finalist(out: Console, finalist: "Finalist", evaluation: "Evaluation") -> None:
    """Print a finalist's name, and whether its network still has the accuracy that was logged."""
    role = "champion" if finalist.champion else "finalist"
    out.print(f"[bold]{role}[/bold] {escape(finalist.title)}", soft_wrap=True)
    if evaluation.accuracy is None:
        out.print("  its weights are not in this store: not scored, not drawn", style="yellow")
        return
    as_logged = (
        "as its run logged"
        if evaluation.accuracy == evaluation.logged
        else f"its run logged {percent(evaluation.logged)}"
    )
    out.print(f"  {percent(evaluation.accuracy)} scored again, {as_logged}")
    if evaluation.registered is not None:
        out.print(f"  {escape(evaluation.registered)}")


def print_predictions(out: Console, answers: "Sequence[Answer]") -> None:
    """Print a row for each image: the two most probable garments, and the truth if it is known."""
    known = any(answer.truth for answer in answers)
    header = ("image", "garment", "probability", "next", "", *(("truth",) if known else ()))
    lines = []
    for answer in answers:
        (first, chance), (second, rest) = [*answer.probabilities.items()][:2]
        missed = "" if answer.truth in (None, first) else " (missed)"
        truth = (f"{answer.truth or ''}{missed}",) if known else ()
        lines.append((escape(answer.image), first, percent(chance), second, percent(rest), *truth))
    print_table(out, header, lines, right=(2, 4))


def duration(seconds: float) -> str:
    """`47 s`, `12 min`, `3 h 05 min`."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    minutes = round(seconds / _MINUTE)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def print_table(
    out: Console,
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    right: Sequence[int],
    least: Sequence[int] = (),
    title: str | None = None,
) -> None:
    """Print a table; a narrow terminal gets it without its `least` important columns.

    Columns are named by their places. Those on the `right` are numbers, which never fold.
    """
    wide = out.options.update(max_width=1000)  # or rich would measure no more than fits
    filled = [place for place in range(len(header)) if any(line[place] for line in lines)]
    least = [place for place in least if place in filled]
    for dropped in range(len(least) + 1):
        kept = [place for place in filled if place not in least[:dropped]]
        table = Table(title=title, **_LOOK)
        for place in kept:
            cells = [Measurement.get(out, wide, line[place]) for line in (header, *lines)]
            if place in right:
                width = max(cell.maximum for cell in cells)
                table.add_column(header[place], justify="right", no_wrap=True, min_width=width)
            else:
                # Without this, rich folds inside words when the terminal is narrow.
                width = max(cell.minimum for cell in cells)
                table.add_column(header[place], overflow="fold", min_width=width)
        if Measurement.get(out, wide, table).minimum <= out.width:
            break
    for line in lines:
        table.add_row(*(line[place] for place in kept))
    out.print(table)
    if dropped:
        hidden = ", ".join(header[place] for place in least[:dropped])
        out.print(f"not shown, as the terminal is narrow: {hidden}", style="dim", soft_wrap=True)


def percent(fraction: float) -> str:
    """`92.21 %`."""
    return f"{fraction * 100:.2f} %"


def choices_of(sweep: Sweep) -> list[str]:
    """A line for each arm of a combination, with what it was chosen by."""
    said = "val accuracy in the search" if sweep.are_finalists else "predicted val accuracy"
    scores = ("" if a.predicted is None else f": {said} {percent(a.predicted)}" for a in sweep.arms)
    return [f"{arm.label}{score}" for arm, score in zip(sweep.arms, scores, strict=True)]

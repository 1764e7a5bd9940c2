"""How results are printed: labelled facts, tables, and text that is safe on a terminal."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape as without_markup
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table

from fmnist_tuning.analysis.best import standings
from fmnist_tuning.analysis.frames import SweepFrames, summary
from fmnist_tuning.analysis.verdicts import judge_claims
from fmnist_tuning.metrics import ACCURACY, METRICS
from fmnist_tuning.report.wording import outcome, spread
from fmnist_tuning.running.events import PlanResults
from fmnist_tuning.sweeps.plan import Plan
from fmnist_tuning.sweeps.runs import parameter_count
from fmnist_tuning.text import printable

if TYPE_CHECKING:
    from fmnist_tuning.champion import Evaluation, Finalist
    from fmnist_tuning.prediction import Answer
    from fmnist_tuning.report.study import StudyResults

_WIDTH_OFF_TERMINAL = 120
_MINUTE = 60
_HOUR = 3600


def escape(text: str) -> str:
    """A text from outside that rich can print: no markup, and no terminal control characters."""
    return without_markup(printable(text))


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console on stdout or stderr; without a terminal, it is wide enough for our tables."""
    made = Console(stderr=stderr, quiet=quiet, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = _WIDTH_OFF_TERMINAL
    return made


def facts(out: Console, lines: Mapping[str, str]) -> None:
    """Print a labelled line for each fact, without line breaks inside."""
    for label, text in lines.items():
        out.print(f"[bold]{label:<7}[/bold] {escape(text)}", soft_wrap=True)


def print_plan(out: Console, plan: Plan, workers: int) -> None:
    """Print every run of a plan in order, and their totals."""
    table = _table("#", "sweep", "arm", "seed", "params", "", "about", right=(0, 3, 4, 6))
    for number, row in enumerate(plan.rows, 1):
        what = {"train": "train", "reuse": "reuse", "share": "same as"}[row.action]
        table.add_row(
            str(number),
            row.run.sweep,
            escape(row.run.arm.label),
            str(row.run.config.seed),
            f"{parameter_count(row.run.config):,}",
            escape(f"{what} {row.source}" if row.source else what),
            duration(row.seconds) if row.seconds else "",
        )
    number = len(plan.rows)
    for sweep in plan.pending:
        for place in range(sweep.combine.top if sweep.combine else 0):
            for seed in sweep.seeds:
                number += 1
                arm = f"number {place + 1} by prediction"
                what = "chosen after the others"
                table.add_row(str(number), sweep.id, arm, str(seed), "", what)
    _print_table(out, table, least=("params", "about"))
    for sweep in plan.chosen:
        for choice in sweep.arms:
            predicted = percent(choice.predicted or math.nan)
            line = f"{sweep.id} {choice.label}: predicted val accuracy {predicted}"
            out.print(escape(line), soft_wrap=True)
    out.print(escape(_totals(plan, workers)), soft_wrap=True)


def _totals(plan: Plan, workers: int) -> str:
    runs = len(plan.rows) + plan.pending_runs
    trainings = len(plan.trainings) + plan.pending_runs
    counts: Counter[str] = Counter(row.action for row in plan.rows)
    kinds = (("reuse", "reused from the study"), ("share", "shared"))
    parts = [f"{counts[action]} {kind}" for action, kind in kinds if counts[action]]
    text = f"{runs} runs make {trainings} trainings" + (f" ({', '.join(parts)})" if parts else "")
    if seconds := plan.seconds(workers):
        beside = f", and {plan.pending_runs} more to be chosen" if plan.pending else ""
        text += f"; about {duration(seconds)} with {workers} at a time{beside}"
    elif trainings:
        text += "; no earlier run shows how long they take"
    return text


def print_outcome(out: Console, results: PlanResults, every: Mapping[str, SweepFrames]) -> None:
    """Print a table for each sweep of a plan that was run, and what failed.

    `every` are all of the study's sweeps by id.
    """
    for sweep in results.sweeps:
        if sweep in results.blocked:
            reason = results.blocked[sweep]
            out.print(escape(f"{sweep}: not run: {reason}"), soft_wrap=True)
        if sweep in results.finished:
            _print_arms(out, every[sweep], every)
        for run, reason in results.failed:
            if run.sweep == sweep:
                out.print(escape(f"{run.name}: FAILED: {reason}"), style="red", soft_wrap=True)


_COLUMNS: Final = {metric.column: metric for metric in METRICS.values() if metric.column}


def arms_table(frames: SweepFrames, others: Mapping[str, SweepFrames]) -> Table:
    """A row for each arm: the mean over its n seeds, and ± the standard deviation if n > 1.

    A star marks the best validation accuracy. A tilde marks arms that may be just as good.
    """
    table = _table("", "arm", "n", *_COLUMNS, "params", "time", right=range(2, 10))
    table.title = escape(f"{frames.sweep.id}: {frames.sweep.title}")
    table.title_justify = "left"
    places = standings(frames, ACCURACY, others)
    for arm in frames.arms:
        place = places[arm.label]
        summaries = {m.name: summary(frames, arm, m.name) for m in _COLUMNS.values()}
        table.add_row(
            "*" if place.best else "~" if place.tied else "",
            escape(arm.label),
            str(summaries[ACCURACY].seeds),
            *(spread(METRICS[name], found, unit=False) for name, found in summaries.items()),
            METRICS["total_params"].format(summary(frames, arm, "total_params").mean),
            duration(summary(frames, arm, "train_seconds").mean),
        )
    return table


def _print_arms(out: Console, frames: SweepFrames, others: Mapping[str, SweepFrames]) -> None:
    least = [
        METRICS[name].column
        for name in ("final_train_loss", "final_val_loss", "final_train_accuracy")
    ]
    _print_table(out, arms_table(frames, others), least=("time", "params", *least))


def print_study(out: Console, results: "StudyResults") -> None:
    """Print each sweep's table and the verdicts on its claims."""
    for frames in results.sweeps.values():
        if frames.arms:
            _print_arms(out, frames, results.every)
        for claim, verdict in judge_claims(frames, results.every):
            text = escape(f"{claim.that}: {outcome(claim, verdict)}")
            out.print(Padding(text, (0, 0, 0, 2)))
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
    columns = ("image", "garment", "probability", "next", "", *(("truth",) if known else ()))
    table = _table(*columns, right=(2, 4))
    for answer in answers:
        (first, chance), (second, rest) = [*answer.probabilities.items()][:2]
        row = [escape(answer.image), first, percent(chance), second, percent(rest)]
        if known:
            missed = "" if answer.truth in (None, first) else " (missed)"
            row.append(f"{answer.truth or ''}{missed}")
        table.add_row(*row)
    out.print(table)


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


def _table(*columns: str, right: Sequence[int]) -> Table:
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, title_style="bold"
    )
    for index, column in enumerate(columns):
        if index in right:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def _print_table(out: Console, table: Table, least: Sequence[str | None]) -> None:
    """Print a table; a narrow terminal gets it without its `least` important columns."""
    wide = out.options.update(max_width=1000)
    for column in table.columns:
        cells = [Measurement.get(out, wide, cell) for cell in (column.header, *column.cells)]
        # Without this, rich folds inside words when the terminal is narrow.
        column.min_width = max(c.maximum if column.no_wrap else c.minimum for c in cells)
    left_out = []
    for header in least:
        if Measurement.get(out, wide, table).minimum <= out.width:
            break
        table = _without(table, header)
        left_out.append(str(header))
    out.print(table)
    if left_out:
        hidden = ", ".join(left_out)
        out.print(f"not shown, as the terminal is narrow: {hidden}", style="dim", soft_wrap=True)


def _without(table: Table, header: str | None) -> Table:
    columns = [column for column in table.columns if column.header != header]
    rest = _table(right=())
    rest.title, rest.title_justify = table.title, table.title_justify
    for column in columns:
        rest.add_column(
            column.header,
            justify=column.justify,
            overflow=column.overflow,
            min_width=column.min_width,
            no_wrap=column.no_wrap,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        rest.add_row(*row)
    return rest


def percent(fraction: float) -> str:
    """`92.21 %`."""
    return f"{fraction * 100:.2f} %"

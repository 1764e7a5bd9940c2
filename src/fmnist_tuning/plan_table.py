"""How a plan is printed: its runs one by one, or a large one's by sweep, and what they cost."""

from collections import Counter

from rich.console import Console

from fmnist_tuning.sweeps.cost import parameter_count
from fmnist_tuning.sweeps.plan import Plan, PlanRow
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.terminal import MOST_LINES, choices_of, duration, escape, print_table
from fmnist_tuning.text import counted


def print_plan(out: Console, plan: Plan, workers: int) -> None:
    """Print every run of a plan in order, or every sweep of a large one, and the totals.

    A plan is large if it has more than `MOST_LINES` runs.
    """
    many = len(plan.rows) + plan.pending_runs > MOST_LINES
    if many:
        _print_sweeps(out, plan)
    else:
        _print_runs(out, plan)
    for sweep in plan.chosen:
        for line in choices_of(sweep):
            out.print(escape(f"{sweep.id} {line}"), soft_wrap=True)
    out.print(escape(_totals(plan, workers)), soft_wrap=True)
    if many:
        out.print("`fmnist plan --json` lists every run", soft_wrap=True)


def _print_runs(out: Console, plan: Plan) -> None:
    header = ("#", "sweep", "arm", "seed", "params", "", "about")
    lines: list[tuple[str, ...]] = []
    for number, row in enumerate(plan.rows, 1):
        what = {"share": "same as"}.get(row.action, row.action)
        entry = (
            str(number),
            row.run.sweep,
            escape(row.run.arm.label),
            str(row.run.config.seed),
            f"{parameter_count(row.run.config):,}",
            escape(f"{what} {row.source}" if row.source else what),
            duration(row.seconds) if row.seconds else "",
        )
        lines.append(entry)
    number = len(plan.rows)
    for sweep in plan.searches:
        if sweep.to_come:
            what = "proposed one after another"
            rest = counted(sweep.to_come, "further trial")
            lines.append(
                ("", sweep.id, rest, str(sweep.search.seed) if sweep.search else "", "", what, "")
            )
    for sweep in plan.pending:
        for arm in plan.pending_arms(sweep):
            for seed in sweep.seeds:
                number += 1
                what = "chosen last, on fresh seeds"
                lines.append((str(number), sweep.id, arm, str(seed), "", what, ""))
    print_table(out, header, lines, right=(0, 3, 4, 6), least=(6, 4))


def _print_sweeps(out: Console, plan: Plan) -> None:
    """Print a line for each sweep; of very many, those that train something come first."""
    rows: dict[str, list[PlanRow]] = {sweep.id: [] for sweep in plan.sweeps}
    for row in plan.rows:
        rows[row.run.sweep].append(row)
    lines = [_of_sweep(plan, sweep, rows[sweep.id]) for sweep in plan.sweeps]
    left_out = len(lines) - MOST_LINES
    if left_out > 0:
        lines = sorted(lines, key=lambda line: not line[3])[:MOST_LINES]
    header = ("sweep", "arms", "runs", "train", "reuse", "share", "one after the other")
    print_table(out, header, lines, right=range(1, 7), least=(6, 1))
    if left_out > 0:
        out.print(f"and {counted(left_out, 'further sweep')}", soft_wrap=True)


def _of_sweep(plan: Plan, sweep: Sweep, rows: list[PlanRow]) -> tuple[str, ...]:
    if sweep.search:
        arms = sweep.search.trials
        counts = Counter(row.action for row in rows) + Counter(train=sweep.to_come)
    elif sweep.pending:
        arms = len(plan.pending_arms(sweep))
        counts = Counter(train=arms * len(sweep.seeds))
    else:
        arms = len(sweep.arms)
        counts = Counter(row.action for row in rows)
    times = [row.seconds for row in rows if row.action == "train"]
    known = [seconds for seconds in times if seconds is not None]
    about = duration(sum(known)) if known and len(known) == len(times) else ""
    kinds = (counts["train"], counts["reuse"], counts["share"])
    shown = (f"{count:,}" if count else "" for count in kinds)
    return sweep.id, f"{arms:,}", f"{counts.total():,}", *shown, about


def _totals(plan: Plan, workers: int) -> str:
    runs = len(plan.rows) + plan.pending_runs
    trainings = len(plan.trainings) + plan.pending_runs
    counts: Counter[str] = Counter(row.action for row in plan.rows)
    kinds = (("reuse", "reused from the study"), ("share", "shared"), ("pruned", "pruned"))
    parts = [f"{counts[action]:,} {kind}" for action, kind in kinds if counts[action]]
    text = f"{counted(runs, 'run')} make{'s' * (runs == 1)} {counted(trainings, 'training')}"
    text += f" ({', '.join(parts)})" if parts else ""
    if seconds := plan.seconds(workers):
        beside = f", and {plan.pending_runs} more to be chosen" if plan.pending_runs else ""
        text += f"; about {duration(seconds)} with {workers} at a time{beside}"
    elif trainings:
        text += "; no earlier run shows how long they take"
    return text

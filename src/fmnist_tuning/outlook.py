"""What is said while claims are decided: which are, what the rest takes, what seeds can see."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding

from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.deciding import ClaimState, Forecast, cost
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.report.wording import listed, outcome
from fmnist_tuning.sweeps.plan import Plan
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.terminal import MOST_LINES, duration, escape, facts
from fmnist_tuning.text import counted


def print_looks(out: Console, sweep: Sweep) -> None:
    """Say that a sweep is judged at planned looks from now on, and why."""
    looks = listed([str(look) for look in sweep.looks])
    reason = (
        f"{sweep.id} is judged at {looks} seeds, and not in between: it had another number of "
        "seeds before, and who judges again after every new seed finds differences that are not "
        "there. A verdict of before may be open again until more seeds come"
    )
    facts(out, {"looks": reason})


def print_states(
    out: Console, found: Sequence[ClaimState], every: Mapping[str, SweepFrames], workers: int
) -> None:
    """Print a line for each claim: its verdict, and what an open one would still take."""
    decided = sum(state.decided for state in found)
    facts(out, {"claims": f"{decided} of {len(found)} are decided"})
    for state in found:
        said = outcome(state.claim, state.verdict, every[state.sweep])
        line = f"{state.sweep}: {state.claim.that}: {said}{_still(state, every, workers)}"
        out.print(Padding(escape(line), (0, 0, 0, 2)))


def _still(state: ClaimState, every: Mapping[str, SweepFrames], workers: int) -> str:
    needed = state.verdict.seeds_needed if state.verdict else None
    if state.decided or needed is None:
        return ""
    ends = [_cost(state, seeds, every, workers) for seeds in needed if seeds is not None]
    return f" ({' to '.join(dict.fromkeys(ends))})"


def _cost(state: ClaimState, seeds: int, every: Mapping[str, SweepFrames], workers: int) -> str:
    trainings, seconds = cost(state, seeds, every)
    text = counted(trainings, "training")
    return text if seconds is None else f"{text}, {duration(seconds / workers)}"


def print_over_budget(out: Console, trainings: int, seconds: float | None) -> None:
    """Say that the next look is not started."""
    about = "an unknown time" if seconds is None else f"about {duration(seconds)}"
    what = f"{counted(trainings, 'training')} in {about}"
    facts(out, {"budget": f"the next look takes {what}, which is more than is left: not started"})


def print_forecasts(out: Console, forecasts: Sequence[Forecast], claims: int) -> None:
    """Print how many seeds each claim needs; there may be more `claims` than forecasts."""
    further = claims - len(forecasts)
    if not forecasts:
        if further:
            out.print(f"{counted(further, 'claim')}: exact, or no estimate is possible")
        return
    assumed = any(forecast.assumed for forecast in forecasts)
    where = "in the shipped study" if assumed else "in the runs so far"
    out.print(
        f"How many seeds see a difference as large as its margin in four of five studies, if "
        f"repeats differ as {where}:"
    )
    for forecast in forecasts[:MOST_LINES]:
        metric = METRICS[forecast.claim.metric]
        margin = metric.format_difference(forecast.claim.margin).lstrip("+")
        if forecast.sees is None:
            sees = "1 planned, which sees none"
        else:
            size = metric.format_difference(forecast.sees).lstrip("+")
            sees = f"{forecast.seeds} planned, which see {size}"
        if forecast.claim.margin > 0:
            most = f"not even {forecast.most} seeds see {margin}"
            needed = f"{forecast.needed} seeds see {margin}" if forecast.needed else most
            sees = f"{needed} ({sees})"
        line = f"{forecast.sweep}: {forecast.claim.that}: {sees}"
        out.print(Padding(escape(line), (0, 0, 0, 2)))
    if len(forecasts) > MOST_LINES:
        out.print(f"  and {counted(len(forecasts) - MOST_LINES, 'further claim')} like these")
    if further:
        out.print(f"  {counted(further, 'further claim')}: exact, or no estimate is possible")


def print_at_most(out: Console, most: Plan, workers: int) -> None:
    """Print what all looks together cost, if every claim stays open."""
    trainings = len(most.trainings) + most.pending_runs
    text = f"with --decide at most {counted(trainings, 'training')}"
    if seconds := most.seconds(workers):
        text += f", about {duration(seconds)} with {workers} at a time"
    out.print(f"{text}, if the claims that are open stay so; most are decided sooner")

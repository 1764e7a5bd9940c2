"""What a journal's section says about a search: its space, its best trials, what came of them."""

import math
from collections.abc import Mapping
from typing import Any

from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.analysis.searching import (
    BEST_SHOWN,
    finalists_of,
    flattery,
    importances_of,
    ranked_trials,
    trials_of,
)
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.report.journal.section import Section, table
from fmnist_tuning.report.wording import (
    capital,
    finalist_summary,
    listed,
    search_summary,
    setting_value,
    settings_of,
)
from fmnist_tuning.sweeps.search import Range
from fmnist_tuning.sweeps.settings import format_value, label_of
from fmnist_tuning.sweeps.sweep import search_of
from fmnist_tuning.text import counted, markdown


class SearchSection(Section):
    """A search for a journal's template, in place of a sweep."""

    def __init__(self, frames: SweepFrames, others: Mapping[str, SweepFrames]) -> None:
        super().__init__(frames, others)
        self.search = search_of(frames.sweep)
        self.metric = METRICS[self.search.metric]
        self.figure_files = [f"{self.id}.png", f"{self.id}_slices.png"]

    def setup(self) -> str:
        """What was searched, and how."""
        search, sweep = self.search, self.frames.sweep
        space = [f"`{key}` {_level(level)}" for key, level in search.levels.items()]
        pruned = "" if search.prune == "none" else f", pruned by `{search.prune}`"
        trials = search_summary(
            self.metric, trials_of(self.frames), ranked_trials(self.frames), sweep.to_come
        )
        fixed = [f"`{key}` = {markdown(format_value(v))}" for key, v in sweep.fixed.items()]
        return "\n".join(
            [
                f"- **Space:** {'; '.join(space)}",
                f"- **Search:** {counted(search.trials, 'trial')}, proposed by `{search.sampler}`"
                f"{pruned}, judged by the {self.metric.label}",
                f"- **Fixed Config:** {', '.join(fixed)}",
                f"- **Outcome:** {trials}",
            ]
        )

    def results(self, **_columns: str) -> str:
        """The best trials."""
        best = ranked_trials(self.frames)
        rows = [
            [
                str(trial.number),
                settings_of(trial.arm),
                self.metric.format(trial.value),
                self.value_of(trial.arm, "total_params"),
                self.value_of(trial.arm, "train_seconds"),
            ]
            for trial in best[:BEST_SHOWN]
        ]
        text = table(["Trial", "Settings", capital(self.metric.label), "Params", "Time"], rows)
        shown = f"the best {len(rows)} of {counted(len(best), 'complete trial')}; "
        note = f"{shown}one seed each, by which they were chosen, so that the best look too good"
        return f"{text}\n\n<sub>From {self.source}. {capital(note)}.</sub>"

    def claims(self) -> str:
        """What the finalists are by fresh seeds, how much the search flattered them, and why."""
        finalists = finalists_of(self.frames, self.others)
        lines = [
            f"- **{markdown(one.arm.name or '')}:** {finalist_summary(self.metric, one)}."
            for one in finalists
        ]
        mean = flattery(finalists)
        if not math.isnan(mean):
            size = self.metric.format_difference(abs(mean)).lstrip("+")
            far = "much" if mean > 0 else "little"
            lines.append(f"- **Flattery:** on average, the search promised {size} too {far}.")
        shares = importances_of(self.frames)
        if shares:
            parts = [f"{label_of(key)} {share * 100:.0f} %" for key, share in shares.items()]
            lines.append(f"- **Importance** (fANOVA, of the complete trials): {listed(parts)}.")
        return "\n".join(lines)


def _level(level: Range | list[Any]) -> str:
    if isinstance(level, Range):
        by = ", by its logarithm" if level.log else ""
        by += f", in steps of {level.step:g}" if level.step is not None else ""
        return f"from {level.low:g} to {level.high:g}{by}"
    return f"= {', '.join(setting_value(value) for value in level)}"

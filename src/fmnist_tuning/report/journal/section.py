"""What a journal's section says about one sweep: its setup, tables, verdicts and lessons."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from fmnist_tuning.analysis.best import Standing, ranked, standings
from fmnist_tuning.analysis.frames import Summary, SweepFrames, summary
from fmnist_tuning.analysis.pool import Pool, pool_of
from fmnist_tuning.analysis.verdicts import Verdict, judge_claims
from fmnist_tuning.metrics import ACCURACY, GAP, METRICS
from fmnist_tuning.report.wording import (
    capital,
    described,
    lettered,
    listed,
    outcome,
    setting_value,
    settings_of,
    spread,
)
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.sections import Claim
from fmnist_tuning.sweeps.settings import RunConfig, format_value
from fmnist_tuning.text import counted, markdown, markdown_code

_FINDINGS: Final = {
    "supported": "Supported",
    "refuted": "Refuted",
    "equivalent": "Too small a difference to matter, though claimed",
    "inconclusive": "Not decided",
    "not judged": "Runs missing",
}
_LESSONS: Final = {
    "supported": "",
    "refuted": "the opposite was seen of: ",
    "equivalent": "it makes no difference that matters whether ",
}


class Section:
    """One sweep for a journal's template. Every method returns Markdown.

    `others` are all of the study's sweeps by id.
    """

    def __init__(self, frames: SweepFrames, others: Mapping[str, SweepFrames]) -> None:
        self.frames = frames
        self.id = frames.sweep.id
        self.title = markdown(frames.sweep.title)
        self.hypothesis = markdown(frames.sweep.hypothesis)
        self.others = others
        figure = frames.sweep.figure
        self.figure_files = [markdown_code(figure.file if figure else f"{self.id}.png")]

    @cached_property
    def places(self) -> dict[str, Standing]:
        """Which arm has the best mean, and which cannot be told from it."""
        return standings(self.frames, ACCURACY, self.others)

    @cached_property
    def pool(self) -> Pool:
        """All runs of the study, for their spread."""
        return pool_of(self.others.values())

    @cached_property
    def judged(self) -> list[tuple[Claim, Verdict | None]]:
        """The sweep's claims with their verdicts."""
        return judge_claims(self.frames, self.others)

    @property
    def source(self) -> str:
        """Where a section's numbers come from."""
        missing = len(self.frames.missing)
        lacking = f", {missing} missing" if missing else ""
        return f"sweep `{self.id}`: {counted(len(self.frames.rows), 'run')}{lacking}"

    def setup(self) -> str:
        """What was varied, what was fixed, and how many runs there are."""
        sweep = self.frames.sweep
        lines = []
        if sweep.grid:
            swept = [f"`{key}` = {setting_value(levels)}" for key, levels in sweep.grid.items()]
            lines.append(f"- **Parameter{'s' if len(swept) > 1 else ''}:** {'; '.join(swept)}")
        else:
            lines += [f"- **{lettered(arm)}:** {settings_of(arm)}" for arm in sweep.arms]
        if sweep.combine is not None and sweep.combine.max_params is not None:
            limit = f"{sweep.combine.max_params:,}"
            lines.append(f"- **Chosen among:** networks of up to {limit} parameters")
        if sweep.fixed:
            fixed = [f"`{key}` = {markdown(format_value(v))}" for key, v in sweep.fixed.items()]
            lines.append(f"- **Fixed Config:** {', '.join(fixed)}")
        arms, seeds = len(sweep.arms), len(sweep.seeds)
        if sweep.runs > arms * seeds:
            most = max(sweep.arm_seeds.values())
            many = f"{arms} arms, {seeds} to {most} seeds each"
        else:
            many = f"{arms} arms × {seeds} seeds" if seeds > 1 else f"{arms} arms, one seed"
        done = f"{len(self.frames.rows)} finished" if self.frames.missing else "all finished"
        lines.append(f"- **Runs:** {sweep.runs} ({many}; {done})")
        return "\n".join(lines)

    def results(self, **columns: str) -> str:
        """A row for each arm, with its number of seeds, and a mark if it is or may be the best.

        The columns are given by heading (underscores for spaces). Each is a setting, a metric, or
        one of `name`, `description`, `overfits`, `val_epochs_to_80`.
        """
        rows = []
        for arm in self.frames.arms:
            place = self.places[arm.label]
            cells = [self._cell(arm, what) for what in columns.values()]
            if place.best:
                cells = [f"**{cell}**" for cell in cells]
            mark = "best" if place.best else "≈" if place.tied else ""
            rows.append([*cells, str(len(self.frames.seeds_of(arm))), mark])
        headings = [heading.replace("_", " ") for heading in columns]
        text = table([*headings, "n", "Best?"], rows)
        note = "± is the standard deviation over n seeds; " if self.frames.seeds > 1 else ""
        note += "**bold**: the best mean validation accuracy"
        if len(rows) > 1:
            note += "; ≈: cannot be told apart from it"
        return f"{text}\n\n<sub>From {self.source}. {note}.</sub>"

    def best(self) -> str:
        """The arm with the best mean, and what it is better than."""
        arm = self.best_arm
        accuracy = self.value_of(arm, ACCURACY)
        text = f"{capital(described(arm))} with {accuracy} validation accuracy"
        worse = [
            f"{described(other)} (by {self._difference(arm, other)})"
            for other in self.frames.arms
            if other != arm and not self.places[other.label].tied
        ]
        if worse:
            return f"{text}, told apart from {listed(worse)}."
        return f"{text}, told apart from no other arm." if len(self.frames.arms) > 1 else f"{text}."

    def by_loss(self) -> str:
        """The arm with the lowest validation loss, if it is not the one with the best accuracy."""
        arms = ranked(self.frames, "late_val_loss")
        if not arms or arms[0] == self.best_arm:
            return ""
        loss = METRICS["late_val_loss"]
        lowest, beside = (self.value_of(arm, loss.name) for arm in (arms[0], self.best_arm))
        return f"The lowest {loss.label}, has {described(arms[0])}: {lowest}, against {beside}."

    def claims(self) -> str:
        """A line for each claim, with its verdict in bold."""
        lines = []
        for claim, verdict in self.judged:
            word = _word(verdict)
            rest = outcome(claim, verdict, self.frames).removeprefix(word)
            lines.append(f"- {capital(markdown(claim.that))}: **{word}**{rest}.{_shares(verdict)}")
        return "\n".join(lines) or "The sweep's file makes no claims."

    def finding(self) -> str:
        """The sweep's claims, in one sentence for each kind of verdict, and the best arm."""
        by_word: dict[str, list[str]] = {}
        for claim, verdict in self.judged:
            by_word.setdefault(_word(verdict), []).append(markdown(claim.that))
        verdicts = [
            f"{_FINDINGS[word]}: {'; '.join(by_word[word])}."
            for word in _FINDINGS
            if word in by_word
        ]
        return " ".join([*verdicts, f"Best mean: {self.best()} (`{self.id}`)"])

    def lesson(self) -> str:
        """The decided claims with the size of their differences, and how many are undecided."""
        decided = [
            f"{_LESSONS[verdict.word]}{markdown(claim.that)} "
            f"({METRICS[claim.metric].format_difference(verdict.contrast.difference)})"
            for claim, verdict in self.judged
            if verdict is not None and verdict.word in _LESSONS
        ]
        text = f"{capital('; '.join(decided))}. " if decided else ""
        still = len(self.judged) - len(decided)
        if still:
            text += f"{still} of {len(self.judged)} claims cannot be decided with these runs. "
        return f"{text}(`{self.id}`)"

    @property
    def best_arm(self) -> Arm:
        """The arm with the best mean validation accuracy."""
        return next(arm for arm in self.frames.arms if self.places[arm.label].best)

    def value_of(self, arm: Arm, metric: str) -> str:
        """A metric of one arm."""
        return spread(METRICS[metric], summary(self.frames, arm, metric))

    def _difference(self, arm: Arm, other: Arm) -> str:
        means = [summary(self.frames, one, ACCURACY).mean for one in (arm, other)]
        return METRICS[ACCURACY].format_difference(means[0] - means[1]).lstrip("+")

    def _cell(self, arm: Arm, what: str) -> str:
        if what in METRICS:
            return self.value_of(arm, what)
        if what in RunConfig.model_fields:
            return setting_value(arm.config.model_dump(mode="json")[what])
        return {
            "name": lambda arm: markdown(arm.name or arm.label),
            "description": settings_of,
            "overfits": self._overfits,
            "val_epochs_to_80": self._epochs_to_80,
        }[what](arm)

    def _overfits(self, arm: Arm) -> str:
        gap = summary(self.frames, arm, GAP)
        return f"{_judged(gap)} {METRICS[GAP].format_difference(gap.mean)}"

    def _epochs_to_80(self, arm: Arm) -> str:
        runs = self.frames.epochs_to_80
        ends = runs[runs["arm"] == arm.label]["epoch"].dropna()
        whole = "never" if ends.empty else f"{ends.mean():.3g}"
        inside = summary(self.frames, arm, "epochs_to_80")
        part = f" (train: {METRICS['epochs_to_80'].number(inside.mean)})" if inside.seeds else ""
        return whole + part


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, so that its source is easy to read too."""
    widths = [max(3, *map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [headings, ["-" * width for width in widths], *rows]
    padded = ([c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def _shares(verdict: Verdict | None) -> str:
    """Where an undecided difference may lie."""
    if verdict is None or verdict.word != "inconclusive" or not verdict.contrast.error > 0:
        return ""
    below, within, above = (
        f"{part * 100:.0f} %" for part in verdict.contrast.shares(verdict.margin)
    )
    return (
        f" With a flat prior, {below} of the difference's distribution lies below the margins, "
        f"{within} within and {above} above."
    )


def _word(verdict: Verdict | None) -> str:
    return "not judged" if verdict is None else verdict.word


def _judged(found: Summary) -> str:
    if math.isnan(found.low):
        return "unknown:"
    return "yes:" if found.low > 0 else "no:" if found.high <= 0 else "not certain:"

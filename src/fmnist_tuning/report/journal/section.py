"""What a journal's section on one sweep says: tables, and answers as sentences."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from fmnist_tuning.analysis.best import Standing, standings
from fmnist_tuning.analysis.frames import Summary, SweepFrames, summary
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
from fmnist_tuning.sweeps.settings import RunConfig, format_value
from fmnist_tuning.sweeps.sweep import Claim
from fmnist_tuning.text import markdown

_BEST: Final = "best"
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
    """One sweep, as a journal's template asks for it. Every method returns Markdown.

    Args:
        frames: The sweep.
        others: All of the study's sweeps by id.
    """

    def __init__(self, frames: SweepFrames, others: Mapping[str, SweepFrames]) -> None:
        self.frames = frames
        self.id = frames.sweep.id
        self.title = markdown(frames.sweep.title)
        self.hypothesis = markdown(frames.sweep.hypothesis)
        self.others = others

    @cached_property
    def places(self) -> dict[str, Standing]:
        """Which arm has the best mean, and which cannot be told from it."""
        return standings(self.frames, ACCURACY, self.others)

    @cached_property
    def judged(self) -> list[tuple[Claim, Verdict | None]]:
        """The sweep's claims with their verdicts."""
        return judge_claims(self.frames, self.others)

    @property
    def source(self) -> str:
        """Where a section's numbers come from."""
        missing = len(self.frames.missing)
        lacking = f", {missing} missing" if missing else ""
        return f"sweep `{self.id}`: {len(self.frames.runs)} runs{lacking}"

    def setup(self) -> str:
        """What was varied, what was fixed, and how often."""
        config = self.frames.sweep
        lines = []
        if config.grid:
            swept = "; ".join(
                f"`{key}` = {setting_value(levels)}" for key, levels in config.grid.items()
            )
            lines.append(f"- **Parameter{'s' if len(config.grid) > 1 else ''}:** {swept}")
        else:
            lines += [f"- **{lettered(arm)}:** {settings_of(arm)}" for arm in config.arms]
        if config.combine is not None and config.combine.max_params is not None:
            lines.append(
                f"- **Chosen among:** networks of up to {config.combine.max_params:,} parameters"
            )
        if config.fixed:
            fixed = ", ".join(
                f"`{key}` = {markdown(format_value(value))}" for key, value in config.fixed.items()
            )
            lines.append(f"- **Fixed Config:** {fixed}")
        arms, seeds = len(config.arms), len(config.seeds)
        finished = len(self.frames.runs)
        done = "all finished" if not self.frames.missing else f"{finished} finished"
        many = f"{arms} arms × {seeds} seeds" if seeds > 1 else f"{arms} arms, one seed"
        lines.append(f"- **Runs:** {arms * seeds} ({many}; {done})")
        return "\n".join(lines)

    def results(self, **columns: str) -> str:
        """A row an arm, with its number of seeds, and the mark of the best and of its equals.

        Args:
            columns: By heading (underscores for spaces), what stands there: a setting, a metric, or
                one of `name`, `description`, `overfits`, `val_epochs_to_80`.
        """
        rows = [[self._cell(arm, what) for what in columns.values()] for arm in self.frames.arms]
        marks = [_mark(self.places[arm.label]) for arm in self.frames.arms]
        best = marks.index(_BEST)
        rows[best] = [f"**{cell}**" for cell in rows[best]]
        text = table(
            [*(heading.replace("_", " ") for heading in columns), "n", "Best?"],
            [
                [*row, str(len(self.frames.arm(arm.label))), mark]
                for row, arm, mark in zip(rows, self.frames.arms, marks, strict=True)
            ],
        )
        many = self.frames.seeds > 1
        note = "± is the standard deviation over n seeds; " if many else ""
        note += "**bold**: the best mean validation accuracy"
        if len(rows) > 1:
            note += "; ≈: cannot be told apart from it"
        return f"{text}\n\n<sub>From {self.source}. {note}.</sub>"

    def best(self) -> str:
        """The arm with the best mean, and whether that means anything."""
        arm = self.best_arm
        found = summary(self.frames, arm, ACCURACY)
        text = (
            f"{capital(described(arm))} with {spread(METRICS[ACCURACY], found)} validation accuracy"
        )
        tied = [other for other in self.frames.arms if self.places[other.label].tied]
        if tied:
            text += f", not told apart from {listed([described(other) for other in tied])}"
        return f"{text}."

    def claims(self) -> str:
        """A line a claim: its verdict."""
        return (
            "\n".join(
                f"- {capital(markdown(claim.that))}: {_emphasised(claim, verdict)}."
                for claim, verdict in self.judged
            )
            or "The sweep's file makes no claims."
        )

    def finding(self) -> str:
        """What became of its claims, in one sentence each kind, and the best arm."""
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
        """What may be relied on: the decided claims with their sizes, and how much is open."""
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

    def _cell(self, arm: Arm, what: str) -> str:
        if what in METRICS:
            return spread(METRICS[what], summary(self.frames, arm, what))
        if what in RunConfig.model_fields:
            return setting_value(arm.config.model_dump(mode="json")[what])
        gap = summary(self.frames, arm, GAP)
        return {
            "name": markdown(arm.name or arm.label),
            "description": settings_of(arm),
            "overfits": f"{_judged(gap)} {METRICS[GAP].format_difference(gap.mean)}",
            "val_epochs_to_80": self._epochs_to_80(arm),
        }[what]

    def _epochs_to_80(self, arm: Arm) -> str:
        ends = self.frames.arm(arm.label)["val_epochs_to_80"].dropna()
        whole = "never" if ends.empty else f"{ends.mean():.3g}"
        inside = summary(self.frames, arm, "epochs_to_80")
        part = f" (train: {METRICS['epochs_to_80'].number(inside.mean)})" if inside.seeds else ""
        return whole + part


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose source can be read too: every column as wide as its widest cell."""
    lines = [headings, *rows]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(headings))]
    ruler = ["-" * width for width in widths]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (headings, ruler, *rows)
    )


def _mark(place: Standing) -> str:
    return _BEST if place.best else "≈" if place.tied else ""


def _emphasised(claim: Claim, verdict: Verdict | None) -> str:
    word = _word(verdict)
    return f"**{word}**{outcome(claim, verdict).removeprefix(word)}"


def _word(verdict: Verdict | None) -> str:
    return "not judged" if verdict is None else verdict.word


def _judged(found: Summary) -> str:
    if math.isnan(found.low):
        return "unknown:"
    return "yes:" if found.low > 0 else "no:" if found.high <= 0 else "not certain:"

"""What a journal's section on one sweep says: tables, and answers as sentences."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from fmnist_tuning.analysis import (
    EXACT_METRICS,
    Contrast,
    Standing,
    Summary,
    SweepFrames,
    Verdict,
    confounds,
    contrast,
    judge_claims,
    standings,
    summary,
    told_apart,
)
from fmnist_tuning.config import Arm, Claim, RunConfig, format_value
from fmnist_tuning.journal.markdown import plain, table
from fmnist_tuning.journal.naming import capital, described, lettered, settings_of, shown
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.wording import difference, listed, outcome, spread

ACCURACY: Final = "final_val_accuracy"
GAP: Final = "overfitting_gap"

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
        self.sweep = frames.config.sweep
        self.title = plain(frames.config.title)
        self.hypothesis = plain(frames.config.hypothesis)
        self.others = others

    @property
    def source(self) -> str:
        """Where a section's numbers come from."""
        missing = len(self.frames.missing)
        lacking = f", {missing} missing" if missing else ""
        return f"sweep `{self.sweep}`: {len(self.frames.runs)} runs{lacking}"

    def setup(self) -> str:
        """What was varied, what was fixed, and how often."""
        config = self.frames.config
        lines = []
        if config.grid:
            swept = "; ".join(f"`{key}` = {shown(levels)}" for key, levels in config.grid.items())
            lines.append(f"- **Parameter{'s' if len(config.grid) > 1 else ''}:** {swept}")
        else:
            lines += [f"- **{lettered(arm)}:** {settings_of(arm)}" for arm in config.expanded()]
        if config.combine is not None and config.combine.max_params is not None:
            lines.append(
                f"- **Chosen among:** networks of up to {config.combine.max_params:,} parameters"
            )
        if config.fixed:
            fixed = ", ".join(
                f"`{key}` = {plain(format_value(value))}" for key, value in config.fixed.items()
            )
            lines.append(f"- **Fixed Config:** {fixed}")
        arms, seeds = len(config.expanded()), len(config.seeds)
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
        places = self._standings
        rows = [[self._cell(arm, what) for what in columns.values()] for arm in self.frames.arms]
        marks = [_mark(places[arm.label]) for arm in self.frames.arms]
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
        places = self._standings
        tied = [other for other in self.frames.arms if places[other.label].tied]
        if tied:
            text += f", not told apart from {listed([described(other) for other in tied])}"
        return f"{text}."

    def claims(self) -> str:
        """A line a claim: its verdict."""
        found = judge_claims(self.frames, self.others)
        return (
            "\n".join(
                f"- {capital(plain(claim.that))}: {_emphasised(claim, verdict)}."
                for claim, verdict in found
            )
            or "The sweep's file makes no claims."
        )

    def finding(self) -> str:
        """What became of its claims, in one sentence each kind, and the best arm."""
        by_word: dict[str, list[str]] = {}
        for claim, verdict in judge_claims(self.frames, self.others):
            by_word.setdefault(_word(verdict), []).append(plain(claim.that))
        verdicts = [
            f"{_FINDINGS[word]}: {'; '.join(by_word[word])}."
            for word in _FINDINGS
            if word in by_word
        ]
        return " ".join([*verdicts, f"Best mean: {self.best()} (`{self.sweep}`)"])

    def lesson(self) -> str:
        """What may be relied on: the decided claims with their sizes, and how much is open."""
        judged = judge_claims(self.frames, self.others)
        decided = [
            f"{_LESSONS[verdict.word]}{plain(claim.that)} "
            f"({METRICS[claim.metric].format_difference(verdict.contrast.difference)})"
            for claim, verdict in judged
            if verdict is not None and verdict.word in _LESSONS
        ]
        text = f"{capital('; '.join(decided))}. " if decided else ""
        still = len(judged) - len(decided)
        if still:
            text += f"{still} of {len(judged)} claims cannot be decided with these runs. "
        return f"{text}(`{self.sweep}`)"

    def steps(self, metric: str) -> str:
        """Each arm against the one before it, Holm-adjusted."""
        pairs = [
            (one, other, found)
            for one, other in pairwise(self.frames.arms)
            if (found := self._between(other, one, metric)) is not None
        ]
        return self._compared(metric, pairs)

    def versus(self, metric: str, arm: Mapping[str, Any], versus: Mapping[str, Any]) -> str:
        """One arm against another."""
        picked = [
            next((a for a in self.frames.arms if a.matches(selector)), None)
            for selector in (versus, arm)
        ]
        if None in picked:
            return "The runs that would tell are missing."
        one, other = picked
        found = self._between(other, one, metric)  # type: ignore[arg-type]
        if found is None:
            return f"No {METRICS[metric].label} was measured."
        return self._compared(metric, [(one, other, found)])  # type: ignore[list-item]

    def values(self, metric: str) -> str:
        """A metric arm by arm, in one sentence."""
        about = METRICS[metric]
        parts = [
            f"{spread(about, found)} with {described(arm)}"
            for arm in self.frames.arms
            if (found := summary(self.frames, arm, metric)).seeds
        ]
        if not parts:
            return f"No run has a {about.label}."
        return f"{capital(about.label)}: {listed(parts)}."

    def size_difference(self, arm: Mapping[str, Any], versus: Mapping[str, Any]) -> str:
        """How many parameters fewer one arm has, in percent."""
        counts = []
        for selector in (arm, versus):
            chosen = next((a for a in self.frames.arms if a.matches(selector)), None)
            if chosen is None:
                return "not known yet"
            counts.append(summary(self.frames, chosen, "total_params").mean)
        fewer = (1 - counts[0] / counts[1]) * 100
        return f"{fewer:.1f} % fewer params ({counts[0]:,.0f} instead of {counts[1]:,.0f})"

    def confounds(self) -> str:
        """What else the arms change; empty where nothing is."""
        return " ".join(plain(note) for note in confounds(self.frames))

    @property
    def best_arm(self) -> Arm:
        """The arm with the best mean validation accuracy."""
        places = self._standings
        return next(arm for arm in self.frames.arms if places[arm.label].best)

    def figure_of(self, arm: Arm, metric: str) -> str:
        """A metric of one arm."""
        return spread(METRICS[metric], summary(self.frames, arm, metric))

    def compared_with(self, arm: Arm, other: "Section", versus: Arm) -> Contrast:
        """The difference in validation accuracy from an arm of another sweep."""
        return contrast(
            self.frames.by_seed([arm], ACCURACY), other.frames.by_seed([versus], ACCURACY)
        )

    def _cell(self, arm: Arm, what: str) -> str:
        if what in METRICS:
            return spread(METRICS[what], summary(self.frames, arm, what))
        if what in RunConfig.model_fields:
            return shown(arm.config.model_dump(mode="json")[what])
        gap = summary(self.frames, arm, GAP)
        return {
            "name": plain(arm.name or arm.label),
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

    @property
    def _standings(self) -> dict[str, Standing]:
        return standings(self.frames, ACCURACY, self.others)

    def _between(self, arm: Arm, versus: Arm, metric: str) -> Contrast | None:
        values = [self.frames.by_seed([side], metric) for side in (arm, versus)]
        if not all(values):
            return None
        return contrast(values[0], values[1], exact=metric in EXACT_METRICS)

    def _compared(self, metric: str, pairs: Sequence[tuple[Arm, Arm, Contrast]]) -> str:
        if not pairs:
            return f"No {METRICS[metric].label} was measured."
        about = METRICS[metric]
        apart = told_apart(self.frames, metric, [found for _, _, found in pairs], self.others)
        parts = []
        for (one, other, found), certain in zip(pairs, apart, strict=True):
            if certain:
                way = "higher" if found.difference > 0 else "lower"
                verdict = f"is {way} than with {described(one)}"
            else:
                verdict = f"cannot be told apart from that with {described(one)}"
            parts.append(f"with {described(other)} it {verdict}: {difference(about, found)}")
        return f"{capital(about.label)}: {'; '.join(parts)}."


def _assigned(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}` = {plain(format_value(v))}" for key, v in settings.items())


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

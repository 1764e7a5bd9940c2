"""What a journal says about the best configuration of its study, and by which rule it is that."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fmnist_tuning.analysis.best import judged_alike, winner
from fmnist_tuning.analysis.groups import Groups, compare
from fmnist_tuning.metrics import LATE_ACCURACY, METRICS
from fmnist_tuning.report.wording import capital, described, worded_difference
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.text import counted

if TYPE_CHECKING:
    from fmnist_tuning.report.journal.section import Section

_RULE = (
    "The rule: of all configurations, it has the highest lower end of the 95 % interval of this "
    "mean, so that a few lucky seeds do not win. In a study that is too small to know how much "
    "repeats differ, it has the highest mean."
)
_NAMED = 5
_SCALE = {"epochs", "train_size", "val_size", "validation", "holdout_size"}
_DERIVED = {"image_size", "image_channels", "classes", "train_size", "val_size"}
_NETWORK = (
    *("num_conv_layers", "conv_channels", "use_pooling", "use_batch_norm"),
    *("dropout_rate", "fc_units"),
)


class Winner:
    """The best configuration for a journal's template; the methods return Markdown."""

    def __init__(self, sections: "Mapping[str, Section]") -> None:
        frames, self.arm = winner({sweep: section.frames for sweep, section in sections.items()})
        self.section = sections[frames.sweep.id]
        self._sections = sections

    def choice(self) -> str:
        """Which one it is, how it was chosen, and what may be just as good."""
        rivals = self._rivals()
        seeds = counted(len(self.section.frames.seeds_of(self.arm)), "seed")
        text = (
            f"{capital(described(self.arm))}, in `{self.section.id}`, with a "
            f"{METRICS[LATE_ACCURACY].label}, of {self.value(LATE_ACCURACY)} ({seeds}). {_RULE}"
        )
        if self.section.frames.sweep.search:
            return f"{text} It is a trial of a search, which no fresh seed has judged yet."
        if not rivals:
            return text
        places = [(s.frames, arm) for s in self._sections.values() for arm in s.frames.contenders]
        all_arms = {arm.config for _, arm in judged_alike(places)}
        text += (
            f" It was chosen from {len(all_arms)} by the runs that measure it, which flatters it a "
            "little."
        )
        if len({arm.config for _, arm in places}) > len(all_arms):
            text += " Configurations that were judged by other images are left out."
        if len(all_arms) > len(rivals) + 1:
            text += " They differ in epochs or numbers of images too."
        tied = [
            f"{described(arm)} (`{section.id}`)"
            for section, arm in rivals
            if self._may_be_level(section, arm)
        ]
        if not tied:
            return text
        more = [f"{len(tied) - _NAMED} more"] if len(tied) > _NAMED else []
        return f"{text} Just as good may be: {'; '.join([*tied[:_NAMED], *more])}."

    def versus_base(self) -> str:
        """It beside the base configuration, which has every setting at its default."""
        base = RunConfig(**self.arm.config.model_dump(include=_SCALE))
        if self.arm.config == base:
            return "It is the base configuration."
        arms = (
            (section, arm) for section in self._sections.values() for arm in section.frames.arms
        )
        there = [(section, arm) for section, arm in arms if arm.config == base]
        own = {*self.section.frames.by_seed([self.arm], LATE_ACCURACY)}
        if not there:
            return ""
        # With the same seeds, the comparison is the sharpest.
        section, other = max(
            there,
            key=lambda place: len(own & {*place[0].frames.by_seed([place[1]], LATE_ACCURACY)}),
        )
        asked = self._against(section, other)
        said = []
        for metric in (LATE_ACCURACY, "late_val_loss"):
            found = compare(asked, metric, self.section.pool)
            if found is not None:
                row = METRICS[metric]
                better = (found.difference < 0) == (row.better == "lower")
                word = ("better" if better else "worse") if found.difference else "level"
                said.append(f"{row.label}, {word}: {worded_difference(row, found)}")
        exact = [
            f"{METRICS[key].label}: {self.value(key)} against {section.value_of(other, key)}"
            for key in ("total_params", "training_macs")
        ]
        return (
            f"{'. '.join(map(capital, [*said, *exact]))}. These differences describe the runs and "
            "are no verdicts, because the configuration was chosen after they were seen."
        )

    def settings(self) -> dict[str, object]:
        """Its network's settings, what its sweep varied, and what else is not at its default."""
        config, plain = (c.model_dump(mode="json") for c in (self.arm.config, RunConfig()))
        other = [key for key in config if config[key] != plain[key] and key not in _DERIVED]
        return {key: config[key] for key in dict.fromkeys([*_NETWORK, *self.arm.overrides, *other])}

    def value(self, metric: str) -> str:
        """One of its metrics."""
        return self.section.value_of(self.arm, metric)

    def _rivals(self) -> "list[tuple[Section, Arm]]":
        """The study's other configurations that were trained as long on as many images."""
        found: dict[RunConfig, tuple[Section, Arm]] = {}
        for section in self._sections.values():
            for arm in section.frames.contenders:
                if arm.config != self.arm.config and _comparable(arm, self.arm):
                    before = found.get(arm.config)
                    if before is None or _seeds(section, arm) > _seeds(*before):
                        found[arm.config] = section, arm
        return [*found.values()]

    def _may_be_level(self, section: "Section", arm: Arm) -> bool:
        """Whether the interval of their difference includes zero."""
        found = compare(self._against(section, arm), LATE_ACCURACY, self.section.pool)
        return found is None or not found.low > 0

    def _against(self, section: "Section", arm: Arm) -> Groups:
        return Groups(self.section.frames, [self.arm], [arm], section.frames)


def _comparable(arm: Arm, other: Arm) -> bool:
    """Whether both had as much training and as many images."""
    return arm.config.model_dump(include=_SCALE) == other.config.model_dump(include=_SCALE)


def _seeds(section: "Section", arm: Arm) -> int:
    return len(section.frames.seeds_of(arm))

"""At which numbers of seeds a sweep is judged, if more than once. Pure."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fmnist_tuning.sweeps.sweep import Sweep

STANDARD_LOOKS: Final = (3, 5, 8, 12, 18, 27, 40)
"""Each about one and a half times the one before, so that late looks are worth their trainings."""


def continued(sweep: "Sweep", before: "Sweep | None") -> "Sweep":
    """A sweep with the looks and the extended arms that the study has for it.

    Looks are planned once. If a sweep that was judged at one number of seeds gets more, the
    standard looks take over from the first on: judging again and again by one look's rule would
    find differences that are not there. If it gets fewer, that one look stays its plan. One seed
    judges nothing. An experiment that only has the id of the other starts anew.

    A search goes on after the trials that the study has for it. If it has other finalists then,
    they are judged at the looks that were planned, and those that stay keep their seeds.
    """
    if sweep.search is not None:
        return _with_trials(sweep, before)
    if before is None or not _alike(sweep, before):
        return sweep
    kept = {arm.config for arm in sweep.arms}
    if kept and not sweep.are_finalists and any(arm.config not in kept for arm in before.arms):
        return sweep
    looks = before.looks or sweep.looks
    judged = looks[0] if len(looks) == 1 else len(before.seeds)
    if looks == sweep.looks and len(looks) > 0:
        pass  # the file's own plan
    elif len(looks) < 2 and judged > 1:  # noqa: PLR2004
        if len(sweep.seeds) > judged:
            looks = STANDARD_LOOKS
        elif len(sweep.seeds) < judged:
            looks = (judged,)
    labels = {arm.label for arm in sweep.arms}
    extended = {
        label: max(seeds, sweep.arm_seeds.get(label, 0))
        for label, seeds in before.arm_seeds.items()
        if label in labels
    }
    if looks == sweep.looks and extended == sweep.arm_seeds:
        return sweep
    return sweep.changed(looks=looks, arm_seeds={**sweep.arm_seeds, **extended})


def _alike(sweep: "Sweep", before: "Sweep") -> bool:
    """Whether both choose their arms in the same way, if they choose any."""
    one, other = sweep.combine, before.combine
    if one and other and sweep.are_finalists and before.are_finalists:
        return one.sources == other.sources
    return one == other


def _with_trials(sweep: "Sweep", before: "Sweep | None") -> "Sweep":
    search = sweep.search
    alike = before is not None and search is not None and search.same_space(before.search)
    if before is None or search is None or not alike or before.fixed != sweep.fixed:
        return sweep
    if before.listed == sweep.listed[: len(before.listed)]:
        return sweep
    return sweep.changed(arms=before.listed[: search.trials])

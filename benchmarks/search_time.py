"""How soon a search finds a network as good as the best of the six experiments: TPE beside random.

    python benchmarks/search_time.py [--repeats 5] [--trials 20] [--images 3000] [--epochs 4]

Every way has the same budget of epochs, and searches the space of experiment 12 with five seeds of
its own. The target is the best late validation accuracy of the configurations that experiment 6
chose, by the study that is shipped, trained once on the same images with the same seed. Costs are
counted in multiplications, which are the same on every machine, and told in trainings of the base
configuration. Prints a table.
"""

import argparse
import math
import multiprocessing
from pathlib import Path
from statistics import median

from fmnist_tuning.data.files import find
from fmnist_tuning.running.events import EpochEnded, Failed, Finished
from fmnist_tuning.running.trainer import Trainer
from fmnist_tuning.sweeps.arms import Arm, run_config
from fmnist_tuning.sweeps.cost import work
from fmnist_tuning.sweeps.proposing import Trial, is_pruned, next_decision, propose
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.search import Search, whole_settings
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import search_of
from fmnist_tuning.transfer.entries import SweepEntry
from fmnist_tuning.transfer.study_file import read_file

ROOT = Path(__file__).parents[1]
WAYS = (("random", "none"), ("tpe", "none"), ("random", "hyperband"), ("tpe", "hyperband"))


def trained(
    trainer: Trainer, config: RunConfig, decide: "tuple[Search, int, dict[int, Trial]] | None"
) -> tuple[float | None, tuple[float, ...], int]:
    """The late accuracy of a training (None: pruned or diverged), its curve, and its cost."""
    run = PlannedRun("search", Arm(None, {}, config), config, "")
    curve: list[float] = []
    for news in trainer.train(run, None, None):
        match news.event:
            case EpochEnded(_, metrics):
                curve.append(metrics.val_accuracy)
                done, epochs = len(curve), config.epochs
                if decide and next_decision(decide[0], done - 1, epochs) == done:
                    search, number, others = decide
                    if is_pruned(search, epochs, number, curve, others):
                        break
            case Finished(_, outcome):
                return outcome["late_val_accuracy"], tuple(curve), work(config)
            case Failed():
                break
    return None, tuple(curve), work(config) - work(config, after=len(curve))


def search_once(task: "tuple[str, str, int, argparse.Namespace]") -> dict[str, float]:
    """One search with one seed: what it cost to reach the target, and how good its best is."""
    sampler, prune, seed, chosen = task
    planned, _ = load_sweeps([ROOT / "configs/more/exp12_search.yaml"])
    fixed = planned.fixed | {
        "epochs": chosen.epochs,
        "train_size": chosen.images,
        "holdout_size": 2_000,
    }
    search = search_of(planned).model_copy(
        update={"sampler": sampler, "prune": prune, "seed": seed}
    )
    trainer = Trainer({"fashion_mnist": find().arrays}, "cpu")

    def configured(settings: dict[str, object]) -> RunConfig:
        whole = run_config(whole_settings(fixed, settings, search.space))
        return whole.model_copy(update={"seed": seed})

    scores = [trained(trainer, configured(arm), None)[0] or 0.0 for arm in experiment_6()]
    target, base = max(scores), work(configured({}))
    trials: list[Trial] = []
    tried: list[RunConfig] = []
    cost, reached, first, epochs = 0, math.nan, math.nan, 0
    while epochs < chosen.trials * chosen.epochs:
        settings = propose(search, fixed, trials, tried)
        tried.append(run_config(whole_settings(fixed, settings, search.space)))
        decide = (search, len(trials), dict(enumerate(trials)))
        value, curve, own = trained(trainer, configured(settings), decide)
        trials.append(Trial(settings, "pruned" if value is None else "complete", value, curve))
        cost, epochs = cost + own, epochs + len(curve)
        if value is not None and value >= target and math.isnan(reached):
            reached, first = cost / base, len(trials)
    best = max(trial.value or 0.0 for trial in trials)
    return {"reached": reached, "first": first, "trials": len(trials), "over": best - target,
            "best": best, "target": target}  # fmt: skip


def experiment_6() -> list[dict[str, object]]:
    """The settings that experiment 6 chose, of those that experiment 12 searches."""
    entries = read_file(ROOT / "study/fashion_mnist_cnn_tuning.jsonl.gz")
    (sixth,) = (e.definition for e in entries
                if isinstance(e, SweepEntry) and e.definition.id == "exp6_combined")  # fmt: skip
    searched = {"dropout_rate", "num_conv_layers"}
    return [{key: value for key, value in arm.overrides.items() if key in searched}
            for arm in sixth.arms]  # fmt: skip


def main() -> None:
    """Search in every way, with every seed."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--trials", type=int, default=20)
    options.add_argument("--images", type=int, default=3_000)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--jobs", type=int, default=2)
    chosen = options.parse_args()
    tasks = [(*way, seed, chosen) for seed in range(chosen.repeats) for way in WAYS]
    with multiprocessing.get_context("spawn").Pool(chosen.jobs) as pool:
        found = pool.map(search_once, tasks, chunksize=1)
    print(
        f"{chosen.repeats} repeats, budget {chosen.trials} trainings of {chosen.epochs} epochs on "
        f"{chosen.images:,} images"
    )
    columns = ("sampler", "prune", "reached the target", "trainings' cost until then", "trials",
               "best beside the target, points")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for sampler, prune in WAYS:
        own = [one for task, one in zip(tasks, found, strict=True) if task[:2] == (sampler, prune)]
        costs = [one["reached"] for one in own if not math.isnan(one["reached"])]
        shown = ", ".join(f"{cost:.1f}" for cost in sorted(costs)) or "never"
        over = [100 * one["over"] for one in own]
        trials = median(one["trials"] for one in own)
        print(f"| {sampler} | {prune} | {len(costs)} of {len(own)} | {shown} | {trials:.0f} | "
              f"{median(over):+.2f} ({min(over):+.2f} to {max(over):+.2f}) |")  # fmt: skip


if __name__ == "__main__":
    main()

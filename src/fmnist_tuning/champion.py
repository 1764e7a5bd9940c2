"""The best of a study: its networks scored again, drawn, and the best one registered in MLflow."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fmnist_tuning.analysis import Scores, SweepFrames, winner
from fmnist_tuning.config import Arm, RunConfig
from fmnist_tuning.data import DataFiles, SharedImages
from fmnist_tuning.data.files import CLASS_NAMES
from fmnist_tuning.data.images import FashionMnist
from fmnist_tuning.errors import DataError, WeightsError
from fmnist_tuning.figures import draw_confusion, draw_mistakes, encode
from fmnist_tuning.results import StudyResults
from fmnist_tuning.tracking import Registry, TrackedRun
from fmnist_tuning.training import Classifier, classify, unpack_weights
from fmnist_tuning.worker import architecture_of, select_images

# Another processor adds in another order, and an image between two classes may change sides.
_TOLERANCE = 0.001
_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Finalist:
    """An arm that reached the end of a study, by the network of its first seed.

    The first, because a network that is taken for its score on the test set scores worse anywhere
    else.

    Attributes:
        sweep: That it is an arm of.
        arm: Its settings.
        run: The training.
        config: The run's settings, its seed among them.
        champion: Whether its arm has the best mean.
    """

    sweep: str
    arm: Arm
    run: TrackedRun
    config: RunConfig
    champion: bool

    @property
    def metric(self) -> str:
        """The accuracy that its images gave: of the test set, where that was kept apart."""
        return "test_accuracy" if self.config.validation == "holdout" else "final_val_accuracy"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.sweep}, {self.arm.label}, seed {self.config.seed}"


def finalists(results: StudyResults) -> list[Finalist]:
    """The arms of the combination that the best arm is of, or that arm alone; the best first."""
    frames, best = winner(results.sweeps)
    arms = frames.arms if frames.config.combine is not None else (best,)
    runs = {run.run_id: run for run in results.runs}
    return sorted(
        (_finalist(frames, arm, runs, champion=arm == best) for arm in arms),
        key=lambda finalist: not finalist.champion,
    )


def _finalist(
    frames: SweepFrames, arm: Arm, runs: dict[str, TrackedRun], *, champion: bool
) -> Finalist:
    first = frames.arm(arm.label).iloc[0]
    run = runs[first["run_id"]]
    config = arm.config.model_copy(update={"seed": int(first["seed"])})
    return Finalist(frames.config.sweep, arm, run, config, champion)


@dataclass(frozen=True, slots=True)
class Presentation:
    """What became of a finalist.

    Attributes:
        accuracy: Of its network, scored again; None where the store lacks its weights.
        logged: What its run logged.
        version: Under which it is registered, if it is the champion.
        figures: File names and contents.
    """

    accuracy: float | None
    logged: float
    version: str | None
    figures: Mapping[str, bytes]


def present(
    finalist: Finalist,
    results: StudyResults,
    registry: Registry,
    files: DataFiles,
    weights: bytes | None = None,
) -> Presentation:
    """Score a finalist again and draw it; the champion is registered too.

    Args:
        finalist: One of `finalists(results)`.
        results: The study.
        registry: Of its store.
        files: The images that it was trained on.
        weights: Instead of those that the store may lack; kept there, once they have shown the
            run's accuracy.

    Raises:
        WeightsError: When the champion's are missing, or any are damaged or another run's.
    """
    logged = finalist.run.metrics[finalist.metric]
    try:
        content = registry.weights(finalist.run.run_id) if weights is None else weights
    except WeightsError as error:
        if not finalist.champion:
            return Presentation(None, logged, None, {})
        raise WeightsError(
            f"{error}: it was imported, or trained by an older fmnist; name its weights with "
            "--weights, or train its sweep again with `fmnist run ... --force`"
        ) from None
    classifier = unpack_weights(content, architecture_of(finalist.config))
    scores = _score(finalist, classifier, files)
    version = None
    if finalist.champion:
        if weights is not None:
            registry.keep_weights(finalist.run.run_id, weights)
        version = registry.crown(
            results.study,
            finalist.run,
            classifier,
            scores.images[:_EXAMPLES],
            scores.probabilities[:_EXAMPLES],
        )
    return Presentation(scores.accuracy, logged, version, _figures(finalist, scores))


def _score(finalist: Finalist, classifier: Classifier, files: DataFiles) -> Scores:
    if finalist.run.tags.get("fmnist.data") != files.digest:
        raise DataError(
            f"{files.folder}: not the images that {finalist.title} was trained on; name their "
            "folder with --data-dir"
        )
    data = FashionMnist.load(SharedImages(files), torch.device("cpu"))
    images = select_images(data, finalist.config)
    judge = images.test or images.validation
    pixels = judge.images[:, 0].numpy()
    found = Scores(
        images=pixels,
        labels=judge.labels.numpy(),
        probabilities=classify(classifier, pixels, finalist.config.precision),
    )
    logged = finalist.run.metrics[finalist.metric]
    if abs(found.accuracy - logged) > _TOLERANCE:
        raise WeightsError(
            f"the weights of {finalist.title} get {found.accuracy * 100:.2f} % of the images "
            f"right, and the run logged {logged * 100:.2f} %: they are another run's"
        )
    return found


def _figures(finalist: Finalist, scores: Scores) -> dict[str, bytes]:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", finalist.arm.name or "best")
    stem = f"{finalist.sweep}_{name}"
    who = f"{finalist.sweep}, {finalist.arm.name or 'the best arm'}"
    what = (
        f"Seed {finalist.config.seed}; {finalist.arm.label.removeprefix(f'{finalist.arm.name}: ')}"
    )
    confusion = draw_confusion(scores, CLASS_NAMES, f"What is taken for what: {who}", what)
    mistakes = draw_mistakes(scores, CLASS_NAMES, f"Most wrong about: {who}", what)
    return {
        f"{stem}_confusion.png": encode(confusion, "png"),
        f"{stem}_mistakes.png": encode(mistakes, "png"),
    }

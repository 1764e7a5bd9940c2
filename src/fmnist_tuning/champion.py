"""The best of a study: its networks scored again, drawn, and the best one registered in MLflow."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fmnist_tuning.analysis.best import winner
from fmnist_tuning.data.files import CLASS_NAMES, DataFiles, SharedImages
from fmnist_tuning.data.images import FashionMnist
from fmnist_tuning.errors import DataError, TrackingError, WeightsError
from fmnist_tuning.files import read_whole
from fmnist_tuning.metrics import ACCURACY
from fmnist_tuning.report.figures.garments import Scores, draw_confusion, draw_mistakes
from fmnist_tuning.report.figures.style import encode_figure
from fmnist_tuning.report.study import StudyResults
from fmnist_tuning.store.records import DATA, WEIGHTS, WEIGHTS_DIGEST, TrackedRun, content_digest
from fmnist_tuning.store.registry import ALIAS, MODEL_NAME, Registry
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.training.building import select_images
from fmnist_tuning.training.classifier import Classifier, classify, unpack_weights

_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Finalist:
    """An arm that reached the end of a study, by the network of its first seed.

    The first, because a network that is taken for its score on the test set scores worse anywhere
    else.

    Attributes:
        sweep: That it is an arm of.
        name: The letter that a combination gives it, or its place; part of file names.
        arm: Its settings.
        run: The training.
        config: The run's settings, its seed among them.
        champion: Whether its arm has the best mean.
    """

    sweep: str
    name: str
    arm: Arm
    run: TrackedRun
    config: RunConfig
    champion: bool

    @property
    def metric(self) -> str:
        """The accuracy that its images gave: of the test set, where that was kept apart."""
        return "test_accuracy" if self.config.validation == "holdout" else ACCURACY

    @property
    def model(self) -> str:
        """The address by which MLflow loads the champion."""
        return f"models:/{MODEL_NAME}@{ALIAS}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.sweep}, {self.arm.label}, seed {self.config.seed}"


def finalists(results: StudyResults) -> list[Finalist]:
    """The arms of the combination that the best arm is of, or that arm alone; the best first."""
    frames, best = winner(results.sweeps)
    combined = frames.sweep.combine is not None
    runs = {run.run_id: run for run in results.runs}
    found = []
    for place, arm in enumerate(frames.arms):
        if combined or arm == best:
            first = frames.arm(arm.label).iloc[0]
            letter = arm.name if re.fullmatch("[A-Z]", arm.name or "") else None
            found.append(
                Finalist(
                    sweep=frames.sweep.id,
                    name=letter or f"arm{place + 1}",
                    arm=arm,
                    run=runs[first["run_id"]],
                    config=arm.config.model_copy(update={"seed": int(first["seed"])}),
                    champion=arm == best,
                )
            )
    return sorted(found, key=lambda finalist: not finalist.champion)


@dataclass(frozen=True, slots=True)
class Evaluation:
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


def evaluate_finalists(
    results: StudyResults, files: DataFiles, weights: Path | None = None
) -> Iterator[tuple[Finalist, Evaluation]]:
    """Score every finalist again and draw it, the champion first, which is registered too.

    Args:
        results: The whole study.
        files: The images that it was trained on.
        weights: A file with the network that the champion's training left, where the store may
            lack it; it is kept there then.

    Raises:
        DataError: When the images are others than those of the study.
        WeightsError: When the champion's network is missing, or any is damaged or another run's.
        TrackingError: When the store fails, or a run has no accuracy.
    """
    last = finalists(results)
    if last[0].run.tags.get(DATA) != files.digest:
        raise DataError(
            f"{files.folder}: not the images that {last[0].title} was trained on; name their "
            "folder with --data-dir"
        )
    registry = Registry(results.study.uri)
    data = FashionMnist.load(SharedImages(files), torch.device("cpu"))
    for finalist in last:
        brought = weights if finalist.champion else None
        yield finalist, _evaluate(finalist, results, registry, data, brought)


def _evaluate(
    finalist: Finalist,
    results: StudyResults,
    registry: Registry,
    data: FashionMnist,
    weights: Path | None = None,
) -> Evaluation:
    run = finalist.run
    logged = run.metrics.get(finalist.metric, math.nan)
    if not 0 <= logged <= 1:
        raise TrackingError(
            f"the run {run.run_id} of {finalist.title} has no {finalist.metric}; train its sweep "
            "again with `fmnist run ... --force`"
        )
    content = registry.weights(run)
    if content is None and weights is not None:
        content = _brought(weights, finalist)
        registry.keep_weights(run, content)
    if content is None:
        if finalist.champion:
            raise WeightsError(
                f"the run {run.run_id} of {finalist.title} has no {WEIGHTS}: it was imported, or "
                "trained by an older fmnist; bring the file with --weights, or train its sweep "
                "again with `fmnist run ... --force`"
            )
        return Evaluation(None, logged, None, {})
    classifier = unpack_weights(content, finalist.config.arguments("network"))
    scores = _score(finalist, classifier, data)
    version = None
    if finalist.champion:
        images = scores.images[:_EXAMPLES]
        version = registry.register(
            results.study, run, classifier, images, classify(classifier, images)
        )
    return Evaluation(scores.accuracy, logged, version, _figures(finalist, scores))


def _brought(path: Path, finalist: Finalist) -> bytes:
    content = read_whole(path)
    recorded = finalist.run.tags.get(WEIGHTS_DIGEST, "nothing")
    if content_digest(content) != recorded:
        raise WeightsError(
            f"{path}: not the {WEIGHTS} that the training of {finalist.title} left: its SHA-256 is "
            f"{content_digest(content)[:12]}..., and the run's tag {WEIGHTS_DIGEST} says "
            f"{recorded[:12]}...; bring the artefact from the store that the study was run in"
        )
    return content


def _score(finalist: Finalist, classifier: Classifier, data: FashionMnist) -> Scores:
    torch.set_num_threads(1)  # as in training: sums depend on how they are divided among threads
    images = select_images(data, finalist.config.seed, **finalist.config.arguments("images"))
    judge = images.test or images.validation
    pixels = judge.images[:, 0].numpy()
    return Scores(
        images=pixels,
        labels=judge.labels.numpy(),
        probabilities=classify(classifier, pixels, finalist.config.precision),
    )


def _figures(finalist: Finalist, scores: Scores) -> dict[str, bytes]:
    arm = finalist.arm
    settings = arm.label.removeprefix(f"{arm.name}: ")
    who, what = f"{finalist.sweep}, {finalist.name}", f"Seed {finalist.config.seed}; {settings}"
    confusion = draw_confusion(scores, CLASS_NAMES, f"What is taken for what: {who}", what)
    mistakes = draw_mistakes(scores, CLASS_NAMES, f"Most wrong about: {who}", what)
    stem = f"{finalist.sweep}_{finalist.name}"
    return {
        f"{stem}_confusion.png": encode_figure(confusion, "png"),
        f"{stem}_mistakes.png": encode_figure(mistakes, "png"),
    }

"""The best networks of a study: scored again, drawn, and the best one registered in MLflow."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fmnist_tuning.analysis.best import winner
from fmnist_tuning.data.catalogue import find_dataset
from fmnist_tuning.data.files import DataFiles
from fmnist_tuning.data.images import ImageSet
from fmnist_tuning.errors import DataError, FmnistError, TrackingError, WeightsError
from fmnist_tuning.files import read_whole
from fmnist_tuning.metrics import ACCURACY, METRICS
from fmnist_tuning.report.figures.garments import Scores, draw_confusion, draw_mistakes
from fmnist_tuning.report.figures.style import encode_figure, styled
from fmnist_tuning.report.study import StudyResults
from fmnist_tuning.report.wording import described
from fmnist_tuning.store.records import DATA, WEIGHTS, WEIGHTS_DIGEST, TrackedRun, content_digest
from fmnist_tuning.store.registry import Registry, champion_uri
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.training.building import select_images
from fmnist_tuning.training.classifier import Classifier, classify, unpack_weights

_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of a study's best arms, and the network of its first seed.

    The first seed is used, because a network that is chosen by its test score scores worse on
    other images.
    """

    sweep: str
    name: str  # the letter that a combination gives it, or its place; part of file names
    arm: Arm
    run: TrackedRun
    config: RunConfig  # the run's settings, with its seed
    champion: bool  # its arm is the study's winner

    @property
    def metric(self) -> str:
        """The name of its accuracy: on the test set, if the run used other images to validate."""
        return "test_accuracy" if self.config.validation == "holdout" else ACCURACY

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.sweep}, {self.arm.label}, seed {self.config.seed}"


def finalists(results: StudyResults) -> list[Finalist]:
    """All arms of the best arm's combination, or just the best arm; the best comes first.

    Raises:
        FmnistError: When the study has nothing but trials of a search.
    """
    frames, best = winner(results.sweeps)
    if frames.sweep.search:
        raise FmnistError(
            f"the study {results.study.name} has only trials of {frames.sweep.id}, which one "
            "seed each has chosen; `fmnist run` on its file trains the finalists"
        )
    runs = {run.run_id: run for run in results.runs}
    found = []
    for place, arm in enumerate(frames.arms, 1):
        if frames.sweep.combine is None and arm != best:
            continue
        first = next(row for row in frames.rows if row.arm.label == arm.label)
        name = (
            arm.name if arm.name and re.fullmatch("[A-Za-z0-9]{1,20}", arm.name) else f"arm{place}"
        )
        config = arm.config.model_copy(update={"seed": first.seed})
        run = runs[first.run_id]
        found.append(Finalist(frames.sweep.id, name, arm, run, config, champion=arm == best))
    return sorted(found, key=lambda finalist: not finalist.champion)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finalist's scores and figures."""

    accuracy: float | None  # scored again; None if the store does not have its weights
    logged: float  # the accuracy that its run logged
    registered: str | None  # the address and version by which MLflow loads the champion
    figures: Mapping[str, bytes]  # contents by file name


def evaluate_finalists(
    results: StudyResults,
    data_dir: Path | None,
    weights: Path | None = None,
    *,
    sheet: str | None = None,
) -> Iterator[tuple[Finalist, Evaluation]]:
    """Score and draw every finalist of a whole study, the champion first, and register that one.

    If the store does not have the champion's network, the file `weights` may have it; it is then
    kept in the store. `sheet` is a matplotlib style sheet for the figures.

    Raises:
        FmnistError: When a style cannot be read; nothing is scored then.
        DataError: When the images are missing, damaged, or not those of the study.
        WeightsError: When the champion's network is missing, or a network is damaged or another
            run's.
        TrackingError: When the store fails, or a run has no accuracy.
    """
    last = finalists(results)
    files = find_dataset(last[0].config.dataset, data_dir)
    if last[0].run.tags.get(DATA) != files.digest:
        raise DataError(
            f"{files.folder}: not the images that {last[0].title} was trained on; name their "
            "folder with --data-dir"
        )
    registry = Registry(results.study.uri)
    data = ImageSet.load(files.arrays, torch.device("cpu"))
    for finalist in last:
        brought = weights if finalist.champion else None
        with styled(sheet):
            evaluation = _evaluate(finalist, results, registry, (files, data), brought)
        yield finalist, evaluation


def _evaluate(
    finalist: Finalist,
    results: StudyResults,
    registry: Registry,
    images: tuple[DataFiles, ImageSet],
    weights: Path | None,
) -> Evaluation:
    run = finalist.run
    logged = run.metrics.get(finalist.metric, math.nan)
    if not 0 <= logged <= 1:
        raise TrackingError(
            f"the run {run.run_id} of {finalist.title} has no {finalist.metric}; train its sweep "
            "again with `fmnist run ... --force`"
        )
    content = registry.weights(run)
    brought = content is None and weights is not None
    if content is None and weights is not None:
        content = _brought(weights, finalist)
    if content is None:
        if finalist.champion:
            raise WeightsError(
                f"the run {run.run_id} of {finalist.title} has no {WEIGHTS}: it was imported, or "
                "trained by an older fmnist; give the file with --weights, or train its sweep "
                "again with `fmnist run ... --force`"
            )
        return Evaluation(None, logged, None, {})
    classifier = unpack_weights(content, finalist.config.arguments("network"))
    files, data = images
    scores = _score(finalist, classifier, data)
    if brought:
        if WEIGHTS_DIGEST not in run.tags and scores.accuracy != logged:
            raise WeightsError(
                f"{weights}: not the network of {finalist.title}: it scores "
                f"{scores.accuracy:.2%}, and the run logged {logged:.2%}"
            )
        registry.keep_weights(run, content)
    registered = None
    if finalist.champion:
        examples = scores.images[:_EXAMPLES]
        answers = classify(classifier, examples)
        about = (
            f"The network of the run {run.name} of {finalist.sweep} in the study "
            f"{results.study.name}: {finalist.arm.label}, seed {finalist.config.seed}. Its "
            f"{METRICS[finalist.metric].label} is {METRICS[finalist.metric].format(logged)}."
        )
        version = registry.register(results.study, run, classifier, examples, answers, about=about)
        if finalist.config.dataset == "folder":
            registry.name_classes(results.study.name, files.classes)
        registered = f"{champion_uri(results.study.name)}, version {version}"
    return Evaluation(scores.accuracy, logged, registered, _drawn(finalist, scores, files.classes))


def _brought(path: Path, finalist: Finalist) -> bytes:
    content = read_whole(path)
    found = content_digest(content)
    # Runs of the first versions have none recorded; their networks must score what was logged.
    recorded = finalist.run.tags.get(WEIGHTS_DIGEST, found)
    if found != recorded:
        raise WeightsError(
            f"{path}: its SHA-256 must match the one recorded in the run of {finalist.title}: "
            f"found {found[:12]}..., recorded {recorded[:12]}...; use the {WEIGHTS} of the "
            "store in which the study was run"
        )
    return content


def _score(finalist: Finalist, classifier: Classifier, data: ImageSet) -> Scores:
    torch.set_num_threads(1)  # as in training: sums depend on how they are divided among threads
    config = finalist.config
    images = select_images(data, config.seed, **config.arguments("images"))
    judge = images.test or images.validation
    pixels = judge.images.numpy()
    pixels = pixels[:, 0] if pixels.shape[1] == 1 else pixels
    probabilities = classify(classifier, pixels, config.precision)
    return Scores(pixels, judge.labels.numpy(), probabilities)


def _drawn(finalist: Finalist, scores: Scores, classes: Sequence[str]) -> dict[str, bytes]:
    arm = finalist.arm
    settings = arm.label.removeprefix(f"{arm.name}: ")
    named = arm.name or described(arm)
    who, what = f"{finalist.sweep}, {named}", f"Seed {finalist.config.seed}; {settings}"
    confusion = draw_confusion(scores, classes, f"What is taken for what: {who}", what)
    mistakes = draw_mistakes(scores, classes, f"Most wrong about: {who}", what)
    stem = f"{finalist.sweep}_{finalist.name}"
    return {
        f"{stem}_confusion.png": encode_figure(confusion, "png"),
        f"{stem}_mistakes.png": encode_figure(mistakes, "png"),
    }

"""What a classifier says about labelled images, and figures of its mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fmnist_tuning.report.figures.style import add_note, legible_on, looks, new_figure

MISTAKES: Final = 36
_COLUMNS: Final = 9
_LEGIBLE: Final = 30  # classes; numbers of more would lie on each other
_LONG_BAR: Final = 20.0  # percent: bars longer than this have their number inside


@dataclass(frozen=True, slots=True)
class Scores:
    """A classifier's answers."""

    images: NDArray[np.uint8]  # (N, S, S), or (N, 3, S, S) in colour
    labels: NDArray[np.int64]  # (N,) what each image is
    probabilities: NDArray[np.float32]  # (N, classes) what the classifier takes it for

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) the most probable class of each image."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(1)
        return predicted

    @property
    def accuracy(self) -> float:
        """The fraction of images whose most probable class is the right one."""
        return int((self.predicted == self.labels).sum()) / len(self.labels)

    def confusion(self) -> NDArray[np.int64]:
        """(classes, classes) how many images of a class (row) were taken for a class (column)."""
        classes = self.probabilities.shape[1]
        table = np.zeros((classes, classes), np.int64)
        np.add.at(table, (self.labels, self.predicted), 1)
        return table

    def most_wrong(self, count: int) -> NDArray[np.intp]:
        """Positions of at most `count` misclassified images, the worst first.

        The worst mistake gave the image's true class the lowest probability.
        """
        wrong = np.flatnonzero(self.predicted != self.labels)
        chance = self.probabilities[wrong, self.labels[wrong]]
        return wrong[np.argsort(chance, kind="stable")][:count]


def draw_confusion(scores: Scores, classes: Sequence[str], title: str, note: str) -> Figure:
    """The confusion matrix, and beside it the accuracy of each class; `note` stands below."""
    figure, (left, right) = new_figure(title, 4.5, ncols=2, sharey=True, width_ratios=(3, 1))
    table = scores.confusion()
    counts = table.sum(1, keepdims=True)
    shares = np.divide(table, counts, where=counts > 0, out=np.zeros(table.shape))
    mesh = left.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(table):
        if count and len(classes) <= _LEGIBLE:
            colour = legible_on(mesh.to_rgba(shares[row, column]))
            left.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    places = range(len(classes))
    left.set_xticks(places, classes, rotation=40, ha="right", rotation_mode="anchor")
    left.set_yticks(places, classes)
    left.set(xlabel="predicted", ylabel="true")
    left.grid(visible=False)
    accuracies = np.diag(shares) * 100
    bars = looks(1)[0].colour
    right.barh(places, accuracies, color=bars, height=0.7)
    for place, accuracy in zip(places, accuracies, strict=True):
        if counts[place] == 0:
            continue  # there is no image of this class, so its accuracy is unknown
        long = accuracy > _LONG_BAR
        look = {"ha": "right", "color": legible_on(bars)} if long else {"ha": "left"}
        beside = accuracy - 1 if long else accuracy + 1
        right.text(beside, place, f"{accuracy:.1f}", va="center", **look)
    right.set(xlabel="right, %", xlim=(0, 100))
    right.tick_params(left=False, labelleft=False)
    right.grid(visible=False, axis="y")
    right_of_all = f"{scores.accuracy * 100:.2f} % of the test set's {len(scores.labels):,} images"
    add_note(figure, f"{right_of_all} are right. Zeros are left out.", note)
    return figure


def draw_mistakes(scores: Scores, classes: Sequence[str], title: str, note: str) -> Figure:
    """The worst mistakes as `Scores.most_wrong` orders them; `note` stands below."""
    worst = scores.most_wrong(MISTAKES)
    rows = max(-(-len(worst) // _COLUMNS), 1)
    figure, axes = new_figure(title, 0.75 + 1.12 * rows, nrows=rows, ncols=_COLUMNS, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, place in zip(axes.flat, worst, strict=False):
        label, predicted = int(scores.labels[place]), int(scores.predicted[place])
        chance = scores.probabilities[place, predicted] * 100
        _show(panel, scores.images[place])
        text = f"{classes[label]} →\n{classes[predicted]}\n{chance:.1f} %"
        panel.set_title(text, fontsize="x-small", loc="center", linespacing=1.1)
    wrong = int((scores.predicted != scores.labels).sum())
    add_note(
        figure,
        f"The {len(worst)} of {wrong:,} mistakes in the test set whose true class was given the "
        "least chance, the worst first.",
        "Above each: true class → predicted class, and the probability that the network gave it.",
        note,
    )
    return figure


def _show(panel: Any, image: NDArray[np.uint8]) -> None:
    """An image (S, S) or (3, S, S)."""
    colours = image.ndim == 3  # noqa: PLR2004
    panel.imshow(image.transpose(1, 2, 0) if colours else image, cmap="gray", vmin=0, vmax=255)


def draw_augmented(
    images: NDArray[np.uint8],
    changed: Mapping[str, NDArray[np.uint8]],
    title: str,
    note: str = "",
) -> Figure:
    """Images (N, S, S) in the first row, and below each what augmentations made of it."""
    rows = {"as they are": images, **changed}
    figure, axes = new_figure(
        title, 0.6 + 0.95 * len(rows), nrows=len(rows), ncols=max(len(images), 8), squeeze=False
    )
    for panel in axes[:, len(images) :].flat:
        panel.set_axis_off()
    for line, (label, pictures) in zip(axes, rows.items(), strict=True):
        for panel, picture in zip(line, pictures, strict=False):
            _show(panel, picture)
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
        line[0].set_ylabel(fill(label, 16), rotation=0, ha="right", va="center")
    add_note(figure, "One of the many versions of each image that a training sees.", note)
    return figure

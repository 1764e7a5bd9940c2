"""What a classifier said of labelled images: its accuracy, confusions and worst mistakes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scores:
    """A classifier's answers.

    Attributes:
        images: (N, 28, 28) uint8.
        labels: (N,) int64, what each image is.
        probabilities: (N, 10) float32, what the classifier takes it for.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) the likeliest class of each image."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(1)
        return predicted

    @property
    def accuracy(self) -> float:
        """The fraction of images taken for what they are."""
        return int((self.predicted == self.labels).sum()) / len(self.labels)

    def confusion(self) -> NDArray[np.int64]:
        """(10, 10) how many images of each class (row) were taken for each class (column)."""
        classes = self.probabilities.shape[1]
        table = np.zeros((classes, classes), np.int64)
        np.add.at(table, (self.labels, self.predicted), 1)
        return table

    def most_wrong(self, count: int) -> NDArray[np.intp]:
        """Positions of the misclassified images that were given the least chance of being right.

        The worst comes first; fewer than `count` where there are not so many mistakes.
        """
        wrong = np.flatnonzero(self.predicted != self.labels)
        chance = self.probabilities[wrong, self.labels[wrong]]
        return wrong[np.argsort(chance, kind="stable")][:count]

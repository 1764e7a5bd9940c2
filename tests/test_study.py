"""The study that is shipped: what the repository shows is what its file says."""

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

STUDY = ROOT / "study/fashion_mnist_cnn_tuning.jsonl.gz"

pytestmark = pytest.mark.skipif(not STUDY.exists(), reason="no study is shipped yet")


@pytest.fixture
def shipped(fmnist_here, migrated):  # noqa: ARG001  the store that it imports into
    """The command line beside a store with the shipped study."""
    done = fmnist_here("import", STUDY)
    assert done.returncode == 0, done.stderr
    return fmnist_here


def test_the_journal_is_that_of_the_study(shipped):
    """Every table, answer and verdict."""
    done = shipped("journal", "--check", "--output", ROOT / "JOURNAL.md")
    assert done.returncode == 0, done.stdout


def test_the_figures_are_those_of_the_study(shipped, tmp_path):
    """Each of them, to the pixel; none is missing."""
    assert shipped("plot", "--output", tmp_path / "drawn").returncode == 0
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert len(drawn) >= 10
    for name in drawn:
        with (
            Image.open(tmp_path / "drawn" / name) as new,
            Image.open(ROOT / "visualizations" / name) as old,
        ):
            assert np.array_equal(np.asarray(new), np.asarray(old)), name

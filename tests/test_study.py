"""The study that is shipped: what the repository shows is what its file says."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from fmnist_tuning.report.journal.page import render_page

STUDY = ROOT / "study/fashion_mnist_cnn_tuning.jsonl.gz"


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


@pytest.mark.slow
def test_the_figures_are_those_of_the_study(shipped, tmp_path):
    """Each of them, to the pixel; none is missing."""
    assert shipped("plot", "--output", tmp_path / "drawn").returncode == 0
    assert_same_figures(tmp_path / "drawn", at_least=12)


@pytest.mark.slow
def test_the_champion_is_that_of_the_study(shipped, tmp_path, real_data):
    """The shipped network scores what its run logged; its figures are the shipped ones."""
    network = ROOT / "study/weights.pt"
    options = ("--output", tmp_path / "drawn", "--data-dir", real_data)
    done = shipped("champion", "--weights", network, *options)
    assert done.returncode == 0, done.stderr
    assert " % scored again, as its run logged\n" in done.stdout
    assert "models:/fashion_mnist_cnn@champion, version 1\n" in done.stdout
    assert_same_figures(tmp_path / "drawn", at_least=2)


def assert_same_figures(folder, at_least):
    """What was drawn is what is shipped, pixel by pixel."""
    drawn = sorted(path.name for path in folder.iterdir())
    assert len(drawn) >= at_least
    for name in drawn:
        with Image.open(folder / name) as new, Image.open(ROOT / "visualizations" / name) as old:
            assert np.array_equal(np.asarray(new), np.asarray(old)), name


@pytest.mark.slow
def test_what_the_last_claim_would_take(shipped, real_data):
    """The next look at its arms alone, as study/README.md says."""
    done = shipped("plan", ROOT / "configs", "--decide", "--data-dir", real_data)
    assert done.returncode == 0, done.stderr
    assert "with --decide at most 39 trainings" in done.stdout
    said = (ROOT / "study/README.md").read_text(encoding="utf-8")
    assert "The next look is at 40 seeds, 39 trainings" in said


def test_marks_and_verdicts_agree(shipped):
    """Three blocks beat two, and two beat one: neither is marked as just as good as three.

    The claims are on the last epochs, the marks on the final one; one and three blocks are in no
    claim, and have three seeds in common.
    """
    lines = shipped("results", "exp3_conv_depth").stdout.splitlines()
    found = {n: next(line for line in lines if f"num_conv_layers={n}" in line) for n in (1, 2, 3)}
    assert found[3].startswith(" *")
    assert not found[2].startswith(" ~")
    assert not found[1].startswith(" ~")


def test_what_the_journal_says_by_hand(shipped):
    """The figures that stand beside published ones are the study's too."""
    shown = pd.read_csv(io.StringIO(shipped("results", "--csv").stdout))
    text = " ".join((ROOT / "JOURNAL.md").read_text(encoding="utf-8").split())
    base = shown[(shown["sweep"] == "exp1_dropout") & (shown["arm"] == "dropout_rate=0.5")]
    ends, best = base["final_val_accuracy"] * 100, base["best_val_accuracy"] * 100
    assert (
        f"The {len(base)} trainings of the base configuration in experiment 1 end between "
        f"{ends.min():.2f} and {ends.max():.2f} %; their best epochs have between {best.min():.2f} "
        f"and {best.max():.2f} %."
    ) in text
    sixth = shown[shown["sweep"] == "exp6_combined"]
    fresh = sixth[sixth["arm"].str.startswith("base")]
    ends = fresh["final_val_accuracy"] * 100
    sentence = f"{len(fresh)} more, on the seeds of experiment 6, end between"
    assert f"{sentence} {ends.min():.2f} and {ends.max():.2f} %." in text
    shown = shown[shown["validation"] == "test"]  # as in the published figures
    assert f"single ones reach {shown['final_val_accuracy'].max() * 100:.2f} %;" in text
    means = shown.groupby(["sweep", "arm"])["final_val_accuracy"].mean()
    assert f"has a mean above {means.max() * 100:.2f} %." in text
    late = sixth.groupby(sixth["arm"].str[0])["late_val_accuracy"].mean() * 100
    own = f"{late['A']:.2f}, {late['B']:.2f} and {late['C']:.2f} %"
    assert f"have means of {own} over their last three epochs (8, 3 and 3 seeds); the base" in text
    assert f"configuration has {late['b']:.2f} % on the {len(fresh)} seeds" in text
    assert "than the base configuration: **refuted**" in text
    assert (
        text.count("% predicted (") == len(re.findall(r"came out −[0-9.]+ points from", text)) == 3
    )


def test_the_page_is_that_of_the_journal():
    """One file with all figures, small enough to be sent."""
    page = ROOT / "visualizations/journal.html"
    text = (ROOT / "JOURNAL.md").read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8") == render_page(text, ROOT)
    assert page.stat().st_size < 3_000_000

"""Figures: the kinds, their files, and what they do with half a study."""

import io
import re

import numpy as np
import pytest
from conftest import CONFIGS
from studies import frames_of, sweep_of

from fmnist_tuning.errors import FmnistError
from fmnist_tuning.report.figures.style import encode_figure
from fmnist_tuning.report.figures.sweep_figures import (
    draw_curves,
    draw_figure,
    draw_study,
    file_names,
)
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.sweep import Figure

SHIPPED = [
    sweep.model_copy(update={"seeds": (0, 1, 2)})
    for sweep in load_sweeps(CONFIGS)
    if not sweep.pending
]
RANKED = """
sweep: seven
title: Seven
grid: {fc_units: [[32], [64]], optimizer: [Adam, SGD]}
"""


def texts(figure) -> str:
    """All that a figure says, wherever it stands."""
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("sweep", SHIPPED, ids=lambda sweep: sweep.id)
def test_the_journals_figures(sweep):
    """Both figures of each sweep are drawn, and are not empty."""
    from PIL import Image

    ((name, drawn),) = draw_study({sweep.id: frames_of(sweep)})
    assert name == sweep.id
    assert list(drawn) == [sweep.figure.file, f"{sweep.id}_curves.png"]
    for content in drawn.values():
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        assert pixels.shape[1] == 1440
        assert pixels.min() < 60
        assert (pixels < 250).mean() > 0.01


def test_every_seed_is_a_dot_and_every_mean_has_its_interval():
    """What the axes hold is what was measured."""
    frames = frames_of(SHIPPED[0])
    left = draw_figure(frames).axes[0]
    dots = sorted(
        float(y) for line in left.lines if line.get_markersize() == 4 for y in line.get_ydata()
    )
    assert dots == pytest.approx(sorted(frames.runs["final_val_accuracy"] * 100))
    (container,) = left.containers
    means = frames.runs.groupby("arm")["final_val_accuracy"].mean() * 100
    assert sorted(container.lines[0].get_ydata()) == pytest.approx(sorted(means))
    assert container.has_yerr


def test_axes_start_where_differences_can_be_seen():
    """Not at zero, where 92.2 and 92.5 % look alike."""
    low, high = draw_figure(frames_of(SHIPPED[0])).axes[0].get_ylim()
    assert low > 80
    assert high - low < 5


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_runs_make_the_same_bytes(kind):
    """No date, no random id, whatever was drawn before."""
    frames = frames_of(SHIPPED[0])
    first = encode_figure(draw_figure(frames), kind)
    draw_curves(frames)
    assert encode_figure(draw_figure(frames_of(SHIPPED[0])), kind) == first


def test_the_readers_own_style_changes_nothing(monkeypatch):
    """A matplotlibrc is not part of the study."""
    import matplotlib as mpl

    frames = frames_of(SHIPPED[0])
    expected = encode_figure(draw_figure(frames), "png")
    monkeypatch.setitem(mpl.rcParams, "font.size", 20.0)
    monkeypatch.setitem(mpl.rcParams, "axes.facecolor", "red")
    assert encode_figure(draw_figure(frames), "png") == expected


def test_one_seed_says_so():
    """No bars, and the reason."""
    figure = draw_figure(frames_of(SHIPPED[0], keep=lambda run: run.config.seed == 0))
    assert "One seed: how far a repeat would differ is unknown." in texts(figure)
    assert not any(container.has_yerr for container in figure.axes[0].containers)


def test_half_a_sweep_is_drawn_and_says_what_is_missing():
    """What is there, and how much is not."""
    frames = frames_of(SHIPPED[0], keep=lambda run: run.config.dropout_rate < 0.4)
    figure = draw_figure(frames)
    assert "Not finished and not shown: 6 of 15 runs." in texts(figure)
    assert encode_figure(figure, "png")


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_heatmap_with_empty_cells(keep):
    """Cells without runs stay blank."""
    sweep = next(s for s in SHIPPED if s.figure.kind == "heatmap")
    labels = [arm.label for arm in sweep.arms[:keep]]
    frames = frames_of(sweep, keep=lambda run: run.arm.label in labels)
    assert encode_figure(draw_figure(frames), "png")


def test_a_sweep_without_a_figure_gets_a_ranking(tmp_path):
    """Under its own name, the best at the top."""
    sweep = sweep_of(RANKED, tmp_path)
    frames = frames_of(
        sweep, lambda c: 0.9 + 0.0001 * c.fc_units[0] + 0.01 * (c.optimizer == "SGD")
    )
    assert file_names(frames) == ("seven.png", "seven_curves.png")
    ticks = [
        tick.get_text().replace("\n", " ") for tick in draw_figure(frames).axes[0].get_yticklabels()
    ]
    assert ticks[-1] == "hidden units [64], optimizer SGD"
    assert ticks[0] == "hidden units [32], optimizer Adam"


def test_another_format_for_every_file():
    """Names follow."""
    assert file_names(frames_of(SHIPPED[0]), "svg") == (
        "dropout_impact.svg",
        "exp1_dropout_curves.svg",
    )


def test_a_trend_over_several_settings(tmp_path):
    """A line for each of the other settings; small values on a scale of ratios."""
    text = (
        "sweep: s\ntitle: S\nfigure: {kind: trend, x: learning_rate, file: s.png}\n"
        "grid: {learning_rate: [0.0001, 0.001, 0.01], use_pooling: [true, false]}\n"
    )
    figure = draw_figure(frames_of(sweep_of(text, tmp_path)))
    assert figure.axes[0].get_xscale() == "log"
    assert len(figure.axes[0].containers) == 2
    assert "max pooling off" in texts(figure)


def test_a_thousand_arms_are_not_all_drawn(tmp_path):
    """The best, and that they are not all."""
    rates = ", ".join(f"{rate / 100}" for rate in range(60))
    text = f"sweep: s\ntitle: S\ngrid: {{dropout_rate: [{rates}]}}\n"
    frames = frames_of(sweep_of(text, tmp_path))
    assert "The 20 arms of 60 with the best mean validation accuracy." in texts(draw_figure(frames))
    assert "The 10 arms of 60" in texts(draw_curves(frames))


def test_two_sweeps_with_one_file(tmp_path):
    """One would overwrite the other: an error that names both."""
    sweep = sweep_of(RANKED, tmp_path)
    figure = Figure(kind="ranking", file=SHIPPED[0].figure.file)
    other = sweep.model_copy(update={"sweep": "eight", "figure": figure})
    frames = {"exp1_dropout": frames_of(SHIPPED[0]), "eight": frames_of(other)}
    with pytest.raises(FmnistError, match=r"exp1_dropout and eight both draw dropout_impact.png"):
        list(draw_study(frames))


def test_a_figure_that_cannot_be_drawn(tmp_path):
    """A store may hold a kind that does not exist, or axes that do not fit: nothing is drawn."""
    sweep = sweep_of(RANKED, tmp_path)
    for figure, reason in (
        (Figure(kind="pie", file="a.png"), "figure.kind: found 'pie'; allowed: "),
        (Figure(kind="trend", x="epochs", file="a.png"), "figure.x: found 'epochs', allowed"),
    ):
        frames = {
            "exp1_dropout": frames_of(SHIPPED[0]),
            "seven": frames_of(sweep.model_copy(update={"figure": figure})),
        }
        with pytest.raises(FmnistError, match=re.escape(f"seven: {reason}")):
            next(draw_study(frames))


def test_titles_are_text_and_not_mathematics(tmp_path):
    """A dollar sign in a title draws a dollar sign."""
    sweep = sweep_of(RANKED.replace("title: Seven", "title: 'Cost in $ \\frac{ and $'"), tmp_path)
    assert encode_figure(draw_figure(frames_of(sweep)), "png")

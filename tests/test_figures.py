"""Figures: the kinds, their files, and what they do with half a study."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import CONFIGS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image
from studies import frames_of, six_experiments, sweep_of

from fmnist_tuning.analysis.frames import summary
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.metrics import CURVES
from fmnist_tuning.report.figures.claims import draw_claims
from fmnist_tuning.report.figures.style import CUT, encode_figure, legible_on, styled
from fmnist_tuning.report.figures.sweep_figures import (
    draw_curves,
    draw_figure,
    draw_study,
    draw_study_claims,
    file_names,
)
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.sections import Figure

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
    """All that a figure says, wherever it stands and however its lines are broken."""
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def labels(figure) -> set[str]:
    """A ranking's arms."""
    return {tick.get_text().replace("\n", " ") for tick in figure.axes[0].get_yticklabels()}


@pytest.fixture(autouse=True)
def _styled():
    with styled():
        yield


@pytest.mark.parametrize("sweep", SHIPPED, ids=lambda sweep: sweep.id)
def test_the_journals_figures(sweep):
    """Both figures of each sweep are drawn, and are not empty."""
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
    left = draw_figure(frames, {}).axes[0]
    dots = sorted(
        float(y)
        for line in left.lines
        if line.get_linestyle() == "None" and line.get_alpha()
        for y in line.get_ydata()
    )
    assert dots == pytest.approx(sorted(frames.runs["final_val_accuracy"] * 100))
    (container,) = left.containers
    means = frames.runs.groupby("arm")["final_val_accuracy"].mean() * 100
    assert sorted(container.lines[0].get_ydata()) == pytest.approx(sorted(means))
    assert container.has_yerr


def test_axes_start_where_differences_can_be_seen():
    """Not at zero, where 92.2 and 92.5 % look alike."""
    low, high = draw_figure(frames_of(SHIPPED[0]), {}).axes[0].get_ylim()
    assert low > 80
    assert high - low < 5


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_runs_make_the_same_bytes(kind):
    """No date, no random id, whatever was drawn before."""
    frames = frames_of(SHIPPED[0])
    first = encode_figure(draw_figure(frames, {}), kind)
    draw_curves(frames)
    assert encode_figure(draw_figure(frames_of(SHIPPED[0]), {}), kind) == first


SHEET = """
font.size: 14
text.color: maroon
axes.prop_cycle: cycler(color=["k", "r"])
figure.figsize: 3.6, 3.4
savefig.dpi: 100
"""


@pytest.mark.parametrize("place", ["matplotlibrc", "sheet"])
def test_the_readers_own_style(monkeypatch, tmp_path, place):
    """Colours, fonts and sizes are those of a matplotlibrc, or of a style sheet over it."""
    own = tmp_path / place
    own.write_text(SHEET, encoding="utf-8")
    sheet = str(own) if place == "sheet" else None
    if sheet is None:
        monkeypatch.setenv("MATPLOTLIBRC", str(own))
    with styled(sheet):
        figure = draw_curves(frames_of(SHIPPED[0]))
        pixels = Image.open(io.BytesIO(encode_figure(figure, "png")))
    assert pixels.width == 360
    lines = figure.axes[0].lines
    assert {line.get_color() for line in lines} == {"k", "r"}
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}
    assert len({look for look in looks if look[1] != "None"}) == 5
    assert {text.get_color() for text in figure.texts} == {"maroon"}
    assert figure.axes[0].xaxis.label.get_fontsize() == 14


def test_a_style_of_matplotlibs_own():
    """By its name."""
    with styled("dark_background"):
        figure = draw_figure(frames_of(SHIPPED[0]), {})
        assert figure.get_facecolor() == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"font.size: huge", "Bad value in line 1 ('font.size: huge'): "),
        (b"\nfnt.size: 3", "Bad key fnt.size in line 2"),
        (b"text", "Missing colon in line 1"),
        (b"\xff\xfe\0", "found bytes that are no UTF-8"),
        (None, "cannot be read as a matplotlib style: No such file"),
    ],
)
def test_a_style_that_cannot_be_read(tmp_path, content, message):
    """One message with the file, the line and the remedy."""
    sheet = tmp_path / "bad.mplstyle"
    if content is not None:
        sheet.write_bytes(content)
    with pytest.raises(FmnistError, match=re.escape(message)) as error, styled(str(sheet)):
        pass
    assert str(error.value).startswith(f"{sheet}: ")


def test_a_style_is_never_fetched():
    """Matplotlib itself would ask a server for it."""
    with pytest.raises(FmnistError, match="No such file"), styled("http://127.0.0.1:9/a.mplstyle"):
        pass


@pytest.mark.parametrize("draw", [draw_curves, lambda frames: draw_figure(frames, {})])
@pytest.mark.parametrize("kind", ["ranking", "trend", "comparison"])
def test_nothing_is_cut_off(tmp_path, draw, kind):
    """Nine arms with long names under a long title: all text is inside, and every look differs."""
    title = "A title as long as a sentence, which no figure of a page's width has in one line of it"
    names = "".join(
        f"  - {{name: sgd with a long name of its own, {n}, dropout_rate: 0.{n}}}\n"
        for n in range(9)
    ).replace("own, ", "own ")
    figure = (
        "" if kind == "ranking" else f"figure: {{kind: {kind}, x: dropout_rate, file: a.png}}\n"
    )
    drawn = draw(frames_of(sweep_of(f"sweep: s\ntitle: {title}\n{figure}arms:\n{names}", tmp_path)))
    encode_figure(drawn, "png")
    renderer = FigureCanvasAgg(drawn).get_renderer()
    boxes = [legend.get_window_extent(renderer) for legend in drawn.legends]
    inches = drawn.get_tightbbox(renderer)
    assert inches.x0 >= 0
    assert inches.x1 <= drawn.get_figwidth() + 0.01
    assert all(box.x0 >= 0 and box.x1 <= drawn.bbox.width for box in boxes)
    for legend in drawn.legends:
        looks = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()]
        assert len(set(looks)) == len(looks) == 9


def test_named_arms_go_by_their_names(tmp_path):
    """The settings are in the sweep's file; the letters of a combination say nothing alone."""
    text = "sweep: s\ntitle: S\narms: [{name: plain, momentum: 0.0, optimizer: SGD}, {name: b}]\n"
    assert labels(draw_figure(frames_of(sweep_of(text, tmp_path)), {})) == {"plain", "b"}
    sixth = six_experiments()[5]
    assert "A: dropout rate 0.2, depth 3" in labels(draw_figure(frames_of(sixth), {}))


def test_a_ranking_shows_what_its_claims_compare_with():
    """The base configuration stands among the arms, and is marked as another sweep's."""
    first, *_, sixth = six_experiments()
    figure = draw_figure(frames_of(sixth), {first.id: frames_of(first)})
    assert "dropout rate 0.5 (exp1_dropout)" in labels(figure)
    assert "Squares: arms of other sweeps" in texts(figure)


def test_one_epoch_is_one_tick():
    """A short look at a sweep has whole epochs too."""
    frames = frames_of(SHIPPED[0])
    every = frames.read_curves([*CURVES])
    first = every[every["epoch"] == 1]
    short = replace(frames, read_curves=lambda asked: first[first["metric"].isin(asked)])
    for panel in draw_curves(short).axes:
        low, high = panel.get_xlim()
        assert [tick for tick in panel.get_xticks() if low <= tick <= high] == [1]


def test_validation_has_panels_of_its_own():
    """Train's range is wider, and would press the arms' validation together."""
    figure = draw_curves(frames_of(SHIPPED[0]))
    assert [panel.get_ylabel() for panel in figure.axes] == [
        "validation loss, nats",
        "validation accuracy, %",
        "train loss, nats",
        "train accuracy, %",
    ]


@pytest.mark.parametrize("sweep", SHIPPED[:4], ids=lambda sweep: sweep.id)
def test_the_gap_has_a_panel(sweep):
    """Train minus validation accuracy, run by run, in points."""
    frames = frames_of(sweep, lambda config: 0.9 + 0.01 * config.dropout_rate)
    right = draw_figure(frames, {}).axes[1]
    assert right.get_ylabel() == "overfitting gap, points"
    (container,) = right.containers
    means = frames.runs.groupby("arm")["overfitting_gap"].mean() * 100
    assert sorted(container.lines[0].get_ydata()) == pytest.approx(sorted(means))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("validation: test", "Validation is the test set."),
        ("validation: holdout", "Validation is held out of the training images."),
    ],
)
def test_figures_say_what_validation_is(tmp_path, setting, said):
    """Every one of them."""
    text = f"sweep: s\ntitle: S\nfixed: {{{setting}}}\ngrid: {{dropout_rate: [0.0, 0.5]}}\n"
    frames = frames_of(sweep_of(text, tmp_path))
    assert said in texts(draw_figure(frames, {}))
    assert said in texts(draw_curves(frames))


def test_two_seeds_do_not_flatten_the_runs(tmp_path):
    """Their interval is 13 standard errors to each side: it is cut, and the figure says so."""
    sweep = sweep_of(
        "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.5]}\nseeds: [0, 1]\n", tmp_path
    )
    frames = frames_of(sweep, lambda config: 0.97 + 0.02 * config.seed)
    figure = draw_figure(frames, {})
    low, high = figure.axes[0].get_xlim()
    assert 94 < low < 97
    assert high == 100
    assert CUT in texts(figure)
    three = frames_of(SHIPPED[0])
    assert CUT not in texts(draw_figure(three, {}))


@pytest.mark.parametrize("kind", ["trend", "comparison", "ranking"])
def test_every_run_is_in_the_picture(kind, tmp_path):
    """With many seeds the runs reach further than the interval of their mean."""
    x = "" if kind == "ranking" else "x: dropout_rate, "
    text = (
        "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.5]}\n"
        f"seeds: {[*range(30)]}\nfigure: {{kind: {kind}, {x}file: s.png}}\n"
    )
    frames = frames_of(sweep_of(text, tmp_path))
    panel = draw_figure(frames, {}).axes[0]
    values = frames.runs["final_val_accuracy"] * 100
    low, high = panel.get_xlim() if kind == "ranking" else panel.get_ylim()
    assert low < values.min()
    assert high > values.max()


def test_a_heatmaps_colours_are_no_louder_than_its_numbers():
    """The scale spans a cell's interval; there is a colour bar; text is legible on every cell."""
    sweep = next(s for s in SHIPPED if s.figure.kind == "heatmap")
    frames = frames_of(sweep, lambda config: 0.92 + 0.004 * (config.seed - 1))
    left, _, bar = draw_figure(frames, {}).axes
    (image,) = left.images
    low, high = image.get_clim()
    found = summary(frames, frames.arms[0], "final_val_accuracy")
    assert high - low == pytest.approx((found.high - found.low) * 100)
    assert [float(t) for t in bar.get_ylim()] == pytest.approx([low, high])


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio, from 1 to 21."""
    from PIL import ImageColor

    def luminance(colour):
        parts = np.array(ImageColor.getrgb(colour)) / 255
        linear = np.where(parts > 0.04045, ((parts + 0.055) / 1.055) ** 2.4, parts / 12.92)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("colour", ["white", "black", "#707070", "#787878", "#fde725", "#0000ff"])
def test_text_on_a_colour(colour):
    """Black or white, whichever has more contrast."""
    other = {"black": "white", "white": "black"}[legible_on(colour)]
    assert contrast(colour, legible_on(colour)) > contrast(colour, other)


def test_one_seed_says_so():
    """No bars, and the reason."""
    figure = draw_figure(frames_of(SHIPPED[0], keep=lambda run: run.config.seed == 0), {})
    assert "One seed: how far a repeat would differ is unknown." in texts(figure)
    assert not any(container.has_yerr for container in figure.axes[0].containers)


def test_half_a_sweep_is_drawn_and_says_what_is_missing():
    """What is there, and how much is not."""
    frames = frames_of(SHIPPED[0], keep=lambda run: run.config.dropout_rate < 0.4)
    figure = draw_figure(frames, {})
    assert "Not finished and not shown: 6 of 15 runs." in texts(figure)
    assert encode_figure(figure, "png")


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_heatmap_with_empty_cells(keep):
    """Cells without runs stay blank."""
    sweep = next(s for s in SHIPPED if s.figure.kind == "heatmap")
    labels = [arm.label for arm in sweep.arms[:keep]]
    frames = frames_of(sweep, keep=lambda run: run.arm.label in labels)
    assert encode_figure(draw_figure(frames, {}), "png")


def test_a_sweep_without_a_figure_gets_a_ranking(tmp_path):
    """Under its own name, the best at the top."""
    sweep = sweep_of(RANKED, tmp_path)
    frames = frames_of(
        sweep, lambda c: 0.9 + 0.0001 * c.fc_units[0] + 0.01 * (c.optimizer == "SGD")
    )
    assert file_names(frames) == ("seven.png", "seven_curves.png")
    ticks = [
        tick.get_text().replace("\n", " ")
        for tick in draw_figure(frames, {}).axes[0].get_yticklabels()
    ]
    assert ticks[-1] == "hidden units 64, optimizer SGD"
    assert ticks[0] == "hidden units 32, optimizer Adam"


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
    figure = draw_figure(frames_of(sweep_of(text, tmp_path)), {})
    assert figure.axes[0].get_xscale() == "log"
    assert len(figure.axes[0].containers) == 2
    assert "max pooling off" in texts(figure)


def test_a_thousand_arms_are_not_all_drawn(tmp_path):
    """The best, and that they are not all."""
    rates = ", ".join(f"{rate / 100}" for rate in range(60))
    text = f"sweep: s\ntitle: S\ngrid: {{dropout_rate: [{rates}]}}\n"
    frames = frames_of(sweep_of(text, tmp_path))
    assert "The 20 arms of 60 with the best mean validation accuracy." in texts(
        draw_figure(frames, {})
    )
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
    assert encode_figure(draw_figure(frames_of(sweep), {}), "png")


def test_all_claims_in_one_figure(tmp_path):
    """In margins, by sweep, with look and word; exact ones and those without runs are left out."""
    frames = {sweep.id: frames_of(sweep) for sweep in SHIPPED}
    figure = draw_claims(frames, frames)
    said = texts(figure)
    assert "moderate dropout (0.3 to 0.5) validates better than none" in said
    assert "pooling reduces the parameters" not in said
    assert "supported 3 seeds" in said
    assert [text.get_text() for text in figure.axes[0].texts if text.get_text() in frames] == [
        *frames
    ]
    assert len(figure.axes[0].get_yticklabels()) == said.count(" 3 seeds")
    ((name, content),) = draw_study_claims(frames, "svg").items()
    assert name == "claims.svg"
    assert content.startswith(b"<?xml")
    plain = sweep_of(RANKED, tmp_path)
    assert draw_study_claims({"seven": frames_of(plain)}) == {}


def test_a_sweep_that_takes_the_name_of_the_claims(tmp_path):
    """One of them would overwrite the other."""
    sweep = sweep_of(RANKED + "figure: {kind: ranking, file: claims.png}\n", tmp_path)
    with pytest.raises(FmnistError, match=r"the study and seven both draw claims\.png"):
        list(draw_study({"seven": frames_of(sweep)}))

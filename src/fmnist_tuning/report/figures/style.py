"""How every figure looks, and how it becomes a file."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from fmnist_tuning.analysis.frames import SweepFrames

Format = Literal["png", "svg", "pdf"]

WIDTH_INCHES: Final = 7.2
"""The text width of a page."""

TRAIN: Final = "#D55E00"
VALIDATION: Final = "#0072B2"
INK: Final = "#222222"
PALE: Final = "#BBBBBB"

_RC: Final[dict[Any, Any]] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "savefig.dpi": 200,
    "svg.hashsalt": "fmnist",
    "text.parse_math": False,  # a dollar sign in a sweep's title is no formula
}

# Okabe & Ito's palette, which colour-blind people can tell apart, without its yellow, which is hard
# to see on paper. In this order, neighbours differ in grey print too. Markers do the rest.
_COLOURS: Final = ("#0072B2", "#E69F00", "#000000", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
_MARKERS: Final = "os^DvP*"

MAX_SERIES: Final = 10
"""A reader could not tell more series apart."""


class Look(NamedTuple):
    """A series' colour and marker."""

    colour: str
    marker: str


def looks(count: int) -> list[Look]:
    """This many looks, each different from the others."""
    return [
        Look(_COLOURS[i % len(_COLOURS)], (_MARKERS[i // len(_COLOURS) :] + _MARKERS)[i % 7])
        for i in range(count)
    ]


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's defaults with ours on top, whatever the reader's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def add_legend(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend in columns between the title and the panels."""
    columns = 4
    rows = -(-len(handles) // columns)
    # The layout makes no room for a legend below a title; the title's own blank lines do.
    title = figure.get_suptitle()
    figure.suptitle(title + "\n" * rows, x=0.01, ha="left", fontsize=11, weight="bold")
    top = 1 - 0.22 / figure.get_size_inches()[1]
    place = {"bbox_to_anchor": (0, top), "ncols": columns}
    figure.legend(handles=handles, loc="upper left", **place).set_in_layout(False)


def new_figure(title: str, height_inches: float, **layout: Any) -> tuple[Figure, Any]:
    """A figure with its title, and its axes."""
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    axes = figure.subplots(**layout)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
    return figure, axes


def add_note(figure: Figure, *sentences: str) -> None:
    """Sentences below the drawing that a reader needs to understand it."""
    figure.supxlabel("\n".join(filter(None, sentences)), x=0.01, ha="left", fontsize=7.5, color=INK)


def note_on_seeds(frames: SweepFrames, marks: str) -> str:
    """How many seeds the drawing shows, and what is missing from it."""
    counts = sorted({len(frames.arm(arm.label)) for arm in frames.arms})
    if counts[-1] == 1:
        text = "One seed: how far a repeat would differ is unknown."
    else:
        few = f"{counts[0]} to " if counts[0] < counts[-1] else ""
        text = f"{few}{counts[-1]} seeds. {marks}"
    if frames.missing:
        total = len(frames.missing) + len(frames.runs)
        text += f"\nNot finished and not shown: {len(frames.missing)} of {total} runs."
    return text


def encode_figure(figure: Figure, kind: Format) -> bytes:
    """The figure as a file's content; it has no date, so the same drawing gives the same bytes."""
    undated = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    buffer = io.BytesIO()
    with styled(), warnings.catch_warnings():
        # Matplotlib's font lacks many of the world's characters and draws boxes instead.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format=kind, metadata=undated[kind])
    return buffer.getvalue()

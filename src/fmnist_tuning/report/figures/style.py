"""How every figure looks, and how it becomes a file."""

import io
import logging
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import matplotlib as mpl
import matplotlib.style
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.errors import FmnistError

Format = Literal["png", "svg", "pdf"]

PALE: Final = "#BBBBBB"
CUT: Final = "Intervals that reach the edge go on beyond it."

# Ten colours that people with any kind of colour vision can tell apart: Petroff, Accessible Color
# Sequences for Data Visualization (2021), arXiv:2107.02270.
_COLOURS: Final = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
_MARKERS: Final = "os^DvP*X<>"
_LINES: Final = ("-", "--", ":", "-.")

MAX_SERIES: Final = len(_MARKERS)
"""A reader could not tell more series apart."""

_SIZE: Final = (7.2, 3.4)  # inches; the text width of a page
_RC: Final[dict[Any, Any]] = {
    "figure.figsize": _SIZE,
    "figure.titlesize": "large",
    "figure.titleweight": "bold",
    "figure.labelsize": "small",
    "font.size": 9,
    "text.color": "#222222",
    "axes.prop_cycle": cycler(color=_COLOURS),
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "axes.labelsize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "xtick.color": "#222222",
    "ytick.color": "#222222",
    "legend.frameon": False,
    "legend.fontsize": "small",
    "lines.linewidth": 1.2,
    "lines.markersize": 5.5,
    "errorbar.capsize": 2.5,
    "image.cmap": "cividis",
    "savefig.dpi": 200,
}
_ALWAYS: Final[dict[Any, Any]] = {
    "svg.hashsalt": "fmnist",
    "text.parse_math": False,  # a dollar sign in a sweep's title is no formula
    "text.usetex": False,  # nor is any of its signs a command
}
_LEFT: Final = 0.01  # of the figure's width
_ABOVE: Final = 0.1  # inches above the title, and between it and the legend
_CHARACTER: Final = 0.56  # mean width of a character, in its size


class Look(NamedTuple):
    """A series' colour, marker and line style."""

    colour: str
    marker: str
    line: str = "-"


def looks(count: int) -> list[Look]:
    """This many looks, each different from the others (up to `MAX_SERIES`)."""
    colours = mpl.rcParams["axes.prop_cycle"].by_key().get("color", _COLOURS)
    return [
        Look(
            colours[i % len(colours)],
            _MARKERS[i % len(_MARKERS)],
            _LINES[i // len(colours) % len(_LINES)],
        )
        for i in range(count)
    ]


@contextmanager
def styled(sheet: str | None = None) -> Iterator[None]:
    """Our look; over it the reader's matplotlibrc, and over that a style sheet.

    `sheet` is a file, or the name of one of matplotlib's styles. What matplotlib would say of
    neither is left as it is, so that a study looks the same on every machine.

    Raises:
        FmnistError: When either cannot be read, or has a line that matplotlib does not know.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        own = Path(mpl.matplotlib_fname())
        if not own.is_relative_to(mpl.get_data_path()):
            _apply(_read(own))
        if sheet is not None:
            named = sheet in mpl.style.library and not Path(sheet).exists()
            _apply(mpl.style.library[sheet] if named else _read(Path(sheet)))
        mpl.rcParams.update(_ALWAYS)
        yield


def _apply(params: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parameters that concern no figure are left out
        mpl.style.use(dict(params))


def _read(path: Path) -> Any:
    heard = _Heard()
    logger = logging.getLogger("matplotlib")
    logger.addHandler(heard)
    try:
        params = mpl.rc_params_from_file(str(path), use_default_template=False)
    except OSError as error:
        raise FmnistError(
            f"{path}: cannot be read as a matplotlib style: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise FmnistError(
            f"{path}: is no matplotlib style: found bytes that are no UTF-8"
        ) from None
    finally:
        logger.removeHandler(heard)
    if heard.said:
        raise FmnistError(f"{path}: {heard.said[0]}; correct or delete that line")
    return params


class _Heard(logging.Handler):
    """Keeps the first line of what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage().strip().partition("\n")[0]
        self.said.append(re.sub(r" in file .*?, line ", " in line ", line))


def new_figure(title: str, height: float = _SIZE[1], **layout: Any) -> tuple[Figure, Any]:
    """A figure of a height in inches with its title, and its axes.

    A reader's own `figure.figsize` stands for `_SIZE`, and scales other heights.
    """
    width, own = mpl.rcParams["figure.figsize"]
    saved = mpl.rcParams["savefig.dpi"]  # text is measured at the resolution at which it is drawn
    figure = Figure(
        figsize=(width, height * own / _SIZE[1]),
        dpi=None if saved == "figure" else saved,
        layout="constrained",
    )
    axes = figure.subplots(**layout)
    figure.suptitle(_wrapped(title, figure, mpl.rcParams["figure.titlesize"]), x=_LEFT, ha="left")
    return figure, axes


def add_legend(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend between the title and the panels, in as few lines as fit; none for no series."""
    if not handles:
        return
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    heights = []
    title = figure.get_suptitle()
    for more in ("", "\n"):
        text = figure.suptitle(title + more, x=_LEFT, ha="left")
        heights.append(text.get_window_extent(renderer).height / figure.dpi)
    line = heights[1] - heights[0]
    for columns in range(min(4, len(handles)), 0, -1):
        if -(-len(handles) // columns) == -(-len(handles) // (columns - 1 or 1)) and columns > 1:
            continue  # fewer columns take no more lines, and leave no ragged last one
        # matplotlib fills column by column, and people read line by line.
        ordered = [handle for start in range(columns) for handle in handles[start::columns]]
        legend = figure.legend(
            handles=ordered, loc="upper left", ncols=columns, borderpad=0, borderaxespad=0
        )
        width, height = (side / figure.dpi for side in legend.get_window_extent(renderer).size)
        if width <= figure.get_figwidth() * (1 - 2 * _LEFT) or columns == 1:
            break
        legend.remove()
    # The layout makes no room for a legend below a title; the title's own blank lines do.
    lines = math.ceil((height + _ABOVE) / line)
    figure.set_figheight(figure.get_figheight() + lines * line)
    figure.suptitle(title + "\n" * lines, x=_LEFT, ha="left")
    top = heights[0] + _ABOVE
    legend.set_bbox_to_anchor((_LEFT, 1 - top / figure.get_figheight()))
    legend.set_in_layout(False)


def add_note(figure: Figure, *sentences: str) -> None:
    """Sentences below the drawing that a reader needs to understand it."""
    lines = [_wrapped(t, figure, mpl.rcParams["figure.labelsize"]) for t in sentences if t]
    figure.supxlabel("\n".join(lines), x=_LEFT, ha="left")


def ink() -> str:
    """The colour of text and of what is no series."""
    colour: str = mpl.rcParams["text.color"]
    return colour


def legible_on(colour: Any) -> str:
    """Black or white, whichever is easier to read on a colour.

    By relative luminance, WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance.
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]  # noqa: PLR2004
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"


def note_on_seeds(frames: SweepFrames, marks: str) -> str:
    """How many seeds the drawing shows, and what is missing from it."""
    counts = sorted({len(frames.seeds_of(arm)) for arm in frames.arms})
    if counts[-1] == 1:
        text = "One seed: how far a repeat would differ is unknown."
    else:
        few = f"{counts[0]} to " if counts[0] < counts[-1] else ""
        text = f"{few}{counts[-1]} seeds. {marks}"
    if frames.missing:
        total = len(frames.missing) + len(frames.rows)
        text += f"\nNot finished and not shown: {len(frames.missing)} of {total} runs."
    return text


def note_on_validation(frames: SweepFrames) -> str:
    """Which images the validation figures come from."""
    match sorted({arm.config.validation for arm in frames.arms}):
        case ["test"]:
            return "Validation is the test set."
        case ["holdout"]:
            return "Validation is held out of the training images."
        case _:
            return "Validation is the test set, or held out of the training images, by the arm."


def encode_figure(figure: Figure, kind: Format) -> bytes:
    """The figure as a file's content; it has no date, so the same drawing gives the same bytes."""
    undated = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Matplotlib's font lacks many of the world's characters and draws boxes instead.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format=kind, metadata=undated[kind])
    return buffer.getvalue()


def _wrapped(text: str, figure: Figure, size: str | float) -> str:
    """The text in lines that fit the figure's width."""
    characters = int(figure.get_figwidth() * 72 / (_points(size) * _CHARACTER))
    return "\n".join(textwrap.fill(line, max(characters, 20)) for line in text.split("\n"))


def _points(size: str | float) -> float:
    """A font size such as `small` in points."""
    points: float = FontProperties(size=size).get_size_in_points()
    return points

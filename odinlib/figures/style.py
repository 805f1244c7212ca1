"""One look for every figure: colour-blind-safe, opaque white, the same bytes in every run."""

from collections.abc import Iterable, Sequence

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from odinlib import datasets
from odinlib.errors import UserError

#: Okabe and Ito's colours, then Paul Tol's; the first is the in-distribution set's everywhere.
COLOURS = (
    *("#000000", "#D55E00", "#0072B2", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#999933", "#882255"),
    *("#332288", "#88CCEE", "#117733"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
BASELINE, ODIN = "#D55E00", "#0072B2"
PANEL = (3.4, 2.7)  # inches, one panel


def use_style() -> None:
    """Set seaborn's and matplotlib's defaults; called by the first cell of a notebook that draws."""
    sns.set_theme(context="notebook", style="ticks", palette=COLOURS, font_scale=0.8)
    matplotlib.rcParams.update(
        {
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.dpi": 110,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.5,
            "lines.markersize": 4,
            "legend.frameon": False,
            "svg.hashsalt": "odinlib",  # ids in the SVG do not change from run to run
            "svg.fonttype": "none",
        }
    )
    try:  # vector output, and no date in it, where a notebook shows the figure
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})
    except (ImportError, AttributeError):  # outside a notebook
        pass


def blank(size: tuple[float, float]) -> Figure:
    """A figure without axes, which pyplot does not know of: a notebook shows it once, as the value of its cell."""
    return Figure(figsize=size, layout="constrained")


def panels(
    rows: int, columns: int, *, share_y: bool = False, size: tuple[float, float] = PANEL
) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns panels, and its axes as an array [rows, columns]."""
    figure = blank((size[0] * columns, size[1] * rows + 0.6))
    return figure, figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else False)


def letter(axes: np.ndarray, titles: Sequence[str]) -> None:
    """Title the panels (a), (b), ... in reading order."""
    for index, (axis, title) in enumerate(zip(np.ravel(axes), titles, strict=True)):
        axis.set_title(f"({chr(ord('a') + index)}) {title}", loc="left", fontsize="medium")


def set_line(axis: Axes, x: np.ndarray, y: np.ndarray, name: str, position: int, **options: object) -> None:
    """One set's curve, in the colour and with the marker of its position; its label is the set's full title."""
    style = {"color": COLOURS[position % len(COLOURS)], "marker": MARKERS[position % len(MARKERS)], **options}
    axis.plot(x, y, label=datasets.title(name), **style)  # type: ignore[arg-type]


def shared_legend(figure: Figure, axis: Axes, columns: int = 4) -> None:
    """One legend for all panels, below them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), fontsize="small")


def in_order(columns: Iterable[Iterable[str]]) -> list[str]:
    """Every name of the columns once, in the order in which they first stand there."""
    return list(dict.fromkeys(name for column in columns for name in column))


def check_frames(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> None:
    """Refuse what cannot be drawn.

    Raises:
        UserError: there is no frame, or one is empty, lacks one of `columns`, or holds no finite number in one.
    """
    if not frames:
        raise UserError("there is nothing to draw", expected="measurements of at least one network")
    for frame in frames:
        lacking = [column for column in columns if column not in frame]
        if lacking or frame.empty:
            raise UserError(
                f"a frame of {len(frame)} rows has no column {', '.join(lacking)}" if lacking else "a frame is empty",
                expected=f"columns {', '.join(columns)}",
            )
        for column in columns:
            values = frame[column]
            if pd.api.types.is_numeric_dtype(values) and not np.isfinite(values).all():
                raise UserError(f"column {column} holds NaN or infinity", expected="numbers")

"""One look for every figure: colour-blind-safe, opaque white, the same bytes in every run."""

from collections.abc import Iterable, Sequence

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from odinlib import datasets
from odinlib.errors import UserError

#: Okabe and Ito's colours, then Paul Tol's; the first is the in-distribution set's everywhere.
COLOURS = (
    *("#000000", "#D55E00", "#0072B2", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#999933", "#882255"),
    *("#332288", "#88CCEE", "#117733"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
#: With a marker's, a line's second sign beside its colour: two sets may be one grey to a reader.
DASHES = ("-", "--", "-.", ":", (0, (6, 1.5)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 2.5)))
BASELINE, ODIN = "#D55E00", "#0072B2"
PANEL = (3.4, 2.7)  # inches, one panel


def use_style() -> None:
    """Set seaborn's and matplotlib's defaults; called by the first cell of a notebook that draws."""
    sns.set_theme(context="notebook", style="ticks", palette=COLOURS, font_scale=0.9)
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
    """One set's curve, in the colour, dash and marker of its position; its label is the set's full title."""
    style = {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": DASHES[position % len(DASHES)],
        "marker": MARKERS[position % len(MARKERS)],
        **options,
    }
    axis.plot(x, y, label=datasets.title(name), **style)  # type: ignore[arg-type]


def shared_legend(figure: Figure, axis: Axes, columns: int = 4) -> None:
    """One legend for all panels, below them, of no more columns than its longest entry leaves room for."""
    handles, labels = axis.get_legend_handles_labels()
    fitting = int(12 * figure.get_figwidth() // (max(map(len, labels), default=0) + 6))  # some 12 letters an inch
    columns = max(1, min(columns, len(labels), fitting))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=3)


def drawn(figure: Figure, most: int = 2000) -> str:
    """The numbers that a figure shows, as CSV: panel, series, x, y.

    Args:
        figure: its lines, points and bars are told; pictures and areas are not.
        most: of a curve with more points, this many are told, evenly spaced along it.
    """
    rows: list[tuple[str, str, float, float]] = []

    def tell(panel: str, series: object, x: np.ndarray, y: np.ndarray) -> None:
        chosen = np.linspace(0, len(x) - 1, min(len(x), most)).round().astype(int)
        rows.extend((panel, str(series), float(x[i]), float(y[i])) for i in chosen)

    for number, axis in enumerate(figure.axes, start=1):
        panel = axis.get_title(loc="left") or axis.get_title() or f"panel {number}"
        for line in axis.get_lines():
            if not str(line.get_label()).startswith("_"):
                tell(panel, line.get_label(), *(np.asarray(part, float) for part in line.get_data(orig=False)))
        for points in axis.collections:
            if isinstance(points, PathCollection):
                tell(panel, points.get_label(), *np.ma.getdata(points.get_offsets()).astype(float).T)
        for bars in axis.containers:
            if isinstance(bars, BarContainer):
                boxes = [bar.get_bbox() for bar in bars.patches]
                flat = bars.orientation == "horizontal"
                places = np.array([(box.y0 + box.y1) / 2 if flat else (box.x0 + box.x1) / 2 for box in boxes])
                lengths = np.array([box.width if flat else box.height for box in boxes])
                tell(panel, bars.get_label(), places, lengths)
    frame = pd.DataFrame(rows, columns=["panel", "series", "x", "y"])
    return frame.to_csv(index=False, float_format="%.6g") if rows else ""


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

"""One function per figure of the paper: measured numbers in, a matplotlib figure out."""

from odinlib.figures.detection import figure_1, figure_2
from odinlib.figures.effects import by_network, figure_3, figure_4, figure_7, figure_8, figure_9
from odinlib.figures.images import figure_16, figure_17
from odinlib.figures.mechanism import (
    expansion,
    figure_5,
    figure_6,
    figure_10,
    figure_11,
    figure_12,
    remainder,
    variance_given_u1,
)
from odinlib.figures.resampling import filter_effect, filter_response
from odinlib.figures.scores import before_and_after, mixture, perturbation, score_histograms
from odinlib.figures.style import BASELINE, COLOURS, ODIN, drawn, letter, panels, set_line, shared_legend, use_style
from odinlib.figures.tuning import figure_13, figure_14, figure_15, mean_score, tuning_rules

__all__ = [
    "BASELINE",
    "COLOURS",
    "ODIN",
    "before_and_after",
    "by_network",
    "drawn",
    "expansion",
    "figure_1",
    "figure_2",
    "figure_3",
    "figure_4",
    "figure_5",
    "figure_6",
    "figure_7",
    "figure_8",
    "figure_9",
    "figure_10",
    "figure_11",
    "figure_12",
    "figure_13",
    "figure_14",
    "figure_15",
    "figure_16",
    "figure_17",
    "filter_effect",
    "filter_response",
    "letter",
    "mean_score",
    "mixture",
    "panels",
    "perturbation",
    "remainder",
    "score_histograms",
    "set_line",
    "shared_legend",
    "tuning_rules",
    "use_style",
    "variance_given_u1",
]

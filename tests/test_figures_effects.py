"""Figures 3, 4, 7, 8 and 9 from made-up measurements: what is drawn, and what is refused."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest

from odinlib import datasets, metrics
from odinlib.errors import UserError
from odinlib.figures import effects
from odinlib.odin import PAPER_EPSILONS, PAPER_TEMPERATURES

SETS = ("gaussian", "uniform", "isun")


def measured(axis, values, sets=SETS):
    frames = []
    for position, name in enumerate(sets):
        curve = {m: 50 + 5 * position + 10 * np.sin(np.arange(len(values)) + k) for k, m in enumerate(metrics.METRICS)}
        frames.append(pd.DataFrame({"ood_set": name, axis: values, **curve}))
    return pd.concat(frames, ignore_index=True)


BY_T, BY_EPSILON = measured("temperature", PAPER_TEMPERATURES), measured("epsilon", PAPER_EPSILONS)


def check(axis, series, scale):
    """Every panel says what its axes are and holds as many curves, each of finite numbers that vary."""
    assert axis.get_ylabel().endswith("(%)")
    assert axis.get_xscale() == scale
    assert len(axis.get_lines()) == series
    for line in axis.get_lines():
        values = np.asarray(line.get_ydata(), dtype=float)
        assert np.isfinite(values).all()
        assert values.std() > 0


def letters(figure):
    return [axis.get_title(loc="left")[:3] for axis in figure.axes]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_figure_3_has_fpr_and_auroc_against_each_parameter():
    figure = effects.figure_3(BY_T, BY_EPSILON, "DenseNet")
    assert letters(figure) == ["(a)", "(b)", "(c)", "(d)"]
    for axis, scale in zip(figure.axes, ("log", "log", "linear", "linear"), strict=True):
        check(axis, len(SETS), scale)
        assert axis.get_xlabel()
    assert [axis.get_ylabel().split()[0] for axis in figure.axes] == ["FPR", "AUROC"] * 2
    assert legend(figure) == [datasets.title(name) for name in SETS]
    np.testing.assert_array_equal(figure.axes[0].get_lines()[1].get_ydata(), BY_T.fpr[10:20])


@pytest.mark.parametrize("networks", [1, 2, 3])
def test_figure_4_has_a_row_for_each_network(networks):
    figure = effects.figure_4({f"network {i}": BY_EPSILON for i in range(networks)})
    assert len(figure.axes) == 2 * networks
    for axis in figure.axes:
        check(axis, len(SETS), "linear")
    assert "network 0, T = 1000" in figure.axes[0].get_title(loc="left")


MEASURES = pytest.mark.parametrize(
    ("draw", "frame", "scale"),
    [
        (effects.figure_7, BY_T, "log"),
        (effects.figure_8, BY_EPSILON, "linear"),
        (effects.figure_9, BY_EPSILON, "linear"),
    ],
)


@MEASURES
def test_one_network_has_its_measures_side_by_side(draw, frame, scale):
    figure = draw({"DenseNet": frame})
    assert len(figure.axes) == len(metrics.METRICS)
    for axis, measure in zip(figure.axes, metrics.METRICS, strict=True):
        check(axis, len(SETS), scale)
        assert axis.get_xlabel()
        shown = axis.get_lines()[0].get_ydata()
        np.testing.assert_array_equal(shown, frame[frame.ood_set == SETS[0]][measure])
    assert figure.get_suptitle() == "DenseNet"
    assert legend(figure) == [datasets.title(name) for name in SETS]


@pytest.mark.parametrize("networks", [2, 3])
@MEASURES
def test_appendix_b_has_a_column_for_each_network_and_a_row_for_each_measure(draw, frame, scale, networks):
    figure = draw({f"network {i}": frame for i in range(networks)})
    assert len(figure.axes) == 5 * networks
    for index, axis in enumerate(figure.axes):
        row, column = divmod(index, networks)
        assert len(axis.get_lines()) == len(SETS)
        assert axis.get_xscale() == scale
        assert bool(axis.get_ylabel()) == (column == 0)
        assert bool(axis.get_xlabel()) == (row == 4)
        shown = axis.get_lines()[0].get_ydata()
        np.testing.assert_array_equal(shown, frame[frame.ood_set == SETS[0]][metrics.METRICS[row]])
    assert [axis.get_title() for axis in figure.axes[:networks]] == [f"network {i}" for i in range(networks)]


def test_a_set_keeps_its_colour_where_a_network_lacks_another_set():
    figure = effects.figure_4({"all": BY_EPSILON, "some": BY_EPSILON[BY_EPSILON.ood_set != "gaussian"]})
    colours = {line.get_label(): line.get_color() for line in figure.axes[0].get_lines()}
    for line in figure.axes[2].get_lines():
        assert line.get_color() == colours[line.get_label()]


def test_the_fpr_is_named_after_its_rate():
    assert "90 % TPR" in effects.figure_4({"network": BY_EPSILON}, tpr=0.9).axes[0].get_ylabel()


def test_frames_are_put_together_by_network():
    found = {("wrn-28-10", "isun"): BY_T[:3], ("wrn-40-4", "isun"): BY_T[:2], ("wrn-28-10", "uniform"): BY_T[:4]}
    assert {title: len(frame) for title, frame in effects.by_network(found).items()} == {"WRN-28-10": 7, "WRN-40-4": 2}


@pytest.mark.parametrize(
    ("frames", "named"),
    [
        ({}, "nothing to draw"),
        ({"network": BY_EPSILON.drop(columns="auroc")}, "auroc"),
        ({"network": BY_EPSILON[:0]}, "empty"),
        ({"network": BY_EPSILON.assign(fpr=np.nan)}, "fpr"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(frames, named):
    for draw in (effects.figure_4, effects.figure_8):
        with pytest.raises(UserError, match=named):
            draw(frames)

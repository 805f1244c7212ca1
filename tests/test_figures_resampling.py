"""The figures of a set resampled by several filters: what is drawn, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from odinlib import figures
from odinlib.datasets import resample
from odinlib.errors import UserError
from odinlib.measure import effects

FILTERS = ["nearest", "bilinear", "box", "lanczos"]
EPSILONS = [0.0, 0.001, 0.002]
CURVES = pd.DataFrame(
    {"filter": f, "epsilon": e, "fpr": 50.0 - 10 * i + j} for i, f in enumerate(FILTERS) for j, e in enumerate(EPSILONS)
)
MEASURED = pd.DataFrame(
    {"filter": f, "method": m, "fpr": 50.0 - 10 * i - j, "fpr_low": 45.0 - 10 * i - j, "fpr_high": 52.0 - 10 * i - j}
    for i, f in enumerate(FILTERS)
    for j, m in enumerate(effects.FILTER_METHODS)
)


def test_responses_have_a_panel_for_each_reduction_and_end_at_its_highest_frequency():
    figure = figures.filter_response(FILTERS, [2, 4])
    for axis, factor in zip(figure.axes, (2, 4), strict=True):
        assert [line.get_label() for line in axis.lines] == FILTERS
        for filter, line in zip(FILTERS, axis.lines, strict=True):
            x, y = line.get_data()
            assert x[-1] == factor / 2
            np.testing.assert_allclose(y, resample.frequency_response(filter, factor, x))
            assert (line.get_linestyle() == "--") == (filter in resample.ANTIALIASED)
        (aliased,) = axis.patches
        assert aliased.get_x() == 0.5


def test_filter_effect_draws_the_curves_and_the_methods_with_their_intervals():
    figure = figures.filter_effect(CURVES, MEASURED, effects.FILTER_METHODS, 1000.0)
    curves, dots = figure.axes
    for filter, line in zip(FILTERS, curves.lines, strict=True):
        assert line.get_label() == filter
        np.testing.assert_array_equal(line.get_ydata(), CURVES[CURVES["filter"] == filter].fpr)
    assert [label.get_text() for label in dots.get_yticklabels()] == FILTERS
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(effects.FILTER_METHODS.values())
    for method, drawn in zip(effects.FILTER_METHODS, dots.containers, strict=True):
        rows = MEASURED[MEASURED.method == method]
        point, _, (bars,) = drawn
        np.testing.assert_array_equal(point.get_xdata(), rows.fpr)
        ends = np.array([segment[:, 0] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, rows[["fpr_low", "fpr_high"]])


def test_what_was_chosen_on_the_test_images_is_drawn_open():
    dots = figures.filter_effect(CURVES, MEASURED, effects.FILTER_METHODS, 1000.0).axes[1]
    fillings = {m: c[0].get_markerfacecolor() for m, c in zip(effects.FILTER_METHODS, dots.containers, strict=True)}
    assert [method for method, filling in fillings.items() if filling == "white"] == ["best"]


def test_nothing_is_refused():
    with pytest.raises(UserError, match="nothing to draw"):
        figures.filter_response([], [2])
    with pytest.raises(UserError, match="empty"):
        figures.filter_effect(CURVES[:0], MEASURED, effects.FILTER_METHODS, 1000.0)
    with pytest.raises(UserError, match="fpr_low"):
        figures.filter_effect(CURVES, MEASURED.drop(columns="fpr_low"), effects.FILTER_METHODS, 1000.0)

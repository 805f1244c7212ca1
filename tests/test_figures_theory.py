"""The figures of Appendices D to F draw what they are given."""

import io

import numpy as np
import pandas as pd
import pytest

from odinlib.errors import UserError
from odinlib.figures import theory as drawn


def saved(figure):
    """Render it, so that a wrong label or an empty axis shows itself."""
    figure.savefig(io.BytesIO(), format="png")
    return figure


def test_one_term_shows_the_exponential_between_its_partial_sums():
    left, right = saved(drawn.one_term()).axes
    lines = {line.get_label(): line.get_ydata() for line in left.lines}
    assert (lines["1 − x"] <= lines["exp(−x)"]).all() and (lines["exp(−x)"] <= lines["1 − x + x²/2"]).all()
    turned = {line.get_label(): line.get_ydata() for line in right.lines}["x − x²/2"]
    assert np.argmax(turned) == 100  # at x = 1


def test_equation_3_says_the_slope_and_counts_the_images():
    temperatures = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])
    starts = {"gaussian": np.array([5.0, 50.0]), "uniform": np.array([0.5, 5e5])}
    figure = saved(drawn.equation_3(temperatures, {2: temperatures**-3.0}, starts, 0.01))
    assert figure.axes[0].lines[0].get_label() == "order 2: slope -3.00"
    assert figure.axes[1].lines[0].get_ydata().tolist() == [0, 50, 100, 100, 100]
    assert figure.axes[1].lines[1].get_ydata().tolist() == [50] * 5


def test_convergence_has_a_panel_for_each_network_and_hides_no_point():
    rows = [
        {"network": net, "ood_set": s, "temperature": t, "distance": 10 * place / t}
        for place, net in enumerate(("small", "large"), 1)
        for s in ("gaussian", "uniform")
        for t in (100.0, 1.0)
    ]
    figure = saved(drawn.convergence(pd.DataFrame(rows), 0.1))
    assert [axis.get_title() for axis in figure.axes] == ["small", "large"]
    for axis in figure.axes:
        low, high = axis.get_ylim()
        assert low < 0 and high >= 20 and axis.get_yscale() == "symlog"
        assert axis.lines[0].get_xdata().tolist() == [1, 100]


def test_bracket_and_moments():
    measured = pd.DataFrame(
        {"temperature": [1.0, 10.0], "error": [30.0, 20.0], "low": [5.0, 18.0], "high": [50.0, 22.0]}
    )
    assert saved(drawn.bracket(measured, 19.0, "A network, Gaussian")).axes[0].get_title(loc="left")
    curves = pd.DataFrame({"set": ["gaussian"] * 2, "x": [1.0, 2.0], "mean": [2.0, 5.0]})
    figure = saved(drawn.moments(curves, curves.assign(mean=[1.0, 1.0])))
    parabola = figure.axes[0].lines[-1]
    np.testing.assert_allclose(parabola.get_ydata(), np.square(parabola.get_xdata()))


def test_nothing_to_draw_is_told():
    with pytest.raises(UserError):
        drawn.convergence(pd.DataFrame(columns=["network", "ood_set", "temperature", "distance"]), 0.1)


def changes(title, rows):
    ends = {"": 0.0, "_low": -0.1, "_high": 0.2}
    return pd.DataFrame(
        {"title": title, "ood_set": ood_set}
        | {
            f"{name}{end}": value + d
            for name, value in zip(("predicted", "measured"), pair, strict=True)
            for end, d in ends.items()
        }
        for ood_set, pair in rows.items()
    )


def test_predictions_have_a_panel_for_each_network_and_hold_both_signs():
    first = changes("one, authors", {"gaussian": (-20, -15), "uniform": (0.3, 0.5)})
    frame = pd.concat([first, changes("two", {"gaussian": (0.01, 0)})])
    figure = saved(drawn.predicted(frame))
    assert [axis.get_title() for axis in figure.axes] == ["one\nauthors", "two"]
    for axis, reach in zip(figure.axes, (20, 0.1), strict=True):
        low, high = axis.get_xlim()
        assert low == -high and high > reach and axis.get_ylim() == (low, high)
    with pytest.raises(UserError, match="measured_low"):
        drawn.predicted(frame.drop(columns="measured_low"))


def test_the_bracket_of_the_margin_score_is_drawn_above_what_it_holds():
    t = np.array([1.0, 10.0, 100.0])
    columns = {"shortfall": 1 / t, "bracket": 2 / t, "second": 5 / t, "rest": t**-2.0, "rest_bound": 3 * t**-2.0}
    left, right = saved(drawn.margin_bracket(pd.DataFrame({"temperature": t, **columns}))).axes
    assert [line.get_ydata()[0] for line in left.lines] == [5, 2, 1]
    assert [line.get_ydata()[0] for line in right.lines] == [3, 1]

"""Figures 13 to 17 and those of Appendices G and H: what is drawn is what was measured."""

import numpy as np
import pandas as pd
import pytest

from odinlib import datasets, figures
from odinlib.errors import UserError
from odinlib.figures import distances as distance_figures
from odinlib.measure import effects, mechanism

SETS = ["photos-crop", "photos-resize", "uniform"]


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def transfers(base=0.0):
    rows = [
        {"ood_set": a, "tuning_set": b, "baseline": 50.0 + i, "odin": base + 10 * i + j}
        for i, a in enumerate(SETS[:2])
        for j, b in enumerate(SETS)
    ]
    return pd.DataFrame(rows)


def test_figure_13_draws_every_share_about_one_over_k():
    thresholds = np.linspace(0.1, 0.102, 50)
    shares = {name: np.linspace(100, i, 50) for i, name in enumerate(["shapes10", *SETS])}
    figure = figures.figure_13(thresholds, shares, 0.101, 10, "a network", 0.95)
    whole, part = figure.axes
    for line, (name, share) in zip(whole.lines, shares.items(), strict=False):
        assert line.get_label() == datasets.title(name)
        np.testing.assert_allclose(line.get_ydata(), share)
        np.testing.assert_allclose(line.get_xdata(), np.linspace(0, 2, 50), atol=1e-9)
    assert whole.lines[-1].get_xdata()[0] == pytest.approx(1.0)  # the threshold
    assert part.get_xlim()[0] < 1 < part.get_xlim()[1]
    assert "1/10" in whole.get_xlabel()
    assert whole.get_title(loc="left").startswith("(a)")


def test_figure_14_has_a_bar_for_every_cell():
    figure = figures.figure_14({"first": transfers(), "second": transfers(1.0)})
    for axis, base in zip(figure.axes, (0.0, 1.0), strict=True):
        widths = [[bar.get_width() for bar in group] for group in axis.containers]
        assert widths == [[base, base + 1, base + 2], [base + 10, base + 11, base + 12]]
        baselines = {line.get_xdata()[0] for line in axis.lines if len(line.get_xdata())}
        assert baselines == {50.0, 51.0}
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [datasets.title(s) for s in SETS]


def test_figure_15_orders_the_sizes():
    frame = pd.DataFrame({"ood_set": "uniform", "size": [40, 20, 30], "fpr": [4.0, 2.0, 3.0]})
    line = figures.figure_15(frame, "a network").axes[0].lines[0]
    assert list(line.get_xdata()) == [20, 30, 40] and list(line.get_ydata()) == [2, 3, 4]


def test_tuning_rules_shows_every_rule_on_every_set():
    rows = [
        {"ood_set": s, "rule": r, "fpr": 10 * i + j} for i, s in enumerate(SETS) for j, r in enumerate(effects.RULES)
    ]
    figure = figures.tuning_rules(pd.DataFrame(rows), effects.RULES, "a network")
    assert texts(figure) == list(effects.RULES.values())
    for j, points in enumerate(figure.axes[0].collections):
        np.testing.assert_allclose(points.get_offsets()[:, 0], [10 * i + j for i in range(3)])


def test_mean_score_rings_the_greatest():
    frame = pd.DataFrame({"epsilon": [0.0, 0.001, 0.002], "score": [1.0, 3.0, 2.0]})
    axis = figures.mean_score({"a network": frame}, 1000.0).axes[0]
    assert axis.lines[1].get_xdata()[0] == 0.001 and axis.lines[1].get_ydata()[0] == 3.0


def test_figure_16_keeps_the_sides_apart():
    frame = pd.DataFrame({"tpr": [80.0, 90.0, 100.0], "above": [99.0, 98.0, 97.0], "below": [80.0, 60.0, np.nan]})
    above, below = figures.figure_16({"a network": frame}).axes
    assert list(above.lines[0].get_ydata()) == [99, 98, 97]
    np.testing.assert_array_equal(below.lines[0].get_ydata(), [80, 60, np.nan])


def test_figure_17_sorts_and_cuts_the_outputs():
    logits = np.array([1.0, 5.0, -2.0, 3.0], dtype=np.float32)
    shown = mechanism.show_outputs("an image", ["a", "b", "c", "d"], logits)
    axis = figures.figure_17([shown, shown], count=3).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [5, 3, 1]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["b", "d", "a"]
    assert "13.0" not in axis.texts[0].get_text() and "4.3" in axis.texts[0].get_text()  # U1 = (2 + 4 + 7) / 3
    assert "23.0" in axis.texts[0].get_text()  # U2 = (4 + 16 + 49) / 3


def test_distances_and_kernels():
    rows = [{"id_set": "shapes10", "ood_set": s, "mmd": 0.1 * i, "energy": i} for i, s in enumerate(SETS)]
    left, right = distance_figures.distances(pd.DataFrame(rows)).axes
    np.testing.assert_allclose(left.collections[0].get_offsets()[:, 0], [0, 0.1, 0.2])
    np.testing.assert_allclose(right.collections[0].get_offsets()[:, 0], [0, 1, 2])
    squared, literal, median = distance_figures.kernels({"in 0 to 1": 9.0}).axes[0].lines
    assert np.interp(9.0, squared.get_xdata(), squared.get_ydata()) == pytest.approx(np.exp(-1), abs=1e-3)
    assert np.interp(9.0, literal.get_xdata(), literal.get_ydata()) == pytest.approx(np.exp(-9), abs=1e-4)
    assert median.get_xdata()[0] == 9.0


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.figure_13(np.array([0.1]), {}, 0.1, 10, "t"),
        lambda: figures.figure_14({}),
        lambda: figures.figure_15(pd.DataFrame(), "t"),
        lambda: figures.figure_16({}),
        lambda: figures.figure_17([]),
        lambda: figures.mean_score({}, 1.0),
        lambda: distance_figures.distances(pd.DataFrame()),
    ],
)
def test_nothing_to_draw_is_said_in_one_line(draw):
    with pytest.raises(UserError):
        draw()

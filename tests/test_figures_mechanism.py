"""Figures 5, 6, 10, 11 and 12 from made-up images: what is drawn, and what is refused."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch

from odinlib import odin
from odinlib.errors import UserError
from odinlib.figures import mechanism as drawn
from odinlib.measure import mechanism

SETS = ("cifar10", "gaussian", "isun")
CLASSES = [f"class {i}" for i in range(10)]


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    frames = []
    for position, name in enumerate(SETS):
        logits = torch.tensor(random.normal(size=(300, 10)) * 2)
        logits[:, 0] += 8 - 2 * position
        gaps = (logits.amax(-1, keepdim=True) - logits) * 10 / 9
        norm = random.gamma(5, 2 - 0.5 * position, 300)
        frames.append(
            pd.DataFrame(
                {
                    "set": name,
                    "u1": gaps.mean(-1),
                    "u2": (0.9 * gaps).square().mean(-1) / 0.9,
                    "score_1": odin.softmax_score(logits, 1.0),
                    "score": odin.softmax_score(logits, 1000.0),
                    "norm_1": norm,
                    "norm": norm / 100,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def curves(images):
    return {
        "u2": mechanism.conditional(images, "u1", "u2"),
        "norm": mechanism.conditional(images, "score", "norm"),
        "norm_1": mechanism.conditional(images, "score_1", "norm_1"),
    }


def outputs(name):
    return mechanism.show_outputs(name, CLASSES, np.random.default_rng(1).normal(size=10).astype(np.float32))


def check(axis, series):
    assert axis.get_xlabel()
    assert axis.get_ylabel()
    lines = axis.get_lines()
    assert len(lines) == series
    for line in lines:
        values = np.asarray(line.get_ydata(), dtype=float)
        assert len(values) > 1
        assert np.isfinite(values).all()
        assert values.std() > 0


def test_figure_5_has_the_papers_seven_panels(images, curves):
    figure = drawn.figure_5(images, curves, (outputs("inside"), outputs("outside")), 10)
    panels = {axis.get_title(loc="left")[:3]: axis for axis in figure.axes if axis.get_title(loc="left")}
    assert list(panels) == [f"({letter})" for letter in "abcdefg"]
    for letter in "abcde":
        check(panels[f"({letter})"], len(SETS))
    for letter in "fg":
        assert len(panels[f"({letter})"].patches) == 10
    assert "10⁴" in panels["(d)"].get_xlabel()
    assert "10⁴" not in panels["(e)"].get_xlabel()
    legend = next(axis.get_legend() for axis in figure.axes if axis.get_legend())
    assert len(legend.get_texts()) == len(SETS)


def test_densities_integrate_to_one(images, curves):
    figure = drawn.figure_5(images, curves, (outputs("inside"), outputs("outside")), 10)
    for line in figure.axes[0].get_lines():
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1, abs=0.05)


def test_a_set_of_one_point_does_not_flatten_the_others(images, curves):
    narrow = images.copy()
    rows = narrow.set == "gaussian"
    narrow.loc[rows, "u1"] = 5 + 1e-4 * np.arange(rows.sum())
    axis = drawn.figure_5(narrow, curves, (outputs("inside"), outputs("outside")), 10).axes[0]
    assert axis.get_ylim()[1] < 4


@pytest.mark.parametrize("networks", [1, 3])
def test_appendix_c_has_a_panel_for_each_network(curves, networks):
    for draw, key, further in (
        (drawn.figure_10, "u2", ()),
        (drawn.variance_given_u1, "u2", ()),
        (drawn.figure_11, "norm_1", ()),
        (drawn.figure_12, "norm", (10,)),
    ):
        figure = draw({f"network {i}": curves[key] for i in range(networks)}, *further)
        assert [axis.get_title() for axis in figure.axes] == [f"network {i}" for i in range(networks)]
        for axis in figure.axes:
            check(axis, len(SETS))


def test_figure_12_shows_the_score_as_the_paper_does(curves):
    figure = drawn.figure_12({"network": curves["norm"]}, 10)
    shown = figure.axes[0].get_lines()[0].get_xdata()
    rows = curves["norm"][curves["norm"].set == SETS[0]]
    np.testing.assert_allclose(shown, 1e4 * (rows.x - 0.1))
    assert figure.axes[0].get_xlabel() == "(S − 1/10) × 10⁴"


def path(steps=21, picture=False, slope=1.0):
    epsilons = np.arange(steps) / 5000
    scores = 0.1 + 1e-4 * (7 + slope * np.sqrt(np.arange(steps)))
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    return mechanism.Path("an image", epsilons, scores, slope, pixels if picture else None)


@pytest.mark.parametrize("picture", [False, True])
def test_figure_6_has_a_curve_and_a_tangent_for_each_image(picture):
    figure = drawn.figure_6(path(picture=picture), path(picture=picture, slope=0.5), 10)
    assert len(figure.axes) == (3 if picture else 1)
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata())]
    assert len(lines) == 4
    for measured, promised in (lines[:2], lines[2:]):
        assert measured.get_ydata()[0] == pytest.approx(promised.get_ydata()[0])
    tangent = lines[1].get_ydata()
    first = (tangent[1] - tangent[0]) / (1e4 * 0.1007 / 5000)  # d log S / d epsilon is the gradient's norm
    assert first == pytest.approx(1.0, rel=1e-3)


def test_the_expansion_and_its_remainder_are_drawn():
    logits = torch.tensor(np.random.default_rng(0).normal(size=(200, 10)) * 3)
    logits[:100, 0] += 5
    figure = drawn.expansion(mechanism.expansion(logits[:100], logits[100:], [1, 10, 100]))
    assert len(figure.axes[0].get_lines()) == 3  # the score itself has no error
    assert len(figure.axes[1].get_lines()) == 4
    epsilons = np.array([1e-4, 1e-3])
    frame = pd.DataFrame({"curve": "T = 1", "epsilon": epsilons, "remainder": 5 * epsilons**2})
    assert len(drawn.remainder(pd.concat([frame, frame.assign(curve="T = 1000")])).axes[0].get_lines()) == 3
    line, guide = drawn.remainder(frame).axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), guide.get_ydata())


def test_what_cannot_be_drawn_is_refused_by_name(images, curves):
    pair = (outputs("inside"), outputs("outside"))
    with pytest.raises(UserError, match="u1"):
        drawn.figure_5(images.drop(columns="u1"), curves, pair, 10)
    with pytest.raises(UserError, match="gaussian has no spread"):
        drawn.figure_5(images.assign(u1=images.u1.where(images.set != "gaussian", 1.0)), curves, pair, 10)
    with pytest.raises(UserError, match="nothing to draw"):
        drawn.figure_10({})
    with pytest.raises(UserError, match="steps"):
        drawn.figure_6(path(steps=1), path(), 10)
    with pytest.raises(UserError, match="mean"):
        drawn.figure_11({"network": curves["u2"].drop(columns="mean")})

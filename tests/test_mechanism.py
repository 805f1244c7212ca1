"""What Sections 5.2 and 5.3 explain detection by, on logits and networks whose answers are known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from odinlib import experiments, moments, odin, profiles
from odinlib.errors import UserError
from odinlib.measure import mechanism


def frame(**sets):
    return pd.concat([pd.DataFrame({"set": name, "x": x, "y": y}) for name, (x, y) in sets.items()], ignore_index=True)


def test_conditional_expectations_are_bin_means_in_bins_that_all_sets_share():
    x = np.array([0.0, 0.1, 0.9, 1.0, 1.9, 2.0])
    curves = mechanism.conditional(frame(a=(x, x**2), b=(x[:4], x[:4])), "x", "y", bins=2, least=2)
    a, b = (curves[curves.set == name] for name in "ab")
    np.testing.assert_allclose(a.x, [0.5, 1.5])
    np.testing.assert_allclose(a["mean"], [np.mean(x[:3] ** 2), np.mean(x[3:] ** 2)])
    np.testing.assert_allclose(a.standard_error, [pd.Series(x[:3] ** 2).sem(), pd.Series(x[3:] ** 2).sem()])
    assert list(b.bin) == [0]  # one image alone in a bin is no expectation
    assert list(a["count"]) == [3, 3]


def test_the_share_of_bins_counts_shared_bins_only():
    x = np.repeat([0.5, 1.5, 2.5], 5)
    inside, outside = (x, np.repeat([3.0, 1.0, 5.0], 5)), (x[:10], np.repeat([2.0, 2.0], 5))
    found = mechanism.share_above(mechanism.conditional(frame(i=inside, o=outside), "x", "y", bins=3), "i")
    assert found.to_dict("records") == [{"ood_set": "o", "shared": 2, "above": 1}]


def test_a_typical_image_is_near_and_in_the_middle():
    images = frame(a=(np.arange(100.0), np.arange(100.0)[::-1]))
    row = mechanism.typical_at(images, "a", "x", 50.0, "y", nearest=5)
    assert row.x == 50  # 48 to 52 are nearest, and y = 49 is their median
    assert mechanism.typical_at(images, "a", "x", 50.0, "y", nearest=5, quantile=1).x == 48
    with pytest.raises(UserError, match="no image of b"):
        mechanism.typical_at(images, "b", "x", 50.0, "y")


def logits(seed, images=300, classes=10):
    return torch.tensor(np.random.default_rng(seed).normal(size=(images, classes)) * 3)


def test_expansions_in_one_over_t_have_the_order_that_is_claimed():
    temperatures = [100.0, 200.0, 400.0, 800.0]
    found = mechanism.expansion(logits(0), logits(1), temperatures)
    for statistic, order in ((mechanism.FIRST, -1), (mechanism.SECOND, -2), (mechanism.CUMULANT, -2)):
        error = found[found.statistic == statistic].error
        assert moments.slope(temperatures, error) == pytest.approx(order, abs=0.05)
    assert (found[found.statistic == mechanism.EXACT].error == 0).all()


@given(st.integers(0, 1000))
def test_equation_3_orders_images_as_the_score_does_at_a_large_t(seed):
    """The paper's (U1 - U2 / 2T) / T is not proportional to S, but it ranks as S does up to third order."""
    drawn = logits(seed, images=20)
    exact = odin.softmax_score(drawn, 1e4)
    gaps = drawn.amax(-1, keepdim=True) - drawn
    u1, u2 = gaps.sum(-1) / 9, gaps.square().sum(-1) / 9
    far = (exact[:, None] - exact).abs() > 1e-9
    agree = torch.sign(exact[:, None] - exact) == torch.sign((u1 - u2 / 2e4)[:, None] - (u1 - u2 / 2e4))
    assert agree[far].all()


def test_a_path_does_without_a_picture_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr(mechanism, "log_scores", lambda *_: np.log([[0.1, 0.2], [0.3, 0.4]]))
    monkeypatch.setattr(experiments, "curve_images", lambda *_: np.array([7, 1]))
    row = pd.Series({"set": "gaussian", "index": 1, "norm": 2.0})
    small = dataclasses.replace(profiles.get("demo"), images=30, holdout=10, epsilons=(0.0, 0.1))
    drawn = mechanism.path_of(small.trained("densenet-bc-22-8", "shapes10"), row)
    assert drawn.picture is not None and drawn.picture.shape[-1] == 3
    assert drawn.scores.tolist() == pytest.approx([0.2, 0.4]) and drawn.gradient_norm == 2
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path))  # without CIFAR-10
    paper = dataclasses.replace(profiles.get("paper"), epsilons=(0.0, 0.1))
    assert mechanism.path_of(paper.trained("densenet-bc-100-12", "cifar10"), row).picture is None


def test_changed_predictions_are_counted_from_the_unperturbed_image():
    classes = torch.tensor([[[0, 1, 2, 3], [0, 1, 2, 0]], [[0, 1, 2, 3], [1, 0, 2, 3]]])
    np.testing.assert_array_equal(mechanism.changed(classes), [[0, 25], [0, 50]])

"""Moments, conditional expectations and the rest of an expansion, against loops and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from odinlib import moments, odin
from odinlib.errors import UserError


def logits():
    shape = st.tuples(st.integers(1, 5), st.integers(2, 12))
    return shape.flatmap(lambda s: hnp.arrays(np.float32, s, elements=st.floats(-50, 50, width=32)))


# --- U1 and U2 --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(logits())
def test_u1_and_u2_are_the_moments_of_the_gaps(outputs):
    for image, u1, u2 in zip(outputs, moments.u1(outputs), moments.u2(outputs), strict=True):
        y = int(image.argmax())
        gaps = [float(image[y]) - float(f) for i, f in enumerate(image) if i != y]
        assert u1.item() == pytest.approx(np.mean(gaps), rel=1e-12)
        assert u2.item() == pytest.approx(np.mean(np.square(gaps)), rel=1e-12)
        assert u2.item() == pytest.approx(np.var(gaps) + u1.item() ** 2, rel=1e-9)  # Appendix F
        assert u1 >= 0 and u2 >= u1**2 * (1 - 1e-12)


@settings(deadline=None)
@given(logits(), st.floats(-30, 30))
def test_a_constant_added_to_all_outputs_changes_nothing(outputs, constant):
    moved = outputs.astype(np.float64) + constant
    torch.testing.assert_close(moments.u1(moved), moments.u1(outputs), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moments.u2(moved), moments.u2(outputs), rtol=1e-9, atol=1e-9)


def test_u1_is_what_the_margin_score_tends_to():
    outputs = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)) * 5
    assert moments.u1(outputs).dtype == torch.float64
    torch.testing.assert_close(odin.margin_score(outputs, 1e7), moments.u1(outputs), rtol=1e-5, atol=0)


# --- Conditional expectations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [7, [-1.0, -0.2, 0.1, 2.0]])
def test_conditional_expectation_against_a_loop(bins):
    generator = np.random.default_rng(0)
    x = generator.normal(size=300)
    y = 1e6 + x + generator.normal(size=300)
    found = moments.conditional_expectation(x, y, bins)
    edges = np.linspace(x.min(), x.max(), 8) if bins == 7 else np.array(bins)
    expected = []
    for left, right in itertools.pairwise(edges):
        inside = y[(x >= left) & ((x < right) | ((x == right) & (right == edges[-1])))]
        if len(inside):
            expected.append(
                ((left + right) / 2, inside.mean(), inside.std(ddof=1) / math.sqrt(len(inside)), len(inside))
                if len(inside) > 1
                else ((left + right) / 2, inside.mean(), math.nan, 1)
            )
    columns = (found.centres, found.mean, found.standard_error, found.count)
    for column, numbers in zip(columns, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(column, numbers, rtol=1e-9)


def test_empty_bins_are_left_out_and_lonely_ones_have_no_error():
    found = moments.conditional_expectation([0.0, 3.0, 3.5], [1.0, 2.0, 4.0], bins=[0, 1, 2, 3, 4])
    assert found.centres.tolist() == [0.5, 3.5] and found.count.tolist() == [1, 2]
    assert math.isnan(found.standard_error[0]) and found.standard_error[1] == 1


def test_density_has_area_one():
    centres, heights = moments.density(np.random.default_rng(0).normal(size=500), bins=20)
    assert (heights * (centres[1] - centres[0])).sum() == pytest.approx(1)


# --- The perturbation -------------------------------------------------------------------------------------------------


def test_the_rest_of_the_first_order_expansion_is_of_second_order():
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 5))
    images, epsilons = torch.rand(8, 3, 2, 2), [1e-4, 2e-4, 5e-4, 1e-3]
    found = moments.perturbation_remainder(smooth, images, epsilons, 2.0)
    assert found.slope == pytest.approx(2, abs=0.05)
    assert found.remainder.shape == (4, 8)
    assert next(smooth.parameters()).dtype == torch.float32  # the network itself is left alone
    gradient, clean = odin.input_gradient(smooth, images, 2.0)
    with torch.no_grad():
        after = smooth(odin.perturb(images, gradient, 0.1))
    change = (odin.softmax_score(after, 2.0) / odin.softmax_score(clean, 2.0)).log()
    expected = (change - 0.1 * gradient.abs().flatten(1).sum(1)).abs().numpy()
    large = moments.perturbation_remainder(smooth, images, [0.1, 0.2], 2.0).remainder[0]
    np.testing.assert_allclose(large, expected, atol=1e-5)


def test_label_flips_counts_images():
    clean = torch.eye(4)
    moved = clean.clone()
    moved[0] = torch.tensor([0.0, 1, 0, 0])
    assert moments.label_flips(clean, moved) == 0.25 and moments.label_flips(clean, clean) == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: moments.u1(torch.zeros(3, 1)),
        lambda: moments.conditional_expectation([1.0], [1.0, 2.0]),
        lambda: moments.conditional_expectation([math.nan], [1.0]),
        lambda: moments.perturbation_remainder(nn.Identity(), torch.zeros(1, 2), [0.0, 0.1], 1.0),
        lambda: moments.perturbation_remainder(nn.Identity(), torch.zeros(1, 2), [0.1], 1.0),
    ],
)
def test_mistakes_are_told_in_one_line(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)

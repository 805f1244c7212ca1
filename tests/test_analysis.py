"""Moments, conditional expectations and distances against loops, closed forms and other libraries."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import energy_distance as scipy_energy
from scipy.stats import norm
from torch import nn

from odinlib import analysis, odin
from odinlib.errors import UserError

ESTIMATORS = analysis.ESTIMATORS


def logits():
    shape = st.tuples(st.integers(1, 5), st.integers(2, 12))
    return shape.flatmap(lambda s: hnp.arrays(np.float32, s, elements=st.floats(-50, 50, width=32)))


# --- U1 and U2 --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(logits())
def test_u1_and_u2_are_the_moments_of_the_gaps(outputs):
    for image, u1, u2 in zip(outputs, analysis.u1(outputs), analysis.u2(outputs), strict=True):
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
    torch.testing.assert_close(analysis.u1(moved), analysis.u1(outputs), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(analysis.u2(moved), analysis.u2(outputs), rtol=1e-9, atol=1e-9)


def test_u1_is_what_the_margin_score_tends_to():
    outputs = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)) * 5
    assert analysis.u1(outputs).dtype == torch.float64
    torch.testing.assert_close(odin.margin_score(outputs, 1e7), analysis.u1(outputs), rtol=1e-5, atol=0)


# --- Conditional expectations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [7, [-1.0, -0.2, 0.1, 2.0]])
def test_conditional_expectation_against_a_loop(bins):
    generator = np.random.default_rng(0)
    x = generator.normal(size=300)
    y = 1e6 + x + generator.normal(size=300)
    found = analysis.conditional_expectation(x, y, bins)
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
    found = analysis.conditional_expectation([0.0, 3.0, 3.5], [1.0, 2.0, 4.0], bins=[0, 1, 2, 3, 4])
    assert found.centres.tolist() == [0.5, 3.5] and found.count.tolist() == [1, 2]
    assert math.isnan(found.standard_error[0]) and found.standard_error[1] == 1


def test_density_has_area_one():
    centres, heights = analysis.density(np.random.default_rng(0).normal(size=500), bins=20)
    assert (heights * (centres[1] - centres[0])).sum() == pytest.approx(1)


# --- The perturbation -------------------------------------------------------------------------------------------------


def test_the_rest_of_the_first_order_expansion_is_of_second_order():
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 5))
    images, epsilons = torch.rand(8, 3, 2, 2), [1e-4, 2e-4, 5e-4, 1e-3]
    found = analysis.perturbation_remainder(smooth, images, epsilons, 2.0)
    assert found.slope == pytest.approx(2, abs=0.05)
    assert found.remainder.shape == (4, 8)
    assert next(smooth.parameters()).dtype == torch.float32  # the network itself is left alone
    gradient, clean = odin.input_gradient(smooth, images, 2.0)
    with torch.no_grad():
        after = smooth(odin.perturb(images, gradient, 0.1))
    change = (odin.softmax_score(after, 2.0) / odin.softmax_score(clean, 2.0)).log()
    expected = (change - 0.1 * gradient.abs().flatten(1).sum(1)).abs().numpy()
    large = analysis.perturbation_remainder(smooth, images, [0.1, 0.2], 2.0).remainder[0]
    np.testing.assert_allclose(large, expected, atol=1e-5)


def test_label_flips_counts_images():
    clean = torch.eye(4)
    moved = clean.clone()
    moved[0] = torch.tensor([0.0, 1, 0, 0])
    assert analysis.label_flips(clean, moved) == 0.25 and analysis.label_flips(clean, clean) == 0


# --- Distances --------------------------------------------------------------------------------------------------------


def brute(v, w, kernel, estimator):
    """The estimate by all pairs at once in float64."""
    v, w = (np.asarray(s, dtype=np.float64).reshape(len(s), -1) for s in (v, w))

    def pairs(a, b):
        return kernel(((a[:, None] - b[None]) ** 2).sum(-1))

    within = 0.0
    for s in (v, w):
        k = pairs(s, s)
        within += k.mean() if estimator == "biased" else (k.sum() - np.trace(k)) / (len(s) * (len(s) - 1))
    return within - 2 * pairs(v, w).mean()


def image_sets(seed=0, m=37, n=29):
    generator = np.random.default_rng(seed)
    v = generator.integers(0, 256, (m, 4, 4, 3), dtype=np.uint8)
    return v, generator.integers(30, 200, (n, 4, 4, 3), dtype=np.uint8)


def squared_distances(v, w):
    pooled = np.concatenate([v, w]).reshape(len(v) + len(w), -1).astype(np.float64) / 255
    return ((pooled[:, None] - pooled[None]) ** 2).sum(-1)[np.triu_indices(len(pooled), 1)]


@pytest.mark.parametrize("rows", [512, 8])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_distances_against_all_pairs_at_once(estimator, rows, monkeypatch):
    monkeypatch.setattr(analysis, "_ROWS", rows)
    v, w = image_sets()
    median = np.median(squared_distances(v, w))
    assert analysis.median_distance(v, w) == pytest.approx(median, rel=1e-4)
    assert analysis.median_distance(v, w, squared=False) == pytest.approx(math.sqrt(median), rel=1e-4)
    unit = v / 255, w / 255
    for sigma, width in (("median-squared", median), ("median", math.sqrt(median)), (2.0, 8.0)):
        expected = brute(*unit, lambda d, width=width: np.exp(-d / width), estimator)
        assert analysis.mmd(v, w, sigma=sigma, estimator=estimator) == pytest.approx(expected, rel=1e-3, abs=1e-6)
    expected = brute(*unit, lambda d: -np.sqrt(d), estimator)
    assert analysis.energy_distance(v, w, estimator=estimator) == pytest.approx(expected, rel=1e-4)
    assert analysis.energy_distance(v, w, estimator=estimator, squared=False) == pytest.approx(math.sqrt(expected))


def test_floats_bytes_and_tensors_are_one_set():
    v, w = image_sets()
    found = analysis.mmd(v, w)
    assert analysis.mmd(v / 255, torch.from_numpy(w / 255)) == pytest.approx(found, rel=1e-4)
    # The default bandwidth moves with the scale of the pixels; a literal one does not.
    assert analysis.mmd(v, w, pixels="byte") == pytest.approx(found, rel=1e-4)
    assert analysis.mmd(v, w, sigma="median", pixels="byte") < 0.1 * analysis.mmd(v, w, sigma="median")
    ratio = analysis.energy_distance(v, w, pixels="byte") / analysis.energy_distance(v, w)
    assert ratio == pytest.approx(255, rel=1e-4)


def test_a_large_mean_costs_no_digits():
    generator = np.random.default_rng(0)
    v, w = generator.normal(0, 1e-3, (40, 300)), generator.normal(0, 2e-3, (40, 300))
    expected = brute(v, w, lambda d: -np.sqrt(d), "unbiased")
    assert analysis.energy_distance(v + 1, w + 1) == pytest.approx(expected, rel=1e-3)


sets = hnp.arrays(np.float64, st.tuples(st.integers(2, 12), st.just(3)), elements=st.floats(0, 1, width=32))


@settings(deadline=None, max_examples=60)
@given(sets, sets)
def test_laws_of_the_distances(v, w):
    for distance in (lambda a, b, **o: analysis.mmd(a, b, sigma=0.5, **o), analysis.energy_distance):
        found = distance(v, w, estimator="biased")
        assert found >= -1e-3  # of float32 at coinciding images
        assert distance(w, v, estimator="biased") == pytest.approx(found, abs=1e-3)
        assert distance(v, v, estimator="biased") == pytest.approx(0, abs=1e-3)
        assert distance(v, w, estimator="biased", squared=False) == pytest.approx(math.sqrt(max(found, 0)))


def test_energy_distance_in_one_dimension():
    generator = np.random.default_rng(0)
    v, w = generator.random((200, 1)), generator.random((150, 1)) ** 2
    expected = scipy_energy(v[:, 0], w[:, 0])
    assert analysis.energy_distance(v, w, estimator="biased", squared=False) == pytest.approx(expected, rel=1e-3)


def test_mmd_of_two_normal_distributions():
    """E k(X, X') of a Gaussian kernel is known for normal X; evenly spaced quantiles stand for the distribution."""
    quantiles = norm.ppf((np.arange(1000) + 0.5) / 1000)[:, None]
    # x - x' is normal with variance 2, so that E exp(-(x - x')^2 / 2) is exp(-mean^2 / 6) / sqrt(3).
    expected = 2 * (1 - math.exp(-1 / 6)) / math.sqrt(3)
    assert analysis.mmd(quantiles, quantiles + 1, sigma=1.0, estimator="biased") == pytest.approx(expected, rel=0.01)


def test_memory_does_not_grow_with_the_pairs(monkeypatch):
    """Many more pairs than fit at once: the largest block is what is held."""
    held = []
    blocks = analysis._blocks

    def watched(a, b=None):
        for block in blocks(a, b):
            held.append(block.numel())
            yield block

    monkeypatch.setattr(analysis, "_blocks", watched)
    generator = np.random.default_rng(0)
    v, w = generator.random((3000, 2)), generator.random((3000, 2))
    analysis.energy_distance(v, w)
    assert max(held) <= analysis._ROWS * 3000 and sum(held) == 3000 * 2999 + 3000**2


# --- Permutation tests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["mmd", "energy"])
def test_permutation_test_statistic_and_extremes(distance):
    v, w = image_sets()
    found = analysis.permutation_test(v, w, distance, permutations=199)
    expected = analysis.mmd(v, w) if distance == "mmd" else analysis.energy_distance(v, w)
    assert found.statistic == pytest.approx(expected, rel=1e-3)
    assert found.images == (37, 29)
    assert analysis.permutation_test(v, 255 - v // 8, distance, permutations=199).p_value == 1 / 200
    small = analysis.permutation_test(v, w, distance, permutations=99, subsample=10)
    assert small.images == (10, 10)


@pytest.mark.parametrize("distance", ["mmd", "energy"])
def test_permutation_test_keeps_its_level(distance):
    """Under one distribution the p-value is uniform: about one in ten lies below 0.1."""
    generator = np.random.default_rng(0)
    values = [
        analysis.permutation_test(
            generator.random((12, 5)), generator.random((10, 5)), distance, permutations=39, seed=s, sigma=0.5
        ).p_value
        for s in range(150)
    ]
    assert 0.03 < np.mean(np.array(values) <= 0.1) < 0.18
    assert 0.42 < np.mean(values) < 0.6


def test_permutation_test_against_all_relabellings_one_by_one():
    """Of 3 and 3 images there are 20 labellings; the share of those at least as far apart is the p-value's limit."""
    generator = np.random.default_rng(3)
    v, w = generator.random((3, 4)), generator.random((3, 4)) + 0.2
    pooled = np.concatenate([v, w])
    statistics = []
    for chosen in itertools.combinations(range(6), 3):
        rest = [i for i in range(6) if i not in chosen]
        statistics.append(brute(pooled[list(chosen)], pooled[rest], lambda d: -np.sqrt(d), "unbiased"))
    expected = np.mean(np.array(statistics) >= statistics[0] - 1e-6)
    found = analysis.permutation_test(v, w, "energy", permutations=5000).p_value
    assert found == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize(
    "call",
    [
        lambda: analysis.u1(torch.zeros(3, 1)),
        lambda: analysis.conditional_expectation([1.0], [1.0, 2.0]),
        lambda: analysis.conditional_expectation([math.nan], [1.0]),
        lambda: analysis.mmd(np.zeros((2, 3)), np.zeros((2, 4))),
        lambda: analysis.mmd(np.zeros((1, 3)), np.zeros((2, 3))),
        lambda: analysis.mmd(np.zeros((2, 3)), np.zeros((2, 3))),
        lambda: analysis.mmd(np.full((2, 3), np.nan), np.zeros((2, 3)), sigma=1.0),
        lambda: analysis.mmd(*image_sets(), sigma="meidan"),
        lambda: analysis.mmd(*image_sets(), sigma=0.0),
        lambda: analysis.energy_distance(*image_sets(), estimator="v"),
        lambda: analysis.energy_distance(*image_sets(), pixels="float"),
        lambda: analysis.permutation_test(*image_sets(), distance="wasserstein"),
        lambda: analysis.perturbation_remainder(nn.Identity(), torch.zeros(1, 2), [0.0, 0.1], 1.0),
        lambda: analysis.perturbation_remainder(nn.Identity(), torch.zeros(1, 2), [0.1], 1.0),
    ],
)
def test_mistakes_are_told_in_one_line(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)

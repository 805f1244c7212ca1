"""Distances between sets of images, against loops, closed forms and other libraries."""

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

from odinlib.errors import UserError
from odinlib.measure import discrepancy

ESTIMATORS = discrepancy.ESTIMATORS


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
    monkeypatch.setattr(discrepancy, "_ROWS", rows)
    v, w = image_sets()
    median = np.median(squared_distances(v, w))
    assert discrepancy.median_distance(v, w) == pytest.approx(median, rel=1e-4)
    assert discrepancy.median_distance(v, w, squared=False) == pytest.approx(math.sqrt(median), rel=1e-4)
    unit = v / 255, w / 255
    for sigma, width in (("median-squared", median), ("median", math.sqrt(median)), (2.0, 8.0)):
        expected = brute(*unit, lambda d, width=width: np.exp(-d / width), estimator)
        assert discrepancy.mmd(v, w, sigma=sigma, estimator=estimator) == pytest.approx(expected, rel=1e-3, abs=1e-6)
    expected = brute(*unit, lambda d: -np.sqrt(d), estimator)
    assert discrepancy.energy_distance(v, w, estimator=estimator) == pytest.approx(expected, rel=1e-4)
    assert discrepancy.energy_distance(v, w, estimator=estimator, squared=False) == pytest.approx(math.sqrt(expected))


def test_floats_bytes_and_tensors_are_one_set():
    v, w = image_sets()
    found = discrepancy.mmd(v, w)
    assert discrepancy.mmd(v / 255, torch.from_numpy(w / 255)) == pytest.approx(found, rel=1e-4)
    # The default bandwidth moves with the scale of the pixels; a literal one does not.
    assert discrepancy.mmd(v, w, pixels="byte") == pytest.approx(found, rel=1e-4)
    assert discrepancy.mmd(v, w, sigma="median", pixels="byte") < 0.1 * discrepancy.mmd(v, w, sigma="median")
    ratio = discrepancy.energy_distance(v, w, pixels="byte") / discrepancy.energy_distance(v, w)
    assert ratio == pytest.approx(255, rel=1e-4)


def test_a_large_mean_costs_no_digits():
    generator = np.random.default_rng(0)
    v, w = generator.normal(0, 1e-3, (40, 300)), generator.normal(0, 2e-3, (40, 300))
    expected = brute(v, w, lambda d: -np.sqrt(d), "unbiased")
    assert discrepancy.energy_distance(v + 1, w + 1) == pytest.approx(expected, rel=1e-3)


sets = hnp.arrays(np.float64, st.tuples(st.integers(2, 12), st.just(3)), elements=st.floats(0, 1, width=32))


@settings(deadline=None, max_examples=60)
@given(sets, sets)
def test_laws_of_the_distances(v, w):
    for distance in (lambda a, b, **o: discrepancy.mmd(a, b, sigma=0.5, **o), discrepancy.energy_distance):
        found = distance(v, w, estimator="biased")
        assert found >= -1e-3  # of float32 at coinciding images
        assert distance(w, v, estimator="biased") == pytest.approx(found, abs=1e-3)
        assert distance(v, v, estimator="biased") == pytest.approx(0, abs=1e-3)
        assert distance(v, w, estimator="biased", squared=False) == pytest.approx(math.sqrt(max(found, 0)))


def test_energy_distance_in_one_dimension():
    generator = np.random.default_rng(0)
    v, w = generator.random((200, 1)), generator.random((150, 1)) ** 2
    expected = scipy_energy(v[:, 0], w[:, 0])
    assert discrepancy.energy_distance(v, w, estimator="biased", squared=False) == pytest.approx(expected, rel=1e-3)


def test_mmd_of_two_normal_distributions():
    """E k(X, X') of a Gaussian kernel is known for normal X; evenly spaced quantiles stand for the distribution."""
    quantiles = norm.ppf((np.arange(1000) + 0.5) / 1000)[:, None]
    # x - x' is normal with variance 2, so that E exp(-(x - x')^2 / 2) is exp(-mean^2 / 6) / sqrt(3).
    expected = 2 * (1 - math.exp(-1 / 6)) / math.sqrt(3)
    assert discrepancy.mmd(quantiles, quantiles + 1, sigma=1.0, estimator="biased") == pytest.approx(expected, rel=0.01)


def test_memory_does_not_grow_with_the_pairs(monkeypatch):
    """Many more pairs than fit at once: the largest block is what is held."""
    held = []
    blocks = discrepancy._blocks

    def watched(a, b=None):
        for block in blocks(a, b):
            held.append(block.numel())
            yield block

    monkeypatch.setattr(discrepancy, "_blocks", watched)
    generator = np.random.default_rng(0)
    v, w = generator.random((3000, 2)), generator.random((3000, 2))
    discrepancy.energy_distance(v, w)
    assert max(held) <= discrepancy._ROWS * 3000 and sum(held) == 3000 * 2999 + 3000**2


# --- Permutation tests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["mmd", "energy"])
def test_permutation_test_statistic_and_extremes(distance):
    v, w = image_sets()
    found = discrepancy.permutation_test(v, w, distance, permutations=199)
    expected = discrepancy.mmd(v, w) if distance == "mmd" else discrepancy.energy_distance(v, w)
    assert found.statistic == pytest.approx(expected, rel=1e-3)
    assert found.images == (37, 29)
    assert discrepancy.permutation_test(v, 255 - v // 8, distance, permutations=199).p_value == 1 / 200
    small = discrepancy.permutation_test(v, w, distance, permutations=99, subsample=10)
    assert small.images == (10, 10)


@pytest.mark.parametrize("distance", ["mmd", "energy"])
def test_permutation_test_keeps_its_level(distance):
    """Under one distribution the p-value is uniform: about one in ten lies below 0.1."""
    generator = np.random.default_rng(0)
    values = [
        discrepancy.permutation_test(
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
    found = discrepancy.permutation_test(v, w, "energy", permutations=5000).p_value
    assert found == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize(
    "call",
    [
        lambda: discrepancy.mmd(np.zeros((2, 3)), np.zeros((2, 4))),
        lambda: discrepancy.mmd(np.zeros((1, 3)), np.zeros((2, 3))),
        lambda: discrepancy.mmd(np.zeros((2, 3)), np.zeros((2, 3))),
        lambda: discrepancy.mmd(np.full((2, 3), np.nan), np.zeros((2, 3)), sigma=1.0),
        lambda: discrepancy.mmd(*image_sets(), sigma="meidan"),
        lambda: discrepancy.mmd(*image_sets(), sigma=0.0),
        lambda: discrepancy.energy_distance(*image_sets(), estimator="v"),
        lambda: discrepancy.energy_distance(*image_sets(), pixels="float"),
        lambda: discrepancy.permutation_test(*image_sets(), distance="wasserstein"),
    ],
)
def test_mistakes_are_told_in_one_line(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- Cancellation, binning and kinds of numbers -----------------------------------------------------------------------

CROWDS = {
    "bytes": image_sets(0, 40, 40)[0],
    "floats": np.random.default_rng(0).random((40, 3, 32, 32)).astype(np.float32),
    "a large mean": np.random.default_rng(1).normal(0, 1e-3, (40, 300)) + 0.7,
    "dark frames": np.full((40, 8, 8), 3, np.uint8)
    + np.random.default_rng(2).integers(0, 2, (40, 8, 8), dtype=np.uint8),
    "two far clusters": np.concatenate([np.random.default_rng(3).random((20, 50)) * 1e-3 + at for at in (0, 0.9)]),
    "equal images": np.tile(np.random.default_rng(4).random((4, 9)), (10, 1)),
}


@pytest.mark.parametrize("kind", CROWDS)
def test_a_set_is_at_distance_zero_from_itself(kind):
    """Exactly: and from itself in another order, and from itself taken twice."""
    v = CROWDS[kind]
    mixed = v[np.random.default_rng(5).permutation(len(v))]
    for w in (v, v.copy(), mixed, np.concatenate([v, mixed])):
        for distance in (discrepancy.energy_distance, lambda *s, **o: discrepancy.mmd(*s, sigma=0.5, **o)):
            assert distance(v, w, estimator="biased") == 0
            assert distance(v, w, estimator="biased", squared=False) == 0
            assert distance(v, w, squared=False) == 0  # the unbiased square is at most 0 here


@settings(deadline=None, max_examples=60)
@given(sets, sets)
def test_what_is_a_square_is_never_negative(v, w):
    for distance in (lambda a, b, **o: discrepancy.mmd(a, b, sigma=0.5, **o), discrepancy.energy_distance):
        assert distance(v, w, estimator="biased") >= 0 and distance(v, w, squared=False) >= 0
        assert distance(v, w, estimator="biased") == pytest.approx(distance(w, v, estimator="biased"), abs=1e-12)


@pytest.mark.parametrize("kind", CROWDS)
def test_distances_are_those_of_float64(kind):
    v = CROWDS[kind]
    unit = v / 255 if v.dtype == np.uint8 else v
    w, unit_w = v[::2] // 2 if v.dtype == np.uint8 else v[::2] / 2, unit[::2] / 2
    unit_w = w / 255 if w.dtype == np.uint8 else unit_w
    for estimator in ESTIMATORS:
        expected = brute(unit, unit_w, lambda d: -np.sqrt(d), estimator)
        assert discrepancy.energy_distance(v, w, estimator=estimator) == pytest.approx(expected, rel=1e-5, abs=1e-9)
        expected = brute(unit, unit_w, lambda d: np.exp(-d / 0.5), estimator)
        assert discrepancy.mmd(v, w, sigma=0.5, estimator=estimator) == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("outlier", [255, 40])
@pytest.mark.parametrize("seed", range(3))
def test_an_outlier_does_not_blur_the_median(outlier, seed):
    generator = np.random.default_rng(seed)
    v, w = (generator.integers(0, 4, (40, 8, 8), dtype=np.uint8) for _ in range(2))
    w = np.concatenate([w, np.full((1, 8, 8), outlier, np.uint8)])
    flat = np.concatenate([v, w]).reshape(81, -1) / 255
    squares = ((flat[:, None] - flat[None]) ** 2).sum(-1)[np.triu_indices(81, 1)]
    assert discrepancy.median_distance(v, w) == pytest.approx(np.median(squares), rel=1e-6)
    floats = (v / 255, w / 255)
    assert discrepancy.median_distance(*floats) == pytest.approx(np.median(squares), rel=1e-6)


def test_all_at_once_is_each_by_itself():
    v, w = image_sets()
    found = discrepancy.discrepancies(v, w)
    assert found.median == discrepancy.median_distance(v, w, squared=False)
    for estimator in ESTIMATORS:
        assert found.mmd[estimator] == pytest.approx(discrepancy.mmd(v, w, estimator=estimator), rel=1e-12)
        literal = discrepancy.mmd(v, w, sigma="median", estimator=estimator)
        assert found.mmd_literal[estimator] == pytest.approx(literal, rel=1e-12)
        assert found.energy[estimator] == pytest.approx(
            discrepancy.energy_distance(v, w, estimator=estimator), rel=1e-12
        )


def test_arrays_of_every_kind_are_one_set():
    v, w = image_sets()
    expected = discrepancy.energy_distance(v, w)
    turned = np.ascontiguousarray(v[::-1, :, ::-1])[::-1, :, ::-1]
    for form in (
        turned,
        torch.from_numpy(v.copy()),
        (v / 255).astype(">f8"),
        torch.from_numpy(v / 255).requires_grad_(),
    ):
        assert discrepancy.energy_distance(form, w) == pytest.approx(expected, rel=1e-6)
    wide = (v.astype(np.uint16) * 257).astype(">u2")
    assert discrepancy.energy_distance(wide, w) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "wrong", [lambda v: v.astype(np.int64), lambda v: v.astype(np.float32), lambda v: v * 1j, lambda v: v.astype(str)]
)
def test_pixels_in_other_units_are_told(wrong):
    v, w = image_sets()
    for call in (
        discrepancy.energy_distance,
        discrepancy.mmd,
        discrepancy.median_distance,
        discrepancy.permutation_test,
    ):
        for pair in ((wrong(v), w), (v, wrong(w))):
            with pytest.raises(UserError) as caught:
                call(*pair)
            assert "\n" not in str(caught.value)

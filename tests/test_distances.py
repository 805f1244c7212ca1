"""Distances between image sets as the protocol measures and records them."""

import dataclasses
import math

import numpy as np
import pytest

from odinlib import datasets, profiles, store
from odinlib.errors import Missing, UserError
from odinlib.measure import distances

FAST = {"permutations": 99, "subsample": 40}


@pytest.fixture
def profile(tmp_path, monkeypatch):
    monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path))
    return dataclasses.replace(profiles.get("demo"), images=60)


def pairwise(a, b):
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))


def test_a_distance_is_that_of_the_test_images(profile):
    found = distances.distance(profile, "digits", "uniform", **FAST)
    v, w = (
        datasets.load(name, count=60, seed=0, shape=(8, 8, 1)).tensor().double().flatten(1).numpy()
        for name in ("digits", "uniform")
    )
    within = [pairwise(s, s)[np.triu_indices(60, 1)] for s in (v, w)]
    between = pairwise(v, w).ravel()
    pooled = np.concatenate([*within, between])
    assert found.median == pytest.approx(np.median(pooled), rel=1e-4)
    assert found.energy_squared == pytest.approx(2 * between.mean() - sum(d.mean() for d in within), rel=1e-4)

    def discrepancy(scale):
        kernel = [np.exp(-(d**2) / scale).mean() for d in (*within, between)]
        return kernel[0] + kernel[1] - 2 * kernel[2]

    assert found.mmd_squared == pytest.approx(discrepancy(np.median(pooled) ** 2), rel=1e-3)
    assert found.mmd_squared_literal == pytest.approx(discrepancy(np.median(pooled)), rel=1e-3)
    assert found.mmd == math.sqrt(found.mmd_squared)
    assert found.energy == math.sqrt(found.energy_squared)
    assert found.mmd_squared_biased > found.mmd_squared
    assert found.energy_squared_biased > found.energy_squared
    assert (found.images_in, found.images_out, found.tested) == (60, 60, 40)
    assert found.mmd_p == found.energy_p == 0.01  # noise is nothing like a digit: no relabelling comes near


def test_a_set_and_itself_are_two_halves_that_do_not_differ(profile):
    found = distances.distance(profile, "digits", "digits", **FAST)
    assert (found.images_in, found.images_out, found.tested) == (30, 30, 30)
    other = distances.distance(profile, "digits", "uniform", **FAST)
    assert abs(found.mmd_squared) < 0.05 * other.mmd_squared
    assert abs(found.energy_squared) < 0.05 * other.energy_squared
    assert found.mmd_squared_biased > found.mmd_squared + 0.01  # which pairs no image of one half with itself
    assert min(found.mmd_p, found.energy_p) > 0.05


def test_the_scale_of_pixels(profile):
    unit, byte = (distances.distance(profile, "digits", "uniform", pixels=p, **FAST) for p in ("unit", "byte"))
    assert byte.energy_squared == pytest.approx(255 * unit.energy_squared, rel=1e-4)
    assert byte.mmd_squared == pytest.approx(unit.mmd_squared, rel=1e-3)
    assert byte.mmd_squared_literal != pytest.approx(unit.mmd_squared_literal, rel=0.1)


def test_larger_images_are_compared_by_their_middle_or_their_corner(profile, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    framed = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = []
    load, measure = store.image_set, distances.discrepancy.discrepancies

    def discrepancies(v, w, **options):
        seen.append(w)
        return measure(v, w, **options)

    monkeypatch.setattr(distances.discrepancy, "discrepancies", discrepancies)
    monkeypatch.setattr(distances, "_images", lambda p, n, i: framed if n == "strokes" else load(p, n, i).images)
    middle, corner = (
        distances.distance(profile, "digits", "strokes", part=part, **FAST) for part in ("inner", "corner")
    )
    assert np.array_equal(seen[0], images) and np.array_equal(seen[1], framed[:, :8, :8])
    assert corner != middle
    reading = dataclasses.replace(profile, compute=False)  # each is recorded under a name of its own
    assert distances.distance(reading, "digits", "strokes", part="corner", **FAST) == corner
    assert distances.distance(reading, "digits", "strokes", **FAST) == middle
    with pytest.raises(Missing, match="images of letters are as large as those of digits"):
        distances.distance(profile, "digits", "letters", part="corner", **FAST)
    with pytest.raises(UserError, match="part is 'outer'; expected one of inner, corner"):
        distances.distance(profile, "digits", "letters", part="outer")


def test_a_distance_is_recorded_and_read_back(profile, monkeypatch):
    measured = distances.distance(profile, "digits", "uniform")
    assert (profile.folder / "distances" / "digits").is_dir()
    monkeypatch.setattr(datasets, "load", None)  # nothing is measured again
    reading = dataclasses.replace(profile, compute=False)
    assert distances.distance(reading, "digits", "uniform") == measured
    with pytest.raises(Missing, match="not recorded"):
        distances.distance(reading, "digits", "gaussian")


def test_negative_squares_have_root_zero():
    zero = distances.Distance(-1e-4, 1e-3, 0.0, -0.1, 0.1, 1.0, 0.5, 0.5, 10, 10, 10)
    assert (zero.mmd, zero.energy) == (0, 0)

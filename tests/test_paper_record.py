"""What the committed record answers beyond the question that it was made for, computed again by plain numpy."""

import json
import zlib

import numpy as np
import pytest

from odinlib import experiments, profiles
from odinlib.measure import effects, limits, mechanism

NET, ID, KEY = "densenet-bc-100-12", "cifar10", "densenet-bc-100-12_cifar10_third-party"
FOLDER = profiles.get("paper").folder
#: Sets of the record by today's name, and the name that seeded their draw.
DRAWN = {ID: ID, "tinyimagenet-crop-drawn": "tinyimagenet-crop", "gaussian": "gaussian", "scenes-crop": "scenes-crop"}
OOD = tuple(DRAWN)[1:]
IMAGES = {"scenes-crop": 5000}  # of the other sets there are 10,000

pytestmark = pytest.mark.skipif(
    not (FOLDER / "responses" / KEY).is_dir(), reason="the paper's record has no third-party DenseNet"
)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Without images: the record alone."""
    monkeypatch.delenv("ODINLIB_RESULTS", raising=False)
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path))


def asked(**changes):
    return profiles.configure("paper", resamples=2, **changes).trained(NET, ID, "third-party")


def held(folder, name):
    with np.load(FOLDER / folder / KEY / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def order(images):
    """The draw of a set: by the seed 0 and the name that it had."""
    return np.random.default_rng([0, zlib.crc32(DRAWN[images].encode())]).permutation(IMAGES.get(images, 10_000))


def score(logits, temperature):
    """The softmax score of logits [K, n], by Equation 1, on a scale that keeps its digits at a large T."""
    gaps = (logits.max(0) - logits).astype(np.float64) / temperature
    return -np.log(np.exp(-gaps).sum(0) - 1)


def fpr(inside, outside):
    """The share of `outside` that reaches the score that 95 % of `inside` reach, in percent."""
    threshold = np.sort(inside)[::-1][int(np.ceil(0.95 * len(inside) - 1e-9)) - 1]
    return 100 * (outside >= threshold).mean()


def rates(ood_set, **changes):
    rows = experiments.detection(asked(**changes), ood_set)
    return rows[rows.metric == "fpr"].set_index("method")


def at(images, temperature, epsilon, holdout=1000):
    """Which images but the first ones of the draw have scores at a setting, and the scores: all files gone through."""
    rest = order(images)[holdout:]
    if epsilon == 0:
        return rest, score(held("responses", images)["logits"][:, rest], temperature)
    parts = [] if holdout == 1000 else [("grids", images, order(images)[holdout:1000])]
    if (FOLDER / "scores" / KEY / f"{images}_T{temperature:g}_e{epsilon:g}.npz").exists():
        parts.append(("scores", f"{images}_T{temperature:g}_e{epsilon:g}", order(images)[1000:]))
    elif temperature in (1, 1000):
        parts.append(("curves", images, order(images)[1000:3000]))
    elif (FOLDER / "grids" / KEY / f"{images}_1000-2000.npz").exists():
        parts.append(("grids", f"{images}_1000-2000", order(images)[1000:2000]))
    found = []
    for folder, name, places in parts:
        file = held(folder, name)
        header = json.loads(str(file["artefact"]))["config"]
        row, column = header["temperatures"].index(temperature), header["epsilons"].index(epsilon)
        scores = file["scores"].reshape(len(header["temperatures"]), len(header["epsilons"]), -1)[row, column]
        found.append((places, scores[-len(places) :]))
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def by_hand(ood_set, temperature, epsilon, holdout=1000, among=None):
    """The FPR of a setting on all images that have it, or on those that have another one too."""
    sides = []
    for images in (ID, ood_set):
        places, scores = at(images, temperature, epsilon, holdout)
        kept = np.isin(places, at(images, *among, holdout)[0]) if among else slice(None)
        sides.append(scores[kept])
    return fpr(*sides), tuple(len(side) for side in sides)


@pytest.mark.parametrize("ood_set", OOD)
@pytest.mark.parametrize(
    ("changes", "temperature", "epsilon"),
    [
        ({"temperatures": [1000], "epsilons": [0.0014]}, 1000.0, 0.0014),
        ({"temperatures": [1000], "epsilons": [0]}, 1000.0, 0.0),
        ({"temperatures": [37], "epsilons": [0]}, 37.0, 0.0),  # a T that nobody recorded
    ],
)
def test_a_fixed_setting(ood_set, changes, temperature, epsilon):
    found = rates(ood_set, **changes)
    assert (found.temperature["odin"], found.epsilon["odin"]) == (temperature, epsilon)
    assert found.value["odin"] == pytest.approx(by_hand(ood_set, temperature, epsilon)[0], abs=1e-9)
    assert found.value["baseline"] == pytest.approx(by_hand(ood_set, 1.0, 0.0)[0], abs=1e-9)
    assert set(found.images_in) == {9000} and set(found.images_out) == {IMAGES.get(ood_set, 10_000) - 1000}


def tuned(ood_set, temperatures, epsilons, holdout=1000):
    """The least FPR on the held-out images over a part of the recorded grid, and where it is reached."""
    grids = [held("grids", images) for images in (ID, ood_set)]
    header = json.loads(str(grids[0]["artefact"]))["config"]
    found = {}
    for i, temperature in enumerate(header["temperatures"]):
        for j, epsilon in enumerate(header["epsilons"]):
            if temperature in temperatures and epsilon in epsilons:
                found[temperature, epsilon] = fpr(*(grid["scores"][i, j, :holdout] for grid in grids))
    least = min(found.values())
    return least, [setting for setting, value in found.items() if value == least]


@pytest.mark.parametrize("ood_set", OOD[:2])
@pytest.mark.parametrize(
    ("changes", "holdout"),
    [({"temperatures": [1000]}, 1000), ({"epsilons": [0]}, 1000), ({"holdout": 500}, 500)],
)
def test_a_part_of_the_grid_or_of_the_held_out_images(ood_set, changes, holdout):
    of = asked(**changes)
    setting = experiments.tune(of, ood_set)
    least, where = tuned(ood_set, of.profile.temperatures, of.profile.epsilons, holdout)
    assert 100 * setting.fpr == pytest.approx(least, abs=1e-4)
    assert (setting.temperature, setting.epsilon) in where
    assert np.array_equal(experiments.held_out(of, ood_set), order(ood_set)[:holdout])
    found, chosen = rates(ood_set, **changes), (setting.temperature, setting.epsilon)
    expected, counts = by_hand(ood_set, *chosen, holdout)
    assert found.value["odin"] == pytest.approx(expected, abs=1e-9)
    assert found.value["baseline"] == pytest.approx(by_hand(ood_set, 1.0, 0.0, holdout, among=chosen)[0], abs=1e-9)
    assert (set(found.images_in), set(found.images_out)) == ({counts[0]}, {counts[1]})


def test_some_of_the_magnitudes_of_the_curves():
    of = asked(epsilons=[0, 0.001, 0.002])
    for row, temperature in enumerate((1.0, 1000.0)):
        measured = effects.epsilon_effect(of, [OOD[0]], temperature)
        curves = [held("curves", images) for images in (ID, OOD[0])]
        epsilons = json.loads(str(curves[0]["artefact"]))["config"]["epsilons"]
        expected = [fpr(*(curve["scores"][row, epsilons.index(e)] for curve in curves)) for e in (0.0, 0.001, 0.002)]
        assert measured.fpr.tolist() == pytest.approx(expected, abs=1e-9)
    changed = mechanism.changed(experiments.predictions(of, ID))
    classes = held("curves", ID)["classes"]
    assert changed[1].tolist() == pytest.approx(
        [100 * (classes[1, epsilons.index(e)] != classes[1, 0]).mean() for e in (0.0, 0.001, 0.002)]
    )


def test_a_part_of_the_grid_on_appendix_h():
    sets = list(OOD[:2])
    of = asked(temperatures=[1, 1000], epsilons=[0, 0.0014])
    frame = effects.transfer(of, sets)
    for row in frame.itertuples():
        _, where = tuned(row.tuning_set, (1.0, 1000.0), (0.0, 0.0014))
        assert (row.temperature, row.epsilon) in where
        assert row.odin == pytest.approx(by_hand(row.ood_set, row.temperature, row.epsilon)[0], abs=1e-9)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"split": "first"}, {"images": 5000}, {"images": 5000, "seed": 1}])
def test_another_draw(changes):
    of, count = asked(**changes), changes.get("images", 10_000)
    for images in (ID, OOD[0]):
        recorded = order(images)[:2000] if (FOLDER / "grids" / KEY / f"{images}_1000-2000.npz").exists() else None
        held_out, test = experiments.held_out(of, images), experiments.tested(of, images)
        assert len(held_out) == 1000 and set(held_out) <= set(order(images)[:1000] if recorded is None else recorded)
        assert not set(held_out) & set(test) and len(test) == len(set(test)) == count - 1000
        told = experiments.images_used(of, images)
        assert told is not None and f"1,000 held-out images of those whose grid is recorded, {len(test):,} test" in told
        assert experiments.images_used(asked(), images) is None
    inside, outside = (held("responses", s)["logits"][:, experiments.tested(of, s)] for s in (ID, OOD[0]))
    measured = effects.temperature_effect(of, [OOD[0]], [1.0, 1000.0])
    expected = [fpr(score(inside, t), score(outside, t)) for t in (1.0, 1000.0)]
    assert measured.fpr.tolist() == pytest.approx(expected, abs=1e-9)
    responses = [experiments.test_responses(of, s) for s in (ID, OOD[0])]
    constant = limits.limit_constant(*(r.logits for r in responses))
    gaps = [(logits.max(0) - logits).astype(np.float64).sum(0) for logits in (inside, outside)]
    assert constant == pytest.approx(0.5 * 0.05 + 0.5 * fpr(*gaps) / 100, abs=1e-4)


def test_every_pair_that_is_recorded_has_its_numbers_at_a_changed_question():
    """As a page asks: fixed settings, another holdout, and a T that nobody recorded."""
    there = sorted(path.stem for path in (FOLDER / "grids" / KEY).glob("*.npz") if not path.stem.startswith(ID))
    there = [images for images in there if "_" not in images]  # whole files: further held-out images have their own
    assert len(there) >= 7
    for changes in (
        {"temperatures": [1000], "epsilons": [0.0014]},
        {"epsilons": [0]},
        {"temperatures": [37], "epsilons": [0]},
        {"holdout": 500, "temperatures": [1000], "epsilons": [0, 0.0014]},
    ):
        of = asked(**changes)
        found = experiments.gather(lambda ood_set, of=of: experiments.detection(of, ood_set), there)
        assert not found.missing

"""The protocol is the method's functions on the right images: held out, tuned, tested, compared."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from odinlib import artefacts, datasets, experiments, metrics, networks, odin, profiles, record, splits, store, trained
from odinlib.errors import Missing, UserError
from odinlib.networks import train as training

NET, ID = "mlp-16x1", "digits"


def refused(action, *arguments, **options) -> str:
    """The one line with which `action` refuses."""
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(profile, **fields):
    """The network under a profile with some fields replaced."""
    return dataclasses.replace(profile, **fields).trained(NET, ID)


# --- The whole protocol -----------------------------------------------------------------------------------------------


def by_hand(profile, ood_set):
    """FPR and setting of both methods, computed with `odin` and `metrics` alone."""
    train_set = datasets.load(ID, "train")
    pixels = train_set.images.astype(np.float64) / 255
    mean, std = (tuple(f(pixels, (0, 1, 2))) for f in (np.mean, np.std))
    network = networks.build(NET, 10, channels=1, size=8, mean=mean, std=std, seed=profile.seed)
    training.train(network, train_set, profile.recipe(NET), seed=profile.seed, device="cpu", progress=False)

    held_out, test = {}, {}
    for name in (ID, ood_set):
        shape = (8, 8, 1) if name in datasets.NOISE else None
        images = datasets.load(name, count=profile.images, seed=profile.seed, shape=shape).tensor()
        order = splits.draw(profile.split, name, profile.seed).order(len(images))
        parts = order[: profile.holdout], order[profile.holdout :]
        held_out[name], test[name] = (images[torch.from_numpy(part)] for part in parts)
    grid = profile.temperatures, profile.epsilons
    chosen = odin.tune(*(odin.sweep(network, held_out[n], *grid) for n in (ID, ood_set)), *grid)
    found = {}
    for method, temperature, epsilon in (("baseline", 1.0, 0.0), ("odin", chosen.temperature, chosen.epsilon)):
        scores = (
            odin.odin_score(network, test[name], temperature, epsilon) for name in (ID, ood_set)
        )  # Equation 1 itself, not the rank-equal scores that are recorded
        found[method] = metrics.evaluate(*scores), temperature, epsilon
    return found


@pytest.mark.parametrize("ood_set", ["strokes", "gaussian"])
@pytest.mark.parametrize("split", ["random", "first"])
def test_the_protocol_is_the_method_on_the_right_images(tiny, split, ood_set):
    profile = dataclasses.replace(tiny, split=split)
    rows = experiments.detection(profile.trained(NET, ID), ood_set)
    for method, (values, temperature, epsilon) in by_hand(profile, ood_set).items():
        block = rows[rows.method == method].set_index("metric")
        assert set(block.temperature) == {temperature} and set(block.epsilon) == {epsilon}
        for metric in metrics.METRICS:
            assert block.value[metric] == pytest.approx(100 * values[metric].item(), abs=1e-9)
            assert block.low[metric] - 1e-9 <= block.value[metric] <= block.high[metric] + 1e-9
    assert set(rows.images_in) == set(rows.images_out) == {tiny.images - tiny.holdout}


def test_the_spread_over_trainings_is_that_of_the_recorded_seeds(tiny):
    (alone,) = {n for n in experiments.detection(tiny.trained(NET, ID), "strokes").trainings}
    values = []
    for seed in (0, 1, 2):
        trained.train(dataclasses.replace(tiny, seed=seed).trained(NET, ID))
        of = tiny.trained(NET, ID, f"seed{seed}")
        list(record.respond(of, ["strokes", ID]))
        values.append(experiments.detection(of, "strokes").value)
    again = experiments.detection(tiny.trained(NET, ID), "strokes")
    assert alone == 1 and set(again.trainings) == {3}
    assert np.allclose(again["mean"], np.mean(values, axis=0)) and np.allclose(again.spread, np.std(values, 0, ddof=1))
    assert again.spread.max() > 0 and again.value.equals(values[0])
    # Repetitions are kept light; other weights, and another recipe of ours, are no repetition.
    assert {path.name for path in (tiny.folder / "responses").iterdir()} == {f"{NET}_{ID}_seed0"}
    for name in ("third-party", "seed3-0a1b2c3d"):
        shutil.copytree(tiny.folder / "scores" / of.key, tiny.folder / "scores" / f"{NET}_{ID}_{name}")
    assert set(experiments.detection(tiny.trained(NET, ID), "strokes").trainings) == {3}


def test_of_many_classes_pages_take_the_images_whose_logits_are_kept(tiny, monkeypatch):
    whole = experiments.test_responses(tiny.trained(NET, ID), ID)
    for path in (tiny.folder / "responses").rglob("*.npz"):
        path.unlink()
    monkeypatch.setattr(store.making, "LIGHT_FROM", 4)
    monkeypatch.setattr(store.making, "LIGHT_LOGITS", tiny.images - 15)
    light = experiments.test_responses(tiny.trained(NET, ID), ID)
    assert 0 < len(light.logits) < len(whole.logits) == tiny.images - tiny.holdout
    places = [np.flatnonzero((whole.logits == row).all(1)).item() for row in light.logits]
    assert places == sorted(places) and np.array_equal(light.labels, whole.labels[places])
    for setting in ((1000.0, 0.0), (7.0, 0.0)):  # on the paper's grid, for all images; and between, for those alone
        known = experiments.test_scores(tiny.trained(NET, ID), ID, *setting)
        assert np.allclose(known[places], odin.margin_score(torch.from_numpy(whole.logits[places]), setting[0]))


def test_scores_on_the_curve_are_those_of_the_setting(tiny):
    of = tiny.trained(NET, ID)
    classes = experiments.predictions(of, "strokes")
    on_curve = experiments.test_scores(of, "strokes", 1000.0, 0.02)
    assert not (tiny.folder / "scores").exists() and classes.shape == (2, 3, 40)
    apart = changed(tiny, curve_images=30)
    for path in (tiny.folder / "curves").rglob("*.npz"):
        path.unlink()
    own = experiments.test_scores(apart, "strokes", 1000.0, 0.02)
    assert (tiny.folder / "scores" / of.key / "strokes_T1000_e0.02.npz").exists()
    assert torch.equal(on_curve, own)
    assert experiments.curve(apart, "strokes").shape == (2, 3, 30)


def test_curves_carry_the_predicted_classes_in_step(tiny):
    of = tiny.trained(NET, ID)
    classes = experiments.predictions(of, ID)
    clean = experiments.test_responses(of, ID).logits.argmax(1)
    assert classes.shape == experiments.curve(of, ID).shape == (2, 3, 40)
    assert np.array_equal(classes[0, 0].numpy(), clean) and np.array_equal(classes[1, 0].numpy(), clean)


def test_the_grey_block_is_not_tuned(tiny):
    setting = experiments.tune(tiny.trained(tiny.grey_network, tiny.grey_id_set), "uniform")
    assert (setting.temperature, setting.epsilon) == (1000.0, 0.0)
    assert not (tiny.folder / "grids").exists()


def test_one_setting_is_not_tuned(tiny):
    setting = experiments.tune(changed(tiny, temperatures=(37.0,), epsilons=(0.0,)), "strokes")
    assert (setting.temperature, setting.epsilon) == (37.0, 0.0)
    assert not (tiny.folder / "grids").exists()


def test_scores_made_together_are_those_made_alone(tiny):
    of, settings = tiny.trained(NET, ID), [(7.0, 0.0), (7.0, 0.005), (7.0, 0.01), (3.0, 0.005)]
    alone = [experiments.test_scores(of, "strokes", *setting) for setting in settings]
    made = {path.name: artefacts.load(path) for path in (tiny.folder / "scores").rglob("*.npz")}
    assert len(made) == 3  # at epsilon = 0 the responses say it all
    for path in (tiny.folder / "scores").rglob("*.npz"):
        path.unlink()
    experiments.record_scores(of, "strokes", settings)
    again = {path.name: artefacts.load(path) for path in (tiny.folder / "scores").rglob("*") if path.is_file()}
    assert {name: found.config for name, found in again.items()} == {name: found.config for name, found in made.items()}
    for setting, scores in zip(settings, alone, strict=True):
        assert torch.equal(experiments.test_scores(of, "strokes", *setting), scores)


# --- Which images -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", splits.SPLITS)
def test_held_out_and_test_images_are_disjoint_and_all_there_are(tiny, split):
    of = changed(tiny, split=split, images=None)
    held_out, test = experiments.held_out(of, ID), experiments.tested(of, ID)
    assert len(held_out) == 20 and sorted([*held_out, *test]) == list(range(store.total(of, ID)))


def test_a_smaller_holdout_is_the_beginning_of_a_larger_one(tiny):
    """Figure 15 needs it: the images tested on are in none of its tuning sets."""
    of = tiny.trained(NET, ID)
    assert list(experiments.held_out(of, ID, 50)[:20]) == list(experiments.held_out(of, ID))
    rest = experiments.tested(of, ID, holdout=50)
    assert list(rest) == list(experiments.tested(of, ID)[30:])
    assert not set(rest) & set(experiments.held_out(of, ID, 50))


def test_tuning_sees_held_out_images_only(tiny, monkeypatch):
    seen = []
    sweep = odin.sweep_and_classify
    monkeypatch.setattr(
        odin, "sweep_and_classify", lambda net, images, *rest: seen.append(images) or sweep(net, images, *rest)
    )
    of = tiny.trained(NET, ID)
    experiments.tune(of, "letters")
    for name, images in zip((ID, "letters"), seen, strict=True):
        assert torch.equal(images, store.image_set(tiny, name, ID).tensor(experiments.held_out(of, name)))


def test_fewer_images_than_are_held_out(tiny):
    told = refused(experiments.tune, changed(tiny, images=20), "letters")
    assert told == "digits has 20 images; expected more than the 20 that are held out"
    assert "expected at most 600" in refused(store.responses, changed(tiny, images=601), ID)
    told = refused(experiments.grid, tiny.trained(NET, ID), "letters", 60)
    assert told == "letters has 60 images; expected more than the 60 that are held out"


# --- Gathering --------------------------------------------------------------------------------------------------------


def test_what_could_not_be_had_is_kept_beside_what_could():
    def length(*names):
        if "" in names:
            raise Missing("nothing is not recorded")
        return len(names)

    found = experiments.gather(length, ["isun", "", ("isun", "uniform"), ("", "uniform")])
    assert found == {"isun": 1, ("isun", "uniform"): 2}
    assert list(found.missing) == ["", ("", "uniform")] and found.missing[""] == "nothing is not recorded"
    nothing = experiments.gather(length, [""])
    assert not nothing and nothing.missing and experiments.joined(nothing).empty


def test_a_mistake_is_not_gathered():
    def mistaken(name):
        raise UserError("a mistake")

    with pytest.raises(UserError, match="a mistake"):
        experiments.gather(mistaken, ["isun"])


def test_detections_are_gathered_by_pair(tiny):
    found = experiments.detections(tiny, [(NET, ID, "strokes"), (NET, ID, "isun")])
    assert list(found) == [(NET, ID, "strokes")] and list(found.missing) == [(NET, ID, "isun")]
    assert "isun is not prepared" in found.missing[NET, ID, "isun"]
    assert len(experiments.joined(found)) == 10


def test_the_paper_pairs_two_id_sets_both_ways():
    paper = profiles.get("paper")
    assert experiments.near_pairs(paper) == [
        ("densenet-bc-100-12", "cifar10", "cifar100"),
        ("densenet-bc-100-12", "cifar100", "cifar10"),
    ]
    assert experiments.near_pairs(dataclasses.replace(paper, id_sets=("cifar10",))) == []

"""The protocol is the method's functions on the right images; artefacts resume, keep apart and say what is missing."""

import dataclasses

import numpy as np
import pytest
import torch

from odinlib import artefacts, datasets, experiments, jobs, metrics, networks, odin, profiles
from odinlib.distances import distance
from odinlib.errors import Missing, UserError
from odinlib.networks import train as training
from odinlib.networks import weights

NET, ID = "mlp-16x1", "digits"


def refused(action, *arguments, **options) -> str:
    """The one line with which `action` refuses."""
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_images(profile, images):
    return dataclasses.replace(profile, images=images)


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
        order = experiments.split(profile, name, len(images), profile.holdout)
        held_out[name], test[name] = (images[torch.from_numpy(part)] for part in order)
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
    rows = experiments.detection(profile, NET, ID, ood_set)
    for method, (values, temperature, epsilon) in by_hand(profile, ood_set).items():
        block = rows[rows.method == method].set_index("metric")
        assert set(block.temperature) == {temperature} and set(block.epsilon) == {epsilon}
        for metric in metrics.METRICS:
            assert block.value[metric] == pytest.approx(100 * values[metric].item(), abs=1e-9)
            assert block.low[metric] - 1e-9 <= block.value[metric] <= block.high[metric] + 1e-9
    assert set(rows.images_in) == set(rows.images_out) == {tiny.images - tiny.holdout}


def test_responses_are_the_networks_on_every_image(tiny):
    found = experiments.responses(tiny, NET, ID, "letters")
    images = experiments.image_set(tiny, "letters", ID)
    logits, norms = odin.responses(experiments.network(tiny, NET, ID), images.tensor())
    assert np.allclose(found.logits, logits, atol=1e-6) and found.logits.flags.c_contiguous
    assert np.allclose(found.gradient_norm_1, norms[0]) and np.allclose(found.gradient_norm_1000, norms[1])
    assert np.array_equal(found.labels, images.labels)
    assert experiments.responses(tiny, NET, ID, "strokes").labels is None
    test = experiments.split(tiny, "letters", 60, 20)[1]
    assert np.array_equal(experiments.test_responses(tiny, NET, ID, "letters").logits, found.logits[test])


def test_the_error_is_that_of_the_weights_on_all_test_images(tiny):
    whole = with_images(tiny, None)
    error = experiments.test_error(whole, NET, ID)
    assert error == pytest.approx(1 - experiments.card(whole, NET, ID)["accuracy"])


def test_scores_on_the_curve_are_those_of_the_setting(tiny):
    on_curve = experiments.test_scores(tiny, NET, ID, "strokes", 1000.0, 0.02)
    assert not (tiny.folder / "scores").exists()
    apart = dataclasses.replace(tiny, curve_images=30)
    own = experiments.test_scores(apart, NET, ID, "strokes", 1000.0, 0.02)
    assert (tiny.folder / "scores" / f"{NET}_{ID}" / "strokes_T1000_e0.02.npz").exists()
    assert torch.equal(on_curve, own)
    assert experiments.curve(apart, NET, ID, "strokes").shape == (2, 3, 30)


def test_curves_carry_the_predicted_classes_in_step(tiny):
    classes = experiments.predictions(tiny, NET, ID, ID)
    clean = experiments.test_responses(tiny, NET, ID, ID).logits.argmax(1)
    assert classes.shape == experiments.curve(tiny, NET, ID, ID).shape == (2, 3, 40)
    assert np.array_equal(classes[0, 0].numpy(), clean) and np.array_equal(classes[1, 0].numpy(), clean)


def test_the_grey_block_is_not_tuned(tiny):
    setting = experiments.tune(tiny, tiny.grey_network, tiny.grey_id_set, "uniform")
    assert (setting.temperature, setting.epsilon) == (1000.0, 0.0)
    assert not (tiny.folder / "grids").exists()


def test_noise_takes_the_shape_of_the_images_it_is_compared_with(tiny):
    assert experiments.image_set(tiny, "gaussian", ID).shape == (8, 8, 1)
    assert experiments.image_set(tiny, "uniform", "shapes4").shape == datasets.load("shapes4").shape


# --- The split --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", profiles.SPLITS)
def test_a_split_is_disjoint_and_complete(tiny, split):
    profile = dataclasses.replace(tiny, split=split)
    held_out, test = experiments.split(profile, ID, 100, 30)
    assert len(held_out) == 30 and sorted([*held_out, *test]) == list(range(100))


def test_first_holds_out_the_first_and_random_goes_by_seed_and_set(tiny):
    first = dataclasses.replace(tiny, split="first")
    assert list(experiments.split(first, ID, 100, 3)[0]) == [0, 1, 2]
    drawn = {
        key: tuple(experiments.split(dataclasses.replace(tiny, seed=seed), name, 100, 30)[0])
        for key, seed, name in (("a", 0, ID), ("again", 0, ID), ("seed", 1, ID), ("set", 0, "letters"))
    }
    assert drawn["a"] == drawn["again"] != drawn["seed"] != drawn["set"] != drawn["a"]


def test_a_smaller_holdout_is_the_beginning_of_a_larger_one(tiny):
    """Figure 15 needs it: the images tested on are in none of its tuning sets."""
    small, large = (experiments.split(tiny, ID, 100, size) for size in (20, 50))
    assert list(large[0][:20]) == list(small[0]) and list(large[1]) == list(small[1][30:])


def test_tuning_sees_held_out_images_only(tiny, monkeypatch):
    seen = []
    sweep = odin.sweep_and_classify
    monkeypatch.setattr(
        odin, "sweep_and_classify", lambda net, images, *rest: seen.append(images) or sweep(net, images, *rest)
    )
    experiments.tune(tiny, NET, ID, "letters")
    for name, images in zip((ID, "letters"), seen, strict=True):
        held_out = experiments.split(tiny, name, tiny.images, tiny.holdout)[0]
        assert torch.equal(images, experiments.image_set(tiny, name, ID).tensor(held_out))


def test_fewer_images_than_are_held_out(tiny):
    told = refused(experiments.tune, with_images(tiny, 20), NET, ID, "letters")
    assert told == "digits has 20 images; expected more than the 20 that are held out"
    assert "expected at most 600" in refused(experiments.responses, with_images(tiny, 601), NET, ID, ID)


# --- Artefacts --------------------------------------------------------------------------------------------------------


def files(profile):
    return sorted(path.relative_to(profile.folder).as_posix() for path in profile.folder.rglob("*.*") if path.is_file())


def test_a_second_call_computes_nothing(tiny, monkeypatch):
    first = experiments.detection(tiny, NET, ID, "strokes")
    before = {path: (tiny.folder / path).stat().st_mtime_ns for path in files(tiny)}
    monkeypatch.setattr(odin, "input_gradients", None)
    assert experiments.detection(tiny, NET, ID, "strokes").equals(first)
    assert {path: (tiny.folder / path).stat().st_mtime_ns for path in files(tiny)} == before


EVERY = {"responses", "grids", "curves", "scores"}


@pytest.mark.parametrize(
    ("field", "value", "kinds"),
    [
        ("images", 50, EVERY),
        ("seed", 1, {"networks", *EVERY}),
        ("recipes", {"mlp": training.Recipe(epochs=1, batch=64, weight_decay=0.0)}, {"networks", *EVERY}),
        ("holdout", 30, EVERY - {"responses"}),
        ("split", "first", EVERY - {"responses"}),
        ("epsilons", (0.0, 0.01), {"grids", "curves"}),
        ("temperatures", (1.0, 2.0), {"grids"}),
        ("fixed_temperature", 500.0, {"curves"}),
        ("curve_images", 10, {"curves"}),
    ],
)
def test_changed_fields_get_files_of_their_own(tiny, field, value, kinds):
    def make(profile):
        experiments.grid(profile, NET, ID, "strokes")
        experiments.curve(profile, NET, ID, "strokes")
        experiments.responses(profile, NET, ID, "strokes")
        experiments.test_scores(profile, NET, ID, "strokes", 10.0, 0.02)

    make(tiny)
    before = {path: (tiny.folder / path).read_bytes() for path in files(tiny)}
    make(dataclasses.replace(tiny, **{field: value}))
    assert {path: (tiny.folder / path).read_bytes() for path in before} == before
    made = set(files(tiny)) - set(before)
    assert {path.partition("/")[0] for path in made} == kinds
    for path in made:
        stem, _, suffix = (tiny.folder / path).stem.rpartition("-")
        assert stem and len(suffix) == 8
        if path.endswith(".npz"):
            assert artefacts.digest(artefacts.load(tiny.folder / path).config).startswith(suffix)


def test_what_does_not_enter_the_numbers_does_not_enter_the_names(tiny):
    experiments.grid(tiny, NET, ID, "strokes")
    before = files(tiny)
    experiments.grid(dataclasses.replace(tiny, device="auto", resamples=7, tpr=0.9), NET, ID, "strokes")
    assert files(tiny) == before


def test_an_interrupted_artefact_goes_on_at_the_last_whole_shard(tiny, monkeypatch):
    many = with_images(tiny, 600)
    whole = experiments.responses(many, NET, ID, ID)
    (path,) = (many.folder / "responses").rglob("*.npz")
    path.unlink()

    computed, responses = [], odin.responses

    def stops_at_the_third(network, images, *rest):
        computed.append(len(images))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return responses(network, images, *rest)

    monkeypatch.setattr(odin, "responses", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        experiments.responses(many, NET, ID, ID)
    assert not path.exists()
    assert len(list(path.with_name(f"{path.name}.shards").iterdir())) == 2
    again = experiments.responses(many, NET, ID, ID)
    assert computed == [250, 250, 100, 100]
    assert np.array_equal(again.logits, whole.logits) and np.array_equal(again.labels, whole.labels)
    assert not path.with_name(f"{path.name}.shards").exists()


def test_nothing_is_computed_where_nothing_may_be(tiny):
    reading = dataclasses.replace(tiny, compute=False)
    for read in (experiments.responses, experiments.grid, experiments.curve, experiments.detection):
        told = refused(read, reading, NET, ID, "strokes")
        assert "is not recorded" in told
        assert f"`odin respond --profile tiny --network {NET} --id-set {ID}` makes it" in told
    assert f"`odin train --profile tiny --network {NET} --id-set {ID}`" in refused(
        experiments.network, reading, NET, ID
    )
    found, missing = experiments.detections(reading, [(NET, ID, "strokes")])
    assert found.empty and "is not recorded" in missing[NET, ID, "strokes"]
    assert not tiny.folder.exists()


def test_what_is_recorded_is_read_without_weights_or_images(tiny, monkeypatch):
    measured = experiments.detection(tiny, NET, ID, "strokes")
    for path in (tiny.folder / "networks").iterdir():
        path.unlink()
    monkeypatch.setattr(datasets, "load", None)
    reading = dataclasses.replace(tiny, compute=False)
    assert experiments.detection(reading, NET, ID, "strokes").equals(measured)


def test_foreign_weights_are_asked_for(tiny):
    foreign = dataclasses.replace(tiny, origins={f"{NET}_{ID}": "someone's weights"})
    with pytest.raises(Missing, match=r"someone's weights.*odin import-weights"):
        experiments.network(foreign, NET, ID)


def test_weights_of_another_recipe_are_refused(tiny):
    experiments.network(tiny, NET, ID)
    path = experiments.network_path(tiny, NET, ID)
    network, card = weights.load_weights(path)
    weights.save_weights(network, path, {**card, "config_sha256": "0" * 64})
    experiments._network.cache_clear()
    assert "was trained with another recipe" in refused(experiments.network, tiny, NET, ID)


def test_other_weights_or_images_make_an_artefact_anew(tiny, capsys):
    before = experiments.responses(tiny, NET, ID, "strokes")
    path = experiments.network_path(tiny, NET, ID)
    network, card = weights.load_weights(path)
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    weights.save_weights(network, path, card)
    experiments._network.cache_clear()
    after = experiments.responses(tiny, NET, ID, "strokes")
    assert not np.allclose(before.logits, after.logits)
    assert "made from other weights than those on this machine: computing it again" in capsys.readouterr().err
    network.zero_grad()
    path.with_suffix(".json").unlink()
    assert np.array_equal(experiments.responses(tiny, NET, ID, "strokes").logits, after.logits)


def test_a_damaged_artefact_is_made_anew_or_refused(tiny, capsys):
    whole = experiments.responses(tiny, NET, ID, "strokes")
    (path,) = (tiny.folder / "responses").rglob("*.npz")
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    told = refused(experiments.responses, dataclasses.replace(tiny, compute=False), NET, ID, "strokes")
    assert "strokes.npz is damaged" in told
    assert np.array_equal(experiments.responses(tiny, NET, ID, "strokes").logits, whole.logits)
    assert "computing it again" in capsys.readouterr().err


# --- All of it --------------------------------------------------------------------------------------------------------


def test_respond_records_all_that_a_page_reads(tiny):
    from odinlib import effects

    lines = list(jobs.respond(tiny, NET, ID))
    assert f"responses of {NET} ({ID}) on strokes" in lines and not any(line.startswith("without") for line in lines)
    reading = dataclasses.replace(tiny, compute=False)
    ood_sets = tiny.ood_sets[ID]
    for ood_set in ood_sets:
        experiments.detection(reading, NET, ID, ood_set)
        distance(reading, ID, ood_set)
        experiments.predictions(reading, NET, ID, ood_set)
    effects.transfer(reading, NET, ID, ood_sets)
    effects.tuning_rules(reading, NET, ID, ood_sets)
    effects.tuning_size_effect(reading, NET, ID, ood_sets)
    effects.threshold_effect(reading, NET, ID, ood_sets)
    effects.accuracy_by_score(reading, NET, ID)
    before = files(tiny)
    assert list(jobs.respond(tiny, NET, ID)) == lines
    assert files(tiny) == before


def test_a_larger_grid_begins_with_the_smaller_one(tiny):
    larger = experiments.grid(tiny, NET, ID, "strokes", holdout=30)
    assert larger.shape[-1] == 30
    assert torch.equal(larger[..., :20], experiments.grid(tiny, NET, ID, "strokes"))
    assert torch.equal(larger[..., :5], experiments.grid(tiny, NET, ID, "strokes", holdout=5))
    once = dataclasses.replace(tiny, holdout=30)
    assert torch.equal(larger, experiments.grid(once, NET, ID, "strokes"))


def test_scores_made_together_are_those_made_alone(tiny):
    settings = [(7.0, 0.0), (7.0, 0.005), (7.0, 0.01), (3.0, 0.005)]
    alone = [experiments.test_scores(tiny, NET, ID, "strokes", *setting) for setting in settings]
    made = {path.name: artefacts.load(path) for path in (tiny.folder / "scores").rglob("*.npz")}
    assert len(made) == 3  # at epsilon = 0 the responses say it all
    for path in (tiny.folder / "scores").rglob("*.npz"):
        path.unlink()
    experiments.score_together(tiny, NET, ID, "strokes", settings)
    again = {path.name: artefacts.load(path) for path in (tiny.folder / "scores").rglob("*") if path.is_file()}
    assert {name: found.config for name, found in again.items()} == {name: found.config for name, found in made.items()}
    for setting, scores in zip(settings, alone, strict=True):
        assert torch.equal(experiments.test_scores(tiny, NET, ID, "strokes", *setting), scores)


def test_respond_goes_on_without_a_set_that_is_not_here(tiny):
    more = dataclasses.replace(tiny, ood_sets={**tiny.ood_sets, ID: ("isun", "strokes")})
    lines = list(jobs.respond(more, NET, ID))
    left_out = [line for line in lines if line.startswith("without")]
    assert len(left_out) == 1 and left_out[0].startswith("without isun: isun is not prepared")
    assert f"scores of {NET} ({ID}) on strokes" in lines
    alone = dataclasses.replace(tiny, ood_sets={**tiny.ood_sets, ID: ("isun",)})
    assert any(line.startswith("without isun") for line in jobs.respond(alone, NET, ID))


def test_respond_without_its_own_images_says_so(tiny):
    foreign = dataclasses.replace(tiny, id_sets=("cifar10",), ood_sets={**tiny.ood_sets, "cifar10": ("strokes",)})
    with pytest.raises(Missing, match="cifar10 is not prepared"):
        list(jobs.respond(foreign, NET, "cifar10"))


def test_the_paper_pairs_two_id_sets_both_ways():
    paper = profiles.get("paper")
    assert experiments.near_pairs(paper) == [
        ("densenet-bc-100-12", "cifar10", "cifar100"),
        ("densenet-bc-100-12", "cifar100", "cifar10"),
    ]
    assert experiments.near_pairs(dataclasses.replace(paper, id_sets=("cifar10",))) == []


def test_a_sealed_file_that_was_changed_is_refused(tiny):
    from odinlib import record

    experiments.responses(tiny, NET, ID, "strokes")
    list(record.seal(tiny))
    (path,) = (tiny.folder / "responses").rglob("*.npz")
    found = artefacts.load(path)
    shorter = {name: array[..., :-1] for name, array in found.arrays.items()}
    artefacts.save(path, shorter, found.config, found.provenance)
    told = refused(experiments.responses, dataclasses.replace(tiny, compute=False), NET, ID, "strokes")
    assert "strokes.npz is not the file in MANIFEST.json" in told

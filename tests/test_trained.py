"""A network is trained once, is what its name says, and comes with a card."""

import dataclasses
import json
import multiprocessing

import pytest
import torch

from odinlib import artefacts, datasets, experiments, networks, profiles, store, trained
from odinlib.errors import Missing, UserError
from odinlib.networks import train as training
from odinlib.networks import weights

NET, ID = "mlp-16x1", "digits"


def test_a_network_is_trained_where_it_is_not_there_and_then_read(tiny, monkeypatch):
    of = tiny.trained(NET, ID)
    made = trained.network(of)
    assert trained.path(of) == tiny.folder / "networks" / f"{NET}_{ID}_seed0.safetensors"
    card = trained.card(of)
    assert (card["training"], card["id_set"], card["seed"]) == ("seed0", ID, 0)
    assert card["recipe"] == json.loads(json.dumps(dataclasses.asdict(tiny.recipe(NET))))
    monkeypatch.setattr(training, "train", None)
    trained._network.cache_clear()
    again = trained.network(of)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))


def test_another_seed_or_recipe_is_another_training_beside_the_first(tiny):
    of = tiny.trained(NET, ID)
    trained.network(of)
    before = {path: path.read_bytes() for path in (tiny.folder / "networks").iterdir()}
    recipes = {"mlp": training.Recipe(epochs=1, batch=64, weight_decay=0.0)}
    for changes in ({"seed": 1}, {"recipes": recipes}):
        other = dataclasses.replace(tiny, **changes).trained(NET, ID)
        trained.network(other)
        assert other.key != of.key and trained.card(other)["training"] == other.training
    assert {path: path.read_bytes() for path in before} == before
    assert len(list((tiny.folder / "networks").glob("*.safetensors"))) == 3


def test_the_error_is_that_of_the_weights_on_all_test_images(tiny):
    of = dataclasses.replace(tiny, images=None).trained(NET, ID)
    assert experiments.test_error(of) == pytest.approx(1 - trained.card(of)["accuracy"])


def test_foreign_weights_are_asked_for(tiny):
    foreign = dataclasses.replace(tiny, trainings={f"{NET}_{ID}": "third-party"})
    whose = profiles.TRAININGS["third-party"]
    with pytest.raises(Missing, match=rf"{NET}_{ID}_third-party\S* is not there.*{whose}.*odin import-weights"):
        trained.network(foreign.trained(NET, ID))


def test_a_profile_that_only_reads_names_the_command(tiny):
    reading = dataclasses.replace(tiny, compute=False)
    with pytest.raises(Missing, match=f"`odin train --profile tiny --network {NET} --id-set {ID}`"):
        trained.network(reading.trained(NET, ID))


def test_weights_of_another_recipe_are_refused(tiny):
    of = tiny.trained(NET, ID)
    network = trained.network(of)
    _, card = weights.load_weights(trained.path(of))
    weights.save_weights(network, trained.path(of), {**card, "recipe": {**card["recipe"], "epochs": 99}})
    with pytest.raises(artefacts.Refused, match="was trained with another recipe"):
        trained.network(of)


def test_a_header_says_what_the_weights_depend_on_and_nothing_else(tiny):
    own = trained.header(tiny.trained(NET, ID))
    assert own.keys() == {"network", "id_set", "training", "recipe"}
    foreign = trained.header(tiny.trained(NET, ID, "authors"))
    assert foreign == {"network": NET, "id_set": ID, "training": "authors"}
    for changes in ({"holdout": 30}, {"images": 50}, {"split": "first"}, {"temperatures": (1.0,)}, {"device": "auto"}):
        assert trained.header(dataclasses.replace(tiny, **changes).trained(NET, ID)) == own


def _train(profile, folder, go, results):
    import os

    os.environ["ODINLIB_RESULTS"] = folder
    profiles.PROFILES["tiny"] = profile
    epochs, plain = [], training.train
    training.train = lambda *args, **options: epochs.append(1) or plain(*args, **options)
    go.wait()
    trained.network(profile.trained(NET, ID))
    results.put(len(epochs))


def test_two_jobs_train_a_network_once(tiny):
    """Whoever comes second waits, and finds it there."""
    spawn = multiprocessing.get_context("spawn")
    go, results = spawn.Event(), spawn.Queue()
    arguments = (tiny, str(tiny.folder.parent), go, results)
    jobs = [spawn.Process(target=_train, args=arguments) for _ in range(2)]
    for job in jobs:
        job.start()
    go.set()
    counts = [results.get(timeout=120) for _ in jobs]
    for job in jobs:
        job.join(timeout=120)
        assert job.exitcode == 0
    assert sorted(counts) == [0, 1]
    left = {path.name for path in (tiny.folder / "networks").iterdir()}
    assert left == {f"{NET}_{ID}_seed0{suffix}" for suffix in (".safetensors", ".json")}
    assert store.responses(tiny.trained(NET, ID), ID).logits.shape == (60, 10)


def test_a_recipe_may_leave_pixels_as_they_are(tiny):
    recipes = {"mlp": dataclasses.replace(tiny.recipe(NET), normalise=False)}
    plain = trained.network(dataclasses.replace(tiny, recipes=recipes).trained(NET, ID))
    usual = trained.network(tiny.trained(NET, ID))
    assert (plain.mean == 0).all() and (plain.std == 1).all()
    assert (usual.mean > 0).all() and (usual.std < 1).all()


def test_a_card_from_before_an_entry_of_the_recipe_had_its_default(tiny):
    of = tiny.trained(NET, ID)
    trained.network(of)
    card = trained.path(of).with_suffix(".json")
    told = json.loads(card.read_text())
    del told["recipe"]["normalise"]
    card.write_text(json.dumps(told))
    assert trained.network(of) is not None
    told["recipe"]["normalise"] = False
    card.write_text(json.dumps(told))
    with pytest.raises(UserError, match="was trained with another recipe"):
        trained.network(of)


def test_a_training_by_other_options_has_its_own_name_and_is_asked_by_it(tiny):
    usual = tiny.trained(NET, ID)
    trained.network(usual)
    of = trained.by(usual, epochs=1, precision="bfloat16", compile=None)
    assert of.training == f"seed0-{artefacts.digest(trained.header(of)['recipe'])[:8]}" and of.network == NET
    trained.train(of)
    card = trained.card(of)
    assert (card["recipe"]["epochs"], card["recipe"]["precision"], card["training"]) == (1, "bfloat16", of.training)
    # The profile itself, which has another recipe, knows it by its name; the card says how it was made.
    named = tiny.trained(NET, ID, of.training)
    assert trained.header(named) == json.loads(json.dumps(trained.header(of)))
    assert store.responses(named, ID).logits.shape == (60, 10)
    (file,) = store.recorded(named, ID, "responses")
    assert file.header["network"]["recipe"]["epochs"] == 1 and file.header["network"]["training"] == of.training
    assert not store.recorded(usual, ID, "responses")
    with pytest.raises(Missing, match="odin train"):
        trained.header(tiny.trained(NET, ID, "seed0-00000000"))
    with pytest.raises(UserError, match="epochs is 0"):
        trained.by(usual, epochs=0)
    with pytest.raises(UserError, match="precision is 'float8'"):
        trained.by(usual, precision="float8")
    # Where others' weights are the profile's choice, options still mean a training of our own.
    foreign = dataclasses.replace(tiny, trainings={f"{NET}_{ID}": "third-party"}).trained(NET, ID)
    assert trained.by(foreign, epochs=1, precision="bfloat16").training == of.training


@pytest.mark.parametrize(("minutes", "epochs"), [(0.01, 1), (1.0, 5), (2.0, 11), (99.0, 12)])
def test_as_many_epochs_as_fit_into_a_time(tiny, monkeypatch, minutes, epochs):
    """An epoch of all takes 10 s, and starting 5 s."""
    recipe = training.Recipe(epochs=12, batch=50, weight_decay=0.0)
    found = datasets.load(ID, "train", count=1000)

    def train(network, image_set, recipe, **options):
        assert len(image_set.images) == 200 and recipe.batch == 50
        return [{"seconds": seconds} for seconds in (7.0, 2.0, 2.5)]

    monkeypatch.setattr(training, "train", train)
    network = networks.build("mlp-8x1", 10, channels=1, size=8)
    assert training.epochs_within(minutes, network, found, recipe) == epochs
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun"):
        training.epochs_within(minutes, network, found, recipe)


def test_a_time_is_kept_to(tiny):
    of = trained.by(tiny.trained(NET, ID), minutes=1e-9)
    assert of.profile.recipe(NET).epochs == 1
    assert trained.by(tiny.trained(NET, ID), minutes=60.0).training == "seed0"  # all of the recipe's epochs

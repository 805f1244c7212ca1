"""Files are found by what they hold: a question is answered by whatever contains the answer, and by nothing else."""

import dataclasses
import multiprocessing
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from odinlib import artefacts, datasets, experiments, metrics, odin, profiles, splits, store, trained
from odinlib.artefacts import Refused
from odinlib.errors import Missing, UserError
from odinlib.networks import train as training
from odinlib.networks import weights
from odinlib.store import making

NET, ID = "mlp-16x1", "digits"
KEY = f"{NET}_{ID}_seed0"


def files(profile):
    return sorted(path.relative_to(profile.folder).as_posix() for path in profile.folder.rglob("*.*") if path.is_file())


def changed(profile, **fields):
    """The network under a profile with some fields replaced."""
    return dataclasses.replace(profile, **fields).trained(NET, ID)


@pytest.fixture
def of(tiny):
    return tiny.trained(NET, ID)


def reading(of, **fields):
    """The same network where nothing is computed."""
    return of.among(compute=False, **fields)


def held(profile, path):
    """The arrays of a file, by plain numpy."""
    with np.load(profile.folder / path) as file:
        return {name: file[name] for name in file.files if name != "artefact"}


# --- What is recorded -------------------------------------------------------------------------------------------------


def test_what_a_network_says_is_its_clean_logits_and_its_gradient_norms():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 64, 5)).double()
    images = torch.rand(7, 3, 8, 8, dtype=torch.float64)
    logits, norms = store.respond(network, images, (1.0, 1000.0), batch=2)
    assert torch.allclose(torch.tensor(logits), network(images).float())
    for row, temperature in enumerate((1.0, 1000.0)):
        gradient, _ = odin.input_gradient(network, images, temperature)
        assert torch.allclose(torch.tensor(norms[row]), gradient.abs().flatten(1).sum(1).float())


def test_responses_are_the_networks_on_every_image(of):
    found = store.responses(of, "letters")
    images = datasets.load("letters", count=60, seed=0)
    logits, norms = store.respond(trained.network(of), images.tensor())
    assert np.allclose(found.logits, logits, atol=1e-6) and found.logits.flags.c_contiguous
    assert np.allclose(found.gradient_norm_1, norms[0]) and np.allclose(found.gradient_norm_1000, norms[1])
    assert np.array_equal(found.labels, images.labels)
    assert store.responses(of, "strokes").labels is None
    everything = np.random.default_rng(0).permutation(len(datasets.load("letters")))[:60].tolist()
    test = experiments.tested(of, "letters")
    places = [everything.index(image) for image in test]
    assert np.array_equal(experiments.test_responses(of, "letters").logits, found.logits[places])


def test_noise_takes_the_shape_of_the_images_it_is_compared_with(tiny):
    assert store.image_set(tiny, "gaussian", ID).shape == (8, 8, 1)
    assert store.image_set(tiny, "uniform", "shapes4").shape == datasets.load("shapes4").shape


def test_a_header_fixes_what_its_arrays_depend_on_and_nothing_else(of):
    experiments.grid(of, "strokes")
    experiments.grid(of, "gaussian")
    header = artefacts.load_header(of.profile.folder / "grids" / KEY / "strokes.npz")
    assert header == {
        "format": store.FORMAT,
        "kind": "scores",
        "network": trained.header(of) | {"recipe": header["network"]["recipe"]},
        "set": "strokes",
        "drawn": {
            **{"rule": "random", "seed": 0, "name": "strokes", "limit": 60, "limit_seed": 0},
            **{"start": 0, "stop": 20, "of": len(datasets.load("strokes"))},
        },
        "inputs": {"weights": trained.card(of)["sha256"]},
        "temperatures": [1.0, 10.0, 1000.0],
        "epsilons": [0.0, 0.02, 0.06],
    }
    noise = artefacts.load_header(of.profile.folder / "grids" / KEY / "gaussian.npz")
    assert noise.keys() - header.keys() == {"noise_seed"}


# --- Nothing is made twice, nothing is overwritten --------------------------------------------------------------------


def test_a_second_call_computes_nothing(tiny, of, monkeypatch):
    first = experiments.detection(of, "strokes")
    before = {path: (tiny.folder / path).stat().st_mtime_ns for path in files(tiny)}
    monkeypatch.setattr(odin, "input_gradients", None)
    assert experiments.detection(of, "strokes").equals(first)
    assert {path: (tiny.folder / path).stat().st_mtime_ns for path in files(tiny)} == before


def questions(of):
    """Every kind of question about one set."""
    return {
        "responses": store.responses(of, "strokes").logits,
        "grid": experiments.grid(of, "strokes"),
        "curve": experiments.curve(of, "strokes"),
        "classes": experiments.predictions(of, "strokes"),
        "scores": experiments.test_scores(of, "strokes", 10.0, 0.02),
        "held out": experiments.held_out(of, "strokes"),
        "tested": experiments.tested(of, "strokes"),
    }


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        # Fifty are among sixty, but not the same ones are held out; what is scored at one setting is scored.
        ({"images": 50}, {"grids", "curves"}),
        ({"seed": 1}, {"networks", "responses", "grids", "curves", "scores"}),
        (
            {"recipes": {"mlp": training.Recipe(epochs=1, batch=64, weight_decay=0.0)}},
            {"networks", "responses", "grids", "curves", "scores"},
        ),
        ({"split": "first"}, {"grids", "curves"}),
        ({"holdout": 30}, {"grids"}),  # the further ten images, as a file of their own
        ({"holdout": 10}, {"curves"}),  # of which the ten that were held out have no classes
        ({"epsilons": (0.0, 0.01)}, {"grids", "curves"}),
        ({"epsilons": (0.0, 0.06)}, set()),
        ({"temperatures": (1.0, 2.0)}, {"grids"}),
        ({"temperatures": (1000.0,)}, set()),
        ({"fixed_temperature": 500.0}, {"curves"}),
        ({"curve_images": 10}, set()),
        ({"device": "auto", "resamples": 7, "tpr": 0.9}, set()),
    ],
)
def test_a_changed_question_never_overwrites_nor_misuses_what_is_there(tiny, tmp_path, monkeypatch, fields, made):
    """Only what cannot be answered is made; the answer is that of a run that begins with nothing."""
    questions(tiny.trained(NET, ID))
    before = {path: (tiny.folder / path).read_bytes() for path in files(tiny)}
    found = questions(changed(tiny, **fields))
    assert {path: (tiny.folder / path).read_bytes() for path in before} == before
    assert {path.partition("/")[0] for path in set(files(tiny)) - set(before)} == made
    asked_again = questions(tiny.trained(NET, ID))
    assert {path: (tiny.folder / path).read_bytes() for path in before} == before

    monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path / "fresh"))
    alone = questions(changed(tiny, **fields))
    first = questions(tiny.trained(NET, ID))
    for kind in alone:
        assert np.allclose(found[kind], alone[kind], rtol=1e-5, atol=1e-5), kind
        assert np.allclose(asked_again[kind], first[kind], rtol=1e-5, atol=1e-5), kind


def test_a_question_that_comes_second_is_not_answered_by_the_first_ones_split(tiny):
    """Whatever was asked before, the profile's own question is answered as if it had come first."""
    questions(changed(tiny, split="first"))
    held_out = experiments.held_out(tiny.trained(NET, ID), "strokes")
    assert list(held_out) != list(experiments.held_out(changed(tiny, split="first"), "strokes"))
    drawn = splits.draw("random", "strokes", 0, 60).order(len(datasets.load("strokes")))
    assert list(held_out) == list(drawn[:20])


def test_more_noise_than_is_asked_for_may_be_recorded(tiny):
    many = changed(tiny, images=12_000, holdout=11_980)
    store.responses(many, "gaussian")
    found = store.responses(tiny.trained(NET, ID), "gaussian")
    assert len(found.logits) == 60
    assert experiments.grid(tiny.trained(NET, ID), "gaussian").shape == (3, 3, 20)


def test_an_interrupted_artefact_goes_on_at_the_last_whole_shard(tiny, monkeypatch):
    many = changed(tiny, images=600)
    whole = store.responses(many, ID)
    (path,) = (tiny.folder / "responses").rglob("*.npz")
    path.unlink()

    computed, respond = [], store.respond

    def stops_at_the_third(network, images, *rest):
        computed.append(len(images))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return respond(network, images, *rest)

    monkeypatch.setattr(making, "respond", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        store.responses(many, ID)
    assert not path.exists()
    assert len(list(path.with_name(f"{path.name}.shards").iterdir())) == 2
    again = store.responses(many, ID)
    assert computed == [250, 250, 100, 100]
    assert np.array_equal(again.logits, whole.logits) and np.array_equal(again.labels, whole.labels)
    assert not path.with_name(f"{path.name}.shards").exists()


def test_reading_leaves_another_ones_shards_alone(tiny, of):
    store.responses(of, "strokes")
    shard = tiny.folder / "responses" / KEY / "letters.npz.shards" / "000000.npz"
    artefacts.save(shard, {"logits": np.zeros(3)}, {"shard": [0, 3]})
    store.responses(reading(of), "strokes")
    store.responses(of, "strokes")
    assert shard.exists()


def test_a_larger_grid_begins_with_the_smaller_one(tiny, of):
    larger = experiments.grid(of, "strokes", 30)
    assert larger.shape[-1] == 30
    assert torch.equal(larger[..., :20], experiments.grid(of, "strokes"))
    assert torch.equal(larger[..., :5], experiments.grid(of, "strokes", 5))
    assert torch.equal(larger, experiments.grid(changed(tiny, holdout=30), "strokes"))


def _respond(profile, folder, go):
    import os

    os.environ["ODINLIB_RESULTS"] = folder
    profiles.PROFILES["tiny"] = profile
    from odinlib import record

    go.wait()
    list(record.respond(profile.trained(NET, ID)))


def test_two_processes_that_respond_at_once_end_well_and_right(tiny, tmp_path, monkeypatch):
    from odinlib import record

    spawn = multiprocessing.get_context("spawn")
    go = spawn.Event()
    jobs = [spawn.Process(target=_respond, args=(tiny, str(tiny.folder.parent), go)) for _ in range(2)]
    for job in jobs:
        job.start()
    go.set()
    for job in jobs:
        job.join(timeout=300)
        assert job.exitcode == 0
    assert not [path for path in tiny.folder.rglob("*") if path.name.startswith(".") or path.suffix == ".shards"]
    together = {path: held(tiny, path) for path in files(tiny) if path.endswith(".npz")}

    monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path / "alone"))
    list(record.respond(tiny.trained(NET, ID)))
    assert together.keys() == {path for path in files(tiny) if path.endswith(".npz")}
    for path, arrays in together.items():
        for name, array in held(tiny, path).items():
            assert np.array_equal(arrays[name], array), path


# --- Made of other things, or damaged ---------------------------------------------------------------------------------


def test_other_weights_or_images_make_an_artefact_anew(of, capsys):
    before = store.responses(of, "strokes")
    path = trained.path(of)
    network, card = weights.load_weights(path)
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    weights.save_weights(network, path, card)
    after = store.responses(of, "strokes")
    assert not np.allclose(before.logits, after.logits)
    assert "made from other weights than those on this machine: computing it again" in capsys.readouterr().err
    path.with_suffix(".json").unlink()
    assert np.array_equal(store.responses(of, "strokes").logits, after.logits)


def test_noise_of_another_seed_is_not_this_ones(tiny):
    foreign = dataclasses.replace(tiny, trainings={f"{NET}_{ID}": "third-party"})
    made = foreign.trained(NET, ID)
    trained.network(tiny.trained(NET, ID))
    network, card = weights.load_weights(trained.path(tiny.trained(NET, ID)))
    weights.save_weights(network, trained.path(made), {key: card[key] for key in card if key != "recipe"})
    first = store.responses(made, "gaussian")
    second = store.responses(made.among(seed=1), "gaussian")
    assert not np.allclose(first.logits, second.logits)
    assert np.array_equal(store.responses(made, "gaussian").logits, first.logits)


def test_a_damaged_artefact_is_made_anew_or_refused(tiny, of, capsys):
    whole = store.responses(of, "strokes")
    (path,) = (tiny.folder / "responses").rglob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(Refused, match=r"strokes\.npz is damaged"):
        store.responses(reading(of), "strokes")
    assert np.array_equal(store.responses(of, "strokes").logits, whole.logits)
    assert "computing it again" in capsys.readouterr().err


def test_a_changed_number_is_noticed_by_those_that_compute_and_those_that_read(tiny, of, capsys):
    whole = store.responses(of, "strokes")
    (path,) = (tiny.folder / "responses").rglob("*.npz")
    with np.load(path) as file:
        members = {name: file[name] for name in file.files}
    members["logits"] = members["logits"] + 1
    np.savez(path, **members)
    with pytest.raises(Refused, match="does not match its recorded SHA-256"):
        store.responses(reading(of), "strokes")
    assert np.array_equal(store.responses(of, "strokes").logits, whole.logits)
    assert "SHA-256" in capsys.readouterr().err


def test_a_sealed_file_that_was_changed_is_refused(tiny, of):
    from odinlib import record

    store.responses(of, "strokes")
    list(record.seal(tiny))
    (path,) = (tiny.folder / "responses").rglob("*.npz")
    found = artefacts.load(path)
    artefacts.save(path, {**found.arrays, "logits": found.arrays["logits"] + 1}, found.config, found.provenance)
    with pytest.raises(Refused, match=r"strokes.npz is not the file in MANIFEST.json"):
        store.responses(reading(of), "strokes")


# --- Only reading -----------------------------------------------------------------------------------------------------


def test_nothing_is_computed_where_nothing_may_be(tiny, of):
    read = (store.responses, experiments.grid, experiments.curve, experiments.detection)
    for ask in read:
        with pytest.raises(Missing, match="are not recorded") as caught:
            ask(reading(of), "strokes")
        command = f"`odin respond --profile tiny --network {NET} --id-set {ID} --set "
        assert command in str(caught.value) and "\n" not in str(caught.value)
    found = experiments.detections(reading(of).profile, [(NET, ID, "strokes")])
    assert not found and "are not recorded" in found.missing[NET, ID, "strokes"]
    assert not tiny.folder.exists()


def test_what_is_recorded_is_read_without_weights_or_images(tiny, of, monkeypatch):
    measured = experiments.detection(of, "strokes")
    for path in (tiny.folder / "networks").iterdir():
        path.unlink()
    monkeypatch.setattr(datasets, "load", None)
    assert experiments.detection(reading(of), "strokes").equals(measured)


def rewrite(path, target, **changes):
    """Another file with the same arrays and a changed header."""
    found = artefacts.load(path)
    artefacts.save(target, found.arrays, {**found.config, **changes}, found.provenance)


def test_a_set_that_is_renamed_keeps_its_images(tiny, of):
    """The draw stands in the header, by the name that the set had: no held-out image becomes a test image."""
    measured = experiments.detection(of, "strokes")
    held_out, test = experiments.held_out(of, "strokes"), experiments.tested(of, "strokes")
    for path in list(tiny.folder.rglob("strokes*.npz")):
        if path.parent.name == KEY:
            rewrite(path, path.with_name(path.name.replace("strokes", "isun")), set="isun")
            path.unlink()
    renamed = experiments.detection(reading(of), "isun")
    assert np.array_equal(experiments.held_out(reading(of), "isun"), held_out)
    assert np.array_equal(experiments.tested(reading(of), "isun"), test)
    assert renamed.assign(ood_set="strokes").equals(measured)
    assert not np.array_equal(splits.draw("random", "isun", 0, 60).order(600)[:20], held_out)  # as it would be now


def test_a_file_is_found_by_its_header_whatever_it_is_called(tiny, of):
    whole = experiments.grid(of, "strokes")
    path = tiny.folder / "grids" / KEY / "strokes.npz"
    path.rename(path.with_name("strokes-under-another-name.npz"))
    assert torch.equal(experiments.grid(reading(of), "strokes"), whole)
    path.with_name("letters.npz").write_bytes(path.with_name("strokes-under-another-name.npz").read_bytes())
    with pytest.raises(Missing):
        experiments.grid(reading(of), "letters")  # its name alone makes it no file of letters


def test_an_older_format_is_not_read(tiny, of):
    store.responses(of, "strokes")
    path = tiny.folder / "responses" / KEY / "strokes.npz"
    rewrite(path, path, format=store.FORMAT - 1)
    with pytest.raises(Missing):
        store.responses(reading(of), "strokes")


# --- Any question that what is recorded can answer, by hand -----------------------------------------------------------


@pytest.fixture
def recorded(tiny, tiny_record):
    """The record of the tiny profile's first network, which is only read."""
    shutil.copytree(tiny_record, tiny.folder)
    return dataclasses.replace(tiny, compute=False).trained(NET, ID)


def margin(logits, temperature):
    """T (N - 1/S) / (N - 1) has the rank of S; so has S itself, in float64, where nothing underflows."""
    shifted = (logits - logits.max(0)).astype(np.float64) / temperature
    return -temperature * np.log((np.exp(shifted).sum(0) - 1) / (len(logits) - 1))


def fpr(inside, outside, tpr=0.95):
    """By counting: the least share of `outside` above a threshold that `tpr` of `inside` reach."""
    threshold = np.sort(inside)[::-1][int(np.ceil(tpr * len(inside) - 1e-9)) - 1]
    return 100 * (np.asarray(outside) >= threshold).mean()


def whole_set(of, images):
    """The recorded responses by image, and the order of the draw that a header tells."""
    header = artefacts.load_header(of.profile.folder / "responses" / KEY / f"{images}.npz")
    drawn = artefacts.load_header(of.profile.folder / "grids" / KEY / f"{images}.npz")["drawn"]
    order = splits.Draw.from_header(drawn).order(drawn["of"])
    place = splits.Draw.from_header(header["drawn"]).order(drawn["of"]).tolist()
    logits = held(of.profile, f"responses/{KEY}/{images}.npz")["logits"]
    return {image: logits[:, i] for i, image in enumerate(place)}, order


@pytest.mark.parametrize("temperature", [37.0, 1000.0, 1.0])
@pytest.mark.parametrize("holdout", [20, 10, 30])
def test_any_temperature_without_perturbation_from_the_clean_logits(recorded, temperature, holdout):
    of = recorded.among(temperatures=(temperature,), epsilons=(0.0,), holdout=holdout)
    rows = experiments.detection(of, "strokes").set_index(["method", "metric"])
    sides = []
    for images in (ID, "strokes"):
        logits, order = whole_set(of, images)
        sides.append(np.stack([logits[image] for image in order[holdout:]], axis=1))
    assert rows.value["odin", "fpr"] == pytest.approx(fpr(*(margin(logits, temperature) for logits in sides)))
    assert rows.value["baseline", "fpr"] == pytest.approx(fpr(*(margin(logits, 1.0) for logits in sides)))
    assert set(rows.images_in) == set(rows.images_out) == {60 - holdout}


def test_a_fixed_setting_from_the_curve_that_holds_it(recorded):
    of = recorded.among(temperatures=(1000.0,), epsilons=(0.02,))
    rows = experiments.detection(of, "strokes").set_index(["method", "metric"])
    assert set(rows.temperature["odin"]) == {1000.0} and set(rows.epsilon["odin"]) == {0.02}
    scores = [held(of.profile, f"curves/{KEY}/{images}.npz")["scores"][1, 1] for images in (ID, "strokes")]
    assert rows.value["odin", "fpr"] == pytest.approx(fpr(*scores))


def tuned(of, temperatures, epsilons, holdout):
    """T and epsilon with the least FPR over a part of the recorded grids."""
    grids = [held(of.profile, f"grids/{KEY}/{images}.npz")["scores"] for images in (ID, "strokes")]
    kept = [
        (
            fpr(*(grid[i, j, :holdout] for grid in grids)) / 100,
            -metrics.auroc(*(torch.from_numpy(grid[i, j, :holdout]) for grid in grids)).item(),
            epsilon,
            temperature,
        )
        for i, temperature in enumerate((1.0, 10.0, 1000.0))
        for j, epsilon in enumerate((0.0, 0.02, 0.06))
        if temperature in temperatures and epsilon in epsilons
    ]
    return min(kept)


@pytest.mark.parametrize("temperatures", [(1000.0,), (1.0, 10.0), (1.0, 10.0, 1000.0)])
@pytest.mark.parametrize("epsilons", [(0.0, 0.06), (0.02, 0.06)])
@pytest.mark.parametrize("holdout", [20, 10])
def test_a_part_of_the_grid_is_tuned_on_without_a_new_one(recorded, temperatures, epsilons, holdout):
    of = recorded.among(temperatures=temperatures, epsilons=epsilons, holdout=holdout)
    setting = experiments.tune(of, "strokes")
    least = tuned(of, temperatures, epsilons, holdout)
    assert setting.fpr == pytest.approx(least[0])
    assert (setting.epsilon, setting.temperature) == least[2:]


def test_some_of_the_magnitudes_of_a_curve(recorded):
    from odinlib.measure import effects

    of = recorded.among(epsilons=(0.0, 0.06))
    measured = effects.epsilon_effect(of, ["strokes"], 1000.0)
    scores = [held(of.profile, f"curves/{KEY}/{images}.npz")["scores"][1] for images in (ID, "strokes")]
    expected = [fpr(scores[0][column], scores[1][column]) for column in (0, 2)]
    assert measured.fpr.tolist() == pytest.approx(expected)
    classes = held(of.profile, f"curves/{KEY}/strokes.npz")["classes"]
    assert np.array_equal(experiments.predictions(of, "strokes").numpy(), classes[:, [0, 2]])


@pytest.mark.parametrize("fields", [{"seed": 1}, {"split": "first"}, {"images": 40}, {"images": 50, "seed": 3}])
def test_another_draw_is_answered_as_far_as_the_record_reaches(recorded, fields):
    """Held-out images are those whose grid is recorded; none of them is tested; the page says so."""
    asked = recorded.among(**fields)
    for images in (ID, "strokes"):
        held_out, test = experiments.held_out(asked, images), experiments.tested(asked, images)
        assert len(held_out) == 20 and not set(held_out) & set(test)
        assert set(held_out) <= set(experiments.held_out(recorded, images, 30))
        assert len(test) == fields.get("images", 60) - 20
        assert {*held_out, *test} <= {*experiments.held_out(recorded, images), *experiments.tested(recorded, images)}
        told = experiments.images_used(asked, images)
        assert told is not None and "20 held-out images" in told and f"{len(test)} test images" in told
        assert experiments.images_used(recorded, images) is None
    rows = experiments.detection(asked, "strokes").set_index(["method", "metric"])
    baseline = []
    for images in (ID, "strokes"):
        logits, _ = whole_set(asked, images)
        baseline.append(np.stack([logits[image] for image in experiments.tested(asked, images)], axis=1))
    assert rows.value["baseline", "fpr"] == pytest.approx(fpr(*(margin(logits, 1.0) for logits in baseline)))
    held_out = [experiments.held_out(asked, images) for images in (ID, "strokes")]
    settings = [(t, e) for t in asked.profile.temperatures for e in asked.profile.epsilons]
    grids = [store.scores(recorded, s, settings, part) for s, part in zip((ID, "strokes"), held_out, strict=True)]
    least = min(fpr(inside, outside) for inside, outside in zip(*grids, strict=True))
    assert experiments.tune(asked, "strokes").fpr == pytest.approx(least / 100)


def test_other_images_than_those_of_one_file_are_taken_from_several(recorded):
    """Two draws of images, each in a file of its own, are one record."""
    path = recorded.profile.folder / "responses" / KEY / "strokes.npz"
    whole = store.responses(recorded, "strokes")
    found = artefacts.load(path)
    for name, (start, stop) in {"strokes-a": (0, 25), "strokes-b": (25, 60)}.items():
        arrays = {key: array[..., start:stop] for key, array in found.arrays.items()}
        drawn = {**found.config["drawn"], "start": start, "stop": stop}
        artefacts.save(path.with_name(f"{name}.npz"), arrays, {**found.config, "drawn": drawn})
    path.unlink()
    again = store.responses(recorded, "strokes")
    assert np.array_equal(again.logits, whole.logits) and again.labels is None
    assert np.array_equal(again.gradient_norm_1000, whole.gradient_norm_1000)


def test_the_fixed_temperature_of_a_page_without_a_record_is_told_and_the_rest_is_there(recorded):
    from odinlib.measure import effects, mechanism

    of = recorded.among(fixed_temperature=500.0)
    with pytest.raises(Missing, match=r"curves over epsilon of digits .* -p fixed_temperature 500"):
        effects.epsilon_effect(of, ["strokes"], 500.0)
    assert effects.epsilon_effect(of, ["strokes"], 1.0).equals(effects.epsilon_effect(recorded, ["strokes"], 1.0))
    with pytest.raises(
        Missing, match=r"gradient norms at T = 500 are not recorded; expected a temperature of 1 or 1000"
    ):
        mechanism.gains(of, "strokes", 500.0)
    for temperature in (1.0, 1000.0):
        for mine, theirs in zip(
            mechanism.gains(of, "strokes", temperature), mechanism.gains(recorded, "strokes", temperature), strict=True
        ):
            assert np.array_equal(mine, theirs)
    assert np.array_equal(mechanism.log_scores(of, "strokes"), mechanism.log_scores(recorded, "strokes"))


def test_a_question_that_nothing_answers_names_its_own_values(recorded):
    of = recorded.among(temperatures=(37.0,), epsilons=(0.0125,))
    with pytest.raises(Missing) as caught:
        experiments.detection(of, "strokes")
    told = str(caught.value)
    assert "scores at T = 37, epsilon = 0.0125 of digits" in told
    assert "--at 37.0 0.0125" in told or "--at 37 0.0125" in told
    assert "-p temperatures '[37.0]' -p epsilons '[0.0125]'" in told


def test_more_than_is_recorded_is_not_made_up(recorded):
    with pytest.raises(Missing, match=r"grid of scores of letters .*\(10 images\) are not recorded"):
        experiments.grid(recorded.among(holdout=40), "letters")
    with pytest.raises(UserError, match="60 images"):
        experiments.grid(recorded.among(images=60, holdout=60), "letters")

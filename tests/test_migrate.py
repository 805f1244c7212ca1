"""A record of format 1 is brought over: its arrays keep their bytes, its headers say what drew and made them."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from odinlib import artefacts, experiments, profiles, record, splits, store
from odinlib.errors import UserError
from odinlib.measure import distances

NET, ID = "mlp-16x1", "digits"
KEY, OLD = f"{NET}_{ID}_seed0", f"{NET}_{ID}"


def whole(profile):
    """The tiny profile with all images of each set, as a record has them; OOD sets of one size."""
    return dataclasses.replace(
        profile, images=None, compute=True, ood_sets={**profile.ood_sets, ID: ("strokes", "letters")}
    )


def network_of(config):
    return {key: config["network"][key] for key in ("network", "id_set", "recipe")} | {"seed": 0}


def as_format_1(config, profile):
    """The header that format 1 gave to what has this one; written out from the code that wrote it."""
    if config["kind"] == "distance":
        kept = {key: config[key] for key in ("images", "seed", "pixels", "permutations", "subsample")}
        return {**kept, "kind": "distance", "sets": config["sets"], "format": 1}
    common = {"network": network_of(config), "set": config["set"], "images": None, "seed": 0, "format": 1}
    drawn, kind = config["drawn"], config["kind"]
    if kind == "responses":
        return {**common, "kind": "responses"}
    temperatures, epsilons = config["temperatures"], config["epsilons"]
    split = {"split": profile.split, "holdout": profile.holdout}
    if len(temperatures) == len(epsilons) == 1:
        return {**common, **split, "kind": "scores", "temperature": temperatures[0], "epsilon": epsilons[0]}
    axes = {"temperatures": temperatures, "epsilons": epsilons}
    if drawn["stop"] <= 30:  # held out
        part = {"holdout": drawn["stop"], "from": drawn["start"]} if drawn["start"] else {}
        return {**common, **split, **axes, "kind": "grid", **part}
    return {**common, **split, **axes, "kind": "curve", "curve_images": profile.curve_images}


def age(profile):
    """Turn a record of today into one of format 1."""
    for path in sorted(profile.folder.rglob("*.npz")):
        found = artefacts.load(path)
        inputs = {"inputs": found.config["inputs"]} if "inputs" in found.config else {}
        target = path if found.config["kind"] == "distance" else path.parent.parent / OLD / path.name
        path.unlink()
        artefacts.save(target, found.arrays, as_format_1(found.config, profile), {**found.provenance, **inputs})
    for path in list((profile.folder / "networks").iterdir()):
        aged = path.with_name(path.name.replace(KEY, OLD))
        path.rename(aged)
        if aged.suffix == ".json":
            card = json.loads(aged.read_text())
            del card["training"]
            aged.write_text(json.dumps(card))
    for folder in profile.folder.glob(f"*/{KEY}"):
        folder.rmdir()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A record of today of whole sets, and the same of format 1."""
    from tiny import TINY

    folder, profile = tmp_path_factory.mktemp("records"), whole(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.PROFILES, "tiny", profile)
        patch.setenv("ODINLIB_RESULTS", str(folder / "new"))
        list(record.respond(profile.trained(NET, ID)))
        shutil.copytree(folder / "new", folder / "old")
        patch.setenv("ODINLIB_RESULTS", str(folder / "old"))
        age(profile)
    return folder / "new" / "tiny", folder / "old" / "tiny"


@pytest.fixture
def old(tiny, records, monkeypatch):
    """The profile with a record of format 1, and the arrays of the one of today."""
    profile = whole(tiny)
    monkeypatch.setitem(profiles.PROFILES, "tiny", profile)
    shutil.copytree(records[1], profile.folder)
    return profile


def contents(folder):
    """Headers and arrays of every artefact, by its path."""
    return {
        path.relative_to(folder).as_posix(): (artefacts.load_header(path), artefacts.load(path).arrays)
        for path in folder.rglob("*.npz")
    }


def same(found, wanted):
    """Whether two records hold the same files, to the last byte of headers and arrays."""
    assert found.keys() == wanted.keys()
    for path, (header, arrays) in found.items():
        assert header == wanted[path][0], path
        assert arrays.keys() == wanted[path][1].keys()
        for name, array in arrays.items():
            other = wanted[path][1][name]
            assert array.dtype == other.dtype and array.tobytes() == other.tobytes(), path
    return True


def test_a_record_of_format_1_becomes_the_one_of_today(old, records):
    before = contents(old.folder)
    assert {header["format"] for header, _ in before.values()} == {1}
    lines = list(record.migrate(old))
    assert same(contents(old.folder), contents(records[0]))
    assert len(lines) == len(before) + 1  # and the card
    assert f"responses/{OLD}/strokes.npz -> responses/{KEY}/strokes.npz" in lines
    assert not list(old.folder.glob(f"*/{OLD}")) and not list((old.folder / "networks").glob(f"{OLD}.*"))
    reading = dataclasses.replace(old, compute=False)
    assert all(record.is_recorded(reading.trained(NET, ID), item) for item in record.plan(reading.trained(NET, ID)))
    list(record.seal(old))
    assert record.verify(old) == []


def test_migrating_twice_is_migrating_once(old):
    list(record.migrate(old))
    list(record.seal(old))
    before = {path: path.read_bytes() for path in old.folder.rglob("*") if path.is_file()}
    assert list(record.migrate(old)) == []
    assert {path: path.read_bytes() for path in old.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("after", [1, 5, 12, 20, 25])
@pytest.mark.parametrize("within", [False, True])
def test_an_interrupted_migration_goes_on(old, records, monkeypatch, after, within):
    """Between two files, or after one was written and before the old one went."""
    save, count = artefacts.save, 0

    def stops(*arguments):
        nonlocal count
        count += 1
        if count > after and not within:
            raise KeyboardInterrupt
        save(*arguments)
        if count > after:
            raise KeyboardInterrupt

    monkeypatch.setattr(artefacts, "save", stops)
    try:
        list(record.migrate(old))
    except KeyboardInterrupt:
        monkeypatch.setattr(artefacts, "save", save)
        list(record.migrate(old))
    assert same(contents(old.folder), contents(records[0]))


def test_the_manifest_goes_first(old):
    (old.folder / "MANIFEST.json").write_text('{"files": {}}')
    next(record.migrate(old))
    assert not (old.folder / "MANIFEST.json").exists()


def test_foreign_weights_keep_their_place_and_get_a_name(old, records):
    """The card says whose they are; a record may have the card alone."""
    origin = profiles.TRAININGS["third-party"]
    for path in old.folder.rglob("*.npz"):
        found = artefacts.load(path)
        if "network" in found.config:
            network = {"network": NET, "id_set": ID, "origin": origin}
            artefacts.save(path, found.arrays, {**found.config, "network": network}, found.provenance)
    card = old.folder / "networks" / f"{OLD}.json"
    told = {key: value for key, value in json.loads(card.read_text()).items() if key not in ("recipe", "seed")}
    card.write_text(json.dumps({**told, "origin": origin}))
    (old.folder / "networks" / f"{OLD}.safetensors").unlink()
    list(record.migrate(old))
    profile = dataclasses.replace(old, compute=False, trainings={OLD: "third-party"})
    of = profile.trained(NET, ID)
    assert of.key == f"{OLD}_third-party" and (old.folder / "networks" / f"{of.key}.json").exists()
    before = artefacts.load(records[0] / "grids" / KEY / "strokes.npz").arrays["scores"]
    assert np.array_equal(experiments.grid(of, "strokes").numpy().astype(np.float32)[:, 1:], before[:, 1:])


def test_a_training_that_has_no_name_is_refused(old):
    path = old.folder / "responses" / OLD / "strokes.npz"
    found = artefacts.load(path)
    network = {"network": NET, "id_set": ID, "origin": "a friend"}
    artefacts.save(path, found.arrays, {**found.config, "network": network}, found.provenance)
    with pytest.raises(UserError, match="the training 'a friend' has no name"):
        list(record.migrate(old))


def test_sets_that_were_made_here_get_the_names_of_today_and_keep_their_draw(old):
    for path in list(old.folder.rglob("*strokes*.npz")):
        found = artefacts.load(path)
        if "set" not in found.config:
            continue
        renamed = path.with_name(path.name.replace("strokes", "tinyimagenet-crop"))
        artefacts.save(renamed, found.arrays, {**found.config, "set": "tinyimagenet-crop"}, found.provenance)
        path.unlink()
    list(record.migrate(old))
    paths = [path for path in old.folder.rglob("tinyimagenet-crop*.npz") if path.parent.name == KEY]
    assert len(paths) >= 4 and all(path.name.startswith("tinyimagenet-crop-drawn") for path in paths)
    for path in paths:
        header = artefacts.load_header(path)
        assert header["set"] == "tinyimagenet-crop-drawn"
        if header["kind"] == "scores":
            assert header["drawn"]["name"] == "tinyimagenet-crop"
    of = dataclasses.replace(old, compute=False).trained(NET, ID)
    drawn = splits.draw("random", "tinyimagenet-crop", 0).order(store.total(of, "tinyimagenet-crop-drawn"))
    assert np.array_equal(experiments.held_out(of, "tinyimagenet-crop-drawn"), drawn[:20])


def test_a_set_of_unknown_size_is_refused_and_not_guessed(old):
    """Its draw depends on it: a permutation of 20 images is not the beginning of one of 600."""
    (old.folder / "responses" / OLD / "strokes.npz").unlink()
    shutil.rmtree(old.folder / "scores", ignore_errors=True)
    with pytest.raises(UserError, match="nothing tells how many images strokes has"):
        list(record.migrate(old))


def test_part_of_a_set_is_refused(old):
    for path in old.folder.rglob("strokes*.npz"):
        found = artefacts.load(path)
        artefacts.save(path, found.arrays, {**found.config, "images": 60}, found.provenance)
    with pytest.raises(UserError, match="strokes is recorded in part; expected whole sets"):
        list(record.migrate(old))


def test_distances_by_other_options_keep_files_of_their_own(old):
    options = {"permutations": 9, "subsample": 20}
    wanted = distances.distance(dataclasses.replace(old, images=30), ID, "strokes", pixels="byte", **options)
    (path,) = (old.folder / "distances" / ID).glob("strokes_byte*.npz")
    found = artefacts.load(path)
    path.unlink()
    aged = as_format_1(found.config, old)
    artefacts.save(path.with_name("strokes_byte_9_20-abcdef12.npz"), found.arrays, aged, found.provenance)
    usual = artefacts.load(old.folder / "distances" / ID / "strokes.npz").arrays
    list(record.migrate(old))
    assert path.exists()
    kept = artefacts.load(old.folder / "distances" / ID / "strokes.npz").arrays
    assert all(np.array_equal(kept[name], usual[name]) for name in usual)
    reading = dataclasses.replace(old, images=30, compute=False)
    assert distances.distance(reading, ID, "strokes", pixels="byte", **options) == wanted


def test_shards_of_unfinished_work_are_passed_over(old):
    shard = old.folder / "grids" / OLD / "strokes.npz.shards" / "000000.npz"
    found = artefacts.load(old.folder / "grids" / OLD / "strokes.npz")
    artefacts.save(shard, found.arrays, {**found.config, "shard": [0, 20]})
    assert not any("shards" in line for line in record.migrate(old))

"""A record is sealed, checked to the last byte, and shown for what it is."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from odinlib import artefacts, experiments, record, store, trained
from odinlib.datasets import prepare
from odinlib.errors import Missing, UserError
from odinlib.networks import build, weights

NET, ID = "mlp-16x1", "digits"
KEY = f"{NET}_{ID}_seed0"
RESPONSE = f"responses/{KEY}/strokes.npz"


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_record):
    """A sealed record of the tiny profile's first network, made once."""
    from tiny import TINY

    from odinlib import profiles

    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(tiny_record, folder / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.PROFILES, "tiny", TINY)
        patch.setenv("ODINLIB_RESULTS", str(folder))
        lines = list(record.seal(TINY))
    assert [line.split("/")[-1].split(":")[0] for line in lines] == [
        "detections.csv",
        "distances.csv",
        "test-errors.csv",
        "MANIFEST.json",
    ]
    return folder / "tiny"


@pytest.fixture
def sealed(tiny, made):
    """That record, to be damaged."""
    shutil.copytree(made, tiny.folder)
    return tiny


def rewrite(profile, path, change):
    """Replace an artefact by a changed one that is whole in itself."""
    found = artefacts.load(profile.folder / path)
    arrays, config = change(dict(found.arrays), dict(found.config))
    artefacts.save(profile.folder / path, arrays, config, found.provenance)


def edit_table(profile, change, table="detections"):
    path = profile.folder / "tables" / f"{table}.csv"
    frame = pd.read_csv(path)
    change(frame).to_csv(path, index=False)


def reseal_manifest(profile):
    """What a forger would do: the manifest speaks of the files as they are now."""
    found = json.loads((profile.folder / "MANIFEST.json").read_text())
    for path, entry in found["files"].items():
        entry["sha256"] = artefacts.file_digest(profile.folder / path)
        entry["bytes"] = (profile.folder / path).stat().st_size
    (profile.folder / "MANIFEST.json").write_text(json.dumps(found))


def damaged(profile):
    """What is wrong in the files themselves, where the manifest is made to fit: `odin verify` without it."""
    (profile.folder / "MANIFEST.json").unlink(missing_ok=True)
    first, *problems = record.verify(profile)
    assert first == "MANIFEST.json is not there; `odin seal` writes it"
    return problems


# --- Sealing ----------------------------------------------------------------------------------------------------------


def test_what_is_sealed_is_sound(sealed):
    assert record.verify(sealed) == []


def test_the_manifest_lists_every_file(sealed):
    recorded = artefacts.manifest(sealed.folder)
    there = {p.relative_to(sealed.folder).as_posix() for p in sealed.folder.rglob("*") if p.is_file()}
    assert recorded.keys() == there - {"MANIFEST.json"}
    assert {path.partition("/")[0] for path in recorded} == {
        *("networks", "responses", "grids", "curves", "scores", "distances", "tables")
    }


def test_the_tables_are_the_measurements(sealed):
    table = pd.read_csv(sealed.folder / "tables" / "detections.csv")
    measured = experiments.detection(sealed.trained(NET, ID), "letters")
    own = table[table.ood_set == "letters"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, measured, check_exact=False, rtol=1e-6, check_dtype=False)
    about = json.loads((sealed.folder / "tables" / "detections.json").read_text())
    assert {"hardware", "commit", "date", "torch"} <= about.keys()
    assert (about["profile"], about["holdout"], about["resamples"]) == ("tiny", 20, 20)
    errors = pd.read_csv(sealed.folder / "tables" / "test-errors.csv")
    assert errors.test_error.item() == pytest.approx(100 * experiments.test_error(sealed.trained(NET, ID)))


def test_sealing_again_changes_nothing(sealed):
    before = {path: path.read_bytes() for path in sealed.folder.rglob("*") if path.is_file()}
    assert len(list(record.seal(sealed))) == 1
    assert {path: path.read_bytes() for path in sealed.folder.rglob("*") if path.is_file()} == before


def test_unfinished_work_is_not_sealed(sealed):
    for name in ("networks/a.checkpoint", "responses/x/a.npz.shards/000000.npz", "responses/.a.npz.17.partial"):
        (sealed.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (sealed.folder / name).write_bytes(b"half")
    list(record.seal(sealed))
    assert not any("half" in path or "shards" in path for path in artefacts.manifest(sealed.folder))
    assert record.verify(sealed) == []


def test_a_damaged_record_is_not_sealed(sealed):
    (sealed.folder / RESPONSE).write_bytes(b"x")
    with pytest.raises(UserError, match=r"cannot be sealed: .*strokes.npz is damaged.*`odin verify`"):
        list(record.seal(sealed))


def test_an_edited_table_is_written_anew(sealed):
    (sealed.folder / "tables" / "detections.csv").write_text("")
    list(record.seal(sealed))
    assert record.verify(sealed) == []


def test_the_record_does_without_somebody_elses_weights(sealed):
    card = sealed.folder / "networks" / f"{KEY}.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "source_sha256": "0" * 64}))
    list(record.seal(sealed))
    weights_file = f"networks/{KEY}.safetensors"
    assert weights_file not in artefacts.manifest(sealed.folder)
    (sealed.folder / weights_file).unlink()
    assert record.verify(sealed) == []
    reading = dataclasses.replace(sealed, compute=False)
    assert trained.card(reading.trained(NET, ID))["source_sha256"] == "0" * 64
    rows, missing = record.status(reading)
    assert "card only" in [cell for row in rows for cell in row] and f"{NET} on {ID}" in missing["weights"]
    assert "recorded" in [cell for row in rows if row[:2] == [ID, "strokes"] for cell in row]


def test_nothing_recorded(tiny):
    with pytest.raises(Missing, match="nothing is recorded"):
        record.verify(tiny)


# --- Checking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [RESPONSE, f"grids/{KEY}/letters.npz", f"networks/{KEY}.safetensors"])
def test_one_flipped_byte(sealed, path):
    content = bytearray((sealed.folder / path).read_bytes())
    content[len(content) // 2] ^= 1
    (sealed.folder / path).write_bytes(content)
    assert record.verify(sealed) == [f"{path} has other bytes: its SHA-256 is not that of MANIFEST.json"]
    reseal_manifest(sealed)
    problems = record.verify(sealed)
    assert (path.rpartition("/")[2] in problems[0] and "SHA-256" in problems[0]) or "damaged" in problems[0]


def test_a_flipped_byte_in_a_card(sealed):
    path = sealed.folder / "networks" / f"{KEY}.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert record.verify(sealed) == [f"networks/{KEY}.json has other bytes: its SHA-256 is not that of MANIFEST.json"]


def test_a_missing_file_and_one_too_many(sealed):
    (sealed.folder / RESPONSE).rename(sealed.folder / f"responses/{KEY}/moved.npz")
    problems = record.verify(sealed)
    assert f"{RESPONSE} is missing" in problems
    assert f"responses/{KEY}/moved.npz is not in MANIFEST.json" in problems
    assert not any(p.startswith("tables/") for p in problems)  # what it holds is still there
    (sealed.folder / f"responses/{KEY}/moved.npz").unlink()
    for path in sealed.folder.glob(f"*/{KEY}/strokes*.npz"):  # which have scores at epsilon = 0 too
        path.unlink()
    problems = record.verify(sealed)
    assert any(p.startswith("tables/detections.csv: ") and "rows instead of" in p for p in problems)


def test_a_manifest_that_is_not_there_or_damaged(sealed):
    path = sealed.folder / "MANIFEST.json"
    path.write_text("{")
    assert "MANIFEST.json is damaged" in record.verify(sealed)[0]
    path.unlink()
    assert record.verify(sealed) == ["MANIFEST.json is not there; `odin seal` writes it"]


def test_a_response_of_the_wrong_length(sealed):
    rewrite(sealed, RESPONSE, lambda arrays, config: ({k: v[..., :-1] for k, v in arrays.items()}, config))
    (problem,) = record.verify(sealed)
    assert problem.startswith(f"{RESPONSE} has ") and "its SHA-256 is not that of MANIFEST.json" in problem
    (problem,) = [p for p in damaged(sealed) if p.startswith(RESPONSE)]
    assert "59 logits" in problem and problem.endswith("expected 60 images")
    reading = dataclasses.replace(sealed, compute=False).trained(NET, ID)
    with pytest.raises(artefacts.Refused, match=r"strokes.npz holds .*59 logits.*; expected 60 images; delete it"):
        store.responses(reading, "strokes")
    rewrite(sealed, RESPONSE, lambda arrays, config: ({**arrays, "labels": arrays["labels"][:-1]}, config))
    assert any(p.startswith(f"{RESPONSE} holds ") and "58 labels" in p for p in damaged(sealed))


@pytest.mark.parametrize("kind", ["grids", "curves", "scores"])
def test_scores_of_the_wrong_length(sealed, kind):
    path = sorted((sealed.folder / kind).rglob("*.npz"))[0].relative_to(sealed.folder).as_posix()
    rewrite(sealed, path, lambda arrays, config: ({k: v[..., 1:] for k, v in arrays.items()}, config))
    assert any(p.startswith(f"{path} holds ") and p.endswith(" images") for p in damaged(sealed))


@pytest.mark.parametrize("kind", ["grids", "curves", "scores"])
def test_scores_of_fewer_settings_than_the_header_tells(sealed, kind):
    path = sorted((sealed.folder / kind).rglob("*.npz"))[0].relative_to(sealed.folder).as_posix()
    rewrite(sealed, path, lambda arrays, config: (arrays, {**config, "epsilons": [*config["epsilons"], 9.0]}))
    assert any(p.startswith(f"{path} holds ") and "settings of" in p for p in damaged(sealed))


def test_what_lies_with_another_network_or_set(sealed):
    path = sealed.folder / "responses" / f"mlp-8x2_{ID}_seed0" / "strokes.npz"
    path.parent.mkdir()
    shutil.copy(sealed.folder / RESPONSE, path)
    told = f"responses/mlp-8x2_{ID}_seed0/strokes.npz lies in mlp-8x2_{ID}_seed0 and is of {NET} on {ID} (seed0)"
    assert told in damaged(sealed)
    distance = sealed.folder / "distances" / "letters" / "strokes.npz"
    distance.parent.mkdir()
    shutil.copy(sealed.folder / "distances" / ID / "strokes.npz", distance)
    assert f"distances/letters/strokes.npz is of {ID} and strokes, which would lie elsewhere" in damaged(sealed)


def test_an_older_format_names_the_command_that_mends_it(sealed):
    rewrite(sealed, RESPONSE, lambda arrays, config: (arrays, {**config, "format": 1}))
    assert f"{RESPONSE} is of format 1; `odin record migrate` makes {store.FORMAT} of it" in damaged(sealed)
    with pytest.raises(UserError, match=r"cannot be sealed: .* is of format 1"):
        list(record.seal(sealed))


def test_a_header_that_tells_of_another_draw_changes_the_tables(sealed):
    """Its arrays are whole and its digest is right; what the tables say does not follow from it any more."""
    path = f"grids/{KEY}/letters.npz"
    change = {"drawn": {"name": "digits"}}
    rewrite(sealed, path, lambda arrays, config: (arrays, {**config, "drawn": {**config["drawn"], **change["drawn"]}}))
    reseal_manifest(sealed)
    assert any(p.startswith("tables/detections.csv: ") for p in record.verify(sealed))


def test_a_changed_questions_artefact_is_sealed_beside_the_first(sealed):
    few = dataclasses.replace(sealed, images=30, seed=7, trainings={f"{NET}_{ID}": "seed0"})
    store.make_responses(few.trained(NET, ID), "strokes", store.Part(store.draw(few.trained(NET, ID), "strokes")))
    (beside,) = (sealed.folder / "responses" / KEY).glob("strokes-*.npz")
    assert beside.relative_to(sealed.folder).as_posix() + " is not in MANIFEST.json" in record.verify(sealed)
    list(record.seal(sealed))
    assert record.verify(sealed) == []
    assert (sealed.folder / RESPONSE).exists()


def test_responses_of_other_weights(sealed):
    other = build(NET, 10, channels=1, size=8, seed=5)
    path = sealed.folder / "networks" / f"{KEY}.safetensors"
    weights.save_weights(other, path, json.loads(path.with_suffix(".json").read_text()))
    reseal_manifest(sealed)
    told = f"{RESPONSE} was made with other weights than those of networks/{KEY}.json"
    assert told in record.verify(sealed)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.assign(value=t.value.where(t.index != 3, t.value + 0.1)), "row 4 (mlp-16x1, digits, strokes, "),
        (lambda t: t.assign(ood_set=t.ood_set.where(t.index != 0, "isun")), "ood_set is isun, computed again strokes"),
        (lambda t: t.assign(images_in=t.images_in + 1), "images_in is 41, computed again 40"),
        (lambda t: t.iloc[1:], "29 rows instead of 30"),
        (lambda t: t.drop(columns="low"), "columns network, id_set"),
        (lambda t: t.assign(value=t.value.astype(str).where(t.index != 2, "high")), "value is high, computed again"),
    ],
)
def test_a_table_edited_by_hand(sealed, change, told):
    edit_table(sealed, change)
    problems = record.verify(sealed)
    assert problems[0].startswith("tables/detections.csv has ")
    assert any(p.startswith("tables/detections.csv: ") and told in p for p in problems[1:])
    reseal_manifest(sealed)
    assert all(p.startswith("tables/detections.csv: ") for p in record.verify(sealed))


def test_a_table_that_is_gone_or_unreadable(sealed):
    path = sealed.folder / "tables" / "distances.csv"
    path.write_bytes(b"\xff\xfe\x00")
    assert any(p.startswith("tables/distances.csv cannot be read") for p in record.verify(sealed))
    path.unlink()
    assert "tables/distances.csv is not there; `odin seal` writes it" in record.verify(sealed)


# --- Foreign weights --------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path):
    """A state dict of a small DenseNet."""
    network = build("densenet-bc-10-4", 10, seed=3)
    state = {key: t for key, t in network.state_dict().items() if key not in ("mean", "std")}
    torch.save({"state_dict": state}, tmp_path / "foreign.pth.tar")
    return tmp_path / "foreign.pth.tar"


OPTIONS = {"classes": 10, "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.25, 0.25)}


def import_(profile, source, **changes):
    return record.import_weights(profile, source, "densenet-bc-10-4", "cifar10", **{**OPTIONS, **changes})


@pytest.fixture
def with_recipe(tiny):
    return dataclasses.replace(tiny, recipes={**tiny.recipes, "densenet-bc": tiny.recipe("mlp-16x1")})


def test_imported_weights_are_where_the_profile_looks(with_recipe, foreign):
    path, card = import_(with_recipe, foreign, note="a friend")
    assert path == trained.path(with_recipe.trained("densenet-bc-10-4", "cifar10"))
    assert (card["source"], card["note"], card["origin"]) == ("foreign.pth.tar", "a friend", "a friend")
    assert card["normalisation"] == {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.25, 0.25]}
    assert "accuracy" not in card and "cifar10 is not prepared" in card["accuracy_note"]
    assert {"commit", "date", "hardware"} <= card.keys()
    assert trained.network(with_recipe.trained("densenet-bc-10-4", "cifar10")).mean.flatten()[0] == 0.5


def test_their_accuracy_is_measured_where_the_images_are(with_recipe, foreign):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 20)
    prepare.write("cifar10", images, labels, files=[], source="noise", classes=list("abcdefghij"))
    _, card = import_(with_recipe, foreign)
    network = trained.network(with_recipe.trained("densenet-bc-10-4", "cifar10"))
    scaled = torch.from_numpy(images.transpose(0, 3, 1, 2)).float() / 255
    assert card["accuracy"] == (network(scaled).argmax(1).numpy() == labels).mean()


def test_weights_that_are_there_are_not_replaced(with_recipe, foreign):
    path, card = import_(with_recipe, foreign)
    before = path.read_bytes()
    assert import_(with_recipe, foreign) == (path, card)
    with pytest.raises(UserError, match="another mean or std; delete it first"):
        import_(with_recipe, foreign, mean=(0.0, 0.0, 0.0))
    state = torch.load(foreign)["state_dict"]
    torch.save({key: 2 * t for key, t in state.items()}, foreign)
    with pytest.raises(UserError, match="is there already; delete it, and with it all that was computed from it"):
        import_(with_recipe, foreign)
    assert path.read_bytes() == before

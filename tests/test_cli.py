"""The command line: what it prints, where it leaves things, and one line with a non-zero exit for every mistake."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from odinlib import artefacts, cli, experiments, record, trained
from odinlib.datasets import prepare
from odinlib.networks import build, weights

NET, ID = "mlp-16x1", "digits"
CHOSEN = ("--profile", "tiny", "--network", NET, "--id-set", ID)
KEY = f"{NET}_{ID}_seed0"
TINY = Path(__file__).parent / "tiny.py"


def odin(*words):
    """What `odin WORDS` does: exit status, lines on stdout, text on stderr."""
    done = CliRunner().invoke(cli.main, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout.splitlines(), done.stderr


def refused(*words) -> str:
    """The one line on stderr with which `odin WORDS` refuses."""
    status, _, told = odin(*words)
    assert status == 1 and told.startswith("error: ") and told.count("\n") == 1 and "Traceback" not in told
    return told.strip()


# --- Training and responding ------------------------------------------------------------------------------------------


def test_train_writes_weights_and_tells_where(tiny):
    status, lines, _ = odin("train", *CHOSEN)
    path = trained.path(tiny.trained(NET, ID))
    accuracy = json.loads(path.with_suffix(".json").read_text())["accuracy"]
    assert (status, lines[-1]) == (0, f"{path}: test accuracy {100 * accuracy:.2f} %")
    assert path.exists() and not path.with_suffix(".checkpoint").exists()
    before = path.stat().st_mtime_ns
    assert odin("train", *CHOSEN)[0] == 0 and path.stat().st_mtime_ns == before


def test_another_seed_gets_a_file_of_its_own(tiny):
    odin("train", *CHOSEN)
    odin("train", *CHOSEN, "--seed", "1")
    first, second = sorted((tiny.folder / "networks").glob("*.safetensors"))
    assert first.read_bytes() != second.read_bytes() and [first.stem, second.stem] == [
        f"{NET}_{ID}_seed0",
        f"{NET}_{ID}_seed1",
    ]


def test_train_takes_another_recipe_which_respond_asks_by_its_name(tiny):
    status, lines, _ = odin("train", *CHOSEN, "--epochs", "1", "--precision", "bfloat16")
    (card,) = (tiny.folder / "networks").glob("*.json")
    told = json.loads(card.read_text())
    assert status == 0 and str(card.with_suffix(".safetensors")) in lines[-1]
    assert (told["recipe"]["epochs"], told["recipe"]["precision"]) == (1, "bfloat16")
    status, lines, _ = odin("respond", *CHOSEN, "--training", told["training"], "--set", "strokes")
    assert status == 0 and f"responses of strokes by {NET}_{ID}_{told['training']}" in lines
    status, lines, _ = odin("train", *CHOSEN, "--minutes", "1e-9")
    assert status == 0 and lines[0] == "1 epochs, which --epochs goes on with"
    assert "epochs is 0" in refused("train", *CHOSEN, "--epochs", "0")
    assert "did you mean 'bfloat16'" in refused("train", *CHOSEN, "--precision", "float16")
    assert "minutes is -1" in refused("train", *CHOSEN, "--minutes", "-1")
    for both in (("--epochs", "1", "--minutes", "1"), ("--epochs", "1", "--training", "seed0")):
        assert odin("train", *CHOSEN, *both)[0] == 2


def test_respond_tells_each_artefact(tiny):
    status, lines, _ = odin("respond", *CHOSEN)
    assert status == 0 and f"responses of strokes by {NET}_{ID}_seed0" in lines and len(lines) > 10
    assert (tiny.folder / "grids" / f"{NET}_{ID}_seed0" / "letters.npz").exists()


def test_all_does_every_network_of_the_profile(tiny, monkeypatch):
    done = []
    monkeypatch.setattr(record, "respond", lambda of, sets, at: done.append(of) or ["a line"])
    assert odin("respond", "--profile", "tiny", "--all") == (0, ["a line"] * 3, "")
    assert done == record.jobs(tiny)
    assert [(of.network, of.id_set) for of in done] == [(NET, ID), ("mlp-8x2", ID), ("mlp-12x1", "shapes4")]
    status, lines, _ = odin("train", "--profile", "tiny", "--all")
    assert status == 0 and sum("test accuracy" in line for line in lines) == 3


def test_all_goes_on_without_a_network_that_cannot_be_had(tiny, monkeypatch):
    from odinlib import profiles

    trainings = {f"{NET}_{ID}": "third-party"}
    monkeypatch.setitem(profiles.PROFILES, "tiny", profiles.configure("tiny", trainings=trainings))
    for command in ("train", "respond"):
        status, lines, told = odin(command, "--profile", "tiny", "--all")
        assert status == 1 and any("shapes4" in line for line in lines)
        assert f"without {NET} on {ID}: " in told and "odin import-weights" in told
        assert told.splitlines()[-1].startswith(f"error: could not do {NET} on {ID}; ")


@pytest.mark.parametrize("command", ["train", "respond"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--network", "resnet-18", "--id-set", ID), "network is 'resnet-18'; expected densenet-bc-<depth>"),
        (("--network", NET, "--id-set", "digit"), "ID set is 'digit'; expected one of digits, shapes4; did you mean"),
        (("--network", "wrn-10-1", "--id-set", ID), "profile tiny has no recipe for 'wrn-10-1'"),
        ((*CHOSEN[2:], "--device", "gpu"), "device is 'gpu'; expected one of auto, cuda, mps, cpu"),
        (("--profile", "tyni", *CHOSEN[2:]), "profile is 'tyni'; expected one of demo, paper, tiny"),
    ],
)
def test_unknown_names(tiny, command, options, told):
    assert told in refused(command, "--profile", "tiny", *options)
    assert not tiny.folder.exists()


def test_a_command_without_its_network(tiny):
    status, _, told = odin("train", "--profile", "tiny")
    assert status == 2 and "give --network and --id-set, or --all" in told
    assert odin("train", *CHOSEN, "--seed", "-1")[0] == 2


@pytest.mark.parametrize("command", ["train", "respond"])
@pytest.mark.parametrize("choice", [("--network", NET), ("--id-set", ID), ("--training", "authors"), CHOSEN[2:]])
def test_all_and_one_are_two_things(tiny, command, choice):
    status, lines, told = odin(command, "--profile", "tiny", "--all", *choice)
    assert status == 2 and not lines
    assert told.splitlines()[-1] == ("Error: --all takes every network; leave out --network, --id-set and --training")
    assert not tiny.folder.exists()


def test_several_seeds_are_trained_and_asked(tiny):
    status, lines, _ = odin("train", *CHOSEN, "--seeds", "3")
    assert status == 0 and [Path(line.split(":")[0]).stem for line in lines] == [f"{KEY[:-1]}{k}" for k in range(3)]
    status, lines, _ = odin("respond", *CHOSEN, "--seeds", "3", "--set", "strokes", "--set", "digits")
    assert status == 0 and {line.rpartition(" ")[2] for line in lines} == {f"{KEY[:-1]}{k}" for k in range(3)}
    rows = experiments.detection(tiny.trained(*KEY.split("_")), "strokes")
    assert set(rows.trainings) == {3}
    assert odin("train", *CHOSEN, "--seeds", "0")[0] != 0
    assert "leave out --seed and --training" in odin("train", *CHOSEN, "--seeds", "2", "--seed", "1")[2]
    assert "leave out --all and --training" in odin("respond", *CHOSEN, "--seeds", "2", "--training", "seed1")[2]


def test_respond_takes_what_a_page_takes(tiny):
    """Its parameters by their names there, in the same notation; and a single setting."""
    status, lines, _ = odin(
        *("respond", *CHOSEN, "--set", "strokes", "--at", "7", "0.01", "-p", "holdout", "30"),
        *("-p", "split", "first", "-p", "temperatures", "[7, 1000]", "-p", "device", "cpu"),
    )
    assert (status, lines) == (0, [f"scores of strokes at T = 7, epsilon = 0.01 by {NET}_{ID}_seed0"])
    (path,) = (tiny.folder / "scores").rglob("*.npz")
    drawn = artefacts.load_header(path)["drawn"]
    assert (drawn["rule"], drawn["start"], drawn["stop"]) == ("first", 30, 60)
    assert "did you mean 'temperatures'" in refused("respond", *CHOSEN, "-p", "temprature", "3")
    assert "holdout is 0" in refused("respond", *CHOSEN, "-p", "holdout", "0")
    assert "data set is 'stroke'" in refused("respond", *CHOSEN, "--set", "stroke")


def test_missing_data(tiny):
    options = ("--profile", "paper", "--network", "wrn-40-4", "--id-set", "cifar10")
    assert "cifar10 is not prepared" in refused("train", *options)
    assert "make it with `python data_scripts/cifar10.py`" in refused("respond", *options)


def test_a_truncated_data_set(tiny, tmp_path):
    images = np.zeros((20, 32, 32, 3), dtype=np.uint8)
    path = prepare.write(
        "cifar10", images, np.arange(20) % 10, files=[], source="x", classes=list("abcdefghij"), split="train"
    )
    path.write_bytes(path.read_bytes()[:-200])
    told = refused("train", "--profile", "paper", "--network", "wrn-40-4", "--id-set", "cifar10")
    assert "cifar10-train.npz is damaged" in told
    assert not list((tmp_path / "results").rglob("*.*"))


@pytest.mark.parametrize("damage", ["architecture", "nan"])
def test_weights_that_do_not_fit(tiny, damage):
    path = trained.path(tiny.trained(NET, ID))
    network = build(NET, 10, channels=1, size=8, seed=0)
    weights.save_weights(network, path, {})
    if damage == "architecture":
        card = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps({**card, "architecture": "mlp-8x1"}))
        assert "not of a mlp-8x1" in refused("respond", *CHOSEN)
    else:
        import hashlib

        import safetensors.torch

        state = safetensors.torch.load_file(path)
        next(iter(state.values())).fill_(float("nan"))
        safetensors.torch.save_file(state, path)
        card = json.loads(path.with_suffix(".json").read_text())
        card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(card))
        assert "NaN or infinite values" in refused("respond", *CHOSEN)
    assert not (tiny.folder / "responses").exists()


def test_too_few_images_for_the_hold_out(tiny, monkeypatch):
    from odinlib import profiles

    monkeypatch.setitem(profiles.PROFILES, "tiny", profiles.configure("tiny", images=700, holdout=650))
    assert "700 images of digits were asked for; expected at most 600, which it has" in refused("respond", *CHOSEN)


def test_a_data_script_is_no_module_of_anybodys(tiny):
    """Scripts are called `all` or `mnist`; neither the path nor the modules of a process get these names."""
    before, known = list(sys.path), set(sys.modules)
    for name in ("all", "mnist", "cifar10"):
        status, lines, told = odin("data", "prepare", name, "--source", tiny.folder / "none")
        assert status == 1 and not lines and told.startswith("error: ") and str(tiny.folder / "none") in told
    assert sys.path == before and not {"all", "mnist", "cifar10"} & (set(sys.modules) - known)


# --- Foreign weights --------------------------------------------------------------------------------------------------


class Runs:
    """A pickle that creates a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


IMPORT = (
    *("--network", "wrn-10-1", "--id-set", "cifar10", "--classes", "10"),
    *("--mean", "0.49,0.48,0.45", "--std", "0.2,0.2,0.2"),
)


@pytest.fixture
def checkpoint(tmp_path):
    network = build("wrn-10-1", 10, seed=0)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "foreign.pth.tar")
    return tmp_path / "foreign.pth.tar"


def test_imported_weights_say_what_they_are(tiny, checkpoint, tmp_path):
    status, lines, _ = odin("import-weights", checkpoint, *IMPORT, "--note", "a friend")
    path = tmp_path / "results" / "paper" / "networks" / "wrn-10-1_cifar10_seed0.safetensors"
    assert status == 0 and lines[-1].startswith(f"{path}: not measured: cifar10 is not prepared")
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["source"], card["note"]) == ("foreign.pth.tar", "a friend")
    assert card["normalisation"] == {"mean": [0.49, 0.48, 0.45], "std": [0.2, 0.2, 0.2]}


def test_the_same_weights_again_are_the_same_whatever_the_digits(tiny, checkpoint):
    mean, std = "0.49139968,0.48215841,0.44653091", "0.24703223,0.24348513,0.26158784"
    for _ in range(2):
        status, _, told = odin("import-weights", checkpoint, *IMPORT, "--mean", mean, "--std", std)
        assert status == 0, told
    assert "another mean or std" in refused("import-weights", checkpoint, *IMPORT, "--mean", "0.5,0.5,0.5")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--network", "wrn-16-1"), "these weights are not of a wrn-16-1 with 10 classes"),
        (("--classes", "100"), "100 classes are given for cifar10; expected 10, which it has"),
        (("--id-set", "cifar100"), "10 classes are given for cifar100; expected 100, which it has"),
        (("--id-set", "digits", "--classes", "7"), "7 classes are given for digits; expected 10"),
        (("--id-set", "mnist"), "3 channels are given for mnist; expected 1"),
        (("--id-set", "cifar11"), "data set is 'cifar11'"),
        (("--profile", "papre"), "profile is 'papre'"),
        (("--mean", "0.5"), "channel"),
        (("--std", "0,0,0"), "std"),
    ],
)
def test_import_options_that_do_not_fit(tiny, checkpoint, tmp_path, change, told):
    assert told in refused("import-weights", checkpoint, *IMPORT, *change)
    assert not (tmp_path / "results").exists()


def test_import_options_that_are_no_numbers(tiny, checkpoint):
    status, _, told = odin("import-weights", checkpoint, *IMPORT, "--mean", "0.5;0.5")
    assert status == 2 and "'0.5;0.5' is not numbers separated by commas" in told


def test_a_checkpoint_that_runs_code_or_is_not_there(tiny, tmp_path):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    refused("import-weights", tmp_path / "evil.pkl", *IMPORT)
    refused("import-weights", tmp_path / "nothing.pkl", *IMPORT)
    assert not (tmp_path / "ran").exists() and not (tmp_path / "results").exists()


# --- The record -------------------------------------------------------------------------------------------------------


def test_status_seal_and_verify(tiny):
    assert "nothing is recorded" in refused("verify", "--profile", "tiny")
    odin("respond", *CHOSEN)
    status, lines, _ = odin("status", "--profile", "tiny")
    assert status == 0 and lines[0].split() == ["ID", "set", "set", *tiny.networks, tiny.grey_network]
    assert any(line.split() == [ID, "strokes", "recorded", "computable", "-"] for line in lines)
    assert any("odin respond --profile tiny" in line for line in lines)
    status, lines, _ = odin("seal", "--profile", "tiny")
    assert status == 0 and lines[-1].startswith(str(tiny.folder / "MANIFEST.json"))
    assert odin("verify", "--profile", "tiny")[0] == 0
    table = tiny.folder / "tables" / "detections.csv"
    table.write_text(table.read_text().replace("baseline", "Baseline", 1))
    (tiny.folder / "networks" / f"{NET}_{ID}_seed0.safetensors").unlink()
    status, lines, told = odin("verify", "--profile", "tiny")
    assert status == 1 and told.startswith("error: ") and told.count("\n") == 1
    assert f"networks/{NET}_{ID}_seed0.safetensors is missing" in lines
    assert any("method is Baseline, computed again baseline" in line for line in lines)


def test_status_names_what_is_missing(tiny):
    status, lines, _ = odin("status")
    assert status == 0 and any(line.startswith("no data: cifar10, tinyimagenet-crop") for line in lines)
    assert any(line.startswith("no weights: densenet-bc-100-12 on cifar10, ") for line in lines)
    assert refused("status", "--profile", "papre").startswith("error: profile is 'papre'")


# --- As a process -----------------------------------------------------------------------------------------------------


def environment(tmp_path, name):
    own = {"ODINLIB_RESULTS": str(tmp_path / name), "ODINLIB_DATA": str(tmp_path / "data")}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1"}


def test_a_mistake_is_one_line_and_an_exit_status():
    words = [sys.executable, "-m", "odinlib.cli", "train", "--network", "mlp-8x1", "--id-set", "digit"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ID set is 'digit'") and "did you mean 'digits'?" in done.stderr


def test_an_interrupted_training_ends_in_the_same_weights(tiny, tmp_path, monkeypatch):
    job = ("train", "--profile", "tiny", "--network", "mlp-4x1", "--id-set", ID)
    command = [sys.executable, str(TINY), *job]
    folder = tmp_path / "stopped" / "tiny" / "networks"
    checkpoint = folder / f"mlp-4x1_{ID}_seed0.checkpoint"
    running = subprocess.Popen(
        command,
        env=environment(tmp_path, "stopped"),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a job in the background ignores
    )
    try:
        began = time.monotonic()
        while not checkpoint.exists() and running.poll() is None and time.monotonic() - began < 300:
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        told = running.communicate(timeout=300)[1]
    finally:
        running.kill()
    assert running.returncode == 130, told
    assert told.splitlines()[-1].startswith("stopped; whole epochs are kept;") and "Traceback" not in told
    assert [path.name for path in folder.iterdir()] == [checkpoint.name]

    whole = trained.path(tiny.trained("mlp-4x1", ID))
    assert odin(*job)[0] == 0  # the same training in this process, never stopped
    monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path / "stopped"))
    status, lines, _ = odin(*job)
    assert status == 0 and "test accuracy" in lines[-1] and not checkpoint.exists()
    assert checkpoint.with_suffix(".safetensors").read_bytes() == whole.read_bytes()

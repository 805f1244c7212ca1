"""Training: the paper's recipes, crops and flips against a plain loop, the same bits however stopped."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from odinlib.datasets.imageset import ImageSet
from odinlib.errors import UserError
from odinlib.networks import build
from odinlib.networks import train as training
from odinlib.networks.train import PAPER_RECIPES, Recipe, accuracy, train

QUICK = Recipe(epochs=3, batch=16, weight_decay=1e-4, learning_rate=0.05)
DENSE = Recipe(epochs=3, batch=16, weight_decay=0, learning_rate=0.01, optimiser="adam", padding=0, flip=False)


def bright_or_dark(count=50, size=8, channels=3, name="patches") -> ImageSet:
    """Two classes that brightness tells apart; 50 leaves a batch of 2 behind."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = generator.integers(0, 100, (count, size, size, channels)) + 120 * labels[:, None, None, None]
    return ImageSet(name, name, images.astype(np.uint8), labels, ("dark", "bright"))


def trained(name="wrn-10-1", recipe=QUICK, image_set=None, seed=4, network_seed=0, **options):
    image_set = image_set or bright_or_dark()
    _, size, _, channels = image_set.images.shape
    network = build(name, 2, channels, size, seed=network_seed)
    history = train(network, image_set, recipe, seed=seed, device="cpu", progress=False, **options)
    return network, history


def assert_same(first, second):
    for (key, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def without_time(history):
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history]


# --- Recipes ------------------------------------------------------------------------------------------------


def test_the_papers_recipes_are_section_4_1():
    dense, wide = PAPER_RECIPES["densenet-bc"], PAPER_RECIPES["wrn"]
    assert (dense.epochs, dense.batch, dense.weight_decay) == (300, 64, 1e-4)
    assert (wide.epochs, wide.batch, wide.weight_decay) == (200, 128, 5e-4)
    for recipe in (dense, wide):
        assert (recipe.learning_rate, recipe.momentum, recipe.nesterov) == (0.1, 0.9, True)
        assert (recipe.milestones, recipe.padding, recipe.flip) == ((0.5, 0.75), 4, True)
    mlp = PAPER_RECIPES["mlp"]
    assert (mlp.epochs, mlp.optimiser, mlp.padding, mlp.flip) == (30, "adam", 0, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 0},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1},
        {"optimiser": "adamw"},
        {"precision": "float16"},
        {"padding": -1},
        {"momentum": 1},
        {"milestones": (1.5,)},
        {"epochs": 2.5},
    ],
)
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong)).rstrip("s")):
        dataclasses.replace(QUICK, **wrong)


def test_the_learning_rate_falls_tenfold_at_each_milestone():
    _, history = trained(recipe=dataclasses.replace(QUICK, epochs=8))
    rates = [entry["learning_rate"] for entry in history]
    assert rates == pytest.approx([0.05] * 4 + [0.005] * 2 + [0.0005] * 2)


# --- Augmentation -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    padding=st.integers(0, 5),
    flip=st.booleans(),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 7), st.sampled_from([1, 3])),
    seed=st.integers(0, 99),
)
def test_a_batch_is_what_a_plain_loop_would_crop_and_flip(padding, flip, shape, seed):
    images = np.random.default_rng(seed).integers(0, 256, (9, *shape), dtype=np.uint8)
    image_set = ImageSet("noise", "noise", images, np.arange(9), tuple("abcdefghi"))
    recipe = dataclasses.replace(QUICK, padding=padding, flip=flip)
    batches = training._Batches(image_set, recipe, torch.device("cpu"))
    draws = batches.draw(torch.Generator().manual_seed(seed))
    assert sorted(draws[0].tolist()) == list(range(9))
    assert draws[1:3].min() >= 0 and draws[1:3].max() <= 2 * padding
    assert flip or not draws[3].any()
    found, labels = batches.batch(draws, slice(2, 9, 3))
    for image, label, (which, top, left, turned) in zip(found, labels, draws[:, 2:9:3].T.tolist(), strict=True):
        padded = np.pad(images[which], ((padding, padding), (padding, padding), (0, 0)))
        expected = padded[top : top + shape[0], left : left + shape[1]]
        expected = expected[:, ::-1] if turned else expected
        assert label == which
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected.astype(np.float32) / 255)


def test_every_crop_and_flip_comes_up_and_each_epoch_draws_anew():
    batches = training._Batches(bright_or_dark(2000), QUICK, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    first, second = batches.draw(generator), batches.draw(generator)
    assert not torch.equal(first, second)
    assert set(first[1].tolist()) == set(first[2].tolist()) == set(range(9))
    assert first[3].float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_images_in_float_are_taken_as_they_are():
    images = np.random.default_rng(0).random((4, 2, 2, 3), dtype=np.float32)
    image_set = ImageSet("noise", "noise", images, np.arange(4), tuple("abcd"))
    plain = dataclasses.replace(QUICK, padding=0, flip=False)
    batches = training._Batches(image_set, plain, torch.device("cpu"))
    draws = batches.draw(torch.Generator().manual_seed(0))
    found, labels = batches.batch(draws, slice(0, 4))
    np.testing.assert_array_equal(found.permute(0, 2, 3, 1).numpy(), images[labels.numpy()])


# --- Training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("wrn-10-1", QUICK),
        ("densenet-bc-10-4", dataclasses.replace(QUICK, precision="bfloat16")),
        ("mlp-16x2", DENSE),
    ],
)
def test_every_family_learns_what_can_be_learnt(name, recipe):
    network, history = trained(name, dataclasses.replace(recipe, epochs=8))
    assert not network.training
    assert accuracy(network, bright_or_dark(60)) > 0.95
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["accuracy"] > 0.9
    assert len(history) == 8


def test_the_same_seeds_give_the_same_bits_and_another_seed_others():
    (first, history), (again, same), (other, _) = trained(), trained(), trained(seed=5)
    assert_same(first, again)
    assert without_time(history) == without_time(same)
    assert not torch.equal(first.fc.weight, other.fc.weight)


def test_one_step_of_sgd_is_nesterovs():
    image_set = bright_or_dark(8)
    recipe = Recipe(epochs=1, batch=8, weight_decay=0.01, learning_rate=0.1, padding=0, flip=False)
    network, _ = trained("mlp-4x1", recipe, image_set)
    plain = build("mlp-4x1", 2, 3, 8, seed=0)
    loss = torch.nn.functional.cross_entropy(plain(image_set.tensor()), torch.as_tensor(image_set.labels))
    (gradient,) = torch.autograd.grad(loss, plain.fc.weight)
    gradient = gradient + 0.01 * plain.fc.weight
    torch.testing.assert_close(network.fc.weight, plain.fc.weight - 0.1 * (1 + 0.9) * gradient)


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def interrupt_after(monkeypatch, batches):
    """Let the progress bar raise at its `batches`-th update, in the middle of an epoch."""
    count = iter(range(1, 10**9))

    class Bar(training.tqdm):
        def update(self, n=1):
            if next(count) == batches:
                raise Interrupted
            return super().update(n)

    monkeypatch.setattr(training, "tqdm", Bar)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("wrn-10-1", QUICK),
        ("densenet-bc-10-4", QUICK),
        ("mlp-16x2", dataclasses.replace(DENSE, padding=1, flip=True)),
    ],
)
def test_an_interrupted_training_continues_to_the_same_bits(tmp_path, monkeypatch, name, recipe):
    whole, history = trained(name, recipe)
    path = tmp_path / "net.checkpoint"
    for batches in (
        6,
        3,
        5,
    ):  # of 4 an epoch: stops in the second epoch, again in the second, then in the third
        with monkeypatch.context() as patch:
            interrupt_after(patch, batches)
            with pytest.raises(Interrupted):
                trained(name, recipe, checkpoint=path)
    # What it starts from no longer matters: everything is in the checkpoint.
    resumed, continued = trained(name, recipe, network_seed=9, checkpoint=path)
    assert_same(whole, resumed)
    assert without_time(history) == without_time(continued)
    assert [p.name for p in tmp_path.iterdir()] == ["net.checkpoint"]


def test_a_finished_training_is_not_repeated(tmp_path, monkeypatch):
    path = tmp_path / "net.checkpoint"
    whole, history = trained(checkpoint=path)
    interrupt_after(monkeypatch, 1)
    again, same = trained(network_seed=9, checkpoint=path)
    assert_same(whole, again)
    assert history == same


def test_a_checkpoint_changes_nothing(tmp_path):
    with_one, _ = trained(checkpoint=tmp_path / "net.checkpoint")
    without, _ = trained()
    assert_same(with_one, without)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "net.checkpoint"
    trained(checkpoint=path)
    other_images = bright_or_dark()
    other_images.images[0, 0, 0, 0] ^= 1
    for options, key in (
        ({"recipe": dataclasses.replace(QUICK, learning_rate=0.01)}, "learning_rate is 0.05; expected 0.01"),
        ({"seed": 5}, "seed is 4; expected 5"),
        ({"image_set": other_images}, "images and labels"),
        ({"name": "wrn-16-1"}, "network is 'wrn-10-1'; expected 'wrn-16-1'"),
    ):
        with pytest.raises(UserError, match=key):
            trained(checkpoint=path, **options)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"is damaged \(.*\); delete it to train anew"):
        trained(checkpoint=path)


def test_a_loss_that_is_not_finite_is_one_line_with_the_epoch(tmp_path):
    recipe = dataclasses.replace(QUICK, learning_rate=1e30)
    with pytest.raises(UserError, match=r"the loss of mlp-8x2 is (nan|inf) in epoch [12] of 3; lower the learning"):
        trained("mlp-8x2", recipe)


def test_labels_that_do_not_fit_are_refused():
    network = build("mlp-8x1", 2, 3, 8)
    three = ImageSet("three", "three", np.zeros((3, 8, 8, 3), np.uint8), np.arange(3), ("a", "b", "c"))
    unlabelled = ImageSet("noise", "noise", np.zeros((3, 8, 8, 3), np.uint8))
    grey = bright_or_dark(channels=1)
    for image_set, message in (
        (three, "three has a label 2; expected at most 1"),
        (unlabelled, "no labels"),
        (grey, "was given images of shape"),
    ):
        with pytest.raises(UserError, match=message):
            train(network, image_set, QUICK, seed=0, device="cpu", progress=False)
        with pytest.raises(UserError, match=message):
            accuracy(network, image_set)


def test_accuracy_counts_every_image_once_and_restores_the_mode():
    network = build("wrn-10-1", 2, seed=0).train()
    image_set = bright_or_dark(37)
    found = accuracy(network, image_set, batch=10)
    assert network.training
    with torch.inference_mode():
        expected = (network.eval()(image_set.tensor()).argmax(1).numpy() == image_set.labels).mean()
    assert found == pytest.approx(expected)


def test_the_bar_tells_the_batches_and_can_be_silent(capfd):
    network = build("mlp-8x1", 2, 3, 8, seed=0)
    train(network, bright_or_dark(), DENSE, seed=0, device="cpu", progress=False)
    assert capfd.readouterr() == ("", "")
    train(network, bright_or_dark(), DENSE, seed=0, device="cpu")
    assert "train mlp-8x1: 100%" in capfd.readouterr().err


# --- Several processes --------------------------------------------------------------------------------------

PARALLEL = """
import sys, torch
tests, folder = sys.argv[1:]
sys.path.insert(0, tests)
from test_train import DENSE, QUICK, bright_or_dark, trained
for name, recipe, count in (("mlp-16x2", DENSE, 50), ("wrn-10-1", QUICK, 49)):
    path = f"{folder}/{name}"
    network, history = trained(name, recipe, bright_or_dark(count), checkpoint=f"{path}.checkpoint")
    if torch.distributed.get_rank() == 1:
        torch.save((network.state_dict(), [entry["loss"] for entry in history]), f"{path}.pt")
"""


@pytest.fixture(scope="module")
def parallel(tmp_path_factory):
    """The folder that two processes under torchrun have trained into."""
    folder = tmp_path_factory.mktemp("parallel")
    script = folder / "parallel.py"
    script.write_text(PARALLEL)
    tests = Path(__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tests.parent)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*torchrun, str(script), str(tests), str(folder)], env=environment, check=True, timeout=600)
    return folder


def test_two_processes_take_the_steps_of_one(parallel):
    """An MLP has no batch statistics, so the steps agree but for rounding."""
    state, losses = torch.load(parallel / "mlp-16x2.pt", weights_only=True)
    alone, history = trained("mlp-16x2", DENSE, bright_or_dark(50))
    assert losses == pytest.approx([entry["loss"] for entry in history], rel=1e-4)
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-5)


def test_two_processes_leave_a_checkpoint_that_one_can_read_and_an_odd_image_out(parallel):
    state, losses = torch.load(parallel / "wrn-10-1.pt", weights_only=True)
    alone, history = trained("wrn-10-1", QUICK, bright_or_dark(49), checkpoint=parallel / "wrn-10-1.checkpoint")
    assert losses == [entry["loss"] for entry in history]
    assert len(losses) == 3 and losses[-1] < losses[0]
    for key, value in alone.state_dict().items():
        assert torch.equal(state[key], value), key


def test_odin_train_under_torchrun_saves_once_what_both_processes_have(tmp_path):
    tests = Path(__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tests.parent)}
    environment |= {"ODINLIB_RESULTS": str(tmp_path), "TQDM_DISABLE": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [str(tests / "tiny.py"), "train", "--profile", "tiny", "--network", "mlp-16x1", "--id-set", "digits"]
    subprocess.run([*torchrun, *command], env=environment, check=True, timeout=300)
    (weights,) = (tmp_path / "tiny" / "networks").glob("*.safetensors")
    card = json.loads(weights.with_suffix(".json").read_text())
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == card["sha256"]
    assert not [path for path in weights.parent.iterdir() if path.suffix not in (".safetensors", ".json", ".lock")]


@pytest.mark.parametrize(("told", "shown"), [("1", False), ("0", True), ("", True)])
def test_the_progress_bar_hears_tqdms_own_variable(told, shown, monkeypatch, capsys):
    monkeypatch.setenv("TQDM_DISABLE", told)
    images = bright_or_dark()
    network = build("mlp-8x1", len(images.classes), channels=3, size=8, seed=0)
    train(network, images, dataclasses.replace(DENSE, epochs=1), seed=0)
    assert ("batch/s" in capsys.readouterr().err) == shown

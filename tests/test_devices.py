"""What holds on every device: on those that this machine has, and on one that is emulated (`other_device`)."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from other_device import OnDevice, emulated
from test_fast import network

from odinlib import datasets, devices, experiments, metrics, moments, networks, odin, record, store
from odinlib.errors import UserError
from odinlib.networks.fast import FastDenseNet, Frozen, fast
from odinlib.networks.train import Recipe, accuracy, train

QUICK = Recipe(epochs=2, batch=32, weight_decay=1e-4, learning_rate=0.01, padding=1)
GRID = (1.0, 1000.0), (0.0, 0.002, 0.01)
NAMES = ("densenet-bc-10-4", "wrn-10-1", "mlp-8x1")


def here(name: str) -> networks.Classifier:
    """A network on the CPU, always with the same weights."""
    return network(name, classes=4, channels=3, size=8)


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def unfused(optimiser, *args, fused, **options):
    return optimiser(*args, foreach=False, **options)


@pytest.fixture(params=["emulated", "emulated, without float64", "cuda", "mps"])
def place(request, monkeypatch):
    kind, _, without = request.param.partition(", ")
    if kind == "emulated":
        if without:
            monkeypatch.setattr(devices, "_WITHOUT_FLOAT64", {"meta"})
        for optimiser in ("SGD", "Adam"):  # PyTorch has the fused ones for devices that it knows
            monkeypatch.setattr(torch.optim, optimiser, functools.partial(unfused, getattr(torch.optim, optimiser)))
        with emulated(monkeypatch, float64=not without) as where:
            yield where
    elif getattr(torch, kind).is_available():
        yield torch.device(kind)
    else:
        pytest.skip(f"there is no {kind} here")


def test_the_emulated_device_does_not_meet_the_cpu(monkeypatch):
    with emulated(monkeypatch) as where:
        there = torch.arange(3.0).to(where)
        assert isinstance(there, OnDevice) and (there * 2).sum().item() == 6
        with pytest.raises(RuntimeError, match="two, meta and cpu"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="meta"):
            there.numpy()
        assert there.cpu().numpy().tolist() == [0, 1, 2]
    with emulated(monkeypatch, float64=False) as where, pytest.raises(TypeError, match="no float64"):
        torch.arange(3.0).to(where).double()


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_scores_and_gradients_are_those_of_the_cpu(place, name, quick):
    x = images()
    scores = odin.sweep(here(name), x, *GRID)
    logits, norms = store.respond(here(name), x)
    there = here(name).to(place)
    there = fast(there) if quick else there
    assert devices.of(there).type == place.type
    assert torch.allclose(odin.sweep(there, x, *GRID), scores, rtol=1e-4, atol=1e-4)
    assert torch.allclose(odin.sweep(there, x.to(place), *GRID, batch=2), scores, rtol=1e-4, atol=1e-4)
    found, found_norms = store.respond(there, x)
    assert np.allclose(found, logits, rtol=1e-4, atol=1e-4) and np.allclose(found_norms, norms, rtol=1e-3)


def test_the_form_written_here_needs_float64(place):
    form = FastDenseNet if devices.has_float64(place) else Frozen
    assert isinstance(fast(here("densenet-bc-10-4").to(place), engine="fast").form, form)


def test_a_detector_takes_images_from_the_cpu(place):
    inside, outside = images(30), images(30) ** 4
    detectors = [odin.ODIN(made).fit(inside, outside, *GRID) for made in (here(NAMES[0]), here(NAMES[0]).to(place))]
    on_cpu, there = detectors
    assert (there.temperature_, there.epsilon_) == (on_cpu.temperature_, on_cpu.epsilon_)
    assert there.threshold_ == pytest.approx(on_cpu.threshold_, rel=1e-4)
    assert torch.allclose(there.score_samples(outside), on_cpu.score_samples(outside), rtol=1e-4, atol=1e-4)
    assert there.predict(inside).sum() == on_cpu.predict(inside).sum()


def test_scores_may_lie_on_the_device(place):
    low, high = torch.rand(40), torch.rand(50) + 0.3
    found = metrics.evaluate(high.to(place), low.to(place))
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value.item() for name, value in metrics.evaluate(high, low).items()}
    )


def test_the_remainder_is_measured_beside_the_network(place):
    found = moments.perturbation_remainder(here(NAMES[0]).to(place), images(), [1e-5, 1e-4], 1.0)
    assert np.allclose(
        found.remainder, moments.perturbation_remainder(here(NAMES[0]), images(), [1e-5, 1e-4], 1.0).remainder
    )


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_training_gives_what_it_gives_on_the_cpu(place, optimiser):
    found = datasets.load("shapes4", "train").take(range(64))
    recipe = dataclasses.replace(QUICK, optimiser=optimiser)
    histories, accuracies = [], []
    for where in (torch.device("cpu"), place):
        made = networks.build("densenet-bc-10-4", classes=4, size=16, seed=0)
        histories.append(train(made, found, recipe, seed=0, device=where, progress=False))
        accuracies.append(accuracy(made, found))
        assert devices.of(made).type == where.type
    losses = [[entry["loss"] for entry in history] for history in histories]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3) and accuracies[1] == pytest.approx(accuracies[0], abs=0.05)


def test_the_whole_protocol(place, tiny, tmp_path, monkeypatch):
    """All that `odin respond` does, from training to the distances; its measures are those of the CPU's run."""
    name, id_set = "densenet-bc-10-4", tiny.id_sets[0]
    profile = dataclasses.replace(
        tiny, networks=(name, *tiny.networks[1:]), recipes={**tiny.recipes, "densenet-bc": QUICK}
    )
    measured = []
    for where in ("cpu", place):
        monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path / str(where)))
        there = dataclasses.replace(profile, device=where)
        assert not any(line.startswith("without") for line in record.respond(there.trained(name, id_set)))
        found = experiments.detections(there, [(name, id_set, s) for s in tiny.ood_sets[id_set]])
        assert not found.missing
        measured.append(experiments.joined(found))
    # In percent of 40 images, of which two may change places.
    assert np.allclose(measured[0].value, measured[1].value, atol=5)
    assert (measured[0].method == measured[1].method).all() and len(measured[0]) == 2 * 5 * len(tiny.ood_sets[id_set])


def test_the_choice_of_a_device():
    assert devices.device("cpu") == torch.device("cpu")
    assert devices.device("auto").type in ("cuda", "mps", "cpu")
    assert devices.device(torch.device("meta")) == torch.device("meta")
    with pytest.raises(UserError, match="did you mean 'cuda'"):
        devices.device("cudda")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="not on this machine"):
            devices.device("cuda:0")


def test_float32_is_float32_on_cuda():
    """PyTorch's own choice, TF32, is set aside for as long as it matters, on CUDA alone."""
    before = torch.backends.cudnn.allow_tf32
    assert before
    with devices.exact(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.allow_tf32
    with devices.exact(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32


def test_a_module_without_numbers_lies_on_the_cpu():
    assert devices.of(torch.nn.Flatten()) == torch.device("cpu")
    assert devices.of(here("mlp-8x1")) == torch.device("cpu")

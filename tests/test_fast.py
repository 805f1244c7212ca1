"""The fast forms give the networks' own logits and gradients: everything is compared with float64."""

import copy

import checkpoints
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from odinlib import datasets, devices, metrics, odin
from odinlib.errors import UserError
from odinlib.networks import build
from odinlib.networks import weights as load
from odinlib.networks.fast import Frozen, fast
from odinlib.networks.folded import Gate

TEMPERATURES = (1.0, 10.0, 1000.0)
CASES = [
    # name, classes, channels, size, images
    ("densenet-bc-22-6", 10, 3, 16, 7),
    ("densenet-bc-16-4", 2, 1, 13, 5),  # two classes, grey, an odd size that pooling cuts
    ("densenet-bc-10-5", 3, 3, 4, 1),
    ("wrn-16-2", 10, 3, 16, 5),
    ("mlp-32x2", 2, 1, 8, 6),
]


def network(name: str, classes: int, channels: int, size: int) -> nn.Module:
    """A network as if trained: batch norms of any sign and size, the statistics of its own maps, and normalisation."""
    statistics = {"mean": [0.4, 0.5, 0.3][:channels], "std": [0.2, 0.3, 0.25][:channels]}
    found = build(name, classes, channels, size, **statistics, seed=0)
    generator = torch.Generator().manual_seed(1)
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            width = len(module.weight)
            module.weight.data = torch.randn(width, generator=generator)
            module.weight.data[0] = 0.0  # a dead map
            module.bias.data = torch.randn(width, generator=generator)
            module.momentum = None  # the mean of all batches, here of one
    with torch.no_grad():
        found.train()(torch.rand(64, channels, size, size, generator=generator))
    return found.eval()


def example(name: str, classes: int, channels: int, size: int, count: int) -> tuple[nn.Module, nn.Module, Tensor]:
    """A network, itself in float64, and images."""
    found = network(name, classes, channels, size)
    images = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(2))
    return found, copy.deepcopy(found).double(), images


def relative(ours: Tensor, reference: Tensor) -> float:
    """The largest difference, over the largest number."""
    return ((ours - reference).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
@pytest.mark.parametrize("micro", [None, 2])
def test_logits(case, micro):
    found, reference, images = example(*case)
    form = fast(found, micro=micro)
    assert relative(form(images), reference(images.double())) < 1e-5
    assert form(images).dtype == torch.float32
    assert not form(images).requires_grad


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_gradients_at_every_temperature(case):
    found, reference, images = example(*case)
    ours, logits = odin.input_gradients(fast(found, micro=2), images, TEMPERATURES)
    theirs, clean = odin.input_gradients(reference, images.double(), TEMPERATURES)
    assert relative(logits, clean) < 1e-5
    for gradient, exact in zip(ours, theirs, strict=True):
        assert gradient.shape == images.shape
        assert relative(gradient, exact) < 1e-4


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_autograd_goes_through(case):
    found, reference, images = example(*case)
    weights = torch.randn(case[-1], case[1], generator=torch.Generator().manual_seed(3))
    gradients = []
    for form, x, w in ((fast(found), images, weights), (reference, images.double(), weights.double())):
        x = x.clone().requires_grad_()
        (form(x) * w).sum().backward()
        gradients.append(x.grad)
    assert relative(*gradients) < 1e-5
    assert all(p.grad is None for p in found.parameters())


@pytest.mark.parametrize("name", ["densenet-bc-16-4", "wrn-10-1"])
@pytest.mark.parametrize("trained", [32, 18])
@pytest.mark.parametrize("size", [13, 16, 32, 36, 64])
def test_images_of_another_size_than_the_trained_one(name, trained, size):
    found = network(name, 3, 3, trained)
    reference, form = copy.deepcopy(found).double(), fast(found, micro=2)
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(2))
    assert relative(form(images), reference(images.double())) < 1e-5
    assert relative(fast(found, "bfloat16")(images), reference(images.double())) < 0.05
    ours, _ = odin.input_gradients(form, images, TEMPERATURES)
    theirs, _ = odin.input_gradients(reference, images.double(), TEMPERATURES)
    for gradient, exact in zip(ours, theirs, strict=True):
        assert relative(gradient, exact) < 1e-4
    moving = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(odin.margin_score(form(moving), 1.0).sum(), moving)
    exact = images.double().requires_grad_()
    (exact,) = torch.autograd.grad(odin.margin_score(reference(exact), 1.0).sum(), exact)
    assert relative(gradient, exact) < 1e-4


def test_a_sure_network_still_has_a_gradient():
    """In float32 1 - p vanishes at p = 1 - 1e-9; the sum of the other probabilities does not."""
    found, reference, images = example(*CASES[0])
    largest = reference(images.double()).topk(2).values
    factor = (20 / (largest[:, 0] - largest[:, 1]).max()).item()
    for form in (found, reference):
        form.fc.weight.data *= factor
    ours, _ = odin.input_gradient(fast(found), images, 1.0)
    exact, _ = odin.input_gradient(reference, images.double(), 1.0)
    scale = exact.abs().flatten(1).amax(1)
    assert scale.min() < 1e-7  # sure indeed
    assert ((ours - exact).abs().flatten(1).amax(1) / scale).max() < 1e-3


def test_the_whole_sweep_is_the_plain_one():
    found, reference, images = example(*CASES[0])
    grid = (1.0, 1000.0), (0.0, 0.0014)
    ours = odin.sweep(fast(found, micro=3), images, *grid, batch=4)
    exact = odin.sweep(reference, images.double(), *grid, batch=4)
    # The sign of a gradient that is all but 0 may differ, and moves a score by next to nothing.
    torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)


def test_several_threads_give_the_same_and_leave_their_number():
    found, reference, images = example(*CASES[0])
    form, threads = fast(found, micro=1), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert relative(form(images), reference(images.double())) < 1e-5
        assert relative(form.input_gradients(images, (1.0,))[1], reference(images.double())) < 1e-5
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_bfloat16_is_near_and_its_gradients_are_exact(case):
    found, reference, images = example(*case)
    form = fast(found, precision="bfloat16")
    error = relative(form(images), reference(images.double()))
    assert 1e-6 < error < 0.05
    assert form(images).dtype == torch.float32
    ours, _ = odin.input_gradient(form, images, 1000.0)
    exact, _ = odin.input_gradient(reference, images.double(), 1000.0)
    assert relative(ours, exact) < 1e-4


def test_the_comparison_of_bits_is_that_of_numbers():
    """With thresholds from 0 on, numbers of either sign, and a map without a threshold below or above."""
    generator = torch.Generator().manual_seed(4)
    x = (torch.randn(50, 12, generator=generator) * 3).bfloat16()
    low = torch.rand(12, generator=generator).bfloat16()
    high = torch.full_like(low, torch.inf)
    low[3:6], high[3:6] = -0.0, low[3:6].clone()  # the bound of a batch norm that turns its map over
    unused = torch.zeros(12, dtype=torch.float64)
    gate = Gate(low, high, unused, unused, unused, unused)
    without = torch.where(torch.signbit(low), -torch.inf, low)
    assert torch.equal(gate(x), torch.minimum(torch.maximum(x, without), high))


def test_no_network_image_or_bound_hides_nan_in_bfloat16():
    found, _, images = example(*CASES[0])
    images[2, 0, 1, 1] = torch.nan
    logits = fast(found, precision="bfloat16")(images)
    assert torch.isnan(logits[2]).all()
    assert torch.isfinite(logits[[0, 1, 3]]).all()
    found.block1.layer[0].conv1.weight.data[0, 0] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        fast(found, precision="bfloat16")


def test_without_onednn(monkeypatch):
    found, reference, images = example(*CASES[0])
    monkeypatch.setattr(devices, "_ONEDNN", None)
    assert relative(fast(found)(images), reference(images.double())) < 1e-5
    assert relative(fast(found, precision="bfloat16")(images), reference(images.double())) < 0.05
    ours, _ = odin.input_gradient(fast(found), images, 1000.0)
    exact, _ = odin.input_gradient(reference, images.double(), 1000.0)
    assert relative(ours, exact) < 1e-4


def the_real_network() -> nn.Module:
    """A trained DenseNet-BC-100 where there is one, else a small one as if trained."""
    path = checkpoints.found(checkpoints.THIRD_PARTY)
    if path is None:
        return network("densenet-bc-40-12", 10, 3, 32)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return load.import_checkpoint(path, "densenet-bc-100-12", 10, mean=mean, std=std)[0].eval()


def test_a_sweep_in_float32_is_the_one_in_float64():
    """Same moved images, so that only the forward passes differ: every logit, score and measure."""
    found = the_real_network()
    reference = copy.deepcopy(found).double()
    photos = datasets.load("photos-crop", "test", count=12).tensor(np.arange(12))
    shapes = datasets.load("shapes10", "test", count=12).tensor(np.arange(12))
    scores = []
    for images in (shapes, photos):
        images = torch.nn.functional.interpolate(images, 32)
        gradient, _ = odin.input_gradient(found, images, 1000.0)
        moved = odin.perturb(images, gradient, 0.0014)
        with torch.no_grad():
            ours, exact = fast(found)(moved), reference(moved.double())
        assert (ours - exact).abs().max() < 1e-4
        for temperature, tolerance in ((1.0, 1e-5), (1000.0, 1e-6)):  # at T = 1 the score doubles a logit's rounding
            scored = [odin.softmax_score(logits, temperature) for logits in (ours, exact)]
            torch.testing.assert_close(*scored, rtol=tolerance, atol=0)
        scores.append((odin.margin_score(ours, 1000.0), odin.margin_score(exact, 1000.0)))
    (in_ours, in_exact), (out_ours, out_exact) = scores
    assert metrics.fpr_at_tpr(in_ours, out_ours) == metrics.fpr_at_tpr(in_exact, out_exact)
    assert metrics.auroc(in_ours, out_ours).item() == pytest.approx(metrics.auroc(in_exact, out_exact).item(), abs=1e-4)


def test_the_network_itself_is_left_alone():
    found, _, images = example(*CASES[3])
    before, logits = copy.deepcopy(found.state_dict()), found(images)
    form = fast(found, precision="bfloat16")
    assert all(torch.equal(before[key], value) for key, value in found.state_dict().items())
    for parameter in found.parameters():
        parameter.data.zero_()
    assert relative(form(images), logits) < 0.05


def test_compile_is_handed_on(monkeypatch):
    found, reference, images = example(*CASES[0])
    monkeypatch.setattr(torch, "compile", lambda run, **_: lambda images: run(images) + 1)
    assert relative(fast(found, compile=True)(images) - 1, reference(images.double())) < 1e-5


def test_any_module_will_do():
    found = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    images = torch.rand(4, 3, 2, 2)
    assert isinstance(fast(found), Frozen)
    torch.testing.assert_close(fast(found)(images), found(images))


@pytest.mark.parametrize("wrong", [{"precision": "float8"}, {"micro": 0}, {"micro": True}, {"micro": 1.5}])
def test_mistakes(wrong):
    with pytest.raises(UserError):
        fast(nn.Linear(1, 2), **wrong)

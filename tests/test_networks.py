"""The three families: sizes as published, any image size, normalisation inside, seeds, refusals."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from odinlib.errors import UserError
from odinlib.networks import build, check_name, family_of


@pytest.mark.parametrize(
    ("name", "classes", "channels", "size", "parameters"),
    [
        ("densenet-bc-100-12", 10, 3, 32, 769_162),  # 0.8 M in Huang et al.
        ("densenet-bc-100-12", 100, 3, 32, 800_032),
        ("wrn-28-10", 10, 3, 32, 36_479_194),  # 36.5 M in Zagoruyko & Komodakis
        ("wrn-40-4", 10, 3, 32, 8_949_210),  # 8.9 M
        ("mlp-256x3", 10, 1, 28, 785 * 256 + 2 * 257 * 256 + 257 * 10),
    ],
)
def test_parameter_counts_are_those_of_the_originals(name, classes, channels, size, parameters):
    network = build(name, classes, channels, size)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert (network.name, network.classes, network.channels, network.size) == (name, classes, channels, size)


def test_densenet_modules_carry_the_names_of_the_common_checkpoints():
    keys = build("densenet-bc-100-12", 10).state_dict().keys()
    for key in (
        "conv1.weight",
        "block1.layer.0.bn1.weight",
        "block3.layer.15.conv2.weight",
        "trans2.conv1.weight",
        "bn1.running_mean",
        "fc.bias",
    ):
        assert key in keys
    assert "block1.layer.16.conv1.weight" not in keys


@pytest.mark.parametrize("name", ["densenet-bc-10-4", "densenet-bc-16-8", "wrn-10-1", "wrn-16-2", "mlp-32x2"])
@pytest.mark.parametrize(("size", "channels"), [(32, 3), (16, 3), (8, 1)])
def test_images_of_any_size_give_logits_and_the_gradient_reaches_them(name, size, channels):
    network = build(name, 7, channels, size, seed=0).eval()
    images = torch.rand(3, channels, size, size, requires_grad=True)
    logits = network(images)
    assert logits.shape == (3, 7)
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), images)
    assert gradient.abs().amin((1, 2, 3)).shape == (3,)
    assert (gradient.abs().amax((1, 2, 3)) > 0).all()


def test_seeds_give_the_same_bits_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (build("wrn-10-1", 10, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_without_a_seed_weights_come_from_the_global_generator():
    torch.manual_seed(5)
    first = build("wrn-10-1", 10).fc.weight
    assert not torch.equal(first, build("wrn-10-1", 10).fc.weight)
    torch.manual_seed(5)
    assert torch.equal(first, build("wrn-10-1", 10).fc.weight)


@pytest.mark.parametrize("name", ["densenet-bc-16-8", "wrn-10-1", "mlp-32x2"])
def test_normalisation_is_the_first_step_and_is_saved(name):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    inside = build(name, 4, size=8, mean=mean, std=std, seed=0).eval()
    outside = build(name, 4, size=8, seed=0).eval()
    images = torch.rand(2, 3, 8, 8)
    shape = (1, 3, 1, 1)
    normalised = (images - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    assert torch.equal(inside(images), outside(normalised))
    assert torch.equal(inside.state_dict()["mean"].flatten(), torch.tensor(mean))
    assert torch.equal(inside.state_dict()["std"].flatten(), torch.tensor(std))


def test_initialisation_is_he_by_outputs():
    network = build("wrn-16-4", 10, seed=0)
    weight = network.block3.layer[1].conv2.weight  # 3 x 3, 256 maps: 590,000 draws
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.01)
    assert not network.fc.bias.any()
    assert (network.bn1.weight == 1).all()


def test_mlp_units_start_as_directions_of_a_length_that_suits_gelu():
    network = build("mlp-64x3", 10, 1, 28, seed=0)
    lengths = [layer.weight.norm(dim=1) for layer in (*network.hidden, network.fc)]
    for length, variance in zip(lengths, (1 + 0.425, 2 * 0.425, 2 * 0.425, 0.425 + 1), strict=True):
        torch.testing.assert_close(length, torch.full_like(length, variance**-0.5))


def test_wide_resnet_halves_the_resolution_twice_and_densenet_too():
    for name in ("wrn-10-1", "densenet-bc-10-4"):
        network = build(name, 2, seed=0).eval()
        shapes = []
        network.block3.register_forward_hook(lambda _m, _i, out, shapes=shapes: shapes.append(out.shape[2:]))
        network(torch.rand(1, 3, 32, 32))
        assert shapes == [(8, 8)]


@pytest.mark.parametrize(("name", "trained"), [("densenet-bc-10-4", 13), ("wrn-10-1", 13)])
def test_the_window_is_as_large_as_the_last_maps_at_the_trained_size(name, trained):
    """At an odd size the pooling of one family leaves out the last row, the convolutions of the other keep it."""
    for size in (trained, 32, 16):
        network = build(name, 2, size=size, seed=0).eval()
        shapes = []
        network.bn1.register_forward_hook(lambda _m, _i, out, shapes=shapes: shapes.append(tuple(out.shape[2:])))
        network(torch.rand(1, 3, size, size))
        assert shapes == [(network.window, network.window)]


@pytest.mark.parametrize("name", ["densenet-bc-10-4", "wrn-10-1"])
@pytest.mark.parametrize("trained", [32, 18])
@pytest.mark.parametrize("size", [(13, 13), (16, 16), (32, 32), (36, 36), (64, 64), (16, 64)])
def test_images_of_another_size_are_pooled_over_the_authors_window(name, trained, size):
    network = build(name, 5, size=trained, seed=0).eval()
    kept = []
    network.bn1.register_forward_hook(lambda _m, _i, out: kept.append(out.clone()))
    logits = network(torch.rand(3, 3, *size))
    maps = kept[0].relu()
    kernel = [min(network.window, side) for side in maps.shape[2:]]
    expected = network.fc(F.avg_pool2d(maps, kernel)[..., 0, 0])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    if size == (36, 36) and trained == 32:  # as the authors released them: the ninth row and column do not count
        assert maps.shape[2:] == (9, 9)
        assert torch.equal(network.fc(maps[..., :8, :8].mean((2, 3))), logits)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.sampled_from(["densenet-bc-{}-4", "wrn-{}-1"]))
def test_depths_are_6n_plus_4_and_the_nearest_is_named(depth, pattern):
    name = pattern.format(depth)
    if depth >= 10 and depth % 6 == 4:
        assert check_name(name) == name
        return
    with pytest.raises(UserError, match="the nearest is") as caught:
        build(name, 10)
    suggestion = str(caught.value).rsplit(" ", 1)[1]
    assert check_name(suggestion) == suggestion
    nearest = int(suggestion.split("-")[-2])
    assert abs(nearest - depth) <= 3 or nearest == 10
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["resnet18", "densenet-100-12", "DenseNet-BC-100-12", "wrn-28", "mlp-256", "wrn-28-10 ", ""]
)
def test_unknown_names_are_refused(name):
    with pytest.raises(UserError, match="expected densenet-bc-<depth>-<growth>"):
        build(name, 10)
    with pytest.raises(UserError):
        family_of(name)


@pytest.mark.parametrize("name", ["mlp-0x3", "mlp-3x0", "wrn-10-0", "densenet-bc-10-0"])
def test_zeros_in_a_name_are_refused(name):
    with pytest.raises(UserError, match="numbers from 1"):
        build(name, 10)


@pytest.mark.parametrize("classes", [1, 0, -3, 2.0, True, "10"])
def test_fewer_than_two_classes_are_refused(classes):
    with pytest.raises(UserError, match="classes is"):
        build("wrn-10-1", classes)


def test_two_classes_work():
    assert build("wrn-10-1", 2)(torch.rand(1, 3, 8, 8)).shape == (1, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.5,)},
        {"std": (0.2, 0.2)},
        {"std": (0.2, 0.0, 0.2)},
        {"mean": (math.nan, 0, 0)},
        {"channels": 0},
        {"size": 0},
    ],
)
def test_impossible_normalisations_and_sizes_are_refused(wrong):
    with pytest.raises(UserError):
        build("wrn-10-1", 10, **wrong)


def test_images_of_another_shape_are_refused_by_name():
    with pytest.raises(UserError, match=r"wrn-10-1 was given images of shape \[2, 1, 8, 8\]"):
        build("wrn-10-1", 2)(torch.rand(2, 1, 8, 8))
    with pytest.raises(UserError, match="mlp-8x1 was given images of 14 x 14 pixels; expected 28 x 28"):
        build("mlp-8x1", 2, 1, 28)(torch.rand(2, 1, 14, 14))
    with pytest.raises(UserError, match="at least 4"):
        build("densenet-bc-10-4", 2, size=2)

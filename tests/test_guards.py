"""Silent mistakes: each is told in one line with what was measured, and what is right is not doubted."""

import contextlib
import re
import warnings

import numpy as np
import pytest
import torch
from foreign import First, Then, images, small
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from odinlib import odin, own
from odinlib.errors import UserError
from odinlib.odin import ODIN
from odinlib.own import guards

X = images()


@contextlib.contextmanager
def doubts(words):
    """One doubt, in one line, told at the line of this file that called; none, where `words` are None."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    found = [each for each in seen if issubclass(each.category, own.Doubt)]
    assert len(found) == (words is not None), [str(each.message) for each in found]
    for each in found:
        assert re.search(words, str(each.message)), str(each.message)
        assert "\n" not in str(each.message) and each.filename == __file__


# --- Pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (X * 255, "pixels lie between .* and 25.*expected 0 to 1; divide them by 255"),
        ((X * 255).numpy(), "divide them by 255"),
        (X * 255 - 128, "expected 0 to 1"),
        (X * 65535, "expected 0 to 1"),
        (torch.where(X > 0.999, torch.nan, X), "hold NaN"),
        (torch.where(X > 0.999, torch.inf, X), "infinite"),
        (torch.where(X > 0.999, -torch.inf, X).double(), "infinite"),
        ((X * 255).long(), "images are int64.*uint8"),
        ((X * 255).numpy().astype(np.int16), "images are int16"),
        (X * 1j, "complex"),
        (X[:0], "no images"),
        (np.array([["a"]]), "shape"),
    ],
)
def test_pixels_that_cannot_be_meant_are_refused(given, words):
    with pytest.raises(UserError, match=words) as caught:
        ODIN(small()).fit(given)
    assert "\n" not in str(caught.value)
    detector = ODIN(small()).fit(X)
    with pytest.raises(UserError):
        detector.predict(given)


@pytest.mark.parametrize("epsilon", [0.0, 0.01])
def test_pixels_that_are_nan_are_not_blamed_on_weights(epsilon):
    with pytest.raises(UserError, match="images hold NaN"):
        odin.sweep(small(), torch.where(X > 0.999, torch.nan, X), [1.0], [epsilon])
    broken = small()
    broken.last.bias.data[0] = torch.nan
    with pytest.raises(UserError, match=r"network gives NaN.*weights"):
        ODIN(broken, epsilon=epsilon).fit(X)


@pytest.mark.parametrize("given", [(X - 0.5) / 0.25, X * 2 - 1, X - 0.1])
def test_normalised_images_are_doubted_with_their_range(given):
    with doubts(rf"pixels lie between {given.min():.3g} and {given.max():.3g}, not in \[0, 1\]"):
        detector = ODIN(small()).fit(given)
    with doubts("not in"):
        detector.score_samples(given)


@pytest.mark.parametrize(
    "given", [X, (X * 255).to(torch.uint8), X > 0.5, X * 0, X * 0 + 1, (X.numpy() * 65535).astype(np.uint16)]
)
def test_pixels_in_their_range_are_not_doubted(given):
    with doubts(None):
        ODIN(nn.Sequential(nn.Identity(), small()), epsilon=0).fit(given)


# --- Outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda z: z.softmax(-1), "sum to 1.000.*softmax.*take it off"),
        (lambda z: (z / 20).softmax(-1).half().float(), "softmax"),
        (lambda z: z.softmax(-1).clamp(1e-7, 1 - 1e-7), "softmax"),
        (lambda z: z.log_softmax(-1), "log-softmax"),
        (lambda z: (z / 20).log_softmax(-1), "log-softmax"),
        (lambda z: z.sigmoid(), "sigmoid"),
        (lambda z: (z / 20).sigmoid().round(decimals=2), "sigmoid"),
    ],
)
def test_outputs_that_are_no_logits_are_doubted(after, words):
    with doubts(words):
        ODIN(Then(after), epsilon=0).fit(X)


@pytest.mark.parametrize("after", [lambda z: z, lambda z: -z.abs() - 1, lambda z: z.relu(), lambda z: z / 1000])
def test_logits_are_not_doubted(after):
    with doubts(None):
        ODIN(Then(after), epsilon=0).fit(X)


# --- How many images, which, and which epsilon ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "tpr", "words"),
    [
        (99, 0.95, r"of 99 familiar images.*between [89]\d % and 9\d %.*95 % were asked for; give it 100 or more"),
        (5, 0.95, "of 5 familiar"),
        (1, 0.95, "of 1 familiar"),
        (120, 0.99, "give it 500 or more"),
        (20, 1.0, "give it 100 or more"),
        (100, 0.95, None),
        (25, 0.8, None),
        (100, 1.0, None),
    ],
)
def test_few_familiar_images_are_doubted_with_what_is_known(count, tpr, words):
    with doubts(words):
        ODIN(small(), tpr=tpr).fit(images(count))


def test_what_is_known_of_the_accepted_share_holds():
    """Of thresholds set on n images at random, about 95 % accept a share of all others within the limits."""
    generator = np.random.default_rng(0)
    low, high = guards.accepted_share(60, 57)
    thresholds = np.sort(generator.random((2000, 60)), axis=1)[:, 3]  # accepts 57 of 60
    assert 0.93 < np.mean((1 - thresholds > low) & (1 - thresholds < high)) < 0.99


def test_an_epsilon_at_the_edge_of_the_grid_is_doubted():
    with doubts("still rises at the largest epsilon that was tried, 0.004.*nothing of foreign images"):
        ODIN(small()).fit(X, epsilons=[0, 0.002, 0.004])
    with doubts("still rises at the largest epsilon that was tried, 0.01"):
        ODIN(small()).fit(X, epsilons=np.array([0.01, 0.0]))  # in whatever order
    with doubts("best epsilon is the largest that was tried, 0.5"):
        ODIN(First(torch.relu)).fit(X, X * 0.01, [1000.0], [0.0, 0.5])


def test_an_epsilon_within_the_grid_is_not_doubted():
    with doubts(None):
        ODIN(small(), epsilon=0.5).fit(X)  # none was chosen
        ODIN(small()).fit(X, epsilons=0.004)
        ODIN(small()).fit(X, X**8, [1000.0], [0.0, 0.1])  # the smallest is as good


@pytest.mark.parametrize(
    ("precision", "epsilon", "words"),
    [
        (torch.bfloat16, 0.0014, r"in bfloat16, \d\d % of the pixels do not move by epsilon = 0.0014"),
        (torch.float16, 0.0001, "in float16"),
        (torch.float32, 1e-9, "in float32"),
        (torch.float16, 0.0014, None),
        (torch.float32, 1e-5, None),
        (torch.bfloat16, 0.0, None),
    ],
)
def test_an_epsilon_below_the_resolution_is_doubted(precision, epsilon, words):
    with doubts(words):
        ODIN(small().to(precision), epsilon=epsilon).fit(X)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (lambda x: (x * 255).round() / 255, r"gradient of 120 of 120 images \(100 %\) is zero everywhere"),
        (lambda x: x.floor(), "gradient of 120 of 120"),
        (lambda x: x * (x.mean((1, 2, 3), keepdim=True) > 0.5), r"gradient of \d\d of 120 images \([45]\d %\)"),
        (lambda x: x + 0 * (x * 0).sqrt(), "gradient of 120 of 120 images is NaN somewhere"),
    ],
)
def test_gradients_that_are_zero_everywhere_are_doubted_with_their_share(before, words):
    with doubts(words):
        detector = ODIN(First(before), epsilon=0.01).fit(X)
    with doubts(words):
        detector.predict(X)
    with doubts(None):
        ODIN(First(before), epsilon=0).fit(X)


def labelled(right):
    """Images with the labels that the network gives `right` of them, and others."""
    labels = small()(X).argmax(-1)
    labels[right:] = (labels[right:] + 1) % 4
    return DataLoader(TensorDataset(X, labels), 50)


def test_training_images_are_doubted_by_their_accuracy():
    with doubts(r"99.2 % of the 120 familiar images.*accuracy is 85.0 %: were they trained on"):
        ODIN(small(), epsilon=0).fit(labelled(119), accuracy=0.85)
    with doubts(None):
        ODIN(small(), epsilon=0).fit(labelled(105), accuracy=0.85)  # 87.5 %, as may be
        ODIN(small(), epsilon=0).fit(labelled(60), accuracy=0.85)
        ODIN(small(), epsilon=0).fit(X, accuracy=0.85)
    many = images(250)
    with doubts("all 250 familiar images are classified as labelled"):
        ODIN(small(), epsilon=0).fit(TensorDataset(many, small()(many).argmax(-1)))


def test_loaders_that_shuffle_or_leave_out_are_doubted():
    found = TensorDataset(X)
    with doubts("DataLoader shuffles"):
        ODIN(small()).fit(DataLoader(found, 30, shuffle=True))
    with doubts("leaves the last 20 images out"):
        ODIN(small()).fit(DataLoader(found, 50, drop_last=True))
    with doubts(None):
        ODIN(small()).fit(DataLoader(found, 30, drop_last=True))


# --- Normalisation ----------------------------------------------------------------------------------------------------

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ([123.675, 116.28, 103.53], STD, r"mean is .*divide it by 255: \[0.485, 0.456, 0.406\]"),
        (MEAN, [58.395, 57.12, 57.375], r"std is .*divide it by 255: \[0.229, 0.224, 0.225\]"),
        ([127.5], [127.5], "mean is .*divide it by 255"),
        (MEAN, [0.0, 0.1, 0.1], "std is"),
        (MEAN, [-0.2, 0.1, 0.1], "std is"),
        ([np.nan], [0.5], "mean is"),
        ([0.5, 0.5], [0.1, 0.1, 0.1], "one number per channel in both"),
        ([], [0.5], "mean is"),
        ("0.5", [0.5], "no array of numbers"),
    ],
)
def test_a_mean_or_std_that_cannot_be_meant_is_told(mean, std, words):
    with pytest.raises(UserError, match=words):
        own.Normalised(small(), mean, std)


def inner():
    from odinlib import networks

    return networks.build("mlp-8x1", classes=3, channels=3, size=8, mean=MEAN, std=STD, seed=0)


class Prepared(nn.Module):
    """A network with torchvision's normalisation as its first step."""

    def __init__(self):
        super().__init__()
        from torchvision.transforms import v2

        self.steps = nn.Sequential(v2.Normalize(MEAN, STD), small())

    def forward(self, x):
        return self.steps(x)


@pytest.mark.parametrize("make", [inner, Prepared, lambda: own.Normalised(small(), MEAN, STD)])
def test_nothing_is_normalised_twice(make):
    network = make().eval()
    with pytest.raises(UserError, match=r"normalises by itself.*its own, mean .*normalised twice"):
        own.Normalised(network, [0.5], [0.25])
    with doubts("used once"):
        once = own.Normalised(network, [0.48500000001, *MEAN[1:]], np.float32(STD))
    assert torch.equal(once(X), network(X))
    with doubts(None):
        assert torch.equal(own.Normalised(network, None, None)(X), network(X))


def test_a_normalisation_has_the_channels_of_the_images():
    with pytest.raises(UserError, match=r"\[3, 1, 8, 8\].*expected \[N, 3"):
        own.Normalised(small(), MEAN, STD)(images(3, channels=1))
    grey = own.Normalised(nn.Flatten(), [0.5], [0.25])
    assert torch.allclose(grey(X), (X.flatten(1) - 0.5) / 0.25)


class Processor:
    """As HuggingFace's image processors."""

    image_mean, image_std, size = MEAN, STD, {"height": 224, "width": 224}


def transforms():
    from torchvision import models
    from torchvision import transforms as old
    from torchvision.transforms import v2

    return {
        "weights": models.ResNet18_Weights.DEFAULT.transforms(),
        "compose": old.Compose([old.Resize(8), old.ToTensor(), old.Normalize(MEAN, STD)]),
        "nested": old.Compose([old.Compose([old.ToTensor()]), old.Compose([old.Normalize(MEAN, STD)])]),
        "version 2": v2.Compose([v2.ToImage(), v2.Normalize(MEAN, STD)]),
        "tensors": old.Normalize(torch.tensor(MEAN), torch.tensor(STD)),  # as timm makes it
        "configuration": {"input_size": (3, 224, 224), "mean": tuple(MEAN), "std": tuple(STD)},
        "processor": Processor(),
        "module": nn.Sequential(old.Resize(8), old.Normalize(MEAN, STD)),
    }


@pytest.mark.parametrize(
    "kind", ["weights", "compose", "nested", "version 2", "tensors", "configuration", "processor", "module"]
)
def test_a_models_own_preprocessing_is_read(kind):
    found = own.Normalised.from_transforms(small(), transforms()[kind])
    assert torch.equal(found(X), own.Normalised(small(), MEAN, STD)(X))


@pytest.mark.parametrize("without", [None, [], {}, nn.Identity(), {"mean": None, "std": None}, "imagenet"])
def test_preprocessing_without_a_normalisation_is_told(without):
    with pytest.raises(UserError, match="no normalisation"):
        own.Normalised.from_transforms(small(), without)

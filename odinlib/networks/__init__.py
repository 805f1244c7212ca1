"""The paper's networks and their smaller relatives, built by name."""

import re
from collections.abc import Callable, Sequence

import torch

from odinlib.errors import UserError
from odinlib.networks.classifier import Classifier
from odinlib.networks.densenet import DenseNet
from odinlib.networks.mlp import MLP
from odinlib.networks.wideresnet import WideResNet

__all__ = ["MLP", "Classifier", "DenseNet", "WideResNet", "build", "check_name", "family_of"]

_NUMBER = "(0|[1-9][0-9]{0,3})"
#: The families: how a name is spelt, what it builds, and an example.
_FAMILIES: dict[str, tuple[str, Callable[..., Classifier], str]] = {
    "densenet-bc": (rf"densenet-bc-{_NUMBER}-{_NUMBER}", DenseNet, "densenet-bc-100-12"),
    "wrn": (rf"wrn-{_NUMBER}-{_NUMBER}", WideResNet, "wrn-28-10"),
    "mlp": (rf"mlp-{_NUMBER}x{_NUMBER}", MLP, "mlp-256x3"),
}
#: The least and the largest of each number: beyond, a slip would take the machine's memory, or for ever.
_BOUNDS = {"classes": (2, 10**6), "channels": (1, 1024), "size": (1, 4096)}


def build(
    name: str,
    classes: int,
    channels: int = 3,
    size: int = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
) -> Classifier:
    """A network with fresh weights, by its name.

    Args:
        name: `densenet-bc-<depth>-<growth>`, `wrn-<depth>-<width>` or `mlp-<width>x<layers>`.
        classes: the number of logits, at least 2.
        channels: of the images.
        size: height and width of the images to train on, in pixels. An MLP takes no others; the convolutional families
            do, and see of their last maps as much as there is of such an image (`classifier.pooled`).
        mean, std: per channel, in pixel units of [0, 1]; none: 0 and 1, that is, no normalisation.
        seed: equal seeds give equal weights, and PyTorch's own generator is left as it was; none: draw
            from that.

    Returns:
        A network from images [N, channels, H, W] in [0, 1] to logits [N, classes], in training mode.

    Raises:
        UserError: no such network, or it cannot have that depth, or the numbers make no sense.

    >>> network = build("densenet-bc-100-12", classes=10, seed=0)
    >>> sum(p.numel() for p in network.parameters())
    769162
    """
    check_name(name)
    for what, value in (("classes", classes), ("channels", channels), ("size", size)):
        least, most = _BOUNDS[what]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise UserError(f"{what} is {value!r}", expected=f"a whole number from {least} to {most}")
    family = family_of(name)
    pattern, kind, _ = _FAMILIES[family]
    if family == "densenet-bc" and size < 4:
        raise UserError(f"size is {size}", expected="at least 4 for a DenseNet, which halves it twice")
    first, second = (int(number) for number in re.fullmatch(pattern, name).groups())  # type: ignore[union-attr]
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return kind(first, second, classes=classes, channels=channels, size=size, mean=mean, std=std)


def family_of(name: str) -> str:
    """The family of a network's name: `densenet-bc`, `wrn` or `mlp`.

    >>> family_of("wrn-40-4")
    'wrn'
    """
    for family, (pattern, _, _) in _FAMILIES.items():
        if re.fullmatch(pattern, str(name)):
            return family
    known = "densenet-bc-<depth>-<growth>, wrn-<depth>-<width> or mlp-<width>x<layers>, of numbers to 9999"
    start = str(name).lower()[:3]
    near = [example for family, (_, _, example) in _FAMILIES.items() if family.startswith(start or "-")]
    raise UserError(f"network is {name!r}", expected=known, remedy=f"such as {near[0]}" if near else None)


def check_name(name: str) -> str:
    """Return `name` if :func:`build` can build it, else raise :class:`UserError`. Nothing is built.

    >>> check_name("wrn-9-1")
    Traceback (most recent call last):
    odinlib.errors.UserError: network 'wrn-9-1' has depth 9; expected 6 n + 4 from 10; the nearest is wrn-10-1
    """
    family = family_of(name)
    first, second = (int(number) for number in re.findall(r"\d+", name))
    if family != "mlp" and (first < 10 or (first - 4) % 6):
        depth = 4 + 6 * max(1, round((first - 4) / 6))
        raise UserError(
            f"network {name!r} has depth {first}",
            expected="6 n + 4 from 10",
            remedy=f"the nearest is {family}-{depth}-{max(second, 1)}",
        )
    if family != "mlp" and max(first, second) > 1000:
        raise UserError(f"network {name!r} is larger than any is", expected="numbers to 1000")
    if not first or not second:
        raise UserError(f"network {name!r} has a 0", expected="numbers from 1")
    return name

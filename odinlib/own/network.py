"""A user's own network as a module that `odinlib.odin` takes: images in [0, 1] to logits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from odinlib import devices
from odinlib.errors import UserError
from odinlib.own.guards import doubt

Numbers = Sequence[float] | np.ndarray | Tensor | float


def as_module(network: Any) -> nn.Module:
    """A network as a module: modules as they are, exported programs and functions of images in one.

    Raises:
        UserError: it is no network, or one without numbers (on the meta device).
    """
    if isinstance(network, type):
        raise UserError(
            f"network is the class {network.__name__}", expected=f"one of its kind: {network.__name__}(...)"
        )
    if isinstance(network, torch.export.ExportedProgram) or _is_exported(network):
        network = Exported(network)
    if not isinstance(network, nn.Module):
        if not callable(network):
            kind = "a path" if isinstance(network, str) or hasattr(network, "__fspath__") else type(network).__name__
            kind = "a state dict" if isinstance(network, Mapping) else kind
            remedy = "build the network, and give it its weights by load_state_dict; own.load_network reads a file"
            raise UserError(f"network is {kind}", expected="a torch.nn.Module or an exported program", remedy=remedy)
        network = _Function(network)
    for name, weight in (*network.named_parameters(), *network.named_buffers()):
        if weight.is_meta and not _has_numbers(weight):
            remedy = "load its weights: load_state_dict(..., assign=True), or build it outside torch.device('meta')"
            raise UserError(f"the network's {name} is on the meta device, without numbers", remedy=remedy)
    return network


def _is_exported(network: Any) -> bool:
    """Whether this is the module of an exported program, which knows the shape of what it takes."""
    if not isinstance(network, torch.fx.GraphModule):
        return False
    return any("val" in node.meta for node in network.graph.nodes if node.op == "placeholder")


def _has_numbers(tensor: Tensor) -> bool:
    """Whether a tensor that says to lie on the meta device can be read all the same."""
    try:
        tensor.detach().flatten()[:1].tolist()
    except (RuntimeError, NotImplementedError):
        return False
    return True


class _Function(nn.Module):
    """A function of images as a module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        owner = getattr(function, "__self__", None)  # of a method, like `network.forward`
        if isinstance(owner, nn.Module):
            self.owner = owner

    def forward(self, images: Tensor) -> Any:
        return self.function(images)


class Exported(nn.Module):
    """An exported program as a module. Its mode was fixed when it was exported, so `eval` leaves it as it is.

    Args:
        program: what `torch.export` gave, or the module of it.
    """

    def __init__(self, program: torch.export.ExportedProgram | torch.fx.GraphModule) -> None:
        super().__init__()
        self.program = program.module() if isinstance(program, torch.export.ExportedProgram) else program

    def forward(self, images: Tensor) -> Any:
        """What the program gives for `images`."""
        return self.program(images)

    def train(self, mode: bool = True) -> "Exported":
        """Leaves it as it is."""
        return self

    @property
    def batch(self) -> tuple[int, int | None]:
        """How many images it takes at least and at most in a pass (the same, of a fixed batch size); none: any."""
        first = next((node.meta.get("val") for node in self.program.graph.nodes if node.op == "placeholder"), None)
        if not isinstance(first, Tensor) or not first.ndim:
            return 0, None
        size = first.shape[0]
        if isinstance(size, int):
            return size, size
        bounds = size.node.shape_env.bound_sympy(size.node.expr)
        return int(bounds.lower), None if bounds.upper > 2**31 else int(bounds.upper)


class Normalised(nn.Module):
    """A network that takes images in [0, 1], around one that takes normalised images.

    Args:
        network: from (x - mean) / std [N, C, H, W] to logits [N, K].
        mean, std: per channel or one for all, in pixel units of [0, 1]; none: 0 and 1.

    Raises:
        UserError: they are no such numbers, or the network has another normalisation inside already. One that has the
            same inside is not normalised twice, and a :class:`odinlib.own.Doubt` says so.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, mean: Numbers | None, std: Numbers | None) -> None:
        super().__init__()
        means, stds = _statistics("mean", mean, 0.0), _statistics("std", std, 1.0)
        network = as_module(network)
        inside = normalisation(network)
        if inside is not None and (means, stds) != ([0.0], [1.0]):
            if not _same(inside, (means, stds)):
                raise UserError(
                    f"mean {means} and std {stds} are given for a network that normalises by itself",
                    expected=f"its own, mean {inside[0]} and std {inside[1]}",
                    remedy="give no mean and std: images would be normalised twice",
                )
            doubt("the network normalises by itself, with the mean and std that are given: they are used once")
            means, stds = [0.0], [1.0]
        self.network = network
        self.register_buffer("mean", torch.tensor(means, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(stds, dtype=torch.float32).view(1, -1, 1, 1))
        if len({len(values) for values in (means, stds)} - {1}) > 1:
            raise UserError(f"mean is {means} and std is {stds}", expected="one number per channel in both")
        self.training = network.training

    @classmethod
    def from_transforms(cls, network: Any, transforms: Any) -> "Normalised":
        """With the mean and std that a model's own preprocessing subtracts and divides by.

        Args:
            network: of normalised images.
            transforms: torchvision's (`weights.transforms()`, a `Compose`, a `Normalize`), timm's data configuration
                or transform, or a HuggingFace image processor. Their resizing and cropping is left to who reads images.

        Raises:
            UserError: there is no normalisation in it.
        """
        found = _stated(transforms)
        if found is None:
            what = f"there is no normalisation in {type(transforms).__name__}"
            raise UserError(what, expected="a Normalize among the transforms", remedy="give mean and std themselves")
        return cls(network, *found)

    def forward(self, images: Tensor) -> Any:
        """Logits [N, K] of images [N, C, H, W] in [0, 1], which are normalised in float32 at least."""
        return self.network(self.normalised(images))

    def normalised(self, images: Tensor) -> Tensor:
        """What the network inside gets, in its precision."""
        channels = max(self.mean.shape[1], self.std.shape[1])
        if images.ndim != 4 or channels not in (1, images.shape[1]):
            expected = f"[N, {channels}, height, width], as mean and std have it"
            raise UserError(f"the images are of shape {list(images.shape)}", expected=expected)
        exact = torch.promote_types(images.dtype, torch.float32)
        normalised = (images.to(exact) - self.mean.to(exact)) / self.std.to(exact)
        inside = (*self.network.parameters(), *self.network.buffers())
        takes = next((x.dtype for x in inside if x.dtype in (torch.half, torch.bfloat16, torch.double)), exact)
        return normalised.to(takes)


def normalisation(network: nn.Module) -> tuple[list[float], list[float]] | None:
    """The mean and std of the normalisation inside a network; none: no module in it has both."""
    for module in network.modules():
        found = _stated(module)
        if found is not None and found != ([0.0] * len(found[0]), [1.0] * len(found[1])):
            return found
    return None


def _stated(transforms: Any) -> tuple[list[float], list[float]] | None:
    """The mean and std that an object names, or one of its parts does."""
    for names in (("mean", "std"), ("image_mean", "image_std")):
        if isinstance(transforms, Mapping):
            values: list[Any] = [transforms.get(name) for name in names]
        else:
            values = [getattr(transforms, name, None) for name in names]
        if all(isinstance(value, Tensor | Sequence | np.ndarray) and not isinstance(value, str) for value in values):
            mean, std = ([float(number) for number in np.ravel(value)] for value in values)
            return (mean, std) if mean and std else None
    parts = (
        transforms if isinstance(transforms, list | tuple | nn.Sequential) else getattr(transforms, "transforms", ())
    )
    return next((found for found in map(_stated, parts) if found is not None), None)


def _statistics(name: str, values: Numbers | None, default: float) -> list[float]:
    numbers = [default] if values is None else [float(value) for value in devices.tensor(values).flatten()]
    wanted = "numbers above 0 and at most 1" if name == "std" else "numbers from -1 to 1"
    right = all((0 < value <= 1) if name == "std" else abs(value) <= 1 for value in numbers)
    if not numbers or not right:
        bytes_ = all(1 < abs(value) <= 255 for value in numbers)
        remedy = f"divide it by 255: {[round(value / 255, 4) for value in numbers]}" if numbers and bytes_ else None
        what = f"{name} is {[round(value, 6) for value in numbers]}"
        raise UserError(what, expected=f"{wanted}, in units of pixels in [0, 1]", remedy=remedy)
    return numbers


def _same(a: tuple[list[float], list[float]], b: tuple[list[float], list[float]]) -> bool:
    """Whether two normalisations are the same, to the digits that float32 and a card keep."""
    for x, y in zip(a, b, strict=True):
        wide = max(len(x), len(y))
        x, y = (values * wide if len(values) == 1 else values for values in (x, y))
        if len(x) != len(y) or not np.allclose(x, y, rtol=1e-5, atol=1e-7):
            return False
    return True

"""Any network as one from images in [0, 1] to checked logits: what `odinlib.odin` may take for granted.

People's networks return tuples, dictionaries and model outputs, are compiled, exported for one batch size, scripted or
quantised, lie in half precision, begin with an operation in place, are in training mode, and are called inside
`autocast` or `inference_mode`. All of that ends here.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from odinlib import devices
from odinlib.errors import UserError
from odinlib.networks.classifier import log_score_gradients
from odinlib.own.network import Exported, Normalised, as_module

Gradients = Callable[[Tensor, Sequence[float]], tuple[list[Tensor], Tensor]]

_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def adapt(network: Any, output: str | int | None = None, binary: bool = False) -> "Adapted":
    """A network, whatever kind it is, as a module from images [N, C, H, W] in [0, 1] to logits [N, K].

    Args:
        network: a module (compiled, scripted and quantised ones too), an exported program, or a function of images.
        output: where it gives several things, the name or the place of the logits among them.
        binary: it gives one logit z for each image, [N] or [N, 1], which counts as the two logits [0, z].

    Raises:
        UserError: it is no network, or one without numbers (on the meta device).
    """
    if isinstance(network, Adapted):
        return network
    return Adapted(as_module(network), output, binary)


class Adapted(nn.Module):
    """Around a network of any kind: images [N, C, H, W] in [0, 1] to logits [N, K], with all that goes wrong told.

    Args:
        network, output, binary: as for `adapt`.
    """

    def __init__(self, network: nn.Module, output: str | int | None = None, binary: bool = False) -> None:
        super().__init__()
        self.network, self.output, self.binary = network, output, binary
        self.training = network.training
        self.classes: int | None = None  #: K, known from the first pass on
        #: Images whose gradient was asked for, those where it is 0 everywhere, and those where it is NaN somewhere.
        self.asked = self.still = self.broken = 0
        self._differentiable = False

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] in float32 or float64; the images themselves are never changed.

        Raises:
            UserError: the network cannot take such images, or what it gives are not logits, one row an image.
        """
        scales: list[Tensor] = []  # of gradients in half precision, handed from the last step back to the first
        entered = _Enter.apply(images, self.dtype or images.dtype, self, scales)
        logits = self._logits(self._run(entered), images)
        if entered.requires_grad and not (self._differentiable or _depends(logits, entered)):
            raise UserError(
                "the network's outputs have no gradient with respect to the images",
                expected="a differentiable network; forward under no_grad, detach and quantised layers have none",
                remedy="take that out of it, or use epsilon = 0",
            )
        self._differentiable |= entered.requires_grad
        if logits.dtype == torch.float16:
            return _Leave.apply(logits, scales)
        return logits.float() if logits.dtype == torch.bfloat16 else logits

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision that the network's first layer takes images in; none: nothing of it has one, and any may do."""
        network = self.network
        tensors = (*network.parameters(), *network.buffers())
        found = next((tensor.dtype for tensor in tensors if tensor.dtype in _PRECISIONS), None)
        # A normalisation in front rounds to the precision of what is behind it only after it has normalised.
        low = isinstance(network, Normalised) and found in (torch.float16, torch.bfloat16)
        return torch.float32 if low else found

    @property
    def images_per_pass(self) -> int | None:
        """How many images the network itself wants together; none: it does not say."""
        return getattr(self.network, "images_per_pass", None)

    @property
    def input_gradients(self) -> Gradients | None:
        """The network's own way to its input gradients; or none, where `odin.input_gradients` goes the usual one."""
        if getattr(self.network, "input_gradients", None) is not None:
            return self._gradients_of_its_own
        return self._gradients_one_by_one if self._compiled() else None

    def _gradients_of_its_own(self, images: Tensor, temperatures: Sequence[float]) -> tuple[list[Tensor], Tensor]:
        theirs: Any = self.network.input_gradients
        gradients, logits = theirs(images.to(self.dtype or images.dtype), temperatures)
        for gradient in gradients:
            self._count(gradient)
        return gradients, logits

    def _gradients_one_by_one(self, images: Tensor, temperatures: Sequence[float]) -> tuple[list[Tensor], Tensor]:
        # A compiled network gives the memory of its graph away in its first backward pass: each needs one of its own.
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            gradients: list[Tensor] = []
            for temperature in temperatures:
                logits = self(images)
                towards = log_score_gradients(logits.detach(), [temperature])[0]
                gradients += torch.autograd.grad(logits, images, towards)
        return gradients, logits.detach()

    def _compiled(self) -> bool:
        """Whether it or a part of it went through `torch.compile`."""
        return any(
            "_orig_mod" in module._modules
            or getattr(module, "_compiled_call_impl", None) is not None
            or hasattr(getattr(module, "function", None), "_torchdynamo_orig_callable")
            for module in self.network.modules()
        )

    def _count(self, gradient: Tensor) -> None:
        if len(gradient):
            self.asked += len(gradient)
            self.still += int((gradient.flatten(1) == 0).all(1).sum())
            self.broken += int(gradient.flatten(1).isnan().any(1).sum())

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """While this lasts, the network is in evaluation mode, and nothing around the call reaches its arithmetic.

        That is: no `autocast` or `inference_mode` of the caller's, float32 products in full precision, and the usual
        default precision and device. All is put back after it.
        """
        where = devices.of(self)
        kinds = [kind for kind in {"cpu", where.type} if torch.amp.is_autocast_available(kind)]
        in_training = [module for module in self.network.modules() if getattr(module, "training", False)]
        default, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            for kind in kinds:
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            try:
                if in_training:
                    with contextlib.suppress(NotImplementedError):  # an exported graph, whose mode is fixed
                        self.network.eval()
                if self.dtype is not None:
                    torch.set_default_dtype(torch.float64 if self.dtype == torch.float64 else torch.float32)
                if precision != "highest":
                    torch.set_float32_matmul_precision("highest")
                yield
            finally:
                for module in in_training:
                    module.training = True
                torch.set_default_dtype(default)
                if precision != "highest":
                    torch.set_float32_matmul_precision(precision)

    def examine(self, images: Tensor) -> Tensor:
        """The logits of some images, after looking whether they are the images' own: the same again, and alone.

        Raises:
            UserError: the network is not deterministic, or an image's logits depend on what is beside it.
        """
        with torch.no_grad():
            logits = devices.double(self(images))
            finite = torch.isfinite(logits)
            size = logits[finite].abs().max().item() if finite.any() else 0.0
            allowed = size * max(1e-4, 8 * self._resolution())
            moved = _furthest(devices.double(self(images)), logits)
            if moved > allowed:
                raise UserError(
                    f"the network gives other outputs for the same images the second time (by {moved:.3g})",
                    expected="a deterministic network",
                    remedy="take its dropout, or whatever else is random in it, out; it was put in evaluation mode",
                )
            first = images[:1]
            beside = torch.cat([first, (1 - first).flip(-1), torch.zeros_like(first), torch.ones_like(first)])
            moved = max(_furthest(devices.double(self(part))[:1], logits[:1]) for part in (first, beside))
            if moved > allowed:
                raise UserError(
                    f"the network's outputs for an image depend on the images beside it (by {moved:.3g})",
                    expected="a network in evaluation mode",
                    remedy="where its batch normalisation uses the batch's statistics: have it track them",
                )
        return logits

    def _resolution(self) -> float:
        """The relative rounding of its coarsest part; 8 bits of a quantised one."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        found = [torch.finfo(tensor.dtype).eps for tensor in tensors if tensor.dtype in _PRECISIONS]
        quantised = any("quantiz" in type(module).__module__ for module in self.network.modules())
        return max([*found, 2**-8 if quantised else 0.0])

    def seen(self, images: Tensor) -> Tensor:
        """What the network's first layer gets of images, in its precision."""
        if isinstance(self.network, Normalised):
            return self.network.normalised(images.to(devices.of(self)))
        return images.to(self.dtype or images.dtype)

    def _run(self, images: Tensor) -> Any:
        """What the network gives, in parts that it takes; a part that is too small is filled up with its last image."""
        least, most = next((part.batch for part in self.network.modules() if isinstance(part, Exported)), (0, None))
        if not len(images) or (least <= len(images) and (most is None or len(images) <= most)):
            return self._call(images)
        parts = []
        for part in images.split(most or len(images)):
            more = part[-1:].expand(max(0, least - len(part)), *part.shape[1:])
            parts.append(self._logits(self._call(torch.cat([part, more])), torch.cat([part, more]))[: len(part)])
        return torch.cat(parts)

    def _call(self, images: Tensor) -> Any:
        try:
            found = self.network(images)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a foreign network raises
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            what = f"the network does not take images of shape {list(images.shape)} ({why})"
            grey = images.ndim == 4 and images.shape[1] == 1 and self.channels() == 3
            remedy = "give grey images three equal channels: images.expand(-1, 3, -1, -1)" if grey else None
            raise UserError(what, expected=self._wanted(images), remedy=remedy) from error
        if isinstance(found, nn.Module):
            raise UserError("network is a function that builds a network", expected="what it builds: call it")
        return found.clone() if isinstance(found, Tensor) and self._compiled() else found  # a graph's memory is reused

    def _wanted(self, images: Tensor) -> str:
        channels = self.channels()
        if channels is None or images.ndim != 4 or images.shape[1] == channels:
            return "images of the size that it was made for"
        order = ", the channels before height and width" if images.shape[-1] == channels else ""
        return f"[N, {channels}, height, width]{order}"

    def channels(self) -> int | None:
        """How many channels its first convolution takes; none, where it has none."""
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d):
                return module.in_channels
        return None

    def _logits(self, found: Any, images: Tensor) -> Tensor:
        """The logits [N, K] among what the network gave for N images."""
        count, tensors = len(images), dict(_tensors(found))
        if self.output is not None:
            named = {path: tensor for path, tensor in tensors.items() if self.output in (path[-1:] or ("",))} or {
                path: tensor for path, tensor in tensors.items() if self.output in path
            }
            if not named:
                told = f"output is {self.output!r}, and the network gives no such tensor"
                raise UserError(told, expected=f"one of {_told(tensors)}")
            tensors = named
        if self.binary:
            fitting = {p: t.reshape(count, 1) for p, t in tensors.items() if t.shape in ((count,), (count, 1))}
        else:
            fitting = {p: t for p, t in tensors.items() if t.ndim == 2 and len(t) == count and t.shape[1] > 1}
            if count == 1 and self.classes:  # `squeeze` in a network takes away the one image's own dimension
                fitting |= {p: t[None] for p, t in tensors.items() if t.shape == (self.classes,)}
        fitting = {path: tensor for path, tensor in fitting.items() if tensor.is_floating_point()}
        if len(fitting) > 1:
            fitting = {path: tensor for path, tensor in fitting.items() if path and path[-1] == "logits"} or fitting
        if len(fitting) != 1:
            raise self._not_logits(tensors, fitting, count)
        logits = next(iter(fitting.values()))
        if self.binary:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        if count:
            if self.classes not in (None, logits.shape[1]):
                raise UserError(f"the network gives {logits.shape[1]} outputs", expected=f"{self.classes}, as before")
            self.classes = logits.shape[1]
        return logits

    def _not_logits(self, tensors: Mapping[Any, Tensor], fitting: Mapping[Any, Tensor], count: int) -> UserError:
        if fitting:
            names = " or ".join(repr(path[-1]) for path in fitting)
            what = f"the network gives several outputs for {count} images: {_told(fitting)}"
            return UserError(what, expected="one of them to be the logits", remedy=f"say which: output={names}")
        remedy = None
        if any(tensor.shape in ((count,), (count, 1)) for tensor in tensors.values()) and not self.binary:
            remedy = "of a network with one logit z, binary=True makes the two logits 0 and z"
        named = "" if self.output is None else f" as {self.output!r}"
        expected = f"logits [{count}, 1]" if self.binary else f"logits [{count}, K] of at least two classes"
        return UserError(
            f"the network gives {_told(tensors)}{named} for {count} images", expected=expected, remedy=remedy
        )


class _Enter(torch.autograd.Function):
    """The way in: a copy of the images, in the network's precision. Back: the gradient in the images' precision."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, dtype: torch.dtype, adapted: Adapted, scales: list[Tensor]) -> Tensor:
        ctx.dtype, ctx.adapted, ctx.scales = images.dtype, adapted, scales
        return images.to(dtype, copy=True, memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0].to(ctx.dtype)
        if ctx.scales:
            gradient = gradient / ctx.scales[-1].view(-1, *[1] * (gradient.ndim - 1)).to(ctx.dtype)
        ctx.adapted._count(gradient)
        return gradient, None, None, None


class _Leave(torch.autograd.Function):
    """The way out of float16: logits in float32. Back: the gradient of each image made as large as 1 first.

    Divided by T, gradients fall below the least number of float16; only their signs matter, and a power of 2 for each
    image changes none.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, scales: list[Tensor]) -> Tensor:
        ctx.scales = scales
        return logits.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0]
        largest = gradient.abs().amax(-1, keepdim=True)
        scale = torch.where(largest > 0, torch.exp2(-largest.log2().floor()), torch.ones_like(largest))
        ctx.scales.append(scale)
        return (gradient * scale).half(), None


def _furthest(found: Tensor, expected: Tensor) -> float:
    """The largest difference; infinite where one of both is finite alone."""
    same = (found == expected) | (found.isnan() & expected.isnan())
    moved = torch.where(same, 0.0, (found - expected).abs()).nan_to_num(nan=float("inf"))
    return moved.max().item() if moved.numel() else 0.0


def _depends(logits: Tensor, images: Tensor) -> bool:
    """Whether PyTorch's graph of the logits leads back to the images."""
    ahead, known = [logits.grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node is images.grad_fn:
            return True
        if node is not None and node not in known:
            known.add(node)
            ahead += [further for further, _ in node.next_functions]
    return False


def _tensors(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Every tensor in what a network gave, with the names and places that lead to it."""
    if isinstance(found, Tensor):
        yield path, found
    elif isinstance(found, Mapping):
        for name, value in found.items():
            yield from _tensors(value, (*path, name))
    elif isinstance(found, tuple | list):
        for name, value in zip(getattr(found, "_fields", range(len(found))), found, strict=True):
            yield from _tensors(value, (*path, name))
    elif len(path) < 4 and not isinstance(found, nn.Module) and hasattr(found, "__dict__"):
        for name, value in vars(found).items():
            yield from _tensors(value, (*path, name))


def _told(found: Mapping[Any, Tensor]) -> str:
    """The first few tensors of what a network gave, by name and shape."""
    names = [(".".join(map(str, path)), tensor) for path, tensor in found.items()]
    return ", ".join(f"{name} {_kind(tensor)}".strip() for name, tensor in names[:6]) or "no tensor"


def _kind(tensor: Tensor) -> str:
    return str(list(tensor.shape)) + ("" if tensor.is_floating_point() else f" of {tensor.dtype}")

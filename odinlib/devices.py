"""Where networks run, and what differs from place to place: the CPU, NVIDIA's GPUs (CUDA) and Apple's (MPS)."""

from __future__ import annotations  # so that help() shows types by their names

import contextlib
import re
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from odinlib.errors import UserError, check_choice

DEVICES = ("auto", "cuda", "mps", "cpu")
#: What a network may be asked in, and of what its passes without gradients are then; see `networks.fast.fast`.
PRECISIONS = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
#: cuDNN's kernels: those that give the same bits every time, or those that it measures to be the fastest.
KERNELS = ("exact", "fastest")
_WITHOUT_FLOAT64 = {"mps"}


def device(choice: str | torch.device = "auto") -> torch.device:
    """The device of that name; `auto` is CUDA, then MPS, then the CPU, whichever is there first.

    >>> device("cpu")
    device(type='cpu')
    """
    if isinstance(choice, torch.device):
        return choice
    name, colon, number = choice.partition(":")
    check_choice("device", name, DEVICES)
    if colon and not (name in ("cuda", "mps", "cpu") and re.fullmatch(r"\d{1,3}", number)):
        raise UserError(f"device is {choice!r}", expected="such as cuda:0")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if choice == "auto":
        return torch.device(next(name for name in DEVICES if there.get(name)))
    if not there[name] or (colon and int(number) >= (torch.cuda.device_count() if name == "cuda" else 1)):
        raise UserError(f"device {choice} is not on this machine", remedy="choose auto")
    return torch.device(choice)


def of(network: nn.Module) -> torch.device:
    """The device that a network lies on; the CPU, if nothing of it lies anywhere."""
    return next((tensor.device for tensor in (*network.parameters(), *network.buffers())), torch.device("cpu"))


def has_float64(where: torch.device) -> bool:
    """Whether the device can compute in float64."""
    return where.type not in _WITHOUT_FLOAT64


def tensor(x: Tensor | ArrayLike) -> Tensor:
    """Numbers of any kind as a tensor: arrays in any byte order and layout (reversed views, say), lists, numbers.

    Raises:
        UserError: what is given is no array of numbers.

    >>> tensor(np.arange(3, dtype=">i2")[::-1])
    tensor([2, 1, 0], dtype=torch.int16)
    """
    if isinstance(x, Tensor):
        return x
    try:
        array = np.asarray(x)
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True, ndmin=0))
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"{type(x).__name__} is no array of numbers ({error})"
        raise UserError(what, expected="a tensor, a NumPy array or a list of numbers") from error


def usable(images: Tensor) -> Tensor:
    """`images`, or a copy where they were made under `inference_mode`, for nothing is differentiated by those."""
    return images.clone() if images.is_inference() else images


def double(x: Tensor | ArrayLike) -> Tensor:
    """`x` in float64, on its own device, or on the CPU where that one has no float64; arrays as `tensor` takes them."""
    x = tensor(x)
    if x.is_complex():
        raise UserError(f"the numbers are {x.dtype}", expected="real ones")
    return (x if has_float64(x.device) else x.cpu()).double()


def images_per_pass(where: torch.device) -> int:
    """How many images to give a network together: few enough for a CPU's cache, enough for a GPU to be busy.

    >>> images_per_pass(torch.device("cpu"))
    32
    """
    return 32 if where.type == "cpu" else 256


def exact(where: torch.device) -> contextlib.AbstractContextManager[None]:
    """While this lasts: float32 that is float32, and the same bits every time.

    It matters on CUDA, where PyTorch lets cuDNN round the factors of a convolution to 10 bits (TF32) unless told
    otherwise: that is coarser than many of ODIN's perturbations.
    """
    return arithmetic(where)


@contextlib.contextmanager
def arithmetic(where: torch.device, *, tf32: bool = False, fastest: bool = False) -> Iterator[None]:
    """While this lasts, on CUDA: how products of float32 are computed. Elsewhere nothing changes.

    Args:
        where: the device.
        tf32: factors are rounded to 10 bits, which tensor cores multiply several times as fast.
        fastest: cuDNN tries its kernels once for each shape and takes the fastest, which need not give the same bits
            twice; else only kernels that do.
    """
    if where.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    with torch.backends.cudnn.flags(enabled=True, benchmark=fastest, deterministic=not fastest, allow_tf32=tf32):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """The matrix product x W^T, plus a bias, and a ReLU if asked for: [..., in] by [out, in] to [..., out].

    On a CPU by oneDNN: on processors not of its maker's, the library that `F.linear` calls for float32 leaves half of
    the vector unit idle (105 against 230 GFLOP/s on one core of a Zen 5). oneDNN also applies the ReLU on the way.
    """
    if x.device.type != "cpu" or _ONEDNN is None or x.dtype == torch.float16:  # of which it has a product on few CPUs
        found = F.linear(x, weight, None if bias is None else bias.to(x.dtype))
        return found.relu_() if relu else found
    flat: Tensor = _ONEDNN(x.reshape(-1, x.shape[-1]), weight, bias, "relu" if relu else "none", [], "")
    return flat.view(*x.shape[:-1], -1)


def _onednn() -> Callable[..., Tensor] | None:
    """The product that `torch.compile` calls on CPUs, or none where this PyTorch is built without it."""
    found: Callable[..., Tensor] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    try:
        return found if found and found(torch.ones(1, 1), torch.ones(1, 1), None, "none", [], "").item() else None
    except (RuntimeError, NotImplementedError):
        return None


_ONEDNN = _onednn()

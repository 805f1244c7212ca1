"""A second device, emulated: its numbers are real and computed on the CPU, but do not meet the CPU's.

Where there is no GPU, this finds what would fail on one: tensors of two devices in one operation, a tensor taken to
NumPy without a way back to the CPU, and, as on Apple's GPUs, float64. Half precision rounds as it does anywhere; speed,
and what tensor cores round, it cannot tell.
The device is called `meta`, as PyTorch has no other name that needs no hardware and takes part in autograd.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"
_INDEXED = {"index", "index_put_", "_index_put_impl_"}  # what lies on the device may be indexed from the CPU


class OnDevice(torch.Tensor):
    """A tensor on the emulated device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=NAME
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"OnDevice({self.inner})"

    # As on any device: a wait and a copy, except for NumPy, which is not given one.

    def item(self) -> Any:
        return self.inner.item()

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self) -> Any:
        raise TypeError(f"can't convert {NAME} device type tensor to numpy")

    def __bool__(self) -> bool:
        return bool(self.inner)

    def __int__(self) -> int:
        return int(self.inner)

    def __float__(self) -> float:
        return float(self.inner)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, float64=True)


class _Emulation(TorchDispatchMode):
    def __init__(self, float64: bool) -> None:
        super().__init__()
        self.float64 = float64

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.float64)


class _Functions(TorchFunctionMode):
    """What no dispatch sees: tensors from Python's numbers and NumPy's arrays, and `torch.autocast`."""

    #: What convolutions and products are computed in, as asked for by each `autocast` that is in force.
    lower: ClassVar[list[torch.dtype | None]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.conv2d, torch.nn.functional.linear) and self.lower and self.lower[-1]:
            args, kwargs = tree_map(lambda x: _lowered(x, self.lower[-1]), (args, kwargs))
        if func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu").type == NAME:
            return func(*args, **{**kwargs, "device": None}).to(NAME)
        return func(*args, **kwargs)


def _lowered(x: Any, dtype: Any) -> Any:
    return x.to(dtype) if isinstance(x, OnDevice) and x.is_floating_point() else x


_AUTOCAST = torch.autocast


@contextlib.contextmanager
def _autocast(kind: str, dtype: torch.dtype | None = None, enabled: bool = True) -> Iterator[None]:
    if kind != NAME:
        with _AUTOCAST(kind, dtype, enabled):
            yield
        return
    _Functions.lower.append(dtype if enabled else None)
    try:
        yield
    finally:
        _Functions.lower.pop()


def _run(func: Any, args: Any, kwargs: dict[str, Any], float64: bool) -> Any:
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    there = [x for x in tensors if isinstance(x, OnDevice)]
    here = [x for x in tensors if not isinstance(x, OnDevice) and x.ndim]
    name = func.name().partition("::")[2].partition(".")[0]
    first_there = bool(args) and isinstance(args[0], OnDevice)
    if there and here and name != "copy_" and not (name in _INDEXED and first_there):
        raise RuntimeError(f"{name}: expected all tensors on the same device, but found at least two, {NAME} and cpu")
    asked = kwargs.get("device")
    on_device = bool(there) if asked is None else torch.device(asked).type == NAME
    if name == "copy_":
        on_device = first_there
    if asked is not None:
        kwargs = {**kwargs, "device": "cpu"}
    known = {id(x.inner): x for x in there}

    def inside(x: Any) -> Any:
        return x.inner if isinstance(x, OnDevice) else x

    def outside(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not on_device:
            return x
        if x.dtype == torch.float64 and not float64:
            raise TypeError(f"{name}: this device has no float64")
        return known[id(x)] if id(x) in known else OnDevice(x)

    return tree_map(outside, func(*tree_map(inside, args), **tree_map(inside, kwargs)))


@contextlib.contextmanager
def emulated(patch: pytest.MonkeyPatch, *, float64: bool = True) -> Iterator[torch.device]:
    """The device, to which `.to(device)` goes while this lasts.

    Args:
        patch: undoes what this changes of PyTorch.
        float64: whether the device has it.
    """
    # A module's conversion puts a new parameter in the old one's place; what an old one wraps could not be exchanged.
    patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    patch.setattr(torch, "autocast", _autocast)
    with _Functions(), _Emulation(float64):
        yield torch.device(NAME)

"""Reading the tensors of foreign PyTorch checkpoints without running anything that they contain.

A pickle is a program: it can name any function and have it called. Here the names that tensors need mean what
they mean, classes of unknown modules become inert stand-ins that only hold their attributes, and any other
name is refused. So a whole pickled module, as the paper's authors released theirs, needs neither its source
nor our trust.
"""

import collections
import io
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from odinlib.errors import UserError


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The parameters and buffers in a file of `torch.save`, by name, on the CPU.

    Args:
        path: a state dict, a dictionary with a `state_dict`, or a whole pickled module, in PyTorch's zip
            format or in the older one (from 0.2). A `module.` before every name, which DataParallel leaves,
            is dropped.

    Raises:
        UserError: there is no such file, it cannot be read, or it asks for something that weights have no use
            for.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    reader = types.SimpleNamespace(__name__="inert", Unpickler=_Unpickler, load=_load)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stand-in has no source for torch.load to compare
            # From memory, because torch.load would unpack a tar file to the disk.
            content = io.BytesIO(path.read_bytes())
            found = torch.load(content, map_location="cpu", pickle_module=reader, weights_only=False)
        tensors = dict(_tensors(found))
    except UserError as refusal:
        raise UserError(f"checkpoint {path.name} {refusal}", remedy="nothing in it was run") from None
    except Exception as error:  # a file that is not what it seems can fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        what = f"checkpoint {path.name} cannot be read ({reason})"
        raise UserError(what, expected="a file of torch.save") from error
    if not tensors:
        raise UserError(f"checkpoint {path.name} holds no weights", expected="a state dict or a module")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


class _Sealed(type):
    """A class whose attributes a pickle cannot set."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise UserError(f"tries to change the class {cls.__name__}")


class _StandIn(metaclass=_Sealed):
    """An object of an unknown class: whatever attributes the pickle gives it, and no behaviour."""

    dump_patches = False  # torch.load asks this of every module class

    def __new__(cls, *arguments: object) -> "_StandIn":
        if arguments:
            raise UserError(f"asks to call {cls.__name__}")
        return super().__new__(cls)


class _Ignored(metaclass=_Sealed):
    """A value that is no weight, such as a NumPy scalar: its content is dropped."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Variable(metaclass=_Sealed):
    """A parameter as PyTorch before 0.4 pickled it: called with its tensor, then given its flags."""

    def __init__(self, data: Tensor | None = None, *flags: object) -> None:
        self.data = data

    def __setstate__(self, state: object) -> None:
        pass


def _tensor(*arguments: Any) -> Tensor:
    tensor: Tensor = torch._utils._rebuild_tensor(*arguments[:4])
    return tensor


def _parameter(data: Tensor, *flags: object) -> Tensor:
    return data


def _bytes(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): _Ignored,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("_codecs", "encode"): _bytes,
    ("argparse", "Namespace"): _Ignored,
    ("torch", "Size"): tuple,
    ("torch", "device"): _Ignored,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.nn.parameter", "Parameter"): _Variable,
    ("torch.autograd.variable", "Variable"): _Variable,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if known := _KNOWN.get((module, name)):
            return known
        top = module.partition(".")[0]
        if top == "numpy":
            return _Ignored
        standard = top in sys.stdlib_module_names or top == "__builtin__" or top == "copy_reg"
        if (standard and top != "__main__") or (top == "torch" and not module.startswith("torch.nn.")):
            raise UserError(f"asks for {module}.{name}, which weights have no use for")
        return _Sealed.__new__(_Sealed, f"{module}.{name}", (_StandIn,), {})


def _load(file: io.BytesIO, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def _tensors(found: object, prefix: str = "") -> list[tuple[str, Tensor]]:
    """The tensors of a state dict or of a module and the modules within it, in their own order."""
    if isinstance(found, _StandIn):
        inside = vars(found)
        own = {**(inside.get("_parameters") or {}), **(inside.get("_buffers") or {})}
        modules = inside.get("_modules") or {}
        nested = [pair for name, child in modules.items() for pair in _tensors(child, f"{prefix}{name}.")]
        return _tensors(own, prefix) + nested
    if not isinstance(found, Mapping):
        return []
    for key in ("state_dict", "model", "net"):
        if isinstance(found.get(key), Mapping | _StandIn):
            return _tensors(found[key], prefix)
    pairs = ((name, value.data if isinstance(value, _Variable) else value) for name, value in found.items())
    return [(f"{prefix}{name}", value) for name, value in pairs if isinstance(value, Tensor)]

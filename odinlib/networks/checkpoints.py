"""Reading the tensors of foreign files of weights without running anything that they contain.

A pickle is a program: it can name any function and have it called. Here the names that tensors need mean what
they mean, classes of unknown modules become inert stand-ins that only hold their attributes, and any other
name is refused. So a whole pickled module, as the paper's authors released theirs, needs neither its source
nor our trust. PyTorch's own reader is not asked what a file is: it turns to others that do run code.
"""

import _compat_pickle
import collections
import dataclasses
import io
import pickle
import sys
import tarfile
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from odinlib.errors import UserError, reading

# What a file of weights or a network can be, by what it holds.
SAFETENSORS, CHECKPOINT, OLD_CHECKPOINT = "safetensors", "a checkpoint", "a checkpoint of an old PyTorch"
TORCHSCRIPT, EXPORTED, OTHER = "a TorchScript archive", "an exported program", "none of these"


def kind(path: str | Path) -> str:
    """What a file is: one of `SAFETENSORS`, `CHECKPOINT`, `OLD_CHECKPOINT`, `TORCHSCRIPT`, `EXPORTED` and `OTHER`."""
    with Path(path).open("rb") as file:
        start = file.read(9)
        if start[:4] == b"PK\x03\x04":
            try:
                with zipfile.ZipFile(file) as archive:
                    return _kind_of_archive([PurePosixPath(name) for name in archive.namelist()])
            except (zipfile.BadZipFile, NotImplementedError):
                return OTHER
        if len(start) == 9 and start[8:] == b"{" and start[6:8] == b"\0\0":
            return SAFETENSORS
        return OLD_CHECKPOINT if start[:1] == b"\x80" else OTHER


def _kind_of_archive(members: list[PurePosixPath]) -> str:
    inner = {PurePosixPath(*path.parts[1:]) for path in members if len(path.parts) > 1}
    names = {str(path) for path in inner} | {str(path) for path in members}
    if "constants.pkl" in names or any(path.parts[:1] == ("code",) for path in inner):
        return TORCHSCRIPT
    if {"archive_format", "serialized_exported_program.json"} & names or any(
        path.parts[:1] == ("models",) for path in inner
    ):
        return EXPORTED
    return CHECKPOINT if "data.pkl" in names else OTHER


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors in a file of weights, on the CPU, in their own order, each by its place: `state_dict/module.fc.bias`.

    Args:
        path: a file of safetensors, or of `torch.save`, in PyTorch's zip format or in the older one (from 0.2): a state
            dict, whatever else holds one, or a whole pickled module. Between the names of containers stand slashes.

    Raises:
        UserError: there is no such file, it is damaged or no file of weights, or it asks for something that weights
            have no use for.
    """
    path = Path(path)
    try:
        with reading(path):
            found_kind = kind(path)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    if found_kind in (TORCHSCRIPT, EXPORTED):
        remedy = "nothing in it was run; write its weights with safetensors.torch.save_file and bring those"
        raise UserError(f"checkpoint {path.name} is {found_kind}, which holds a program", remedy=remedy)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stand-in has no source for torch.load to compare
            if found_kind == SAFETENSORS:
                return safetensors.torch.load(path.read_bytes())
            tensors = dict(_tensors(_read_zip(path) if found_kind == CHECKPOINT else _read_old(path)))
    except UserError as refusal:
        raise UserError(f"checkpoint {path.name} {refusal}", remedy="nothing in it was run") from None
    except Exception as error:  # a file that is not what it seems can fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        what = f"checkpoint {path.name} cannot be read ({reason})"
        raise UserError(what, expected="a file of torch.save or of safetensors") from error
    if not tensors:
        raise UserError(f"checkpoint {path.name} holds no weights", expected="a state dict or a module")
    return tensors


# --- Which of the tensors are a network's ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """The tensors of a file that are a network's, under the network's own names."""

    state: dict[str, Tensor]
    place: str  # what stands before their names in the file
    by_order: bool  # whether they were matched by their order, as their names are others
    beside: dict[str, Tensor]  # what else is there: other containers, averages, an optimiser's moments
    elsewhere: tuple[str, ...] = ()  # other places with tensors that would fit


def fit(
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    optional: Callable[[str], bool],
    *,
    place: str | None = None,
) -> Fit | None:
    """Those of a file's tensors that a network wants, wherever in it they are and whatever is before all their names.

    Args:
        tensors: of :func:`read_tensors`.
        wanted: the network's own, by name; their shapes have to agree.
        optional: whether a tensor of this name may be missing, and may be there beside those that are wanted.
        place: which of several to take, where the file holds such tensors more than once.

    Raises:
        UserError: there are several, none of which is the obvious one, or none at the place.
    """
    dotted = {name.replace("/", "."): name for name in tensors}
    needed = {name: tensor for name, tensor in wanted.items() if not optional(name)}
    found = [*_by_name(tensors, dotted, needed, wanted, optional), *_by_order(tensors, needed, optional)]
    if place is not None:
        if fits := [one for one in found if one.place == place]:
            return fits[0]
        places = ", ".join(repr(one.place) for one in found)
        raise UserError(f"there are no such weights at {place!r}", expected=f"one of {places}" if found else None)
    if not found:
        return None
    by_name = [one for one in found if not one.by_order] or found
    different = [one for one in by_name[1:] if not _equal(one.state, by_name[0].state)]
    plain = [one for one in by_name if not any(word in one.place.lower() for word in _AVERAGED)]
    if different and len(plain) != 1:
        places = ", ".join(repr(one.place) for one in by_name)
        raise UserError(f"such weights are there more than once, at {places}", remedy="say which with --place")
    chosen = (plain or by_name)[0]
    return dataclasses.replace(chosen, elsewhere=tuple(one.place for one in by_name if one is not chosen))


_AVERAGED = ("ema", "swa", "avg", "averag", "teacher", "momentum", "best")


def _by_name(
    tensors: Mapping[str, Tensor],
    dotted: Mapping[str, str],
    needed: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    optional: Callable[[str], bool],
) -> Iterator[Fit]:
    first = next(iter(needed))
    for before in (name.removesuffix(first) for name in dotted if f".{name}".endswith(f".{first}")):
        if not all(before + name in dotted for name in needed):
            continue
        state = {name: tensors[dotted[before + name]] for name in wanted if before + name in dotted}
        if not all(_same_shape(state[name], tensor) for name, tensor in needed.items()):
            continue
        used = {dotted[before + name] for name in state}
        containers = {name.rpartition("/")[0] for name in used}
        others = {name: tensor for name, tensor in tensors.items() if name not in used}
        near = [name for name in others if name.rpartition("/")[0] in containers]
        if all(optional(name) for name in near if name.replace("/", ".").startswith(before)):
            yield Fit(state, before.rstrip("."), False, others)


def _by_order(
    tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor], optional: Callable[[str], bool]
) -> Iterator[Fit]:
    kinds = [(name.rpartition(".")[2], tensor.shape) for name, tensor in needed.items()]
    groups: dict[str, list[str]] = {}
    for name in tensors:
        parts = name.replace("/", ".").split(".")
        for depth in range(len(parts)):
            if not optional(name):
                groups.setdefault(".".join(parts[:depth]), []).append(name)
    for place, names in groups.items():
        if len(names) == len(needed) and kinds == [
            (name.replace("/", ".").rpartition(".")[2], tensors[name].shape) for name in names
        ]:
            used = set(names)
            others = {name: tensor for name, tensor in tensors.items() if name not in used}
            state = {key: tensors[name] for key, name in zip(needed, names, strict=True)}
            yield Fit(state, place, True, others)


def _same_shape(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape or one.numel() == other.numel() == 1


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def misfit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], optional: Callable[[str], bool]) -> UserError:
    """Why a file's tensors are not those of a network, by the first one that is not; and what the file holds."""
    dotted = {name.replace("/", "."): tensor for name, tensor in tensors.items()}
    needed = {name: tensor for name, tensor in wanted.items() if not optional(name)}
    befores = {name[: len(name) - len(key)] for key in needed for name in dotted if f".{name}".endswith(f".{key}")}
    before = max(sorted(befores), key=lambda one: sum(one + key in dotted for key in needed), default="")
    shown = [f"{name!r} {list(tensor.shape)}" for name, tensor in list(tensors.items())[:4]]
    holds = f"it holds {len(tensors)} tensors, {', '.join(shown)}" + (" ..." if len(tensors) > 4 else "")
    for key, tensor in needed.items():
        if before + key not in dotted:
            return UserError(f"has no tensor {key!r}", remedy=holds)
        shape = dotted[before + key].shape
        if not _same_shape(dotted[before + key], tensor):
            return UserError(
                f"{before + key!r} has shape {list(shape)}", expected=str(list(tensor.shape)), remedy=holds
            )
    names = [one for one in dotted if one.startswith(before) and not optional(one)]
    extra = next((one for one in names if one.removeprefix(before) not in wanted), "?")
    return UserError(f"has a tensor {extra!r} too many", remedy=holds)


# --- The formats ----------------------------------------------------------------------------------------------------


def _read_old(path: Path) -> object:
    """What is in a file of PyTorch before 1.6, or in a bare pickle."""
    reader = types.SimpleNamespace(__name__="inert", Unpickler=_Unpickler, load=_load)
    # From memory, because torch.load would unpack a tar file to the disk.
    content = io.BytesIO(path.read_bytes())
    # Of a zip archive torch.load may think that it is TorchScript, and run it.
    if content.getvalue()[:2] == b"PK" or tarfile.is_tarfile(content):
        raise ValueError("an archive, but none of torch.save")
    content.seek(0)
    return torch.load(content, map_location="cpu", pickle_module=reader, weights_only=False)


def _read_zip(path: Path) -> object:
    """What is in a file of PyTorch from 1.6 on. The archive's checksums are compared as it is read."""
    with zipfile.ZipFile(path) as archive:
        members = {PurePosixPath(*PurePosixPath(name).parts[1:]): name for name in archive.namelist()}
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("its members are compressed, which PyTorch's never are")
        unpickler = _ZipUnpickler(io.BytesIO(archive.read(members[PurePosixPath("data.pkl")])), encoding="utf-8")
        unpickler.member = lambda name: archive.read(members[PurePosixPath(name)])
        order = PurePosixPath("byteorder")
        unpickler.swapped = order in members and archive.read(members[order]) != sys.byteorder.encode()
        return unpickler.load()


class _Sealed(type):
    """A class whose attributes a pickle cannot set."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise UserError(f"tries to change the class {cls.__name__}")


class _State:
    """A method that an object has and its class has not: a pickle may ask a class for it, to change it."""

    def __init__(self, method: Callable[..., None]) -> None:
        self.method = method

    def __get__(self, instance: object, owner: type) -> Callable[[object], None]:
        if instance is None:
            raise UserError(f"tries to change the class {owner.__name__}")
        return types.MethodType(self.method, instance)


class _StandIn(dict, metaclass=_Sealed):
    """An object of an unknown class: whatever attributes and items the pickle gives it, and no behaviour."""

    dump_patches = False  # torch.load asks this of every module class

    def __hash__(self) -> int:  # type: ignore[override]  # as a key of a dictionary it is itself and no other
        return id(self)

    def __new__(cls, *arguments: object) -> "_StandIn":
        if arguments and not cls.__name__.rpartition(".")[2].lstrip("_")[:1].isupper():
            raise UserError(f"asks to call {cls.__name__}")
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(one for one in arguments[:1] if isinstance(one, dict)))

    @_State
    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                vars(self).update({key: value for key, value in part.items() if isinstance(key, str)})

    def append(self, value: object) -> None:
        pass

    extend = add = append


class _Ignored(metaclass=_Sealed):
    """A value that is no weight, such as a NumPy scalar or a path: its content is dropped."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    extend = add = append


class _Items(_StandIn):
    """A dictionary with a rule of its own, such as a `Counter`, without the rule."""


class _Variable(metaclass=_Sealed):
    """A parameter as PyTorch before 0.4 pickled it: called with its tensor, then given its flags."""

    def __init__(self, data: Tensor | None = None, *flags: object) -> None:
        self.data = data

    def __setstate__(self, state: object) -> None:
        pass


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    """A view of a storage, which has to hold it: PyTorch would make the storage larger, however much is asked for."""
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    room = storage._untyped_storage.nbytes() // storage._element_size()
    if 0 not in size and not (0 <= last < room and min((*size, *stride, offset), default=0) >= 0):
        raise UserError(f"has a tensor of {list(size)} in a storage of {room} numbers")
    tensor: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return tensor


def _tensor_of_type(
    storage: Any, offset: int, size: Any, stride: Any, _: object, __: object, dtype: Any, *___: object
) -> Tensor:
    typed = torch.storage.TypedStorage(wrap_storage=storage._untyped_storage, dtype=dtype, _internal=True)
    return _tensor(typed, offset, size, stride)


def _quantised(storage: Any, offset: int, size: Any, stride: Any, how: Any, *_: object) -> Tensor:
    _tensor(storage, offset, size, stride)
    tensor: Tensor = torch._utils._rebuild_qtensor(storage, offset, size, stride, how, False, None)
    return tensor.dequantize()


def _without_values(dtype: Any, size: Any, stride: Any, *_: object) -> Tensor:
    return torch.empty_strided(size, stride, dtype=dtype, device="meta")


def _subclass(rebuild: Callable[..., Any], _: object, arguments: tuple[Any, ...], *__: object) -> Any:
    return rebuild(*arguments)


def _first(data: Any, *_: object) -> Any:
    return data


def _bytes(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): _Items,
    ("collections", "Counter"): _Items,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("_codecs", "encode"): _bytes,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    ("torch._utils", "_rebuild_qtensor"): _quantised,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _first,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _without_values,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    ("torch.nn.parameter", "Parameter"): _Variable,
    ("torch.autograd.variable", "Variable"): _Variable,
    # Tensors of kinds that no weights here have, and values that are none.
    **dict.fromkeys(
        (
            ("torch._utils", "_rebuild_sparse_tensor"),
            ("torch._utils", "_rebuild_nested_tensor"),
            ("torch._utils", "_rebuild_wrapper_subclass"),
            ("torch._utils", "_rebuild_device_tensor_from_numpy"),
            ("torch.serialization", "_get_layout"),
            ("torch", "device"),
            ("torch", "Generator"),
            ("functools", "partial"),
            ("collections", "deque"),
            ("types", "SimpleNamespace"),
            *(
                ("builtins", name)
                for name in ("bytearray", "complex", "slice", "range", "object", "dict", "list", "tuple")
            ),
            *(("builtins", name) for name in ("int", "float", "str", "bool", "bytes")),
        ),
        _Ignored,
    ),
}
#: Modules of the standard library whose classes are values.
_VALUES = ("argparse", "collections", "datetime", "decimal", "enum", "fractions", "ipaddress", "pathlib", "uuid")
_CONSTANTS = (torch.dtype, torch.layout, torch.memory_format, torch.qscheme)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Pickles of the protocol that PyTorch uses have the names of Python 2: `commands` for `subprocess`.
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        if known := _KNOWN.get((module, name)):
            return known
        top = module.partition(".")[0]
        if top == "numpy" or (top in _VALUES and name[:1].isupper() and name.isalnum()) or module == "datetime":
            return _Ignored
        if module == "torch" and isinstance(constant := getattr(torch, name, None), _CONSTANTS):
            return constant
        standard = top in sys.stdlib_module_names
        # A class of PyTorch's is a stand-in like anybody's; its functions are not asked for by weights.
        torchs = top == "torch" and not module.startswith("torch.nn.") and not name[:1].isupper()
        if (standard and top != "__main__") or torchs:
            raise UserError(f"asks for {module}.{name}, which weights have no use for")
        return _Sealed.__new__(_Sealed, f"{module}.{name}", (_StandIn,), {})


class _ZipUnpickler(_Unpickler):
    """Of the zip format, in which each storage is a member of the archive."""

    member: Callable[[str], bytes]
    swapped: bool

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "torch" and name.endswith("Storage"):
            storage = getattr(torch, name, None)
            return getattr(storage, "_dtype", torch.uint8)  # an untyped one is so many bytes
        return super().find_class(module, name)

    def persistent_load(self, saved: Any) -> Any:
        _, dtype, key, _, count = saved
        data = bytearray(self.member(f"data/{key}"))
        if len(data) < count * dtype.itemsize:
            raise UserError(f"has {len(data)} bytes for {count} numbers")
        untyped = torch.UntypedStorage(0) if not data else torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
        if self.swapped and dtype.itemsize > 1:
            untyped.byteswap(dtype)
        return torch.storage.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)


def _load(file: io.BytesIO, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def _tensors(found: object, place: str = "", seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, Tensor]]:
    """The tensors in whatever was read, in its own order, each by its place."""
    if isinstance(found, _Variable):
        found = found.data
    if isinstance(found, Tensor):
        yield place, found
        return
    if id(found) in seen:
        return
    seen |= {id(found)}
    inside = vars(found) if isinstance(found, _StandIn) else {}
    if "_modules" in inside:  # a module: names as in its state dict
        for part in ("_parameters", "_buffers", "_modules"):
            for name, one in (inside.get(part) or {}).items():
                yield from _tensors(one, f"{place}.{name}" if place else name, seen)
        return
    items = found.items() if isinstance(found, Mapping) else enumerate(found) if isinstance(found, list | tuple) else ()
    for name, one in (*inside.items(), *items):
        nested = isinstance(_held(one), Mapping | list | tuple) and not _is_module(one)
        yield from _tensors(one, f"{place}{name}/" if nested else f"{place}{name}", seen)


def _held(found: object) -> object:
    return found.data if isinstance(found, _Variable) else found


def _is_module(found: object) -> bool:
    return isinstance(found, _StandIn) and "_modules" in vars(found)

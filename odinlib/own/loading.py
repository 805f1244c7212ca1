"""A network from a file: nothing in it is run, unless it is trusted."""

import difflib
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from odinlib.datasets.imagefiles import shown
from odinlib.errors import Missing, UserError
from odinlib.networks import checkpoints, weights
from odinlib.own.network import Exported

_LIBRARIES = ("torchvision", "timm")
_KINDS = "resnet18 (torchvision's), timm:NAME, or FILE.py:NAME"
_SAY = f"say by architecture (--architecture) which it is: {_KINDS}; in Python also a constructor"
_SAFE = "safetensors.torch.save_file(network.state_dict(), ...) writes its weights, which load with architecture="


def load_network(
    path: str | Path,
    trusted: bool = False,
    *,
    architecture: str | Callable[[], nn.Module] | None = None,
    place: str | None = None,
) -> nn.Module:
    """A network from a file or folder, on the CPU and in evaluation mode.

    What is read as it is: weights of odinlib with the card beside them; and, with the `architecture` that they are of,
    safetensors and checkpoints of `torch.save`, whatever is around the weights in them. A folder that transformers'
    `save_pretrained` wrote needs transformers, and has its architecture in it. Of all these nothing is run.

    What holds a program runs it, and has to be `trusted`: exported programs (`.pt2`), TorchScript archives and pickled
    modules. Export with a dynamic first dimension:

        batch = torch.export.Dim("batch")
        program = torch.export.export(network.eval(), (images,), dynamic_shapes=({0: batch},))
        torch.export.save(program, "network.pt2")

    Args:
        path: the file, recognised by what it holds and not by its name.
        trusted: whether a program in the file may be run: it can do whatever you can.
        architecture: of weights: a constructor without arguments (of one with some, `lambda: ResNet(56)`); `resnet18`
            or `torchvision:resnet18`, `timm:NAME`, each with as many classes as the weights have; or `FILE.py:NAME`, a
            constructor in a file of yours, which is run.
        place: of several weights in one file, what stands before the names of those to take.

    Raises:
        UserError: the file is not there or is none of these, it is not trusted, or its weights are not those of the
            architecture.
    """
    path = Path(path)
    if not path.exists():
        raise Missing(f"{shown(path)} is not there", remedy="give the path of a file of weights or of a network")
    if path.is_dir():
        return _pretrained(path)
    if not path.is_file():
        raise UserError(f"{shown(path)} is no regular file", expected="a file of weights or of a network")
    kind = checkpoints.kind(path)
    if kind in (checkpoints.EXPORTED, checkpoints.TORCHSCRIPT):
        if not trusted:
            why = f"{shown(path)} is {kind}, which can run any program when it is loaded"
            raise UserError(why, remedy=f"say that you trust it (trusted=True, --trust), or: {_SAFE}")
        return _program(path, kind)
    if kind == checkpoints.OTHER:
        expected = "safetensors, a file of torch.save, an exported program or a TorchScript archive"
        raise UserError(f"{shown(path)} holds no network", expected=expected)
    if architecture is not None:
        network = _built(architecture, path)
        weights.fill(network, path, place)
        return network.eval()
    if kind == checkpoints.SAFETENSORS:
        if not path.with_suffix(".json").exists():
            what = f"{shown(path)} holds weights alone: there is no card {path.stem}.json beside it"
            raise UserError(what, remedy=_SAY)
        return weights.load_weights(path)[0].eval()
    if not trusted:
        what = f"{shown(path)} holds weights, and not the network that they are of"
        raise UserError(what, remedy=f"{_SAY}; a pickled module can also be trusted (trusted=True, --trust)")
    return _program(path, kind)


def _program(path: Path, kind: str) -> nn.Module:
    """What is in a file that is trusted, by running it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions of PyTorch
            if kind == checkpoints.EXPORTED:
                return Exported(torch.export.load(path))
            if kind == checkpoints.TORCHSCRIPT:
                return torch.jit.load(path, map_location="cpu").eval()
            with path.open("rb") as file:  # of which PyTorch does not know the name
                found: Any = torch.load(file, map_location="cpu", weights_only=False)
    except Exception as error:  # a program that is somebody else's fails in any way
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:100]
        raise UserError(f"{shown(path)} cannot be read as {kind} ({reason})", remedy="export it again") from error
    if not isinstance(found, nn.Module):
        what = f"{shown(path)} holds weights, and not the network that they are of"
        raise UserError(what, remedy=_SAY)
    return found.eval()


# --- Architectures ----------------------------------------------------------------------------------------------------


def _built(architecture: str | Callable[[], nn.Module], path: Path) -> nn.Module:
    if isinstance(architecture, nn.Module) or not (isinstance(architecture, str) or callable(architecture)):
        what = f"architecture is of type {type(architecture).__name__}"
        raise UserError(what, expected=f"a constructor without arguments, or its name: {_KINDS}")
    if not isinstance(architecture, str):
        return _called(architecture, getattr(architecture, "__name__", "the constructor"))
    file, _, name = architecture.rpartition(":")
    if file.endswith(".py"):
        return _called(_of_file(Path(file), name), architecture)
    library, name = (file, name) if file else ("torchvision", name)
    if library not in _LIBRARIES or name.endswith(".py"):
        raise UserError(f"architecture is {architecture!r}", expected=_KINDS)
    make = _maker(library, name)
    usual = make(None)
    classes = _classes(usual.state_dict(), checkpoints.read_tensors(path))
    return usual if classes is None else make(classes)


def _maker(library: str, name: str) -> Callable[[int | None], nn.Module]:
    """A function from a number of classes to a network of the library's, without weights."""
    found = _imported(library)
    if library == "timm":
        _check_known(library, name, found.is_model(name), found.list_models())
        return lambda classes: found.create_model(name, pretrained=False, **_given(num_classes=classes))
    names = found.models.list_models(module=found.models)
    _check_known(library, name, name in names, names)
    return lambda classes: found.models.get_model(name, weights=None, **_given(num_classes=classes))


def _check_known(library: str, name: str, known: bool, names: list[str]) -> None:
    if not known:
        near = ", ".join(difflib.get_close_matches(name, names))
        remedy = f"did you mean {near}?" if near else f"of a network of yours: {_KINDS.rpartition(' ')[2]}"
        raise UserError(f"{library} has no network {name!r}", remedy=remedy)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _classes(usual: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> int | None:
    """How many classes weights have, where that is another number than is usual: the last layer is of another size."""
    found = {name.replace("/", "."): tensor for name, tensor in tensors.items()}
    for key in reversed(list(usual)):
        for name, tensor in found.items():
            if f".{name}".endswith(f".{key}") and tensor.ndim == usual[key].ndim > 0:
                return len(tensor) if len(tensor) != len(usual[key]) else None
    return None


def _imported(library: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise UserError(f"{library} is not installed here", remedy=f"pip install {library}") from error


def _of_file(file: Path, name: str) -> Callable[[], nn.Module]:
    if not file.is_file():
        raise Missing(f"{shown(file)} is not there", remedy="give architecture as FILE.py:NAME")
    spec = importlib.util.spec_from_file_location(f"_architecture_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # it is the user's own
        raise UserError(f"{shown(file)} cannot be run ({type(error).__name__}: {error})") from error
    if not callable(found := getattr(module, name, None)):
        named = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        raise UserError(f"{shown(file)} has no function {name!r}", expected=f"one of {', '.join(named) or 'its own'}")
    return found


def _called(make: Callable[[], nn.Module], name: str) -> nn.Module:
    try:
        network = make()
    except (Exception, SystemExit) as error:  # it is the user's own
        expected = "a constructor without arguments, such as lambda: Network(depth=28)"
        raise UserError(f"{name}() fails ({type(error).__name__}: {error})", expected=expected) from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{name}() gives a {type(network).__name__}", expected="a torch.nn.Module")
    return network


def _pretrained(folder: Path) -> nn.Module:
    """A network of transformers, by the configuration in its folder: only its own classes, only safetensors."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{shown(folder)} is a folder without a config.json", expected="a file of weights or a network")
    models = _imported("transformers").AutoModelForImageClassification
    safely = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    try:
        return models.from_pretrained(folder, **safely).eval()
    except Exception as error:  # whatever transformers finds in a configuration
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:160]
        remedy = "write it with save_pretrained, as safetensors; classes that are not transformers' own are not loaded"
        raise UserError(f"{shown(folder)} holds no network of transformers ({reason})", remedy=remedy) from error

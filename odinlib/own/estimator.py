"""What scikit-learn expects of an estimator, and a fitted one as a file."""

import hashlib
import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

import odinlib
from odinlib.artefacts import load_json, write_atomically
from odinlib.errors import Missing, UserError, check_choice, reading
from odinlib.own.network import as_module


class Estimator:
    """Settings are what the constructor takes, under the same names; what `fit` finds ends in an underscore.

    So scikit-learn's `clone`, its searches and its pipelines can take it, though it needs none of that to be imported.
    """

    network: Any
    finds: ClassVar[tuple[str, ...]]  # what `fit` finds

    @classmethod
    def _settings(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name."""
        return {name: getattr(self, name) for name in self._settings()}

    def set_params(self, **settings: Any) -> Self:
        """Other settings, for the next `fit`."""
        for name, value in settings.items():
            setattr(self, check_choice("setting", name, self._settings()), value)
        return self

    def __repr__(self) -> str:
        changed = [
            f"{name}={type(value).__name__ if name == 'network' else repr(value)}"
            for name, value in self.get_params().items()
            if name == "network" or value != inspect.signature(type(self)).parameters[name].default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return bool(self._fitted())

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        inputs = InputTags(one_d_array=False, two_d_array=False, three_d_array=False)
        return Tags(estimator_type="outlier_detector", target_tags=TargetTags(required=False), input_tags=inputs)

    def _fitted(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name.endswith("_") and not name.startswith("_")}

    def _check_fitted(self) -> None:
        if not self._fitted():
            from sklearn.exceptions import NotFittedError

            kind = type("NotFitted", (UserError, NotFittedError), {"__doc__": "It has no threshold yet."})
            raise kind("the detector has no threshold", remedy="call fit with held-out in-distribution images")

    def save(self, path: str | Path) -> None:
        """Write what was set and found as JSON, whole or not at all, with a SHA-256 of the network's weights.

        Raises:
            UserError: it is not fitted, or the file cannot be written.
        """
        self._check_fitted()
        settings = {name: _plain(value) for name, value in self.get_params().items() if name != "network"}
        found = {name: _plain(value) for name, value in self._fitted().items()}
        content = {
            "kind": type(self).__name__,
            "odinlib": odinlib.__version__,
            "network": weights_digest(self.network),
            "settings": settings,
            "fitted": found,
        }
        with write_atomically(path) as file:
            file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path, network: Any) -> Self:
        """What `save` wrote, around the network that it was fitted with: nothing is fitted again.

        Args:
            path: the file.
            network: with the same weights, as a module or a compiled one.

        Raises:
            UserError: the file is missing or damaged, or the network has other weights.
        """
        path = Path(path)
        try:
            content = load_json(path)
        except FileNotFoundError:
            raise Missing(f"{path} is not there", remedy="write it with save, from a fitted detector") from None
        with reading(path, "write it again with save"):
            kind, digest, settings, found = (content[key] for key in ("kind", "network", "settings", "fitted"))
            if kind != cls.__name__:
                raise ValueError(f"it is of a {kind}")
            numbers = [one for value in found.values() for one in (value if isinstance(value, list) else [value])]
            if found.keys() != set(cls.finds) or not all(map(math.isfinite, numbers)):
                raise ValueError(f"it does not have {', '.join(cls.finds)}")
            settings = {**settings, "network": network}
        if digest != weights_digest(network):
            raise UserError(f"the network has other weights than {path} was fitted with", remedy="fit it again")
        try:
            loaded: Self = cls(**settings)
        except TypeError as error:
            raise UserError(f"{path} is of another version of odinlib ({error})", remedy="fit it again") from error
        for name, value in found.items():
            setattr(loaded, name, tuple(value) if isinstance(value, list) else value)
        return loaded


def weights_digest(network: Any) -> str:
    """The SHA-256 of a network's weights by name, type, shape and bytes; compiled or not, on whatever device.

    >>> torch.manual_seed(0) and weights_digest(nn.Linear(2, 2)) == weights_digest(nn.Linear(2, 2))
    False
    """
    found = hashlib.sha256()
    for name, value in sorted(_state(as_module(network)).items()):
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous()
            plain = plain.int_repr() if plain.is_quantized else plain
            found.update(f"{name} {plain.dtype} {list(plain.shape)}\n".encode())
            found.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
        else:
            found.update(f"{name} {value}\n".encode())
    return found.hexdigest()


def _state(network: nn.Module) -> Mapping[str, Any]:
    """The state dict, without what `compile` and `DataParallel` put in front of the names."""
    state = network.state_dict()
    return {
        ".".join(part for part in name.split(".") if part not in ("_orig_mod", "module")): x
        for name, x in state.items()
    }


def _plain(value: Any) -> Any:
    """A number of NumPy or PyTorch as Python's, for JSON."""
    return value.item() if getattr(value, "ndim", None) == 0 else value

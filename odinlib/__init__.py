"""odinlib: a living reproduction of ODIN (Liang, Li & Srikant, ICLR 2018).

For a network of your own, `from odinlib import ODIN, own`: the detector, and what brings networks and images to it. The
method is in :mod:`odinlib.odin`, its measures in :mod:`odinlib.metrics`, the paper's protocol in
:mod:`odinlib.experiments`, and what "the paper" and "the demo" mean in :mod:`odinlib.profiles`.
"""

import importlib
from typing import Any

__version__ = "1.0.0"

__all__ = [
    "ODIN",
    "artefacts",
    "compare",
    "datasets",
    "detectors",
    "devices",
    "errors",
    "experiments",
    "figures",
    "measure",
    "metrics",
    "moments",
    "names",
    "networks",
    "odin",
    "own",
    "profiles",
    "record",
    "reference",
    "splits",
    "store",
    "tables",
    "theory",
    "trained",
]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: PyTorch takes seconds, which the command line and its help do without.
    if name == "ODIN":
        return importlib.import_module("odinlib.odin").ODIN
    if name in __all__:
        return importlib.import_module(f"odinlib.{name}")
    raise AttributeError(f"module 'odinlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

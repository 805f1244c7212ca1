"""A number of one name has one range, whichever public function it is given to: in it, a value; out of it, one line."""

import importlib
import inspect
import math

import numpy as np
import pytest
import torch
from foreign import images, small

from odinlib.errors import UserError

MODULES = ("odin", "metrics", "detectors", "moments", "splits", "measure.discrepancy", "measure.limits")

LOGITS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
SCORES = torch.rand(2, 2, 40, generator=torch.Generator().manual_seed(1))
X = images(8)

#: By the name of a parameter: values in its range, and values out of it. Those that are lists go entry by entry.
RANGES = {
    "tpr": ([0.95, 1, np.float32(0.5)], [0, -0.1, 1.01, 95, math.nan, math.inf, "0.95", None]),
    "level": ([0.95, np.float64(0.5)], [0, 1, 95, -0.5, math.nan, "0.95", None]),
    "temperature": ([1000, 0.5, np.float32(2), np.int64(3)], [0, -1, math.nan, math.inf, "1000", None]),
    "temperatures": ([1000, 0.5, np.float32(2)], [0, -1, math.nan, math.inf, "1000", None]),
    "epsilon": ([0, 0.01, np.float32(0.02)], [-1e-9, math.nan, math.inf, "0", None]),
    "epsilons": ([0.001, np.float64(0.02)], [-1e-9, math.nan, math.inf, "0", None]),
    "gamma": ([0.1, 1], [0, -1, math.nan, "1", None]),
    "largest": ([1, 100], [0, -1, math.nan, "1", None]),
    "share": ([0.5, np.float64(0.25)], [0, 1, 50, math.nan, "0.5", None]),
    "resamples": ([3, np.int64(2)], [0, -1, math.nan, "9", None]),
    "block": ([3], [0, -1, math.nan, "9", None]),
    "permutations": ([9, np.int64(9)], [0, -1, math.nan, "9", None]),
    "subsample": ([5], [1, 0, math.nan, "9", None]),
    "sigma": ([0.5, np.float32(1)], [0, -1, math.nan, math.inf, None]),
    "batch": ([1, 3, np.int64(2)], [0, -1, math.nan, "9"]),
    "classes": ([2, 100], [1, 0, -1, math.nan, "9", None]),
    "rounding": ([0, 1e-6], [-1e-9, math.nan, math.inf, "0"]),
    "within": ([0.001], [-0.1, math.nan, "0.1", None]),
}

#: What the other parameters are given, by name; or by function, where a name means several things.
GIVEN = {
    "logits": LOGITS,
    "margin": SCORES[0, 0],
    "scores_in": SCORES[0, 0],
    "scores_out": SCORES[1, 1],
    "logits_in": LOGITS,
    "logits_out": LOGITS / 2,
    "samples": SCORES[0, 0],
    "network": small(),
    "images": X,
    "images_in": X,
    "gradient": X,
    "names": ["a", "b", "c", "d"],
    "v": X[:6],
    "w": X[2:] ** 2,
    "temperature": 10.0,
    "temperatures": [1.0, 10.0],
    "epsilon": 0.01,
    "epsilons": [0.001, 0.01],
    "classes": 4,
    "order": 2,
    "u1": np.array([3.0]),
    "u2": np.array([10.0]),
}
SPECIAL = {
    "tune": {"scores_in": SCORES, "scores_out": SCORES / 2},
    "score_and_classify": {"settings": [(1.0, 0.0)]},
    "bootstrap": {"names": ("fpr",)},
}


def functions():
    """Every public function, and the detector, that takes a number of a name in RANGES."""
    for name in MODULES:
        module = importlib.import_module(f"odinlib.{name}")
        for function in vars(module).values():
            public = getattr(function, "__module__", None) == module.__name__ and not function.__name__.startswith("_")
            if not public or not (inspect.isfunction(function) or function.__name__ == "ODIN"):
                continue
            for parameter in inspect.signature(function).parameters:
                if parameter in RANGES:
                    yield pytest.param(function, parameter, id=f"{name}.{function.__name__}-{parameter}")


def call(function, parameter, value):
    """The function with what it needs, and this number."""
    given = {**GIVEN, **SPECIAL.get(function.__name__, {})}
    needed = inspect.signature(function).parameters
    arguments = {name: given[name] for name, p in needed.items() if p.default is p.empty}
    if parameter in ("temperatures", "epsilons"):
        value = [value, *given[parameter][1:]]
    with np.errstate(all="ignore"):
        found = function(**{**arguments, parameter: value})
        return list(found) if inspect.isgenerator(found) else found


@pytest.mark.parametrize(("function", "parameter"), functions())
def test_numbers_in_their_range_are_taken(function, parameter):
    for value in RANGES[parameter][0]:
        assert call(function, parameter, value) is not None or function.__name__ == "temperature_beyond"


@pytest.mark.parametrize(("function", "parameter"), functions())
def test_numbers_out_of_their_range_are_told_in_one_line(function, parameter):
    for value in RANGES[parameter][1]:
        default = inspect.signature(function).parameters[parameter].default
        if value is None and default is None:
            continue
        with pytest.raises(UserError) as caught:
            call(function, parameter, value)
        assert "\n" not in str(caught.value)


def test_the_walk_reaches_what_it_should():
    known = {param.id for param in functions()}
    wanted = {"metrics.bootstrap-tpr", "metrics.interval-level", "detectors.energy-temperature", "odin.ODIN-epsilon"}
    assert wanted <= known
    assert len(known) > 40

"""Later detectors that, like ODIN without perturbation, need nothing but the logits (Section 6).

Each maps logits [N, K] to scores [N] in float64, higher for in-distribution images, so that they can be compared on
recorded responses without images or weights. Logits may be an array; a class that is switched off (minus infinity) adds
nothing to a score.
"""

from __future__ import annotations  # so that help() shows types by their names

from collections.abc import Callable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from odinlib import devices, odin
from odinlib.errors import UserError, check_number

Logits = Tensor | ArrayLike


def max_softmax(logits: Logits) -> Tensor:
    """The largest softmax probability, on the margin scale (Hendrycks & Gimpel, 2017): the paper's baseline."""
    return odin.margin_score(logits, 1.0)


def temperature_only(logits: Logits, temperature: float = 1000.0) -> Tensor:
    """ODIN's score without perturbation (Liang et al., 2018)."""
    return odin.margin_score(logits, temperature)


def max_logit(logits: Logits) -> Tensor:
    """The largest logit (Hendrycks et al., 2022)."""
    return _double(logits).amax(-1)


def energy(logits: Logits, temperature: float = 1.0) -> Tensor:
    """The negative free energy T log sum_i exp(f_i / T), of T above 0 (Liu et al., 2020)."""
    check_number("temperature", temperature, above=0)
    return temperature * torch.logsumexp(_double(logits) / temperature, -1)


def negative_entropy(logits: Logits) -> Tensor:
    """The negative entropy of the softmax distribution."""
    log_p = torch.log_softmax(_double(logits), -1)
    return (log_p.exp() * log_p.masked_fill(torch.isneginf(log_p), 0.0)).sum(-1)  # p log p tends to 0 with p


def generalised_entropy(logits: Logits, gamma: float = 0.1, largest: int = 100) -> Tensor:
    """GEN: minus the sum of p^gamma (1 - p)^gamma of the `largest` probabilities, gamma above 0 (Liu et al., 2023)."""
    check_number("gamma", gamma, above=0)
    check_number("largest", largest, at_least=1)
    p = torch.softmax(_double(logits), -1)
    top = p.topk(min(int(largest), p.shape[-1]), dim=-1).values
    return -(top**gamma * (1 - top) ** gamma).sum(-1)


def _double(logits: Logits) -> Tensor:
    """Logits in float64, of which each image has a finite one and none is NaN."""
    outputs = devices.double(logits)
    if outputs.ndim == 0 or outputs.shape[-1] < 2:
        raise UserError(f"logits are of shape {list(outputs.shape)}", expected="[N, K] with at least two classes")
    if outputs.isnan().any() or torch.isposinf(outputs).any() or torch.isneginf(outputs.amax(-1)).any():
        raise UserError("logits hold NaN or infinite values", expected="finite ones, or minus infinity of some classes")
    return outputs


DETECTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "Max softmax (baseline)": max_softmax,
    "ODIN, T = 1000, ε = 0": temperature_only,
    "Max logit": max_logit,
    "Energy, T = 1": energy,
    "Negative entropy": negative_entropy,
    "GEN, γ = 0.1": generalised_entropy,
}

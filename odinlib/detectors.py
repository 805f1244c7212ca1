"""Later detectors that, like ODIN without perturbation, need nothing but the logits (Section 6).

Each maps logits [N, K] to scores [N] in float64, higher for in-distribution images, so that they can be compared on
recorded responses without images or weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from odinlib import devices, odin


def max_softmax(logits: Tensor) -> Tensor:
    """The largest softmax probability, on the margin scale (Hendrycks & Gimpel, 2017): the paper's baseline."""
    return odin.margin_score(logits, 1.0)


def temperature_only(logits: Tensor, temperature: float = 1000.0) -> Tensor:
    """ODIN's score without perturbation (Liang et al., 2018)."""
    return odin.margin_score(logits, temperature)


def max_logit(logits: Tensor) -> Tensor:
    """The largest logit (Hendrycks et al., 2022)."""
    return devices.double(logits).amax(-1)


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The negative free energy T log sum_i exp(f_i / T) (Liu et al., 2020)."""
    return temperature * torch.logsumexp(devices.double(logits) / temperature, -1)


def negative_entropy(logits: Tensor) -> Tensor:
    """The negative entropy of the softmax distribution."""
    log_p = torch.log_softmax(devices.double(logits), -1)
    return (log_p.exp() * log_p).sum(-1)


def generalised_entropy(logits: Tensor, gamma: float = 0.1, largest: int = 100) -> Tensor:
    """GEN: minus the sum of p^gamma (1 - p)^gamma over the `largest` probabilities (Liu et al., 2023)."""
    p = torch.softmax(devices.double(logits), -1)
    top = p.topk(min(largest, p.shape[-1]), dim=-1).values
    return -(top**gamma * (1 - top) ** gamma).sum(-1)


DETECTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "Max softmax (baseline)": max_softmax,
    "ODIN, T = 1000, ε = 0": temperature_only,
    "Max logit": max_logit,
    "Energy, T = 1": energy,
    "Negative entropy": negative_entropy,
    "GEN, γ = 0.1": generalised_entropy,
}

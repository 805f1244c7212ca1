"""Later detectors against their definitions."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from odinlib import detectors

LOGITS = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 4


def test_each_equals_its_definition():
    f = LOGITS.double().numpy()
    p = softmax(f, axis=1)
    assert np.allclose(detectors.energy(LOGITS, 2.0), 2 * logsumexp(f / 2, axis=1))
    assert np.allclose(detectors.max_logit(LOGITS), f.max(1))
    assert np.allclose(detectors.negative_entropy(LOGITS), (p * np.log(p)).sum(1))
    top = np.sort(p, axis=1)[:, -3:]
    assert np.allclose(detectors.generalised_entropy(LOGITS, 0.1, 3), -(top**0.1 * (1 - top) ** 0.1).sum(1))


def test_max_softmax_ranks_as_the_softmax_does():
    largest = torch.softmax(LOGITS.double(), -1).amax(-1)
    assert torch.equal(detectors.max_softmax(LOGITS).argsort(), largest.argsort())


@pytest.mark.parametrize("score", detectors.DETECTORS.values())
def test_a_confident_row_scores_above_a_flat_one(score):
    confident, flat = torch.tensor([[12.0, 0, 0, 0]]), torch.tensor([[0.1, 0, 0, 0]])
    assert score(confident) > score(flat)

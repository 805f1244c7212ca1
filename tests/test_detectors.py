"""Later detectors against their definitions."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from odinlib import detectors, moments, odin, own
from odinlib.errors import UserError

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


def numpy_forms(logits):
    """The same numbers in other kinds of arrays."""
    array = logits.numpy()
    yield array
    yield array.astype(">f4")
    yield np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    yield np.asfortranarray(array)
    yield array.tolist()
    yield logits.clone().requires_grad_()


SCORES = {
    **detectors.DETECTORS,
    "softmax score": lambda z: odin.softmax_score(z, 10.0),
    "margin score": lambda z: odin.margin_score(z, np.float64(10.0)),
    "energy, T = 3": lambda z: detectors.energy(z, 3.0),
    "GEN of 2": lambda z: detectors.generalised_entropy(z, 0.5, 2),
    "U1": moments.u1,
    "U2": moments.u2,
    "range of the gaps": moments.gap_range,
}


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_arrays_of_every_kind_have_the_score_of_the_tensor(score):
    for form in numpy_forms(LOGITS):
        found = score(form)
        assert found.dtype == torch.float64 and torch.allclose(found, score(LOGITS), rtol=1e-12)
    whole = (LOGITS * 10).round()
    for integers in (whole.long(), whole.to(torch.int16), whole.numpy().astype(np.int32)):
        assert torch.allclose(score(integers), score(whole), rtol=1e-12)


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("masked", [[2], [0, 6], [1, 2, 3, 4, 5]])
def test_a_class_that_is_switched_off_is_as_if_it_were_not_there(score, masked):
    off = LOGITS.clone()
    off[:, masked] = -torch.inf
    rest = LOGITS[:, [i for i in range(LOGITS.shape[1]) if i not in masked]]
    assert torch.allclose(score(off), score(rest), rtol=1e-9)
    assert torch.allclose(score(off.numpy()), score(rest), rtol=1e-9)


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_where_no_value_is_right_it_is_said(score):
    dead = LOGITS.clone()
    dead[3] = -torch.inf
    for wrong in (dead, torch.zeros(3, 1), np.array(["a", "b"]), torch.complex(LOGITS, LOGITS)):
        with pytest.raises(UserError) as caught:
            score(wrong)
        assert "\n" not in str(caught.value)


def test_gradients_and_settings_of_a_masked_network():
    network = torch.nn.Linear(5, 4)
    mask = torch.tensor([0.0, -torch.inf, 0.0, 0.0])
    rest = torch.nn.Linear(5, 3)
    rest.weight.data, rest.bias.data = network.weight.data[[0, 2, 3]], network.bias.data[[0, 2, 3]]
    images = torch.rand(9, 1, 1, 5)

    def masked(x):
        return network(x.flatten(1)) + mask

    def without(x):
        return rest(x.flatten(1))

    for temperature in (1.0, 1000.0):
        ours, theirs = (odin.input_gradient(own.adapt(n), images, temperature)[0] for n in (masked, without))
        assert torch.isfinite(ours).all() and torch.allclose(ours, theirs, rtol=1e-5)
    grid = [1.0, 1000.0], [0.0, 0.01]
    assert torch.allclose(odin.sweep(masked, images, *grid), odin.sweep(without, images, *grid), atol=1e-5)


@pytest.mark.parametrize("wrong", [0, -1, np.nan, np.inf, "1", None])
def test_settings_out_of_range_are_told(wrong):
    for call in (
        lambda: detectors.energy(LOGITS, wrong),
        lambda: detectors.temperature_only(LOGITS, wrong),
        lambda: detectors.generalised_entropy(LOGITS, wrong),
        lambda: detectors.generalised_entropy(LOGITS, 0.1, wrong),
    ):
        with pytest.raises(UserError):
            call()

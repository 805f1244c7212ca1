"""The method against its definition: Equations 1 and 2, the sweep against one setting at a time, the detector."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from odinlib import metrics, odin
from odinlib.errors import UserError

logit_rows = st.integers(2, 8).flatmap(
    lambda k: st.lists(st.lists(st.floats(-30, 30, width=32), min_size=k, max_size=k), min_size=1, max_size=5)
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 64, 5)
    )
    made[2].running_mean.uniform_(-1, 1)
    made[2].running_var.uniform_(0.5, 2)
    return made.double().eval()


@pytest.fixture
def images():
    return torch.rand(7, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@given(logit_rows, st.floats(0.5, 5000))
def test_softmax_score_is_the_largest_softmax_probability(rows, temperature):
    logits = torch.tensor(rows)
    expected = torch.softmax(logits.double() / temperature, -1).amax(-1)
    assert torch.allclose(odin.softmax_score(logits, temperature), expected, rtol=1e-12)


@given(logit_rows, st.floats(0.5, 5000))
def test_margin_score_is_the_same_score_on_another_scale(rows, temperature):
    logits = torch.tensor(rows)
    margin = odin.margin_score(logits, temperature)
    back = odin.score_from_margin(margin, temperature, logits.shape[1])
    assert torch.allclose(back, odin.softmax_score(logits, temperature), rtol=1e-9)


@given(logit_rows)
def test_margin_score_runs_from_the_least_gap_to_the_mean_gap(rows):
    logits = torch.tensor(rows).double()
    ordered = logits.sort(-1, descending=True).values
    gaps = ordered[:, :1] - ordered[:, 1:]
    assert torch.allclose(odin.margin_score(logits, 1e-3), gaps.amin(-1), atol=0.01)
    assert torch.allclose(odin.margin_score(logits, 1e8), gaps.mean(-1), atol=1e-4)


@pytest.mark.parametrize(("temperature", "spread"), [(1.0, 20), (1000.0, 1)])
def test_margin_score_keeps_the_ranking_that_float32_softmax_loses(temperature, spread):
    logits = torch.randn(10_000, 10, generator=torch.Generator().manual_seed(2)) * spread
    stored = odin.margin_score(logits, temperature).float()
    collapsed = torch.softmax(logits / temperature, -1).amax(-1)
    assert len(stored.unique()) > 9_900 > 8_000 > len(collapsed.unique())


def test_temperatures_broadcast():
    logits = torch.randn(4, 6)
    together = odin.margin_score(logits, torch.tensor([[1.0], [10.0]]))
    assert together.shape == (2, 4)
    assert torch.equal(together[1], odin.margin_score(logits, 10.0))


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=20), st.floats(0.01, 1e4))
def test_two_classes_rank_the_same_at_every_temperature(gaps, temperature):
    # At epsilon = 0 the margin score of two classes is |f_1 - f_2| itself, whatever T.
    logits = torch.stack([torch.tensor(gaps), torch.zeros(len(gaps))], dim=1)
    margin = odin.margin_score(logits, temperature)
    assert torch.allclose(margin, torch.tensor(gaps).abs().double(), rtol=1e-9, atol=1e-12 * temperature)


def test_one_class_is_refused():
    with pytest.raises(UserError, match="1 class"):
        odin.softmax_score(torch.ones(3, 1), 1.0)


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_gradient_equals_finite_differences(network, images, temperature):
    gradient, logits = odin.input_gradient(network, images, temperature)
    assert torch.equal(logits, network(images).detach())
    step = 1e-6
    for index in [(0, 0, 0, 0), (3, 1, 4, 5), (6, 2, 7, 7)]:
        moved = images.clone()
        moved[index] += step
        image = index[0]
        predicted = logits[image].argmax()

        def log_score(x, image=image, predicted=predicted):
            return torch.log_softmax(network(x[image : image + 1]) / temperature, -1)[0, predicted].item()

        slope = (log_score(moved) - log_score(images)) / step
        assert gradient[index].item() == pytest.approx(slope, rel=1e-3, abs=1e-9)


def test_confident_images_still_have_a_direction():
    # In float32 the softmax of these logits is 1 and its gradient 0.
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    nn.init.constant_(network[1].bias, 0.0)
    network[1].bias.data[0] = 25.0
    gradient, logits = odin.input_gradient(network, torch.rand(5, 3, 2, 2), 1.0)
    assert (torch.softmax(logits, -1).amax(-1) == 1).all()
    assert (gradient != 0).all()


def test_weights_get_no_gradient(network, images):
    odin.odin_score(network, images, 1000.0, 0.001)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("temperature", [1.0, 10.0, 1000.0])
def test_perturbation_raises_the_score_of_the_predicted_class(network, images, temperature):
    gradient, logits = odin.input_gradient(network, images, temperature)
    epsilon = 1e-5
    moved = network(odin.perturb(images, gradient, epsilon)).detach()
    predicted = logits.argmax(-1, keepdim=True)

    def log_score(f):
        return torch.log_softmax(f / temperature, -1).gather(1, predicted).squeeze(1)

    rise = log_score(moved) - log_score(logits)
    norm = gradient.abs().flatten(1).sum(1)
    assert (rise > 0).all()
    assert torch.allclose(rise, epsilon * norm, rtol=0.02)  # the first-order expansion of Section 5.3


def test_perturbation_moves_every_pixel_by_epsilon_and_is_not_clipped(network, images):
    gradient, _ = odin.input_gradient(network, images, 1.0)
    moved = odin.perturb(torch.zeros_like(images), gradient, 0.01)
    assert torch.allclose(moved.abs(), torch.full_like(moved, 0.01)) and moved.min() < 0


def test_sweep_equals_one_setting_at_a_time(network, images):
    temperatures, epsilons = [1.0, 7.0, 1000.0], [0.0, 0.001, 0.02]
    scores = odin.sweep(network, images, temperatures, epsilons, batch=3)
    assert scores.shape == (3, 3, 7) and scores.dtype == torch.float64
    for a, temperature in enumerate(temperatures):
        for b, epsilon in enumerate(epsilons):
            logits = odin.odin_logits(network, images, temperature, epsilon)
            assert torch.allclose(scores[a, b], odin.margin_score(logits, temperature), rtol=1e-9, atol=1e-12)


def test_any_settings_are_those_of_the_sweep(network, images):
    pairs = [(10.0, 0.01), (1.0, 0.0), (1.0, 0.02), (10.0, 0.0)]
    scores, classes = odin.score_and_classify(network, images, pairs, batch=3)
    grid, grid_classes = odin.sweep_and_classify(network, images, [1.0, 10.0], [0.0, 0.01, 0.02])
    for row, (temperature, epsilon) in enumerate(pairs):
        place = [1.0, 10.0].index(temperature), [0.0, 0.01, 0.02].index(epsilon)
        assert torch.allclose(scores[row], grid[place], rtol=1e-12)
        assert torch.equal(classes[row], grid_classes[place])


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 9))
def test_sweep_does_not_depend_on_the_batch(batch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    images = torch.rand(7, 3, 2, 2, dtype=torch.float64)
    one = odin.sweep(network, images, [1.0, 10.0], [0.0, 0.01], batch=batch)
    assert torch.allclose(one, odin.sweep(network, images, [1.0, 10.0], [0.0, 0.01], batch=7), rtol=1e-12)


def test_sweep_uses_a_networks_own_gradients(network, images):
    class Counting(nn.Module):
        calls = 0

        def forward(self, x):
            return network(x)

        def input_gradients(self, x, temperatures):
            Counting.calls += 1
            return odin.input_gradients(network, x, temperatures)

    odin.sweep(Counting(), images, [1.0], [0.0, 0.01], batch=7)
    assert Counting.calls == 1


def test_tune_takes_the_least_fpr_then_auroc_then_the_smaller_setting():
    scores_in = torch.arange(20.0).expand(2, 2, 20).clone()
    scores_out = torch.full((2, 2, 10), 5.0)
    scores_out[1, 0] = -1  # perfect here
    chosen = odin.tune(scores_in, scores_out, [1.0, 1000.0], [0.0, 0.002])
    assert (chosen.temperature, chosen.epsilon, chosen.fpr) == (1000.0, 0.0, 0.0)
    scores_out[0, 1] = -1  # equally good, with a larger epsilon
    assert odin.tune(scores_in, scores_out, [1.0, 1000.0], [0.0, 0.002]).epsilon == 0.0
    scores_out[:] = -1  # all equal
    assert odin.tune(scores_in, scores_out, [1.0, 1000.0], [0.0, 0.002]).temperature == 1.0


def test_detector_accepts_the_wanted_share_and_refuses_noise(network, images):
    torch.manual_seed(3)
    inside, outside = torch.rand(100, 3, 8, 8).double(), torch.rand(100, 3, 8, 8).double() * 0.01 + 0.5
    detector = odin.ODIN(network, epsilon=0.001).fit(inside)
    assert (detector.predict(inside) == 1).sum() == 95
    scores = detector.score_samples(outside)
    assert torch.equal(detector.predict(outside) == 1, scores > detector.threshold_)


def test_detector_tunes_like_the_sweep(network):
    torch.manual_seed(4)
    inside, outside = torch.rand(60, 3, 8, 8).double(), torch.rand(60, 3, 8, 8).double() * 0.3
    grid = ([1.0, 100.0], [0.0, 0.01, 0.05])
    detector = odin.ODIN(network).fit(inside, outside, *grid)
    chosen = odin.tune(odin.sweep(network, inside, *grid), odin.sweep(network, outside, *grid), *grid)
    assert (detector.temperature_, detector.epsilon_) == (chosen.temperature, chosen.epsilon)
    reached = metrics.fpr_at_tpr(detector.score_samples(inside), detector.score_samples(outside))
    assert reached.item() == pytest.approx(chosen.fpr)


def test_detector_without_threshold_says_so(network, images):
    with pytest.raises(UserError, match="call fit"):
        odin.ODIN(network).predict(images)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([-1.0], [0.0]), "temperature is -1"),
        (([0.0], [0.0]), "temperature is 0"),
        (([math.inf], [0.0]), "temperature is inf"),
        (([1.0], [-0.001]), "epsilon is -0.001"),
        (([], [0.0]), "grid is empty"),
    ],
)
def test_impossible_grids_are_named_in_one_line(network, images, arguments, words):
    with pytest.raises(UserError, match=words) as caught:
        odin.sweep(network, images, *arguments)
    assert "\n" not in str(caught.value)


def test_nan_from_a_network_is_reported(network, images):
    network[4].bias.data[0] = math.nan
    with pytest.raises(UserError, match="NaN"):
        odin.sweep(network, images, [1.0], [0.0])


def test_the_papers_grid():
    assert len(odin.PAPER_TEMPERATURES) == 10 and len(odin.PAPER_EPSILONS) == 21
    assert odin.PAPER_EPSILONS[7] == 0.0014 and odin.PAPER_EPSILONS[-1] == 0.004

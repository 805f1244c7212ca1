"""The lemma of the moving threshold against populations whose false positive rates are known in closed form."""

import dataclasses
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from odinlib import experiments, metrics, moments, odin, profiles, store
from odinlib.errors import Missing, UserError
from odinlib.measure import predictions

TPR = 0.95


@dataclasses.dataclass(frozen=True)
class Population:
    """Scores s ~ N(mean, spread^2) that move at the rate r = level + tilt s + N(0, noise^2)."""

    mean: float
    spread: float
    level: float
    tilt: float
    noise: float

    def at(self, t: float) -> tuple[float, float]:
        """Mean and standard deviation of s + t r, which is normal again."""
        return self.mean + t * (self.level + self.tilt * self.mean), math.hypot(
            self.spread * (1 + t * self.tilt), t * self.noise
        )

    def rate(self, score: float) -> float:
        """The mean rate of images with this score."""
        return self.level + self.tilt * score

    def draw(self, count: int, seed: int, t: float) -> predictions.Moving:
        random = np.random.default_rng(seed)
        scores = random.normal(self.mean, self.spread, count)
        rates = self.rate(scores) + random.normal(0, self.noise, count)
        return predictions.Moving(scores, rates, scores + t * rates)


def fpr(inside: Population, outside: Population, t: float) -> float:
    """The exact false positive rate at t, its threshold set anew."""
    (mean_in, spread_in), (mean_out, spread_out) = inside.at(t), outside.at(t)
    return float(norm.sf(norm.isf(TPR, mean_in, spread_in), mean_out, spread_out))


def derivative(inside: Population, outside: Population) -> float:
    """What the lemma says: q(a) (r_Q - r_P)."""
    a = norm.isf(TPR, inside.mean, inside.spread)
    return float(norm.pdf(a, outside.mean, outside.spread) * (outside.rate(a) - inside.rate(a)))


numbers = st.floats(-3, 3)
spreads = st.floats(0.5, 3)
populations = st.builds(Population, numbers, spreads, numbers, st.floats(-0.3, 0.3), st.floats(0, 2))
FAMILIAR, FOREIGN = Population(3, 1.5, 2.0, 0.4, 0.5), Population(1, 1.0, 1.0, -0.2, 0.8)


# --- The lemma --------------------------------------------------------------------------------------------------------


@given(populations, populations)
def test_the_lemma_is_the_derivative_of_the_exact_rate(inside, outside):
    step = 1e-5
    measured = (fpr(inside, outside, step) - fpr(inside, outside, -step)) / (2 * step)
    assert measured == pytest.approx(derivative(inside, outside), abs=1e-6)


@pytest.mark.parametrize(("inside", "outside"), [(FAMILIAR, FOREIGN), (FAMILIAR, Population(2.5, 2.0, 4.0, 0.5, 1.0))])
def test_the_estimate_from_images_is_the_populations(inside, outside):
    own, other = inside.draw(200_000, 0, 0), outside.draw(200_000, 1, 0)
    found = predictions.slope(own.scores, other.scores, own.rates, other.rates, TPR)
    assert found == pytest.approx(derivative(inside, outside), rel=0.05)


def test_what_is_predicted_of_unmoved_images_is_measured_on_moved_ones():
    step = 0.02
    found = predictions.compare(FAMILIAR.draw(100_000, 0, step), FOREIGN.draw(100_000, 1, step), step, resamples=20)
    change = 100 * (fpr(FAMILIAR, FOREIGN, step) - fpr(FAMILIAR, FOREIGN, 0))
    assert found["predicted"] == pytest.approx(change, rel=0.1) and found["measured"] == pytest.approx(change, rel=0.1)
    for name in ("predicted", "measured", "error"):
        assert found[f"{name}_low"] < found[f"{name}_high"]
    assert found["predicted_low"] <= change <= found["predicted_high"]
    assert found["error"] == found["predicted"] - found["measured"]


def test_equal_rates_for_all_move_no_rate():
    own, other = (population.draw(2000, 0, 0).scores for population in (FAMILIAR, FOREIGN))
    assert predictions.slope(own, other, np.ones(2000), np.ones(2000)) == pytest.approx(0, abs=1e-12)


def test_the_threshold_is_that_of_the_metrics():
    random = np.random.default_rng(0)
    for count in (20, 41, 400):
        inside, outside = random.normal(size=count).round(1), random.normal(size=300).round(1)
        share = np.mean(outside >= predictions.threshold(inside, TPR))
        assert share == metrics.fpr_at_tpr(torch.from_numpy(inside), torch.from_numpy(outside), TPR).item()


def test_a_kernel_is_as_wide_as_the_scores_are_spread():
    scores = np.random.default_rng(0).normal(size=10_000)
    assert predictions.kernel_width(3 * scores) == pytest.approx(3 * predictions.kernel_width(scores))
    assert predictions.kernel_width(scores) == pytest.approx(0.9 * 10_000**-0.2, rel=0.05)
    assert predictions.kernel_width(np.ones(10)) > 0


# --- The temperature, and the perturbation ----------------------------------------------------------------------------


def logits_of(u1, spread):
    """Logits of three classes with these U1, and with these standard deviations of the two gaps."""
    return torch.stack([torch.zeros_like(u1), spread - u1, -spread - u1], dim=-1)


@pytest.fixture
def answered(monkeypatch):
    """Set the logits of each set, and how far its scores are moved by a perturbation."""
    of = dataclasses.replace(profiles.get("demo"), compute=False, seed=3).trained("densenet-bc-22-8", "shapes10")

    def answer(logits, norms=None, moved=None):
        def clean(of, images, indices):
            found = logits(images)
            gradient = np.zeros(len(found)) if norms is None else norms(images)
            u = moments.u1(found).numpy(), moments.u2(found).numpy()
            return store.Clean(np.zeros(len(found), int), *u, gradient, gradient, None)

        def scores(of, images, settings, indices):
            margins = [odin.margin_score(logits(images), t) + (e and moved(images, t, e)) for t, e in settings]
            return torch.stack(margins)

        monkeypatch.setattr(experiments, "tested", lambda of, images, settings: np.arange(len(logits(images))))
        monkeypatch.setattr(experiments, "class_count", lambda of: 3)
        monkeypatch.setattr(store, "clean", clean)
        monkeypatch.setattr(store, "scores", scores)
        return of

    return answer


def test_the_temperature_s_prediction_on_a_population_known_in_closed_form(answered):
    """U1 normal, V a constant of each set: FPR(T) - FPR(oo) = q(a) (V_P - V_Q) / 2T + o(1/T)."""
    spreads, means = {"shapes10": 3.0, "uniform": 1.0}, {"shapes10": 12.0, "uniform": 9.0}

    def logits(images):
        u1 = torch.randn(200_000, generator=torch.Generator().manual_seed(len(images)), dtype=torch.float64)
        return logits_of(u1 + means[images], torch.full_like(u1, spreads[images]))

    temperature = 100.0
    row = predictions.temperature_change(answered(logits), ["uniform"], temperature, resamples=10).iloc[0]
    a = norm.isf(TPR, 12.0)
    exact = 100 * norm.pdf(a, 9.0) * (9.0 - 1.0) / (2 * temperature)
    assert exact > 0.5  # else there would be nothing to see
    assert row.predicted == pytest.approx(exact, rel=0.05) and row.measured == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_the_perturbation_s_prediction_is_that_of_its_gradients(answered, temperature):
    """Scores moved by exactly epsilon times the norm that is recorded of log S, on the scale of g."""
    gradients = {"shapes10": 3.0, "uniform": 5.0}

    def logits(images):
        u1 = torch.randn(20_000, generator=torch.Generator().manual_seed(len(images)), dtype=torch.float64)
        return logits_of((u1 + (8 if images == "shapes10" else 6)).clamp_min(0.1), torch.full_like(u1, 0.01))

    def norms(images):
        rest = 1 - odin.softmax_score(logits(images), temperature).numpy()
        return gradients[images] * rest / temperature  # of log S, where that of g is a constant

    of = answered(logits, norms, lambda images, t, e: e * gradients[images])
    row = predictions.perturbation_change(of, ["uniform"], temperature, 0.02).iloc[0]
    exact = 100 * 0.02 * norm.pdf(8 - norm.isf(0.05), 6) * 2
    assert row.predicted == pytest.approx(exact, rel=0.1) and row.measured == pytest.approx(exact, rel=0.2)
    assert row.epsilon == 0.02 and row.images_in == 20_000


def test_the_gradient_of_g_is_that_of_log_s_over_its_factor():
    logits = torch.tensor([[4.0, 1.0, -2.0, 0.5]], dtype=torch.float64)
    for temperature in (1.0, 5.0):
        norms = {}
        for name, function in (("log S", odin.softmax_score), ("g", odin.margin_score)):
            outputs = logits.clone().requires_grad_()
            score = function(outputs, temperature)
            (score.log() if name == "log S" else score).sum().backward()
            norms[name] = outputs.grad.abs().sum(-1).numpy()
        margin = odin.margin_score(logits, temperature)
        found = predictions.margin_norm(norms["log S"], margin, temperature, 4)
        np.testing.assert_allclose(found, norms["g"], rtol=1e-12)


def test_what_cannot_be_predicted_is_told(answered):
    of = answered(lambda images: logits_of(torch.ones(30).double(), torch.zeros(30).double()))
    with pytest.raises(Missing, match="gradient norms at T = 5"):
        predictions.perturbation_change(of, ["uniform"], 5.0)
    with pytest.raises(Missing, match="no epsilon above 0"):
        predictions.perturbation_change(of.among(epsilons=(0.0,)), ["uniform"])
    with pytest.raises(UserError, match="temperature is 0"):
        predictions.temperature_change(of, ["uniform"], 0)


def test_agreement_counts_signs_and_leaves_out_what_does_not_move():
    frame = pd.DataFrame(
        {
            "predicted": [1.0, -2.0, 3.0, 0.5],
            "measured": [2.0, -2.5, -1.0, 0.0],
            "measured_low": [1.0, -4.0, -2.0, 0.0],
            "measured_high": [3.0, 1.0, -0.5, 0.0],
            "error": [-1.0, 0.5, 4.0, 0.5],
            "error_low": [-2.0, -1.0, 1.0, 0.0],
            "error_high": [1.0, 1.0, 5.0, 1.0],
        }
    )
    assert predictions.agreement(frame) == (3, 2, 2, 1, 1.0, 2.0, 2)


# --- Of which networks ------------------------------------------------------------------------------------------------


def test_of_a_record_every_training_and_every_set_is_asked(tiny, tiny_record, monkeypatch):
    folder = tiny.folder.parent
    shutil.copytree(tiny_record, tiny.folder)
    own = tiny.trained("mlp-16x1", "digits")
    shutil.copytree(tiny.folder / "responses" / own.key, tiny.folder / "responses" / "mlp-16x1_digits_third-party")
    assert store.trainings(own) == [own.training, "third-party"] and folder.is_dir()
    asked = predictions.asked(dataclasses.replace(tiny, compute=False))
    assert [(of.key, sets) for of, sets in asked] == [
        (own.key, ["strokes", "letters", "gaussian"]),
        ("mlp-16x1_digits_third-party", ["strokes", "letters", "gaussian"]),
    ]
    assert [predictions.title(of).rpartition(", ")[2] for of, _ in asked] == ["trained here", "third-party"]
    assert [of.network for of, _ in predictions.asked(tiny)] == list(tiny.networks)


def test_predictions_from_a_run(tiny, tiny_record):
    shutil.copytree(tiny_record, tiny.folder)
    reading = dataclasses.replace(tiny, compute=False)
    by_temperature = predictions.gathered(reading, lambda of, s: predictions.temperature_change(of, [s], 30.0))
    by_epsilon = predictions.gathered(reading, lambda of, s: predictions.perturbation_change(of, [s]))
    assert len(by_temperature) == len(by_epsilon) == 3
    for frame in (*by_temperature.values(), *by_epsilon.values()):
        assert frame.title.item().startswith("MLP") and np.isfinite(frame.select_dtypes("number")).all(axis=None)


def test_what_stands_at_the_threshold_gives_the_prediction(tiny, tiny_record):
    shutil.copytree(tiny_record, tiny.folder)
    of = dataclasses.replace(tiny, compute=False).trained("mlp-16x1", "digits")
    row = predictions.at_threshold(of, ["strokes"]).iloc[0]
    expected = 100 * 0.0001 * row.density * (row.norm_out - row.norm_in)
    assert row.by_epsilon == pytest.approx(expected) and row.density > 0
    with pytest.raises(Missing, match="gradient norms at T = 5"):
        predictions.at_threshold(of, ["strokes"], 5.0)

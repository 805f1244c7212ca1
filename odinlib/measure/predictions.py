"""Two theorems, held against the record: what a little less temperature, or a little perturbation, does to the FPR.

The threshold is set anew whenever the score changes, so what counts is who moves further at it. If a score moves at the
rate r(x), d FPR / dt = q(a) (E_Q[r | a] - E_P[r | a]), with a the threshold and q the density of the foreign images'
scores there (Appendix E, `theory.moving_threshold`). For t = 1 / 2T the score is U1 and its rate -V, the variance of
the gaps (Section 5.2); for t = epsilon the score is the margin score g and its rate the 1-norm of its gradient
(Section 5.3). Both are known of unmoved images.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from odinlib import experiments, names, profiles, store
from odinlib.errors import Missing, check_number
from odinlib.measure.mechanism import LARGE
from odinlib.profiles import Profile, Trained

RESAMPLES = 300  # of the bootstrap
WIDTHS = (0.5, 2.0)  # between which multiples of the usual kernel width a resample takes its own


class Moving(NamedTuple):
    """Scores of the images of a set, the rates at which they begin to move, and where they are in the end."""

    scores: np.ndarray  # [n]
    rates: np.ndarray  # [n]
    moved: np.ndarray  # [n]


def threshold(scores: np.ndarray, tpr: float = 0.95) -> float:
    """The highest of the scores [n] with at least the share `tpr` at or above it, as in `metrics.fpr_at_tpr`."""
    place = len(scores) - max(1, math.ceil(tpr * len(scores) - 1e-9))
    return float(np.partition(scores, place)[place])


def kernel_width(scores: np.ndarray) -> float:
    """The usual width of a Gaussian kernel for the density of scores [n] (Silverman's)."""
    spread = np.diff(np.quantile(scores, (0.25, 0.75))).item() / 1.349
    spread = min(spread, float(scores.std())) if spread > 0 else float(scores.std())
    return float(0.9 * max(spread, np.finfo(float).tiny) * len(scores) ** -0.2)


def slope(
    scores_in: np.ndarray,
    scores_out: np.ndarray,
    rates_in: np.ndarray,
    rates_out: np.ndarray,
    tpr: float = 0.95,
    width: float = 1.0,
) -> float:
    """The rate at which the FPR begins to change, q(a) (E_Q[r | a] - E_P[r | a]), estimated by Gaussian kernels.

    Args:
        scores_in, scores_out: [n] and [m].
        rates_in, rates_out: at which each of these begins to move.
        tpr: the true positive rate at which the threshold stays.
        width: in multiples of `kernel_width`, of each set its own.

    Returns:
        A fraction for each unit of what the rates are for.
    """
    at = threshold(scores_in, tpr)
    weight_in, weight_out = (_kernel(scores, at, width) for scores in (scores_in, scores_out))
    if not weight_in.any():
        return 0.0
    return float(np.mean(weight_out * (rates_out - np.average(rates_in, weights=weight_in))))


def _kernel(scores: np.ndarray, at: float, width: float) -> np.ndarray:
    """Weights [n] whose mean is the density at a point."""
    sigma = width * kernel_width(scores)
    found: np.ndarray = np.exp(-0.5 * ((scores - at) / sigma) ** 2) / (math.sqrt(2 * math.pi) * sigma)
    return found


def compare(
    inside: Moving, outside: Moving, step: float, tpr: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float]:
    """The change of the FPR that the theorem predicts of unmoved images, and the one that is measured on moved ones.

    Args:
        inside, outside: of in- and of out-of-distribution images.
        step: how far the images are moved, in the unit of the rates.
        tpr: the true positive rate.
        resamples: of a bootstrap over both sets' images; each takes a kernel width of its own, log-uniform between
            `WIDTHS`, so that the interval holds what the choice of the width does, too.
        seed: of it.

    Returns:
        predicted, measured and error (the difference), in percentage points, each with the ends of its 95 % interval
        (`<name>_low`, `<name>_high`; those of one resample belong together).
    """
    check_number("resamples", resamples, at_least=2)
    random = np.random.default_rng(seed)

    def both(here: Moving, there: Moving, width: float) -> tuple[float, float]:
        rate = slope(here.scores, there.scores, here.rates, there.rates, tpr, width)
        after, before = (
            np.mean(out >= threshold(own, tpr)) for own, out in ((here.moved, there.moved), (here.scores, there.scores))
        )
        return 100 * step * rate, float(100 * (after - before))

    drawn = []
    for _ in range(resamples):
        own, other = (random.integers(len(s.scores), size=len(s.scores)) for s in (inside, outside))
        width = math.exp(random.uniform(*np.log(WIDTHS)))
        drawn.append(both(Moving(*(x[own] for x in inside)), Moving(*(x[other] for x in outside)), width))
    found: dict[str, float] = {}
    predicted, measured = both(inside, outside, 1.0)
    values = np.array(drawn)
    for name, value, sample in (
        ("predicted", predicted, values[:, 0]),
        ("measured", measured, values[:, 1]),
        ("error", predicted - measured, values[:, 0] - values[:, 1]),
    ):
        low, high = np.quantile(sample, (0.025, 0.975))
        found |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return found


def temperature_change(
    of: Trained, ood_sets: Sequence[str], temperature: float, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """FPR at T less its limit for T to infinity: predicted from U1 and the gaps' variance, and measured (Section 5.2).

    Args:
        of: the network; logits are all that it takes.
        ood_sets: a row each.
        temperature: T, large against the gaps.
        resamples: of the bootstrap.

    Returns:
        Columns network, id_set, training, ood_set, images_in, images_out, and those of `compare`.
    """
    setting = (float(check_number("temperature", temperature, above=0)), 0.0)

    def moving(images: str) -> Moving:
        indices = experiments.tested(of, images, [setting])
        clean = store.clean(of, images, indices)
        return Moving(clean.u1, clean.u1**2 - clean.u2, store.scores(of, images, [setting], indices)[0].numpy())

    return _rows(of, ood_sets, moving, 1 / (2 * temperature), resamples)


def perturbation_change(
    of: Trained, ood_sets: Sequence[str], temperature: float = LARGE, epsilon: float | None = None
) -> pd.DataFrame:
    """FPR at epsilon less that at 0: predicted from unmoved images' scores and gradients, and measured (Section 5.3).

    Args:
        of: the network.
        ood_sets: a row each.
        temperature: T, 1 or 1000, of which gradient norms are recorded.
        epsilon: None takes the smallest of the profile's above 0.

    Returns:
        Columns as of `temperature_change`, and epsilon.

    Raises:
        Missing: there are no gradient norms at T, or no scores of images moved by epsilon.
    """
    if temperature not in (1, LARGE):
        told = f"gradient norms at T = {temperature:g} are not recorded"
        raise Missing(told, expected=f"a temperature of 1 or {LARGE:g}")
    above = [e for e in of.profile.epsilons if e > 0]
    if epsilon is None and not above:
        raise Missing("the grid has no epsilon above 0")
    step = min(above) if epsilon is None else check_number("epsilon", epsilon, above=0)
    settings = [(float(temperature), 0.0), (float(temperature), float(step))]
    classes = experiments.class_count(of)

    def moving(images: str) -> Moving:
        if of.profile.exact:
            indices = experiments.curve_images(of, images, (temperature,))
        else:
            indices = experiments.tested(of, images, settings)
        if not len(indices):
            raise store.missing(of, images, f"scores at epsilon = {step:g}", at=settings[1])
        before, after = store.scores(of, images, settings, indices)
        clean = store.clean(of, images, indices)
        norm = clean.gradient_norm_1 if temperature == 1 else clean.gradient_norm_1000
        return Moving(before.numpy(), margin_norm(norm, before, temperature, classes), after.numpy())

    return _rows(of, ood_sets, moving, step).assign(epsilon=step)


def at_threshold(of: Trained, ood_sets: Sequence[str], temperature: float = LARGE) -> pd.DataFrame:
    """What stands at the threshold of the margin score, of unmoved images: all that the first order knows of a set.

    Args:
        of: the network.
        ood_sets: a row each.
        temperature: T, 1 or 1000.

    Returns:
        Columns ood_set, fpr (percent), density (of the foreign scores at the threshold), norm_in and norm_out (the mean
        1-norm of the gradient of g there) and by_epsilon (the change of the FPR that they predict for a step of 0.0001,
        in percentage points).
    """
    inside, norms_in = unmoved(of, of.id_set, temperature)
    at, rows = threshold(inside, of.profile.tpr), []
    weight_in = _kernel(inside, at, 1.0)
    for ood_set in ood_sets:
        outside, norms_out = unmoved(of, ood_set, temperature)
        weight_out = _kernel(outside, at, 1.0)
        rate = slope(inside, outside, norms_in, norms_out, of.profile.tpr)
        rows.append(
            {
                "ood_set": ood_set,
                "fpr": 100 * float(np.mean(outside >= at)),
                "density": float(weight_out.mean()),
                "norm_in": float(np.average(norms_in, weights=weight_in)),
                "norm_out": float(np.average(norms_out, weights=weight_out)) if weight_out.any() else math.nan,
                "by_epsilon": 100 * 0.0001 * rate,
            }
        )
    return pd.DataFrame(rows)


def unmoved(of: Trained, images: str, temperature: float = LARGE) -> tuple[np.ndarray, np.ndarray]:
    """The margin scores g of a set's test images as they are, and the 1-norms of the gradients of g [n] each.

    Raises:
        Missing: they are not recorded, as at any T but 1 and 1000.
    """
    if temperature not in (1, LARGE):
        told = f"gradient norms at T = {temperature:g} are not recorded"
        raise Missing(told, expected=f"a temperature of 1 or {LARGE:g}")
    setting = (float(temperature), 0.0)
    indices = experiments.tested(of, images, [setting])
    margin, clean = store.scores(of, images, [setting], indices)[0], store.clean(of, images, indices)
    norm = clean.gradient_norm_1 if temperature == 1 else clean.gradient_norm_1000
    return margin.numpy(), margin_norm(norm, margin, temperature, experiments.class_count(of))


def margin_norm(norm: np.ndarray, margin: torch.Tensor, temperature: float, classes: int) -> np.ndarray:
    """The 1-norm of the gradient of the margin score g, from that of log S: T / (1 - S) times it.

    Args:
        norm: 1-norms of the gradient of log S [n].
        margin: the scores g [n]; 1 - S is computed from them, to the last digit also where S rounds to 1.
        temperature: T.
        classes: K.
    """
    rest = torch.sigmoid(math.log(classes - 1) - margin.double() / temperature).numpy()
    found: np.ndarray = temperature * norm.astype(np.float64) / rest
    return found


def _rows(
    of: Trained, ood_sets: Sequence[str], moving: Callable[[str], Moving], step: float, resamples: int = RESAMPLES
) -> pd.DataFrame:
    inside, rows = moving(of.id_set), []
    for ood_set in ood_sets:
        outside = moving(ood_set)
        told = {"network": of.network, "id_set": of.id_set, "training": of.training, "ood_set": ood_set}
        counts = {"images_in": len(inside.scores), "images_out": len(outside.scores)}
        rows.append({**told, **counts, **compare(inside, outside, step, of.profile.tpr, resamples, of.profile.seed)})
    return pd.DataFrame(rows)


def asked(profile: Profile) -> list[tuple[Trained, list[str]]]:
    """Which networks the theorems are held against, and on which sets.

    Where all is computed here, the profile's networks on its first in-distribution set. Of a record everything that is
    there: every network in every training, and every set of the paper's or standing for one.
    """
    if profile.compute:
        own = profile.id_sets[0]
        return [(profile.trained(name, own), list(profile.ood_sets[own])) for name in profile.networks]
    found = []
    for of in experiments.networks(profile):
        sets = profile.ood_sets[of.id_set]
        sets = (*sets, *(s for s, role in profile.stands_for.items() if role in sets and s not in sets))
        for training in store.trainings(of):
            one = profile.trained(of.network, of.id_set, training)
            there = [s for s in sets if store.recorded(one, s, "responses")]
            if store.recorded(one, of.id_set, "responses") and there:
                found.append((one, there))
    return found


def gathered(
    profile: Profile, change: Callable[[Trained, str], pd.DataFrame]
) -> experiments.Gathered[tuple[str, str], pd.DataFrame]:
    """`change` of every network and set of `asked`, as far as it can be had: by (title, set), with a column title."""
    networks = {title(of): (of, sets) for of, sets in asked(profile)}
    keys = [(name, ood_set) for name, (_, sets) in networks.items() for ood_set in sets]
    return experiments.gather(lambda name, ood_set: change(networks[name][0], ood_set).assign(title=name), keys)


def title(of: Trained) -> str:
    """A network, what it was trained on, and whose training it is where several could be meant."""
    whose = of.training if of.training in profiles.TRAININGS else "trained here"
    return f"{names.network_title(of.network)} on {names.set_title(of.id_set)}, {whose}{names.asked_in(of.precision)}"


class Agreement(NamedTuple):
    """How well predictions do: of those whose measured change is not 0."""

    cases: int
    signs: int  # right
    clear: int  # cases whose measured interval leaves out 0
    clear_signs: int  # right among these
    error: float  # median absolute, in points
    change: float  # median absolute measured change, in points
    within: int  # cases whose interval of the difference holds 0


def agreement(frame: pd.DataFrame) -> Agreement:
    """Signs and errors of the rows of `temperature_change` or `perturbation_change`."""
    rows = frame[frame.measured != 0]
    right = np.sign(rows.predicted) == np.sign(rows.measured)
    clear = (rows.measured_low > 0) | (rows.measured_high < 0)
    return Agreement(
        len(rows),
        int(right.sum()),
        int(clear.sum()),
        int((right & clear).sum()),
        float(rows.error.abs().median()),
        float(rows.measured.abs().median()),
        int(((rows.error_low <= 0) & (rows.error_high >= 0)).sum()),
    )

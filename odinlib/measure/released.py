"""What the images that the paper's authors released have to do with its numbers: border and JPEG, on and off.

Beyond the paper. Variants of one set hold the same images in the same order, so every comparison is paired.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from odinlib import experiments, metrics
from odinlib.measure import predictions
from odinlib.measure.mechanism import quantities
from odinlib.profiles import Trained

#: The ways to score that are compared, as they are shown.
METHODS = {"baseline": "baseline", "temperature": "temperature alone", "odin": "ODIN"}


def variants_effect(of: Trained, sets: Sequence[str]) -> pd.DataFrame:
    """The five measures by three methods on variants of one set, and how each differs from the first variant.

    Args:
        of: the network; its profile's fixed setting is that of `odin`, and its fixed temperature that of `temperature`.
        sets: variants of one set of images.

    Returns:
        A row for each set, method and metric: set, method, metric, value, low, high (percent), change, change_low,
        change_high (points, from the first set; paired bootstrap), images_in, images_out.
    """
    profile = of.profile
    large, moved = profile.fixed_temperature, profile.fixed_epsilon
    settings = {"baseline": (1.0, 0.0), "temperature": (large, 0.0), "odin": (large, moved)}
    every = list(settings.values())
    inside = experiments.tested(of, of.id_set, every)
    test = {images: experiments.tested(of, images, every) for images in sets}
    common = set.intersection(*(set(indices.tolist()) for indices in test.values()))
    rows = []
    for method, setting in settings.items():
        scores_in = experiments.test_scores(of, of.id_set, *setting, among=inside)
        first: dict[str, np.ndarray] = {}
        for images in sets:
            paired = np.array([index for index in test[images] if index in common])
            scores_out = experiments.test_scores(of, images, *setting, among=paired)
            values = metrics.evaluate(scores_in, scores_out, profile.tpr)
            drawn = metrics.bootstrap(
                scores_in, scores_out, resamples=profile.resamples, tpr=profile.tpr, seed=profile.seed
            )
            for metric in metrics.METRICS:
                found = 100 * torch.cat([values[metric].reshape(1), drawn[metric]]).numpy()
                change = found - first.setdefault(metric, found)
                low, high, change_low, change_high = (
                    end for part in (found[1:], change[1:]) for end in metrics.interval(torch.from_numpy(part))
                )
                rows.append(
                    {
                        "set": images,
                        "method": method,
                        "metric": metric,
                        "value": found[0],
                        "low": low,
                        "high": high,
                        "change": change[0],
                        "change_low": change_low,
                        "change_high": change_high,
                        "images_in": len(scores_in),
                        "images_out": len(scores_out),
                    }
                )
    return pd.DataFrame(rows)


#: The quantities that `paired_shift` compares, as they are shown: columns of `mechanism.quantities`.
QUANTITIES = {
    "u1": "U₁",
    "variance": "variance of the gaps",
    "norm_1": "‖∇ log S‖₁ at T = 1",
    "norm": "‖∇ log S‖₁ at T = 1000",
}


def paired_shift(of: Trained, before: str, after: str) -> pd.DataFrame:
    """What a change of the images does to what the paper explains detection by, image by image.

    Args:
        of: the network.
        before, after: two variants of one set.

    Returns:
        A row for each of `QUANTITIES`: quantity, before, after (means), change (mean of the differences), low, high
        (its 95 % interval, normal), share (of images in which it grows, percent), images.
    """
    frames = [quantities(of, [images]).set_index("index") for images in (before, after)]
    shared = frames[0].index.intersection(frames[1].index)
    rows = []
    for name in QUANTITIES:
        old, new = (frame.loc[shared, name].to_numpy() for frame in frames)
        change = new - old
        half = 1.96 * change.std(ddof=1) / np.sqrt(len(change))
        rows.append(
            {
                "quantity": name,
                "before": old.mean(),
                "after": new.mean(),
                "change": change.mean(),
                "low": change.mean() - half,
                "high": change.mean() + half,
                "share": 100 * (change > 0).mean(),
                "images": len(shared),
            }
        )
    return pd.DataFrame(rows)


def epsilon_slope(of: Trained, images: str, resamples: int = 200, seed: int = 0) -> dict[str, float]:
    """The derivative of the FPR by epsilon at 0, at the large temperature, from what is recorded at epsilon = 0.

    It is that of `predictions.at_threshold`, with an interval: a perturbation hurts at first where, at the threshold,
    foreign images have the steeper score.

    Args:
        of: the network.
        images: the foreign set.
        resamples: of the bootstrap behind the interval.
        seed: of these.

    Returns:
        slope, low, high: percentage points for each 0.001 of epsilon; steep_in, steep_out: the mean 1-norms of the
        gradient of the margin score at the threshold.
    """
    (g_in, norm_in), (g_out, norm_out) = (predictions.unmoved(of, name) for name in (of.id_set, images))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        own, other = (rng.integers(len(g), size=len(g)) for g in (g_in, g_out))
        rate = predictions.slope(g_in[own], g_out[other], norm_in[own], norm_out[other], of.profile.tpr)
        drawn.append(100 * 0.001 * rate)
    low, high = np.quantile(drawn, (0.025, 0.975))
    found = predictions.at_threshold(of, [images]).iloc[0]
    slope = 10 * found.by_epsilon  # which is of a step of 0.0001
    return {"slope": slope, "low": low, "high": high, "steep_in": found.norm_in, "steep_out": found.norm_out}

"""How detection depends on T, epsilon, the threshold and the tuning set (Section 5.1, Appendices B, H and I).

Everything here is arithmetic on the artefacts of `odinlib.experiments`; measures are in percent.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from odinlib import experiments, metrics, odin
from odinlib.profiles import Profile


def temperature_effect(
    profile: Profile, name: str, id_set: str, ood_sets: Sequence[str], temperatures: Sequence[float] | None = None
) -> pd.DataFrame:
    """The five measures against T without perturbation, from clean logits (Figures 3 ab and 7).

    Returns:
        Columns ood_set, temperature and the five measures; one row for each set and temperature.
    """
    grid = list(temperatures or profile.temperatures)
    tempered = torch.tensor(grid, dtype=torch.float64)[:, None]

    def scores(images: str) -> torch.Tensor:
        logits = torch.from_numpy(experiments.test_responses(profile, name, id_set, images).logits)
        return odin.margin_score(logits, tempered)

    scores_in = scores(id_set)
    return _curves(profile, ood_sets, "temperature", grid, lambda ood_set: (scores_in, scores(ood_set)))


def epsilon_effect(
    profile: Profile, name: str, id_set: str, ood_sets: Sequence[str], temperature: float
) -> pd.DataFrame:
    """The five measures against epsilon at one temperature (Figures 3 cd, 4, 8 and 9).

    Args:
        profile: its epsilons are the axis.
        name: the network.
        id_set: what it was trained on.
        ood_sets: a curve each.
        temperature: one of `experiments.curve_temperatures`.

    Returns:
        Columns ood_set, epsilon and the five measures.
    """
    row = experiments.curve_temperatures(profile).index(temperature)

    def scores(images: str) -> torch.Tensor:
        return experiments.curve(profile, name, id_set, images)[row]

    scores_in = scores(id_set)
    return _curves(profile, ood_sets, "epsilon", profile.epsilons, lambda ood_set: (scores_in, scores(ood_set)))


def threshold_effect(
    profile: Profile, name: str, id_set: str, ood_sets: Sequence[str], points: int = 400
) -> tuple[np.ndarray, dict[str, np.ndarray], float]:
    """The share of each set that is accepted, against the threshold (Figure 13).

    Returns:
        Thresholds delta on the scale of the softmax score [points]; for the ID set (its TPR) and each OOD set (its
        FPR) the share of images scored above each [points]; and the threshold at the profile's TPR.
    """
    temperature = profile.fixed_temperature
    classes = experiments.responses(profile, name, id_set, id_set).logits.shape[1]

    def scores(images: str) -> torch.Tensor:
        margin = experiments.test_scores(profile, name, id_set, images, temperature, profile.fixed_epsilon)
        return odin.score_from_margin(margin, temperature, classes)

    found = {images: scores(images).sort().values for images in (id_set, *ood_sets)}
    pooled = torch.cat(list(found.values()))
    thresholds = torch.linspace(pooled.min().item(), pooled.max().item(), points, dtype=torch.float64)
    shares = {
        images: (100 * (1 - torch.searchsorted(ordered, thresholds, right=True).double() / len(ordered))).numpy()
        for images, ordered in found.items()
    }
    return thresholds.numpy(), shares, metrics.threshold_at_tpr(found[id_set], profile.tpr).item()


def transfer(
    profile: Profile, name: str, id_set: str, ood_sets: Sequence[str], tuning_sets: Sequence[str] | None = None
) -> pd.DataFrame:
    """FPR on each set with T and epsilon tuned on each other one (Figure 14, Tables 10 and 11).

    Returns:
        Columns ood_set, tuning_set, id_set, temperature, epsilon, baseline and odin (FPR at the profile's TPR).
    """
    chosen = {s: experiments.tune(profile, name, id_set, s) for s in tuning_sets or ood_sets}

    def fpr(ood_set: str, setting: odin.Setting) -> float:
        scores_in, scores_out = (
            experiments.test_scores(profile, name, id_set, images, setting.temperature, setting.epsilon)
            for images in (id_set, ood_set)
        )
        return 100 * metrics.fpr_at_tpr(scores_in, scores_out, profile.tpr).item()

    rows = []
    for ood_set in ood_sets:
        baseline = fpr(ood_set, odin.Setting(1.0, 0.0, float("nan")))
        for tuning_set, setting in chosen.items():
            rows.append(
                {
                    "id_set": id_set,
                    "ood_set": ood_set,
                    "tuning_set": tuning_set,
                    "temperature": setting.temperature,
                    "epsilon": setting.epsilon,
                    "baseline": baseline,
                    "odin": fpr(ood_set, setting),
                }
            )
    return pd.DataFrame(rows)


#: The ways to choose T and epsilon that `tuning_rules` compares, and what each needs to know.
RULES = {
    "baseline": "T = 1, ε = 0 (baseline)",
    "own": "tuned on images of the test set's own kind (the paper's way)",
    "others": "tuned on all other sets together",
    "familiar": "large T, ε that raises the mean in-distribution score most",
    "fixed": "the paper's single setting",
}


def tuning_rules(profile: Profile, name: str, id_set: str, ood_sets: Sequence[str]) -> pd.DataFrame:
    """FPR on each set by several ways to choose T and epsilon, from knowing the foreign set to knowing none.

    Args:
        profile: its largest temperature is that of the rule `familiar`, its fixed setting that of `fixed`.
        name: the network.
        id_set: what it was trained on.
        ood_sets: at least two, for the rule `others`.

    Returns:
        Columns ood_set, rule (a key of `RULES`), temperature, epsilon, fpr; tuning_fpr, the rate on the images that
        the setting was chosen on (NaN where no foreign image was used); and price, low, high: the difference to the
        rule `own` in points with its 95 % interval (paired bootstrap on the test images).
    """
    grid_in = experiments.grid(profile, name, id_set, id_set)
    grids = {ood_set: experiments.grid(profile, name, id_set, ood_set) for ood_set in ood_sets}
    nan = float("nan")
    scores_of_epsilon = mean_scores(profile, name, id_set)
    familiar = scores_of_epsilon.loc[scores_of_epsilon.score.idxmax()]
    rows = []
    for ood_set in ood_sets:
        others = torch.cat([grids[other] for other in ood_sets if other != ood_set] or [grids[ood_set]], dim=-1)
        settings = {
            "own": odin.tune(grid_in, grids[ood_set], profile.temperatures, profile.epsilons, profile.tpr),
            "baseline": odin.Setting(1.0, 0.0, nan),
            "others": odin.tune(grid_in, others, profile.temperatures, profile.epsilons, profile.tpr),
            "familiar": odin.Setting(familiar.temperature, familiar.epsilon, nan),
            "fixed": odin.Setting(profile.fixed_temperature, profile.fixed_epsilon, nan),
        }
        resampled = {}
        for rule, setting in settings.items():
            scores_in, scores_out = (
                experiments.test_scores(profile, name, id_set, images, setting.temperature, setting.epsilon)
                for images in (id_set, ood_set)
            )
            drawn = metrics.bootstrap(
                scores_in, scores_out, resamples=profile.resamples, tpr=profile.tpr, seed=profile.seed
            )["fpr"]
            resampled[rule] = drawn
            low, high = metrics.interval(drawn - resampled["own"])
            fpr = metrics.fpr_at_tpr(scores_in, scores_out, profile.tpr).item()
            rows.append(
                {
                    "ood_set": ood_set,
                    "rule": rule,
                    "temperature": setting.temperature,
                    "epsilon": setting.epsilon,
                    "fpr": 100 * fpr,
                    "tuning_fpr": 100 * setting.fpr,
                    "low": 100 * low,
                    "high": 100 * high,
                }
            )
    frame = pd.DataFrame(rows)
    own = frame[frame.rule == "own"].set_index("ood_set").fpr
    return frame.assign(price=frame.fpr - frame.ood_set.map(own))


def mean_scores(profile: Profile, name: str, id_set: str) -> pd.DataFrame:
    """The mean score of the held-out in-distribution images against epsilon, at the profile's largest temperature.

    Generalized ODIN (Hsu et al., 2020) takes the epsilon at which it is greatest; no foreign image is needed.

    Returns:
        Columns temperature, epsilon, score (on the scale of `odin.margin_score`).
    """
    largest = max(profile.temperatures)
    scores = experiments.grid(profile, name, id_set, id_set)[profile.temperatures.index(largest)].double().mean(-1)
    return pd.DataFrame({"temperature": largest, "epsilon": profile.epsilons, "score": scores.numpy()})


def tuning_size_effect(profile: Profile, name: str, id_set: str, ood_sets: Sequence[str]) -> pd.DataFrame:
    """FPR on test images against the number of images that T and epsilon were tuned on (Figure 15).

    The largest tuning set is held out once; every smaller one is its beginning. The FPR is measured on images that
    are in none of them.

    Returns:
        Columns ood_set, size, temperature, epsilon, fpr.
    """
    largest = max(profile.tuning_sizes)
    grid_in = experiments.grid(profile, name, id_set, id_set, holdout=largest)
    rows = []
    for ood_set in ood_sets:
        grid_out = experiments.grid(profile, name, id_set, ood_set, holdout=largest)
        for size in profile.tuning_sizes:
            setting = odin.tune(
                grid_in[..., :size], grid_out[..., :size], profile.temperatures, profile.epsilons, profile.tpr
            )
            scores_in, scores_out = (
                # The held-out images of the largest tuning set come first in the split's order, so the test images
                # of the usual split from there on are in no tuning set.
                experiments.test_scores(profile, name, id_set, images, setting.temperature, setting.epsilon)[
                    max(0, largest - profile.holdout) :
                ]
                for images in (id_set, ood_set)
            )
            fpr = 100 * metrics.fpr_at_tpr(scores_in, scores_out, profile.tpr).item()
            rows.append(
                {
                    "ood_set": ood_set,
                    "size": size,
                    "temperature": setting.temperature,
                    "epsilon": setting.epsilon,
                    "fpr": fpr,
                }
            )
    return pd.DataFrame(rows)


def accuracy_by_score(
    profile: Profile, name: str, id_set: str, rates: Sequence[float] = tuple(np.arange(0.80, 0.996, 0.01))
) -> pd.DataFrame:
    """Accuracy on the test images scored above and below the threshold of each true positive rate (Figure 16).

    Returns:
        Columns tpr, above, below (accuracy in percent; NaN where no image is on that side).
    """
    clean = experiments.test_responses(profile, name, id_set, id_set)
    assert clean.labels is not None
    right = torch.from_numpy(clean.logits.argmax(1) == clean.labels).double()
    scores = experiments.test_scores(profile, name, id_set, id_set, profile.fixed_temperature, profile.fixed_epsilon)
    rows = []
    for rate in rates:
        above = scores > metrics.threshold_at_tpr(scores, rate)
        rows.append(
            {
                "tpr": 100 * rate,
                "above": 100 * right[above].mean().item(),
                "below": 100 * right[~above].mean().item(),
            }
        )
    return pd.DataFrame(rows)


def _curves(profile: Profile, ood_sets, axis: str, grid: Sequence[float], scores) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    frames = []
    for ood_set in ood_sets:
        scores_in, scores_out = scores(ood_set)
        measured = metrics.evaluate(scores_in, scores_out, profile.tpr)
        columns = {name: 100 * values.numpy() for name, values in measured.items()}
        frames.append(pd.DataFrame({"ood_set": ood_set, axis: list(grid), **columns}))
    return pd.concat(frames, ignore_index=True)

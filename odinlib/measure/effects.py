"""How detection depends on T, epsilon, the threshold and the tuning set (Section 5.1, Appendices B, H and I).

And on what the paper does not name: the filter that its "resize" sets were made with.

Everything here is arithmetic on the artefacts of `odinlib.experiments`; measures are in percent.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from odinlib import datasets, experiments, metrics, odin, store
from odinlib.errors import UserError
from odinlib.profiles import Trained


def temperature_effect(
    of: Trained, ood_sets: Sequence[str], temperatures: Sequence[float] | None = None
) -> pd.DataFrame:
    """The five measures against T without perturbation, from clean logits (Figures 3 ab and 7).

    Returns:
        Columns ood_set, temperature and the five measures; one row for each set and temperature.
    """
    grid = list(temperatures or of.profile.temperatures)

    def scores(images: str) -> torch.Tensor:
        return store.scores(of, images, [(t, 0.0) for t in grid], experiments.tested(of, images))

    scores_in = scores(of.id_set)
    return _curves(of, ood_sets, "temperature", grid, lambda ood_set: (scores_in, scores(ood_set)))


def epsilon_effect(of: Trained, ood_sets: Sequence[str], temperature: float) -> pd.DataFrame:
    """The five measures against epsilon at one temperature (Figures 3 cd, 4, 8 and 9).

    Args:
        of: the network; its profile's epsilons are the axis.
        ood_sets: a curve each.
        temperature: one of `experiments.curve_temperatures`.

    Returns:
        Columns ood_set, epsilon and the five measures.
    """

    def scores(images: str) -> torch.Tensor:
        return experiments.curve(of, images, [temperature])[0]

    scores_in = scores(of.id_set)
    return _curves(of, ood_sets, "epsilon", of.profile.epsilons, lambda ood_set: (scores_in, scores(ood_set)))


def best_points(curves: Mapping[tuple[str, str], pd.DataFrame], axis: str) -> pd.DataFrame:
    """Where along its axis each measure of each curve is best, and by how much better than at the first point.

    Args:
        curves: for each (network, ood_set) a frame of `temperature_effect` or `epsilon_effect`.
        axis: `temperature` or `epsilon`.

    Returns:
        Columns network, ood_set, metric, gain (in points) and at.
    """
    rows = []
    for (network, ood_set), curve in curves.items():
        for metric in metrics.METRICS:
            values = curve[metric]
            best = values.idxmin() if metric in metrics.LOWER_IS_BETTER else values.idxmax()
            gain = abs(values[best] - values.iloc[0])
            rows.append(
                {"network": network, "ood_set": ood_set, "metric": metric, "gain": gain, "at": curve[axis][best]}
            )
    return pd.DataFrame(rows)


def threshold_effect(
    of: Trained, ood_sets: Sequence[str], points: int = 400
) -> tuple[np.ndarray, dict[str, np.ndarray], float]:
    """The share of each set that is accepted, against the threshold (Figure 13).

    Returns:
        Thresholds delta on the scale of the softmax score [points]; for the ID set (its TPR) and each OOD set (its
        FPR) the share of images scored above each [points]; and the threshold at the profile's TPR.
    """
    temperature = of.profile.fixed_temperature
    classes = experiments.class_count(of)

    def scores(images: str) -> torch.Tensor:
        margin = experiments.test_scores(of, images, temperature, of.profile.fixed_epsilon)
        return odin.score_from_margin(margin, temperature, classes)

    found = {images: scores(images).sort().values for images in (of.id_set, *ood_sets)}
    pooled = torch.cat(list(found.values()))
    thresholds = torch.linspace(pooled.min().item(), pooled.max().item(), points, dtype=torch.float64)
    shares = {
        images: (100 * (1 - torch.searchsorted(ordered, thresholds, right=True).double() / len(ordered))).numpy()
        for images, ordered in found.items()
    }
    return thresholds.numpy(), shares, metrics.threshold_at_tpr(found[of.id_set], of.profile.tpr).item()


def transfer(
    of: Trained,
    ood_sets: Sequence[str],
    tuning_sets: Sequence[str] | Mapping[str, odin.Setting] | None = None,
) -> pd.DataFrame:
    """FPR on each set with T and epsilon tuned on each other one (Figure 14, Tables 10 and 11).

    Args:
        of: the network, under a profile with the grid, and the true positive rate.
        ood_sets: to test on.
        tuning_sets: to tune on, or what was chosen on each already; None tunes on those tested on.

    Returns:
        Columns ood_set, tuning_set, id_set, temperature, epsilon, baseline and odin (FPR at the profile's TPR).
    """
    if isinstance(tuning_sets, Mapping):
        chosen = dict(tuning_sets)
    else:
        chosen = {s: experiments.tune(of, s) for s in tuning_sets or ood_sets}

    def fpr(ood_set: str, setting: odin.Setting) -> float:
        scores_in, scores_out = (
            experiments.test_scores(of, images, setting.temperature, setting.epsilon) for images in (of.id_set, ood_set)
        )
        return 100 * metrics.fpr_at_tpr(scores_in, scores_out, of.profile.tpr).item()

    rows = []
    for ood_set in ood_sets:
        baseline = fpr(ood_set, odin.Setting(1.0, 0.0, float("nan")))
        for tuning_set, setting in chosen.items():
            rows.append(
                {
                    "id_set": of.id_set,
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
    "fixed": "one setting for all sets, fixed beforehand",
}


def rule_settings(of: Trained, ood_sets: Sequence[str]) -> dict[tuple[str, str], odin.Setting]:
    """What each of `RULES` chooses before each set: (ood_set, rule) to T and epsilon.

    Args:
        of: the network; its profile's largest temperature is that of the rule `familiar`, its fixed setting that of
            `fixed`.
        ood_sets: at least two, for the rule `others`.
    """
    grid_in = experiments.grid(of, of.id_set)
    grids = {ood_set: experiments.grid(of, ood_set) for ood_set in ood_sets}
    scores_of_epsilon = mean_scores(of)
    familiar = scores_of_epsilon.loc[scores_of_epsilon.score.idxmax()]
    nan = float("nan")
    found = {}
    for ood_set in ood_sets:
        others = torch.cat([grids[other] for other in ood_sets if other != ood_set] or [grids[ood_set]], dim=-1)
        chosen = {
            "baseline": odin.Setting(1.0, 0.0, nan),
            "own": odin.tune(grid_in, grids[ood_set], of.profile.temperatures, of.profile.epsilons, of.profile.tpr),
            "others": odin.tune(grid_in, others, of.profile.temperatures, of.profile.epsilons, of.profile.tpr),
            "familiar": odin.Setting(familiar.temperature, familiar.epsilon, nan),
            "fixed": odin.Setting(of.profile.fixed_temperature, of.profile.fixed_epsilon, nan),
        }
        found.update({(ood_set, rule): chosen[rule] for rule in RULES})
    return found


def tuning_rules(of: Trained, ood_sets: Sequence[str], rules: Sequence[str] = tuple(RULES)) -> pd.DataFrame:
    """FPR on each set by several ways to choose T and epsilon, from knowing the foreign set to knowing none.

    Args:
        of: the network, under the profile of the settings, see `rule_settings`, and of the measure.
        ood_sets: at least two, for the rule `others`.
        rules: keys of `RULES`; the price is that against `own`, whether or not it is one of them.

    Returns:
        Columns ood_set, rule (a key of `RULES`), temperature, epsilon, fpr; tuning_fpr, the rate on the images that
        the setting was chosen on (NaN where no foreign image was used); and price, low, high: the difference to the
        rule `own` in points with its 95 % interval (paired bootstrap on the test images).
    """
    settings = rule_settings(of, ood_sets)
    rows = []
    for ood_set in ood_sets:
        measured: dict[tuple[float, float], tuple[float, torch.Tensor]] = {}  # rules often choose alike
        for rule in dict.fromkeys(("own", *rules)):
            setting = settings[ood_set, rule]
            key = setting.temperature, setting.epsilon
            if key not in measured:
                scores_in, scores_out = (experiments.test_scores(of, images, *key) for images in (of.id_set, ood_set))
                drawn = metrics.bootstrap(
                    scores_in,
                    scores_out,
                    resamples=of.profile.resamples,
                    tpr=of.profile.tpr,
                    seed=of.profile.seed,
                    names=("fpr",),
                )
                measured[key] = metrics.fpr_at_tpr(scores_in, scores_out, of.profile.tpr).item(), drawn["fpr"]
            fpr, resampled = measured[key]
            own, resampled_own = measured[settings[ood_set, "own"].temperature, settings[ood_set, "own"].epsilon]
            low, high = metrics.interval(resampled - resampled_own)
            rows.append(
                {
                    "ood_set": ood_set,
                    "rule": rule,
                    "temperature": setting.temperature,
                    "epsilon": setting.epsilon,
                    "fpr": 100 * fpr,
                    "tuning_fpr": 100 * setting.fpr,
                    "price": 100 * (fpr - own),
                    "low": 100 * low,
                    "high": 100 * high,
                }
            )
    frame = pd.DataFrame(rows)
    return frame[frame.rule.isin(rules)].reset_index(drop=True)


def mean_scores(of: Trained) -> pd.DataFrame:
    """The mean score of the held-out in-distribution images against epsilon, at the profile's largest temperature.

    Generalized ODIN (Hsu et al., 2020) takes the epsilon at which it is greatest; no foreign image is needed.

    Returns:
        Columns temperature, epsilon, score (on the scale of `odin.margin_score`).
    """
    largest = max(of.profile.temperatures)
    scores = experiments.grid(of, of.id_set)[of.profile.temperatures.index(largest)].double().mean(-1)
    return pd.DataFrame({"temperature": largest, "epsilon": of.profile.epsilons, "score": scores.numpy()})


def size_settings(of: Trained, ood_set: str, sizes: Sequence[int] | None = None) -> dict[int, odin.Setting]:
    """T and epsilon tuned on the first so many held-out images, for each of `sizes`; see `tuning_size_effect`."""
    grid_in, grid_out = (
        experiments.grid(of, images, count=max(of.profile.tuning_sizes)) for images in (of.id_set, ood_set)
    )
    return {
        size: odin.tune(
            grid_in[..., :size], grid_out[..., :size], of.profile.temperatures, of.profile.epsilons, of.profile.tpr
        )
        for size in sizes or of.profile.tuning_sizes
    }


def tuning_size_effect(of: Trained, ood_sets: Sequence[str], sizes: Sequence[int] | None = None) -> pd.DataFrame:
    """FPR on test images against the number of images that T and epsilon were tuned on (Figure 15).

    The largest tuning set is held out once; every smaller one is its beginning. The FPR is measured on images that
    are in none of them.

    Args:
        of: the network, under a profile with the sizes, the grid and the true positive rate.
        ood_sets: to tune and to test on.
        sizes: some of the profile's; None takes all.

    Returns:
        Columns ood_set, size, temperature, epsilon, fpr.
    """
    # No image that is tested on is in any of the tuning sets.
    largest, rows = max(*of.profile.tuning_sizes, of.profile.holdout), []
    for ood_set in ood_sets:
        for size, setting in size_settings(of, ood_set, sizes).items():
            at = setting.temperature, setting.epsilon
            scores_in, scores_out = (
                experiments.test_scores(of, images, *at, among=experiments.tested(of, images, [at], largest))
                for images in (of.id_set, ood_set)
            )
            fpr = 100 * metrics.fpr_at_tpr(scores_in, scores_out, of.profile.tpr).item()
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


def accuracy_by_score(of: Trained, rates: Sequence[float] = tuple(np.arange(0.80, 0.996, 0.01))) -> pd.DataFrame:
    """Accuracy on the test images scored above and below the threshold of each true positive rate (Figure 16).

    Returns:
        Columns tpr, above, below (accuracy in percent; NaN where no image is on that side).
    """
    at = of.profile.fixed_temperature, of.profile.fixed_epsilon
    test = experiments.tested(of, of.id_set, [at])
    scores = experiments.test_scores(of, of.id_set, *at, among=test)
    clean = store.responses(of, of.id_set, test)
    assert clean.labels is not None
    right = torch.from_numpy(clean.logits.argmax(1) == clean.labels).double()
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


#: The ways to score that `filter_effect` compares.
FILTER_METHODS = {
    "baseline": "baseline (T = 1, ε = 0)",
    "temperature": "temperature alone (ε = 0)",
    "odin": "ODIN, the paper's single ε",
    "best": "ODIN, the best ε of this very curve",
}


def filter_effect(of: Trained, sets: Sequence[str]) -> pd.DataFrame:
    """What each method makes of one set of images resampled by several filters, on the images of the curves.

    The method `best` takes the epsilon with the least FPR on the very images that it is then measured on. It is no
    result to report: no way of choosing epsilon from the grid can do better at this T, which is what it is there for.

    Args:
        of: the network; its profile's fixed setting is that of `odin`, its fixed temperature that of all but
            `baseline`.
        sets: variants of one set; `lost` compares each with the first.

    Returns:
        A row for each set and each method of `FILTER_METHODS`, with ood_set, filter, method, temperature, epsilon,
        images_in and images_out, and in percent or percentage points

        * fpr, auroc
        * gain: the baseline's FPR minus this one's
        * added: the FPR of the temperature alone minus this one's
        * lost: the gain on the first set minus the gain on this one

        each with the ends of its 95 % interval, `<column>_low` and `<column>_high` (bootstrap; differences are paired
        where the images are the same).

    Raises:
        UserError: 0 or the fixed epsilon is not on the profile's grid.
    """
    for epsilon in (0.0, of.profile.fixed_epsilon):
        if epsilon not in of.profile.epsilons:
            raise UserError(f"epsilons has no {epsilon:g}", remedy="add it, or change fixed_epsilon")
    none, fixed = of.profile.epsilons.index(0.0), of.profile.epsilons.index(of.profile.fixed_epsilon)
    scores_in = experiments.curve(of, of.id_set)
    rows = []
    first: dict[str, torch.Tensor] = {}
    for ood_set in sets:
        scores_out = experiments.curve(of, ood_set)
        measured = metrics.evaluate(scores_in, scores_out, of.profile.tpr)
        least = int(measured["fpr"][1].argmin())
        places = dict(zip(FILTER_METHODS, ((0, none), (1, none), (1, fixed), (1, least)), strict=True))
        # Each measure [1 + resamples]: its value and those of the resamples, so that differences are differences.
        fpr, auroc = {}, {}
        for method, place in places.items():
            drawn = metrics.bootstrap(
                scores_in[place],
                scores_out[place],
                resamples=of.profile.resamples,
                tpr=of.profile.tpr,
                seed=of.profile.seed,
            )
            fpr[method], auroc[method] = (torch.cat([measured[m][place][None], drawn[m]]) for m in ("fpr", "auroc"))
        for method, (row, column) in places.items():
            gain = fpr["baseline"] - fpr[method]
            quantities = {
                "fpr": fpr[method],
                "auroc": auroc[method],
                "gain": gain,
                "added": fpr["temperature"] - fpr[method],
                "lost": first.setdefault(method, gain) - gain,
            }
            columns: dict[str, float] = {}
            for quantity, values in quantities.items():
                low, high = metrics.interval(values[1:])
                ends = {f"{quantity}_low": 100 * low, f"{quantity}_high": 100 * high}
                columns |= {quantity: 100 * values[0].item(), **ends}
            rows.append(
                {
                    "ood_set": ood_set,
                    "filter": datasets.variant(ood_set)[1],
                    "method": method,
                    "temperature": experiments.curve_temperatures(of.profile)[row],
                    "epsilon": of.profile.epsilons[column],
                    **columns,
                    "images_in": scores_in.shape[-1],
                    "images_out": scores_out.shape[-1],
                }
            )
    return pd.DataFrame(rows)


def _curves(of: Trained, ood_sets, axis: str, grid: Sequence[float], scores) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    frames = []
    for ood_set in ood_sets:
        scores_in, scores_out = scores(ood_set)
        measured = metrics.evaluate(scores_in, scores_out, of.profile.tpr)
        columns = {name: 100 * values.numpy() for name, values in measured.items()}
        frames.append(pd.DataFrame({"ood_set": ood_set, axis: list(grid), **columns}))
    return pd.concat(frames, ignore_index=True)

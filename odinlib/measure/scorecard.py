"""The paper's claims, each decided by a test on this run's measurements (Section 7).

The claims and the rules are data, in `odinlib.reference.claims`; here is one function for each, named by its
`decided_by`. A function takes the profile and says whether the claim holds, in numbers of this run.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from odinlib import compare, datasets, experiments, metrics, moments, names, odin, profiles, reference, store
from odinlib.errors import Missing, need
from odinlib.measure import effects, mechanism
from odinlib.measure.distances import distance
from odinlib.profiles import Profile, Trained


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds on this run, and the numbers that say so."""

    holds: bool
    told: str


def scorecard(profile: Profile) -> pd.DataFrame:
    """Every claim with its verdict: columns section, claim, rule, verdict (holds, fails, not recorded), told."""
    rows = []
    for claim in reference.claims().to_dict("records"):
        try:
            found = TESTS[claim["decided_by"]](profile)
            verdict, told = ("holds" if found.holds else "fails"), found.told
        except Missing as reason:
            verdict, told = "not recorded", need(str(reason))
        columns = {key: claim[key] for key in ("id", "section", "claim", "rule", "evidence")}
        rows.append({**columns, "verdict": verdict, "told": told})
    return pd.DataFrame(rows)


def _because(missing: Mapping[Any, str], otherwise: str = "the profile has too few sets") -> Missing:
    """Why a claim cannot be decided."""
    return Missing(next(iter(missing.values()), otherwise))


def _detection(profile: Profile, network: str, id_set: str, ood_set: str) -> pd.DataFrame:
    return experiments.detection(profile.trained(network, id_set), ood_set)


def _first(profile: Profile) -> Trained:
    """The paper's DenseNet on CIFAR-10, or what has its role."""
    return profile.trained(profile.networks[0], profile.id_sets[0])


def _id_set(profile: Profile, position: int) -> str:
    if len(profile.id_sets) <= position:
        raise Missing(f"the profile has {len(profile.id_sets)} in-distribution sets, and this takes {position + 1}")
    return profile.id_sets[position]


# --- Detection --------------------------------------------------------------------------------------------------------


def _measured(profile: Profile) -> tuple[pd.DataFrame, str]:
    """Tables 2, 3 and 12: a row for each (network, sets, metric), baseline and odin; and what is lacking, in words."""
    pairs = experiments.pairs(profile, profile.networks, profile.id_sets)
    pairs += experiments.pairs(profile, (profile.grey_network,), (profile.grey_id_set,))
    pairs += experiments.near_pairs(profile)
    # The claims are about the values; two resamples spend no time on intervals.
    found = experiments.detections(dataclasses.replace(profile, resamples=2), pairs)
    if not found:
        raise _because(found.missing)
    wide = (
        experiments.joined(found)
        .pivot_table(index=["network", "id_set", "ood_set", "metric"], columns="method", values="value", sort=False)
        .reset_index()
    )
    lacking = len(found.missing)
    return wide, f"; {lacking} of {len(pairs)} pairs are not recorded" if lacking else ""


def improves_every_pair(profile: Profile) -> Verdict:
    values, lacking = _measured(profile)
    rates = values.query("metric == 'fpr' and baseline > 0")
    worse = rates[rates.odin >= rates.baseline]
    named = "; ".join(
        f"{names.network_title(row.network)} on {datasets.title(row.id_set)} against {datasets.title(row.ood_set)}"
        for row in worse.head(3).itertuples()
    )
    told = f"{len(rates) - len(worse)} of {len(rates)} pairs" + f"; not with {named}" * bool(named)
    told += f" and {len(worse) - 3} more" * (len(worse) > 3)
    return Verdict(worse.empty, told + lacking)


def improves_every_metric(profile: Profile) -> Verdict:
    values, lacking = _measured(profile)
    gain = (values.odin - values.baseline) * np.where(values.metric.isin(metrics.LOWER_IS_BETTER), -1, 1)
    worse = int((gain < 0).sum())
    return Verdict(worse == 0, f"{worse} of {len(values)} numbers are worse with ODIN{lacking}")


def improves_by_margin(profile: Profile) -> Verdict:
    values, lacking = _measured(profile)
    rates = values.query("metric == 'fpr' and baseline > 0")
    fall = float((1 - rates.odin / rates.baseline).median())
    return Verdict(fall >= 1 / 3, f"the median fall is {100 * fall:.0f} % of the baseline's FPR{lacking}")


def reproduces_headline(profile: Profile) -> Verdict:
    pair = profile.networks[0], profile.id_sets[0], profile.ood_sets[profile.id_sets[0]][0]
    if not compare.is_the_papers(profile, *pair):
        raise Missing("network and sets only stand for the paper's here, so their numbers cannot be compared")
    rows = compare.comparison(profile, _detection(profile, *pair)).query("metric == 'fpr'")
    told = "; ".join(
        f"{names.METHOD_TITLES[row.method]} {row.value:.1f} % (paper {row.paper}: {row.verdict})"
        for row in rows.itertuples()
    )
    origin = profiles.TRAININGS.get(profile.training(*pair[:2]))
    told += f"; the network has {origin}" if origin else ""
    return Verdict(set(rows.verdict) <= {"reproduced", "near"}, told)


def left_out_classes_hardest(profile: Profile) -> Verdict:
    id_set = _id_set(profile, 2)
    values, _ = _measured(profile)
    rates = values.query("metric == 'fpr' and id_set == @id_set")
    left_out = profile.left_out
    natural = [s for s in profile.ood_sets[id_set] if s not in datasets.NOISE and s != left_out]
    told, holds = [], True
    for network, block in rates.groupby("network", sort=False):
        own = block.set_index("ood_set").odin
        others = own.reindex(natural).dropna()
        if left_out not in own or others.empty:
            continue
        holds &= bool(own[left_out] > others.max())
        told.append(f"{names.network_title(network)}: {own[left_out]:.1f} % against at most {others.max():.1f} %")
    if not told:
        raise Missing(f"nothing is recorded for {datasets.title(id_set)} against {datasets.title(left_out)} and others")
    return Verdict(holds, "; ".join(told))


def cifar10_easier_than_cifar100(profile: Profile) -> Verdict:
    _id_set(profile, 1)
    rates = [
        _detection(profile, *pair).query("metric == 'fpr' and method == 'odin'").value.item()
        for pair in experiments.near_pairs(profile)
    ]
    first, second = (datasets.title(pair[1]) for pair in experiments.near_pairs(profile))
    return Verdict(rates[0] < rates[1], f"{rates[0]:.1f} % with {first} inside, {rates[1]:.1f} % with {second} inside")


# --- Temperature and perturbation -------------------------------------------------------------------------------------


def _curves(profile: Profile, curve: Callable[[str, list[str]], pd.DataFrame]) -> dict[tuple[str, str], pd.DataFrame]:
    """For each network on the first ID set and each of its sets, the curve that there is."""
    id_set = profile.id_sets[0]
    keys = [(name, ood_set) for name in profile.networks for ood_set in profile.ood_sets[id_set]]
    found = experiments.gather(lambda name, ood_set: curve(name, [ood_set]), keys)
    if not found:
        raise _because(found.missing)
    return found


def _along_temperature(profile: Profile) -> dict[tuple[str, str], pd.DataFrame]:
    return _curves(profile, lambda name, s: effects.temperature_effect(profile.trained(name, profile.id_sets[0]), s))


def _along_epsilon(profile: Profile, temperature: float) -> dict[tuple[str, str], pd.DataFrame]:
    return _curves(
        profile, lambda name, s: effects.epsilon_effect(profile.trained(name, profile.id_sets[0]), s, temperature)
    )


def _at(curve: pd.DataFrame, temperature: float) -> float:
    return float(curve.fpr.iloc[(curve.temperature - temperature).abs().argmin()])


def _share(kept: list[bool], what: str) -> Verdict:
    if not kept:
        raise Missing(f"there are no {what.split()[0]} to decide by")
    return Verdict(all(kept), f"{sum(kept)} of {len(kept)} {what}")


def temperature_helps(profile: Profile) -> Verdict:
    curves = _along_temperature(profile).values()
    return _share(
        [_at(c, 1000) < _at(c, 1) or _at(c, 1) == 0 for c in curves], "curves fall from T = 1 to the largest T"
    )


def temperature_monotone(profile: Profile) -> Verdict:
    curves = list(_along_temperature(profile).values())
    rises = [float(c.fpr.diff().max()) for c in curves]
    return Verdict(max(rises) <= 2, f"the greatest rise between neighbouring temperatures is {max(rises):.1f} points")


def temperature_saturates(profile: Profile) -> Verdict:
    changes = [abs(_at(c, 1000) - _at(c, 100)) for c in _along_temperature(profile).values()]
    return Verdict(
        max(changes) < 1, f"from T = 100 to the largest T the FPR moves by at most {max(changes):.2f} points"
    )


def epsilon_has_optimum(profile: Profile) -> Verdict:
    curves = [c for c in _along_epsilon(profile, profile.fixed_temperature).values() if c.fpr.iloc[0] > 0]
    return _share([c.fpr.min() < c.fpr.iloc[0] for c in curves], "curves at large T are lowest above epsilon = 0")


def large_epsilon_hurts(profile: Profile) -> Verdict:
    curves = _along_epsilon(profile, profile.fixed_temperature).values()
    return _share(
        [c.fpr.iloc[-1] > c.fpr.min() for c in curves], "curves at large T rise again before the largest epsilon"
    )


def combination_beats_each(profile: Profile) -> Verdict:
    together, alone = _along_epsilon(profile, profile.fixed_temperature), _along_epsilon(profile, 1.0)
    kept = [
        together[key].fpr.min() < min(together[key].fpr.iloc[0], alone[key].fpr.min())
        for key in together.keys() & alone.keys()
        if together[key].fpr.iloc[0] > 0
    ]
    return _share(kept, "pairs are best with both")


def predictions_unchanged(profile: Profile) -> Verdict:
    id_set = profile.id_sets[0]
    above = [i for i, epsilon in enumerate(profile.epsilons) if epsilon > 0]
    if not above:
        raise Missing("the grid has no epsilon above 0")
    found = experiments.predictions(_first(profile), id_set)
    share = float(mechanism.changed(found)[:, above[0]].max())
    return Verdict(share < 0.1, f"{share:.2f} % change at epsilon = {profile.epsilons[above[0]]:g}")


def labels_not_used(profile: Profile) -> Verdict:
    found = experiments.test_responses(_first(profile), profile.id_sets[0])
    assert found.labels is not None
    shuffled = store.Responses(
        found.logits,
        found.gradient_norm_1,
        found.gradient_norm_1000,
        np.random.default_rng(0).permutation(found.labels),
    )
    scores = [odin.margin_score(torch.from_numpy(r.logits), profile.fixed_temperature) for r in (found, shuffled)]
    return Verdict(bool(torch.equal(*scores)), "the score is a function of the logits alone; labels never enter")


# --- Why it works -----------------------------------------------------------------------------------------------------


def _quantities(profile: Profile) -> pd.DataFrame:
    id_set = profile.id_sets[0]
    keys = [id_set, *profile.ood_sets[id_set]]
    found = experiments.gather(lambda images: mechanism.quantities(_first(profile), [images]), keys)
    if id_set in found.missing or len(found) < 2:
        raise _because(found.missing)
    return pd.concat(found.values(), ignore_index=True)


#: Columns of `mechanism.quantities`, in a sentence.
_COLUMNS = {
    **{"u1": "U1", "variance": "the gaps' variance", "score_1": "S at T = 1", "norm_1": "the gradient's norm"},
    **{"score": f"S at T = {mechanism.LARGE:g}", "norm": "the gradient's norm"},
}


def _larger_inside(profile: Profile, column: str, enough: float) -> Verdict:
    means = _quantities(profile).groupby("set", sort=False)[column].mean()
    inside, outside = means[profile.id_sets[0]], means.drop(profile.id_sets[0])
    kept = int((inside > outside).sum())
    told = f"larger than on {kept} of {len(outside)} sets"
    told += f" ({inside:.3g} against {outside.min():.3g} to {outside.max():.3g})"
    return Verdict(kept >= enough * len(outside), told)


def _larger_given(profile: Profile, pairs: list[tuple[str, str]]) -> Verdict:
    images, told, holds = _quantities(profile), [], True
    for x, y in pairs:
        shares = mechanism.share_above(mechanism.conditional(images, x, y), profile.id_sets[0])
        shares = shares[shares.shared > 0]
        kept = int((shares.above > shares.shared / 2).sum())
        holds &= kept == len(shares)
        told.append(f"{_COLUMNS[y]} given {_COLUMNS[x]}: on {kept} of {len(shares)} sets")
    return Verdict(holds, "; ".join(told))


def u1_larger_in_distribution(profile: Profile) -> Verdict:
    return _larger_inside(profile, "u1", 1)


def gradient_norm_larger(profile: Profile) -> Verdict:
    return _larger_inside(profile, "norm", 0.5)


def u2_given_u1_larger(profile: Profile) -> Verdict:
    # U2 itself rises with U1 within a bin; what is left without U1^2 is the spread that the claim speaks of.
    return _larger_given(profile, [("u1", "variance")])


def gradient_given_score_larger(profile: Profile) -> Verdict:
    return _larger_given(profile, [("score_1", "norm_1"), ("score", "norm")])


def detection_error_converges(profile: Profile) -> Verdict:
    id_set = profile.id_sets[0]

    def difference(name: str, ood_set: str) -> float:
        inside, outside = (
            torch.from_numpy(experiments.test_responses(profile.trained(name, id_set), s).logits)
            for s in (id_set, ood_set)
        )
        limit = metrics.detection_error(moments.u1(inside), moments.u1(outside), profile.tpr)
        reached = metrics.detection_error(odin.margin_score(inside, 1e6), odin.margin_score(outside, 1e6), profile.tpr)
        return 100 * abs(limit - reached).item()

    keys = [(name, s) for name in profile.networks for s in profile.ood_sets[id_set]]
    found = experiments.gather(difference, keys)
    if not found:
        raise _because(found.missing)
    worst = max(found.values())
    return Verdict(
        worst <= 0.01, f"at T = 1,000,000 the error is within {worst:.3f} points of the limit, on {len(found)} pairs"
    )


def u2_identity(profile: Profile) -> Verdict:
    found = experiments.test_responses(_first(profile), profile.id_sets[0])
    logits = torch.from_numpy(found.logits).double()
    ordered = logits.sort(-1, descending=True).values
    gaps = ordered[:, :1] - ordered[:, 1:]
    direct, identity = moments.u2(logits), gaps.var(-1, correction=0) + gaps.mean(-1) ** 2
    worst = float(((direct - identity).abs() / identity.clamp_min(1e-300)).max())
    return Verdict(worst < 1e-12, f"the greatest relative difference is {worst:.1e}; shown symbolically in Appendix F")


# --- Distances, tuning, thresholds ------------------------------------------------------------------------------------


def mmd_anticorrelates(profile: Profile) -> Verdict:
    told, signs = [], []
    for id_set in (_id_set(profile, 1), *profile.id_sets[2:]):
        natural = [s for s in profile.ood_sets[id_set] if s not in datasets.NOISE]
        rates = experiments.gather(lambda s, id_set=id_set: _odin_rate(profile, id_set, s), natural)
        distances = {s: distance(profile, id_set, s).mmd for s in rates}
        if len(rates) < 3:
            raise _because(rates.missing)
        rho = float(spearmanr([distances[s] for s in rates], list(rates.values())).statistic)
        signs.append(rho < 0)
        told.append(f"rank correlation {rho:+.2f} for {datasets.title(id_set)}")
    return Verdict(all(signs), "; ".join(told))


def _odin_rate(profile: Profile, id_set: str, ood_set: str) -> float:
    rows = _detection(profile, profile.networks[0], id_set, ood_set)
    return float(rows.query("metric == 'fpr' and method == 'odin'").value.item())


def crops_further_than_resizes(profile: Profile) -> Verdict:
    id_set = _id_set(profile, 1)
    kinds = ("tinyimagenet-crop", "tinyimagenet-resize", "lsun-crop", "lsun-resize")
    keys = [s for s in profile.ood_sets[id_set] if profile.paper_name(s) in kinds]
    found = experiments.gather(lambda s: distance(profile, id_set, s).mmd, keys)
    crops = {s: d for s, d in found.items() if profile.paper_name(s).endswith("-crop")}
    resizes = {s: d for s, d in found.items() if profile.paper_name(s).endswith("-resize")}
    if not crops or not resizes:
        raise _because(found.missing, "the run has no pair of a crop and a resize")
    told = f"crops {min(crops.values()):.3g} to {max(crops.values()):.3g}, resizes {min(resizes.values()):.3g} to "
    return Verdict(min(crops.values()) > max(resizes.values()), f"{told}{max(resizes.values()):.3g}")


def tuning_set_unimportant(profile: Profile) -> Verdict:
    id_set = profile.id_sets[0]
    spreads: dict[str, float] = {}
    why_not: dict[str, str] = {}
    for name in profile.networks[:2]:
        sets = profile.ood_sets[id_set]
        tuned = experiments.gather(lambda s, name=name: experiments.tune(profile.trained(name, id_set), s), sets)
        if len(tuned) < 2:
            why_not |= tuned.missing
            continue
        frame = effects.transfer(profile.trained(name, id_set), list(tuned))
        spreads[name] = float(frame.groupby("ood_set").odin.agg(np.ptp).max())
    if not spreads:
        raise _because(why_not)
    told = "; ".join(f"{names.network_title(name)}: up to {spread:.1f} points" for name, spread in spreads.items())
    return Verdict(max(spreads.values()) < 5, told)


def tuning_size_settles(profile: Profile) -> Verdict:
    sets = profile.tuning_size_sets or profile.ood_sets[profile.id_sets[0]]
    frame = effects.tuning_size_effect(_first(profile), sets)
    large = frame[frame["size"] >= max(profile.tuning_sizes) / 2]
    change = float(large.groupby("ood_set").fpr.agg(np.ptp).max())
    told = (
        f"in the upper half of the sizes (from {large['size'].min()} images) the FPR moves by up to {change:.1f} points"
    )
    return Verdict(change < 1, told)


def one_threshold_serves_all(profile: Profile) -> Verdict:
    of, id_set = _first(profile), profile.id_sets[0]

    def rate(images: str) -> float:
        inside, outside = (
            experiments.test_scores(of, s, profile.fixed_temperature, profile.fixed_epsilon) for s in (id_set, images)
        )
        return 100 * metrics.fpr_at_tpr(inside, outside, profile.tpr).item()

    found = experiments.gather(rate, profile.ood_sets[id_set])
    if not found:
        raise _because(found.missing)
    worst = max(found, key=lambda key: found[key])
    return Verdict(found[worst] < 15, f"at most {found[worst]:.1f} %, on {datasets.title(worst)}")


def rejected_less_accurate(profile: Profile) -> Verdict:
    found = experiments.gather(
        lambda name: effects.accuracy_by_score(profile.trained(name, profile.id_sets[0])),
        profile.networks,
    )
    if not found:
        raise _because(found.missing)
    kept = [bool((frame.below < frame.above)[frame.below.notna()].all()) for frame in found.values()]
    return _share(kept, "networks classify the refused images worse at every true positive rate")


TESTS: dict[str, Callable[[Profile], Verdict]] = {
    test.__name__: test
    for test in (
        improves_every_pair,
        improves_every_metric,
        improves_by_margin,
        reproduces_headline,
        temperature_helps,
        temperature_monotone,
        temperature_saturates,
        epsilon_has_optimum,
        large_epsilon_hurts,
        combination_beats_each,
        u1_larger_in_distribution,
        u2_given_u1_larger,
        gradient_norm_larger,
        gradient_given_score_larger,
        predictions_unchanged,
        labels_not_used,
        mmd_anticorrelates,
        crops_further_than_resizes,
        left_out_classes_hardest,
        tuning_set_unimportant,
        tuning_size_settles,
        one_threshold_serves_all,
        rejected_less_accurate,
        cifar10_easier_than_cifar100,
        detection_error_converges,
        u2_identity,
    )
}

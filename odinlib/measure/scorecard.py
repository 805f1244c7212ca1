"""The paper's claims, each decided by a test on this run's measurements (Section 7).

The claims and the rules are data, in `odinlib.reference.claims`; here is one function for each, named by its
`decided_by`. A function takes the profile and counts: in how many of the cases that this run has is it as the claim
says? What the count means depends on the claim's own quantifier, and that is said once, in `grade`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest, spearmanr

from odinlib import compare, datasets, experiments, metrics, moments, names, odin, profiles, reference, store
from odinlib.errors import Missing, need
from odinlib.measure import effects, mechanism
from odinlib.measure.distances import distance
from odinlib.profiles import Profile, Trained

HOLDS, PARTLY, FAILS, UNDECIDED = "holds", "holds for k of n", "fails", "cannot be decided here"
VERDICTS = (HOLDS, PARTLY, FAILS, UNDECIDED)

LARGE_FALL = 0.25  # of the baseline's FPR: what is called a large margin
SMALL_RATE = 15.0  # percent: what is called a small FPR
SIMILAR = 10.0  # points of FPR: what is called quite similar
SATURATED = 100.0  # the temperature above which its effects are said to diminish


@dataclass(frozen=True)
class Count:
    """In how many of the cases at hand a claim is true, and the numbers that say so."""

    kept: int
    cases: int
    told: str
    lacking: int = 0  # cases of the claim that are not at hand


def grade(found: Count, quantifier: str) -> str:
    """The verdict on a claim, by the paper's own quantifier.

    Of what is said of *all*, or *consistently*, one case to the contrary is enough to fail. What *can* be, or is shown
    on *an image*, needs one case. Anything else (overall, most, tends to, or a plain statement) needs more than half.
    Where every case is as it says, cases that are not at hand leave it at those that are.

    >>> [grade(Count(k, 7, ""), "tends to") for k in (7, 5, 3)], grade(Count(5, 7, ""), "all")
    (['holds', 'holds for k of n', 'fails'], 'fails')
    """
    if found.kept == found.cases:
        return PARTLY if found.lacking else HOLDS
    if quantifier in ("all", "consistently"):
        return FAILS
    enough = found.kept > 0 if quantifier in ("can", "an image") else 2 * found.kept > found.cases
    return PARTLY if enough else FAILS


def scorecard(profile: Profile) -> pd.DataFrame:
    """Every claim with its verdict on this run.

    Returns:
        Columns id, section and page (of the paper), quantifier, evidence, claim and rule (with this run's sets and
        settings in the place of the paper's), verdict (one of `VERDICTS`), kept and cases (0 where it is undecided),
        low and high (of their share, in percent; `share_interval`), told (the numbers, or why there are none).
    """
    words, rows = _in_words(profile), []
    for claim in reference.claims().to_dict("records"):
        try:
            found = TESTS[claim["decided_by"]](profile)
            if not found.cases:
                raise Missing("this run has no case of it")
            verdict, told = grade(found, claim["quantifier"]), found.told
        except Missing as reason:
            found, verdict, told = Count(0, 0, ""), UNDECIDED, need(str(reason))
            told = f"no data; {told}" if told != str(reason) else told
        columns = {key: claim[key] for key in ("id", "section", "page", "quantifier", "evidence")}
        columns |= {key: claim[key].format(**words) for key in ("claim", "rule")}
        low, high = share_interval(found.kept, found.cases)
        counted = {"kept": found.kept, "cases": found.cases, "low": low, "high": high}
        rows.append({**columns, "verdict": verdict, **counted, "told": told})
    return pd.DataFrame(rows)


def _in_words(profile: Profile) -> dict[str, str]:
    """What claims and rules call this run's sets, settings and sizes, and the paper's numbers that rules refer to."""
    sets = [datasets.title(name) for name in (*profile.id_sets, *profile.id_sets[-1:] * 2)[:3]]
    printed = [reference.lookup(*_HEADLINE, method, "fpr") for method in experiments.METHODS]
    cells = reference.tables()
    rates = cells[(cells.table == "2") & (cells.metric == "fpr")].pivot(
        index=["network", "id_set", "ood_set"], columns="method", values="value"
    )
    tuned = cells[cells.table.isin(["10", "11"]) & (cells.method == "odin")]
    rows = tuned.groupby(["table", "ood_set"]).value
    return {
        **dict(zip(("first", "second", "third"), sets, strict=True)),
        "left_out": datasets.title(profile.left_out),
        "large": f"{profile.fixed_temperature:g}",
        "epsilon": f"{profile.fixed_epsilon:g}",
        "recorded": f"{mechanism.LARGE:g}",
        "size": f"{_half_the_sizes(profile):,g}",
        "small": f"{SMALL_RATE:g}",
        "similar": f"{SIMILAR:g}",
        "fall": f"{100 * LARGE_FALL:g} %",
        "headline": f"{printed[0]} % to {printed[1]} %",
        "least": f"{100 * (1 - rates.odin / rates.baseline).min():.0f} %",
        "widest": f"{(rows.max() - rows.min()).max():.1f} points",
    }


def share_interval(kept: int, cases: int) -> tuple[float, float]:
    """What k of n cases say about the share: its 95 % interval (Wilson), in percent; NaN of no case."""
    if not cases:
        return math.nan, math.nan
    found = binomtest(kept, cases).proportion_ci(method="wilson")
    return 100 * found.low, 100 * found.high


def _count(cases: Iterable[bool], what: str, more: str = "", lacking: int = 0) -> Count:
    """The cases of which a claim is true, and all of them."""
    kept = [bool(case) for case in cases]
    if not kept:
        raise Missing(f"this run has no {what.split()[0]} to decide by")
    told = f"{sum(kept):,} of {len(kept):,} {what}" + f"; {more}" * bool(more)
    told += f"; {lacking} more are not recorded" * bool(lacking)
    return Count(sum(kept), len(kept), told, lacking)


def _spanned(values: Iterable[float]) -> str:
    """The least and the largest of some numbers, or the one that there is."""
    there = list(values)
    low, high = f"{min(there):.3g}", f"{max(there):.3g}"
    return low if low == high else f"{low} to {high}"


def _because(missing: Mapping[Any, str], otherwise: str = "the profile has too few sets") -> Missing:
    """Why a claim cannot be decided."""
    return Missing(next(iter(missing.values()), otherwise))


# --- Whose networks, which sets ---------------------------------------------------------------------------------------

_HEADLINE = ("densenet-bc-100-12", "cifar10", "tinyimagenet-crop")


def _first(profile: Profile) -> Trained:
    """The paper's DenseNet on CIFAR-10, or what has its role."""
    return profile.trained(profile.networks[0], profile.id_sets[0])


def _id_set(profile: Profile, position: int) -> str:
    if len(profile.id_sets) <= position:
        raise Missing(f"the profile has {len(profile.id_sets)} in-distribution sets, and this takes {position + 1}")
    return profile.id_sets[position]


def _papers(profile: Profile, ood_sets: Iterable[str]) -> list[str]:
    """Of some sets, one for each of the paper's: its own where it is among them, else the first that stands for it.

    Variants of a set that the paper does not have are no cases of its claims.
    """
    known, chosen = set(reference.tables().ood_set), dict[str, str]()
    for name in ood_sets:
        role = profile.paper_name(name)
        if role in known and (role not in chosen or name == role):
            chosen[role] = name
    return list(chosen.values())


def _natural(profile: Profile, ood_sets: Iterable[str]) -> list[str]:
    return [s for s in _papers(profile, ood_sets) if s not in datasets.NOISE]


def _had(profile: Profile, found: Mapping[Any, Any]) -> dict[Any, Any]:
    """Of what was gathered by (..., OOD set), one for each of the paper's sets."""
    places = dict.fromkeys(key[:-1] for key in found)
    kept = {(*p, s) for p in places for s in _papers(profile, [key[-1] for key in found if key[:-1] == p])}
    return {key: value for key, value in found.items() if key in kept}


def _moved_by_the_paper(profile: Profile, network: str, ood_set: str) -> bool:
    """Whether the paper chose an epsilon above 0 for this pair, or for the one in whose place it stands."""
    roles = [profile.paper_name(name) for name in (network, profile.id_sets[0], ood_set)]
    return float(reference.lookup(roles[0], roles[1], roles[2], "odin", "epsilon") or "nan") != 0


# --- Detection --------------------------------------------------------------------------------------------------------


def _quick(profile: Profile) -> Profile:
    """The claims are about the values; two resamples spend no time on intervals."""
    return dataclasses.replace(profile, resamples=2)


def _table_2(profile: Profile) -> tuple[pd.DataFrame, int]:
    """Table 2: a row for each (network, sets, metric), baseline and odin; and how many pairs of it are not at hand."""
    wanted = experiments.pairs(profile, profile.networks[:2], profile.id_sets[:2])
    found = experiments.detections(_quick(profile), wanted)
    if not found:
        raise _because(found.missing)
    kept = _had(profile, found)
    roles = {(*key[:2], profile.paper_name(key[2])) for key in wanted if _papers(profile, key[2:])}
    wide = (
        experiments.joined(kept)
        .pivot_table(index=["network", "id_set", "ood_set", "metric"], columns="method", values="value", sort=False)
        .reset_index()
    )
    return wide, len(roles) - len(kept)


def _pair(row: Any) -> str:
    """A row of `_table_2` in words."""
    sets = f"{datasets.title(row.id_set)} against {datasets.title(row.ood_set)}"
    return f"{names.network_title(row.network)} on {sets}"


def _but(frame: pd.DataFrame) -> str:
    """Which pairs are to the contrary, as far as a sentence can name them."""
    named = list(dict.fromkeys(_pair(row) for row in frame.itertuples()))
    told = "not with " + "; ".join(named[:3]) if named else ""
    return told + f" and {len(named) - 3} more" * (len(named) > 3)


def improves_every_pair(profile: Profile) -> Count:
    values, lacking = _table_2(profile)
    rates = values[values.metric.isin(metrics.LOWER_IS_BETTER)]
    left = values[(values.metric == "fpr") & (values.baseline > 0)]
    keys = ["network", "id_set", "ood_set"]
    rates = rates.merge(left[keys], on=keys)
    better = (rates.odin < rates.baseline).groupby([rates[key] for key in keys], sort=False).all()
    return _count(better, "pairs of Table 2 improve", _but(rates[rates.odin >= rates.baseline]), lacking)


def improves_every_measure(profile: Profile) -> Count:
    values, lacking = _table_2(profile)
    gain = (values.odin - values.baseline) * np.where(values.metric.isin(metrics.LOWER_IS_BETTER), -1, 1)
    return _count(gain >= 0, "measures are no worse with ODIN", _but(values[gain < 0]), 5 * lacking)


def improves_by_margin(profile: Profile) -> Count:
    values, lacking = _table_2(profile)
    rates = values.query("metric == 'fpr' and baseline > 0")
    fall = 1 - rates.odin / rates.baseline
    more = f"the median fall is {100 * fall.median():.0f} % of the baseline's FPR, the least {100 * fall.min():.0f} %"
    return _count(fall >= LARGE_FALL, f"pairs fall by {100 * LARGE_FALL:g} % or more", more, lacking)


def reproduces_headline(profile: Profile) -> Count:
    candidates = [
        (network, id_set, ood_set)
        for network, id_set, ood_set in experiments.pairs(profile, profile.networks, profile.id_sets)
        if (network, id_set, ood_set) == _HEADLINE
    ]
    if not candidates:
        raise Missing("network and sets only stand for the paper's here, so their numbers cannot be compared")
    rows, at = _headline_rows(profile)
    told = "; ".join(
        f"{names.METHOD_TITLES[row.method]} {row.value:.1f} % (paper {row.paper}: {row.verdict})"
        for row in rows.itertuples()
    )
    training = profile.training(*_HEADLINE[:2])
    if training != "authors":
        whose = profiles.TRAININGS.get(training)
        why = f"foreign weights ({whose})" if whose else "one training of our own"
        raise Missing(f"{why}, and the claim is about the authors' network: {told.replace('; ', ', ')}")
    good = set(rows.verdict) <= {"reproduced", "near"}
    return Count(int(good), 1, f"{told}; {at}; the network is {profiles.TRAININGS[training]}")


def _headline_rows(profile: Profile) -> tuple[pd.DataFrame, str]:
    """The headline's two rates beside the printed ones: tuned as all of Table 2, or else at the setting it names."""
    network, id_set, ood_set = _HEADLINE
    try:
        found, at = experiments.detection(profile.trained(network, id_set), ood_set), "tuned on held-out images"
    except Missing:
        printed = [reference.lookup(*_HEADLINE, "odin", what) for what in ("temperature", "epsilon")]
        t, e = (float(number) for number in printed if number is not None)
        at = f"at the paper's T = {t:g} and epsilon = {e:g}"
        there = dataclasses.replace(profile, temperatures=(t,), epsilons=(e,))
        found = experiments.detection(there.trained(network, id_set), ood_set)
    return compare.comparison(profile, found).query("metric == 'fpr'"), at


def left_out_classes_hardest(profile: Profile) -> Count:
    id_set = _id_set(profile, 2)
    found = experiments.detections(_quick(profile), experiments.pairs(profile, profile.networks, (id_set,)))
    cases, told = [], []
    for network in profile.networks:
        had = _had(profile, {key: rows for key, rows in found.items() if key[0] == network})
        by_set = {
            key[2]: rows[rows.method == "odin"].set_index("metric").value[list(metrics.LOWER_IS_BETTER)]
            for key, rows in had.items()
            if key[2] not in datasets.NOISE
        }
        own = by_set.pop(profile.left_out, None)
        if own is None or not by_set:
            continue
        cases += [bool((own > other).all()) for other in by_set.values()]
        most = max(other.fpr for other in by_set.values())
        told.append(f"{names.network_title(network)} {own.fpr:.1f} % against at most {most:.1f} %")
    if not cases:
        raise _because(found.missing, f"nothing is recorded for {datasets.title(profile.left_out)} and other sets")
    return _count(cases, "sets are easier", ", ".join(told))


def first_easier_than_second(profile: Profile) -> Count:
    _id_set(profile, 1)
    found = experiments.detections(profile, experiments.near_pairs(profile))
    if len(found) < 2:
        raise _because(found.missing)
    rows = [frame.query("metric == 'fpr' and method == 'odin'").iloc[0] for frame in found.values()]
    told = ", ".join(f"{row.value:.1f} % with {datasets.title(row.id_set)} inside" for row in rows)
    if rows[0].low <= rows[1].high and rows[1].low <= rows[0].high:
        raise Missing(f"one training of each, and the intervals of the two rates overlap: {told}")
    return Count(int(rows[0].value < rows[1].value), 1, told)


# --- Temperature and perturbation -------------------------------------------------------------------------------------


def _curves(profile: Profile, curve: Callable[[str, list[str]], pd.DataFrame]) -> dict[tuple[str, str], pd.DataFrame]:
    """For each network on the first ID set and each of the paper's sets, the curve that there is."""
    id_set = profile.id_sets[0]
    keys = [(name, ood_set) for name in profile.networks for ood_set in profile.ood_sets[id_set]]
    found = experiments.gather(lambda name, ood_set: curve(name, [ood_set]), keys)
    if not found:
        raise _because(found.missing)
    return _had(profile, found)


def _along_temperature(profile: Profile) -> dict[tuple[str, str], pd.DataFrame]:
    return _curves(profile, lambda name, s: effects.temperature_effect(profile.trained(name, profile.id_sets[0]), s))


def _along_epsilon(profile: Profile, temperature: float) -> dict[tuple[str, str], pd.DataFrame]:
    if 0 not in profile.epsilons or len(profile.epsilons) < 2:
        raise Missing("the grid needs epsilon = 0 and one above it")
    return _curves(
        profile, lambda name, s: effects.epsilon_effect(profile.trained(name, profile.id_sets[0]), s, temperature)
    )


def _at(curve: pd.DataFrame, temperature: float) -> float:
    return float(curve.fpr[curve.temperature == temperature].iloc[0])


def _against_baseline(profile: Profile, what: str) -> Count:
    """How many curves are lower at the large temperature than at T = 1, of those that leave something to gain."""
    large = max(profile.temperatures)
    if 1 not in profile.temperatures or large < 10:
        raise Missing("the grid of temperatures needs 1 and a large one, of 10 or more")
    curves = [c for c in _along_temperature(profile).values() if _at(c, 1) > 0]
    changes = [_at(c, large) - _at(c, 1) for c in curves]
    ends = f"from {min(changes, default=0):+z.1f} to {max(changes, default=0):+z.1f} points at T = {large:g}"
    return _count([change < 0 for change in changes], what, ends)


def temperature_can_help(profile: Profile) -> Count:
    return _against_baseline(profile, "curves are lower at the large temperature")


def temperature_helps(profile: Profile) -> Count:
    return _against_baseline(profile, "curves are lower at the large temperature")


def temperature_saturates(profile: Profile) -> Count:
    grid = sorted(profile.temperatures)
    if SATURATED not in grid or grid[0] > SATURATED / 10 or grid[-1] < 5 * SATURATED:
        raise Missing(
            f"the grid of temperatures needs {SATURATED:g}, one of at most a tenth of it and one of 5 times it"
        )
    curves = _along_temperature(profile).values()
    later = [abs(_at(c, grid[-1]) - _at(c, SATURATED)) for c in curves]
    # The way that the curve has gone, up and down.
    before = [float(c.fpr[c.temperature <= SATURATED].diff().abs().sum()) for c in curves]
    return _count(
        [(b < 1 and b < a) or a == b == 0 for a, b in zip(before, later, strict=True)],
        f"curves move by less than a point beyond T = {SATURATED:g}",
        f"at most {max(later):.2f} points there, up to {max(before):.1f} before",
    )


def epsilon_has_optimum(profile: Profile) -> Count:
    curves = [
        curve
        for temperature in (1.0, profile.fixed_temperature)
        for (name, s), curve in _along_epsilon(profile, temperature).items()
        if curve.fpr.iloc[0] > 0 and _moved_by_the_paper(profile, name, s)
    ]
    gains = [c.fpr.iloc[0] - c.fpr.min() for c in curves]
    more = f"the median gain is {np.median(gains):.1f} points" if gains else ""
    return _count([gain > 0 for gain in gains], "curves are lowest above epsilon = 0", more)


def epsilon_by_margin(profile: Profile) -> Count:
    curves = [c for c in _along_epsilon(profile, profile.fixed_temperature).values() if c.fpr.iloc[0] > 0]
    falls = [1 - c.fpr.min() / c.fpr.iloc[0] for c in curves]
    more = f"the median fall is {100 * np.median(falls):.0f} % of the FPR at epsilon = 0" if falls else ""
    return _count([fall >= LARGE_FALL for fall in falls], f"sets gain {100 * LARGE_FALL:g} % or more", more)


def large_epsilon_hurts(profile: Profile) -> Count:
    curves = _along_epsilon(profile, profile.fixed_temperature).values()
    rises = [float(c.fpr.iloc[-1] - c.fpr.min()) for c in curves]
    most = f"by at most {max(rises):.1f} points at epsilon = {profile.epsilons[-1]:g}"
    return _count([rise > 1 for rise in rises], "curves rise again", most)


def combination_beats_each(profile: Profile) -> Count:
    together, alone = _along_epsilon(profile, profile.fixed_temperature), _along_epsilon(profile, 1.0)
    keys = [key for key in together if key in alone and together[key].fpr.iloc[0] > 0]
    ways = [(together[k].fpr.min(), together[k].fpr.iloc[0], alone[k].fpr.min()) for k in keys]
    means = [f"{rate:.1f} %" for rate in np.mean(ways, axis=0)] if ways else []
    more = "mean FPR {}, of the temperature alone {}, of the perturbation alone {}".format(*means) if ways else ""
    return _count([both < min(one, other) for both, one, other in ways], "sets are best with both", more)


def predictions_unchanged(profile: Profile) -> Count:
    if profile.epsilons[0] != 0 or len(profile.epsilons) < 2:
        raise Missing("the grid needs epsilon = 0, to compare with, and one above it")
    share = float(mechanism.changed(experiments.predictions(_first(profile), profile.id_sets[0]))[:, 1].max())
    return Count(int(share < 0.1), 1, f"{share:.2f} % change at epsilon = {profile.epsilons[1]:g}")


def labels_not_used(profile: Profile) -> Count:
    """On misclassified images the label's gradient and the predicted class's point different ways; which was taken?"""
    of, id_set, large = _first(profile), profile.id_sets[0], profile.fixed_temperature
    if profile.epsilons[0] != 0 or len(profile.epsilons) < 2:
        raise Missing("the grid needs epsilon = 0 and one above it")
    indices = experiments.curve_images(of, id_set, (large,))
    clean = store.clean(of, id_set, indices)
    assert clean.labels is not None
    wrong = torch.from_numpy(clean.classes != clean.labels)
    before, after = experiments.curve(of, id_set, (large,))[0, :2][:, wrong]
    return _count((after > before).tolist(), f"misclassified images score higher at epsilon = {profile.epsilons[1]:g}")


# --- Why it works -----------------------------------------------------------------------------------------------------


def _quantities(profile: Profile) -> pd.DataFrame:
    id_set = profile.id_sets[0]
    keys = [id_set, *profile.ood_sets[id_set]]
    found = experiments.gather(lambda images: mechanism.quantities(_first(profile), [images]), keys)
    outside = _papers(profile, [s for s in found if s != id_set])
    if id_set in found.missing or not outside:
        raise _because(found.missing)
    return pd.concat([found[s] for s in (id_set, *outside)], ignore_index=True)


#: Columns of `mechanism.quantities`, in a sentence.
_COLUMNS = {
    **{"u1": "U1", "variance": "the gaps' variance", "score_1": "S at T = 1", "norm_1": "the gradient's norm"},
    **{"score": f"S at T = {mechanism.LARGE:g}", "norm": "the gradient's norm"},
}


def _larger_inside(profile: Profile, column: str) -> Count:
    means = _quantities(profile).groupby("set", sort=False)[column].mean()
    inside, outside = means[profile.id_sets[0]], means.drop(profile.id_sets[0])
    told = f"{inside:.3g} against {_spanned(outside)}"
    others = [datasets.title(s) for s in outside.index[outside >= inside]]
    told += f", the most on {names.listed(others)}" if others else ""
    return _count((outside < inside).tolist(), "sets have less", told)


def _larger_given(profile: Profile, pairs: list[tuple[str, str]]) -> Count:
    images, cases, told = _quantities(profile), list[bool](), []
    for x, y in pairs:
        shares = mechanism.share_above(mechanism.conditional(images, x, y), profile.id_sets[0])
        shares = shares[shares.shared > 0]
        kept = (shares.above > shares.shared / 2).tolist()
        cases += kept
        told.append(f"{_COLUMNS[y]} given {_COLUMNS[x]} {sum(kept)} of {len(kept)}")
    return _count(cases, "sets have less at equal values", ", ".join(told))


def u1_larger_in_distribution(profile: Profile) -> Count:
    return _larger_inside(profile, "u1")


def gradient_norm_larger(profile: Profile) -> Count:
    return _larger_inside(profile, "norm")


def output_variance_larger(profile: Profile) -> Count:
    return _larger_inside(profile, "output_variance")


def u2_given_u1_larger(profile: Profile) -> Count:
    # U2 itself rises with U1 within a bin; what is left without U1^2 is the spread that the claim speaks of.
    return _larger_given(profile, [("u1", "variance")])


def gradient_given_score_larger(profile: Profile) -> Count:
    return _larger_given(profile, [("score_1", "norm_1"), ("score", "norm")])


def dogs_are_near_cats(profile: Profile) -> Count:
    of = _first(profile)
    found = experiments.test_responses(of, of.id_set)
    gaps = mechanism.gaps_of_class(found, mechanism.class_names(of.id_set, found.logits.shape[1]), "dog")
    absent = [name for name in ("cat", *_APART) if not {name} & set(gaps.columns)]
    if absent:
        raise Missing(f"{datasets.title(of.id_set)} has no class {absent[0]}")
    nearest, means = gaps.idxmin(axis=1), gaps.mean()
    kept = int((nearest == "cat").sum())
    holds = nearest.mode()[0] == "cat" and all(means["cat"] < means[name] for name in _APART)
    told = f"the cat is the runner-up for {kept} of {len(gaps)} correctly classified dogs; mean gap to it "
    told += f"{means['cat']:.1f}, " + ", ".join(f"to {name} {means[name]:.1f}" for name in _APART)
    return Count(kept if holds else 0, len(gaps), told)


_APART = ("automobile", "truck")


def second_and_third_close(profile: Profile) -> Count:
    of = profile.trained(profile.networks[0], _id_set(profile, 2))
    close, told = list[bool](), []
    for images in (of.id_set, profile.left_out):
        logits = torch.from_numpy(experiments.test_responses(of, images).logits).double()
        if logits.shape[1] < 4:
            raise Missing(f"{of.key} has {logits.shape[1]} classes")
        first, _, third = logits.topk(3, dim=-1).values.unbind(-1)
        here = ((first - third) < moments.u1(logits) / 2).tolist()
        close += here
        told.append(f"{sum(here):,} of {len(here):,} of {datasets.title(images)}")
    return _count(close, "images", ", ".join(told))


def detection_error_converges(profile: Profile) -> Count:
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
    told = f"within {max(found.values()):.3f} points; what the statement needs besides is told in Appendix E"
    return _count([apart <= 0.01 for apart in found.values()], "pairs are at their limit at T = 1,000,000", told)


def u2_identity(profile: Profile) -> Count:
    found = experiments.test_responses(_first(profile), profile.id_sets[0])
    logits = torch.from_numpy(found.logits).double()
    ordered = logits.sort(-1, descending=True).values
    gaps = ordered[:, :1] - ordered[:, 1:]
    direct, identity = moments.u2(logits), gaps.var(-1, correction=0) + gaps.mean(-1) ** 2
    apart = (direct - identity).abs() / identity.clamp_min(1e-300)
    told = f"the greatest relative difference is {apart.max():.1e}, and Appendix F proves it"
    kept = int((apart < 1e-12).sum())
    return Count(kept, len(apart), f"{kept:,} of {len(apart):,} images; {told}")


# --- Distances, tuning, thresholds ------------------------------------------------------------------------------------


def mmd_anticorrelates(profile: Profile) -> Count:
    told, signs, why_not = [], [], dict[Any, str]()
    for id_set in (_id_set(profile, 1), *profile.id_sets[2:]):
        for network in profile.networks[:2]:
            rates = experiments.gather(
                lambda s, n=network, i=id_set: (_odin_rate(profile, n, i, s), distance(profile, i, s).mmd),
                profile.ood_sets[id_set],
            )
            pairs = [rates[s] for s in _natural(profile, rates)]
            if len(pairs) < 3:
                why_not = {**rates.missing, **why_not}
                continue
            rho = float(spearmanr(*zip(*pairs, strict=True)).statistic)
            signs.append(rho < 0)
            told.append(f"{rho:+z.2f} for {names.network_title(network)} on {datasets.title(id_set)}")
    if not signs:
        raise _because(why_not)
    return _count(signs, "rank correlations are negative", ", ".join(told))


def _odin_rate(profile: Profile, network: str, id_set: str, ood_set: str) -> float:
    rows = experiments.detection(_quick(profile).trained(network, id_set), ood_set)
    return float(rows.query("metric == 'fpr' and method == 'odin'").value.item())


def _distances(profile: Profile, id_set: str) -> dict[str, float]:
    """The MMD of each natural set from the in-distribution set."""
    found = experiments.gather(lambda s: distance(profile, id_set, s).mmd, profile.ood_sets[id_set])
    if not (natural := _natural(profile, found)):
        raise _because(found.missing)
    return {s: found[s] for s in natural}


def crops_further_than_resizes(profile: Profile) -> Count:
    found = _distances(profile, _id_set(profile, 1))
    crops, resizes = (
        {s: d for s, d in found.items() if profile.paper_name(s).endswith(kind)} for kind in ("-crop", "-resize")
    )
    if not crops or not resizes:
        raise Missing("the run has no pair of a crop and a resize")
    told = f"crops {_spanned(crops.values())}, resizes {_spanned(resizes.values())}"
    bordered = experiments.gather(lambda s: distance(profile, _id_set(profile, 1), s, part="corner").mmd, list(crops))
    if bordered:
        told += f"; crops with their border, as the paper's numbers seem to be, {_spanned(bordered.values())}"
    cases = [crop > resize for crop in crops.values() for resize in resizes.values()]
    return _count(cases, "pairs of a crop and a resize", told)


def left_out_classes_nearest(profile: Profile) -> Count:
    found = _distances(profile, _id_set(profile, 2))
    own = found.pop(profile.left_out, None)
    if own is None or not found:
        raise Missing(f"the distance of {datasets.title(profile.left_out)}, or of another set, is not recorded")
    told = f"{own:.3g} against {_spanned(found.values())}"
    return _count([d > own for d in found.values()], "sets are further away", told)


def _spreads(profile: Profile, roles: Iterable[str] = ()) -> Count:
    """By how much the FPR on each of the paper's sets, or on those of some roles, differs between tuning sets."""
    id_set, spreads, why_not = profile.id_sets[0], dict[tuple[str, str], float](), dict[Any, str]()
    for name in profile.networks[:2]:
        of = profile.trained(name, id_set)
        tuned = experiments.gather(lambda s, of=of: experiments.tune(of, s), profile.ood_sets[id_set])
        sets = _papers(profile, tuned)
        tested = [s for s in sets if not roles or profile.paper_name(s) in roles]
        if len(sets) < 2 or not tested:
            why_not = {**tuned.missing, **why_not}
            continue
        ranges = effects.transfer(of, tested, {s: tuned[s] for s in sets}).groupby("ood_set", sort=False).odin
        spreads |= {(name, str(s)): float(spread) for s, spread in ranges.agg(np.ptp).items()}
    if not spreads:
        raise _because(why_not)
    name, ood_set = max(spreads, key=lambda key: spreads[key])
    told = f"most by {spreads[name, ood_set]:.1f}, with {names.network_title(name)} on {datasets.title(ood_set)}"
    cases = [spread <= SIMILAR for spread in spreads.values()]
    return _count(cases, f"test sets move by at most {SIMILAR:g} points", told)


def tuning_set_unimportant(profile: Profile) -> Count:
    return _spreads(profile)


def tuning_sets_can_agree(profile: Profile) -> Count:
    return _spreads(profile, ("tinyimagenet-resize", "lsun-resize", "isun"))


def _half_the_sizes(profile: Profile) -> float:
    """The size above which the FPR is said to be stable: half of the largest, as the paper's 1,000 of 2,000."""
    return max(profile.tuning_sizes) / 2


def tuning_size_settles(profile: Profile) -> Count:
    of, half = _first(profile), _half_the_sizes(profile)
    large = [size for size in profile.tuning_sizes if size > half]
    if len(large) < 2:
        raise Missing(f"there is one tuning size above {half:g}, and a change takes two")
    sets = profile.tuning_size_sets or profile.ood_sets[of.id_set]
    found = experiments.gather(lambda s: effects.tuning_size_effect(of, [s], large), sets)
    if not found:
        raise _because(found.missing)
    changes = [float(np.ptp(found[s].fpr)) for s in _papers(profile, found)]
    told = f"at most {max(changes):.2f}, from {min(large)} to {max(large)} images" if changes else ""
    return _count([change < 1 for change in changes], "sets move by less than a point", told)


def one_threshold_serves_all(profile: Profile) -> Count:
    """At the fixed setting, or at the best epsilon of the curves that is the same for all sets."""
    of, id_set = _first(profile), profile.id_sets[0]

    def fixed(images: str) -> pd.DataFrame:
        inside, outside = (
            experiments.test_scores(of, s, profile.fixed_temperature, profile.fixed_epsilon) for s in (id_set, images)
        )
        rate = 100 * metrics.fpr_at_tpr(inside, outside, profile.tpr).item()
        return pd.DataFrame({"epsilon": [profile.fixed_epsilon], "fpr": [rate]})

    ways = []
    for curve in (fixed, lambda s: effects.epsilon_effect(of, [s], profile.fixed_temperature)):
        found = experiments.gather(curve, profile.ood_sets[id_set])
        if sets := _papers(profile, found):
            rates = pd.DataFrame({s: found[s].set_index("epsilon").fpr for s in sets})
            ways += [row for _, row in rates.iterrows()]
    if not ways:
        raise _because(found.missing)
    best = min(ways, key=lambda row: (-len(row), row.max()))
    roles = _papers(profile, profile.ood_sets[id_set])
    told = f"at epsilon = {best.name:g} the most, {best.max():.1f} %, is accepted of {datasets.title(best.idxmax())}"
    return _count(best < SMALL_RATE, f"sets are below {SMALL_RATE:g} %", told, lacking=len(roles) - len(best))


def rejected_less_accurate(profile: Profile) -> Count:
    found = experiments.gather(
        lambda name: effects.accuracy_by_score(profile.trained(name, profile.id_sets[0])),
        profile.networks,
    )
    if not found:
        raise _because(found.missing)
    frame = pd.concat([rates[rates.below.notna()] for rates in found.values()])
    gap, kept = float((frame.above - frame.below).median()), int((frame.below < frame.above).sum())
    told = f"at {kept} of {len(frame)} true positive rates of {names.listed(map(names.network_title, found))}"
    return Count(kept, len(frame), f"{told}; the median difference is {gap:.1f} points")


TESTS: dict[str, Callable[[Profile], Count]] = {
    test.__name__: test
    for test in (
        improves_every_pair,
        improves_every_measure,
        improves_by_margin,
        reproduces_headline,
        temperature_can_help,
        temperature_helps,
        temperature_saturates,
        epsilon_has_optimum,
        epsilon_by_margin,
        large_epsilon_hurts,
        combination_beats_each,
        u1_larger_in_distribution,
        u2_given_u1_larger,
        dogs_are_near_cats,
        gradient_norm_larger,
        gradient_given_score_larger,
        predictions_unchanged,
        labels_not_used,
        output_variance_larger,
        crops_further_than_resizes,
        mmd_anticorrelates,
        left_out_classes_nearest,
        left_out_classes_hardest,
        tuning_set_unimportant,
        tuning_sets_can_agree,
        tuning_size_settles,
        one_threshold_serves_all,
        rejected_less_accurate,
        second_and_third_close,
        first_easier_than_second,
        detection_error_converges,
        u2_identity,
    )
}

"""The paper's protocol: hold out, tune, test, compare (Sections 4.1 to 4.4), on what `odinlib.store` answers.

A profile that computes holds out and tests exactly the images that it asks for. One that only reads chooses from what
is recorded, in the order that it asks for: its held-out images from those whose grid is recorded, its test images from
the others that have a score. So another split, seed or number of images is answered as far as the record reaches, and
`images_used` says with which images.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

from odinlib import metrics, odin, reference, store, trained
from odinlib.errors import Missing, UserError
from odinlib.profiles import Profile, Trained, by_one_recipe
from odinlib.store import Part, Responses, Setting

METHODS = ("baseline", "odin")  # the two of Table 2; ODIN's T and epsilon are chosen here
STATED = ("baseline", "stated")  # ODIN at the T and epsilon that the paper chose, where it prints them (Tables 4 to 9)
BASELINE = odin.Setting(1.0, 0.0, math.nan)  # max softmax as it is (Hendrycks & Gimpel, 2017)
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


# --- Which images -----------------------------------------------------------------------------------------------------


def held_out(of: Trained, images: str, count: int | None = None) -> np.ndarray:
    """The images of a set that T and epsilon are chosen on (Section 4.4).

    Args:
        of: the network, and the profile with its split and its number.
        images: the set.
        count: another number.

    Returns:
        Places in the set [count] int64, in the order of the split.

    Raises:
        UserError: no image of the set is left to test on.
    """
    count = count or of.profile.holdout
    return _order(of, images, count)[:count]


def tested(
    of: Trained, images: str, settings: Sequence[Setting] = ((1.0, 0.0),), holdout: int | None = None
) -> np.ndarray:
    """The test images of a set: those that are not held out.

    Args:
        of: the network, and the profile.
        images: the set.
        settings: where nothing is computed, only images whose scores are recorded at all of these are taken.
        holdout: how many images are held out, where it is not the profile's number.

    Returns:
        Places in the set [n] int64, in the order of the split.
    """
    profile, held = of.profile, holdout or of.profile.holdout
    found = _order(of, images, held)[held:]
    if not profile.exact:
        found = found[store.available(of, images, settings)[found]]
        if profile.images is not None:
            found = found[: profile.images - held]
    return found


#: Of which networks and sets images have been chosen here; a page says with `images_used` which these were.
asked: dict[tuple[str, str], tuple[Trained, str]] = {}


def _order(of: Trained, images: str, held: int) -> np.ndarray:
    """All images of a set in the order of the split; where nothing is computed, those with a recorded grid first."""
    profile, total = of.profile, store.total(of, images)
    asked[of.key, images] = of, images
    draw = store.draw(of, images)
    order = draw.order(total)
    if len(order) <= held:
        raise UserError(f"{images} has {len(order)} images", expected=f"more than the {held} that are held out")
    if profile.exact:
        return order
    # Those beyond the number that is asked for stand behind, in case that too few of the others are recorded.
    order = np.concatenate([order, np.setdiff1d(draw.without_limit().order(total), order, assume_unique=True)])
    recorded = store.held_out(of, images)[order]
    return np.concatenate([order[recorded], order[~recorded]])


def images_used(of: Trained, images: str) -> str | None:
    """In a sentence, how the held-out and test images differ from those asked for; None if they do not, or are none."""
    profile = of.profile
    if profile.exact:
        return None
    wanted = store.draw(of, images).order(store.total(of, images))
    held, test = held_out(of, images), tested(of, images)
    same = set(held) == set(wanted[: profile.holdout]) and set(test) == set(wanted[profile.holdout :])
    if same or not len(test):
        return None
    return (
        f"{len(held):,} held-out images of those whose grid is recorded, {len(test):,} test images of the others; "
        f"asked for were {profile.holdout:,} and {len(wanted) - profile.holdout:,} by the rule `{profile.split}`"
    )


# --- What is measured on them -----------------------------------------------------------------------------------------


def grid(of: Trained, images: str, count: int | None = None) -> Tensor:
    """Scores [A, B, n] of the held-out images at every temperature and epsilon of the profile's grid.

    Args:
        of: the network, and the profile with its grid.
        images: the set.
        count: another number of held-out images than the profile's; the same ones come first.
    """
    profile = of.profile
    settings = [(t, e) for t in profile.temperatures for e in profile.epsilons]
    indices = held_out(of, images, count)
    lacking = ~store.available(of, images, settings)[indices]
    if lacking.any():
        _may_compute(of, images, "the grid of scores", int(lacking.sum()))
        # Of a larger number only the further images are computed, as a file of their own.
        start, stop = int(lacking.argmax()), len(indices)
        part = Part(store.draw(of, images), start, stop)
        store.make_scores(of, "grids", images, part, profile.temperatures, profile.epsilons)
    shape = len(profile.temperatures), len(profile.epsilons), len(indices)
    return store.scores(of, images, settings, indices).view(shape)


def curve_temperatures(profile: Profile) -> tuple[float, float]:
    """The two temperatures of the curves over epsilon: none, and the large one."""
    return (1.0, profile.fixed_temperature)


def curve_images(of: Trained, images: str, temperatures: Sequence[float] | None = None) -> np.ndarray:
    """The test images behind the curves over epsilon, the first of those that are tested; recorded now if need be.

    Args:
        of: the network, and the profile with its epsilons.
        images: the set.
        temperatures: of the curves; None takes `curve_temperatures`.

    Returns:
        Places in the set [n] int64.

    Raises:
        Missing: no curve is recorded at these settings, and this profile only reads.
    """
    profile, settings = of.profile, _curve_settings(of.profile, temperatures)
    indices = tested(of, images, settings)
    if profile.exact:
        indices = indices[: profile.curve_images]
        if not profile.compute and not store.has_classes(of, images, settings, indices):
            raise store.missing(of, images, "curves over epsilon", len(indices))
        if not store.has_classes(of, images, settings, indices):
            part = Part(store.draw(of, images), profile.holdout, profile.holdout + len(indices))
            usual = curve_temperatures(profile)  # which share a file
            wanted = usual if temperatures is None or set(temperatures) <= set(usual) else (1.0, *temperatures)
            store.make_scores(of, "curves", images, part, sorted(set(wanted)), profile.epsilons)
        return indices
    on_curves = store.available(of, images, settings, kinds=("curves",))[indices]
    if on_curves.any():
        indices = indices[on_curves]
    if not len(indices):
        raise store.missing(of, images, "curves over epsilon")
    return indices[: profile.curve_images]


def curve(of: Trained, images: str, temperatures: Sequence[float] | None = None) -> Tensor:
    """Scores [A, B, n] of test images at T = 1 and at the large T, for every epsilon (Figures 3 cd, 4, 8, 9).

    Args:
        of: the network, and the profile with its epsilons.
        images: the set.
        temperatures: others than `curve_temperatures`.
    """
    indices = curve_images(of, images, temperatures)
    settings = _curve_settings(of.profile, temperatures)
    return store.scores(of, images, settings, indices).view(-1, len(of.profile.epsilons), len(indices))


def predictions(of: Trained, images: str) -> Tensor:
    """Predicted classes [2, B, n] of the images behind `curve`, at its temperatures and epsilons (Section 5.3)."""
    indices = curve_images(of, images)
    shape = 2, len(of.profile.epsilons), len(indices)
    return store.classes(of, images, _curve_settings(of.profile), indices).view(shape)


def _curve_settings(profile: Profile, temperatures: Sequence[float] | None = None) -> list[Setting]:
    return [(float(t), e) for t in temperatures or curve_temperatures(profile) for e in profile.epsilons]


def test_scores(
    of: Trained, images: str, temperature: float, epsilon: float, among: np.ndarray | None = None
) -> Tensor:
    """Scores [n] of test images at one setting, in float64.

    Args:
        of: the network.
        images: the set.
        temperature, epsilon: the setting.
        among: these images; None takes all that can be tested at this setting.
    """
    setting = (float(temperature), float(epsilon))
    indices = tested(of, images, [setting]) if among is None else among
    if not len(indices):
        raise _missing_scores(of, images, setting)
    if of.profile.compute:
        record_scores(of, images, [setting])
    return store.scores(of, images, [setting], indices)[0]


def _missing_scores(of: Trained, images: str, at: Setting) -> Missing:
    return store.missing(of, images, f"scores at T = {at[0]:g}, epsilon = {at[1]:g}", at=at)


def record_scores(of: Trained, images: str, settings: Iterable[Setting]) -> None:
    """Record the scores of all test images at several settings, sharing what passes can be shared.

    Without a perturbation responses are recorded, which hold the scores at every temperature; of a training that only
    repeats another one, the scores alone.
    """
    test = tested(of, images)
    if any(epsilon == 0 for _, epsilon in settings) and not of.repeats:
        store.clean(of, images, test)
    lacking = [s for s in dict.fromkeys(settings) if not store.available(of, images, [s])[test].all()]
    if lacking:
        part = Part(store.draw(of, images), of.profile.holdout)
        store.make_scores_together(of, images, part, lacking)


def test_responses(of: Trained, images: str) -> Responses:
    """The responses of the test images only, in the order of the split.

    Of a network of so many classes that the logits of some images only are kept (`store.make_responses`), of these.
    """
    test = tested(of, images)
    store.clean(of, images, test)  # made now if need be
    kept = store.with_logits(of, images)[test]
    return store.responses(of, images, test[kept] if kept.any() else test)


def test_error(of: Trained) -> float:
    """Share of misclassified images among all test images of the network's own set (Table 1)."""
    found = store.clean(of, of.id_set)
    if found.labels is None:
        raise UserError(f"{of.id_set} has no labels")
    return float((found.classes != found.labels).mean())


def class_count(of: Trained) -> int:
    """How many classes the network tells apart."""
    count: int = trained.card(of)["classes"]
    return count


def _may_compute(of: Trained, images: str, what: str, count: int) -> None:
    if not of.profile.compute:
        raise store.missing(of, images, what, count)


# --- The protocol -----------------------------------------------------------------------------------------------------


def tune(of: Trained, ood_set: str) -> odin.Setting:
    """T and epsilon with the least FPR on the held-out images of the network's own set and of `ood_set`.

    Table 3's MNIST block is not tuned in the paper: there T is large and epsilon is 0.
    """
    profile = of.profile
    if of.id_set == profile.grey_id_set:
        return odin.Setting(profile.fixed_temperature, 0.0, math.nan)
    if len(profile.temperatures) == len(profile.epsilons) == 1:  # nothing to choose, and no held-out image needed
        return odin.Setting(profile.temperatures[0], profile.epsilons[0], math.nan)
    scores_in, scores_out = (grid(of, images) for images in (of.id_set, ood_set))
    return odin.tune(scores_in, scores_out, profile.temperatures, profile.epsilons, profile.tpr)


def stated(of: Trained, ood_set: str) -> odin.Setting | None:
    """The T and epsilon that the paper chose for a pair (Tables 4 to 9); None where it prints none."""
    found = _printed_settings()
    rows = found[(found.network == of.network) & (found.id_set == of.id_set) & (found.ood_set == ood_set)]
    return None if rows.empty else odin.Setting(rows.temperature.item(), rows.epsilon.item(), math.nan)


def printed(profile: Profile, pairs: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Those of the (network, ID set, OOD set) for which the paper prints the setting that it chose."""
    return [pair for pair in pairs if stated(profile.trained(*pair[:2]), pair[2])]


def setting(of: Trained, ood_set: str, method: str) -> odin.Setting:
    """T and epsilon of a method on a pair: 1 and 0 for `baseline`, tuned for `odin`, the paper's own for `stated`.

    Raises:
        Missing: the paper prints no setting for the pair, or there is nothing recorded to tune on.
    """
    if method == "baseline":
        return BASELINE
    found = stated(of, ood_set) if method == "stated" else tune(of, ood_set)
    if found is None:
        raise Missing(f"the paper prints no T and epsilon for {of.network} on {of.id_set} against {ood_set}")
    return found


def detection(of: Trained, ood_set: str, methods: Sequence[str] = METHODS) -> pd.DataFrame:
    """One pair of Table 2: five measures by each method on the same test images, with bootstrap intervals.

    The areas under precision-recall curves weigh both kinds of image equally, as the paper's do: its rows for iSUN,
    of which there are fewer images, come out so and not otherwise.

    Args:
        of: the network, and the profile.
        ood_set: the out-of-distribution set.
        methods: some of those that `setting` knows.

    Returns:
        A row for each (method, metric): network, id_set, ood_set, method, metric, value, low, high (in percent; over
        images), trainings (how many of this recipe are recorded, this one included), mean and spread (over them, in
        percent and in points; one standard deviation, NaN of one training), temperature, epsilon, images_in,
        images_out.
    """
    profile, rows = of.profile, []
    repeated = _repetitions(of)
    others = gather(lambda training: _pair_values(repeated[training], ood_set, methods), repeated).values()
    for method, (one, scores_in, scores_out) in _pair_scores(of, ood_set, methods).items():
        values = _evaluated(profile, scores_in, scores_out)
        resampled = metrics.bootstrap(
            scores_in, scores_out, resamples=profile.resamples, tpr=profile.tpr, seed=profile.seed, balanced=True
        )
        for metric in metrics.METRICS:
            low, high = metrics.interval(resampled[metric])
            each = [values[metric], *(found[method][metric] for found in others)]
            rows.append(
                {
                    "network": of.network,
                    "id_set": of.id_set,
                    "ood_set": ood_set,
                    "method": method,
                    "metric": metric,
                    "value": values[metric],
                    "low": 100 * low,
                    "high": 100 * high,
                    "trainings": len(each),
                    "mean": float(np.mean(each)),
                    "spread": float(np.std(each, ddof=1)) if others else math.nan,
                    "temperature": one.temperature,
                    "epsilon": one.epsilon,
                    "images_in": len(scores_in),
                    "images_out": len(scores_out),
                }
            )
    return pd.DataFrame(rows)


def _pair_scores(of: Trained, ood_set: str, methods: Sequence[str]) -> dict[str, tuple[odin.Setting, Tensor, Tensor]]:
    """By each method its setting and the scores of the test images of both sets, the same images for every method."""
    chosen = {method: setting(of, ood_set, method) for method in methods}
    settings = [(one.temperature, one.epsilon) for one in chosen.values()]
    pair = of.id_set, ood_set
    if of.profile.compute:
        for images in pair:
            record_scores(of, images, settings)
    test = {images: tested(of, images, settings) for images in pair}
    for images, found in test.items():
        if not len(found):  # at one of the settings nothing is recorded, or nothing of the same images
            at = next((one for one in settings if not len(tested(of, images, [one]))), settings[-1])
            raise _missing_scores(of, images, at)
    scores = {}
    for method, one in chosen.items():
        scores_in, scores_out = (test_scores(of, s, one.temperature, one.epsilon, test[s]) for s in pair)
        scores[method] = one, scores_in, scores_out
    return scores


def _pair_values(of: Trained, ood_set: str, methods: Sequence[str]) -> dict[str, dict[str, float]]:
    found = _pair_scores(of, ood_set, methods)
    return {method: _evaluated(of.profile, *scores) for method, (_, *scores) in found.items()}


def _evaluated(profile: Profile, scores_in: Tensor, scores_out: Tensor) -> dict[str, float]:
    """The five measures in percent."""
    values = metrics.evaluate(scores_in, scores_out, profile.tpr, balanced=True)
    return {metric: 100 * values[metric].item() for metric in metrics.METRICS}


def _repetitions(of: Trained) -> dict[str, Trained]:
    """Further recorded trainings by the same recipe; of weights that others trained there is none."""
    found = [name for name in store.trainings(of) if name != of.training and by_one_recipe(name, of.training)]
    return {name: dataclasses.replace(of.among(compute=False), training=name) for name in found}


class Gathered(dict[Key, Result]):
    """What could be had, by its key, and in `missing` why the rest could not; true where anything could."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: dict[Any, str] = {}


def gather(function: Callable[..., Result], keys: Iterable[Key]) -> Gathered[Key, Result]:
    """`function` of each key, a name or a tuple of names, as far as it can be had here.

    >>> def length(name):
    ...     if not name:
    ...         raise Missing("nothing is not recorded")
    ...     return len(name)
    >>> found = gather(length, ["isun", ""])
    >>> found, found.missing
    ({'isun': 4}, {'': 'nothing is not recorded'})
    """
    found: Gathered[Key, Result] = Gathered()
    for key in keys:
        try:
            found[key] = function(*key) if isinstance(key, tuple) else function(key)
        except Missing as reason:
            found.missing[key] = str(reason)
    return found


def detections(
    profile: Profile, pairs: Iterable[tuple[str, str, str]], methods: Sequence[str] = METHODS
) -> Gathered[tuple[str, str, str], pd.DataFrame]:
    """`detection` for many (network, ID set, OOD set), as far as they can be had here."""
    return gather(lambda name, id_set, ood_set: detection(profile.trained(name, id_set), ood_set, methods), pairs)


def joined(*found: Mapping[Any, pd.DataFrame]) -> pd.DataFrame:
    """All the rows of several frames; an empty frame where there is none.

    What several `detections` of the same pairs have both measured, the baseline, stands there once.
    """
    frames = [frame for several in found for frame in several.values()]
    if not frames:
        return pd.DataFrame()
    rows = pd.concat(frames, ignore_index=True)
    measured = ["network", "id_set", "ood_set", "method", "metric"]
    return rows.drop_duplicates(measured, ignore_index=True) if len(found) > 1 else rows


def networks(profile: Profile) -> list[Trained]:
    """Every network of a profile on every set that it is trained on, in the paper's order, the grey block last."""
    found = [profile.trained(name, id_set) for id_set in profile.id_sets for name in profile.networks]
    return [*found, profile.trained(profile.grey_network, profile.grey_id_set)]


def pairs(profile: Profile, names: Sequence[str], id_sets: Sequence[str]) -> list[tuple[str, str, str]]:
    """Every (network, ID set, OOD set) in the order of the paper's tables."""
    return [(name, id_set, ood_set) for id_set in id_sets for name in names for ood_set in profile.ood_sets[id_set]]


def near_pairs(profile: Profile) -> list[tuple[str, str, str]]:
    """Table 12: the first network on the first ID set against the second one, and back; none with one ID set."""
    if len(profile.id_sets) < 2:
        return []
    first, second = profile.id_sets[:2]
    return [(profile.networks[0], first, second), (profile.networks[0], second, first)]


def headline_setting(profile: Profile) -> odin.Setting:
    """The setting that Figure 1 is drawn at."""
    return odin.Setting(profile.fixed_temperature, profile.headline_epsilon, math.nan)


@functools.cache
def _printed_settings() -> pd.DataFrame:
    return reference.settings.settings(reference.tables()).dropna()


def paper_settings(of: Trained) -> list[Setting]:
    """Every (T, epsilon) that the paper prints for a network on an ID set (Tables 4 to 9)."""
    found, name = _printed_settings(), of.profile.paper_name
    rows = found[(found.network == name(of.network)) & (found.id_set == name(of.id_set))]
    return sorted({(row.temperature, row.epsilon) for row in rows.itertuples()})

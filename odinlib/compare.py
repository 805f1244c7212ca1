"""Ours beside the paper's printed numbers: the difference, a verdict by one rule, in `verdict`, and what may be why."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Sequence

import pandas as pd
from scipy.stats import t as student_t

from odinlib import datasets, experiments, profiles, reference, store, trained
from odinlib.errors import Missing
from odinlib.names import asked_in, listed, network_title
from odinlib.profiles import Profile, Trained

#: How far, in percentage points, a number may lie from the printed one to be called near. The detection error moves
#: half as far as the FPR, by its definition; areas and test errors move less, where networks differ as two trainings of
#: one do.
NEAR = {"fpr": 2.0, "detection_error": 1.0, "auroc": 0.5, "aupr_in": 0.5, "aupr_out": 0.5, "test_error": 0.3}
_PRINTED = {"stated": "odin"}  # one number is printed for ODIN, whatever setting ours was measured at
_MEASURED = (
    *("network", "id_set", "ood_set", "method", "metric", "value", "low", "high"),
    *("trainings", "mean", "spread", "temperature", "epsilon", "images_in", "images_out"),
)


def verdict(ours: float, low: float, high: float, printed: str, metric: str = "fpr") -> str:
    """How a measured value stands to the printed one.

    `reproduced`: the printed value lies in our 95 % interval over images, widened by half a unit of its last digit;
    `near`: it lies within the points of `NEAR` of ours; otherwise `differs`.

    >>> verdict(34.1, 33.1, 35.0, "34.7"), verdict(30.0, 29.5, 30.5, "31.9"), verdict(30.0, 29.0, 31.0, "40")
    ('reproduced', 'near', 'differs')
    """
    value = float(printed)
    rounding = 0.5 * 10.0 ** -len(printed.partition(".")[2])
    if low - rounding <= value <= high + rounding:
        return "reproduced"
    return "near" if abs(ours - value) <= NEAR[metric] else "differs"


def verdict_over_trainings(
    once: tuple[float, float, float], printed: str, metric: str, trainings: int, mean: float, spread: float
) -> str:
    """How the mean of the trainings that are recorded, one or several, stands to the printed value.

    The interval over images is laid around the mean. What differs there, but lies in `whole_interval`, may come of one
    more training and is `within spread`: no evidence against the paper, and, where trainings lie far apart, none for
    it.

    Args:
        once: value, low and high of one training.
        printed, metric: as in `verdict`.
        trainings, mean, spread: as in `whole_interval`.

    >>> [verdict_over_trainings((30.0, 29.0, 31.0), paper, "fpr", 10, 31.0, 2.0) for paper in ("31.5", "34.0", "40.0")]
    ['reproduced', 'within spread', 'differs']
    """
    value, low, high = once
    found = verdict(mean, low - value + mean, high - value + mean, printed, metric)
    whole = verdict(*whole_interval(*once, trainings, mean, spread), printed, metric)
    return "within spread" if (found, whole) == ("differs", "reproduced") else found


def verdict_alone(ours: float, printed: str, metric: str) -> str:
    """How a value without an interval stands to the printed one: the same to its printed digits, near, or neither.

    >>> verdict_alone(4.806, "4.81", "test_error"), verdict_alone(12.0, "10.6", "fpr")
    ('reproduced', 'near')
    """
    return verdict(ours, ours, ours, printed, metric)


def verdict_on_setting(ours: float, printed: str, grid: Sequence[float]) -> str:
    """How a chosen temperature or epsilon stands to the printed one: the same, its neighbour on the grid, or another.

    >>> [verdict_on_setting(ours, "100", (1, 10, 100, 1000)) for ours in (100, 1000, 1)]
    ['reproduced', 'near', 'differs']
    """
    value = float(printed)
    if math.isclose(ours, value):
        return "reproduced"
    between = [step for step in grid if min(ours, value) < step < max(ours, value) and not math.isclose(step, value)]
    return "differs" if [step for step in between if not math.isclose(step, ours)] else "near"


def whole_interval(
    value: float, low: float, high: float, trainings: int = 1, mean: float | None = None, spread: float = math.nan
) -> tuple[float, float, float]:
    """A number with its 95 % interval over images and over trainings together.

    Of one training it is the interval over images. Where n trainings by one recipe are recorded, the number is their
    mean, and to the interval over images comes, by the root of the sum of squares, what one more training is expected
    to lie off that mean: t sqrt(1 + 1/n) standard deviations, t being Student's 97.5 % point with n - 1 degrees of
    freedom. The paper's network is such a further training.

    Args:
        value, low, high: of one training, in percent; low and high over images.
        trainings, mean, spread: how many there are, their mean and standard deviation.

    Returns:
        The number, and the lower and upper end of its interval.

    >>> whole_interval(30.0, 29.0, 31.0)
    (30.0, 29.0, 31.0)
    >>> tuple(round(end, 2) for end in whole_interval(30.0, 29.0, 31.0, trainings=10, mean=31.0, spread=2.0))
    (31.0, 26.15, 35.85)
    """
    if trainings < 2 or mean is None:
        return value, low, high
    over = student_t.ppf(0.975, trainings - 1) * math.sqrt(1 + 1 / trainings) * spread
    return mean, mean - math.hypot(value - low, over), mean + math.hypot(high - value, over)


def is_the_papers(profile: Profile, *names: str) -> bool:
    """Whether every network and set named is the paper's own and not one that stands for it."""
    return all(profile.paper_name(name) == name for name in names)


def comparison(profile: Profile, measured: pd.DataFrame, table: int | None = None) -> pd.DataFrame:
    """Paper, ours, difference, interval and verdict for every measured number.

    Where a network or a set only stands for the paper's, values cannot be compared; the verdict then says
    whether ODIN moves the measure from the baseline in the direction that the paper prints. Where others trained the
    network by another recipe, what differs is said to be of `other weights`.

    Args:
        profile: says whose role each network and set plays.
        measured: rows of `experiments.detection`.
        table: the paper's table to look in, where a number is printed in several.

    Returns:
        The rows of `measured` with `paper` (as printed, or NaN), `difference` (from the mean, of several trainings)
        and `verdict`.
    """
    if measured.empty:
        return pd.DataFrame(columns=[*_MEASURED, "paper", "difference", "verdict"])
    baseline = measured[measured.method == "baseline"].set_index(["network", "id_set", "ood_set", "metric"]).value
    rows = []
    for row in measured.to_dict("records"):
        key = (row["network"], row["id_set"], row["ood_set"])
        network, id_set, ood_set = (profile.paper_name(name) for name in key)
        printed, printed_baseline = (
            reference.lookup(network, id_set, ood_set, method, row["metric"], table)
            for method in (_PRINTED.get(row["method"], row["method"]), "baseline")
        )
        if printed is None:
            rows.append({**row, "paper": None, "difference": math.nan, "verdict": "not in the paper"})
            continue
        if is_the_papers(profile, *key):
            once, repeats = (row["value"], row["low"], row["high"]), (row["trainings"], row["mean"], row["spread"])
            found = verdict_over_trainings(once, printed, row["metric"], *repeats)
            if found == "differs" and by_another_recipe(profile.training(row["network"], row["id_set"])):
                found = "other weights"
        elif row["method"] == "baseline" or printed_baseline is None:
            found = "not comparable"
        else:
            ours = row["value"] - baseline.get((*key, row["metric"]), math.nan)
            same = _sign(ours) == _sign(float(printed) - float(printed_baseline))
            found = "same direction" if same else "other direction"
        rows.append({**row, "paper": printed, "difference": row["mean"] - float(printed), "verdict": found})
    return pd.DataFrame(rows)


def by_another_recipe(training: str) -> bool:
    """Whether a training is neither the authors' own nor one of ours by the profile's recipe."""
    return training != "authors" and (training in profiles.TRAININGS or "-" in training)


def printed_accuracy(network: str, id_set: str) -> float | None:
    """The test accuracy of one of the paper's networks in percent, from Table 1 or Appendix A.1; None if unprinted."""
    error = reference.lookup(network, id_set, None, None, "test_error")
    accuracy = reference.lookup(network, id_set, None, None, "test_accuracy")
    return 100 - float(error) if error is not None else None if accuracy is None else float(accuracy)


def causes(profile: Profile, compared: pd.DataFrame) -> str:
    """For each network and ID set of a comparison, what may be why its numbers are not the paper's: facts, a line each.

    Args:
        profile: says whose role each network and set plays.
        compared: of `comparison`.

    Returns:
        A list in Markdown: whose weights they are and how accurate against the paper's; which sets are other ones;
        how far several trainings lie apart; and, where none of this tells the network from the paper's, that nothing
        known explains what differs.
    """
    lines = []
    for (network, id_set), block in compared.groupby(["network", "id_set"], sort=False):
        of = profile.trained(network, id_set)
        told, alike = _weights(of)
        others = [s for s in dict.fromkeys(block.ood_set) if profile.paper_name(s) != s]
        if others:
            told += f"; {listed(datasets.title(s) for s in others)} in the place of the paper's"
        told += _repeated(block)
        told += "".join(_trained_by_others(of.among(resamples=2), training, block) for training in store.trainings(of))
        differing = [datasets.title(s) for s in dict.fromkeys(block[block.verdict == "differs"].ood_set)]
        if alike and differing:
            told += f"; nothing known here explains what differs ({listed(differing)})"
        lines.append(_line(of, told))
    return _list(lines)


def sources(profile: Profile, pairs: Iterable[tuple[str, str]]) -> str:
    """Whose weights numbers come from that no `comparison` holds: a list in Markdown.

    Args:
        profile: says whose role each network and set plays.
        pairs: each network and its in-distribution set, again and again if need be.
    """
    networks = [profile.trained(*pair) for pair in dict.fromkeys(pairs)]
    return _list([_line(of, _weights(of)[0]) for of in networks])


def _line(of: Trained, told: str) -> str:
    return f"* **{network_title(of.network)}, {datasets.title(of.id_set)}**: {told}."


def _list(lines: Sequence[str]) -> str:
    return "What the numbers come from:\n\n" + "\n".join(lines)


def _weights(of: Trained) -> tuple[str, bool]:
    """Whose weights, in words, and whether nothing about them is known to be other than the paper's."""
    name, id_set = (of.profile.paper_name(one) for one in (of.network, of.id_set))
    if (name, id_set) != (of.network, of.id_set):
        return f"in the role of {reference.title(name)} on {reference.title(id_set)}", False
    whose = profiles.TRAININGS.get(of.training) or _ours(of)
    with contextlib.suppress(Missing):
        ours, printed = trained.card(of).get("accuracy"), printed_accuracy(name, id_set)
        if ours is not None and printed is not None:
            whose += f", test accuracy {100 * ours:.2f} % (the paper's: {printed:.2f} %){asked_in(of.precision)}"
            alike = not by_another_recipe(of.training) and of.precision == "float32"
            return whose, alike and abs(100 * ours - printed) <= NEAR["test_error"]
    return whose + asked_in(of.precision), False


def _repeated(block: pd.DataFrame) -> str:
    """How far trainings from several seeds lie apart, beside what the choice of images is worth."""
    rates = block[(block.metric == "fpr") & (block.trainings > 1)]
    if rates.empty:
        return ""
    images = ((rates.high - rates.low) / 4).median()
    return (
        f"; of {rates.trainings.max()} trainings from as many seeds the FPR of one pair has a standard deviation of "
        f"{rates.spread.min():.1f} to {rates.spread.max():.1f} points (over images of one training: {images:.1f} in "
        "the median), and the verdict takes both into account"
    )


def _trained_by_others(of: Trained, training: str, block: pd.DataFrame) -> str:
    """The rates of the same pairs by weights that were trained by others, as far as they are recorded."""
    if training == of.training or training not in profiles.TRAININGS:
        return ""
    other, told = dataclasses.replace(of.among(compute=False), training=training), []
    shared = block[(block.metric == "fpr") & block.method.isin(experiments.STATED)]  # tuned settings are each one's own
    for ood_set, rates in shared.groupby("ood_set", sort=False):
        methods = list(rates.method)
        with contextlib.suppress(Missing):
            theirs = experiments.detection(other, ood_set, methods).query("metric == 'fpr'").value
            ours = rates.set_index("method").value[methods]
            each = (" / ".join(f"{value:.1f}" for value in values) for values in (theirs, ours))
            told.append(f"{datasets.title(ood_set)} {next(each)} (here {next(each)})")
    if not told:
        return ""
    whose = profiles.TRAININGS[training]
    return f"; a second training ({whose}) has at the same settings an FPR (baseline / ODIN, %) of {listed(told)}"


def _ours(of: Trained) -> str:
    try:
        recipe = trained.recipe(of)
    except Missing:
        return f"trained here ({of.training})"
    return f"trained here, {recipe['epochs']} epochs ({of.training})"


def _sign(number: float) -> int:
    return int(number > 0) - int(number < 0)

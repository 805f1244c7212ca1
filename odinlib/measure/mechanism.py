"""Why temperature and perturbation tell sets apart (Sections 5.2 and 5.3, Appendix C), measured.

Section 5.2 explains the temperature by U1 and U2, the first and second moment of the gaps between the largest output
and the others; Section 5.3 explains the perturbation by the 1-norm of the gradient of log S. Both are properties of
single images, so most of this module is arithmetic on the recorded responses of `odinlib.experiments`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from odinlib import datasets, experiments, metrics, moments, names, odin, store
from odinlib.datasets import embedded
from odinlib.errors import Missing, UserError
from odinlib.profiles import Trained

LARGE = 1000.0  # the large temperature, at which gradient norms are recorded


@dataclass(frozen=True)
class Outputs:
    """What a network says of one image: a bar for each class in Figures 5 (f) and (g)."""

    title: str
    classes: Sequence[str]
    logits: np.ndarray  # [K]
    u1: float
    u2: float
    set: str | None = None  # where the image is from


@dataclass(frozen=True)
class Path:
    """The score of one image along its perturbation: a curve of Figure 6."""

    title: str
    epsilons: np.ndarray  # [B], from 0
    scores: np.ndarray  # [B] softmax scores of the moved image
    gradient_norm: float  # 1-norm of the gradient of log S at epsilon = 0
    picture: np.ndarray | None = None  # [H, W, C], where it may be shown


_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


# --- Images -----------------------------------------------------------------------------------------------------------


def quantities(of: Trained, sets: Sequence[str]) -> pd.DataFrame:
    """What Figures 5, 10, 11 and 12 are drawn from: a row for each test image of each set.

    Returns:
        Columns set, index (the image's place in the set), u1, u2 (Equation 4), variance (of the gaps), output_variance
        (of all outputs about their mean), score_1 and score (at T = 1 and 1000), norm_1 and norm (1-norms of the
        gradient of log S there).
    """
    frames = []
    for images in sets:
        test = experiments.tested(of, images)
        found = store.clean(of, images, test)
        margins = store.scores(of, images, [(1.0, 0.0), (LARGE, 0.0)], test)
        columns = {
            "u1": found.u1,
            "u2": found.u2,
            "variance": found.u2 - found.u1**2,
            "output_variance": moments.output_variance(found.u1, found.u2, experiments.class_count(of)),
            "score_1": odin.score_from_margin(margins[0], 1.0, experiments.class_count(of)),
            "score": odin.score_from_margin(margins[1], LARGE, experiments.class_count(of)),
            "norm_1": found.gradient_norm_1.astype(np.float64),
            "norm": found.gradient_norm_1000.astype(np.float64),
        }
        frames.append(pd.DataFrame({"set": images, "index": test} | {k: np.asarray(v) for k, v in columns.items()}))
    return pd.concat(frames, ignore_index=True)


def on_curves(of: Trained, images: pd.DataFrame) -> pd.DataFrame:
    """The rows of `quantities` whose images are also behind the curves over epsilon."""
    return _among(images, lambda name, places: np.isin(places, experiments.curve_images(of, name, (LARGE,))))


def with_outputs(of: Trained, images: pd.DataFrame) -> pd.DataFrame:
    """The rows of `quantities` whose images' outputs are recorded: all, but with a network of very many classes."""
    return _among(images, lambda name, places: store.with_logits(of, name)[places])


def _among(images: pd.DataFrame, chosen: Callable[[str, np.ndarray], np.ndarray]) -> pd.DataFrame:
    """The rows whose images, by their set and their places [n] in it, are chosen [n] bool."""
    rows = [part[chosen(str(name), part["index"].to_numpy())] for name, part in images.groupby("set")]
    return pd.concat(rows).sort_index()


def conditional(images: pd.DataFrame, x: str, y: str, bins: int = 12, least: int = 5) -> pd.DataFrame:
    """E[y | x] for each set, in bins of equal width that all sets share, so that sets are compared at equal x.

    Args:
        images: of `quantities`.
        x, y: columns of it.
        bins: their number, over the range of x in all sets together.
        least: images without which a bin of a set is left out.

    Returns:
        Columns set, bin, x (the middle of the bin), mean, standard_error, count.
    """
    edges = np.linspace(images[x].min(), images[x].max(), bins + 1)
    frames = []
    for name, rows in images.groupby("set", sort=False):
        found = moments.conditional_expectation(rows[x], rows[y], edges)
        frame = pd.DataFrame(
            {
                "set": name,
                "bin": np.searchsorted(edges, found.centres) - 1,
                "x": found.centres,
                "mean": found.mean,
                "standard_error": found.standard_error,
                "count": found.count,
            }
        )
        frames.append(frame[frame["count"] >= least])
    return pd.concat(frames, ignore_index=True)


def share_above(curves: pd.DataFrame, id_set: str) -> pd.DataFrame:
    """In how many of the bins that both sets have the in-distribution set's expectation is the larger.

    Args:
        curves: of `conditional`.
        id_set: the in-distribution set.

    Returns:
        Columns ood_set, shared (bins), above (bins).
    """
    inside = curves[curves["set"] == id_set].set_index("bin")["mean"]
    rows = []
    for name, frame in curves[curves["set"] != id_set].groupby("set", sort=False):
        outside = frame.set_index("bin")["mean"]
        shared = inside.index.intersection(outside.index)
        above = int((inside[shared] > outside[shared]).sum())
        rows.append({"ood_set": name, "shared": len(shared), "above": above})
    return pd.DataFrame(rows, columns=["ood_set", "shared", "above"])


def typical_at(
    images: pd.DataFrame, name: str, column: str, at: float, of: str, nearest: int = 25, quantile: float = 0.5
) -> pd.Series:
    """An image of a set by rule, at a value of one column: of the nearest ones, that with the median of another column.

    Two sets can so be compared at an equal value without picking by eye the pair that shows most.

    Args:
        images: of `quantities`.
        name: the set.
        column, at: where to look.
        of: the column whose median is wanted.
        nearest: images to choose from.
        quantile: of that column; another one than the median gives an image that is telling and not typical.

    Returns:
        The row.
    """
    rows = images[images["set"] == name]
    if rows.empty:
        raise UserError(f"there is no image of {name}", expected=f"one of {', '.join(images['set'].unique())}")
    near = rows.loc[(rows[column] - at).abs().sort_values(kind="stable").index[:nearest]].sort_values(of, kind="stable")
    return near.iloc[int(quantile * (len(near) - 1))]


def show_outputs(title: str, classes: Sequence[str], logits: np.ndarray) -> Outputs:
    """The outputs of one image, logits [K], with their U1 and U2."""
    found = torch.from_numpy(logits)[None]
    return Outputs(title, classes, logits, moments.u1(found).item(), moments.u2(found).item())


def outputs_of(of: Trained, row: pd.Series) -> Outputs:
    """The recorded outputs for the image of a row of `with_outputs`."""
    found = store.responses(of, row["set"], np.array([int(row["index"])]))
    classes = class_names(of.id_set, found.logits.shape[1])
    title = "an image"
    if row["set"] == of.id_set and found.labels is not None:
        title += f" of class {classes[found.labels[0]]}"
    shown = show_outputs(f"{title} from {datasets.title(row['set'])}", classes, found.logits[0])
    return dataclasses.replace(shown, set=row["set"])


def gaps_of_class(found: store.Responses, classes: Sequence[str], name: str) -> pd.DataFrame:
    """The gaps f_y - f_i of the correctly classified images of one class: a row each, a column for each other class.

    Args:
        found: responses with labels.
        classes: their names [K].
        name: one of these.

    Raises:
        Missing: there is no such class, or no image of it is classified correctly.
    """
    if name not in classes:
        raise Missing(f"none of the classes {names.listed(classes[:3])} and so on is {name}")
    own = list(classes).index(name)
    right = (found.logits.argmax(1) == own) & (found.labels == own)
    if not right.any():
        raise Missing(f"no image of class {name} is classified correctly")
    logits = found.logits[right].astype(np.float64)
    return pd.DataFrame(logits[:, [own]] - logits, columns=list(classes)).drop(columns=name)


def class_names(id_set: str, count: int) -> tuple[str, ...]:
    """The names of a set's classes; CIFAR-10's and else numbers where the set itself is not on this machine."""
    try:
        return tuple(datasets.load(id_set, "test").classes)
    except Missing:
        return _CIFAR10 if id_set == "cifar10" else tuple(str(i) for i in range(count))


# --- Temperature ------------------------------------------------------------------------------------------------------

EXACT, FIRST, SECOND, CUMULANT = "score g", "U₁", "U₁ − U₂ / 2T", "U₁ − Var / 2T"


def expansion(logits_in: Tensor, logits_out: Tensor, temperatures: Sequence[float], tpr: float = 0.95) -> pd.DataFrame:
    """The score at each T beside its expansions in 1/T: how far each is from it, and how well each tells sets apart.

    With D the gaps, S = 1 / (1 + sum exp(-D / T)). Two quantities rise with S: h = T (1 - mean exp(-D / T)), whose
    expansion U1 - U2 / 2T is that of Equation 3's denominator, with the moments of the gaps; and the margin score
    g = -T log mean exp(-D / T), whose expansion is U1 - Var(D) / 2T, with their cumulants.

    Args:
        logits_in, logits_out: [n, K] and [m, K].
        temperatures: each above 0.
        tpr: the true positive rate of the FPR.

    Returns:
        Columns temperature, statistic, error (median over all images of the relative distance to h for
        U1 - U2 / 2T, to g for the others), fpr (percent).
    """
    both = torch.cat([logits_in, logits_out])
    u1, u2 = moments.u1(both), moments.u2(both)
    rows = []
    for temperature in temperatures:
        exact = odin.margin_score(both, temperature)
        statistics = {
            EXACT: exact,
            FIRST: u1,
            SECOND: u1 - u2 / (2 * temperature),
            CUMULANT: u1 - (u2 - u1**2) / (2 * temperature),
        }
        for statistic, values in statistics.items():
            fpr = metrics.fpr_at_tpr(values[: len(logits_in)], values[len(logits_in) :], tpr)
            expanded = -temperature * torch.expm1(-exact / temperature) if statistic == SECOND else exact
            error = ((values - expanded).abs() / expanded).median()
            rows.append(
                {"temperature": temperature, "statistic": statistic, "error": error.item(), "fpr": 100 * fpr.item()}
            )
    return pd.DataFrame(rows)


# --- Perturbation -----------------------------------------------------------------------------------------------------


def log_scores(of: Trained, images: str, temperature: float = LARGE) -> np.ndarray:
    """log S(x~; T) of test images for every epsilon of the profile [B, n], from the recorded curves."""
    margins = experiments.curve(of, images, (temperature,))[0].double()
    return torch.nn.functional.logsigmoid(margins / temperature - np.log(experiments.class_count(of) - 1)).numpy()


def path_of(of: Trained, row: pd.Series) -> Path:
    """The recorded scores, at the large T, of the image of a row of `quantities` along its perturbation.

    Its picture comes with it where the set is one that this package draws or generates itself, and can be had here.
    """
    images, index = row["set"], int(row["index"])
    picture = None
    if embedded.known(images) or images in datasets.NOISE:
        with contextlib.suppress(Missing):  # noise has the shape of the ID set's images, which may not be here
            picture = store.image_set(of.profile, images, of.id_set).images[index]
    place = int(np.flatnonzero(experiments.curve_images(of, images, (LARGE,)) == index)[0])
    scores = np.exp(log_scores(of, images)[:, place])
    return Path(datasets.title(images), np.array(of.profile.epsilons), scores, float(row["norm"]), picture)


def gains(of: Trained, images: str, temperature: float = LARGE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the perturbation does to log S of test images, and what its first-order expansion promises.

    Returns:
        The profile's epsilons above 0 [B]; log S(x~; T) - log S(x; T) [B, n]; epsilon times the gradient's 1-norm
        [B, n].

    Raises:
        Missing: the norms are recorded at T = 1 and 1000, and it is neither.
    """
    if temperature not in (1, LARGE):
        raise Missing(
            f"gradient norms at T = {temperature:g} are not recorded", expected=f"a temperature of 1 or {LARGE:g}"
        )
    epsilons = np.array(of.profile.epsilons)
    if 0 not in epsilons or len(epsilons) < 2:
        raise UserError(f"epsilons are {of.profile.epsilons}", expected="0 and at least one value above it")
    scores = log_scores(of, images, temperature)
    found = store.clean(of, images, experiments.curve_images(of, images, (temperature,)))
    norms = found.gradient_norm_1 if temperature == 1 else found.gradient_norm_1000
    above = epsilons > 0
    return (
        epsilons[above],
        scores[above] - scores[epsilons == 0],
        epsilons[above, None] * norms.astype(np.float64),
    )


def changed(predicted: Tensor) -> np.ndarray:
    """Share of images whose predicted class the perturbation changes [A, B], in percent.

    Args:
        predicted: classes [A, B, n] of `experiments.predictions`, the first epsilon being 0.
    """
    return 100 * (predicted != predicted[:, :1]).double().mean(-1).numpy()

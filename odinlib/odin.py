"""ODIN: detecting out-of-distribution images with a trained classifier, unchanged (Liang, Li & Srikant, ICLR 2018).

The whole method is here, in the order of Section 3:

1. Equation 1, the softmax score at a temperature, `softmax_score`;
2. Equation 2, the input moved a little in the direction that raises this score, `input_gradient` and `perturb`;
3. the detector, which compares the score of the moved input with a threshold, `odin_score` and `ODIN`;
4. Section 4.4, the choice of temperature and perturbation on held-out images, `sweep` and `tune`.

Conventions. A network maps images [N, C, H, W] in [0, 1] to logits [N, K], its normalisation being its own first
step, so that `epsilon` is in pixel units. In-distribution is the positive class; a higher score means more
in-distribution. Perturbed images are not clipped, as in the paper. Scores are computed in float64 from the network's
logits: at T = 1000 all softmax scores crowd within about 1e-3 of 1/K, where float32 has only a few thousand values.
"""

from __future__ import annotations  # so that help() shows types by their names

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from tqdm import tqdm

from odinlib import devices, metrics
from odinlib.errors import UserError, check_number
from odinlib.own import guards
from odinlib.own.adapter import Adapted, adapt
from odinlib.own.estimator import Estimator
from odinlib.own.images import Images, stream
from odinlib.own.images import batches as parts_of

PAPER_TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
PAPER_EPSILONS = tuple(i / 5000 for i in range(21))  # 21 evenly spaced values from 0 to 0.004


# --- Equation 1: temperature scaling ----------------------------------------------------------------------------------


def softmax_score(logits: Tensor | ArrayLike, temperature: float | Tensor) -> Tensor:
    """The softmax score S(x; T), the largest softmax probability at temperature T (Equation 1).

    Args:
        logits: the network's outputs f [..., K].
        temperature: T > 0; a number, or a tensor that broadcasts with [...].

    Returns:
        Scores [...] in float64, between 1/K and 1.

    >>> softmax_score(torch.tensor([[2.0, 0.0]]), 1.0).item()  # 1 / (1 + exp(-2))
    0.8807970779778823
    """
    gaps, temperatures = _gaps(logits, temperature)
    return 1 / (1 + torch.exp(-gaps / temperatures[..., None]).sum(-1))


def margin_score(logits: Tensor | ArrayLike, temperature: float | Tensor) -> Tensor:
    """The softmax score on the scale of the logits: g = T log[(K - 1) S / (1 - S)].

    With the gaps D_i = f_y - f_i this is -T log mean_i exp(-D_i / T), a soft minimum of the gaps: their minimum as T
    tends to 0, their mean U1 (Equation 4) as T grows. It rises with S, so every detection measure is the same for
    both; but S crowds at 1/K for large T and at 1 for small T, and g keeps its digits at either end, in float32 too.

    Args:
        logits: the network's outputs f [..., K].
        temperature: T > 0; a number, or a tensor that broadcasts with [...].

    Returns:
        Scores [...] in float64, between 0 and U1.

    >>> margin_score(torch.tensor([[3.0, 0.0, -3.0]]), torch.tensor([[0.01], [1e9]])).round(decimals=4).tolist()
    [[3.0069], [4.5]]
    """
    gaps, temperatures = _gaps(logits, temperature)
    others = gaps.isfinite().sum(-1).clamp(min=1)  # K - 1; a class that is switched off (a logit of -inf) is not there
    log_mean = torch.logsumexp(-gaps / temperatures[..., None], -1) - others.double().log()
    return -temperatures * log_mean


def score_from_margin(margin: Tensor, temperature: float | Tensor, classes: int) -> Tensor:
    """The softmax score S whose margin score is given: S = 1 / [1 + (K - 1) exp(-g / T)]."""
    check_number("classes", classes, at_least=2)
    margins, temperatures = devices.double(margin), devices.double(temperature)
    if not (temperatures > 0).all() or not torch.isfinite(temperatures).all():
        raise UserError(f"temperature is {temperature}", expected="a number above 0")
    return torch.sigmoid(margins / temperatures.to(margins.device) - math.log(classes - 1))


def _gaps(logits: Tensor | ArrayLike, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """The gaps f_y - f_i in float64 [..., K], infinite at the predicted class y itself, and T in float64."""
    logits = devices.double(logits)
    temperatures = devices.double(temperature).to(logits.device)
    if not (temperatures > 0).all() or not torch.isfinite(temperatures).all():
        raise UserError(f"temperature is {temperature}", expected="a number above 0")
    if logits.shape[-1] < 2:
        raise UserError(f"the network has {logits.shape[-1]} class", expected="at least two, to compare their outputs")
    largest, predicted = logits.max(-1, keepdim=True)
    if torch.isneginf(largest).any():
        raise UserError("all classes of an image are switched off (minus infinity)", expected="a finite logit")
    return (largest - logits).scatter(-1, predicted, math.inf), temperatures


# --- Equation 2: input preprocessing ----------------------------------------------------------------------------------


def input_gradients(network: nn.Module, images: Tensor, temperatures: Sequence[float]) -> tuple[list[Tensor], Tensor]:
    """The gradients of log S(x; T) with respect to the input, for several temperatures from one forward pass.

    Only the input's gradient is computed; the weights' are neither needed nor touched.

    Args:
        network: images [N, C, H, W] to logits [N, K].
        images: in [0, 1].
        temperatures: each above 0.

    Returns:
        A gradient [N, C, H, W] for each temperature, and the clean logits [N, K].
    """
    for temperature in temperatures:
        check_number("temperature", temperature, above=0)
    if not temperatures:  # nothing to differentiate: one forward pass that keeps nothing
        with torch.no_grad():
            return [], network(images)
    faster: Any = getattr(network, "input_gradients", None)
    if faster is not None:  # a network that knows a faster way to the same numbers
        return faster(images, temperatures)
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        logits = network(images)
        gradients: list[Tensor] = []
        for i, temperature in enumerate(temperatures):
            # Images do not mix in evaluation mode, so the gradient of the sum holds each image's own gradient.
            # In float64: a confident softmax rounds to 1 in float32, and its gradient to 0, which has no sign.
            log_score = torch.log_softmax(devices.double(logits) / temperature, dim=-1).amax(-1).sum()
            last = i == len(temperatures) - 1
            gradients += torch.autograd.grad(log_score, images, retain_graph=not last)
    return gradients, logits.detach()


def input_gradient(network: nn.Module, images: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The gradient of log S(x; T) with respect to the input [N, C, H, W], and the clean logits [N, K]."""
    gradients, logits = input_gradients(network, images, [temperature])
    return gradients[0], logits


def perturb(images: Tensor, gradient: Tensor, epsilon: float) -> Tensor:
    """The preprocessed image x - epsilon sign(-gradient of log S(x; T)) (Equation 2).

    Every pixel moves by `epsilon` in the direction that raises the log score; to first order the log score rises by
    epsilon times the gradient's 1-norm (Section 5.3).

    Args:
        images: x [N, C, H, W] in [0, 1].
        gradient: of log S(x; T) with respect to x, same shape.
        epsilon: magnitude in pixel units, at least 0.
    """
    check_number("epsilon", epsilon, at_least=0)
    return images - epsilon * torch.sign(-gradient)


# --- The detector -----------------------------------------------------------------------------------------------------


def odin_score(network: nn.Module, images: Tensor, temperature: float, epsilon: float) -> Tensor:
    """The softmax score of the preprocessed image, S(x~; T) [N] in float64: high for in-distribution images."""
    return softmax_score(odin_logits(network, images, temperature, epsilon), temperature)


def odin_logits(network: nn.Module, images: Tensor, temperature: float, epsilon: float) -> Tensor:
    """The logits of the preprocessed image, f(x~) [N, K]."""
    network = adapt(network)
    with network.at_work(), torch.no_grad():
        images = devices.usable(images)
        if epsilon == 0:
            return network(images)
        gradient, _ = input_gradient(network, images, temperature)
        return network(perturb(images, gradient, epsilon))


# --- Section 4.4: choosing the parameters -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A choice of parameters and the FPR that it reached on the images it was chosen on."""

    temperature: float
    epsilon: float
    fpr: float


def sweep(
    network: nn.Module,
    images: Tensor,
    temperatures: Sequence[float] = PAPER_TEMPERATURES,
    epsilons: Sequence[float] = PAPER_EPSILONS,
    *,
    batch: int | None = None,
    progress: str | None = None,
) -> Tensor:
    """Margin scores of every image at every setting of the grid: `sweep_and_classify` without the classes."""
    return sweep_and_classify(network, images, temperatures, epsilons, batch=batch, progress=progress)[0]


def sweep_and_classify(
    network: nn.Module,
    images: Tensor,
    temperatures: Sequence[float],
    epsilons: Sequence[float],
    *,
    batch: int | None = None,
    progress: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Margin scores and predicted classes of every image at every setting of the grid.

    The work is shared as far as it can be without changing a number: one forward pass gives the clean logits, hence
    epsilon = 0 at every temperature; one backward pass per temperature gives the direction for all its magnitudes;
    one forward pass is left for each temperature and each magnitude above 0.

    Args:
        network: images [N, C, H, W] in [0, 1] to logits [N, K], in evaluation mode.
        images: may lie on another device than the network; batches are moved as they are needed.
        temperatures: [A], each above 0.
        epsilons: [B], each at least 0.
        batch: images per pass; none: as many as suit the network's device.
        progress: a label, to show a progress bar.

    Returns:
        Scores [A, B, N] in float64 and classes [A, B, N] in int64, both on the CPU.

    Raises:
        UserError: a setting is out of range, or the network gives NaN.
    """
    temperatures, epsilons = check_grid(temperatures, epsilons)
    settings = list(itertools.product(temperatures, epsilons))
    scores, classes = score_and_classify(network, images, settings, batch=batch, progress=progress)
    shape = (len(temperatures), len(epsilons), len(images))
    return scores.view(shape), classes.view(shape)


def score_and_classify(
    network: nn.Module,
    images: Tensor,
    settings: Sequence[tuple[float, float]],
    *,
    batch: int | None = None,
    progress: str | None = None,
) -> tuple[Tensor, Tensor]:
    """`sweep_and_classify` for any settings instead of a whole grid.

    Args:
        network, images, batch, progress: as there.
        settings: pairs (T, epsilon) [A].

    Returns:
        Scores [A, N] in float64 and classes [A, N] in int64, both on the CPU.

    Raises:
        UserError: the network gives NaN, or no logits of these images.
    """
    network = adapt(network)
    moving = sorted({temperature for temperature, epsilon in settings if epsilon > 0})
    done = 0
    with network.at_work():
        scores = torch.empty(len(settings), len(images), dtype=torch.float64)
        classes = torch.empty(scores.shape, dtype=torch.int64)
        for part in batches(network, images, batch, progress):
            here = slice(done, done + len(part))
            gradients, clean = input_gradients(network, part, moving)
            for i, (temperature, epsilon) in enumerate(settings):
                logits = clean
                if epsilon > 0:
                    with torch.no_grad():
                        logits = network(perturb(part, gradients[moving.index(temperature)], epsilon))
                scores[i, here] = margin_score(logits, temperature).cpu()
                classes[i, here] = logits.argmax(-1).cpu()
            done = here.stop
        if not torch.isfinite(scores).all():
            raise _not_finite(images, scores)
    return scores, classes


def _not_finite(images: Tensor, scores: Tensor) -> UserError:
    """What is to blame for scores [A, N] that are not finite: pixels, classes that are switched off, or weights."""
    if not torch.isfinite(images).all():
        return UserError("the images hold NaN or infinite pixels", expected="finite ones, in [0, 1]")
    if torch.isposinf(scores).any():
        return UserError("all classes of an image but one are switched off", expected="at least two finite logits")
    return UserError("the network gives NaN or infinite logits", remedy="check its weights and its normalisation")


def tune(
    scores_in: Tensor, scores_out: Tensor, temperatures: ArrayLike, epsilons: ArrayLike, tpr: float = 0.95
) -> Setting:
    """The setting of the grid with the least FPR at `tpr` on held-out images (Section 4.4).

    The paper does not say which of several equally good settings it takes; here the one with the highest AUROC, then
    the smallest epsilon, then the smallest T.

    Args:
        scores_in, scores_out: of `sweep`, [A, B, n] and [A, B, m].
        temperatures: [A]
        epsilons: [B]
        tpr: the true positive rate.
    """
    temperatures, epsilons = check_grid(temperatures, epsilons)
    fpr = metrics.fpr_at_tpr(scores_in, scores_out, tpr)
    if fpr.shape != (len(temperatures), len(epsilons)):
        what = f"scores are of {list(fpr.shape)} settings"
        raise UserError(what, expected=f"{[len(temperatures), len(epsilons)]}, one for each T and epsilon")
    a, b = (fpr == fpr.min()).nonzero(as_tuple=True)  # of the settings with the least
    area = metrics.auroc(scores_in[a, b], scores_out[a, b])
    best = zip((-area).tolist(), b.tolist(), a.tolist(), strict=True)
    _, epsilon, temperature = min((worse, epsilons[j], temperatures[i]) for worse, j, i in best)
    return Setting(temperature, epsilon, fpr.min().item())


def check_grid(temperatures: ArrayLike, epsilons: ArrayLike) -> tuple[list[float], list[float]]:
    """The two axes, lists, arrays or single numbers, as lists of floats.

    Raises:
        UserError: one is empty, or a value is out of range.
    """
    if max(np.ndim(temperatures), np.ndim(epsilons)) > 1:
        raise UserError("the grid holds lists of lists", expected="a list of temperatures and one of epsilons")
    temperatures, epsilons = (np.ravel(values).tolist() for values in (temperatures, epsilons))
    if len(temperatures) == 0 or len(epsilons) == 0:
        raise UserError("the grid is empty", expected="at least one temperature and one epsilon")
    return (
        [float(check_number("temperature", t, above=0)) for t in temperatures],
        [float(check_number("epsilon", e, at_least=0)) for e in epsilons],
    )


def batches(
    network: nn.Module, images: Tensor, batch: int | None = None, progress: str | None = None
) -> Iterator[Tensor]:
    """`images` in parts that suit the network and its device, each there, computed with exactly while it is in use."""
    where = devices.of(network)
    size = check_number("batch", batch, at_least=1) if batch is not None else getattr(network, "images_per_pass", None)
    size = size or devices.images_per_pass(where)
    parts = images.split(int(size))
    with devices.exact(where):
        for part in tqdm(parts, desc=progress, unit="batch", leave=False, disable=progress is None):
            yield devices.usable(part.to(where))


# --- All of it, as one object -----------------------------------------------------------------------------------------


class ODIN(Estimator):
    """An out-of-distribution detector around a trained network, in scikit-learn's manner.

    The network may be of any kind and anybody's, and images whatever holds them: `odinlib.own` makes of one a module
    from images to logits, and of the other a stream of batches. What is given here is not changed; what `fit` chooses
    ends in an underscore.

    Args:
        network: from images [N, C, H, W] in [0, 1] to logits [N, K]: a module, an exported program, or a function. It
            is put in evaluation mode while it is asked.
        temperature: T; a large one is nearly always right (Section 5.1).
        epsilon: perturbation magnitude in pixel units; 0 leaves the input alone.
        tpr: the share of in-distribution images that `fit` makes the threshold accept.
        batch: images per pass; none: as many as suit the network's device.
        output: where the network gives several things, the name or the place of the logits among them.
        binary: the network has one logit z, which counts as the two logits [0, z].
        progress: show a progress bar.

    Attributes:
        temperature_, epsilon_, threshold_: what was chosen.
        shape_: (C, H, W) of the images it was fitted on.
        familiar_: how many there were.

    Raises:
        UserError: a setting is out of range, or the network is none; by `fit` and the scores: the images or what the
            network gives of them is not what it must be. What is only doubtful is warned of (`odinlib.own.Doubt`).

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> images = torch.rand(200, 1, 2, 2)
    >>> detector = ODIN(network, epsilon=0.01).fit(images)
    >>> detector.predict(images).sum().item()  # 190 of 200 accepted (+1), 10 refused (-1)
    180
    """

    finds = ("temperature_", "epsilon_", "threshold_", "shape_", "familiar_", "outputs_")

    def __init__(
        self,
        network: Any,
        temperature: float = 1000.0,
        epsilon: float = 0.0014,
        tpr: float = 0.95,
        batch: int | None = None,
        output: str | int | None = None,
        binary: bool = False,
        progress: bool = False,
    ) -> None:
        self.network, self.temperature, self.epsilon, self.tpr = network, temperature, epsilon, tpr
        self.batch, self.output, self.binary, self.progress = batch, output, binary, progress
        self._adapted()

    def fit(
        self,
        images_in: Images,
        images_out: Images | None = None,
        temperatures: ArrayLike | None = None,
        epsilons: ArrayLike | None = None,
        *,
        accuracy: float | None = None,
    ) -> ODIN:
        """Choose T, epsilon and the threshold on held-out images, anew at every call.

        Args:
            images_in: in-distribution images that the network was not trained on, see `odinlib.own.stream`.
            images_out: a sample of out-of-distribution images, where there is one: then T and epsilon are those of
                the grid with the least FPR (Section 4.4).
            temperatures: the grid; the paper's where `images_out` is given, else the temperature stays. Several need
                `images_out` to choose between them.
            epsilons: the grid. Given without `images_out`, the epsilon is the one that raises the mean score of the
                in-distribution images most, a choice that needs no out-of-distribution image (Hsu et al., 2020). The
                mean may rise far beyond the epsilon that detects best; that it ended at the last one is warned of.
            accuracy: the network's on images that it was not trained on. Where `images_in` come with labels, a much
                higher one on them is warned of.
        """
        foreign = images_out is not None
        if temperatures is None:
            temperatures = PAPER_TEMPERATURES if foreign else self.temperature
        if epsilons is None:
            epsilons = PAPER_EPSILONS if foreign else self.epsilon
        temperatures, epsilons = check_grid(temperatures, epsilons)
        if len(temperatures) > 1 and not foreign:
            remedy = "give images_out, or one temperature"
            raise UserError(f"{len(temperatures)} temperatures without foreign images to choose by", remedy=remedy)
        if accuracy is not None:
            check_number("accuracy", accuracy, at_least=0, at_most=1)

        network = self._adapted()
        scores_in, _, first = self._measured(network, images_in, temperatures, epsilons, accuracy=accuracy)
        chosen = 0, int(scores_in[0].mean(-1).argmax())
        if foreign:
            scores_out, _, _ = self._measured(network, images_out, temperatures, epsilons, tuple(first.shape[1:]))
            setting = tune(scores_in, scores_out, temperatures, epsilons, self.tpr)
            chosen = temperatures.index(setting.temperature), epsilons.index(setting.epsilon)
        temperature, epsilon = temperatures[chosen[0]], epsilons[chosen[1]]
        means = scores_in[chosen[0]].mean(-1)
        guards.edge(epsilon, epsilons, foreign, (means[chosen[1]] - means[epsilons.index(min(epsilons))]).item())
        guards.resolvable(network.seen(first), network.seen(first + epsilon), epsilon)

        scores = scores_in[chosen]
        # How far scores move with the images beside them: alone, these few are computed in another order.
        alone = [score_and_classify(network, image, [(temperature, epsilon)])[0][0] for image in first.split(1)]
        rounding = max(
            8 * (torch.cat(alone) - scores[: len(alone)]).abs().max().item(), 1e-5 * scores.abs().max().item()
        )
        self.temperature_, self.epsilon_ = temperature, epsilon
        self.threshold_ = metrics.threshold_at_tpr(scores, self.tpr, rounding).item()
        self.shape_, self.familiar_, self.outputs_ = tuple(first.shape[1:]), len(scores), network.classes
        guards.few(len(scores), int((scores > self.threshold_).sum()), self.tpr)
        return self

    def score_samples(self, images: Images) -> Tensor:
        """S(x~; T) of each image [N], on the margin scale of `margin_score`; float64, on the CPU."""
        return self.score_and_classify(images)[0]

    def score_and_classify(self, images: Images) -> tuple[Tensor, Tensor]:
        """The scores of `score_samples` [N], and the class that the network predicts of each moved image [N] int64."""
        temperature, epsilon = getattr(self, "temperature_", self.temperature), getattr(self, "epsilon_", self.epsilon)
        network, shape = self._adapted(), getattr(self, "shape_", None)
        network.classes = getattr(self, "outputs_", None)
        scores, classes, _ = self._measured(network, images, *check_grid([temperature], [epsilon]), shape)
        return scores[0, 0], classes[0, 0]

    def decision_function(self, images: Images) -> Tensor:
        """How far each image's score lies above the threshold [N]: in-distribution where it is above 0."""
        self._check_fitted()
        return self.score_samples(images) - self.threshold_

    def predict(self, images: Images) -> Tensor:
        """+1 for each image taken as in-distribution, -1 for the others (the paper's g is 0 and 1) [N]."""
        return torch.where(self.decision_function(images) > 0, 1, -1)

    def _adapted(self) -> Adapted:
        check_number("temperature", self.temperature, above=0)
        check_number("epsilon", self.epsilon, at_least=0)
        check_number("tpr", self.tpr, above=0, at_most=1)
        if self.batch is not None:
            check_number("batch", self.batch, at_least=1)
        return adapt(self.network, self.output, self.binary)

    @torch.inference_mode(False)  # of the caller's: images that a stream makes in it could not be differentiated by
    def _measured(
        self,
        network: Adapted,
        images: Images,
        temperatures: Sequence[float],
        epsilons: Sequence[float],
        shape: tuple[int, ...] | None = None,
        accuracy: float | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores and classes [A, B, N] of a stream, and the first few images of it."""
        size = int(self.batch or devices.images_per_pass(devices.of(network)))
        kept: list[tuple[Tensor, Tensor]] = []
        few, right, labelled = torch.empty(0), 0, 0
        parts, total = stream(images, size, shape, network.channels()), parts_of(images, size)
        for part, labels in tqdm(parts, total=total, unit="batch", leave=False, disable=not self.progress):
            if not kept:
                few = part[:8].clone()
                if shape is None:  # seen for the first time
                    with network.at_work():
                        guards.outputs(network.examine(part.to(devices.of(network))))
            found, predicted = sweep_and_classify(network, part, temperatures, epsilons, batch=size)
            kept.append((found, predicted))
            # Joined by twos: many small tensors among images that go would keep the heap from being given back.
            while len(kept) > 1 and kept[-2][0].shape[-1] <= 2 * kept[-1][0].shape[-1]:
                before, last = kept[-2:]
                kept[-2:] = [(torch.cat([before[0], last[0]], -1), torch.cat([before[1], last[1]], -1))]
            if labels is not None:
                right, labelled = right + int((predicted[0, 0] == labels).sum()), labelled + len(labels)
        guards.still(network.still, network.broken, network.asked)
        guards.familiar(right, labelled, accuracy)
        scores, classes = (torch.cat(parts, -1) for parts in zip(*kept, strict=True))
        return scores, classes, few

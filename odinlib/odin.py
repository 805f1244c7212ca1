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

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from odinlib import devices, metrics
from odinlib.errors import UserError, check_number

PAPER_TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
PAPER_EPSILONS = tuple(i / 5000 for i in range(21))  # 21 evenly spaced values from 0 to 0.004


# --- Equation 1: temperature scaling ----------------------------------------------------------------------------------


def softmax_score(logits: Tensor, temperature: float | Tensor) -> Tensor:
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


def margin_score(logits: Tensor, temperature: float | Tensor) -> Tensor:
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
    log_mean = torch.logsumexp(-gaps / temperatures[..., None], -1) - math.log(gaps.shape[-1] - 1)
    return -temperatures * log_mean


def score_from_margin(margin: Tensor, temperature: float | Tensor, classes: int) -> Tensor:
    """The softmax score S whose margin score is given: S = 1 / [1 + (K - 1) exp(-g / T)]."""
    temperatures = torch.as_tensor(temperature, dtype=torch.float64, device=margin.device)
    return torch.sigmoid(margin.double() / temperatures - math.log(classes - 1))


def _gaps(logits: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """The gaps f_y - f_i in float64 [..., K], infinite at the predicted class y itself, and T in float64."""
    logits = devices.double(logits)
    temperatures = torch.as_tensor(temperature, dtype=torch.float64, device=logits.device)
    if not (temperatures > 0).all() or not torch.isfinite(temperatures).all():
        raise UserError(f"temperature is {temperature}", expected="a number above 0")
    if logits.shape[-1] < 2:
        raise UserError(f"the network has {logits.shape[-1]} class", expected="at least two, to compare their outputs")
    largest, predicted = logits.max(-1, keepdim=True)
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
    with torch.no_grad():
        if epsilon == 0:
            return network(images)
        gradient, _ = input_gradient(network, images, temperature)
        return network(perturb(images, gradient, epsilon))


class ODIN:
    """An out-of-distribution detector around a trained network, in scikit-learn's manner.

    Args:
        network: any module from images [N, C, H, W] in [0, 1] to logits [N, K]; it is put in evaluation mode.
        temperature: T; a large one is nearly always right (Section 5.1).
        epsilon: perturbation magnitude in pixel units; 0 leaves the input alone.
        tpr: the share of in-distribution images that `fit` makes the threshold accept.
        batch: images per pass; none: as many as suit the network's device.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> images = torch.rand(40, 1, 2, 2)
    >>> detector = ODIN(network, epsilon=0.01).fit(images)
    >>> detector.predict(images).sum().item()  # 38 of 40 accepted (+1), 2 refused (-1)
    36
    """

    def __init__(
        self,
        network: nn.Module,
        temperature: float = 1000.0,
        epsilon: float = 0.0014,
        tpr: float = 0.95,
        batch: int | None = None,
    ) -> None:
        self.network = network.eval()
        self.temperature = check_number("temperature", temperature, above=0)
        self.epsilon = check_number("epsilon", epsilon, at_least=0)
        self.tpr = check_number("tpr", tpr, above=0, at_most=1)
        self.batch = batch
        self.threshold: float | None = None

    def fit(
        self,
        images_in: Tensor,
        images_out: Tensor | None = None,
        temperatures: Sequence[float] | None = None,
        epsilons: Sequence[float] | None = None,
    ) -> "ODIN":
        """Choose T, epsilon and the threshold on held-out images.

        Args:
            images_in: in-distribution images that the network was not trained on.
            images_out: a sample of out-of-distribution images, where there is one: then T and epsilon are those of
                the grid with the least FPR (Section 4.4).
            temperatures: the grid; the paper's where `images_out` is given, else the temperature stays.
            epsilons: the grid. Given without `images_out`, the epsilon is the one that raises the mean score of the
                in-distribution images most, a choice that needs no out-of-distribution image (Hsu et al., 2020).
        """
        if images_out is not None:
            temperatures = temperatures or PAPER_TEMPERATURES
            epsilons = epsilons or PAPER_EPSILONS
            scores_in = sweep(self.network, images_in, temperatures, epsilons, batch=self.batch)
            scores_out = sweep(self.network, images_out, temperatures, epsilons, batch=self.batch)
            chosen = tune(scores_in, scores_out, temperatures, epsilons, self.tpr)
            self.temperature, self.epsilon = chosen.temperature, chosen.epsilon
        elif epsilons is not None:
            scores_in = sweep(self.network, images_in, [self.temperature], epsilons, batch=self.batch)
            self.epsilon = epsilons[int(scores_in[0].mean(-1).argmax())]
        self.threshold = metrics.threshold_at_tpr(self.score_samples(images_in), self.tpr).item()
        return self

    def score_samples(self, images: Tensor) -> Tensor:
        """S(x~; T) of each image [N], on the margin scale of `margin_score`; float64, on the CPU."""
        settings = [(self.temperature, self.epsilon)]
        return score_and_classify(self.network, images, settings, batch=self.batch)[0][0]

    def predict(self, images: Tensor) -> Tensor:
        """+1 for each image taken as in-distribution, -1 for the others (the paper's g is 0 and 1) [N]."""
        if self.threshold is None:
            raise UserError("the detector has no threshold", remedy="call fit with held-out in-distribution images")
        return torch.where(self.score_samples(images) > self.threshold, 1, -1)


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
        UserError: the network gives NaN.
    """
    scores = torch.empty(len(settings), len(images), dtype=torch.float64)
    classes = torch.empty(scores.shape, dtype=torch.int64)
    moving = sorted({temperature for temperature, epsilon in settings if epsilon > 0})
    done = 0
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
        raise UserError("the network gives NaN or infinite logits", remedy="check its weights and its normalisation")
    return scores, classes


def tune(
    scores_in: Tensor, scores_out: Tensor, temperatures: Sequence[float], epsilons: Sequence[float], tpr: float = 0.95
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
    measured = metrics.evaluate(scores_in, scores_out, tpr)
    fpr, area = measured["fpr"], measured["auroc"]
    settings = [
        (fpr[a, b].item(), -area[a, b].item(), epsilon, temperature)
        for a, temperature in enumerate(temperatures)
        for b, epsilon in enumerate(epsilons)
    ]
    least, _, epsilon, temperature = min(settings)
    return Setting(float(temperature), float(epsilon), least)


def check_grid(temperatures: Sequence[float], epsilons: Sequence[float]) -> tuple[list[float], list[float]]:
    """The two axes as lists of floats, or a :class:`UserError` for an empty one or a value out of range."""
    if len(temperatures) == 0 or len(epsilons) == 0:
        raise UserError("the grid is empty", expected="at least one temperature and one epsilon")
    return (
        [float(check_number("temperature", t, above=0)) for t in temperatures],
        [float(check_number("epsilon", e, at_least=0)) for e in epsilons],
    )


def batches(
    network: nn.Module, images: Tensor, batch: int | None = None, progress: str | None = None
) -> Iterator[Tensor]:
    """`images` in parts that suit the network's device, each there, computed with exactly while it is in use."""
    where = devices.of(network)
    parts = images.split(batch or devices.images_per_pass(where))
    with devices.exact(where):
        for part in tqdm(parts, desc=progress, unit="batch", leave=False, disable=progress is None):
            yield part.to(where)

"""How far apart two sets of images are: MMD, energy distance and their tests (Section 4.5, Appendix G).

In blocks, so that two sets of 10,000 images of 32 x 32 x 3 take half a gigabyte.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from odinlib import devices
from odinlib.errors import UserError, check_choice, check_number

BANDWIDTHS = ("median-squared", "median")
ESTIMATORS = ("unbiased", "biased")
PIXELS = {"unit": 1.0, "byte": 255.0}
Images = np.ndarray | Tensor

_ROWS = 512  # images whose distances to all others are held at once
_BINS = 1 << 20  # of the histogram that the median of all distances is read from


def mmd(
    v: Images,
    w: Images,
    *,
    sigma: str | float = "median-squared",
    estimator: str = "unbiased",
    squared: bool = True,
    pixels: str = "unit",
) -> float:
    """Maximum mean discrepancy with the kernel exp(-||x - x'||^2 / (2 sigma^2)) between two sets of images.

    The paper's text sets 2 sigma^2 to the median of the distances. Read literally, a length equals a squared length,
    and in 3,072 dimensions the kernel is 0 for nearly every pair; the median of the *squared* distances is the
    default. The paper divides sums over i != j by C(m, 2), the number of unordered pairs; they are read as such.

    Args:
        v, w: images [m, ...] and [n, ...]; uint8 in 0 to 255 or float in 0 to 1.
        sigma: `median-squared` or `median`, the quantity of all pairs of both sets that 2 sigma^2 equals; or sigma.
        estimator: `unbiased`, without the pairs of an image with itself, which can come out below 0; or `biased`,
            with them, which cannot.
        squared: MMD^2; else MMD, where a negative estimate of MMD^2 gives 0.
        pixels: `unit` measures pixels in 0 to 1, `byte` in 0 to 255. It matters to `median` and to a given sigma.

    >>> round(mmd(np.zeros((2, 1)), np.ones((3, 1)), sigma=1.0), 6)  # 2 - 2 exp(-1/2)
    0.786939
    """
    pooled, m = _pooled(v, w, pixels)
    scale = _two_sigma_squared(pooled, sigma)
    found = _discrepancy(pooled, m, lambda distances: torch.exp(distances.div_(-scale)), 1.0, estimator)
    return found if squared else max(found, 0.0) ** 0.5


def energy_distance(
    v: Images, w: Images, *, estimator: str = "unbiased", squared: bool = True, pixels: str = "unit"
) -> float:
    """Energy distance D^2 = 2 E||V - W|| - E||V - V'|| - E||W - W'||, with the 2-norm (Appendix G).

    Args:
        v, w: images [m, ...] and [n, ...]; uint8 in 0 to 255 or float in 0 to 1.
        estimator: `unbiased` or `biased`, as in `mmd`. The paper's is the unbiased one over unordered pairs.
        squared: D^2; else D, where a negative estimate of D^2 gives 0.
        pixels: D^2 in `byte` is 255 times that in `unit`.

    >>> energy_distance(np.zeros((2, 1)), np.ones((3, 1)))
    2.0
    """
    pooled, m = _pooled(v, w, pixels)
    found = _discrepancy(pooled, m, lambda distances: distances.sqrt_().neg_(), 0.0, estimator)
    return found if squared else max(found, 0.0) ** 0.5


def median_distance(v: Images, w: Images, *, squared: bool = True, pixels: str = "unit") -> float:
    """Median of the (squared) distances between all pairs of images of both sets, an image and itself aside.

    Exact but for the bins of a histogram of the squared distances, a millionth of the largest there can be.
    """
    found = _median_squared(_pooled(v, w, pixels)[0])
    return found if squared else found**0.5


class PermutationTest(NamedTuple):
    """Could the two sets come from one distribution?"""

    statistic: float  # the unbiased squared distance of the images tested
    p_value: float  # share of relabellings at least that far apart, the observed one counted among them
    images: tuple[int, int]  # tested of each set


def permutation_test(
    v: Images,
    w: Images,
    distance: str = "mmd",
    *,
    permutations: int = 999,
    subsample: int = 1000,
    seed: int = 0,
    sigma: str | float = "median-squared",
    pixels: str = "unit",
) -> PermutationTest:
    """Test whether two sets have one distribution, by relabelling their images at random.

    The p-value is (b + 1) / (B + 1), b of B relabellings being at least as far apart as the sets are: never 0, and
    valid at every size of the sets.

    Args:
        v, w: images [m, ...] and [n, ...].
        distance: `mmd` or `energy`.
        permutations: B.
        subsample: images taken from each set, at random by `seed`; their pairs are held in memory.
        seed: of the draws and of the relabellings.
        sigma: of the MMD, from the images tested.
        pixels: as in `mmd`.
    """
    check_choice("distance", distance, ("mmd", "energy"))
    check_number("permutations", permutations, at_least=1)
    check_number("subsample", subsample, at_least=2)
    generator = np.random.default_rng(seed)
    v, w = (s[np.sort(generator.permutation(len(s))[:subsample])] for s in (v, w))
    pooled, m = _pooled(v, w, pixels)
    n = len(pooled)
    squares = torch.cat(list(_blocks(pooled, pooled))).double().fill_diagonal_(0)
    kernel = -squares.sqrt() if distance == "energy" else torch.exp(-squares / _two_sigma_squared(pooled, sigma))
    kernel.fill_diagonal_(0)  # pairs of an image with itself do not count

    labels = np.zeros((permutations + 1, n))
    labels[:, :m] = 1
    labels[1:] = generator.permuted(labels[1:], axis=1)  # the first row is the observed labelling
    first = torch.from_numpy(labels)
    reached = first @ kernel  # [B + 1, n] from every image to those labelled first
    within_first = (reached * first).sum(1)
    between = reached.sum(1) - within_first
    within_second = kernel.sum() - within_first - 2 * between
    statistics = (
        within_first / (m * (m - 1)) + within_second / ((n - m) * (n - m - 1)) - 2 * between / (m * (n - m))
    ).numpy()
    # Equal labellings may differ by rounding; they count as equal.
    further = int((statistics[1:] >= statistics[0] - 1e-12 * abs(kernel).max().item()).sum())
    return PermutationTest(float(statistics[0]), (further + 1) / (permutations + 1), (m, n - m))


def _pooled(v: Images, w: Images, pixels: str) -> tuple[Tensor, int]:
    """Both sets as rows of float32 [m + n, D] about their common mean, and m."""
    scale = PIXELS[check_choice("pixels", pixels, PIXELS)]
    sets = [torch.as_tensor(images) for images in (v, w)]
    if sets[0].shape[1:] != sets[1].shape[1:] or sets[0].ndim < 2 or min(map(len, sets)) < 2:
        shapes = " and ".join(str(list(images.shape)) for images in sets)
        raise UserError(f"the image sets are {shapes}", expected="at least two images each, all of one shape")
    m = len(sets[0])
    pooled = torch.empty(m + len(sets[1]), sets[0][0].numel())
    for rows, images in zip((pooled[:m], pooled[m:]), sets, strict=True):
        rows.copy_(images.flatten(1)).mul_(scale / 255 if images.dtype == torch.uint8 else scale)
    if not torch.isfinite(pooled.sum()):
        raise UserError("an image set holds NaN or infinite values", expected="finite pixels")
    # Squared distances come from |a|^2 + |b|^2 - 2 ab; about their mean the terms are as small as they can be,
    # and the difference loses no more digits than float32 can spare.
    return pooled.sub_(pooled.mean(0)), m


def _squared_norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1).square_()  # unlike rows.square().sum(1), without a copy of all rows


def _blocks(a: Tensor, b: Tensor | None = None) -> Iterator[Tensor]:
    """Squared distances from the rows of a to those of b, [rows, len(b)] at a time.

    Without b: between the rows of a, every unordered pair once, in pieces of any shape.
    """
    norms_a = _squared_norms(a)
    norms_b = norms_a if b is None else _squared_norms(b)
    for start in range(0, len(a), _ROWS):
        rows = slice(start, start + _ROWS)
        others, norms = (a[start:], norms_b[start:]) if b is None else (b, norms_b)
        block = devices.product(-2 * a[rows], others, norms).add_(norms_a[rows, None]).clamp_(min=0)
        if b is not None:
            yield block
            continue
        size = len(block)
        upper = torch.triu_indices(size, size, 1)
        yield block[upper[0], upper[1]]
        yield block[:, size:]


def _total(function: Callable[[Tensor], Tensor], a: Tensor, b: Tensor | None = None) -> float:
    """Sum of a function of the squared distances, over all pairs of a and b or all unordered pairs of a."""
    return sum(function(block).sum(dtype=torch.float64).item() for block in _blocks(a, b))


def _discrepancy(pooled: Tensor, m: int, kernel: Callable[[Tensor], Tensor], at_zero: float, estimator: str) -> float:
    """E k(V, V') + E k(W, W') - 2 E k(V, W): the MMD^2 of a kernel, the energy distance of minus the distance."""
    check_choice("estimator", estimator, ESTIMATORS)
    found = 0.0
    for part in (pooled[:m], pooled[m:]):
        size, pairs = len(part), 2 * _total(kernel, part)
        found += pairs / (size * (size - 1)) if estimator == "unbiased" else (pairs + size * at_zero) / size**2
    return found - 2 * _total(kernel, pooled[:m], pooled[m:]) / (m * (len(pooled) - m))


def _two_sigma_squared(pooled: Tensor, sigma: str | float) -> float:
    if not isinstance(sigma, str):
        return 2 * check_number("sigma", sigma, above=0) ** 2
    median = _median_squared(pooled)
    if median == 0:
        raise UserError("more than half of the images are equal", remedy="give sigma as a number")
    return median if check_choice("sigma", sigma, BANDWIDTHS) == "median-squared" else median**0.5


def _median_squared(pooled: Tensor) -> float:
    top = 4 * _squared_norms(pooled).max().item()  # no two rows are further apart
    if top == 0:
        return 0.0
    counts = torch.zeros(_BINS, dtype=torch.float64)
    for block in _blocks(pooled):
        counts += torch.histc(block, _BINS, 0, top)
    pairs = len(pooled) * (len(pooled) - 1) // 2
    # The two middle values (one and the same if their number is odd), each at the middle of its bin.
    middle = torch.tensor([(pairs - 1) // 2, pairs // 2], dtype=torch.float64)
    places = torch.searchsorted(counts.cumsum(0), middle, right=True)
    return (places.double().mean().item() + 0.5) * top / _BINS

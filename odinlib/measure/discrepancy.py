"""How far apart two sets of images are: MMD, energy distance and their tests (Section 4.5, Appendix G).

In blocks, so that two sets of 10,000 images of 32 x 32 x 3 take half a gigabyte. Squared distances are float64: of
bytes they are exact, of other pixels as good as float64 is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from odinlib import devices
from odinlib.errors import UserError, check_choice, check_number
from odinlib.own import guards
from odinlib.own.images import RANGES

BANDWIDTHS = ("median-squared", "median")
ESTIMATORS = ("unbiased", "biased")
PIXELS = {"unit": 1.0, "byte": 255.0}
Images = np.ndarray | Tensor

_ROWS = 512  # images whose distances to all others are held at once
_COLUMNS = 1024  # pixels whose products, of numbers up to 128, sum to no more than float32 is exact to


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
    check_choice("estimator", estimator, ESTIMATORS)
    rows, m = _pooled(v, w, pixels)
    found = _discrepancies(rows, m, [_gaussian(_two_sigma_squared(rows, sigma))])[0][estimator]
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
    check_choice("estimator", estimator, ESTIMATORS)
    rows, m = _pooled(v, w, pixels)
    found = _discrepancies(rows, m, [_minus_distance()])[0][estimator]
    return found if squared else max(found, 0.0) ** 0.5


def median_distance(v: Images, w: Images, *, squared: bool = True, pixels: str = "unit") -> float:
    """Median of the (squared) distances between all pairs of images of both sets, an image and itself aside.

    Exact but for the rounding of the squared distances to float32.
    """
    found = _median_squared(_pooled(v, w, pixels)[0])
    return found if squared else found**0.5


class Discrepancies(NamedTuple):
    """All estimates of how far two sets are apart, see `discrepancies`."""

    median: float  # of the distances of all pairs of both sets
    mmd: dict[str, float]  # MMD^2 by each estimator, of the bandwidth `median-squared`
    mmd_literal: dict[str, float]  # of the bandwidth `median`
    energy: dict[str, float]  # D^2


def discrepancies(v: Images, w: Images, *, pixels: str = "unit") -> Discrepancies:
    """What `median_distance`, `mmd` and `energy_distance` give, from three passes over the distances instead of ten.

    Args:
        v, w, pixels: as of `mmd`.
    """
    rows, m = _pooled(v, w, pixels)
    squared = _two_sigma_squared(rows, "median-squared")
    kernels = [_gaussian(squared), _gaussian(squared**0.5), _minus_distance()]
    return Discrepancies(squared**0.5, *_discrepancies(rows, m, kernels))


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
    v, w = (devices.tensor(s)[np.sort(generator.permutation(len(s))[:subsample])] for s in (v, w))
    pooled, m = _pooled(v, w, pixels)
    n = len(pooled)
    squares = torch.cat(list(_blocks(pooled, pooled))).fill_diagonal_(0)
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


@dataclass(frozen=True)
class _Rows:
    """Images of both sets as rows, whose squared distances times `unit` are those of the pixels."""

    parts: list[Tensor]  # columns: of whole numbers in float32, few enough to be exact; else all, in float64
    unit: float
    whole: bool

    def of(self, rows: slice) -> "_Rows":
        """Some of the images."""
        return _Rows([part[rows] for part in self.parts], self.unit, self.whole)

    def __len__(self) -> int:
        return len(self.parts[0])


def _pooled(v: Images, w: Images, pixels: str) -> tuple[_Rows, int]:
    """Both sets as rows, and how many are of the first.

    Bytes stay whole numbers, from -128 to 127, so that their distances are exact. Others are taken about their common
    mean: squared distances come from |a|^2 + |b|^2 - 2 ab, whose terms are then as small as they can be.
    """
    scale = PIXELS[check_choice("pixels", pixels, PIXELS)]
    sets = [devices.tensor(images).detach() for images in (v, w)]
    if sets[0].shape[1:] != sets[1].shape[1:] or sets[0].ndim < 2 or min(map(len, sets)) < 2:
        shapes = " and ".join(str(list(images.shape)) for images in sets)
        raise UserError(f"the image sets are {shapes}", expected="at least two images each, all of one shape")
    m, flat = len(sets[0]), [images.flatten(1).cpu() for images in sets]
    if all(images.dtype == torch.uint8 for images in sets):
        rows = torch.cat(flat)
        parts = [(part.to(torch.int16) - 128).float() for part in rows.split(_COLUMNS, dim=1)]
        return _Rows(parts, (scale / 255) ** 2, whole=True), m
    pooled = torch.empty(m + len(sets[1]), flat[0].shape[1], dtype=torch.float64)
    for images, rows in zip(flat, (pooled[:m], pooled[m:]), strict=True):
        rows.copy_(images) if images.is_floating_point() else rows.copy_(_unit(images))
    guards.check_pixels(pooled.min().item(), pooled.max().item())
    return _Rows([pooled.sub_(pooled.mean(0)).mul_(scale)], 1.0, whole=False), m


def _unit(images: Tensor) -> Tensor:
    """Whole numbers in [0, 1], by what their type can hold."""
    if images.dtype not in RANGES:
        raise UserError(f"images are {images.dtype}", expected="floats in [0, 1], or uint8")
    return images.double() / RANGES[images.dtype]


def _blocks(a: _Rows, b: _Rows | None = None) -> Iterator[Tensor]:
    """Squared distances from the rows of a to those of b in float64, [rows, len(b)] at a time.

    Without b: between the rows of a, every unordered pair once, in pieces of any shape. Of whole numbers they are
    exact; otherwise, those that float64 could not tell from 0 are 0.
    """
    norms_a = _squared_norms(a)
    norms_b = norms_a if b is None else _squared_norms(b)
    for start in range(0, len(a), _ROWS):
        rows = slice(start, start + _ROWS)
        others, norms = (a.of(slice(start, None)), norms_b[start:]) if b is None else (b, norms_b)
        sizes = norms_a[rows, None] + norms
        block = sizes - 2 * _products(a.of(rows), others)
        if not a.whole:
            block.masked_fill_(block <= 1e-12 * sizes, 0.0)
        block *= a.unit
        if b is not None:
            yield block
            continue
        size = len(block)
        upper = torch.triu_indices(size, size, 1)
        yield block[upper[0], upper[1]]
        yield block[:, size:]


def _products(a: _Rows, b: _Rows) -> Tensor:
    """The inner products of the rows of a with those of b in float64."""
    if a.whole:  # sums of whole numbers up to 2^24 are exact in float32, in whatever order they are added
        found = devices.product(a.parts[0], b.parts[0]).double()
        for x, y in zip(a.parts[1:], b.parts[1:], strict=True):
            found += devices.product(x, y)
        return found
    return a.parts[0] @ b.parts[0].T


def _squared_norms(rows: _Rows) -> Tensor:
    found = [torch.cat([few.double().square().sum(1) for few in part.split(_ROWS)]) for part in rows.parts]
    return torch.stack(found).sum(0)


Kernel = Callable[[Tensor], Tensor]  # of squared distances


def _discrepancies(rows: _Rows, m: int, kernels: Sequence[tuple[Kernel, float]]) -> list[dict[str, float]]:
    """E k(V, V') + E k(W, W') - 2 E k(V, W) by each estimator, for all kernels from one pass over the distances.

    Of a Gaussian it is MMD^2, of minus the distance the energy distance.

    Args:
        rows, m: of `_pooled`.
        kernels: each with its value at 0.
    """
    first, second = rows.of(slice(None, m)), rows.of(slice(m, None))
    sums = [[0.0] * 3 for _ in kernels]
    for place, pair in enumerate(((first, None), (second, None), (first, second))):
        for block in _blocks(*pair):
            for total, (kernel, _) in zip(sums, kernels, strict=True):
                total[place] += kernel(block).sum().item()
    n = len(rows) - m
    found = []
    for (v, w, between), (_, at_zero) in zip(sums, kernels, strict=True):
        cross = 2 * between / (m * n)
        unbiased = [2 * v / (m * (m - 1)), 2 * w / (n * (n - 1))]
        biased = [(2 * v + m * at_zero) / m**2, (2 * w + n * at_zero) / n**2]
        # What is left of equal sums is their rounding; and the biased estimate is a square.
        rounding = 1e-12 * (abs(cross) + sum(map(abs, biased)))
        estimates = {"unbiased": sum(unbiased) - cross, "biased": max(sum(biased) - cross, 0.0)}
        found.append({name: 0.0 if abs(value) <= rounding else value for name, value in estimates.items()})
    return found


def _gaussian(two_sigma_squared: float) -> tuple[Kernel, float]:
    return lambda squares: torch.exp(-squares / two_sigma_squared), 1.0


def _minus_distance() -> tuple[Kernel, float]:
    return lambda squares: -squares.sqrt(), 0.0


def _two_sigma_squared(rows: _Rows, sigma: str | float) -> float:
    if not isinstance(sigma, str):
        return 2 * check_number("sigma", sigma, above=0) ** 2
    check_choice("sigma", sigma, BANDWIDTHS)
    median = _median_squared(rows)
    if median == 0:
        raise UserError("more than half of the images are equal", remedy="give sigma as a number")
    return median if sigma == "median-squared" else median**0.5


def _median_squared(rows: _Rows) -> float:
    """The median of all squared distances, rounded to float32: by its leading bits, then by the others.

    The bits of numbers above 0 are in the order of the numbers, so that no distance, however large, makes the steps
    between the others coarser.
    """
    pairs = len(rows) * (len(rows) - 1) // 2
    middle = sorted({(pairs - 1) // 2, pairs // 2})  # one and the same if their number is odd

    def bits() -> Iterator[Tensor]:
        return (block.float().flatten().view(torch.int32).long() for block in _blocks(rows))

    leading = torch.zeros(1 << 16, dtype=torch.int64)
    for found in bits():
        leading += torch.bincount(found >> 15, minlength=1 << 16)
    upto = leading.cumsum(0)
    places = torch.searchsorted(upto, torch.tensor(middle), right=True).tolist()
    rest = {place: torch.zeros(1 << 15, dtype=torch.int64) for place in places}
    for found in bits():
        for place, counts in rest.items():
            counts += torch.bincount(found[found >> 15 == place] & 0x7FFF, minlength=1 << 15)
    values = []
    for rank, place in zip(middle, places, strict=True):
        below = int(upto[place] - leading[place])
        last = int(torch.searchsorted(rest[place].cumsum(0), rank - below, right=True))
        values.append(torch.tensor([place << 15 | last], dtype=torch.int32).view(torch.float32).item())
    return sum(values) / len(values)

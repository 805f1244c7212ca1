"""Shapes and textures, drawn: small labelled colour images that a small network learns in seconds.

An image is a mask in [0, 1], which alone carries the class, painted in two colours that do not: both vary over the
image, lie on clutter, and are lit, blurred and made noisy at random.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

SIZE = 16  # height and width
_TURN = 0.4  # a shape is turned by up to this, in radians, either way
_FINE = 4  # subpixels along a pixel: a mask is drawn finely and averaged, so edges are not jagged

Points = list[tuple[float, float]]
Contour = tuple[Points, int]  # drawn in turn, 1 adding and 0 taking away


def _round(radius: float = 1.0, x: float = 0.0, y: float = 0.0, start: float = 0.0, stop: float = 1.0) -> Points:
    """A circle's outline, or the arc from `start` to `stop` turns."""
    turns = np.linspace(start, stop, 33) * 2 * math.pi
    return [(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns]


def _spokes(radii: list[float]) -> Points:
    """A closed line through points at these distances from the centre, at equal angles."""
    turns = [2 * math.pi * i / len(radii) for i in range(len(radii))]
    return [(r * math.sin(t), -r * math.cos(t)) for r, t in zip(radii, turns, strict=True)]


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


_HEART = [
    (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15 - 0.1)
    for t in np.linspace(0, 2 * math.pi, 40)
]
_ZED_HALF = [(-0.8, -0.9), (0.9, -0.9), (0.9, -0.5), (-0.1, 0.5), (0.8, 0.5)]
_ZED = [*_ZED_HALF, *((-x, -y) for x, y in _ZED_HALF)]
_FLOWER = _spokes([0.7 + 0.3 * math.cos(5 * t) for t in np.linspace(0, 2 * math.pi, 60, endpoint=False)])

#: Outlines within the unit circle or little more, each drawn at a random size, angle and place.
_OUTLINES: dict[str, list[Contour]] = {
    "disc": [(_round(0.9), 1)],
    "ring": [(_round(), 1), (_round(0.55), 0)],
    "square": [(_box(-0.8, -0.8, 0.8, 0.8), 1)],
    "triangle": [(_spokes([1.1, 1.1, 1.1]), 1)],
    "star": [(_spokes([1.15, 0.45] * 5), 1)],
    "cross": [(_box(-0.3, -1, 0.3, 1), 1), (_box(-1, -0.3, 1, 0.3), 1)],
    "crescent": [(_round(), 1), (_round(0.85, 0.5), 0)],
    "heart": [(_HEART, 1)],
    "arrow": [([(-1.1, -0.22), (0.1, -0.22), (0.1, -0.75), (1.1, 0), (0.1, 0.75), (0.1, 0.22), (-1.1, 0.22)], 1)],
    "ellipse": [([(1.1 * x, 0.55 * y) for x, y in _round()], 1)],
    "bar": [(_box(-1.2, -0.25, 1.2, 0.25), 1)],
    "hourglass": [([(-0.8, -1), (0.8, -1), (0.12, 0), (0.8, 1), (-0.8, 1), (-0.12, 0)], 1)],
    "half-disc": [([(x, y + 0.4) for x, y in _round(start=0.5, stop=1.0)], 1)],
    "pie": [([(0.0, 0.0), *_round(start=0.12, stop=0.88)], 1)],
    "flower": [(_FLOWER, 1)],
    "ell": [(_box(-0.7, -1, -0.15, 1), 1), (_box(-0.7, 0.45, 0.8, 1), 1)],
    "tee": [(_box(-0.9, -0.9, 0.9, -0.4), 1), (_box(-0.27, -0.9, 0.27, 1), 1)],
    "horseshoe": [(_round(0.95), 1), (_round(0.45), 0), (_box(-0.45, 0, 0.45, 1), 0)],
    "zed": [(_ZED, 1)],
    "dumb-bell": [(_round(0.5, -0.75), 1), (_round(0.5, 0.75), 1), (_box(-0.6, -0.15, 0.6, 0.15), 1)],
    "target": [(_round(1.1), 1), (_round(0.75), 0), (_round(0.38), 1)],
    "frame": [(_box(-0.95, -0.95, 0.95, 0.95), 1), (_box(-0.5, -0.5, 0.5, 0.5), 0)],
}


def _wave(x: np.ndarray) -> np.ndarray:
    """A soft square wave of period 1, from 0 to 1."""
    return 0.5 + 0.5 * np.clip(2.5 * np.cos(2 * np.pi * x), -1, 1)


def _bricks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    course = np.floor(0.8 * y)
    across = np.abs((0.45 * x + 0.5 * (course % 2)) % 1 - 0.5)
    along = np.abs((0.8 * y) % 1 - 0.5)
    return ((across < 0.41) & (along < 0.34)).astype(np.float32)


#: Patterns that fill the image, as functions of coordinates in which the pattern's period is about 1.
_PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "stripes": lambda x, y: _wave(0.8 * x),
    "checks": lambda x, y: ((np.floor(1.2 * x) + np.floor(1.2 * y)) % 2).astype(np.float32),
    "dots": lambda x, y: (((x % 1) - 0.5) ** 2 + ((y % 1) - 0.5) ** 2 < 0.09).astype(np.float32),
    "waves": lambda x, y: _wave(0.8 * x + 0.35 * np.sin(2.6 * y)),
    "bricks": _bricks,
    "grid": lambda x, y: ((np.abs(x % 1 - 0.5) < 0.13) | (np.abs(y % 1 - 0.5) < 0.13)).astype(np.float32),
    "ripples": lambda x, y: _wave(0.85 * np.hypot(x, y)),
    "rays": lambda x, y: _wave(np.arctan2(y, x) * 7 / (2 * np.pi)),
}

CLASSES_10 = ("disc", "ring", "square", "triangle", "star", "cross", "crescent", "heart", "arrow", "stripes")
CLASSES_20 = (
    *("ellipse", "bar", "hourglass", "half-disc", "pie", "flower", "ell", "tee", "horseshoe", "zed"),
    *("dumb-bell", "target", "frame", "dots", "waves", "bricks", "grid", "ripples", "rays", "checks"),
)
#: The part of the twenty that is held back, as 20 of CIFAR-100's classes are: three outlines and a pattern.
CLASSES_4 = ("flower", "horseshoe", "frame", "waves")


def draw(classes: tuple[str, ...], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of every class, as many of each as can be, in random order.

    Args:
        classes: names of outlines and patterns.
        count: images in all.
        seed: equal seeds give equal bytes.

    Returns:
        uint8 images [count, SIZE, SIZE, 3] and int64 labels [count].
    """
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.permutation(count) % len(classes))
    masks = np.concatenate([_masks(name, int((labels == i).sum()), rng) for i, name in enumerate(classes)])
    order = rng.permutation(count)
    return _paint(masks, rng)[order], labels[order]


def _masks(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Masks [count, SIZE, SIZE] of one class in [0, 1]."""
    side = SIZE * _FINE
    turn = rng.uniform(-_TURN, _TURN, count)
    if name in _OUTLINES:
        scale = rng.uniform(0.5, 0.8, count) * side / 2
        centre = side / 2 + rng.uniform(-0.2, 0.2, (2, count)) * (side / 2)
        stretch = rng.uniform(0.85, 1 / 0.85, count)
        rotate = np.stack([np.cos(turn), np.sin(turn)])
        fine = np.stack(
            [_outline(_OUTLINES[name], scale[i], centre[:, i], rotate[:, i], stretch[i], side) for i in range(count)]
        )
    else:
        period = rng.uniform(0.28, 0.42, count) * side
        shift = rng.uniform(-0.5, 0.5, (2, count)) * (period if name not in ("ripples", "rays") else 0.5 * side)
        places = np.arange(side) - side / 2
        across = (places - shift[0, :, None]) / period[:, None]
        along = (places - shift[1, :, None]) / period[:, None]
        cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
        # Sums of a row and a column, so that only the pattern itself is computed for every subpixel.
        x = (across * cos).astype(np.float32)[:, None, :] + (along * sin).astype(np.float32)[:, :, None]
        y = (along * cos).astype(np.float32)[:, :, None] - (across * sin).astype(np.float32)[:, None, :]
        fine = _PATTERNS[name](x, y)
    return fine.reshape(count, SIZE, _FINE, SIZE, _FINE).mean((2, 4), dtype=np.float32)


def _outline(
    contours: list[Contour], scale: float, centre: np.ndarray, rotate: np.ndarray, stretch: float, side: int
) -> np.ndarray:
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    cos, sin = rotate
    for points, fill in contours:
        x, y = np.array(points).T * np.array([[stretch], [1 / stretch]]) * scale
        placed = np.stack([centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y], axis=1)
        pen.polygon(placed.ravel().tolist(), fill=fill)
    return np.asarray(canvas)


def _paint(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 images [N, SIZE, SIZE, 3] of masks [N, SIZE, SIZE]."""
    count = len(masks)
    back, front = _colours(count, rng)
    back = back[:, None, None] + _smooth(count, 0.16, rng) + _spots(count, rng)
    front = front[:, None, None] + _smooth(count, 0.12, rng)
    images = back + masks[..., None] * (front - back)
    images *= 1 + _ramps(count, 0.35, rng)
    blur = rng.uniform(0, 0.5, (count, 1, 1, 1)).astype(np.float32)
    images += blur * (_blurred(images) - images)
    noise = rng.uniform(0, 0.04, (count, 1, 1, 1)).astype(np.float32)
    images += noise * rng.standard_normal(images.shape, dtype=np.float32)
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _colours(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A dark colour and a lighter one, [count, 3] each."""
    hues = 0.18 * rng.standard_normal((2, count, 3))
    back = rng.uniform(0.15, 0.45, (count, 1))
    front = back + rng.uniform(0.25, 0.5, (count, 1))
    return (back + hues[0]).clip(0, 1).astype(np.float32), (front + hues[1]).clip(0, 1).astype(np.float32)


def _smooth(count: int, most: float, rng: np.random.Generator) -> np.ndarray:
    """Coloured clouds [count, SIZE, SIZE, 3] of an amplitude up to `most`: noise of 5 x 5 stretched over the image."""
    places = np.linspace(0, 4, SIZE)
    weights = np.clip(1 - np.abs(places[:, None] - np.arange(5)), 0, 1).astype(np.float32)
    coarse = rng.standard_normal((count, 5, 5, 3), dtype=np.float32) * rng.uniform(0, most, (count, 1, 1, 1))
    return np.einsum("ya,xb,nabc->nyxc", weights, weights, coarse.astype(np.float32), optimize=True)


def _spots(count: int, rng: np.random.Generator) -> np.ndarray:
    """Three coloured spots behind the shape, each of its own place, size and strength."""
    grid = np.arange(SIZE, dtype=np.float32)
    total = np.zeros((count, SIZE, SIZE, 3), np.float32)
    for _ in range(3):
        x, y = rng.uniform(0, SIZE, (2, count, 1)).astype(np.float32)
        width = rng.uniform(0.06, 0.15, (count, 1)).astype(np.float32) * SIZE
        colour = rng.uniform(-0.3, 0.3, (count, 3)).astype(np.float32)
        rows, columns = np.exp(-(((grid - y) / width) ** 2) / 2), np.exp(-(((grid - x) / width) ** 2) / 2)
        total += np.einsum("ny,nx,nc->nyxc", rows, columns, colour, optimize=True)
    return total


def _ramps(count: int, most: float, rng: np.random.Generator) -> np.ndarray:
    """Light that falls off in a random direction: [count, SIZE, SIZE, 1] from -most to most."""
    turn = rng.uniform(0, 2 * math.pi, (count, 1, 1))
    strength = rng.uniform(0, most, (count, 1, 1))
    grid = np.linspace(-1, 1, SIZE)
    ramp = strength * (np.cos(turn) * grid[None, None] + np.sin(turn) * grid[None, :, None]) / math.sqrt(2)
    return ramp[..., None].astype(np.float32)


def _blurred(images: np.ndarray) -> np.ndarray:
    """Each pixel averaged with its neighbours, by weights 1, 2, 1 along both axes."""
    for axis in (1, 2):
        last = images.shape[axis] - 1
        before = images.take(np.maximum(np.arange(last + 1) - 1, 0), axis)
        after = images.take(np.minimum(np.arange(last + 1) + 1, last), axis)
        images = 0.25 * (before + after) + 0.5 * images
    return images

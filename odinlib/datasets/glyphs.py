"""Letters and pen strokes, made as scikit-learn's digits were: 32 x 32 bits, counted in blocks of 4 x 4."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 8  # height and width, as the digits have
_BITS = 32
_MOST = 16  # dots in a block: the digits' brightest pixel

LETTERS = "ABCDEFGHIJ"
#: The fonts that Matplotlib carries and that have plain capitals.
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif"),
    *("DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    *("cmr10", "cmb10", "cmmi10", "cmss10", "cmtt10"),
)


def counted(bits: np.ndarray) -> np.ndarray:
    """Bits [N, 32, 32] to grey images [N, 8, 8, 1] in uint8, of which only 17 levels occur."""
    block = _BITS // SIZE
    dots = bits.reshape(-1, SIZE, block, SIZE, block).sum((2, 4), dtype=np.int64)
    return brightness(dots)[..., None]


def brightness(dots: np.ndarray) -> np.ndarray:
    """Counts of dots, from 0 to 16, as uint8 from 0 to 255."""
    return np.rint(dots * (255 / _MOST)).astype(np.uint8)


def letters(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Capitals A to J in many fonts, stretched to a box like the digits', a little turned and shifted.

    Returns:
        uint8 images [count, 8, 8, 1] and int64 labels [count].
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(count) % len(LETTERS)
    fonts = rng.integers(len(FONTS), size=count)
    bits = np.stack([_letter(LETTERS[i], FONTS[j], rng) for i, j in zip(labels, fonts, strict=True)])
    return counted(bits), labels


def strokes(count: int, seed: int) -> np.ndarray:
    """Signs of two or three smooth pen strokes: uint8 [count, 8, 8, 1]."""
    rng = np.random.default_rng(seed)
    return counted(np.stack([_strokes(rng) for _ in range(count)]))


def _letter(letter: str, font: str, rng: np.random.Generator) -> np.ndarray:
    drawn = Image.new("L", (96, 96))
    ImageDraw.Draw(drawn).text((48, 48), letter, fill=255, font=_font(font), anchor="mm")
    drawn = drawn.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR)
    left, top, right, bottom = box = drawn.getbbox() or (0, 0, 96, 96)
    width = min(30, round(30 * (right - left) / (bottom - top) * rng.uniform(0.85, 1.1)))
    drawn = drawn.resize((max(width, 4), int(rng.integers(28, 33))), Image.Resampling.BOX, box)
    bits = Image.new("L", (_BITS, _BITS))
    bits.paste(drawn, ((_BITS - drawn.width) // 2 + int(rng.integers(-1, 2)), (_BITS - drawn.height) // 2))
    return np.asarray(bits) > 127


def _strokes(rng: np.random.Generator) -> np.ndarray:
    drawn = Image.new("L", (_BITS, _BITS))
    pen = ImageDraw.Draw(drawn)
    at = np.linspace(0, 1, 24)[:, None]
    for _ in range(int(rng.integers(2, 4))):
        a, b, c, d = rng.uniform(2, 30, (4, 2))
        curve = (1 - at) ** 3 * a + 3 * at * (1 - at) ** 2 * b + 3 * at**2 * (1 - at) * c + at**3 * d
        pen.line(curve.ravel().tolist(), fill=255, width=3, joint="curve")
    return np.asarray(drawn) > 127


@functools.lru_cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", 60)

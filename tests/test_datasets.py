"""Image sets: what each one holds, that it is the same every time, and resampling against its references."""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from odinlib import datasets
from odinlib.datasets import ImageSet, embedded, glyphs, noise, photos, resample, shapes
from odinlib.errors import UserError

COLOUR = (shapes.SIZE, shapes.SIZE, 3)
GREY = (glyphs.SIZE, glyphs.SIZE, 1)
SETS = [(name, "test") for name in embedded.TITLES] + [(name, "train") for name in embedded.TRAINED]


def digest(images):
    return hashlib.sha256(np.ascontiguousarray(images)).hexdigest()


# --- Every set by its name --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "split"), SETS)
def test_embedded_sets_have_the_right_shape_and_enough_images(name, split):
    found = datasets.load(name, split)
    grey = name in ("digits", "letters", "strokes", "shapes10-bw")
    assert found.shape == (GREY if grey else COLOUR)
    assert found.images.dtype == np.uint8
    assert len(found) >= (600 if split == "test" else 800)
    assert found.title == datasets.title(name) != name
    assert found.provenance["source"]
    # No image is blank or twice there, but for patches of even colour.
    distinct = len(np.unique(found.images.reshape(len(found), -1), axis=0))
    assert distinct > 0.9 * len(found)
    assert found.images.min() < 30 and found.images.max() > 225


@pytest.mark.parametrize("name", ["shapes10", "photos-crop", "mixed-resize", "digits", "letters", "strokes"])
def test_embedded_sets_are_the_same_every_time(name):
    made = embedded._load.__wrapped__(name, "test"), embedded._load.__wrapped__(name, "test")
    assert digest(made[0].images) == digest(made[1].images)
    assert made[0].images is not made[1].images


@pytest.mark.parametrize(("name", "split"), [s for s in SETS if s[0] in embedded.TRAINED])
def test_classes_are_balanced(name, split):
    found = datasets.load(name, split)
    counts = np.bincount(found.labels, minlength=len(found.classes))
    assert len(counts) == len(found.classes) == len(set(found.classes))
    if name == "digits":
        assert len(found) == {"train": 1197, "test": 600}[split]
        assert counts.min() >= 60 and (split == "train" or counts.max() == 60)
    else:
        assert counts.min() == counts.max()


@pytest.mark.parametrize("name", embedded.TRAINED)
def test_no_training_image_is_a_test_image(name):
    train, test = (datasets.load(name, split).images for split in ("train", "test"))
    seen = {image.tobytes() for image in train}
    assert not any(image.tobytes() in seen for image in test)


def test_digits_are_scikit_learns_own():
    from sklearn.datasets import load_digits

    def pairs(images, labels):
        return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))

    train, test = (datasets.load("digits", split) for split in ("train", "test"))
    original = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    mine = pairs(train.images, train.labels) + pairs(test.images, test.labels)
    assert sorted(mine) == pairs(original, load_digits().target)


def test_the_three_shape_sets_share_no_class_and_shapes20_is_split_in_two():
    names = ("shapes10", "shapes20", "shapes16", "shapes4")
    ten, twenty, sixteen, four = (set(datasets.load(name).classes) for name in names)
    assert not ten & twenty
    assert sixteen | four == twenty and not sixteen & four
    assert (len(ten), len(twenty), len(sixteen), len(four)) == (10, 20, 16, 4)


@pytest.mark.parametrize("split", datasets.SPLITS)
def test_a_part_of_shapes20_holds_its_classes_images_and_no_others(split):
    whole = datasets.load("shapes20", split)
    for name in ("shapes16", "shapes4"):
        part = datasets.load(name, split)
        for number, label in enumerate(part.classes):
            theirs = whole.images[whole.labels == whole.classes.index(label)]
            assert digest(part.images[part.labels == number]) == digest(theirs)


@pytest.mark.parametrize("name", shapes.CLASSES_10 + shapes.CLASSES_20)
def test_a_mask_shows_something_and_leaves_something(name):
    masks = shapes._masks(name, 40, np.random.default_rng(0))
    assert masks.min() >= 0 and masks.max() <= 1
    covered = masks.mean((1, 2))
    assert covered.min() > 0.04 and covered.max() < 0.8
    assert len(np.unique(masks.reshape(40, -1), axis=0)) == 40


def test_no_picture_is_in_two_sources():
    pictures = [path for source in photos.SOURCES.values() for path in source]
    assert len(pictures) == len(set(pictures))


def test_counted_bits_keep_the_number_of_dots():
    bits = np.random.default_rng(0).random((3, 32, 32)) < 0.3
    levels = glyphs.counted(bits)
    assert np.rint(levels / (255 / 16)).sum((1, 2, 3)).tolist() == bits.sum((1, 2)).tolist()


def test_a_resized_set_has_the_same_pictures_by_every_filter():
    made = {f: datasets.load(f"photos-resize-{f}") for f in resample.FILTERS}
    assert digest(made["nearest"].images) == digest(datasets.load("photos-resize").images)
    assert len({digest(found.images) for found in made.values()}) == len(made)
    smooth = made["box"].images.astype(float)
    for filter, found in made.items():
        assert (found.name, found.title) == (f"photos-resize-{filter}", f"Photographs (resize), {filter} filter")
        assert found.provenance["filter"] == filter
        difference = np.abs(found.images - smooth).mean((1, 2, 3))
        assert np.quantile(difference, 0.95) < 40 < np.abs(smooth[::-1] - smooth).mean()


def test_variants_are_known_by_name_and_only_of_what_is_resized():
    assert datasets.variant("textures-resize") == ("textures-resize", "nearest")
    assert datasets.variant("textures-resize-lanczos") == ("textures-resize", "lanczos")
    assert datasets.variant("lsun-resize-box") == ("lsun-resize", "box")
    assert datasets.variant("photos-crop") == ("photos-crop", None) and datasets.variant("uniform")[1] is None
    for name in ("photos-crop-box", "shapes10-box", "photos-resize-sinc"):
        with pytest.raises(UserError, match=f"data set is '{name}'"):
            datasets.variant(name)
    with pytest.raises(UserError, match="no training split"):
        datasets.load("photos-resize-box", "train")


def test_load_takes_the_first_of_a_seeded_permutation():
    whole = datasets.load("shapes4")
    some, more = (datasets.load("shapes4", count=count, seed=3) for count in (50, 80))
    assert len(some) == 50
    assert np.array_equal(some.images, more.images[:50]) and np.array_equal(some.labels, more.labels[:50])
    assert not np.array_equal(some.images, datasets.load("shapes4", count=50, seed=4).images)
    known = {image.tobytes(): label for image, label in zip(whole.images, whole.labels, strict=True)}
    assert all(known[image.tobytes()] == label for image, label in zip(some.images, some.labels, strict=True))
    assert len(datasets.load("shapes4", count=600)) == 600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "shapse10"}, "did you mean 'shapes10'"),
        ({"name": "cifar-10"}, "did you mean 'cifar10'"),
        ({"name": "shapes10", "split": "tets"}, "did you mean 'test'"),
        ({"name": "shapes10", "count": 0}, "count is 0"),
        ({"name": "shapes10", "count": 2.5}, "count is 2.5"),
        ({"name": "digits", "count": 601}, "at most 600"),
        ({"name": "photos-crop", "split": "train"}, "no training split"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, words):
    with pytest.raises(UserError, match=words) as caught:
        datasets.load(**arguments)
    assert "\n" not in str(caught.value)


def test_every_name_has_a_title():
    names = datasets.names()
    assert len(names) == len(set(names))
    assert {"shapes10", "digits", "cifar10", "gaussian"} <= set(names)
    assert all(datasets.title(name) for name in names)
    with pytest.raises(UserError, match="did you mean 'letters'"):
        datasets.title("leters")


# --- Image sets -------------------------------------------------------------------------------------------------------


def test_tensor_is_what_networks_take():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    found = ImageSet("some", "Some", images)
    whole = found.tensor()
    assert whole.shape == (5, 3, 4, 6) and whole.dtype == torch.float32
    assert whole[2, 1, 3, 5].item() == pytest.approx(images[2, 3, 5, 1] / 255)
    assert torch.equal(found.tensor([3, 1]), whole[[3, 1]])
    assert found.shape == (4, 6, 3) and len(found) == 5
    images = images.astype(np.float32) / 255
    assert torch.equal(ImageSet("some", "Some", images).tensor(), torch.tensor(images).permute(0, 3, 1, 2))


def test_take_keeps_images_and_labels_together():
    labels = np.arange(5)
    images = np.zeros((5, 2, 2, 1), np.uint8) + labels.astype(np.uint8)[:, None, None, None]
    part = ImageSet("some", "Some", images, labels, tuple("abcde")).take([4, 0])
    assert part.images[:, 0, 0, 0].tolist() == part.labels.tolist() == [4, 0]
    assert part.name == "some" and part.classes == tuple("abcde")


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((2, 4, 4), np.uint8), None, "shape"),
        (np.zeros((2, 3, 4, 4), np.uint8), None, "shape"),
        (np.zeros((2, 4, 4, 3), np.float64), None, "float64"),
        (np.full((2, 4, 4, 3), 2, np.float32), None, r"outside \[0, 1\]"),
        (np.full((2, 4, 4, 3), np.nan, np.float32), None, r"outside \[0, 1\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.int64), "labels of shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int32), "int32"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 2]), "labels from 0 to 2"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.array([0, -1]), "labels from -1 to 0"),
    ],
)
def test_what_is_no_image_set_is_refused(images, labels, words):
    with pytest.raises(UserError, match=words):
        ImageSet("some", "Some", images, labels, ("a", "b"))


# --- Noise ------------------------------------------------------------------------------------------------------------


def test_noise_has_the_papers_distributions():
    uniform = datasets.load("uniform", count=200, shape=(16, 16, 3)).images.ravel()
    gaussian = datasets.load("gaussian", count=200, shape=(16, 16, 3)).images.ravel()
    assert uniform.dtype == gaussian.dtype == np.float32
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    tail = stats.norm.cdf(-0.5)  # of a normal of mean 0.5 and unit variance, below 0 as much as above 1
    assert (gaussian == 0).mean() == pytest.approx(tail, abs=0.005)
    assert (gaussian == 1).mean() == pytest.approx(tail, abs=0.005)
    inside = gaussian[(gaussian > 0) & (gaussian < 1)] - 0.5
    assert stats.kstest(inside, stats.truncnorm(-0.5, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", datasets.NOISE)
def test_noise_depends_on_its_seed_and_nothing_else(name):
    first = datasets.load(name, count=20, seed=1, shape=(8, 8, 1))
    assert first.shape == (8, 8, 1)
    assert np.array_equal(first.images, datasets.load(name, count=20, seed=1, shape=(8, 8, 1)).images)
    assert np.array_equal(first.images, datasets.load(name, count=50, seed=1, shape=(8, 8, 1)).images[:20])
    assert not np.array_equal(first.images, datasets.load(name, count=20, seed=2, shape=(8, 8, 1)).images)


def test_noise_is_as_much_as_the_papers_where_nothing_else_is_said():
    assert datasets.load("uniform").images.shape == (noise.COUNT, *noise.SHAPE) == (10_000, 32, 32, 3)


def test_the_two_noise_sets_are_independent():
    first, second = (datasets.load(name, count=100, shape=(8, 8, 3)).images.ravel() for name in datasets.NOISE)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


# --- Resampling -------------------------------------------------------------------------------------------------------

IMAGE = np.random.default_rng(0).integers(0, 256, (47, 61, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("filter", "pillow"),
    [
        ("nearest", Image.Resampling.NEAREST),
        ("bilinear-antialias", Image.Resampling.BILINEAR),
        ("bicubic-antialias", Image.Resampling.BICUBIC),
        ("box", Image.Resampling.BOX),
        ("lanczos", Image.Resampling.LANCZOS),
    ],
)
@pytest.mark.parametrize("size", [(16, 16), (13, 29), (80, 70)])
def test_filters_are_pillows(filter, pillow, size):
    expected = np.asarray(Image.fromarray(IMAGE).resize(size[::-1], pillow))
    assert np.array_equal(resample.resize(IMAGE, size, filter), expected)
    assert np.array_equal(resample.resize(Image.fromarray(IMAGE), size, filter), expected)


@pytest.mark.parametrize(("filter", "aligned"), [("bilinear", False), ("bilinear-aligned", True)])
def test_filters_are_torchs(filter, aligned):
    given_ = torch.tensor(IMAGE).permute(2, 0, 1)[None].double()
    exact = F.interpolate(given_, size=(20, 24), mode="bilinear", align_corners=aligned)[0].permute(1, 2, 0).numpy()
    found = resample.resize(IMAGE, (20, 24), filter)
    assert found.dtype == np.uint8 and np.abs(found - exact).max() < 0.501
    corners = np.ix_([0, -1], [0, -1])
    assert np.array_equal(found[corners], IMAGE[corners]) == aligned


@pytest.mark.parametrize("filter", resample.FILTERS)
def test_every_filter_takes_grey_colour_and_many(filter):
    one = resample.resize(IMAGE, 16, filter)
    assert one.shape == (16, 16, 3) and one.dtype == np.uint8
    assert np.array_equal(resample.resize(IMAGE[..., 0], 16, filter), one[..., 0])
    assert np.array_equal(resample.resize(IMAGE[..., :1], 16, filter), one[..., :1])
    assert np.array_equal(resample.resize(np.stack([IMAGE, IMAGE[::-1]]), 16, filter)[0], one)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(resample.FILTERS), st.integers(0, 255), st.integers(1, 40), st.integers(1, 40))
def test_an_even_image_stays_even(filter, value, height, width):
    image = np.full((19, 23, 3), value, np.uint8)
    assert (resample.resize(image, (height, width), filter) == value).all()


@pytest.mark.parametrize("filter", resample.FILTERS)
def test_only_antialiased_filters_average_fine_stripes(filter):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::4] = 255  # a quarter of the columns
    spread = int(np.ptp(resample.resize(stripes, (64, 10), filter)[:, 1:-1]))
    assert spread > 100 if filter in ("nearest", "bilinear", "bilinear-aligned") else spread < 60


@pytest.mark.parametrize("factor", [2, 4])
def test_frequency_responses_are_those_of_the_kernels(factor):
    cycles = np.linspace(0, factor / 2, 21)  # per new pixel
    waves = np.exp(2j * np.pi * cycles[:, None] * np.arange(factor) / factor)
    expected = {
        "nearest": np.ones(21),
        "box": np.abs(waves.mean(1)),
        "bilinear": np.abs(np.cos(np.pi * cycles / factor)),
    }
    for filter, shares in expected.items():
        np.testing.assert_allclose(resample.frequency_response(filter, factor, cycles), shares, atol=0.01)


@pytest.mark.parametrize("filter", resample.FILTERS)
def test_a_response_says_what_is_left_of_a_wave(filter):
    """Waves of many phases are drawn, resized and measured."""
    factor, cycles = 4, 0.75
    phases = 2 * np.pi * np.arange(16)[:, None] / 16
    waves = np.cos(2 * np.pi * cycles * np.arange(4 * 32) / factor + phases)
    images = np.rint(127.5 + 90 * waves).astype(np.uint8)[:, None, :, None]
    made = resample.resize(images, (1, 32), filter)[:, 0, 8:24, 0] - 127.5
    left = np.sqrt((made**2).mean() / ((90 * waves) ** 2).mean())
    assert resample.frequency_response(filter, factor, np.array([cycles]))[0] == pytest.approx(left, abs=0.02)


def test_only_antialiased_filters_keep_out_what_cannot_be_shown():
    shares = {filter: resample.aliased_share(filter, 8) for filter in resample.FILTERS}
    assert shares["nearest"] == pytest.approx(7 / 8, abs=0.005)
    others = [share for filter, share in shares.items() if filter not in resample.ANTIALIASED]
    assert max(shares[filter] for filter in resample.ANTIALIASED) < 0.3 < 0.7 < min(others)


def test_random_crops_are_patches_from_everywhere():
    image = np.arange(12 * 9, dtype=np.uint8).reshape(12, 9)
    rng = np.random.default_rng(0)
    crops = [resample.random_crop(image, 8, rng) for _ in range(300)]
    corners = {int(crop[0, 0]) for crop in crops}
    assert corners == {9 * top + left for top in range(5) for left in range(2)}
    assert all(np.array_equal(crop, crop[0, 0] + image[:8, :8] - image[0, 0]) for crop in crops)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: resample.resize(IMAGE, 16, "bilinaer"), "did you mean 'bilinear'"),
        (lambda: resample.resize(IMAGE, 0, "box"), "size is 0"),
        (lambda: resample.frequency_response("box", 0, np.zeros(1)), "factor is 0"),
        (lambda: resample.frequency_response("box", 2.5, np.zeros(1)), "factor is 2.5"),
        (lambda: resample.resize(IMAGE / 255, 16, "box"), "float64"),
        (lambda: resample.random_crop(IMAGE, 50, np.random.default_rng()), "47 x 61"),
    ],
)
def test_resampling_mistakes_are_told(call, words):
    with pytest.raises(UserError, match=words):
        call()

"""A draw names its images for ever: held out and tested are disjoint, complete, and told by the header alone."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odinlib import splits
from odinlib.errors import UserError
from odinlib.splits import Draw

NAMES = st.sampled_from(["isun", "notmnist", "digits"])


@pytest.mark.parametrize("split", splits.SPLITS)
@pytest.mark.parametrize("limit", [None, 40])
def test_a_draw_names_every_image_once(split, limit):
    order = splits.draw(split, "digits", 3, limit).order(100)
    assert len(order) == len(set(order)) == (limit or 100)
    assert set(order) <= set(range(100))


def test_first_is_the_order_of_the_set_and_random_goes_by_seed_and_name():
    assert splits.draw("first", "digits", 0).order(5).tolist() == [0, 1, 2, 3, 4]
    drawn = {
        key: tuple(splits.draw("random", name, seed).order(100)[:30])
        for key, seed, name in (
            ("a", 0, "digits"),
            ("again", 0, "digits"),
            ("seed", 1, "digits"),
            ("set", 0, "letters"),
        )
    }
    assert drawn["a"] == drawn["again"] != drawn["seed"] != drawn["set"] != drawn["a"]


def test_a_random_draw_is_the_permutation_that_it_always_was():
    """What is recorded was drawn by it."""
    by_hand = np.random.default_rng([0, zlib.crc32(b"tinyimagenet-crop")]).permutation(10_000)
    assert np.array_equal(splits.draw("random", "tinyimagenet-crop", 0).order(10_000), by_hand)


def test_a_limit_takes_the_first_of_a_permutation_by_the_seed():
    used = np.random.default_rng(7).permutation(100)[:40]
    assert np.array_equal(splits.draw("first", "digits", 7, 40).order(100), used)
    again = used[np.random.default_rng([7, zlib.crc32(b"digits")]).permutation(40)]
    assert np.array_equal(splits.draw("random", "digits", 7, 40).order(100), again)
    assert np.array_equal(np.sort(splits.draw("random", "digits", 7, 40).without_permutation().order(100)), range(40))
    assert len(splits.draw("random", "digits", 7, 40).without_limit().order(100)) == 100


@pytest.mark.parametrize("name", ["cifar10", "cifar20", "tinyimagenet-crop-inner", "lsun-resize", "isun-box"])
def test_the_authors_code_takes_the_first_of_its_own_sets(name):
    assert splits.draw("authors", name, 0) == Draw("first")


@pytest.mark.parametrize("name", ["notmnist", "omniglot", "gaussian", "mnist", "photos-crop"])
def test_whose_first_thousand_are_one_letter_are_drawn_at_random(name):
    assert splits.draw("authors", name, 5) == splits.draw("random", name, 5) == Draw("random", 5, name)


@given(st.sampled_from(splits.SPLITS), NAMES, st.integers(0, 9), st.none() | st.integers(1, 50))
def test_a_header_tells_the_draw(split, name, seed, limit):
    drawn = splits.draw(split, name, seed, limit)
    header = json.loads(json.dumps({**drawn.as_header(), "start": 3, "stop": 9, "of": 50}))
    assert Draw.from_header(header) == drawn
    assert np.array_equal(Draw.from_header(header).order(50), drawn.order(50))


def test_mistakes_are_told_in_one_line():
    with pytest.raises(UserError, match="split is 'last'; expected one of random, first, authors"):
        splits.draw("last", "digits", 0)
    with pytest.raises(UserError, match="101 images were asked for; expected at most 100"):
        splits.draw("random", "digits", 0, 101).order(100)


# --- A user's own images in two parts ---------------------------------------------------------------------------------

FOLDERS = {
    "two": [f"{kind}/{i}.png" for kind in ("bright", "dark") for i in range(100)],
    "none": [f"{i:03d}.png" for i in range(101)],
    "one image each": [f"{i}/a.png" for i in range(60)],
    "unequal": [f"a/{i}" for i in range(90)] + [f"b/{i}" for i in range(7)] + ["c/deep/er/0", "c/deep/er/1", "top"],
    "odd names": [f"ü ö/{i} '.png" for i in range(9)] + ["bad\udcff/1.png", "bad\udcff/2.png"],
}


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("share", [0.5, 0.25, 0.9])
def test_each_subfolder_is_in_both_parts_by_its_share(kind, share):
    names = FOLDERS[kind]
    first, second = splits.halves(names, seed=3, share=share)
    assert sorted([*first, *second]) == list(range(len(names)))
    assert len(first) == int(len(names) * share + 0.5)
    for folder in {name.rpartition("/")[0] for name in names}:
        own = [i for i, name in enumerate(names) if name.rpartition("/")[0] == folder]
        assert abs(len(set(own) & set(first)) - share * len(own)) <= 1


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_order_of_names_does_not_matter_and_the_seed_does(kind):
    names = FOLDERS[kind]
    chosen = {names[i] for i in splits.halves(names)[0]}
    for order in (names[::-1], sorted(names), list(np.random.default_rng(0).permutation(np.array(names, object)))):
        assert {order[i] for i in splits.halves(order)[0]} == chosen
    assert any({names[i] for i in splits.halves(names, seed)[0]} != chosen for seed in range(1, 4))


def test_within_a_folder_it_is_at_random():
    taken = splits.halves(FOLDERS["none"])[0]
    assert 15 < (taken < 50).sum() < 36 and set(np.diff(taken)) != {2}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: splits.halves(["a", "b", "a"]), "'a' comes twice"),
        (lambda: splits.halves(["a"]), "1 images cannot be split"),
        (lambda: splits.halves([]), "0 images cannot be split"),
        (lambda: splits.halves(["a", "b", "c"], share=0.05), "cannot be split"),
        (lambda: splits.halves(["a", "b"], share=1.0), "share is 1.0"),
        (lambda: splits.halves(["a", "b"], share=50), "share is 50"),
    ],
)
def test_what_cannot_be_split_is_told(call, words):
    with pytest.raises(UserError, match=words):
        call()

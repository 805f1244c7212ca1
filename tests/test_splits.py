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

"""The paper's number beside ours, with a verdict whose rule is stated once."""

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import DENSENET, papers, rows

from odinlib import compare, profiles, reference, tables, trained

PAPER, DEMO = profiles.get("paper"), profiles.get("demo")


# --- The verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "low", "high", "paper", "told"),
    [
        (34.0, 33.5, 34.5, "34.5", "reproduced"),
        (34.0, 33.5, 34.5, "34.55", "near"),  # half a unit of the last of two digits is 0.005
        (34.0, 33.5, 34.5, "34.505", "near"),
        (34.0, 33.25, 34.5, "33.2", "reproduced"),  # 33.2 may have been 33.25
        (34.0, 33.26, 34.5, "33.2", "near"),
        (34.0, 33.5, 34.0, "34", "reproduced"),
        (34.0, 33.0, 33.5, "34", "reproduced"),  # a whole number may be half a point off
        (30.0, 29.9, 30.1, "32.0", "near"),
        (30.0, 29.9, 30.1, "28.0", "near"),
        (30.0, 29.9, 30.1, "32.1", "differs"),
        (30.0, 29.9, 30.1, "27.9", "differs"),
        (30.0, 20.0, 40.0, "39.9", "reproduced"),  # a wide interval is no evidence against the paper
    ],
)
def test_the_verdict_at_its_boundaries(ours, low, high, paper, told):
    assert compare.verdict(ours, low, high, paper) == told


@given(st.floats(0, 100), st.floats(0, 3), st.integers(0, 1000))
def test_verdicts_follow_the_distance(ours, width, tenths):
    paper = f"{tenths / 10:.1f}"
    told = compare.verdict(ours, ours - width, ours + width, paper)
    distance = abs(ours - float(paper))
    if distance <= width:
        assert told == "reproduced"
    if distance > max(width + 0.06, compare.NEAR["fpr"]):
        assert told == "differs"
    if told == "near":
        assert width <= distance <= compare.NEAR["fpr"]


def test_trainings_widen_the_interval_by_what_one_more_may_lie_off():
    number, low, high = compare.whole_interval(10.0, 9.0, 12.0, trainings=4, mean=11.0, spread=2.0)
    draws = np.random.default_rng(0).normal(size=(200_000, 5))  # four trainings, and the fifth that is predicted
    half = (high - number) ** 2 - 2.0**2
    off = np.abs(draws[:, 4] - draws[:, :4].mean(1)) / draws[:, :4].std(1, ddof=1) * 2.0
    assert number == 11.0 and (number - low) ** 2 - 1.0 == pytest.approx(half)
    assert (off < math.sqrt(half)).mean() == pytest.approx(0.95, abs=0.003)


def test_a_verdict_takes_several_trainings_into_account():
    key = (DENSENET, "cifar10", "tinyimagenet-crop")
    once = rows(*key, {("baseline", "fpr"): 38.0})
    several = once.assign(trainings=10, mean=37.0, spread=1.5)
    assert compare.comparison(PAPER, once).verdict.item() == "differs"
    found = compare.comparison(PAPER, several)
    assert found.verdict.item() == "within spread" and found.difference.item() == pytest.approx(37.0 - 34.7)
    shown = tables.comparison_table(PAPER, found).to_html()
    assert (
        "37.0 ± 1.5 (10)" in shown
        and "Over trainings" not in tables.comparison_table(PAPER, compare.comparison(PAPER, once)).to_html()
    )
    both = rows(*key, papers(*key)).assign(trainings=10, spread=1.5)
    shown = re.sub("<[^>]+>", " ", tables.detection_table(PAPER, compare.comparison(PAPER, both)).to_html())
    assert "34.7 ± 1.5 / 4.3 ± 1.5 over 10 trainings" in " ".join(shown.split())


# --- The comparison ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "told"), [(0, "reproduced"), (0.45, "near"), (-0.45, "near"), (2.5, "differs")])
def test_the_papers_own_numbers_are_compared_with_themselves(shift, told):
    key = (DENSENET, "cifar10", "tinyimagenet-crop")
    measured = rows(*key, {method: value + shift for method, value in papers(*key).items()}, width=0.2)
    compared = compare.comparison(PAPER, measured)
    assert set(compared.verdict) == {told}
    assert compared.difference.tolist() == pytest.approx([shift] * 10)
    assert compared.paper.tolist()[:2] == ["34.7", "4.3"]


@pytest.mark.parametrize(
    ("metric", "near"), [("fpr", 2.0), ("detection_error", 1.0), ("auroc", 0.5), ("aupr_out", 0.5)]
)
def test_what_is_near_depends_on_the_measure(metric, near):
    for shift, told in ((near - 0.1, "near"), (near + 0.1, "differs")):
        assert compare.verdict(50.0 + shift, 50.0 + shift, 50.0 + shift, "50.0", metric) == told


def test_weights_by_another_recipe_never_simply_differ():
    key = (DENSENET, "cifar10", "tinyimagenet-crop")
    shifted = rows(*key, {method: value + 20 for method, value in papers(*key).items()})
    others = dataclasses.replace(PAPER, trainings={f"{DENSENET}_cifar10": "third-party"})
    assert set(compare.comparison(PAPER, shifted).verdict) == {"differs"}
    assert set(compare.comparison(others, shifted).verdict) == {"other weights"}
    same = compare.comparison(others, rows(*key, papers(*key)))
    assert set(same.verdict) == {"reproduced"}


def test_causes_are_told_from_the_cards(monkeypatch):
    cards = {"accuracy": 0.9519}
    monkeypatch.setattr(trained, "card", lambda of: cards)
    key = (DENSENET, "cifar10", "tinyimagenet-crop")
    shifted = compare.comparison(PAPER, rows(*key, {method: value + 20 for method, value in papers(*key).items()}))
    told = compare.causes(PAPER, shifted)
    assert "\n* **DenseNet-BC-100 (k = 12), CIFAR-10**: the paper's authors' own, 300 epochs, " in told
    assert "test accuracy 95.19 % (the paper's: 95.19 %)" in told
    assert told.endswith("nothing known here explains what differs (Tiny ImageNet (crop)).")
    # Of a table that is not compared number by number the weights alone are told, once each.
    sources = compare.sources(PAPER, [key[:2], key[:2]])
    assert sources.count("\n* ") == 1 and told.startswith(sources.rstrip("."))
    cards["accuracy"] = 0.92  # that may be why
    assert "nothing known" not in compare.causes(PAPER, shifted)
    same = compare.causes(PAPER, compare.comparison(PAPER, rows(*key, papers(*key))))
    assert "differs" not in same
    stand_in = compare.comparison(PAPER, rows(DENSENET, "cifar10", "scenes-resize", {("odin", "fpr"): 5.0}))
    assert "Scenes (stand-in for LSUN), resize in the place of the paper's" in compare.causes(PAPER, stand_in)
    demo = compare.comparison(DEMO, rows(DEMO.networks[0], DEMO.id_sets[0], "photos-crop", {("odin", "fpr"): 5.0}))
    assert "in the role of DenseNet-BC-100 on CIFAR-10" in compare.causes(DEMO, demo)


def test_the_table_decides_between_two_printed_numbers():
    """Table 10 and Table 2 disagree about ODIN on LSUN (crop)."""
    both = {
        reference.lookup(DENSENET, "cifar10", "lsun-crop", "odin", "fpr", table=2),
        reference.lookup(DENSENET, "cifar10", "lsun-crop", "odin", "fpr", table=10, tuning_set="lsun-crop"),
    }
    assert both == {"8.7", "8.1"}
    measured = rows(DENSENET, "cifar10", "lsun-crop", {("odin", "fpr"): 8.7}, width=0)
    assert compare.comparison(PAPER, measured, table=2).paper.item() == "8.7"


def test_what_the_paper_does_not_print():
    compared = compare.comparison(PAPER, rows(DENSENET, "cifar10", "mnist", {("odin", "fpr"): 5.0}))
    assert compared.verdict.item() == "not in the paper"
    assert compared.paper.item() is None and math.isnan(compared.difference.item())


@pytest.mark.parametrize(
    ("odins", "told"), [(20.0, "same direction"), (60.0, "other direction"), (50.0, "other direction")]
)
def test_a_stand_in_is_compared_by_direction_only(odins, told):
    key = (DEMO.networks[0], DEMO.id_sets[0], DEMO.ood_sets[DEMO.id_sets[0]][0])
    compared = compare.comparison(DEMO, rows(*key, {("baseline", "fpr"): 50.0, ("odin", "fpr"): odins}))
    assert list(compared.verdict) == ["not comparable", told]
    assert list(compared.paper) == ["34.7", "4.3"]


def test_a_stand_in_set_with_the_papers_network_is_no_paper_number():
    key = (DENSENET, "cifar10", "scenes-resize")
    values = papers(DENSENET, "cifar10", "lsun-resize")
    assert set(compare.comparison(PAPER, rows(*key, values)).verdict) == {"not comparable", "same direction"}

"""The paper's number beside ours, in the paper's layout, with a verdict whose rule is stated once."""

import dataclasses
import math
import re

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from odinlib import experiments, metrics, odin, profiles, reference, tables
from odinlib.errors import Missing

PAPER, DEMO = profiles.get("paper"), profiles.get("demo")
DENSENET = "densenet-bc-100-12"


def rows(network, id_set, ood_set, values, width=0.5):
    """Measured rows with the given (method, metric) values and intervals of `width` to either side."""
    return pd.DataFrame(
        {
            **{"network": network, "id_set": id_set, "ood_set": ood_set, "method": method, "metric": metric},
            **{"value": value, "low": value - width, "high": value + width},
        }
        for (method, metric), value in values.items()
    )


def printed(network, id_set, ood_set):
    """The paper's own numbers of one pair, as if measured."""
    keys = [(method, metric) for metric in metrics.METRICS for method in experiments.METHODS]
    return {key: float(reference.lookup(network, id_set, ood_set, *key)) for key in keys}


def html(styler) -> str:
    return styler.to_html()


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
    assert tables.verdict(ours, low, high, paper) == told


@given(st.floats(0, 100), st.floats(0, 3), st.integers(0, 1000))
def test_verdicts_follow_the_distance(ours, width, tenths):
    paper = f"{tenths / 10:.1f}"
    told = tables.verdict(ours, ours - width, ours + width, paper)
    distance = abs(ours - float(paper))
    if distance <= width:
        assert told == "reproduced"
    if distance > max(width + 0.06, tables.NEAR):
        assert told == "differs"
    if told == "near":
        assert width <= distance <= tables.NEAR


# --- The comparison ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "told"), [(0, "reproduced"), (1.9, "near"), (-1.9, "near"), (2.5, "differs")])
def test_the_papers_own_numbers_are_compared_with_themselves(shift, told):
    key = (DENSENET, "cifar10", "tinyimagenet-crop")
    measured = rows(*key, {method: value + shift for method, value in printed(*key).items()})
    compared = tables.comparison(PAPER, measured)
    assert set(compared.verdict) == {told}
    assert compared.difference.tolist() == pytest.approx([shift] * 10)
    assert compared.paper.tolist()[:2] == ["34.7", "4.3"]


def test_the_table_decides_between_two_printed_numbers():
    """Table 10 and Table 2 disagree about ODIN on LSUN (crop)."""
    both = {
        reference.lookup(DENSENET, "cifar10", "lsun-crop", "odin", "fpr", table=2),
        reference.lookup(DENSENET, "cifar10", "lsun-crop", "odin", "fpr", table=10, tuning_set="lsun-crop"),
    }
    assert both == {"8.7", "8.1"}
    measured = rows(DENSENET, "cifar10", "lsun-crop", {("odin", "fpr"): 8.7}, width=0)
    assert tables.comparison(PAPER, measured, table=2).paper.item() == "8.7"


def test_what_the_paper_does_not_print():
    compared = tables.comparison(PAPER, rows(DENSENET, "cifar10", "mnist", {("odin", "fpr"): 5.0}))
    assert compared.verdict.item() == "not in the paper"
    assert compared.paper.item() is None and math.isnan(compared.difference.item())


@pytest.mark.parametrize(
    ("odins", "told"), [(20.0, "same direction"), (60.0, "other direction"), (50.0, "other direction")]
)
def test_a_stand_in_is_compared_by_direction_only(odins, told):
    key = (DEMO.networks[0], DEMO.id_sets[0], DEMO.ood_sets[DEMO.id_sets[0]][0])
    compared = tables.comparison(DEMO, rows(*key, {("baseline", "fpr"): 50.0, ("odin", "fpr"): odins}))
    assert list(compared.verdict) == ["not comparable", told]
    assert list(compared.paper) == ["34.7", "4.3"]


def test_a_stand_in_set_with_the_papers_network_is_no_paper_number():
    key = (DENSENET, "cifar10", "scenes-resize")
    values = printed(DENSENET, "cifar10", "lsun-resize")
    assert set(tables.comparison(PAPER, rows(*key, values)).verdict) == {"not comparable", "same direction"}


# --- Layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 3, 12])
def test_every_printed_number_stands_in_its_table(number):
    """Measured numbers that are the paper's own give a table with each of its numbers twice."""
    cells = reference.table(number)
    cells = cells[cells.metric == "fpr"][["network", "id_set", "ood_set"]].drop_duplicates()
    keys = list(cells.itertuples(index=False, name=None))
    measured = pd.concat([rows(*key, printed(*key)) for key in keys], ignore_index=True)
    compared = tables.comparison(PAPER, measured, table=number)
    shown = html(tables.detection_table(PAPER, compared))
    for key in keys:
        for metric in metrics.METRICS:
            pair = [reference.lookup(*key, method, metric, table=number) for method in experiments.METHODS]
            assert f'<small><span style="white-space: nowrap">{pair[0]} / {pair[1]}</span></small>' in shown
    assert shown.count("<small><span") == 5 * len(keys)


def test_a_detection_table_marks_the_better_and_names_what_is_missing():
    key = (DENSENET, "cifar10", "tinyimagenet-crop")
    values = {(m, metric): 50.0 for m in experiments.METHODS for metric in metrics.METRICS}
    values |= {("odin", "fpr"): 40.0, ("odin", "auroc"): 40.0, ("odin", "aupr_in"): 60.0}
    compared = tables.comparison(PAPER, rows(*key, values))
    missing = {(DENSENET, "cifar10", "isun"): "isun is not prepared"}
    shown = html(tables.detection_table(PAPER, compared, missing))
    assert "50.0 / <b>40.0</b>" in shown and "50.0 / 40.0" in shown and "50.0 / <b>60.0</b>" in shown
    assert shown.count("<b>") == 2
    assert shown.count("not recorded") == 1 and "<small>iSUN</small>" in shown
    nothing = tables.comparison(PAPER, pd.DataFrame())
    assert nothing.empty and "not recorded" in html(tables.detection_table(PAPER, nothing, missing))


def test_what_is_missing_of_a_detection_table_is_one_line_for_each_block():
    missing = dict.fromkeys(experiments.pairs(PAPER, PAPER.networks[:2], PAPER.id_sets[:1]), "no weights")
    for there in ("uniform", "gaussian", "tinyimagenet-crop", "tinyimagenet-resize", "lsun-crop", "lsun-resize"):
        del missing[DENSENET, "cifar10", there]
    shown = html(tables.detection_table(PAPER, tables.comparison(PAPER, pd.DataFrame()), missing))
    assert shown.count("not recorded") == 2
    assert "all 10 sets" in shown  # of the second network
    assert "iSUN, Scenes (stand-in for LSUN), crop" in shown and "Uniform" not in shown  # of the first
    missing[DENSENET, "cifar10", "uniform"] = "no weights"
    shown = html(tables.detection_table(PAPER, tables.comparison(PAPER, pd.DataFrame()), missing))
    assert "5 more sets" in shown and "iSUN" not in shown


def test_a_comparison_table_has_a_line_for_each_number():
    key = (DENSENET, "cifar10", "tinyimagenet-crop")
    compared = tables.comparison(PAPER, rows(*key, printed(*key)))
    shown = html(tables.comparison_table(PAPER, compared))
    assert shown.count("reproduced") == 10 and "34.2 to 35.2" in shown and "+0.0" in shown
    stranger = tables.comparison(PAPER, rows(DENSENET, "cifar10", "mnist", {("odin", "fpr"): 5.0}))
    assert "not in the paper" in html(tables.comparison_table(PAPER, stranger))


def test_the_error_table_holds_table_1(monkeypatch):
    def error(profile, name, id_set):
        if name == "wrn-28-10":
            raise Missing("no weights")
        return 0.0512

    monkeypatch.setattr(experiments, "test_error", error)
    shown = html(tables.error_table(PAPER))
    for printed in ("4.81", "22.37", "3.71", "19.86"):
        assert f"paper {printed}<" in shown
    assert shown.count("5.12") == 2 and shown.count("not recorded") == 2
    assert "paper 4.81 (densenet-bc-100-12, cifar10)" in html(tables.error_table(DEMO))


def test_the_accuracy_table_holds_what_appendix_a_states(monkeypatch):
    monkeypatch.setattr(experiments, "test_error", lambda *_: 0.1)
    shown = html(tables.accuracy_table(PAPER))
    for printed in ("99.34", "95.7", "79.27", "78.94"):
        assert f"paper {printed}" in shown
    assert "90.00" in shown


def test_setting_tables_hold_tables_4_to_9(monkeypatch):
    monkeypatch.setattr(experiments, "tune", lambda *_: odin.Setting(500.0, 0.0022, 0.1))
    for name, epsilons, temperatures in zip(PAPER.networks, (4, 6, 8), (5, 7, 9), strict=True):
        for parameter, number in (("epsilon", epsilons), ("temperature", temperatures)):
            shown = html(tables.setting_table(PAPER, name, parameter))
            cells = reference.table(number)
            assert set(cells.network) == {name} and set(cells.metric) == {parameter}
            for printed in cells.printed:
                assert f"paper {printed}<" in shown
            assert ("0.0022<" if parameter == "epsilon" else "500<") in shown

    def untold(*_):
        raise Missing("no grid")

    monkeypatch.setattr(experiments, "tune", untold)
    shown = html(tables.setting_table(PAPER, DENSENET, "epsilon"))
    assert "not recorded" in shown and "LSUN (crop)" in shown
    assert "stand-in" not in shown  # of which nothing is recorded, and whose printed numbers stand in LSUN's own line


@pytest.mark.parametrize(("name", "number"), [("densenet-bc-100-12", 10), ("wrn-28-10", 11)])
def test_transfer_tables_hold_tables_10_and_11(name, number):
    cells = reference.table(number)
    pairs = cells[["ood_set", "tuning_set"]].drop_duplicates()
    measured = pairs.assign(id_set="cifar10", baseline=12.3456, odin=6.0)
    shown = html(tables.transfer_table(PAPER, name, measured))
    for pair in pairs.itertuples():
        own = cells[(cells.ood_set == pair.ood_set) & (cells.tuning_set == pair.tuning_set)].set_index("method").printed
        assert f"paper {own['baseline']} / {own['odin']}" in shown
    assert shown.count("12.3 / 6.0") == len(pairs)


def test_the_recipe_table_tells_origin_and_training(monkeypatch):
    trained = {"recipe": dataclasses.asdict(PAPER.recipe("wrn-28-10")), "seconds": 12.6, "accuracy": 0.9}

    def card(profile, name, id_set):
        if id_set != "cifar10":
            raise Missing("no weights")
        foreign = {"origin": "someone's weights"}
        return {"parameters": 769162, **(foreign if name == DENSENET else trained)}

    monkeypatch.setattr(experiments, "card", card)
    shown = html(tables.recipe_table(PAPER))
    assert "trained by others: someone" in shown and "not measured" in shown and "769,162" in shown
    assert "200 epochs of batches of 128, sgd, rate 0.1, weight decay 0.0005" in shown and "13 s" in shown
    assert shown.count("not recorded") == 4  # a line for each network
    assert "CIFAR-100 and CIFAR-80" in shown


def test_what_is_not_the_papers_is_told(monkeypatch):
    card = {"origin": "someone's weights, 100 epochs"}
    monkeypatch.setattr(experiments, "card", lambda *_: card)
    (told,) = tables.differences(PAPER)
    assert told.startswith(
        "**DenseNet-BC-100 (k = 12) on CIFAR-10** was not trained by the paper's recipe of 300 epochs"
    )
    assert told.endswith("someone's weights, 100 epochs (the paper's network: 95.19 %).")
    card["accuracy"] = 0.9454
    assert "test accuracy 94.54 % (the paper's network: 95.19 %)" in tables.differences(PAPER)[0]
    assert tables.differences(DEMO) == []

    def untold(*_):
        raise Missing("no weights")

    monkeypatch.setattr(experiments, "card", untold)
    assert tables.differences(PAPER) == []


def test_the_set_table_never_calls_a_stand_in_what_it_stands_for():
    shown = html(tables.set_table(PAPER))
    first_column = re.findall(r'col0" >(.*?)<', shown)
    assert "Scenes (stand-in for LSUN), resize" in first_column and first_column.count("LSUN (resize)") == 1
    assert "itself" in shown and "nearest" in shown
    assert "CIFAR-10, CIFAR-100, CIFAR-80" in shown


def test_the_headline_gives_both_rates_and_the_papers():
    inside, outside = torch.arange(100.0), torch.arange(100.0)
    told = tables.headline_text(PAPER, {"max softmax": (inside, outside), "ODIN": (inside, outside - 90)})
    assert "95.0 % with max softmax and 5.0 % with ODIN" in told
    assert "T = 1000, ε = 0.0012" in told and "gives 34 % and 4.2 %" in told


def test_a_table_renders_to_the_same_bytes():
    frame = pd.DataFrame({"a": ["<b>1</b>"]})
    assert html(tables.plain(frame)) == html(tables.plain(frame.copy()))
    assert "<b>1</b>" in html(tables.plain(frame))


@pytest.mark.parametrize(
    ("name", "title"),
    [("densenet-bc-100-12", "DenseNet-BC-100 (k = 12)"), ("wrn-28-10", "WRN-28-10"), ("mlp-256x3", "MLP 256 × 3")],
)
def test_networks_are_called_as_the_paper_calls_them(name, title):
    assert tables.network_title(name) == title


def test_names_in_a_sentence():
    assert [tables.names(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]

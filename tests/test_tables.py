"""The paper's number beside ours, in the paper's layout."""

import dataclasses
import re

import pandas as pd
import pytest
import torch
from measured import DENSENET, papers, rows

from odinlib import compare, experiments, metrics, odin, profiles, reference, tables, trained
from odinlib.errors import Missing

PAPER, DEMO = profiles.get("paper"), profiles.get("demo")


def html(styler) -> str:
    return styler.to_html()


def test_others_numbers_stand_beside_the_papers_and_ours(monkeypatch):
    monkeypatch.setattr(experiments, "test_error", lambda of: 0.015)
    theirs = {"omniglot": 95.3, "notmnist": 90.0, "uniform": 97.2}  # as theirs, off, and off within its spread
    made = [rows("mlp-256x3", "mnist", s, {("baseline", "auroc"): value}) for s, value in theirs.items()]
    measured = pd.concat(made, ignore_index=True)
    measured.loc[measured.ood_set == "uniform", ["trainings", "mean", "spread"]] = [10, 96.0, 1.5]
    shown = html(tables.elsewhere_table(PAPER, compare.comparison(PAPER, measured)))
    assert [shown.count(word) for word in ("✓ reproduced", "≈ near", "✗ differs", "± within spread")] == [1, 1, 1, 1]
    assert "98.52" in shown and "98.50" in shown and "99.34" in shown  # their accuracy, ours, the paper's
    assert shown.count("not recorded") == 2 and "96.0 ± 1.5 (10)" in shown


# --- Layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 3, 12])
def test_every_printed_number_stands_in_its_table(number):
    """Measured numbers that are the paper's own give a table with each of its numbers twice."""
    cells = reference.table(number)
    cells = cells[cells.metric == "fpr"][["network", "id_set", "ood_set"]].drop_duplicates()
    keys = list(cells.itertuples(index=False, name=None))
    measured = pd.concat([rows(*key, papers(*key)) for key in keys], ignore_index=True)
    compared = compare.comparison(PAPER, measured, table=number)
    shown = html(tables.detection_table(PAPER, compared))
    for key in keys:
        for metric in metrics.METRICS:
            pair = [reference.lookup(*key, method, metric, table=number) for method in experiments.METHODS]
            assert f'<small><span style="white-space: nowrap">{pair[0]} / {pair[1]}</span></small>' in shown
    assert shown.count("<small><span") == 10 * len(keys) and shown.count("✓ reproduced") == 5 * len(keys)


def test_a_detection_table_marks_the_better_and_names_what_is_missing():
    key = (DENSENET, "cifar10", "tinyimagenet-crop")
    values = {(m, metric): 50.0 for m in experiments.METHODS for metric in metrics.METRICS}
    values |= {("odin", "fpr"): 40.0, ("odin", "auroc"): 40.0, ("odin", "aupr_in"): 60.0}
    compared = compare.comparison(PAPER, rows(*key, values))
    missing = {(DENSENET, "cifar10", "isun"): "isun is not prepared"}
    shown = html(tables.detection_table(PAPER, compared, missing))
    assert "50.0 / <b>40.0</b>" in shown and "50.0 / 40.0" in shown and "50.0 / <b>60.0</b>" in shown
    assert shown.count("<b>") == 2
    assert shown.count("not recorded") == 1 and "<small>iSUN</small>" in shown
    nothing = compare.comparison(PAPER, pd.DataFrame())
    assert nothing.empty and "not recorded" in html(tables.detection_table(PAPER, nothing, missing))


def test_what_is_missing_of_a_detection_table_is_one_line_for_each_block():
    there = ("uniform", "gaussian", "tinyimagenet-crop", "tinyimagenet-resize", "lsun-crop", "lsun-resize")
    sets = (*there, "isun", "scenes-crop", "scenes-resize", "scenes-mixed")
    profile = dataclasses.replace(PAPER, ood_sets={**PAPER.ood_sets, "cifar10": sets})
    missing = dict.fromkeys(experiments.pairs(profile, profile.networks[:2], ["cifar10"]), "no weights")
    for ood_set in there:
        del missing[DENSENET, "cifar10", ood_set]
    shown = html(tables.detection_table(profile, compare.comparison(profile, pd.DataFrame()), missing))
    assert shown.count("not recorded") == 2
    assert "all 10 sets" in shown  # of the second network
    assert "iSUN, Scenes (stand-in for LSUN), crop" in shown and "Uniform" not in shown  # of the first
    missing[DENSENET, "cifar10", "uniform"] = "no weights"
    shown = html(tables.detection_table(profile, compare.comparison(profile, pd.DataFrame()), missing))
    assert "5 more sets" in shown and "iSUN" not in shown


def test_a_comparison_table_has_a_line_for_each_number():
    key = (DENSENET, "cifar10", "tinyimagenet-crop")
    compared = compare.comparison(PAPER, rows(*key, papers(*key)))
    shown = html(tables.comparison_table(PAPER, compared))
    assert shown.count("reproduced") == 10 and "34.2 to 35.2" in shown and "+0.0" in shown
    stranger = compare.comparison(PAPER, rows(DENSENET, "cifar10", "mnist", {("odin", "fpr"): 5.0}))
    assert "not in the paper" in html(tables.comparison_table(PAPER, stranger))


def test_the_error_table_holds_table_1(monkeypatch):
    def error(of):
        if of.network == "wrn-28-10":
            raise Missing("no weights")
        return 0.0512

    monkeypatch.setattr(experiments, "test_error", error)
    shown = html(tables.error_table(PAPER))
    for printed in ("4.81", "22.37", "3.71", "19.86"):
        assert f"paper {printed}<" in shown
    assert shown.count("5.12") == 2 and shown.count("not recorded") == 2
    assert shown.count("✗ differs") == 2, "each of ours says how it stands to the printed one"
    monkeypatch.setattr(experiments, "test_error", lambda of: 0.0481 if of.id_set == "cifar10" else 0.222)
    shown = html(tables.error_table(PAPER))
    assert "✓ reproduced" in shown and "≈ near" in shown
    assert not any(word in html(tables.error_table(DEMO)) for word in ("reproduced", "near", "differs"))
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
            judged = sum(shown.count(f"<small>{tables.marked(one)}") for one in ("reproduced", "near", "differs"))
            assert judged == len(cells), "each printed setting has a verdict below it"

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
    assert shown.count("✗ differs") + shown.count("≈ near") >= len(pairs)


def test_the_recipe_table_tells_origin_and_training(monkeypatch):
    ours = {"recipe": dataclasses.asdict(PAPER.recipe("wrn-28-10")), "seconds": 12.6, "accuracy": 0.9}

    def card(of):
        if of.id_set != "cifar10":
            raise Missing("no weights")
        foreign = {"origin": "someone's weights"}
        return {"parameters": 769162, **(foreign if of.network == DENSENET else ours)}

    monkeypatch.setattr(trained, "card", card)
    shown = html(tables.recipe_table(PAPER))
    assert "trained by others: someone" in shown and "not measured" in shown and "769,162" in shown
    assert "200 epochs of batches of 128, sgd, rate 0.1, weight decay 0.0005" in shown and "13 s" in shown
    assert shown.count("not recorded") == 4  # a line for each network
    assert "CIFAR-100 and CIFAR-80" in shown


def test_what_is_not_the_papers_is_told(monkeypatch):
    card = {"origin": "someone's weights, 100 epochs"}
    monkeypatch.setattr(trained, "card", lambda *_: card)
    others = dataclasses.replace(PAPER, trainings={f"{DENSENET}_cifar10": "third-party"})
    (told,) = tables.differences(others)
    assert told.startswith(
        "**DenseNet-BC-100 (k = 12) on CIFAR-10** was not trained by the paper's recipe of 300 epochs"
    )
    assert told.endswith("someone's weights, 100 epochs (the paper's network: 95.19 %).")
    card["accuracy"] = 0.9454
    assert "test accuracy 94.54 % (the paper's network: 95.19 %)" in tables.differences(others)[0]
    for theirs in (DEMO, PAPER):  # trained here, and by the paper's authors
        assert tables.differences(theirs) == []

    def untold(*_):
        raise Missing("no weights")

    monkeypatch.setattr(trained, "card", untold)
    assert tables.differences(others) == []


def test_the_set_table_never_calls_a_stand_in_what_it_stands_for():
    shown = html(tables.set_table(profiles.configure("paper", ood_sets=["scenes-resize", "lsun-resize", "isun"])))
    first_column = re.findall(r"<td [^>]*col0[^>]*>(.*?)<", shown)
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
    pages = []
    for _ in range(2):  # each page counts its own
        tables._shown.clear()
        pages.append([html(tables.plain(one)) for one in (frame, frame.copy())])
    assert pages[0] == pages[1]
    assert pages[0][0] != pages[0][1] and "<b>1</b>" in pages[0][0]


def test_text_from_outside_is_no_markup():
    """Names of files and headers of artefacts reach tables: a script in one is shown, and not run."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    html = tables.plain(
        pd.DataFrame({evil: [evil, "1 / <b>2</b><br><small>paper</small>"]}, index=[evil, "b"])
    ).to_html()
    assert "<script" not in html and "<img" not in html and html.count("&lt;script&gt;") == 3
    assert "1 / <b>2</b><br><small>paper</small>" in html
    html = tables.plain(pd.DataFrame({"Image": ["<b>a&b</b>.png"], "Score": [0.5]}), markup=False).to_html()
    assert "&lt;b&gt;a&amp;b&lt;/b&gt;.png" in html and "<b>" not in html and ">0.500000<" in html

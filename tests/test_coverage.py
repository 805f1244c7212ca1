"""Every printed number and how it stands: read off the record, and of a folder without one nothing stands."""

import sys

import pytest

from odinlib import profiles, record, reference, tables

PAPER = profiles.get("paper")
DENSENET = "densenet-bc-100-12"
count = sys.modules["odinlib.record.coverage"]  # the module, whose function has its name


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No image set is on this machine."""
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path))


@pytest.fixture(scope="module")
def cells():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ODINLIB_DATA", "/nonexistent")
        return record.coverage(PAPER)


def states(cells, **chosen):
    for column, value in chosen.items():
        cells = cells[cells[column] == value]
    return set(cells.state)


def test_every_printed_cell_is_there_once(cells):
    assert len(cells) == 1084 == len(reference.tables().query("table != 'text'"))
    assert set(cells.state) <= set(record.STATES) and set(cells.table) == set(record.TABLE_PAGES)
    found = record.counts(cells)
    assert found.loc["2"].sum() == 280 and found.loc["all"].sum() == 1084
    assert found.drop("all").sum().equals(found.loc["all"])


def test_what_is_recorded_and_what_stands_in_for_it(cells):
    of = {"network": DENSENET, "id_set": "cifar10"}
    assert states(cells, table="2", ood_set="isun", **of) == {"recorded"}
    assert states(cells, table="1", network=DENSENET) == {"recorded"}
    # LSUN's crops are not to be had; a third party's network has answered photographs of scenes.
    assert states(cells, table="2", ood_set="lsun-crop", **of) == {"stand-in"}
    assert states(cells, table="2", network="wrn-28-10") == {"needs weights"}
    assert states(cells, table="2", ood_set="lsun-crop", network=DENSENET, id_set="cifar100") == {"needs data"}


def test_without_a_record_everything_needs_something(tmp_path, monkeypatch, nowhere):
    monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path))
    assert set(record.coverage(PAPER).state) == {"needs weights", "needs data"}
    monkeypatch.setattr(count, "images_are_here", lambda *_: True)
    monkeypatch.setattr(count, "weights_here", lambda _: "computable")
    assert set(record.coverage(PAPER).state) == {"computable"}


def test_marks_are_told_apart_without_colour(cells):
    assert len(set(tables.COVERAGE_MARKS.values())) == len(record.STATES)
    assert tables.COVERAGE_MARKS.keys() == record.STATES.keys()
    for table in record.TABLE_PAGES:
        one = cells[cells.table == table]
        shown = tables.coverage_map(one).to_html()
        for state, mark in tables.COVERAGE_MARKS.items():
            assert shown.count(f">{mark}</span>") == (one.state == state).sum(), (table, state)

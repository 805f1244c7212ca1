"""What things are called."""

import pytest

from odinlib import datasets, metrics, names


@pytest.mark.parametrize(
    ("name", "title"),
    [("densenet-bc-100-12", "DenseNet-BC-100 (k = 12)"), ("wrn-28-10", "WRN-28-10"), ("mlp-256x3", "MLP 256 × 3")],
)
def test_networks_are_called_as_the_paper_calls_them(name, title):
    assert names.network_title(name) == title


def test_names_in_a_sentence():
    assert [names.listed(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_every_measure_has_a_title_and_an_arrow_that_says_which_way_is_better():
    assert list(names.METRIC_TITLES) == list(metrics.METRICS)
    for metric, title in names.METRIC_TITLES.items():
        assert title.endswith("↓" if metric in metrics.LOWER_IS_BETTER else "↑")


def test_a_set_goes_by_its_own_title():
    assert names.set_title("isun") == datasets.title("isun") == "iSUN"
    assert names.set_title("scenes-mixed") == "Scenes, mixed (stand-in for iSUN), resize"

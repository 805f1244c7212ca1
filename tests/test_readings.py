"""One thing read otherwise at a time: each reading changes what it says and nothing else, and is kept."""

import dataclasses

import pytest
import torch

from odinlib import experiments, metrics, odin, store, trained
from odinlib.errors import Missing
from odinlib.measure import readings

COLOUR, OOD = "shapes4", "photos-crop"  # three channels, as the statistics of CIFAR have


@pytest.fixture
def of(tiny, monkeypatch):
    monkeypatch.setattr(readings, "IMAGES", 24)
    return tiny.trained("mlp-12x1", COLOUR)


def test_each_reading_is_measured_once_and_kept(of, monkeypatch):
    found = readings.readings(of, OOD)
    assert list(dict.fromkeys(found.reading)) == [key for key in readings.READINGS if key != "border"]
    assert len(found) == 6 * (1 + len(readings.EPSILONS)) and set(found.images) <= {20, 24}
    monkeypatch.setattr(trained, "network", lambda _: pytest.fail("read, not computed"))
    again = readings.readings(of.among(compute=False), OOD)
    assert again.equals(found)


def test_as_is_is_what_the_sweep_says(of):
    found = readings.readings(of, OOD)
    plain, network = found[found.reading == "as is"], trained.network(of)
    pair = []
    for images in (COLOUR, OOD):
        chosen = sorted(experiments.tested(of, images)[:24])
        pixels = store.image_set(of.profile, images, COLOUR).tensor(chosen)
        pair.append(odin.sweep(network, pixels, [1.0, 1000.0], list(readings.EPSILONS)))
    for row in plain.itertuples():
        place = [1.0, 1000.0].index(row.temperature), readings.EPSILONS.index(row.epsilon)
        scores = [one[place] for one in pair]
        assert row.fpr == pytest.approx(100 * metrics.fpr_at_tpr(*scores).item(), abs=1e-9)
        assert row.auroc == pytest.approx(100 * metrics.auroc(*scores).item(), abs=0.05)


def test_a_reading_changes_a_copy_of_the_network(of):
    network = trained.network(of)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = readings.readings(of, OOD).set_index(["reading", "temperature", "epsilon"])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert found.fpr["cifar10", 1.0, 0.0] == found.fpr["cifar10", 1.0, 0.0]
    assert found.auroc["cifar10", 1.0, 0.0] != found.auroc["as is", 1.0, 0.0]
    assert found.auroc["pooling", 1.0, 0.0] == found.auroc["as is", 1.0, 0.0]  # of a network without maps
    assert found.auroc["direction", 1000.0, 0.0] == found.auroc["as is", 1000.0, 0.0]  # nothing moves


def test_what_is_not_recorded_is_named(of):
    reading = dataclasses.replace(of, profile=dataclasses.replace(of.profile, compute=False))
    with pytest.raises(Missing, match=r"the readings of photos-crop by mlp-12x1_shapes4_seed0 are not recorded"):
        readings.readings(reading, OOD)

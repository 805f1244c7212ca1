"""Every claim of the paper has a test, and every test can come out either way."""

import dataclasses
import itertools
import re

import measured as made_up
import numpy as np
import pandas as pd
import pytest
import torch

from odinlib import experiments, metrics, moments, names, odin, profiles, reference, store
from odinlib.errors import Missing
from odinlib.measure import effects, mechanism, scorecard

PAPER = profiles.get("paper")
DEMO = dataclasses.replace(profiles.get("demo"), temperatures=PAPER.temperatures, epsilons=PAPER.epsilons)
FIRST, LAST = DEMO.networks[0], DEMO.networks[-1]
RGB, SECOND = DEMO.id_sets[:2]
SET = DEMO.ood_sets[RGB][0]


def decide(name, profile=DEMO) -> bool:
    """Whether the claim holds; what it tells is a sentence with a number."""
    found = scorecard.TESTS[name](profile)
    assert isinstance(found.holds, bool) and found.told
    return found.holds


def with_first(profile, ood_set):
    """The profile with this set as the first one of its first network's table."""
    id_set = profile.id_sets[0]
    others = [s for s in profile.ood_sets[id_set] if s != ood_set]
    return dataclasses.replace(profile, ood_sets={**profile.ood_sets, id_set: (ood_set, *others)})


# --- Claims and tests -------------------------------------------------------------------------------------------------


def test_every_claim_has_a_test_and_every_test_a_claim():
    decided_by = list(reference.claims().decided_by)
    assert sorted(decided_by) == sorted(scorecard.TESTS)
    assert len(set(decided_by)) == len(decided_by)


def test_the_scorecard_of_nothing_is_all_not_recorded(tiny):
    reading = dataclasses.replace(tiny, compute=False)
    card = scorecard.scorecard(reading)
    assert list(card.id) == list(reference.claims().id)
    assert set(card.verdict) == {"not recorded"} and all(card.told)


def test_the_scorecard_of_a_run_decides_what_its_sets_allow(tiny):
    small = dataclasses.replace(
        tiny, networks=tiny.networks[:1], ood_sets={**tiny.ood_sets, "digits": ("strokes", "letters")}
    )
    card = scorecard.scorecard(small).set_index("id")
    assert set(card.verdict) <= {"holds", "fails", "not recorded"}
    takes_more = {"mmd-harder", "crops-further", "same-manifold-hardest", "reciprocal"}
    assert takes_more <= set(card[card.verdict == "not recorded"].index)
    assert (card.verdict != "not recorded").sum() > 15
    assert card.verdict["proposition-1"] == card.verdict["u2-identity"] == card.verdict["no-labels"] == "holds"


def test_a_missing_record_is_told_with_its_reason(monkeypatch):
    def nothing(profile):
        raise Missing("no weights")

    monkeypatch.setattr(scorecard, "TESTS", dict.fromkeys(scorecard.TESTS, nothing))
    card = scorecard.scorecard(DEMO)
    assert set(card.verdict) == {"not recorded"} and set(card.told) == {"no weights"}


# --- Both ways --------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch):
    """Set what `experiments.detection` measures: (baseline, ODIN) in percent of a network, sets and metric."""

    def measure(rates):
        def detection(of, ood_set):
            rows = []
            for metric in metrics.METRICS:
                pair = rates(of.network, of.id_set, ood_set, metric)
                for method, value in zip(experiments.METHODS, pair, strict=True):
                    row = {"network": of.network, "id_set": of.id_set, "ood_set": ood_set, "method": method}
                    rows.append({**row, "metric": metric, "value": value, "low": value - 0.1, "high": value + 0.1})
            return pd.DataFrame(rows)

        monkeypatch.setattr(experiments, "detection", detection)

    return measure


def better(metric, gain):
    """(baseline, ODIN) where ODIN gains so many points."""
    return (50.0, 50.0 - gain if metric in ("fpr", "detection_error") else 50.0 + gain)


def test_improvement_on_every_pair(measured):
    measured(lambda *key: better(key[-1], 5))
    assert decide("improves_every_pair") and decide("improves_every_metric")
    measured(lambda *key: better(key[-1], -5 if key[:3] == (LAST, SECOND, "uniform") else 5))
    assert not decide("improves_every_pair") and not decide("improves_every_metric")
    assert names.network_title(LAST) in scorecard.TESTS["improves_every_pair"](DEMO).told
    measured(lambda *key: (0.0, 1.0) if key[2:] == ("uniform", "fpr") else better(key[-1], 5))
    assert decide("improves_every_pair") and not decide("improves_every_metric")  # nothing to improve on from 0


def test_one_worse_number_breaks_every_metric_but_not_every_pair(measured):
    measured(lambda *key: better(key[-1], -0.1 if key == (FIRST, RGB, "uniform", "aupr_in") else 5))
    assert decide("improves_every_pair") and not decide("improves_every_metric")


@pytest.mark.parametrize(("gain", "holds"), [(17.0, True), (16.0, False)])
def test_a_fall_by_a_third(measured, gain, holds):
    measured(lambda *key: better(key[-1], gain))
    assert decide("improves_by_margin") is holds


@pytest.mark.parametrize(("rates", "holds"), [((34.7, 4.3), True), ((36.0, 6.0), True), ((34.7, 9.0), False)])
def test_the_headline(measured, rates, holds):
    measured(lambda *_: rates)
    assert decide("reproduces_headline", with_first(PAPER, "tinyimagenet-crop")) is holds


def test_a_stand_in_cannot_reproduce_the_headline(measured):
    measured(lambda *_: (34.7, 4.3))
    for profile in (DEMO, with_first(PAPER, "tinyimagenet-crop-drawn")):
        with pytest.raises(Missing, match="stand for the paper's"):
            decide("reproduces_headline", profile)


@pytest.mark.parametrize(("left_out", "holds"), [(60.0, True), (40.0, False), (50.0, False)])
def test_the_left_out_classes(measured, left_out, holds):
    measured(
        lambda n, i, ood, m: (
            70.0,
            left_out if ood == DEMO.left_out else 99.0 if ood in ("gaussian", "uniform") else 50.0,
        )
    )
    assert decide("left_out_classes_hardest") is holds


@pytest.mark.parametrize(("first", "second", "holds"), [(20.0, 30.0, True), (30.0, 20.0, False), (20.0, 20.0, False)])
def test_near_sets_both_ways(measured, first, second, holds):
    measured(lambda n, id_set, o, m: (50.0, first if id_set == RGB else second))
    assert decide("cifar10_easier_than_cifar100") is holds


@pytest.fixture
def curve(monkeypatch):
    """Set the FPR along temperature or epsilon: what is given at each value of the axis."""

    def draw(fpr_of_temperature=None, fpr_of_epsilon=None):
        def temperature(of, ood_sets):
            axis = list(of.profile.temperatures)
            return pd.DataFrame(
                {"ood_set": ood_sets[0], "temperature": axis, "fpr": [fpr_of_temperature(t) for t in axis]}
            )

        def epsilon(of, ood_sets, at):
            axis = list(of.profile.epsilons)
            return pd.DataFrame({"ood_set": ood_sets[0], "epsilon": axis, "fpr": [fpr_of_epsilon(e, at) for e in axis]})

        monkeypatch.setattr(effects, "temperature_effect", temperature)
        monkeypatch.setattr(effects, "epsilon_effect", epsilon)

    return draw


@pytest.mark.parametrize(
    ("fpr", "helps", "monotone", "saturates"),
    [
        (lambda t: 50 - 10 * min(np.log10(t), 2), True, True, True),
        (lambda t: 50 + np.log10(t) / 2, False, True, True),
        (lambda t: 50 - 10 * np.log10(t), True, True, False),
        (lambda t: 50 - 20 * (t >= 5) + 5 * (t >= 10), True, False, True),
        (lambda t: 0.0, True, True, True),
    ],
)
def test_along_the_temperature(curve, fpr, helps, monotone, saturates):
    curve(fpr_of_temperature=fpr)
    assert decide("temperature_helps") is helps
    assert decide("temperature_monotone") is monotone
    assert decide("temperature_saturates") is saturates


@pytest.mark.parametrize(
    ("fpr", "optimum", "hurts", "together"),
    [
        (lambda e, t: 30 + 1e7 * (e - 0.0016) ** 2 + 10 * (t == 1), True, True, True),
        (lambda e, t: 30 + 1000 * e, False, True, False),
        (lambda e, t: 30 - 1000 * e + 0.1 * (t == 1), True, False, True),
        (lambda e, t: 30 + 1e7 * (e - 0.0016) ** 2 - 10 * (t == 1), True, True, False),
    ],
)
def test_along_epsilon(curve, fpr, optimum, hurts, together):
    curve(fpr_of_epsilon=fpr)
    assert decide("epsilon_has_optimum") is optimum
    assert decide("large_epsilon_hurts") is hurts
    assert decide("combination_beats_each") is together


def test_nothing_is_claimed_of_curves_that_start_at_zero(curve):
    curve(fpr_of_epsilon=lambda e, t: 0.0)
    for name in ("epsilon_has_optimum", "combination_beats_each"):
        with pytest.raises(Missing, match="to decide by"):
            decide(name)


@pytest.mark.parametrize(("share", "holds"), [(0.0, True), (0.0005, True), (0.002, False)])
def test_changed_predictions(monkeypatch, share, holds):
    classes = torch.zeros(2, len(DEMO.epsilons), 10_000, dtype=torch.int16)
    classes[:, 1:, : round(share * 10_000)] = 1
    monkeypatch.setattr(experiments, "predictions", lambda *_: classes)
    assert decide("predictions_unchanged") is holds


@pytest.fixture
def responded(monkeypatch):
    """Set the logits and gradient norms of each set's test images."""

    def respond(of_set):
        def found(of, images, indices=None):
            logits, norms = of_set(images)
            norms = np.asarray(norms, dtype=np.float32)
            return store.Responses(logits.astype(np.float32), norms, norms, np.arange(len(logits)) % 10)

        monkeypatch.setattr(experiments, "test_responses", found)
        monkeypatch.setattr(store, "responses", found)
        monkeypatch.setattr(store, "clean", lambda *asked: made_up.clean(found(*asked)))
        monkeypatch.setattr(
            store, "scores", lambda of, images, settings, _: made_up.unperturbed(found(of, images), settings)
        )
        monkeypatch.setattr(experiments, "class_count", lambda of: of_set(of.id_set)[0].shape[1])
        monkeypatch.setattr(experiments, "tested", lambda of, images: np.arange(len(of_set(images)[0])))

    return respond


def answers(margin, norm, spread=0.2, images=400):
    """Logits with a first gap of about `margin` and gradient norms of about `norm`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, spread, (images, 10))
    logits[:, 0] += margin + rng.uniform(0, 4, images)
    return logits, norm + rng.normal(0, 0.01, images)


@pytest.mark.parametrize(("inside", "outside", "holds"), [((8, 5), (4, 2), True), ((4, 2), (8, 5), False)])
def test_larger_inside(responded, inside, outside, holds):
    responded(lambda images: answers(*(inside if images == RGB else outside)))
    assert decide("u1_larger_in_distribution") is holds
    assert decide("gradient_norm_larger") is holds


@pytest.mark.parametrize(("inside", "outside", "holds"), [((2.0, 5), (0.2, 2), True), ((0.2, 2), (2.0, 5), False)])
def test_larger_at_equal_values(responded, inside, outside, holds):
    """A wider spread of the other logits gives a larger U2 at the same U1."""

    def found(images):
        spread, norm = inside if images == RGB else outside
        return answers(4, norm, spread)

    responded(found)
    assert decide("u2_given_u1_larger") is holds
    assert decide("gradient_given_score_larger") is holds


def test_one_set_with_a_larger_u1_breaks_the_claim_and_not_that_of_most_norms(responded):
    responded(lambda images: answers(*((6, 5) if images == RGB else (9, 9) if images == SET else (4, 2))))
    assert not decide("u1_larger_in_distribution") and decide("gradient_norm_larger")


def test_the_limit_of_the_detection_error(responded, monkeypatch):
    responded(lambda images: answers(*((8, 5) if images == RGB else (5, 2))))
    assert decide("detection_error_converges")
    margin = odin.margin_score
    monkeypatch.setattr(odin, "margin_score", lambda logits, t: margin(logits, 0.1))  # ranks by the first gap
    first = {True: 10.0, False: 3.0}, {True: 9.9, False: 0.0}  # inside, the second class is close to the first
    rows = {inside: np.tile([first[0][inside], first[1][inside], *[0.0] * 8], (400, 1)) for inside in (True, False)}
    responded(lambda images: (rows[images == RGB], np.ones(400)))
    assert not decide("detection_error_converges")


def test_the_identity_of_u2(responded, monkeypatch):
    responded(lambda images: answers(5, 1))
    assert decide("u2_identity")
    monkeypatch.setattr(moments, "u2", lambda logits: moments.u1(logits) ** 2)
    assert not decide("u2_identity")


def test_labels(responded, monkeypatch):
    responded(lambda images: answers(5, 1))
    assert decide("labels_not_used")


@pytest.mark.parametrize(("slope", "holds"), [(-1, True), (1, False)])
def test_distance_and_difficulty(monkeypatch, measured, slope, holds):
    far = {name: i for i, name in enumerate(dict.fromkeys(itertools.chain(*DEMO.ood_sets.values())))}
    distance = dataclasses.make_dataclass("Distance", ["mmd"])
    monkeypatch.setattr(scorecard, "distance", lambda profile, id_set, ood_set: distance(far[ood_set]))
    measured(lambda n, i, ood_set, m: (90.0, 50.0 + slope * far[ood_set]))
    assert decide("mmd_anticorrelates") is holds


@pytest.mark.parametrize(("crop", "resize", "holds"), [(2, 1, True), (1, 2, False), (1, 1, False)])
def test_crops_and_resizes(monkeypatch, crop, resize, holds):
    distance = dataclasses.make_dataclass("Distance", ["mmd"])
    monkeypatch.setattr(scorecard, "distance", lambda p, i, s: distance(crop if s.endswith("-crop") else resize))
    assert decide("crops_further_than_resizes") is holds


@pytest.mark.parametrize(("spread", "holds"), [(4.9, True), (5.1, False)])
def test_tuning_sets(monkeypatch, spread, holds):
    monkeypatch.setattr(experiments, "tune", lambda *_: odin.Setting(1000.0, 0.0, 0.0))

    def transfer(of, ood_sets):
        return pd.DataFrame(
            {"ood_set": s, "tuning_set": t, "odin": 20 + spread * (t == ood_sets[0])}
            for s in ood_sets
            for t in ood_sets
        )

    monkeypatch.setattr(effects, "transfer", transfer)
    assert decide("tuning_set_unimportant") is holds


def test_tuning_sets_are_decided_on_the_networks_that_are_there(monkeypatch):
    def tune(of, ood_set):
        if of.network != FIRST:
            raise Missing("no grid")
        return odin.Setting(1000.0, 0.0, 0.0)

    monkeypatch.setattr(experiments, "tune", tune)
    monkeypatch.setattr(effects, "transfer", lambda *_: pd.DataFrame({"ood_set": ["a", "a"], "odin": [20.0, 22.0]}))
    told = scorecard.TESTS["tuning_set_unimportant"](DEMO).told
    assert told == f"{names.network_title(FIRST)}: up to 2.0 points"
    with pytest.raises(Missing, match="no grid"):
        decide("tuning_set_unimportant", dataclasses.replace(DEMO, networks=DEMO.networks[1:]))


def test_a_claim_on_every_pair_tells_how_many_there_are_not(monkeypatch):
    def detection(of, ood_set):
        if of.id_set != RGB:
            raise Missing("no weights")
        rows = itertools.product(experiments.METHODS, metrics.METRICS)
        keys = {"network": of.network, "id_set": of.id_set, "ood_set": ood_set}
        return pd.DataFrame({**keys, "method": m, "metric": v, "value": better(v, 5)[m == "odin"]} for m, v in rows)

    monkeypatch.setattr(experiments, "detection", detection)
    for name in ("improves_every_pair", "improves_every_metric", "improves_by_margin"):
        assert re.search(r"; \d\d of 73 pairs are not recorded$", scorecard.TESTS[name](DEMO).told)


@pytest.mark.parametrize(("late", "holds"), [(0.5, True), (1.5, False)])
def test_tuning_sizes(monkeypatch, late, holds):
    def by_size(of, ood_sets):
        sizes = np.array(of.profile.tuning_sizes)
        fpr = 20 + 10 * (sizes < max(sizes) / 2) + late * (sizes == max(sizes))
        return pd.concat([pd.DataFrame({"ood_set": s, "size": sizes, "fpr": fpr}) for s in ood_sets])

    monkeypatch.setattr(effects, "tuning_size_effect", by_size)
    assert decide("tuning_size_settles") is holds


@pytest.mark.parametrize(("accepted", "holds"), [(14, True), (16, False)])
def test_one_threshold(monkeypatch, accepted, holds):
    inside = torch.arange(1.0, 101.0)
    outside = torch.cat([torch.full((accepted,), 1000.0), torch.zeros(100 - accepted)])
    monkeypatch.setattr(experiments, "test_scores", lambda of, s, t, e: inside if s == RGB else outside)
    assert decide("one_threshold_serves_all") is holds


@pytest.mark.parametrize(("below", "holds"), [([60.0, 70.0], True), ([60.0, 99.0], False), ([60.0, np.nan], True)])
def test_refused_images(monkeypatch, below, holds):
    frame = pd.DataFrame({"tpr": [90, 95], "above": [98.0, 97.0], "below": below})
    monkeypatch.setattr(effects, "accuracy_by_score", lambda *_: frame)
    assert decide("rejected_less_accurate") is holds


def test_a_profile_with_one_id_set_is_told_so():
    alone = dataclasses.replace(DEMO, id_sets=(RGB,))
    for name in ("mmd_anticorrelates", "crops_further_than_resizes", "cifar10_easier_than_cifar100"):
        with pytest.raises(Missing, match="the profile has 1 in-distribution sets, and this takes 2"):
            scorecard.TESTS[name](alone)


def test_the_quantities_of_the_mechanism_are_those_of_the_responses(responded):
    responded(lambda images: answers(5, 1, images=10))
    frame = mechanism.quantities(DEMO.trained(FIRST, RGB), [RGB])
    logits = torch.from_numpy(answers(5, 1, images=10)[0].astype(np.float32))
    assert frame.score.to_numpy() == pytest.approx(odin.softmax_score(logits, 1000.0).numpy())

"""The effects of T, epsilon, threshold and tuning set, against loops over a small world that is computed outright."""

import dataclasses
import math

import measured
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from odinlib import experiments, metrics, odin, profiles, splits, store
from odinlib.errors import UserError
from odinlib.measure import effects

NAMES = ("cifar10", "gaussian", "uniform", "isun")  # only names here: the images are made below
COUNT, HOLDOUT = 60, 20


class World:
    """A small random network and four sets of random images, in place of the artefacts."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 5)).double()
        for parameter in self.network.parameters():
            parameter.data = 2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        self.images = {
            name: (0.15 * place + torch.rand(COUNT, 2, 2, 2, generator=generator)).double()
            for place, name in enumerate(NAMES)
        }
        with torch.no_grad():
            predicted = self.network(self.images["cifar10"]).argmax(1)
        wrong = torch.rand(COUNT, generator=generator) < 0.3
        self.labels = torch.where(wrong, (predicted + 1) % 5, predicted).numpy()

    def scores(self, images: torch.Tensor, temperature: float, epsilon: float) -> torch.Tensor:
        """S of Equation 1 at the image of Equation 2, written out."""
        x = images.clone().requires_grad_()
        torch.log(torch.softmax(self.network(x) / temperature, 1).amax(1)).sum().backward()
        moved = images - epsilon * torch.sign(-x.grad)
        return torch.softmax(self.network(moved).detach() / temperature, 1).amax(1)


@pytest.fixture
def world(monkeypatch):
    made = World()
    profile = dataclasses.replace(
        profiles.PAPER,
        temperatures=(1.0, 10.0, 1000.0),
        epsilons=(0.0, 0.02, 0.05),
        fixed_epsilon=0.02,
        holdout=HOLDOUT,
        split="random",
        tuning_sizes=(5, 15, 30),
        resamples=50,
    )

    def order(images):
        return splits.draw(profile.split, images, profile.seed).order(COUNT)

    def responses(_of, images, indices=None):
        indices = np.arange(COUNT) if indices is None else indices
        with torch.no_grad():
            logits = made.network(made.images[images][indices]).numpy()
        labels = made.labels[indices] if images == "cifar10" else None
        return store.Responses(logits, np.zeros(len(logits)), np.zeros(len(logits)), labels)

    def clean(of, images, indices=None):
        return measured.clean(responses(of, images, indices))

    def scores(_of, images, settings, indices):
        found = made.images[images][indices]
        return torch.stack([odin.sweep(made.network, found, [t], [e])[0, 0] for t, e in settings])

    def tested(of, images, settings=None, holdout=None):
        return order(images)[holdout or of.profile.holdout :]

    def grid(of, images, count=None):
        held = made.images[images][order(images)[: count or of.profile.holdout]]
        return odin.sweep(made.network, held, of.profile.temperatures, of.profile.epsilons)

    def curve(of, images, temperatures=None):
        test = made.images[images][tested(of, images)]
        return odin.sweep(made.network, test, temperatures or (1.0, of.profile.fixed_temperature), of.profile.epsilons)

    def test_scores(of, images, temperature, epsilon, among=None):
        return scores(of, images, [(temperature, epsilon)], tested(of, images) if among is None else among)[0]

    for module, functions in ((store, (responses, clean, scores)), (experiments, (tested, grid, curve, test_scores))):
        for function in functions:
            monkeypatch.setattr(module, function.__name__, function)
    monkeypatch.setattr(experiments, "class_count", lambda of: 5)
    made.profile, made.of = profile, profile.trained("net", "cifar10", "authors")
    made.test = lambda images, holdout=HOLDOUT: made.images[images][order(images)[holdout:]]
    made.held = lambda images, holdout=HOLDOUT: made.images[images][order(images)[:holdout]]
    return made


def fpr(scores_in, scores_out, tpr=0.95):
    """The least share of foreign images accepted by a threshold that accepts the wanted share of familiar ones."""
    wanted = [t for t in scores_in if (scores_in >= t).double().mean() >= tpr - 1e-9]
    return 100 * min((scores_out >= t).double().mean().item() for t in wanted)


def best(world, foreign, familiar, tpr=0.95):
    """The least FPR on held-out images over the grid."""
    return min(
        fpr(world.scores(familiar, t, e), torch.cat([world.scores(f, t, e) for f in foreign]), tpr)
        for t in world.profile.temperatures
        for e in world.profile.epsilons
    )


def test_temperature_effect_is_that_of_clean_softmax_scores(world):
    measured = effects.temperature_effect(world.of, NAMES[1:])
    assert len(measured) == 9
    for row in measured.itertuples():
        pair = [world.scores(world.test(s), row.temperature, 0) for s in ("cifar10", row.ood_set)]
        assert row.fpr == pytest.approx(fpr(*pair), abs=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_epsilon_effect_moves_the_images(world, temperature):
    measured = effects.epsilon_effect(world.of, NAMES[1:], temperature)
    expected = [
        fpr(*(world.scores(world.test(s), temperature, e) for s in ("cifar10", ood_set)))
        for ood_set in NAMES[1:]
        for e in world.profile.epsilons
    ]
    np.testing.assert_allclose(measured.fpr, expected, atol=1e-9)
    assert measured.fpr.nunique() > 3  # the world is not so easy that every rate is the same


def test_threshold_effect_counts_the_images_above(world):
    thresholds, shares, delta = effects.threshold_effect(world.of, NAMES[1:], points=37)
    assert list(shares) == list(NAMES)
    for name, share in shares.items():
        scores = world.scores(world.test(name), 1000.0, 0.02)
        expected = [100 * sum(s.item() > t for s in scores) / len(scores) for t in thresholds]
        # the two ways to compute S differ in the last digit, which moves an image that lies on a threshold
        np.testing.assert_allclose(share[1:-1], expected[1:-1], atol=1e-9)
        assert (np.diff(share) <= 0).all()
    familiar = world.scores(world.test("cifar10"), 1000.0, 0.02)
    accepted = (familiar > delta).double().mean().item()
    assert 0.95 <= accepted < 0.95 + 1 / len(familiar)


def test_transfer_tunes_on_one_set_and_tests_on_another(world):
    measured = effects.transfer(world.of, NAMES[1:3], tuning_sets=NAMES[1:])
    assert len(measured) == 6
    for row in measured.itertuples():
        reached = fpr(*(world.scores(world.held(s), row.temperature, row.epsilon) for s in ("cifar10", row.tuning_set)))
        assert reached == pytest.approx(best(world, [world.held(row.tuning_set)], world.held("cifar10")))
        pair = [world.scores(world.test(s), row.temperature, row.epsilon) for s in ("cifar10", row.ood_set)]
        assert row.odin == pytest.approx(fpr(*pair))
        assert row.baseline == pytest.approx(
            fpr(*(world.scores(world.test(s), 1.0, 0.0) for s in ("cifar10", row.ood_set)))
        )


def test_transfer_takes_what_was_chosen_already(world, monkeypatch):
    whole = effects.transfer(world.of, NAMES[1:3], tuning_sets=NAMES[1:])
    chosen = {s: experiments.tune(world.of, s) for s in NAMES[1:]}
    monkeypatch.setattr(experiments, "tune", None)
    pd.testing.assert_frame_equal(effects.transfer(world.of, NAMES[1:3], chosen), whole)


def test_tuning_rules(world):
    measured = effects.tuning_rules(world.of, NAMES[1:])
    assert set(measured.rule) == set(effects.RULES)
    for row in measured.itertuples():
        pair = [world.scores(world.test(s), row.temperature, row.epsilon) for s in ("cifar10", row.ood_set)]
        assert row.fpr == pytest.approx(fpr(*pair))
    indexed = measured.set_index(["rule", "ood_set"])
    assert (indexed.loc["own", ["price", "low", "high"]] == 0).all(axis=None)
    assert indexed.loc["baseline"].tuning_fpr.isna().all()
    for ood_set in NAMES[1:]:
        others = [world.held(s) for s in NAMES[1:] if s != ood_set]
        assert indexed.tuning_fpr["own", ood_set] == pytest.approx(
            best(world, [world.held(ood_set)], world.held("cifar10"))
        )
        assert indexed.tuning_fpr["others", ood_set] == pytest.approx(best(world, others, world.held("cifar10")))
        expected = indexed.fpr["fixed", ood_set] - indexed.fpr["own", ood_set]
        assert indexed.price["fixed", ood_set] == pytest.approx(expected)


def test_some_rules_are_measured_without_the_scores_of_the_others(world, monkeypatch):
    whole = effects.tuning_rules(world.of, NAMES[1:])
    settings = effects.rule_settings(world.of, NAMES[1:])
    assert list(settings) == [(ood_set, rule) for ood_set in NAMES[1:] for rule in effects.RULES]
    rules = ["fixed", "baseline"]
    needed = {(s.temperature, s.epsilon) for (_, rule), s in settings.items() if rule in ("own", *rules)}
    recorded = experiments.test_scores

    def scores(of, images, *setting):
        assert setting in needed
        return recorded(of, images, *setting)

    monkeypatch.setattr(experiments, "test_scores", scores)
    some = effects.tuning_rules(world.of, NAMES[1:], rules)
    assert set(some.rule) == set(rules)
    order = ["ood_set", "rule"]
    pd.testing.assert_frame_equal(
        some.sort_values(order, ignore_index=True),
        whole[whole.rule.isin(rules)].sort_values(order, ignore_index=True),
    )


def test_the_familiar_rule_knows_no_foreign_image(world):
    means = effects.mean_scores(world.of)
    assert (means.temperature == 1000).all()
    raised = [world.scores(world.held("cifar10"), 1000.0, e) for e in world.profile.epsilons]
    margins = [(1000 * torch.log(4 * s / (1 - s))).mean().item() for s in raised]
    np.testing.assert_allclose(means.score, margins, rtol=1e-8)
    first = effects.tuning_rules(world.of, NAMES[1:3]).set_index("rule")
    second = effects.tuning_rules(world.of, NAMES[2:]).set_index("rule")
    expected = world.profile.epsilons[int(np.argmax(margins))]
    assert {*first.loc["familiar"].epsilon, *second.loc["familiar"].epsilon} == {expected}


def test_tuning_size_uses_the_beginning_and_tests_on_the_rest(world):
    measured = effects.tuning_size_effect(world.of, NAMES[1:])
    assert len(measured) == 9
    for row in measured.itertuples():
        chosen = [world.held(s, 30)[: row.size] for s in ("cifar10", row.ood_set)]
        reached = fpr(*(world.scores(part, row.temperature, row.epsilon) for part in chosen))
        assert reached == pytest.approx(best(world, [chosen[1]], chosen[0]))
        rest = [world.test(s, 30) for s in ("cifar10", row.ood_set)]
        assert row.fpr == pytest.approx(fpr(*(world.scores(part, row.temperature, row.epsilon) for part in rest)))
    size = world.profile.tuning_sizes[1]
    some = effects.tuning_size_effect(world.of, NAMES[1:], [size])
    pd.testing.assert_frame_equal(some, measured[measured["size"] == size].reset_index(drop=True))


def test_tuning_sizes_below_the_holdout_leave_the_test_images_alone(world):
    measured = effects.tuning_size_effect(world.of.among(tuning_sizes=(5, 10)), NAMES[1:2])
    for row in measured.itertuples():
        rest = [world.scores(world.test(s), row.temperature, row.epsilon) for s in ("cifar10", row.ood_set)]
        assert row.fpr == pytest.approx(fpr(*rest))


def test_accuracy_above_and_below_the_threshold(world):
    measured = effects.accuracy_by_score(world.of, rates=(0.5, 0.8, 0.95, 1.0))
    scores = world.scores(world.test("cifar10"), 1000.0, 0.02)
    test = splits.draw("random", "cifar10", 0).order(COUNT)[HOLDOUT:]
    with torch.no_grad():
        right = world.network(world.images["cifar10"][test]).argmax(1).numpy() == world.labels[test]
    order = np.argsort(-scores.numpy())
    for row in measured.itertuples():
        kept = math.ceil(row.tpr / 100 * len(order) - 1e-9)
        assert row.above == pytest.approx(100 * right[order[:kept]].mean())
        if kept < len(order):
            assert row.below == pytest.approx(100 * right[order[kept:]].mean())
        else:
            assert math.isnan(row.below)


VARIANTS = ("isun", "isun-box", "isun-lanczos")


@pytest.fixture
def resampled(world):
    """The world with three foreign sets that go by the names of variants of one."""
    world.images |= dict(zip(VARIANTS, (world.images[name] for name in NAMES[1:]), strict=True))
    return world


def test_filter_effect_compares_the_methods_on_each_variant(resampled):
    measured = effects.filter_effect(resampled.of, VARIANTS)
    assert list(measured.ood_set) == [name for name in VARIANTS for _ in effects.FILTER_METHODS]
    assert list(measured["filter"].unique()) == ["nearest", "box", "lanczos"]
    for row in measured.itertuples():
        pair = [resampled.scores(resampled.test(s), row.temperature, row.epsilon) for s in ("cifar10", row.ood_set)]
        assert row.fpr == pytest.approx(fpr(*pair))
        assert row.auroc == pytest.approx(100 * metrics.auroc(*pair).item())
        assert (row.images_in, row.images_out) == (COUNT - HOLDOUT, COUNT - HOLDOUT)
    by = measured.set_index(["method", "ood_set"])
    assert {(r.temperature, r.epsilon) for r in by.loc["baseline"].itertuples()} == {(1.0, 0.0)}
    assert {(r.temperature, r.epsilon) for r in by.loc["temperature"].itertuples()} == {(1000.0, 0.0)}
    assert {(r.temperature, r.epsilon) for r in by.loc["odin"].itertuples()} == {(1000.0, 0.02)}
    curve = effects.epsilon_effect(resampled.of, VARIANTS, 1000.0)
    least = curve.groupby("ood_set").fpr.min()
    assert by.loc["best"].fpr.to_dict() == pytest.approx(least.to_dict())
    assert measured.fpr.nunique() > 3


def test_gains_are_differences_with_paired_intervals(resampled):
    measured = effects.filter_effect(resampled.of, VARIANTS).set_index(["ood_set", "method"])
    for (ood_set, method), row in measured.iterrows():
        assert row.gain == pytest.approx(measured.loc[(ood_set, "baseline"), "fpr"] - row.fpr)
        assert row.added == pytest.approx(measured.loc[(ood_set, "temperature"), "fpr"] - row.fpr)
        assert row.lost == pytest.approx(measured.loc[(VARIANTS[0], method), "gain"] - row.gain)
    for column in ("fpr", "auroc", "gain", "added", "lost"):
        assert (measured[f"{column}_low"] <= measured[f"{column}_high"]).all()
    nothing = measured.xs("baseline", level="method")[["gain", "gain_low", "gain_high"]]
    assert (nothing == 0).all(axis=None)  # the same images are drawn on both sides of a difference
    assert (measured.loc[VARIANTS[0], ["lost", "lost_low", "lost_high"]] == 0).all(axis=None)
    profile = resampled.profile
    drawn = [
        metrics.bootstrap(
            *(resampled.scores(resampled.test(s), *setting) for s in ("cifar10", "isun-box")),
            resamples=profile.resamples,
            tpr=profile.tpr,
            seed=profile.seed,
        )["fpr"]
        for setting in ((1.0, 0.0), (1000.0, 0.02))
    ]
    low, high = metrics.interval(drawn[0] - drawn[1])
    row = measured.loc[("isun-box", "odin")]
    assert (row.gain_low, row.gain_high) == pytest.approx((100 * low, 100 * high))


def test_filter_effect_needs_its_settings_on_the_grid(resampled):
    for epsilons in ((0.02, 0.05), (0.0, 0.05)):
        with pytest.raises(UserError, match="epsilons has no 0"):
            effects.filter_effect(resampled.of.among(epsilons=epsilons), VARIANTS)

"""The paper's measures against scikit-learn, on random, tied, constant and tiny inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from odinlib import metrics
from odinlib.errors import UserError

few_values = st.lists(st.integers(-5, 5), min_size=1, max_size=40)
many_values = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=40)
either = few_values | many_values


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


def reference(scores_in, scores_out, tpr=0.95, balanced=False):
    labels = np.r_[np.ones(len(scores_in)), np.zeros(len(scores_out))]
    scores = np.r_[scores_in, scores_out].astype(float)
    fprs, tprs, _ = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    first = np.flatnonzero(tprs >= tpr - 1e-12)[0]
    weights = np.where(labels == 1, len(scores_out), len(scores_in)) if balanced else np.ones(len(labels))
    return {
        "fpr": fprs[first],
        "detection_error": 0.5 * (1 - tprs[first]) + 0.5 * fprs[first],
        "auroc": roc_auc_score(labels, scores),
        "aupr_in": average_precision_score(labels, scores, sample_weight=weights),
        "aupr_out": average_precision_score(1 - labels, -scores, sample_weight=weights),
    }


@settings(max_examples=200, deadline=None)
@given(either, either, st.booleans())
def test_every_measure_equals_scikit_learn(scores_in, scores_out, balanced):
    ours = metrics.evaluate(exact(scores_in), exact(scores_out), balanced=balanced)
    for name, value in reference(scores_in, scores_out, balanced=balanced).items():
        assert ours[name].item() == pytest.approx(value, abs=1e-12), name


@settings(max_examples=100, deadline=None)
@given(either, either, st.booleans())
def test_the_other_kind_as_the_positive_one_equals_scikit_learn(scores_in, scores_out, balanced):
    ours = metrics.evaluate(exact(scores_in), exact(scores_out), balanced=balanced, positive="out")
    theirs = reference(-np.array(scores_out, float), -np.array(scores_in, float), balanced=balanced)
    for name, role in {"aupr_in": "aupr_out", "aupr_out": "aupr_in"}.items():
        assert ours[name].item() == pytest.approx(theirs[role], abs=1e-12)
    for name in ("fpr", "detection_error", "auroc"):
        assert ours[name].item() == pytest.approx(theirs[name], abs=1e-12)
    assert metrics.fpr_at_tpr(exact(scores_in), exact(scores_out), positive="out") == ours["fpr"]
    assert metrics.detection_error(exact(scores_in), exact(scores_out), positive="out") == ours["detection_error"]


def test_resamples_know_the_other_kind_too():
    scores_in, scores_out = torch.randn(300, generator=torch.Generator().manual_seed(0)) + 1, torch.randn(200)
    options = {"resamples": 50, "positive": "out"}
    found = metrics.bootstrap(scores_in, scores_out, **options)
    swapped = metrics.bootstrap(-scores_out, -scores_in, resamples=50)
    assert torch.equal(found["fpr"], swapped["fpr"]) and torch.equal(found["aupr_in"], swapped["aupr_out"])
    assert list(metrics.bootstrap(scores_in, scores_out, names=["aupr_out"], **options)) == ["aupr_out"]
    with pytest.raises(UserError, match="positive is 'ood'; expected one of in, out"):
        metrics.evaluate(scores_in, scores_out, positive="ood")


@pytest.mark.parametrize("name", metrics.METRICS)
def test_single_functions_agree_with_evaluate(name):
    torch.manual_seed(0)
    scores_in, scores_out = torch.randn(3, 50).round(decimals=1) + 1, torch.randn(3, 70).round(decimals=1)
    function = {"fpr": metrics.fpr_at_tpr}.get(name) or getattr(metrics, name)
    assert torch.equal(function(scores_in, scores_out), metrics.evaluate(scores_in, scores_out)[name])


def test_leading_dimensions_are_settings():
    torch.manual_seed(1)
    scores_in, scores_out = torch.randn(2, 3, 40), torch.randn(2, 3, 30)
    together = metrics.evaluate(scores_in, scores_out)
    for a in range(2):
        for b in range(3):
            alone = metrics.evaluate(scores_in[a, b], scores_out[a, b])
            assert all(together[name][a, b] == alone[name] for name in metrics.METRICS)


@given(few_values, few_values)
def test_measures_depend_on_ranks_only(scores_in, scores_out):
    plain = metrics.evaluate(exact(scores_in), exact(scores_out))
    bent = metrics.evaluate(exact(scores_in).exp(), exact(scores_out).exp())
    assert all(torch.equal(plain[name], bent[name]) for name in metrics.METRICS)


@given(either, either)
def test_auroc_of_swapped_roles_is_the_complement(scores_in, scores_out):
    one = metrics.auroc(exact(scores_in), exact(scores_out)).item()
    other = metrics.auroc(exact(scores_out), exact(scores_in)).item()
    assert one + other == pytest.approx(1, abs=1e-12)


def test_perfect_reversed_and_constant_scores():
    high, low = torch.arange(20.0) + 100, torch.arange(20.0)
    assert metrics.evaluate(high, low)["fpr"] == 0 and metrics.evaluate(high, low)["auroc"] == 1
    assert metrics.evaluate(low, high)["fpr"] == 1 and metrics.evaluate(low, high)["auroc"] == 0
    same = metrics.evaluate(torch.ones(20), torch.ones(20))
    assert same["fpr"] == 1 and same["auroc"] == 0.5 and same["detection_error"] == 0.5


def test_threshold_accepts_the_wanted_share_by_the_strict_rule():
    torch.manual_seed(2)
    scores_in, scores_out = torch.randn(1000, dtype=torch.float64) + 1, torch.randn(500, dtype=torch.float64)
    threshold = metrics.threshold_at_tpr(scores_in)
    assert (scores_in > threshold).double().mean() == 0.95
    assert (scores_out > threshold).double().mean() == metrics.fpr_at_tpr(scores_in, scores_out)


def test_roc_curve_integrates_to_auroc():
    torch.manual_seed(3)
    scores_in, scores_out = torch.randn(300) + 1, torch.randn(200)
    fpr, tpr = metrics.roc_curve(scores_in, scores_out)
    assert torch.trapezoid(tpr, fpr).item() == pytest.approx(metrics.auroc(scores_in, scores_out).item(), abs=3e-3)
    assert fpr[0] == 0 and fpr[-1] == 1 and (fpr.diff() >= 0).all() and (tpr.diff() >= 0).all()


def test_authors_conventions_equal_their_grid_in_the_limit():
    torch.manual_seed(4)
    scores_in, scores_out = torch.randn(9000).double() + 1.5, torch.randn(9000).double()
    thresholds = torch.linspace(-4, 6, 400_001, dtype=torch.float64)
    tpr = 1 - torch.searchsorted(scores_in.sort().values, thresholds).double() / 9000
    fpr = 1 - torch.searchsorted(scores_out.sort().values, thresholds).double() / 9000
    near = (tpr >= 0.9495) & (tpr <= 0.9505)
    ours = metrics.fpr_at_tpr(scores_in, scores_out, convention="authors").item()
    assert ours == pytest.approx(fpr[near].mean().item(), abs=2e-4)
    error = metrics.detection_error(scores_in, scores_out, convention="authors").item()
    assert error == pytest.approx((0.5 * (1 - tpr) + 0.5 * fpr).min().item(), abs=1e-4)
    assert error < metrics.detection_error(scores_in, scores_out).item()


def test_unit_weights_give_the_plain_measures():
    torch.manual_seed(5)
    scores_in, scores_out = torch.randn(60).round(decimals=1), torch.randn(40).round(decimals=1)
    counts = metrics._count(scores_in, scores_out)
    weighted = metrics._weighted(counts, torch.ones(1, 60), torch.ones(1, 40), 0.95)
    for name, value in metrics.evaluate(scores_in, scores_out).items():
        assert weighted[name].item() == pytest.approx(value.item(), abs=1e-6), name


def test_bootstrap_equals_resampling_one_by_one():
    torch.manual_seed(6)
    scores_in, scores_out = torch.randn(50).round(decimals=1) + 1, torch.randn(30).round(decimals=1)
    ours = metrics.bootstrap(scores_in, scores_out, resamples=20, seed=9, block=20)
    generator = torch.Generator().manual_seed(9)
    drawn_in = torch.randint(50, (20, 50), generator=generator)
    drawn_out = torch.randint(30, (20, 30), generator=generator)
    plain = metrics.evaluate(scores_in[drawn_in], scores_out[drawn_out])
    for name in metrics.METRICS:
        assert torch.allclose(ours[name], plain[name], atol=1e-6), name


def test_bootstrap_of_some_measures_is_that_of_all():
    torch.manual_seed(6)
    scores_in, scores_out = torch.randn(50) + 1, torch.randn(30)
    every = metrics.bootstrap(scores_in, scores_out, resamples=20, seed=9)
    for names in (("fpr",), ("auroc", "fpr")):
        found = metrics.bootstrap(scores_in, scores_out, resamples=20, seed=9, names=names)
        assert tuple(found) == names
        assert all(torch.equal(found[name], every[name]) for name in names)
    with pytest.raises(UserError, match="measure is 'fprs'"):
        metrics.bootstrap(scores_in, scores_out, names=("fprs",))


def test_bootstrap_interval_covers_the_truth():
    generator = torch.Generator().manual_seed(7)
    truth = 0.5 * (1 + torch.erf(torch.tensor(0.5))).item()  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    covered = 0
    for repeat in range(60):
        scores_in = torch.randn(150, generator=generator) + 1
        scores_out = torch.randn(150, generator=generator)
        low, high = metrics.interval(metrics.bootstrap(scores_in, scores_out, resamples=200, seed=repeat)["auroc"])
        covered += low <= truth <= high
    assert 50 <= covered <= 60


def test_equal_seeds_draw_equal_images_whatever_the_scores():
    torch.manual_seed(8)
    scores_in, scores_out = torch.randn(40), torch.randn(40)
    plain = metrics.bootstrap(scores_in, scores_out, resamples=10, seed=1)
    bent = metrics.bootstrap(scores_in.exp(), scores_out.exp(), resamples=10, seed=1)
    assert all(torch.equal(plain[name], bent[name]) for name in metrics.METRICS)


@pytest.mark.parametrize(
    ("scores_in", "scores_out", "words"),
    [
        (torch.empty(0), torch.ones(3), "scores_in is empty"),
        (torch.ones(3), torch.tensor([1.0, float("nan")]), "NaN"),
        (torch.ones(2, 3), torch.ones(3, 3), "leading dimensions"),
    ],
)
def test_impossible_scores_are_named(scores_in, scores_out, words):
    with pytest.raises(UserError, match=words):
        metrics.evaluate(scores_in, scores_out)


def test_impossible_rate_is_named():
    with pytest.raises(UserError, match=r"tpr is 1\.5"):
        metrics.fpr_at_tpr(torch.ones(3), torch.ones(3), tpr=1.5)


def test_balanced_precision_does_not_hang_on_how_many_images_there_are():
    """Every out-of-distribution image ten times over: what weighs both kinds alike stays as it was."""
    generator = torch.Generator().manual_seed(0)
    inside, outside = torch.randn(300, generator=generator) + 1, torch.randn(200, generator=generator)
    once, tenfold = (metrics.evaluate(inside, many, balanced=True) for many in (outside, outside.repeat(10)))
    for name in metrics.METRICS:
        assert tenfold[name].item() == pytest.approx(once[name].item(), abs=1e-12)
    plain = metrics.aupr_in(inside, outside.repeat(10)).item()
    assert plain < once["aupr_in"].item() - 0.1
    assert metrics.aupr_in(inside, outside, balanced=True) == once["aupr_in"]
    assert metrics.aupr_out(inside, outside, balanced=True) == once["aupr_out"]


def test_balanced_precision_of_resampled_images_is_that_of_the_images_drawn():
    generator = torch.Generator().manual_seed(0)
    inside, outside = torch.randn(60, generator=generator) + 1, torch.randn(40, generator=generator)
    found = metrics.bootstrap(inside, outside, resamples=3, seed=4, balanced=True)
    draws = torch.Generator().manual_seed(4)
    chosen_in, chosen_out = (torch.randint(count, (3, count), generator=draws) for count in (60, 40))
    for row in range(3):
        alone = metrics.evaluate(inside[chosen_in[row]], outside[chosen_out[row]], balanced=True)
        for name in metrics.METRICS:
            assert found[name][row].item() == pytest.approx(alone[name].item(), abs=1e-6), name


# --- The curve and the number, and kinds of arrays --------------------------------------------------------------------

few_values = st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.5]), min_size=1, max_size=12)
any_values = st.lists(st.floats(-5, 5, width=16), min_size=1, max_size=12)


@given(st.one_of(few_values, any_values), st.one_of(few_values, any_values))
def test_the_area_under_the_roc_curve_is_auroc(inside, outside):
    """With all ties: within each kind and between them."""
    fpr, tpr = metrics.roc_curve(torch.tensor(inside), torch.tensor(outside))
    assert len(fpr) == len(tpr) == 2 * len(inside) + 2
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (fpr.diff() >= 0).all() and (tpr.diff() >= 0).all()
    area = torch.trapezoid(tpr, fpr).item()
    assert area == pytest.approx(metrics.auroc(torch.tensor(inside), torch.tensor(outside)).item(), abs=1e-12)


@given(st.one_of(few_values, any_values), st.one_of(few_values, any_values), st.booleans())
def test_the_area_under_the_precision_recall_curve_is_the_average_precision(inside, outside, balanced):
    inside, outside = torch.tensor(inside), torch.tensor(outside)
    for number, pair in ((metrics.aupr_in, (inside, outside)), (metrics.aupr_out, (-outside, -inside))):
        recall, precision = metrics.precision_recall_curve(*pair, balanced)
        steps = torch.diff(recall, prepend=torch.zeros(1))
        assert recall[-1] == 1 and (steps >= 0).all() and (precision > 0).all()
        expected = number(inside, outside, balanced).item()
        assert (steps * precision).sum().item() == pytest.approx(expected, abs=1e-12)


def test_the_curves_corners_are_scikit_learns():
    inside, outside = torch.tensor([1.0, 2, 2, 3, 5]), torch.tensor([0.0, 2, 2, 4])
    labels, scores = np.array([1] * 5 + [0] * 4), torch.cat([inside, outside]).numpy()
    fprs, tprs, _ = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    corners = {(f, t) for f, t in zip(*(rate.tolist() for rate in metrics.roc_curve(inside, outside)), strict=True)}
    assert {(f, t) for f, t in zip(fprs.tolist(), tprs.tolist(), strict=True)} <= corners


def kinds_of_arrays(scores):
    array = scores.numpy()
    yield array
    yield array.tolist()
    yield array.astype(">f8")
    yield array[::-1].copy()[::-1]
    yield np.repeat(array, 2)[::2]
    yield scores.clone().requires_grad_()
    yield (scores.clone().requires_grad_() * 1.0).flip(0).flip(0)
    yield scores.float()


@pytest.mark.parametrize("which", range(8))
def test_scores_may_be_arrays_of_every_kind(which):
    inside = (torch.randn(50, generator=torch.Generator().manual_seed(0)).double() + 1).float().double()
    outside = torch.randn(40, generator=torch.Generator().manual_seed(1))
    expected = metrics.evaluate(inside, outside)
    given = list(kinds_of_arrays(inside))[which], list(kinds_of_arrays(outside))[which]
    assert {n: v.item() for n, v in metrics.evaluate(*given).items()} == {n: v.item() for n, v in expected.items()}
    assert metrics.threshold_at_tpr(given[0]) == metrics.threshold_at_tpr(inside)
    drawn, known = metrics.bootstrap(*given, resamples=3), metrics.bootstrap(inside, outside, resamples=3)
    assert all(torch.equal(drawn[name], known[name]) for name in known)
    assert metrics.interval(given[0]) == metrics.interval(inside)


@pytest.mark.parametrize("wrong", [[], [np.nan], [np.inf, 1.0], ["a"], None, [1j], 3.0, [[]]])
def test_what_are_no_scores_is_told(wrong):
    for pair in ((wrong, [1.0, 2.0]), ([1.0, 2.0], wrong)):
        for measure in (metrics.auroc, metrics.fpr_at_tpr, metrics.roc_curve, metrics.precision_recall_curve):
            with pytest.raises(UserError) as caught:
                measure(*pair)
            assert "\n" not in str(caught.value)

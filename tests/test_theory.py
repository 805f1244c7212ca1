"""The derivations against numbers: every step evaluated on random gaps, every limit and slope measured."""

import math
import random
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from odinlib import moments, odin, theory
from odinlib.errors import UserError
from odinlib.measure import limits

GAPS = [0.3, 1.1, 2.0, 4.5]  # of an image, to four other classes
LOGITS = torch.tensor([[7.0, *(7.0 - gap for gap in GAPS)]], dtype=torch.float64)
CLASSES = len(GAPS) + 1


def value(expression, temperature, **extra):
    """An expression of `theory` on GAPS, sums over classes written out."""
    numbers = {theory.N: CLASSES, theory.OTHERS: CLASSES - 1, theory.T: sp.Rational(temperature)}
    numbers |= {theory.moment(k): sp.Rational(sum(sp.Rational(gap) ** k for gap in GAPS), len(GAPS)) for k in (1, 2, 3)}
    numbers[theory.V] = numbers[theory.moment(2)] - numbers[theory.moment(1)] ** 2
    written = expression.replace(
        lambda part: isinstance(part, sp.Sum),
        lambda part: sp.Add(*(part.function.subs(theory.GAP[part.limits[0][0]], sp.Rational(gap)) for gap in GAPS)),
    )
    return written.subs(numbers).subs(extra)


def exact(temperature):
    return 1 / (1 + sp.Add(*(sp.exp(-sp.Rational(gap) / sp.Rational(temperature)) for gap in GAPS)))


def without_rest(side):
    """A right-hand side without its O(...), which stands as a function named O."""
    return side.replace(lambda part: getattr(part, "name", "") == "O", lambda part: sp.Integer(0))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_step_of_the_expansion_is_off_by_the_next_order(order):
    inverse, _, summed, in_moments, cut = theory.taylor(order)
    assert abs(sp.N(value(inverse.expression.rhs, 3) - 1 / exact(3))) < 1e-14
    for step in (summed, in_moments):
        off = [sp.N(abs(value(without_rest(step.expression.rhs), t) - 1 / exact(t)), 30) for t in (1000, 10000)]
        assert float(sp.log(off[0] / off[1], 10)) == pytest.approx(order + 1, abs=0.01)
    found = limits.truncated_score(LOGITS, 3.0, order)[0]
    assert float(value(cut.expression.rhs, 3)) == pytest.approx(found, rel=1e-12)


def test_equation_3_is_the_paper_s():
    n, t, u1, u2 = theory.N, theory.T, theory.moment(1), theory.moment(2)
    papers = n - (n - 1) * u1 / t + (n - 1) * u2 / (2 * t**2)
    assert sp.simplify(theory.denominator(2).subs(theory.OTHERS, n - 1) - papers) == 0
    assert r"\frac{U_{2} (N - 1)}{2 T^{2}}" in theory.taylor()[-1].latex


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_expansion_of_the_score_itself(order):
    off = [sp.N(abs(value(theory.score(order), t) - exact(t)), 30) for t in (1000, 10000)]
    assert float(sp.log(off[0] / off[1], 10)) == pytest.approx(order + 1, abs=0.01)


def test_three_statistics_share_the_variance_and_differ_in_the_square_of_u1():
    steps = theory.statistics()[1:]
    multiples = []
    for definition, expanded in zip(steps[::2], steps[1::2], strict=True):
        right = without_rest(expanded.expression.rhs)
        off = [
            sp.N(abs(value(definition.expression.rhs.subs(theory.S, exact(t)), t) - value(right, t)), 30)
            for t in (1000, 10000)
        ]
        assert float(sp.log(off[0] / off[1], 10)) == pytest.approx(2, abs=0.01)
        behind = sp.expand(-2 * theory.T * (right - theory.moment(1)))
        assert sp.simplify(behind.coeff(theory.V) - 1) == 0
        multiples.append(sp.simplify(behind.coeff(theory.moment(1) ** 2)))
    assert multiples[0] == 1 and multiples[2] == 0
    assert sp.simplify(multiples[1] - (2 / theory.N - 1)) == 0


def test_every_equation_between_numbers_holds():
    """Steps without limits, derivatives or rests, evaluated: both sides agree, chains rise."""
    t = 3
    scores = {theory.S: exact(t)}
    scores |= {theory.truncated(k): value(1 / theory.denominator(k), t) for k in (1, 2)}
    checked = 0
    for step in [*theory.remainder_bound()[3:], *theory.proposition_1(), *theory.moments()]:
        parts = step.expression if isinstance(step.expression, tuple) else step.expression.args
        numbers = [value(part.subs(scores), t) for part in parts]
        if any(part.has(sp.Limit, sp.Derivative) or part.free_symbols for part in numbers):
            continue
        numbers = [float(number) for number in numbers]
        checked += 1
        if isinstance(step.expression, tuple):
            assert numbers == sorted(numbers), step.caption
        else:
            assert numbers[0] == pytest.approx(numbers[1]), step.caption
    assert checked == 11


def test_steps_become_a_page():
    text = theory.page(theory.taylor())
    assert text.count("$$") == 10 and "N - 1" in text and "-1 + N" not in text
    for steps in (theory.perturbation(), theory.two_classes(), theory.proposition_1(), theory.moments()):
        assert all(step.caption and step.latex for step in steps)
    assert r"\le" in theory.remainder_bound()[-1].latex


@pytest.mark.parametrize(("order", "slope"), [(1, -2), (2, -3), (3, -4)])
def test_slope_of_the_remainder(order, slope):
    logits = np.random.default_rng(0).normal(0, 5, (20, 10))
    temperatures = np.logspace(3, 6, 7)
    found = np.abs(limits.remainder(logits, temperatures, order))
    for image in found.T:
        assert moments.slope(temperatures, image) == pytest.approx(slope, abs=0.05)


def test_remainder_is_the_difference_and_has_the_sign_and_size_that_are_proved():
    logits = np.random.default_rng(1).normal(0, 3, (50, 7))
    for temperature in (0.5, 2.0, 10.0, 50.0):
        score = odin.softmax_score(torch.from_numpy(logits), temperature).numpy()
        found = limits.remainder(logits, [temperature])[0]
        cut = limits.truncated_score(logits, temperature)
        np.testing.assert_allclose(found, score - cut, rtol=1e-9, atol=1e-13)
        cubes = ((logits.max(1, keepdims=True) - logits) ** 3).sum(1)
        assert (found >= 0).all() and (found <= score * cut * cubes / (6 * temperature**3)).all()


def test_valid_from_is_where_the_relative_error_is_the_tolerance():
    logits = np.random.default_rng(2).normal(0, 3, (30, 5))
    for order in (1, 2):
        found = limits.valid_from(logits, 0.01, order)
        for image, start in zip(logits, found, strict=True):
            score = odin.softmax_score(torch.from_numpy(image), start).item()
            cut = limits.truncated_score(image, start, order)
            assert abs(cut / score - 1) == pytest.approx(0.01, rel=1e-6)
            later = limits.truncated_score(image, 1.5 * start, order)
            assert abs(later / odin.softmax_score(torch.from_numpy(image), 1.5 * start).item() - 1) < 0.01


@pytest.mark.parametrize("classes", range(2, 7))
def test_the_limit_for_a_given_number_of_classes(classes):
    found = theory.explicit_limit(classes)
    assert found == sp.Add(*sp.symbols(f"Delta_1:{classes}", positive=True))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 40), min_size=1, max_size=9), st.floats(0.1, 1000))
def test_the_statistic_rises_with_temperature_and_stays_between_its_bounds(gaps, temperature):
    x = np.array(gaps)

    def sums(t):
        return -t * np.expm1(-x / t).sum()

    assert sums(temperature) <= sums(1.3 * temperature) * (1 + 1e-12)
    assert x.sum() - (x**2).sum() / (2 * temperature) - 1e-9 <= sums(temperature) <= x.sum() * (1 + 1e-12)


def random_logits(seed, shift, count=400, classes=10):
    """Logits whose largest stands out by about `shift`, and whose others differ from image to image."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64) * 2
    logits[torch.arange(count), torch.randint(classes, (count,), generator=generator)] += shift
    return logits * (0.5 + torch.rand(count, 1, generator=generator, dtype=torch.float64))


def test_detection_error_tends_to_that_of_u1():
    inside, outside = random_logits(0, 6.0), random_logits(1, 4.0)
    limit = limits.limit_constant(inside, outside)
    errors = [limits.detection_error(inside, outside, t) for t in (1.0, 10.0, 1e3, 1e5)]
    assert abs(errors[0] - limit) > 0.01  # else there would be nothing to see
    assert errors[-1] == limit
    assert abs(errors[2] - limit) <= 0.005


def test_the_bracket_holds_both_and_closes():
    inside, outside = random_logits(2, 6.0), random_logits(3, 4.0)
    limit = limits.limit_constant(inside, outside)
    widths = []
    for t in (1.0, 3.0, 10.0, 100.0, 1e3, 1e6):
        low, high = limits.error_bracket(inside, outside, t)
        assert low <= limits.detection_error(inside, outside, t) <= high
        assert low <= limit <= high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True) and widths[-1] == 0


def test_temperature_beyond_which_the_error_stands_still():
    inside, outside = random_logits(0, 6.0), random_logits(1, 4.0)
    grid = [1.0, 2.0, 5.0, 10.0, 100.0, 1e3, 1e4, 1e5]
    found = limits.temperature_beyond(inside, outside, random.Random(0).sample(grid, len(grid)), within=0.01)
    assert found is not None and found > 1
    later = [limits.detection_error(inside, outside, t) for t in grid if t >= found]
    later.append(limits.limit_constant(inside, outside))
    assert max(later) - min(later) < 0.01
    earlier = limits.detection_error(inside, outside, grid[grid.index(found) - 1])
    assert max(*later, earlier) - min(*later, earlier) >= 0.01
    assert limits.temperature_beyond(inside, outside, [1.0], within=1e-6) is None


def test_with_two_classes_the_temperature_changes_nothing():
    inside, outside = random_logits(4, 3.0, classes=2), random_logits(5, 1.0, classes=2)
    errors = {limits.detection_error(inside, outside, t) for t in (0.5, 1.0, 30.0, 1000.0)}
    assert errors == {limits.limit_constant(inside, outside)}


def test_the_counter_example():
    """Equal distributions of U1, and limits as different as can be: U1 alone cannot give the constant."""
    tight, wide = (0.0, 0.5), (0.5, 0.0)
    u1 = [[moments.u1(logits) for logits in limits.tied(*spreads)] for spreads in (tight, wide)]
    assert all(torch.equal(a, b) for a, b in zip(*u1, strict=True))
    for t in (1.0, 10.0, 1e3, 1e5):
        assert limits.detection_error(*limits.tied(*tight), t) == pytest.approx(0.025)
        assert limits.detection_error(*limits.tied(*wide), t) == pytest.approx(0.525)
    inside, outside = limits.tied(*wide)
    threshold = torch.sort(moments.u1(inside)).values[math.floor(0.05 * len(inside))]
    assert (moments.u1(outside) > threshold).double().mean() == 0  # what the proof takes for the limit's FPR
    assert (moments.u1(inside) > threshold).double().mean().item() == pytest.approx(0.95, abs=0.0011)


@pytest.mark.parametrize(
    "call",
    [
        lambda: theory.taylor(0),
        lambda: theory.explicit_limit(1),
        lambda: limits.remainder(LOGITS, [0.0]),
        lambda: limits.valid_from(LOGITS, 0),
        lambda: limits.tied(0.3, 0.0),
        lambda: limits.tied(0.5, 0.0, images=5000),
    ],
)
def test_mistakes_are_told(call):
    with pytest.raises(UserError):
        call()


# --- The margin score's bracket, and the moving threshold -------------------------------------------------------------

gap_lists = st.lists(st.floats(0, 60, allow_subnormal=False), min_size=1, max_size=12)
rationals = st.lists(st.fractions(0, 40, max_denominator=64), min_size=1, max_size=8)


def with_gaps(gaps):
    return torch.cat([torch.zeros(1), -torch.tensor(gaps, dtype=torch.float64)])


@given(gap_lists, st.floats(0.05, 1e4))
def test_the_margin_score_lies_in_its_bracket(gaps, temperature):
    logits, slack = with_gaps(gaps), 1e-9
    g = odin.margin_score(logits, temperature).item()
    low, high = limits.margin_bracket(logits, temperature)
    assert low - slack <= g <= high + slack
    u1, u2 = moments.u1(logits), moments.u2(logits)
    second = u1 - (u2 - u1**2) / (2 * temperature)
    assert abs(g - second) <= limits.margin_rest(logits, temperature) + slack


@given(rationals, st.lists(st.integers(1, 20), min_size=8, max_size=8))
def test_the_two_extremal_inequalities_hold_exactly(gaps, weights):
    """Variance <= R^2 / 4 and (third central moment)^2 <= R^6 / 108, under any weights, without rounding."""
    pairs = list(zip(gaps, weights, strict=False))
    whole = sum(w for _, w in pairs)
    mean = sum(w * d for d, w in pairs) / whole
    second, third = (sum(w * (d - mean) ** k for d, w in pairs) / whole for k in (2, 3))
    width = max(gaps) - min(gaps)
    assert second <= width**2 / 4 and third**2 * 108 <= width**6


@given(rationals, st.fractions(Fraction(1, 8), 4000, max_denominator=8))
def test_the_bracket_and_the_expansion_hold_to_sixty_digits(gaps, temperature):
    u1 = sum(gaps) / len(gaps)
    variance = sum(d * d for d in gaps) / len(gaps) - u1**2
    assert variance == sum((d - u1) ** 2 for d in gaps) / len(gaps)
    width = max(gaps) - min(gaps)
    with mpmath.workdps(60):
        exact = [mpmath.mpf(x.numerator) / x.denominator for x in map(Fraction, (u1, variance, width, temperature))]
        first, second, reach, t = exact
        scaled = [mpmath.exp(-mpmath.mpf(d.numerator) / d.denominator / t) for d in map(Fraction, gaps)]
        g = -t * mpmath.log(mpmath.fsum(scaled) / len(gaps))
        slack = mpmath.mpf(10) ** -50
        assert first - reach**2 / (8 * t) - slack <= g <= first + slack
        assert abs(g - first + second / (2 * t)) <= mpmath.sqrt(3) * reach**3 / (108 * t**2) + slack


def test_the_bounds_are_reached_by_two_values():
    """No smaller constants would do: in the limit of a large temperature two values use all of either bound."""
    half = with_gaps([0.0, 1.0])
    low, high = limits.margin_bracket(half, 1e4)
    assert ((high - odin.margin_score(half, 1e4)) / (high - low)).item() == pytest.approx(1, rel=1e-3)
    share = 1000 * (3 - math.sqrt(3)) / 6
    few = with_gaps([1.0] * round(share) + [0.0] * round(1000 - share))
    u1, u2 = moments.u1(few), moments.u2(few)
    rest = odin.margin_score(few, 100.0) - u1 + (u2 - u1**2) / 200
    assert (rest.abs() / limits.margin_rest(few, 100.0)).item() == pytest.approx(1, rel=0.01)


def test_the_steps_of_the_bracket_are_the_numbers_of_the_bracket():
    logits, t = with_gaps([1.0, 4.0, 9.0]), 7.0
    values = {theory.T: t, sp.Symbol("R", positive=True): 8.0, theory.moment(1): moments.u1(logits).item()}
    first, second = (step.expression for step in theory.margin_bracket()[-2:])
    low, high = limits.margin_bracket(logits, t)
    assert float(first[0].subs(values)) == pytest.approx(low.item())
    assert float(first[2].subs(values)) == pytest.approx(high.item())
    assert float(second[1].subs(values)) == pytest.approx(limits.margin_rest(logits, t).item())


def test_the_gradients_of_the_scores_in_the_gaps():
    """By autograd: d log S / d gap = S_i / T, and g's are shares that add up to 1."""
    gaps = torch.tensor([1.0, 2.5, 6.0], dtype=torch.float64, requires_grad=True)
    logits, t = torch.cat([torch.zeros(1, dtype=torch.float64), -gaps]), 2.0
    (by_log,) = torch.autograd.grad(odin.softmax_score(logits, t).log(), gaps, retain_graph=True)
    torch.testing.assert_close(by_log, torch.softmax(logits.detach() / t, 0)[1:] / t)
    (by_margin,) = torch.autograd.grad(odin.margin_score(logits, t), gaps)
    torch.testing.assert_close(by_margin, by_log * t / (1 - odin.softmax_score(logits.detach(), t)))
    assert by_margin.sum().item() == pytest.approx(1)
    for steps in (theory.gradients(), theory.moving_threshold(), theory.margin_bracket()):
        assert all(step.caption and "Function" not in step.latex for step in steps)


def test_beyond_the_proved_temperature_the_error_is_its_limit():
    inside, outside = random_logits(6, 6.0, 200), random_logits(7, 4.0, 200)
    proved = limits.at_rest_from(inside, outside)
    for t in (proved, 10 * proved):
        assert limits.detection_error(inside, outside, t) == limits.limit_constant(inside, outside)
    found = limits.temperature_beyond(inside, outside, list(np.geomspace(1, 10 * proved, 40)), within=1e-9)
    assert found is not None and found <= proved * 1.2


def test_a_quantile_that_is_not_unique_leaves_the_constant_open():
    inside, outside = (moments.u1(x) for x in limits.gapped())
    for a, rate in ((1.0, 1.0), (1.4, 1.0), (1.6, 0.0), (1.9, 0.0)):
        assert (inside > a).double().mean() == 0.95 and (outside > a).double().mean() == rate
    with pytest.raises(UserError, match="multiple of 20"):
        limits.gapped(30)

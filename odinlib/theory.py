"""What happens to the softmax score as the temperature grows: Appendices D, E and F and Section 5.3, derived by SymPy.

Each derivation is a list of steps that a page prints one by one; every right-hand side that can be computed is
computed here, none is typed in. `measure.limits` makes the same statements in numbers, on logits.

Notation. For an image with outputs f and predicted class y, the gaps D_i = f_y - f_i to the N - 1 other classes are
numbered 1 to N - 1; they are at least 0. U_k is the mean of D_i^k, so that U1 and U2 are those of Equation 4, and
V = U2 - U1^2 is the variance of the gaps.
"""

import re
from typing import NamedTuple

import sympy as sp

from odinlib.errors import check_number

N = sp.Symbol("N", integer=True, positive=True)
OTHERS = sp.Symbol("(N - 1)", integer=True, positive=True)  # a symbol, or SymPy writes -(N - 1) as 1 - N
T = sp.Symbol("T", positive=True)
S = sp.Symbol("S", positive=True)
V = sp.Symbol("V", nonnegative=True)
GAP = sp.IndexedBase("Delta", nonnegative=True)
_i, _j, _k = sp.symbols("i j k", integer=True, positive=True)
_h = sp.Symbol("h", positive=True)  # 1 / T
_d = sp.Symbol("Delta", positive=True)  # one gap


class Step(NamedTuple):
    """One line of a derivation."""

    caption: str
    expression: sp.Basic | tuple[sp.Expr, ...]  # several are a chain, each at most the next

    @property
    def latex(self) -> str:
        """The expression for a page, without delimiters."""
        chain = self.expression if isinstance(self.expression, tuple) else (self.expression,)
        text = r" \le ".join(sp.latex(part, order="none") for part in chain)
        return re.sub(r"-(\d) \+ N", r"N - \1", text)


def page(steps: list[Step]) -> str:
    """A derivation as Markdown, each caption above its displayed equation."""
    return "\n\n".join(f"{step.caption}:\n\n$$\n{step.latex}\n$$" for step in steps)


def moment(order: int) -> sp.Symbol:
    """U_k, the mean of the k-th power of the gaps."""
    return sp.Symbol(f"U_{order}", nonnegative=True)


def over_classes(summand: sp.Expr) -> sp.Expr:
    """The sum over i = 1 to N - 1 of a polynomial in the gap D_i, in terms of the moments U_k.

    >>> over_classes((GAP[_i] - 1) ** 2)
    -2*(N - 1)*U_1 + (N - 1)*U_2 + (N - 1)
    """
    terms = sp.Poly(summand, GAP[_i]).terms()
    return _ordered(*(OTHERS * factor * (moment(k) if k else 1) for (k,), factor in terms))


def denominator(order: int = 2) -> sp.Expr:
    """1 / S to the given order in 1/T: the denominator of Equation 3 for order 2.

    >>> denominator(1)
    -(N - 1)*U_1/T + N
    """
    return _powers(1 + over_classes(_exponential(order)), order)


def score(order: int = 2) -> sp.Expr:
    """S itself to the given order in 1/T, each power with its own coefficient.

    >>> score(1)
    (N - 1)*U_1/(N**2*T) + 1/N
    """
    return _powers(_with_h(1 / denominator(order)), order)


def _exponential(order: int) -> sp.Expr:
    """exp(-D_i h) to the given order in h = 1/T."""
    return sp.series(sp.exp(-GAP[_i] * _h), _h, 0, order + 1).removeO()


def _with_h(expression: sp.Expr) -> sp.Expr:
    return expression.subs(T, 1 / _h)


def _powers(function: sp.Expr, order: int) -> sp.Expr:
    """A function of h = 1/T as a polynomial in 1/T of the given order, by rising powers."""
    series = sp.expand(sp.series(function, _h, 0, order + 1).removeO().subs(OTHERS, N - 1))
    return _ordered(*(_tidy(series.coeff(_h, power)) / T**power for power in range(order + 1)))


def _tidy(coefficient: sp.Expr) -> sp.Expr:
    """A polynomial in V and the moments whose coefficients are factored, in terms of N and N - 1."""
    symbols = sorted(coefficient.free_symbols - {N}, key=str)
    terms = sp.Poly(coefficient, *symbols).terms() if symbols else [((), coefficient)]
    monomials = (sp.prod(x**p for x, p in zip(symbols, powers, strict=True)) for powers, _ in terms)
    named = {N - 1: OTHERS, 1 - N: -OTHERS}
    factors = (sp.factor(c).replace(lambda part: part in named, lambda part: named[part]) for _, c in terms)
    return _ordered(*(factor * monomial for factor, monomial in zip(factors, monomials, strict=True)))


def _rest(power: int) -> sp.Expr:
    """O(1 / T^power), for the eye only: SymPy's own cannot stand beside a sum over i."""
    return sp.Function("O")(1 / T**power)


def _ordered(*terms: sp.Expr | int) -> sp.Expr:
    """A sum that prints its terms in this order."""
    flat = [part for term in map(sp.sympify, terms) for part in (term.args if term.is_Add else (term,))]
    return sp.Add(*flat, evaluate=False)


def _sum(summand: sp.Expr) -> sp.Sum:
    return sp.Sum(summand, (_i, 1, N - 1))


def _equal(left: sp.Expr, right: sp.Expr) -> sp.Eq:
    return sp.Eq(left, right, evaluate=False)


# --- Appendix D: the Taylor expansion ---------------------------------------------------------------------------------


def taylor(order: int = 2) -> list[Step]:
    """From Equation 1 to Equation 3, for any number of classes."""
    check_number("order", order, at_least=1)
    term = sp.exp(-GAP[_i] / T)
    polynomial = _ordered(*((-GAP[_i] / T) ** k / sp.factorial(k) for k in range(order + 1)))
    assert sp.expand(_with_h(polynomial) - _exponential(order)) == 0
    rest = _rest(order + 1)
    return [
        Step("Equation 1, divided through by its numerator", _equal(1 / S, _ordered(1, _sum(term)))),
        Step(r"One term, as $T$ grows", _equal(term, _ordered(polynomial, rest))),
        Step("Summed over the other classes", _equal(1 / S, _ordered(1, _sum(polynomial), rest))),
        Step("In the moments of the gaps", _equal(1 / S, _ordered(denominator(order), rest))),
        Step("Without the rest", _equal(truncated(order), 1 / denominator(order))),
    ]


def truncated(order: int = 2) -> sp.Symbol:
    """S_order, the score whose denominator is cut behind 1/T^order; S_2 is Equation 3's right-hand side."""
    return sp.Symbol(f"S_{order}", positive=True)


def remainder_bound() -> list[Step]:
    """How far Equation 3 is from the score, at any temperature, and on which side."""
    x, s = sp.symbols("x s", positive=True)
    integral = sp.Integral((x - s) ** 2 * sp.exp(-s) / 2, (s, 0, x))
    largest = sp.Integral((x - s) ** 2 / 2, (s, 0, x))
    rest = _ordered(1, -x, x**2 / 2, -sp.exp(-x))
    assert sp.simplify(integral.doit() - rest) == 0
    bound = over_classes(GAP[_i] ** 3) / (6 * T**3)
    return [
        Step("The rest of one exponential, as an integral", _equal(rest, integral)),
        Step("The integrand is positive, and larger without its exponential", (sp.Integer(0), integral, largest)),
        Step("which is", _equal(largest, largest.doit())),
        Step(
            r"Summed over the other classes, with $x = \Delta_i / T$", (sp.Integer(0), 1 / truncated() - 1 / S, bound)
        ),
        Step("Multiplied by both scores", (sp.Integer(0), S - truncated(), bound * S * truncated())),
        Step(
            "One order less errs on the other side, once its denominator is above 0",
            (sp.Integer(0), truncated(1) - S, over_classes(GAP[_i] ** 2) / (2 * T**2) * S * truncated(1)),
        ),
    ]


def statistics() -> list[Step]:
    """Three increasing functions of S that tend to U1, and what stands behind U1 in each.

    They differ in the multiple of U1^2 at 1/T, which an increasing function can change at will; the variance V of
    the gaps has the same factor in all of them.
    """
    inverse, scaled, margin = sp.symbols("h s g")
    definitions = {
        inverse: ("From the denominator", T * (N - 1 / S) / OTHERS),
        scaled: ("From $S$ itself", N**2 * T * (S - 1 / N) / OTHERS),
        margin: ("From the odds of the predicted class", T * sp.log(OTHERS * S / (1 - S))),
    }
    steps = [Step("$S$ itself to second order", _equal(S, _ordered(score(2), _rest(3))))]
    for symbol, (caption, function) in definitions.items():
        in_h = _with_h(function.subs(S, 1 / denominator(2))).subs(OTHERS, N - 1)
        steps += [
            Step(f"{caption}, a function that rises with $S$", _equal(symbol, function)),
            Step("which is", _equal(symbol, _ordered(_below_u1(in_h), _rest(2)))),
        ]
    return steps


def _below_u1(statistic: sp.Expr) -> sp.Expr:
    """A function of h that tends to U1, to first order: U1 less half of V and of a multiple of U1^2, over T."""
    series = sp.expand(sp.series(statistic, _h, 0, 2).removeO().subs(moment(2), V + moment(1) ** 2))
    behind = sp.Poly(-2 * series.coeff(_h, 1), V, moment(1))
    multiple = sp.factor(behind.coeff_monomial(moment(1) ** 2))
    assert sp.simplify(series - moment(1) + _h / 2 * (V + multiple * moment(1) ** 2)) == 0
    return _ordered(moment(1), -_ordered(V, multiple * moment(1) ** 2) / (2 * T))


def margin_bracket() -> list[Step]:
    """How far the margin score g is from U1, and from U1 - V / 2T, at any temperature: from the gaps' range R alone."""
    s, x, g, width, share = sp.symbols("s h g R p", positive=True)
    log_mean, spread, skew = sp.Function("K"), sp.Symbol("v_s"), sp.Symbol("k_s")
    gaps = sp.symbols("d1:4", positive=True)
    # K's derivatives are cumulants of the gaps under weights that go as exp(-s D); of three gaps, and so of any number.
    weights = [sp.exp(-s * gap) for gap in gaps]
    mean = sum(w * d for w, d in zip(weights, gaps, strict=True)) / sum(weights)
    for order in (2, 3):
        central = sum(w * (d - mean) ** order for w, d in zip(weights, gaps, strict=True)) / sum(weights)
        assert sp.simplify(sp.diff(sp.log(sum(weights) / 3), s, order) - (-1) ** order * central) == 0
    second, third = share * (1 - share) * width**2, share * (1 - share) * (1 - 2 * share) * width**3
    extremes = [sp.simplify(max(f.subs(share, at) for at in sp.solve(f.diff(share), share))) for f in (second, third)]
    rests = [sp.integrate((x - s) ** k / k * most, (s, 0, x)) / x for k, most in zip((1, 2), extremes, strict=True)]
    bounds = [rest.subs(x, 1 / T) for rest in rests]
    whole, half = sp.Integral((x - s) * spread, (s, 0, x)), sp.Integral((x - s) ** 2 / 2 * skew, (s, 0, x))
    return [
        Step("With $h = 1/T$ and", _equal(log_mean(x), sp.log(_sum(sp.exp(-x * GAP[_i])) / OTHERS))),
        Step("the margin score is", _equal(g, -log_mean(x) / x)),
        Step(r"Weigh the gaps by $e^{-s \Delta_i}$. Their variance is then", _equal(spread, log_mean(s).diff(s, 2))),
        Step("and their third central moment", _equal(skew, -log_mean(s).diff(s, 3))),
        Step("Taylor's formula to first order, with its rest", _equal(g, _ordered(moment(1), -whole / x))),
        Step("and to second order", _equal(g, _ordered(moment(1), -x * V / 2, half / x))),
        Step("No variance on an interval of length $R$ is larger than", (spread, extremes[0])),
        Step("and no third central moment", (sp.Abs(skew), extremes[1])),
        Step("so that, at every temperature,", (_ordered(moment(1), -bounds[0]), g, moment(1))),
        Step("and", (sp.Abs(_ordered(g, -_ordered(moment(1), -V / (2 * T)))), bounds[1])),
    ]


# --- Appendix E: Proposition 1 ----------------------------------------------------------------------------------------


def proposition_1() -> list[Step]:
    """Why the ranking by S tends to the ranking by U1, from below and at what rate."""
    alpha, delta = sp.symbols("alpha delta_T", positive=True)
    bounded, term = T * (N - 1 / S), T * (1 - sp.exp(-_d / T))
    slope = _ordered(1, -sp.exp(-_d / T), -_d / T * sp.exp(-_d / T))
    assert sp.simplify(sp.diff(term, T) - slope) == 0
    threshold = 1 / _ordered(N, -alpha / T)
    assert sp.simplify(sp.solve(bounded - alpha, S)[0] - threshold) == 0
    highest = over_classes(GAP[_i])
    lowest = _ordered(highest, over_classes(-(GAP[_i] ** 2) / (2 * T)))
    return [
        Step("Equation 1 rearranged", _equal(bounded, _sum(term.subs(_d, GAP[_i])))),
        Step("One term tends to its gap", _equal(sp.Limit(term, T, sp.oo, dir="-"), sp.limit(term, T, sp.oo))),
        Step("so the sum tends to", _equal(sp.Limit(bounded, T, sp.oo, dir="-"), highest)),
        Step("One term rises with $T$, for $e^x$ is at least $1 + x$", _equal(sp.Derivative(term, T), slope)),
        Step("It falls short of its gap by no more than", (sp.Integer(0), _ordered(_d, -term), _d**2 / (2 * T))),
        Step("so the sum lies between", (lowest, bounded, highest)),
        Step(r"A threshold $\alpha$ on the sum is a threshold $\delta_T$ on $S$", _equal(delta, threshold)),
    ]


def explicit_limit(classes: int) -> sp.Expr:
    """The limit of T (N - 1/S) written out for a number of classes, by SymPy's own limit of the whole.

    >>> explicit_limit(3)
    Delta_1 + Delta_2
    """
    check_number("classes", classes, at_least=2)
    gaps = sp.symbols(f"Delta_1:{classes}", positive=True)
    inverse = 1 + sp.Add(*(sp.exp(-gap / T) for gap in gaps))
    return sp.expand(sp.limit(T * (classes - inverse), T, sp.oo))


def two_classes() -> list[Step]:
    """With two classes the temperature changes no ranking: S is an increasing function of the one gap."""
    found = 1 / (1 + sp.exp(-_d / T))
    derivative = S * (1 - S) / T
    assert sp.simplify(sp.diff(found, _d) - derivative.subs(S, found)) == 0
    return [
        Step("There is one gap", _equal(S, found)),
        Step("and the score rises with it at every $T$", _equal(sp.Derivative(S, _d), derivative)),
    ]


# --- What a small change of the score does to the rates ---------------------------------------------------------------


def moving_threshold() -> list[Step]:
    """The rate at which the FPR changes when a score begins to move and its threshold is set anew.

    The lemma is Appendix E's; the last two steps are what it makes of the temperature and of the perturbation.
    """
    t, p, q, c, kept = sp.symbols("t p q c kappa", positive=True)
    a, at = sp.symbols("a a_t", real=True)
    inside, outside = sp.symbols("r_P r_Q", real=True)
    little = sp.Function("o")(t)
    accepted = _ordered(kept, -t * p * (c - inside), little)
    stays = sp.solve(p * (c - inside), c)[0]
    rate = q * _ordered(outside, -inside)
    assert sp.expand((-q * (c - outside)).subs(c, stays) - rate) == 0
    change = sp.Symbol(r"\frac{d}{dt}\mathrm{FPR}")
    variance = {who: sp.Symbol(rf"\mathrm{{E}}_{who}[V \mid U_1 = a]") for who in "PQ"}
    norm = {who: sp.Symbol(rf"\mathrm{{E}}_{who}[\lVert\nabla g\rVert_1 \mid g = a]") for who in "PQ"}
    fpr = sp.Function(r"\mathrm{FPR}")
    by_temperature = q / (2 * T) * _ordered(variance["P"], -variance["Q"])
    by_epsilon = q * _ordered(norm["Q"], -norm["P"])
    for found, rates, scale in ((by_temperature, variance, -1 / (2 * T)), (by_epsilon, norm, sp.Integer(1))):
        assert sp.expand(rate.subs({inside: scale * rates["P"], outside: scale * rates["Q"]}) - found) == 0
    rest = sp.Function("o")(1 / T)
    return [
        Step(
            "At the threshold $a + ct$ the share of in-distribution images that is accepted is",
            _equal(sp.Symbol(r"\mathrm{P}(s_t > a + ct)"), accepted),
        ),
        Step("It stays what it was if the threshold moves as", _equal(at, _ordered(a, stays * t, little))),
        Step("and then foreign images pass at the rate", _equal(change, rate)),
        Step(
            "The temperature: $t = 1/2T$, $s = U_1$, $r = -V$",
            _equal(fpr(T), _ordered(fpr(sp.oo), by_temperature, rest)),
        ),
        Step(
            r"The perturbation: $t = \varepsilon$, $s = g$, $r = \lVert\nabla g\rVert_1$",
            _equal(sp.Symbol(r"\frac{d}{d\varepsilon}\mathrm{FPR}\,\Big|_{\varepsilon = 0}"), by_epsilon),
        ),
    ]


# --- Appendix F: what U1 and U2 are -----------------------------------------------------------------------------------


def moments() -> list[Step]:
    """U1 is the mean of the gaps; U2 is their variance plus the square of their mean."""
    squares = _ordered(GAP[_i] ** 2, -2 * moment(1) * GAP[_i], moment(1) ** 2)
    assert sp.expand(squares - (GAP[_i] - moment(1)) ** 2) == 0
    terms = over_classes(squares)
    variance = sp.expand(terms / OTHERS)
    return [
        Step("$U_1$ is the mean of the gaps, by definition", _equal(moment(1), _sum(GAP[_i]) / OTHERS)),
        Step("and $U_2$ the mean of their squares", _equal(moment(2), _sum(GAP[_i] ** 2) / OTHERS)),
        Step("Their variance is", _equal(V, _sum((GAP[_i] - moment(1)) ** 2) / OTHERS)),
        Step("multiplied out", _equal(V, _sum(squares) / OTHERS)),
        Step("summed term by term", _equal(V, variance)),
        Step("so that", _equal(moment(2), sp.solve(V - variance, moment(2))[0])),
    ]


# --- Section 5.3: the perturbation ------------------------------------------------------------------------------------


def perturbation() -> list[Step]:
    """Why the 1-norm: log S moved along the sign of its gradient g, to second order, and g at a large temperature."""
    epsilon, pixels = sp.Symbol("varepsilon", positive=True), sp.Symbol("d", integer=True, positive=True)
    g, v, hessian = (sp.IndexedBase(name, real=True) for name in "gvH")
    before, after = sp.Symbol(r"\log S(x)"), sp.Symbol(r"\log S(\tilde{x})")
    sign = sp.sign(g[_j])
    assert sp.simplify(sp.Abs(g[_j]).rewrite(sp.sign) * sign**2 - g[_j] * sign) == 0

    def over_pixels(summand: sp.Expr, *others: sp.Symbol) -> sp.Sum:
        return sp.Sum(summand, *((index, 1, pixels) for index in (_j, *others)))

    rise, norm = over_pixels(g[_j] * sign), over_pixels(sp.Abs(g[_j]))
    curvature = epsilon**2 / 2 * over_pixels(sign * hessian[_j, _k] * sp.sign(g[_k]), _k)
    return [
        Step(
            "Equation 2, pixel by pixel", _equal(sp.Symbol(r"\tilde{x}_j"), _ordered(sp.Symbol("x_j"), epsilon * sign))
        ),
        Step(
            "Taylor's expansion, with the Hessian $H$",
            _equal(after, _ordered(before, epsilon * rise, curvature, sp.Function("o")(epsilon**2))),
        ),
        Step("A number times its sign is its absolute value", _equal(rise, norm)),
        Step("No other move, $v$ with $|v_j|$ at most 1 for all $j$, gives more", (over_pixels(g[_j] * v[_j]), norm)),
    ]


def gradients() -> list[Step]:
    """The gradients of log S and of the margin score g in those of the gaps, and what they become at a large T."""
    gaps = sp.symbols("d1:4", positive=True)
    others = [sp.exp(-gap / T) for gap in gaps]
    each = [other / (1 + sum(others)) for other in others]  # S_i, of three other classes, and so of any number
    for gap, probability in zip(gaps, each, strict=True):
        assert sp.simplify(sp.diff(-sp.log(1 + sum(others)), gap) - probability / T) == 0
        assert sp.limit(probability, T, sp.oo) == sp.Rational(1, 4)
    per_log_score = sp.simplify(sp.diff(T * sp.log(OTHERS * S / (1 - S)), S) * S)
    assert sp.simplify(per_log_score - T / (1 - S)) == 0
    probability = sp.IndexedBase("S")[_i]
    of_log_score, of_margin, of_gap, of_u1, slope, partial = (
        sp.Symbol(text)
        for text in (
            r"\nabla \log S",
            r"\nabla g",
            r"\nabla \Delta_i",
            r"\nabla U_1",
            r"\frac{dg}{d \log S}",
            r"\frac{\partial}{\partial \Delta_i} \log S",
        )
    )
    pull = _sum(sp.Mul(probability, of_gap, evaluate=False))
    alike, left = (sp.Limit(of, T, sp.oo, "-") for of in (probability, sp.Symbol(r"T\, \nabla \log S")))
    return [
        Step("One gap wider raises the log score by the probability of its class", _equal(partial, probability / T)),
        Step("so that, by the chain rule,", _equal(of_log_score, pull / T)),
        Step("The margin score is a function of the score, with the slope", _equal(slope, T / (1 - S))),
        Step("so its gradient weighs those of the gaps by shares that add up to 1", _equal(of_margin, pull / (1 - S))),
        Step("At a large temperature all probabilities are alike", _equal(alike, 1 / N)),
        Step("and what is left is", _equal(left, sp.Mul(OTHERS / N, of_u1, evaluate=False))),
    ]

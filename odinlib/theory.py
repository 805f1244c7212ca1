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
    log_score = _powers(sp.log(_with_h(1 / denominator(1)).subs(OTHERS, N - 1)), 1)
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
        Step("And at a large temperature", _equal(sp.log(S), _ordered(log_score, _rest(2)))),
    ]

"""The mean-field solver against reference values, discrete steps and the late laws."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, near
from mfnet.claims.effort import Effort
from mfnet.figures.claims import Line, Plot
from mfnet.theory import AsymptoticLaws, MeanField, lazy_limit

#: theory.md, 2: model, factor on γ, and γ at times, with the digits that are given.
REFERENCE = (
    (
        "normal, α=1",
        MeanField(d=100),
        1.0,
        {1: "0.03989423", 10: "0.39894228", 100: "2.21573723", 1000: "2.92552168", 1e6: "4.66620444"},
    ),
    (
        "normal, α=10³, αγ",
        MeanField(d=100, alpha=1e3),
        1e3,
        {1: "0.0398942", 100: "3.9701409", 1e4: "38.3771129", 1e6: "179.854154"},
    ),
    ("sphere, α=1", MeanField(d=100, inputs="sphere"), 1.0, {100: "0.39994087", 1000: "3.20285551", 1e6: "5.23974146"}),
    ("normal, α=1, ε=0.1", MeanField(d=100, flip=0.1), 1.0, {100: "2.03702533", math.inf: "2.20595429"}),
)


@claim(
    "clock",
    statement="γ̇ = cJ/(α√d), γ(0) = 0; with steps Δt: cosh γ → (P+Q)/2, sinh γ → (P−Q)/2",
    regime="exact for N, M → ∞",
    source="theory.md 2, eq. 9, 10, 13, 14",
)
def clock(effort: Effort) -> Evidence:
    """Digits of theory.md's table, and the products P and Q written out; neither uses the solver."""
    rows = []
    for name, model, factor, values in REFERENCE:
        for t, digits in values.items():
            rounding = 1.05 * 10.0 ** -len(digits.partition(".")[2])
            gamma = factor * float(model.solve(t).gamma[0])
            rows.append(
                near(
                    f"{name}, t={t:g}",
                    "an independent solver, d=100",
                    float(digits),
                    gamma,
                    neglected=rounding,
                    because="last digit given",
                )
            )
    for alpha, dt, t in ((1.0, 1.0, 500.0), (1e-3, 1e-3, 0.3), (1e3, 10.0, 1e4)):
        steps = MeanField(d=100, alpha=alpha, dt=dt).solve(t)
        exact = _products(100, alpha, dt, round(t / dt))
        rows.append(
            near(
                f"steps of Δt={dt:g}, α={alpha:g}, t={t:g}: sinh 2γ",
                "P and Q written out",
                exact,
                2.0 * float(steps.sinh[0] * steps.cosh[0]),
                neglected=1e-10 * exact,
                because="rounding",
            )
        )
    gaps = [
        float(MeanField(d=100, dt=dt).solve(60.0).gamma[0] - MeanField(d=100).solve(60.0).gamma[0])
        for dt in (0.5, 0.25)
    ]
    rows.append(
        near(
            "steps → flow: error at Δt over error at Δt/2",
            "Δt = 0.5, 0.25, t=60, α=1",
            2.0,
            gaps[0] / gaps[1],
            neglected=0.05,
            because="second order in Δt",
        )
    )
    return Evidence(rows)


def _products(d: int, alpha: float, dt: float, n_steps: int) -> float:
    """(P² − Q²)/2 after steps of Δt for normal data, ReLU, h = 1."""
    p = q = 1.0
    for _ in range(n_steps):
        sinh2 = (p**2 - q**2) / 2.0
        share = 1.0 if sinh2 == 0.0 else -math.expm1(-2.0 * d / (alpha * sinh2) ** 2)
        kappa = dt * 0.5 * math.sqrt(2.0 / math.pi) * share / (alpha * math.sqrt(d))
        p, q = p * (1.0 + kappa), q * (1.0 - kappa)
    return (p**2 - q**2) / 2.0


@claim(
    "regimes",
    statement="rich: γ = ¼ ln(32 I₀h²√d t/α³), n_u ∝ t^(−1/2); lazy: αγ = (3/2 I₀h²√d t)^(1/3), n_u ∝ t^(−1/3); "
    "early γ = I₀t/(α√d)",
    regime="z_c → 0 (late) or n_u → 1 (early); leading order",
    source="theory.md 2, eq. 15, 16",
)
def regimes(effort: Effort) -> Evidence:
    """Laws against the solver. They leave out z_c² (1 − e^{−z_c²/2}), γ² (lazy: sinh 2γ) and the first stage (rich)."""
    rows, plots = [], []
    rich = MeanField(d=100, alpha=1e-2)
    laws, t = AsymptoticLaws(rich), np.array([1e2, 1e3, 1e4, 1e5])
    solution = rich.solve(t)
    for k, time in enumerate(t):
        first_stage = float(solution.gamma[k]) / float(laws.gamma_early(time))  # its share of the time
        order = float(solution.z_c[k]) ** 2 + first_stage / 4.0
        why = "z_c² + ¼ of the first stage's share of the time"
        rows += [
            near(
                f"rich, α=0.01, t={time:g}: γ",
                "the solver",
                float(laws.gamma_late_rich(t)[k]),
                float(solution.gamma[k]),
                neglected=order,
                because=why,
            ),
            _relative(
                f"rich, α=0.01, t={time:g}: n_u",
                float(laws.unsatisfied_late_rich(t)[k]),
                float(solution.unsatisfied[k]),
                2.0 * order,
                f"twice {why}, relative",
            ),
        ]
    plots.append(_late_plot("regimes-rich", rich, laws.unsatisfied_late_rich, "rich, α = 0.01"))

    lazy = MeanField(d=100, alpha=1e4)
    laws, t = AsymptoticLaws(lazy), np.array([1e5, 1e6, 1e7, 1e8])
    solution, limit = lazy.solve(t), lazy_limit(lazy, t)
    for k, time in enumerate(t):
        order = float(solution.z_c[k]) ** 2 + float(solution.gamma[k]) ** 2
        rows += [
            _relative(
                f"lazy, α=10⁴, t={time:g}: αγ",
                float(laws.gamma_tilde_late_lazy(t)[k]),
                lazy.alpha * float(solution.gamma[k]),
                order,
            ),
            _relative(
                f"lazy, α=10⁴, t={time:g}: n_u",
                float(laws.unsatisfied_late_lazy(t)[k]),
                float(solution.unsatisfied[k]),
                order,
            ),
            near(
                f"lazy limit at t={time:g}: αγ at α=10⁴",
                "the solver",
                float(limit.gamma_tilde[k]),
                lazy.alpha * float(solution.gamma[k]),
                neglected=float(limit.gamma_tilde[k]) * 4.0 * float(solution.gamma[k]) ** 2,
                because="4γ², relative",
            ),
        ]
    plots.append(_late_plot("regimes-lazy", lazy, laws.unsatisfied_late_lazy, "lazy, α = 10⁴"))

    for alpha in (1e-3, 1.0, 1e3):
        model = MeanField(d=100, alpha=alpha)
        t_early = model.time_scale / 3.0
        early = model.solve(t_early)
        rows.append(
            _relative(
                f"early, α={alpha:g}, t={t_early:.3g}: γ",
                float(AsymptoticLaws(model).gamma_early(t_early)),
                float(early.gamma[0]),
                math.exp(-(float(early.z_c[0]) ** 2) / 2.0),
                "the force that is gone, e^(−z_c²/2)",
            )
        )
    return Evidence(rows, plots)


def _relative(case: str, predicted: float, measured: float, order: float, because: str = "z_c² + γ², relative") -> Row:
    return near(case, "the solver", predicted, measured, neglected=max(order, 1e-9) * abs(predicted), because=because)


def _late_plot(name: str, model: MeanField, law: Callable[[np.ndarray], np.ndarray], caption: str) -> Plot:
    t: Float[np.ndarray, " T"] = model.time_scale * np.logspace(-1.0, 4.0, 61)
    late = t > 3.0 * model.time_scale
    return Plot(
        name,
        f"Unsatisfied fraction, {caption}: the solver and the late law.",
        "$t$",
        "$n_u$",
        [
            Line("solver", t, model.solve(t).unsatisfied, look="theory"),
            Line("late law", t[late], law(t[late]), look="guide"),
        ],
        "xy",
    )

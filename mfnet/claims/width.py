"""Finite numbers of nodes: the bands of F, γ and t_sat, the starting error, and the limits of σ_M."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize

from mfnet.claims.claim import Evidence, Row, claim, inside, near
from mfnet.claims.effort import Effort
from mfnet.claims.infinite_data import times_of
from mfnet.claims.simulation import Record, seeds, setup_of, stack, train
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Rotation
from mfnet.theory import FiniteWidth, MeanField
from mfnet.theory.validity import CORRECTED, variance_left

#: Share of a normal law within one standard deviation, and between which the measured share may lie.
WITHIN, SHARE = math.erf(math.sqrt(0.5)), (0.6, 0.75)

#: First order is claimed to hold while at least this fraction is unsatisfied.
CLAIMED = 0.98

#: The band of the clock is claimed from here on: before, its σ, which is 0 while all are unsatisfied, is no larger than
#: terms of second order, and than the sampling noise of fresh examples.
CLOCK_CLAIMED = 0.9

#: Unsatisfied fractions at whose times shares are taken.
LOOKS = (0.999, 0.99, 0.95, 0.9, 0.7, 0.4)

#: Projections of the inputs at which F is followed.
PROJECTIONS = (0.5, 1.0, 2.0, 2.5, 3.0)


def probes_at(projections: tuple[float, ...], d: int, n_directions: int) -> Float[np.ndarray, "p d"]:
    """Inputs at given x∥ with |x⊥|² = d − 1, in ``n_directions`` random directions each."""
    across = np.random.default_rng(0).normal(size=(len(projections), n_directions, d))
    across[..., 0] = 0.0
    across *= math.sqrt(d - 1) / np.linalg.norm(across, axis=-1, keepdims=True)
    across[..., 0] = np.array(projections)[:, None]
    return across.reshape(-1, d)


def share_row(case: str, simulation: str, inside_band: np.ndarray, *, claimed: bool) -> Row:
    """The share of runs inside a band; ``inside_band`` has the seeds first, which alone are independent."""
    per_seed = inside_band.reshape(len(inside_band), -1).mean(axis=1)
    error = float(per_seed.std(ddof=1)) / math.sqrt(len(per_seed))
    return inside(case, simulation, WITHIN, float(per_seed.mean()), SHARE, error, claimed=claimed)


@claim(
    "bands",
    statement="F(x) = s x∥ ± σ_M, σ_M² = Var[aσ(z) − a₀σ(z₀)]/M; from it ± on γ and on t_sat (Fig. 1d)",
    regime=f"N = ∞, first order in 1/√M, while n_u ≥ {CLAIMED}; later the flow corrects part of the fluctuation",
    source="theory.md 3, Sec. 3.3",
)
def bands(effort: Effort) -> Evidence:
    """Shares of networks within ±1σ, at fixed inputs, in the rich and in the lazy regime."""
    rows, plots = [], []
    for alpha in effort.choose((1.0, 1e3), (1.0,)):
        found = _bands_at(effort, alpha)
        rows += found.rows
        plots += found.plots
    return Evidence(rows, plots)


def _bands_at(effort: Effort, alpha: float) -> Evidence:
    M, d, n_directions, n_seeds = effort.choose((400, 20, 16, 80), (100, 20, 8, 24))
    batch = effort.choose(4000, 400)
    model = MeanField(d=d, alpha=alpha)
    looks = times_of(model, LOOKS)
    dt = float(looks[2]) / 30.0
    times = np.unique(np.concatenate([looks, np.geomspace(looks[0] / 3.0, looks[-1], effort.choose(60, 20))]))
    setup = setup_of(M, d, batch, alpha, fresh=True, double=alpha > 100.0)
    run = partial(train, times=times, method=partial(Rotation, dt=dt), probes=probes_at(PROJECTIONS, d, n_directions))
    runs: list[Record] = effort.map(run, seeds(setup, n_seeds))
    stepped = replace(model, dt=dt, scheme="rotation").solve(times)
    theory = FiniteWidth(model, M)
    simulation = f"M={M}, d={d}, α={alpha:g}, {batch} fresh examples a step, {n_seeds} seeds"

    x_par = np.array(PROJECTIONS)
    excess = stack(runs, "excess").reshape(n_seeds, len(times), len(x_par), n_directions)
    mu, std = stepped.output(x_par), theory.output_std(x_par, stepped.cosh[:, None], stepped.sinh[:, None])
    z = (excess - mu[..., None]) / std[..., None]
    gamma_std = theory.gamma_std(stepped)
    z_gamma = (stack(runs, "gamma") - stepped.gamma) / np.where(gamma_std > 0.0, gamma_std, np.nan)
    case = f"α={alpha:g}"
    rows = [
        *_shares_at_times(z, np.searchsorted(times, looks), f"{simulation} × {n_directions} inputs", case),
        *_clock_shares(z_gamma[:, np.searchsorted(times, looks)], simulation, case),
    ]
    for i, projection in enumerate(PROJECTIONS):
        claimed = math.erf(projection / math.sqrt(2.0)) >= CLAIMED
        lower, upper = (first_crossing(times, (mu[:, i] + n * std[:, i])[None], alpha)[0] for n in (1.0, -1.0))
        t_sat = first_crossing(times, np.moveaxis(excess[:, :, i], 1, 2).reshape(-1, len(times)), alpha)
        in_band = ((t_sat >= lower) & (t_sat <= upper)).reshape(n_seeds, n_directions)
        rows.append(
            share_row(
                f"{case}: t_sat at x∥={projection:g}, share in band",
                f"{simulation} × {n_directions} inputs",
                in_band,
                claimed=claimed,
            )
        )
    late = times >= looks[LOOKS.index(CLOCK_CLAIMED)]
    rms = [np.sqrt((z[:, :, i] ** 2).mean(axis=(0, 2))) for i in range(len(x_par))]
    plot = Plot(
        f"bands-alpha{alpha:g}",
        f"Root mean square of (F − s x∥)/σ_M over seeds and inputs, and of γ; 1 is the claim. {simulation}.",
        "$t$",
        "rms deviation / predicted",
        [
            *(Line(rf"$x^\parallel = {p:g}$", times, rms[i], None, "network", i) for i, p in enumerate(PROJECTIONS)),
            Line(r"$\gamma$", times[late], np.sqrt((z_gamma[:, late] ** 2).mean(axis=0)), None, "network", 7),
            Line("first order", times, np.ones_like(times), None, "theory"),
        ],
        "xy",
    )
    return Evidence(rows, [plot])


def _shares_at_times(z: Float[np.ndarray, "n K p m"], looks: np.ndarray, simulation: str, case: str) -> list[Row]:
    """Shares of F in its band at the times of `LOOKS`."""
    return [
        share_row(
            f"{case}: F at x∥={projection:g}, n_u={n_u:g}, share in ±σ_M",
            simulation,
            np.abs(z[:, k, i]) < 1.0,
            claimed=n_u >= CLAIMED,
        )
        for n_u, k in zip(LOOKS, looks, strict=True)
        for i, projection in enumerate(PROJECTIONS)
    ]


def _clock_shares(z: Float[np.ndarray, "n L"], simulation: str, case: str) -> list[Row]:
    """Shares of γ in its band, and its spread, at the times of `LOOKS`."""
    n, rows = len(z), []
    for n_u, values in zip(LOOKS, z.T, strict=True):
        claimed, share = n_u <= CLOCK_CLAIMED, float((np.abs(values) < 1.0).mean())
        error = math.sqrt(WITHIN * (1.0 - WITHIN) / n)
        spread, name = float(values.std(ddof=1)), f"{case}: γ, n_u={n_u:g}"
        rows.append(near(f"{name}, share in ±σ", simulation, WITHIN, share, error, claimed=claimed))
        rows.append(near(f"{name}, spread/σ", simulation, 1.0, spread, 1.0 / math.sqrt(2.0 * n), claimed=claimed))
    return rows


def first_crossing(times: np.ndarray, excess: Float[np.ndarray, "n K"], alpha: float) -> Float[np.ndarray, " n"]:
    """First time at which αF reaches 1, interpolated; inf where it never does."""
    above = excess * alpha >= 1.0
    k = above.argmax(axis=1)
    result = np.full(len(excess), np.inf)
    rows = np.flatnonzero(above.any(axis=1) & (k > 0))
    before, after = excess[rows, k[rows] - 1] * alpha, excess[rows, k[rows]] * alpha
    share = (1.0 - before) / (after - before)
    result[rows] = times[k[rows] - 1] + share * (times[k[rows]] - times[k[rows] - 1])
    return result


class Case(NamedTuple):
    """Networks whose error the response is held against.

    Attributes:
        settings: What differs from M = 150, d = 57, α = 0.37, h = 1.3, normal inputs and the hinge.
        looks: Mean-field unsatisfied fractions at whose times one looks.
        batch: Fresh examples of a step; on the sphere the noise of 6000 is a quarter of the error at n_u = 0.6.
    """

    settings: dict[str, Any]
    looks: tuple[float, ...]
    batch: int = 6000


CASES = (
    Case({}, (0.98, 0.9, 0.6, 0.3)),
    Case({"loss": "logistic"}, (0.98, 0.6, 0.3)),
    Case({"loss": "squared_hinge"}, (0.98, 0.6, 0.3)),
    Case({"data__inputs": "sphere", "d": 33}, (0.98, 0.9, 0.6), batch=24_000),
    Case({"alpha": 100.0, "d": 30, "loss": "logistic"}, (0.98, 0.7)),
)

#: The size of what the response leaves out, relative: the second order in 1/√M, and the finite batch.
NEGLECTED = 0.08


@claim(
    "width-response",
    statement="ε_g = E_x Φ(−μ/σ_M), with σ_M less what the flow corrects of it by linear response: the odd part "
    "exactly, the even part through the means and quadratic moments of the nodes",
    regime="N = ∞, first order in 1/M, any loss, also below n_u = 0.98, while a tenth of the variance of F across ŵ* "
    "is left",
    source="Sec. 3.3, linear response",
)
def width_response(effort: Effort) -> Evidence:
    """Mean test error of networks on fresh examples, smooth losses and hinge, normal inputs and the sphere."""
    rows: list[Row] = []
    n_seeds, n_test = effort.choose((32, 10_000), (24, 4000))
    small = (Case({"M": 100, "d": 20, "loss": "logistic"}, (0.98, 0.6)),)
    for case in effort.choose(CASES, small):
        given = {"M": 150, "d": 57, "alpha": 0.37, "h": 1.3, **case.settings}
        M, d, alpha = (given.pop(name) for name in ("M", "d", "alpha"))
        batch = effort.choose(case.batch, 1500)
        setup = setup_of(M, d, batch, alpha, n_test=n_test, fresh=True, double=alpha > 10.0, **given)
        model = MeanField(d=d, alpha=alpha, h=setup.h, loss=setup.loss["name"], inputs=setup.data["inputs"])
        times = model.t_sat([_quantile(model, n_u) for n_u in case.looks])
        method = partial(Rotation, dt=float(times[0]) / 25.0)
        errors = stack(effort.map(partial(train, times=times, method=method), seeds(setup, n_seeds)), "test_error")
        solution, theory = model.solve(times), FiniteWidth(model, M)
        predicted = theory.generalisation_error(solution)
        left = variance_left(model, solution)
        name = f"{setup.loss['name']}, {setup.data['inputs']}, α={alpha:g}, d={d}"
        for k, n_u in enumerate(case.looks):
            rows.append(
                near(
                    f"{name}: ε_g at n_u={n_u:g}, t={times[k]:.3g}",
                    f"M={M}, {batch} fresh examples a step, {n_seeds} seeds; {left[k]:.0%} of the variance left",
                    predicted[k],
                    float(errors[:, k].mean()),
                    float(errors[:, k].std(ddof=1)) / math.sqrt(n_seeds),
                    neglected=NEGLECTED * predicted[k],
                    because="second order and the finite batch, relative",
                    claimed=bool(left[k] >= CORRECTED),
                )
            )
    return Evidence(rows)


def _quantile(model: MeanField, n_u: float) -> float:
    """The projection below which a fraction n_u of the inputs lies."""
    return float(optimize.brentq(lambda z: float(model.law.cdf(np.asarray(z))) - n_u, 0.0, 10.0 * model.law.m1))


@claim(
    "start",
    statement="ε_g = E_x Φ(−μ/σ_M) → (1/π) arctan √(d/2M) for γ → 0; "
    "σ_M/μ → √(d/2M)/x∥ (γ → 0, x∥² ≪ d) and √(5/M) (γ → ∞)",
    regime="N = ∞, first order in 1/√M; γ → 0, or γ → ∞ with nodes on their hyperbolas",
    source="theory.md 3 and 4",
)
def starting_error(effort: Effort) -> Evidence:
    """One short step on a great many examples; then the spread of F over seeds, early and on late hyperbolas."""
    rows: list[Row] = []
    for M, d in effort.choose(((400, 100), (100, 100), (1000, 50), (400, 20)), ((400, 20),)):
        rows += _start_at(effort, M, d)
    return Evidence(rows + _late_spread(effort))


def _start_at(effort: Effort, M: int, d: int) -> list[Row]:
    n_seeds, batch = effort.choose((40, 100_000), (12, 10_000))
    model = MeanField(d=d)
    theory, t = FiniteWidth(model, M), model.time_scale / 100.0
    projections, n_directions = (1.0, 2.0), 32
    run = partial(train, times=[t], method=partial(Rotation, dt=t), probes=probes_at(projections, d, n_directions))
    runs: list[Record] = effort.map(run, seeds(setup_of(M, d, batch, n_test=4000, fresh=True), n_seeds))
    simulation = f"M={M}, d={d}, {batch} examples, {n_seeds} seeds"

    start = model.solve(t)
    errors, predicted = stack(runs, "test_error")[:, 0], float(theory.generalisation_error(start)[0])
    # what the finite batch adds to r² = d/2M (theory.md 4), as a share of r
    batch_share = 0.5 * (d / model.law.m1**2 + (d / (math.pi * model.law.m1)) ** 2) / batch / (d / (2.0 * M))
    why = "sampling noise of the examples, relative"
    error, size = float(errors.std(ddof=1)) / math.sqrt(n_seeds), f"M={M}, d={d}"
    law = math.atan(math.sqrt(d / (2.0 * M))) / math.pi
    rows = [
        near(
            f"{size}: ε_g",
            simulation,
            predicted,
            float(errors.mean()),
            error,
            neglected=batch_share * predicted,
            because=why,
        ),
        near(
            f"{size}: (1/π) arctan √(d/2M)",
            "E_x Φ(−μ/σ_M) by quadrature",
            law,
            predicted,
            neglected=2.0 * law / d,
            because="2/d, relative",
        ),
    ]
    excess = stack(runs, "excess")[:, 0].reshape(n_seeds, len(projections), n_directions)
    for i, x_par in enumerate(projections):
        ratio = float(theory.output_std(np.asarray(x_par), start.cosh, start.sinh)[0] / start.slope[0]) / x_par
        limit = math.sqrt(d / (2.0 * M)) / x_par
        order = 3.0 * x_par**2 / d
        rows += [
            _spread_row(f"{size}: σ_M/μ at x∥={x_par:g}", simulation, excess[:, i], ratio, batch_share, why),
            near(
                f"{size}: √(d/2M)/x∥ at x∥={x_par:g}",
                "the formula of σ_M",
                limit,
                ratio,
                neglected=order * limit,
                because="3x∥²/d, relative",
            ),
        ]
    return rows


def _spread_row(
    case: str, simulation: str, excess: Float[np.ndarray, "n p"], predicted: float, order: float, because: str
) -> Row:
    """Standard deviation over mean of F, over the seeds at each input; its error by leaving out a seed at a time."""

    def ratio(values: np.ndarray) -> float:
        return float(np.sqrt(values.var(axis=0, ddof=1).mean()) / values.mean())

    n = len(excess)
    left_out = np.array([ratio(np.delete(excess, i, axis=0)) for i in range(n)])
    error = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    return near(case, simulation, predicted, ratio(excess), error, neglected=order * predicted, because=because)


def _late_spread(effort: Effort) -> list[Row]:
    """Nodes put on their hyperbolas at γ = 4: a (w∥x∥/√d + …) is then e^{2γ}(a₀ + w∥₀)² x∥/(4√d) and small terms."""
    M, d, gamma, x_par = 500, 20, 4.0, 2.0
    n_seeds = effort.choose(2000, 200)
    rng = np.random.default_rng(1)
    excess = np.empty((n_seeds, 1))
    for seed in range(n_seeds):
        a0, w0, across = rng.normal(size=(3, M))
        a = a0 * math.cosh(gamma) + w0 * math.sinh(gamma)
        w = w0 * math.cosh(gamma) + a0 * math.sinh(gamma)
        z, z0 = ((v * x_par + across * math.sqrt(d - 1)) / math.sqrt(d) for v in (w, w0))
        excess[seed] = np.mean(a * np.maximum(z, 0.0) - a0 * np.maximum(z0, 0.0))
    simulation = f"M={M}, d={d}, nodes on hyperbolas, {n_seeds} draws"
    theory = FiniteWidth(MeanField(d=d), M)
    mu = float(theory.mean_field.slope(math.cosh(gamma), math.sinh(gamma))) * x_par
    exact = float(theory.output_std(np.asarray(x_par), np.asarray(math.cosh(gamma)), np.asarray(math.sinh(gamma)))) / mu
    limit = math.sqrt(5.0 / M)
    smaller = 2.0 * d / (x_par**2 * math.exp(2.0 * gamma))
    return [
        _spread_row(f"σ_M/μ at x∥={x_par:g}, γ={gamma:g}", simulation, excess, exact, 0.0, ""),
        near(
            "√(5/M)",
            "the formula of σ_M at γ=4",
            limit,
            exact,
            neglected=smaller * limit,
            because="2d/(x∥² e^{2γ}), relative",
        ),
    ]

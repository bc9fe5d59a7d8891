"""Mislabeled data: where the flow stops."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from mfnet.claims.claim import Evidence, Row, claim, inside
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import Record, seeds, setup_of, stack, train
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Rotation
from mfnet.theory import MeanField

#: Largest deviation at which the claim holds, relative.
TOLERANCE = 0.02


def relaxation_time(model: MeanField) -> float:
    """1/|dγ̇/dγ| at γ*: the flow relaxes as e^{−t/τ}."""
    gamma, step = model.gamma_star, 1e-5
    return 2.0 * step / (model.rate(gamma - step) - model.rate(gamma + step))


@claim(
    "noise",
    statement="γ* = ½ asinh(2√d h/(α z_c*)), z_c* = √(2 ln((1−ε)/(1−2ε))); n_u* = ε + (1−ε) erf(z_c*/√2)",
    regime="N, M → ∞; at finite N flipped labels are learnt by heart, slowly, and n_u falls on; "
    "at finite M γ* ± 1/(2√M) for a draw",
    source="theory.md 2, Sec. 3.4",
)
def fixed_point(effort: Effort) -> Evidence:
    """Networks six relaxation times after the start, on large training sets and on fresh examples."""
    rows: list[Row] = []
    lines: list[Line] = []
    M, N, n_seeds = effort.choose((1000, 64_000, 4), (600, 6400, 2))
    for number, flip in enumerate(effort.choose((0.05, 0.1, 0.2), (0.2,))):
        model = MeanField(d=10, flip=flip)
        tau, z_c = relaxation_time(model), math.sqrt(2.0 * math.log((1.0 - flip) / (1.0 - 2.0 * flip)))
        gamma = 0.5 * math.asinh(2.0 * math.sqrt(10.0) / z_c)
        n_u = flip + (1.0 - flip) * math.erf(z_c / math.sqrt(2.0))
        times = tau * np.geomspace(0.3, 6.0, 14)
        for name, n, fresh in ((f"N={N}", N, False), ("N=∞", N // 16, True), (f"N={N // 16}", N // 16, False)):
            claimed = fresh or n == N
            setup = setup_of(M, 10, n, n_test=20_000, fresh=fresh, data__flip=flip)
            run = partial(train, times=times, method=partial(Rotation, dt=2.0))
            runs: list[Record] = effort.map(run, seeds(setup, n_seeds))
            simulation = f"M={M}, d=10, {name}, {n_seeds} seeds, t={times[-1]:.3g} = 6 relaxation times"
            for quantity, predicted, series in (("γ*", gamma, "gamma"), ("n_u*", n_u, "unsatisfied")):
                values = stack(runs, series)
                mean = float(values[:, -1].mean())
                error = float(values[:, -1].std(ddof=1)) / math.sqrt(n_seeds)
                bounds = ((1.0 - TOLERANCE) * predicted, (1.0 + TOLERANCE) * predicted)
                case = f"ε={flip:g}, {name}: {quantity}"
                rows.append(inside(case, simulation, predicted, mean, bounds, error, claimed=claimed))
                if series == "gamma" and claimed and not fresh:
                    lines.append(Line(f"ε = {flip:g}", times, values.mean(axis=0), None, "network", number))
                    lines.append(Line("", times, model.solve(times).gamma, None, "theory", number))
                    lines.append(Line("", times[[0, -1]], [gamma, gamma], None, "guide", number))
    caption = f"γ(t) with label noise: networks (N={N}, M={M}), theory, and γ* (dotted)."
    return Evidence(rows, [Plot("noise", caption, "$t$", r"$\gamma$", lines, "x")])

"""How far the tangent kernel of a network moves: its degree of laziness."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, near
from mfnet.claims.effort import Effort
from mfnet.claims.infinite_data import times_of
from mfnet.claims.simulation import draw_of, nodes_at, seeds, setup_of
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Rotation
from mfnet.network import MeanFieldNetwork
from mfnet.network.tangent_kernel import kernel_motion, tangent_kernel
from mfnet.setup.setup import Setup
from mfnet.theory import MeanField, MovingKernel
from mfnet.training.build import Pieces

#: Unsatisfied fractions at which kernels are looked at.
LOOKS = (0.99, 0.8, 0.6)

#: Examples whose kernel is followed.
SEEN = 200


def _changes(setup: Setup, model: MeanField, times: Float[np.ndarray, " K"]) -> Float[np.ndarray, "3 K"]:
    """‖K_t − K₀‖/‖K₀‖: of the network, of its initial nodes on the hyperbolas of eq. 10, and of `MovingKernel`."""
    assert model.dt is not None
    draw, network = draw_of(setup), Pieces(setup).networks
    assert isinstance(network, MeanFieldNetwork)
    x = torch.as_tensor(draw.x[:SEEN])
    initial = tangent_kernel(network, x, initial=True)

    def change(a: Float[np.ndarray, " M"], w: Float[np.ndarray, "M d"]) -> float:
        with torch.no_grad():
            network.a.copy_(torch.as_tensor(a))
            network.w.copy_(torch.as_tensor(w))
        return kernel_motion(tangent_kernel(network, x), initial).change

    trained = nodes_at(setup, times, partial(Rotation, dt=model.dt))
    solution, found = model.solve(times), []
    for cosh, sinh in zip(solution.cosh, solution.sinh, strict=True):
        w = draw.w0.copy()
        w[:, 0] = cosh * draw.w0[:, 0] + sinh * draw.a0
        found.append(change(cosh * draw.a0 + sinh * draw.w0[:, 0], w))
    moving = MovingKernel(model, SEEN).of_draw(lambda: draw).series(times)["kernel_change"].value
    return np.array([[change(nodes[:, 0], nodes[:, 1:]) for nodes in trained], found, moving])


@claim(
    "laziness",
    statement="‖K_t − K₀‖/‖K₀‖ on 200 training examples is that of the mean-field solution (M → ∞), and that of the "
    "actual initial nodes on their hyperbolas",
    regime="N, M → ∞ while most examples are unsatisfied. M → ∞ for α ≤ 1, to √(d/N), the share of the drive "
    "that is not along ŵ*, in the mean over draws. For a lazy network, whose kernel changes by O(γ²) at M = ∞ and by "
    "O(γ/√M) at finite M, only the actual nodes are claimed, to √(d/N) + 1/√M",
    source="theory.md 2 and 4, eq. 10",
)
def kernel_change(effort: Effort) -> Evidence:
    """Rotation steps on a large training set."""
    rows: list[Row] = []
    lines: list[Line] = []
    M, d, N, n_seeds, n_steps = effort.choose((1000, 20, 32_000, 4, 30), (300, 10, 3000, 3, 12))
    for number, alpha in enumerate((1e3, 1.0, 1e-3)):
        model = MeanField(d=d, alpha=alpha, scheme="rotation")
        times = times_of(model, LOOKS)
        model = MeanField(d=d, alpha=alpha, scheme="rotation", dt=float(times[-1]) / n_steps)
        setup = setup_of(M, d, N, alpha, double=alpha > 100.0)
        found = np.array(effort.map(partial(_changes, model=model, times=times), seeds(setup, n_seeds)))
        mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(n_seeds)
        off = (found[:, 0] - found[:, 1]).std(axis=0, ddof=1) / math.sqrt(n_seeds)
        simulation = f"N={N}, M={M}, d={d}, Δt={model.dt:.2g}, {n_seeds} seeds"
        for k, n_u in enumerate(LOOKS):
            case = f"α={alpha:g}, n_u={n_u:g}"
            rows.append(
                near(
                    f"{case}: M → ∞",
                    simulation,
                    mean[2, k],
                    mean[0, k],
                    error[0, k],
                    neglected=float(mean[2, k]) * math.sqrt(d / N),
                    because="√(d/N), relative",
                    claimed=alpha <= 1.0,
                )
            )
            rows.append(
                near(
                    f"{case}: actual nodes on hyperbolas",
                    simulation,
                    mean[1, k],
                    mean[0, k],
                    off[k],
                    neglected=float(mean[1, k]) * (math.sqrt(d / N) + 1.0 / math.sqrt(M)),
                    because="√(d/N) + 1/√M, relative",
                    claimed=alpha > 1.0,
                )
            )
        lines.append(Line(f"α = {alpha:g}", times / model.time_scale, mean[0], error[0], "network", number))
        lines.append(Line("M → ∞", times / model.time_scale, mean[2], None, "theory", number))
        lines.append(Line("actual nodes", times / model.time_scale, mean[1], None, "guide", number))
    caption = "Change of the tangent kernel of networks, of the mean-field solution and of actual nodes on hyperbolas."
    label = r"$\Vert K_t - K_0\Vert/\Vert K_0\Vert$"
    return Evidence(rows, [Plot("laziness", caption, "$t$ / time scale", label, lines, "xy")])

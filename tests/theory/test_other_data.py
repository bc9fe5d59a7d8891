"""Other initial variances, inputs and labels against real networks in d = 20 that see fresh data at each step.

What is compared is E[a w∥], gained since the start, at five times: from where every example is unsatisfied to where
about a third is (more with label noise). The theory is solved for the same steps, so that no error of the step is left.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from mfnet.theory import MeanField

D, M, BATCH, N_STEPS = 20, 4000, 2500, 24
SEEN = np.array([3, 6, 9, 12, 24])  # steps after which nodes are looked at

CASES = {
    "A=2, B=1": {"a_std": 2.0, "w_std": 1.0},
    "A=0.5, B=1.5": {"a_std": 0.5, "w_std": 1.5},
    "stretch 0.5": {"inputs": "elongated", "stretch": 0.5},
    "stretch 2": {"inputs": "elongated", "stretch": 2.0},
    "radial": {"inputs": "radial", "radius": {"name": "gamma", "a": 4.0, "scale": 1.2}},
    "flip 0.1": {"flip": 0.1},
    "flip 0.3": {"flip": 0.3},
}


def draw_inputs(rng, n, case):
    """Inputs whose direction ŵ* is the first axis, written independently of mfnet.data."""
    x = rng.normal(size=(n, D))
    if case.get("inputs") == "radial":
        radius = rng.gamma(case["radius"]["a"], case["radius"]["scale"], size=(n, 1))
        return x * (radius / np.linalg.norm(x, axis=1, keepdims=True))
    x[:, 0] *= case.get("stretch", 1.0)
    return x


def simulate(draw, dt, seed, *, a_std=1.0, w_std=1.0, flip=0.0):
    """(a₀, w₀) and (a, w) after each of `SEEN` steps: ReLU, hinge, α = h = 1, plain gradient descent in float32."""
    rng = np.random.default_rng(seed)
    a0 = (a_std * rng.normal(size=M)).astype(np.float32)
    w0 = (w_std * rng.normal(size=(M, D))).astype(np.float32)
    a, w, tile = a0.copy(), w0.copy(), 250  # tiles of 10⁶ numbers stay in the cache
    seen = []
    for step in range(1, N_STEPS + 1):
        a_dot, w_dot = np.zeros_like(a), np.zeros_like(w)
        for _ in range(BATCH // tile):
            x = draw(rng, tile).astype(np.float32)
            y = np.sign(x[:, 0]) * np.where(rng.random(tile) < flip, -1, 1).astype(np.float32)
            z, z0 = (v @ x.T / np.float32(math.sqrt(D)) for v in (w, w0))
            sigma = np.maximum(z, 0)
            output = (a @ sigma - a0 @ np.maximum(z0, 0)) / M
            force = y * (y * output < 1.0)
            a_dot += sigma @ force
            w_dot += (z > 0).astype(np.float32) @ (x * force[:, None])
        a, w = a + dt / BATCH * a_dot, w + dt / (math.sqrt(D) * BATCH) * a[:, None] * w_dot
        if step in SEEN:
            seen.append((a.astype(float), w.astype(float)))
    return a0.astype(float), w0.astype(float), seen


def expected_spread(model, dt, n_draws=2000):
    """Standard deviation of the gain of ⟨a w∥⟩ at `SEEN`, at first order, from ``n_draws`` of a reduced model.

    In it nodes enter by p = ⟨a₀² + w∥₀²⟩/2 and q = ⟨a₀w∥₀⟩, F = c/√d · (2CS p + 2S² q) x∥, and every batch by a
    J that fluctuates with the variance of φζ over the size of the batch.
    """
    rng, law = np.random.default_rng(1), model.law
    a_var, w_var = model.a_std**2, model.w_std**2
    p = model.mean_variance + math.hypot(a_var, w_var) / math.sqrt(2 * M) * rng.normal(size=n_draws)
    q = math.sqrt(a_var * w_var / M) * rng.normal(size=n_draws)
    cosh, sinh, gains = np.ones(n_draws), np.zeros(n_draws), []
    for step in range(1, N_STEPS + 1):
        gain = 2 * cosh * sinh * p + 2 * sinh**2 * q
        z_c = model.threshold(model.odd_slope / math.sqrt(D) * np.maximum(gain, 0.0))
        force, typical = law.mean_below(z_c), float(np.median(z_c))
        second = law.expect(lambda zeta, z=typical: zeta**2 * (zeta < z), min(typical, 1e3))
        force = force + math.sqrt((second - float(np.median(force)) ** 2) / BATCH) * rng.normal(size=n_draws)
        kappa = dt * model.odd_slope * force / math.sqrt(D)
        cosh, sinh = cosh + kappa * sinh, sinh + kappa * cosh
        if step in SEEN:
            gains.append(2 * cosh * sinh * p + 2 * sinh**2 * q)
    return np.std(gains, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_overlap_of_real_nodes_is_that_of_theory(name):
    """One network of 4000 nodes a case, within 3 standard deviations and the 1 % that is of second order.

    The expected fluctuation is 1 to 2 % early, when nothing is satisfied and p stands for itself, with much label
    noise up to 4 %; later F is held at the margin and 0.4 to 1.4 % are left. Second order are the smearing of the
    margin by σ_M and the random walk of w⊥. Measured: all within 3 %.
    """
    case = CASES[name]
    dt = 4.0 / N_STEPS * MeanField(D, **case).time_scale
    model = MeanField(D, dt=dt, **case)
    settings = {key: value for key, value in case.items() if key in ("a_std", "w_std", "flip")}
    a0, w0, seen = simulate(lambda rng, n: draw_inputs(rng, n, case), dt, 0, **settings)
    measured = np.array([(a * w[:, 0]).mean() - (a0 * w0[:, 0]).mean() for a, w in seen])
    solution = model.solve(dt * SEEN)
    predicted = 2.0 * model.mean_variance * solution.cosh * solution.sinh
    spread = expected_spread(model, dt)
    assert (spread < 0.045 * predicted).all()
    assert (np.abs(measured - predicted) < 3.0 * spread + 0.01 * predicted).all()
    assert solution.unsatisfied[0] > 0.99  # it is looked at from the start
    assert solution.unsatisfied[-1] < 0.35 + 1.6 * model.flip  # to the end


# ---------------------------------------------------------------- a general covariance

CORRELATION = 0.6
COVARIANCE = np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])  # of x∥ and one other component; the rest is normal


def mean_force(v):
    """⟨φ y x⟩ in the plane of the two components when F = v·x, h = α = 1, exactly.

    By Stein's identity ⟨x f(u, g)⟩ = C(ŵ*⟨∂f/∂u⟩ + v⟨∂f/∂g⟩) for f = φy, u = ŵ*·x and g = v·x.
    """
    g_var, u_g = v @ COVARIANCE @ v, (COVARIANCE @ v)[0]
    if g_var == 0.0:
        return math.sqrt(2.0 / math.pi) * COVARIANCE[:, 0]
    given_u, given_g = (math.sqrt(max(s, 1e-300)) for s in (g_var - u_g**2, 1.0 - u_g**2 / g_var))
    by_u = 2.0 * ndtr(1.0 / given_u) / math.sqrt(2.0 * math.pi)
    by_g = -2.0 * math.exp(-0.5 / g_var) / math.sqrt(2.0 * math.pi * g_var) * ndtr(u_g / g_var / given_g)
    return COVARIANCE @ (by_u * np.array([1.0, 0.0]) + by_g * v)


def propagators(dt):
    """P with (a, w∥, w₂)(t) = P (a, w∥, w₂)(0) after each of `SEEN` steps: ȧ = w·q, ẇ = a q, F = c E[a w]·x/√d."""
    p, seen = np.eye(3), []
    for step in range(1, N_STEPS + 1):
        q = 0.5 / math.sqrt(D) * mean_force(0.5 / math.sqrt(D) * (p @ p.T)[0, 1:])
        generator = np.zeros((3, 3))
        generator[0, 1:] = generator[1:, 0] = q
        p = p + dt * generator @ p
        if step in SEEN:
            seen.append(p)
    return seen


def test_the_mean_force_is_that_of_samples():
    """10⁶ samples, within 4 standard errors; and J of eq. 13 where F follows ŵ*."""
    n, v = 1_000_000, np.array([0.7, -0.4])
    x = np.random.default_rng(2).normal(size=(n, 2)) @ np.linalg.cholesky(COVARIANCE).T
    y = np.sign(x[:, 0])
    sample = x * (y * (y * (x @ v) < 1.0))[:, None]
    assert (np.abs(sample.mean(axis=0) - mean_force(v)) < 4.0 * sample.std(axis=0) / math.sqrt(n)).all()
    along = mean_force(np.array([0.8, 0.0]))[0]
    assert along == pytest.approx(math.sqrt(2 / math.pi) * (1 - math.exp(-0.5 / 0.8**2)), rel=1e-12)


@pytest.mark.slow
def test_a_general_covariance_moves_nodes_off_the_reference_direction():
    """What fails where x∥ correlates, here with 0.6, with another component of x.

    Real nodes follow the exact equations, in which the drive turns, and do not follow the single clock.
    """
    dt = 4.0 / N_STEPS * MeanField(D).time_scale
    root = np.eye(D)
    root[:2, :2] = np.linalg.cholesky(COVARIANCE)
    a0, w0, seen = simulate(lambda rng, n: rng.normal(size=(n, D)) @ root.T, dt, 0)
    start = np.stack([a0, w0[:, 0], w0[:, 1]])
    nodes = [np.stack([a, w[:, 0], w[:, 1]]) for a, w in seen]
    clock = MeanField(D, dt=dt).solve(dt * SEEN).nodes(a0, w0[:, 0])

    def relative(error, motion):
        return np.sqrt((error**2).mean() / (motion**2).mean())

    for k, (now, p) in enumerate(zip(nodes, propagators(dt), strict=True)):
        motion = now - start
        off_a, off_w = (relative(now[i] - clock[i][k], motion[i]) for i in (0, 1))
        assert relative(now - p @ start, motion) < 0.05  # the noise of the batches and of finite M
        assert off_a > 0.3  # a third to a half of the motion of a is missed
        if SEEN[k] <= 6:
            assert relative(motion[2], motion[1]) == pytest.approx(CORRELATION, rel=0.15)  # of the same order
        if SEEN[k] >= 9:
            assert off_w > 0.25  # and, as the drive turns, a third of that of w∥
    outputs = [0.5 / math.sqrt(D) * (p @ p.T)[0, 1:] for p in propagators(dt)]
    turned = [math.degrees(math.atan2(*mean_force(v)[::-1])) for v in (np.zeros(2), *outputs)]
    assert turned[0] == pytest.approx(math.degrees(math.atan(CORRELATION)))  # along Cŵ*
    assert min(turned) < -20.0  # it turns by more than 50°: no single direction would do


@pytest.mark.slow
def test_components_of_another_variance_across_do_no_harm():
    """The solution asks for no isotropy across ŵ*: where x∥ is independent of x⊥, ⟨φ y x⊥⟩ = 0 whatever C⊥ is."""
    scale = np.linspace(0.3, 2.0, D)
    scale[0] = 1.0
    dt = 4.0 / N_STEPS * MeanField(D).time_scale
    model = MeanField(D, dt=dt)
    a0, w0, seen = simulate(lambda rng, n: rng.normal(size=(n, D)) * scale, dt, 3)
    measured = np.array([(a * w[:, 0]).mean() - (a0 * w0[:, 0]).mean() for a, w in seen])
    solution = model.solve(dt * SEEN)
    predicted = 2.0 * solution.cosh * solution.sinh
    assert (np.abs(measured - predicted) < 3.0 * expected_spread(model, dt) + 0.01 * predicted).all()

"""Tangent kernels against drawn nodes, dense quadrature, and the gradient that defines them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import erf, expit

from mfnet.theory import MeanField, tangent_kernel
from mfnet.theory.activations import ACTIVATIONS, WITH_LINEAR_ODD_PART
from mfnet.theory.tangent_kernel import ActualKernel, Gram, LimitKernel

#: σ and σ′, written independently of the theory's odd and even parts.
SIGMA = {
    "relu": (lambda z: np.maximum(z, 0.0), lambda z: (z > 0) * 1.0),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
    "linear": (lambda z: z, np.ones_like),
    "gelu": (
        lambda z: z * 0.5 * (1 + erf(z / math.sqrt(2))),
        lambda z: 0.5 * (1 + erf(z / math.sqrt(2))) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi),
    ),
    "silu": (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * (1 - expit(z)))),
    "softplus": (lambda z: np.logaddexp(0, z), expit),
}
SMOOTH = [name for name in WITH_LINEAR_ODD_PART if ACTIVATIONS[name].kink is None]


def inputs(n, d, seed=0):
    """Inputs of different lengths, one of them twice: θ = 0 is reached."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * rng.uniform(0.5, 1.5, size=(n, 1))
    x[-1] = x[0]
    return x


@pytest.mark.parametrize("activation", WITH_LINEAR_ODD_PART)
@pytest.mark.parametrize(("a_std", "w_std"), [(1.0, 1.0), (2.0, 0.5), (0.7, 1.5)])
def test_the_limit_is_the_average_over_nodes(activation, a_std, w_std):
    """2·10⁵ nodes, within 4.5 standard errors for each of 21 pairs (two-sided: 1.4·10⁻⁴ for all of them)."""
    rng, d, M = np.random.default_rng(1), 6, 200_000
    x = inputs(6, d)
    a, z = a_std * rng.normal(size=M), w_std * rng.normal(size=(M, d)) @ x.T / math.sqrt(d)
    value, slope = (f(z) for f in SIGMA[activation])
    kernel = LimitKernel(activation, a_std, w_std)(x, x)
    for i in range(6):
        for j in range(i + 1):
            sample = value[:, i] * value[:, j] + a**2 * slope[:, i] * slope[:, j] * (x[i] @ x[j] / d)
            assert abs(sample.mean() - kernel[i, j]) < 4.5 * sample.std() / math.sqrt(M)
            assert kernel[i, j] == pytest.approx(kernel[j, i], rel=1e-12)


def test_relu_is_the_formula_of_theory_md():
    x, d = inputs(30, 5), 5
    norm = np.linalg.norm(x, axis=1)
    cos = np.clip(x @ x.T / np.outer(norm, norm), -1.0, 1.0)
    theta = np.arccos(cos)
    expected = np.outer(norm, norm) / (2 * math.pi * d) * (np.sin(theta) + (math.pi - theta) * cos)
    expected += x @ x.T / d * (math.pi - theta) / (2 * math.pi)
    np.testing.assert_allclose(LimitKernel("relu")(x, x), expected, rtol=1e-7)  # arccos at θ = 0: √rounding


def test_relu_in_many_dimensions():
    """K = k₀ + k₁ρ + k₂ρ² + … with k₀ = 1/(2π), k₁ = ½, k₂ = 3/(4π) (theory.md 4)."""
    rho, d = np.array([-0.02, -0.01, 0.0, 0.01, 0.02]), 2
    x = math.sqrt(d) * np.stack([rho, np.sqrt(1 - rho**2)], axis=1)
    row = LimitKernel("relu")(math.sqrt(d) * np.eye(d)[:1], x)[0]
    np.testing.assert_allclose(row, 1 / (2 * math.pi) + rho / 2 + 3 * rho**2 / (4 * math.pi), atol=1e-7)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_the_series_is_the_double_integral(activation, scale):
    """Dense reference: the trapezoidal rule on a 400 × 400 grid of the two normals behind (z, z')."""
    a_std, w_std, d = 1.3, 0.8, 3
    x = scale * np.array([[1.0, 0, 0], [0.6, 0.8, 0], [-2.0, 0.1, 0], [0, 0, 1.5]])
    value, slope = SIGMA[activation]
    grid = np.linspace(-9.0, 9.0, 400)
    weight = np.exp(-(grid**2) / 2) * (grid[1] - grid[0]) / math.sqrt(2 * math.pi)
    kernel = LimitKernel(activation, a_std, w_std)(x, x)
    for i in range(4):
        for j in range(4):
            s, s2 = (w_std * np.linalg.norm(x[k]) / math.sqrt(d) for k in (i, j))
            rho = w_std**2 * x[i] @ x[j] / d / (s * s2)
            z = s * grid[:, None]
            z2 = s2 * (rho * grid[:, None] + math.sqrt(max(1 - rho**2, 0.0)) * grid)
            integrand = value(z) * value(z2) + a_std**2 * slope(z) * slope(z2) * (x[i] @ x[j] / d)
            assert kernel[i, j] == pytest.approx(weight @ integrand @ weight, rel=1e-9, abs=1e-9 * kernel.max())


def test_inputs_too_long_for_the_series():
    with pytest.raises(ValueError, match="scale the inputs down"):
        LimitKernel("silu")(40.0 * np.eye(2), np.eye(2))


@pytest.mark.parametrize("activation", WITH_LINEAR_ODD_PART)
def test_actual_nodes_by_their_gradient(activation):
    """M⟨∇f(x), ∇f(x')⟩ with ∇ by central differences, accurate to ten digits away from kinks."""
    rng, d, M, step = np.random.default_rng(2), 3, 5, 1e-6
    x = inputs(4, d)
    parameters = rng.normal(size=M * (d + 1))

    def output(p):
        return SIGMA[activation][0](x @ p[M:].reshape(M, d).T / math.sqrt(d)) @ p[:M] / M

    gradient = np.array(
        [(output(parameters + e) - output(parameters - e)) / (2 * step) for e in step * np.eye(len(parameters))]
    )
    kernel = ActualKernel(activation, parameters[:M], parameters[M:].reshape(M, d))
    np.testing.assert_allclose(kernel(x, x), M * gradient.T @ gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("activation", WITH_LINEAR_ODD_PART)
def test_the_clock_of_actual_nodes(activation):
    """Nodes are moved by a small pull δ at one input, and γ is measured as `mfnet.network.observables` does."""
    rng, d, M, pull = np.random.default_rng(3), 5, 4000, 1e-5
    x, direction = inputs(3, d), np.eye(d)[1]
    a, w = rng.normal(size=M), 1.5 * rng.normal(size=(M, d))
    u, v = a + w @ direction, a - w @ direction
    measured = []
    for one in x:
        z = w @ one / math.sqrt(d)
        value, slope = SIGMA[activation]
        a_new, w_new = a + pull * value(z), w + pull * np.outer(a * slope(z), one) / math.sqrt(d)
        growth = (a_new + w_new @ direction) @ u / (u @ u)
        decay = (a_new - w_new @ direction) @ v / (v @ v)
        measured.append((growth - decay) / 2 / pull)
    np.testing.assert_allclose(
        ActualKernel(activation, a, w).clock(x, direction), measured, rtol=1e-9, atol=1e-10
    )  # rounding/pull
    limit = LimitKernel(activation, 1.0, 1.5).clock(x, direction)
    # the sum of M terms about as large as an input; 4 standard errors
    np.testing.assert_allclose(limit, measured, atol=4.0 * np.linalg.norm(x, axis=1).max() / math.sqrt(M))


def test_the_limit_clock_is_the_mean_field_rate():
    """γ̇ = cJ/(α√d) with J = ⟨y x∥⟩ at t = 0 (theory.md 2)."""
    d = 50
    x = np.random.default_rng(4).normal(size=(20_000, d))
    y = np.where(x[:, 0] > 0, 1.0, -1.0)
    rate = np.mean(y * LimitKernel("relu").clock(x, np.eye(d)[0])) / 7.0
    assert rate == pytest.approx(MeanField(d=d, alpha=7.0).rate(0.0), rel=4 * 0.76 / math.sqrt(20_000))


@pytest.mark.parametrize("kernel", ["limit", "smooth", "actual"])
def test_blocks_are_the_whole(kernel, monkeypatch):
    """Small blocks, and a Gram matrix that is computed again for each product, change nothing but rounding."""
    rng = np.random.default_rng(5)
    x, x2, v = rng.normal(size=(50, 4)), rng.normal(size=(30, 4)), rng.normal(size=30)
    y2 = np.sign(v)
    nodes = rng.normal(size=40), rng.normal(size=(40, 4))
    kernel = {"limit": LimitKernel("relu"), "smooth": LimitKernel("gelu"), "actual": ActualKernel("relu", *nodes)}[
        kernel
    ]
    whole, gram = kernel(x, x2), Gram(kernel, x2, y2)
    for name, small in (("ROWS", 7), ("NODES", 11), ("STORED_BYTES", 0)):
        monkeypatch.setattr(tangent_kernel, name, small)
    np.testing.assert_allclose(kernel(x, x2), whole, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(kernel.product(x, x2, v[:, None])[:, 0], whole @ v, rtol=1e-9, atol=1e-9)
    again, chosen = Gram(kernel, x2, y2), np.array([3, 17, 4])
    np.testing.assert_allclose(again.product(v), gram.product(v), rtol=1e-9, atol=1e-9)
    some = np.zeros(30)
    some[chosen] = v[chosen]
    for each in (gram, again):
        np.testing.assert_allclose(each.columns_product(chosen, v[chosen]), gram.product(some), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(each.columns_product(np.arange(30), v), gram.product(v), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(again.among(chosen), gram.among(chosen), rtol=1e-9)
    np.testing.assert_allclose(gram.among(chosen)[0, 1], y2[3] * y2[17] * kernel(x2, x2)[3, 17], rtol=1e-9)
    np.testing.assert_allclose(gram.diagonal, np.diagonal(kernel(x2, x2)), rtol=1e-9)

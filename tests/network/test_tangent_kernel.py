"""The tangent kernel of a network against autograd and the theory's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mfnet.compute.seeding import generator
from mfnet.network import MeanFieldNetwork
from mfnet.network.activations import ACTIVATIONS
from mfnet.network.tangent_kernel import kernel_motion, tangent_kernel
from mfnet.theory.activations import WITH_LINEAR_ODD_PART
from mfnet.theory.tangent_kernel import ActualKernel, LimitKernel
from mfnet.training import KernelLog
from support.problems import ROUNDING, make_problem


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_is_m_times_the_product_of_gradients(activation):
    problem = make_problem(M=30, N=12, d=5, activation=activation, moved=True)
    network, gradients = problem.network, []
    for x in problem.batch.x:
        grad = torch.autograd.grad(network(x[None]).sum(), [network.a, network.w])
        gradients.append(torch.cat([part.flatten() for part in grad]))
    gradients = torch.stack(gradients)
    expected = 30 * gradients @ gradients.T
    torch.testing.assert_close(
        tangent_kernel(network, problem.batch.x), expected, rtol=ROUNDING[torch.float64], atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", WITH_LINEAR_ODD_PART)
def test_network_and_theory_agree_on_the_initial_kernel(activation, dtype):
    """Two tiles of nodes; also in float32, whose parameters are exact numbers: the kernel is computed in float64."""
    problem = make_problem(M=1500, N=12, d=5, activation=activation, dtype=dtype, moved=True)
    a0, w0, x = (value.double().numpy() for value in (problem.network.a0, problem.network.w0, problem.batch.x))
    kernel = tangent_kernel(problem.network, problem.batch.x, initial=True)
    assert kernel.dtype is torch.float64
    # GELU and SiLU are written differently on the two sides
    np.testing.assert_allclose(kernel.numpy(), ActualKernel(activation, a0, w0)(x, x), rtol=1e-11, atol=1e-12)


def test_the_kernel_is_what_drives_margins():
    """One step of gradient descent in mean-field time moves F by Δt K(yφ)/N/α, up to its square."""
    problem, dt, alpha = make_problem(M=50, N=20, d=5, activation="gelu"), 1e-6, 1.0
    network, (x, y) = problem.network, problem.batch
    f0 = network.output(x, initial=True)
    predicted = dt / (alpha * len(y)) * tangent_kernel(network, x) @ y
    loss = -(alpha * y * network.excess(x)).mean() / alpha**2  # hinge, all examples unsatisfied
    loss.backward()
    with torch.no_grad():
        for parameter in (network.a, network.w):
            parameter -= 50 * dt * parameter.grad
    torch.testing.assert_close(network.output(x) - f0, predicted, rtol=1e-4, atol=1e-12)


def test_fluctuation_about_the_limit_falls_as_one_over_sqrt_m():
    x = make_problem(N=60, d=20).batch.x
    limit = torch.from_numpy(LimitKernel("relu")(x.numpy(), x.numpy()))
    distance = []
    for M in (200, 12_800):
        runs = [MeanFieldNetwork(M, 20, generator=generator(s, "network"), dtype=torch.float64) for s in range(10)]
        distance.append(np.mean([kernel_motion(tangent_kernel(network, x), limit).change for network in runs]))
    assert distance[0] / distance[1] == pytest.approx(8.0, rel=0.25)


def test_motion_of_a_kernel():
    kernel = tangent_kernel(make_problem(N=10).network, make_problem(N=10).batch.x)
    assert kernel_motion(kernel, kernel) == pytest.approx((0.0, 1.0), abs=1e-12)
    assert kernel_motion(3.0 * kernel, kernel) == pytest.approx((2.0, 1.0), abs=1e-12)
    across = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert kernel_motion(across, torch.eye(2, dtype=torch.float64)) == pytest.approx((math.sqrt(2.0), 0.0), abs=1e-12)


def test_a_log_of_no_examples_is_refused():
    with pytest.raises(ValueError, match="n=0"):
        KernelLog(n=0)

"""Activations of one's own: any elementwise function of torch's, or a record."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from mfnet.compute.seeding import generator
from mfnet.network import ACTIVATIONS, Activation, MeanFieldNetwork, activation_of

PRELU = Activation(
    "prelu",
    lambda z: torch.where(z > 0, z, 0.2 * z),
    lambda z: torch.where(z > 0, 1.0, 0.2).to(z.dtype),
    lambda z: functional.leaky_relu_(z, 0.2),
    lambda s: s.gt_(0.0).mul_(0.8).add_(0.2),
)


def test_a_name_a_record_and_a_builtins_function_are_the_builtin():
    for name, activation in ACTIVATIONS.items():
        assert activation_of(name) is activation_of(activation) is activation_of(activation.value) is activation
    assert activation_of(torch.relu) is ACTIVATIONS["relu"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4)])
def test_the_derivative_of_a_function_is_autograds_without_gradients_too(shape, dtype):
    tanh = activation_of(torch.tanh)
    z = torch.randn(shape, generator=generator(0, "z"), dtype=torch.float64).to(dtype)
    with torch.no_grad():
        value, derivative = tanh.value(z), tanh.derivative(z)
    assert (tanh.name, tanh.homogeneous, tanh.theory) == ("tanh", False, None)
    assert value.dtype is derivative.dtype is dtype
    assert not derivative.requires_grad
    torch.testing.assert_close(derivative, 1.0 - value.square())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_autograds_derivative_is_that_of_the_builtins(name):
    z = torch.linspace(-4.1, 4.3, 50, dtype=torch.float64)
    own = activation_of(lambda z: ACTIVATIONS[name].value(z) + 0.0)
    torch.testing.assert_close(own.derivative(z), ACTIVATIONS[name].derivative(z), rtol=1e-13, atol=1e-14)


def test_a_network_takes_a_function_and_its_gradient_is_that_of_the_formula():
    network = MeanFieldNetwork(5, 3, torch.tanh, generator=generator(0, "network"), dtype=torch.float64)
    x = torch.randn(4, 3, generator=generator(0, "x"), dtype=torch.float64)
    expected = torch.tanh(x @ network.w.T / math.sqrt(3.0)) @ network.a / 5
    torch.testing.assert_close(network.output(x), expected.detach(), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(network(x), expected, rtol=1e-13, atol=1e-14)


def test_a_homogeneous_record_is_taken_with_its_twin():
    twin = object()
    own = activation_of(replace(PRELU, theory=twin))
    assert own.homogeneous
    assert own.theory is twin


def twice(z):
    return 2.0 * z.double()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("tahn", "there is no activation 'tahn': known are relu"),
        (3.0, "give a name, an Activation, or a function"),
        (torch.nn.Tanh, "cannot be evaluated"),
        (math.sin, "cannot be evaluated"),
        (math.tanh, "name that one, or rename yours"),
        (torch.heaviside, "cannot be evaluated"),
        (lambda z: torch.tensor(z.detach().numpy() ** 2), "cannot be evaluated and differentiated"),
        (torch.sum, r"σ of a float32 tensor of shape \(3, 4\) is a float32 tensor of shape \(\)"),
        (twice, "is a float64 tensor"),
        (lambda z: torch.softmax(z, dim=-1), "not elementwise"),
        (lambda z: z.clamp_(-1.0, 1.0), "in-place operation"),
        (Activation("square", torch.square, lambda z: z.mul_(2.0)), "changes its argument"),
        (functional.relu, "cannot be called relu"),
        (Activation("cube", lambda z: z**3, lambda z: z**2), "its derivative is not"),
        (replace(PRELU, derivative_=None), "come together"),
        (replace(PRELU, derivative_=torch.ones_like), "value_ or derivative_ is not"),
        (
            Activation("shifted", lambda z: z + 1.0, torch.ones_like, lambda z: z.add_(1.0), lambda s: s.fill_(1.0)),
            "homog",
        ),
    ],
)
def test_what_is_no_activation_is_refused_in_one_line(given, words):
    with pytest.raises(ValueError, match=words) as refusal:
        activation_of(given)
    assert "\n" not in str(refusal.value)

"""Which theory is laid over a run that asks for none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mfnet.theory import Activation, Auto, FiniteWidth, Loss, MeanField
from mfnet.theory.choice import CHEAP
from mfnet.theory.closures import KernelClosure
from support.draws import make_draw

MODEL = MeanField(d=10)


def test_on_a_training_set_it_is_the_kernel_closure_of_the_run():
    chosen, because = Auto(MODEL, 30).choose(200, 500, None)
    assert chosen.needs_draw
    assert chosen.trusted_as == "kernel_closure"
    assert "200 examples and 30 nodes" in because
    draw = make_draw(200, 30, 10, 0, n_test=500)
    calls = []
    theory = chosen.of_draw(lambda: calls.append(1) or draw)
    assert calls == [1]
    t = np.array([1.0, 10.0, 40.0])
    closure = KernelClosure(MODEL, start="actual").of_draw(lambda: draw)
    for name, curve in closure.series(t).items():
        np.testing.assert_array_equal(theory.series(t)[name].value, curve.value)
    expected = FiniteWidth(MODEL, 30).satisfaction(t)
    for edge, values in zip(theory.satisfaction(t), expected, strict=True):
        np.testing.assert_array_equal(edge, values)
    own = draw.a0[:4], draw.w0[:4, 0], np.linalg.norm(draw.w0[:4, 1:], axis=1)
    np.testing.assert_array_equal(theory.nodes(t, *own).a, closure.nodes(t, *own).a)
    other = np.array([0.123]), np.array([0.5]), np.array([1.0])  # not of this draw: on its mean-field hyperbola
    np.testing.assert_array_equal(theory.nodes(t, *other).a, MODEL.nodes(t, *other).a)


CONCAVE = Loss("concave", lambda m, h: -(m**2), lambda m, h: 1.0 + m**2, lambda m, h: -2.0 * m)
JUMPING = Loss("jumping", lambda m, h: m, lambda m, h: (m < 2.0 * h) + 0.0, None)


@pytest.mark.parametrize(
    ("model", "N", "refused", "reason"),
    [
        (MODEL, 200, "the examples are new at each step", "since the examples are new at each step"),
        (MODEL, int(CHEAP / 100) + 1, None, "costs (N + test examples) d²"),
        (dataclasses.replace(MODEL, loss=CONCAVE), 200, None, "needs a convex loss"),
        (dataclasses.replace(MODEL, loss=JUMPING), 200, None, "whose force jumps"),
    ],
)
def test_elsewhere_it_is_the_average_over_draws(model, N, refused, reason):
    chosen, because = Auto(model, 30).choose(N, 0, refused)
    assert chosen == FiniteWidth(model, 30)
    assert reason in because
    assert "\n" not in because


def test_without_the_even_part_it_is_the_mean_field():
    model = dataclasses.replace(MODEL, activation=Activation("half known", 0.5))
    chosen, because = Auto(model, 30).choose(200, 100, None)
    assert chosen is model
    assert "'even' of the activation" in because

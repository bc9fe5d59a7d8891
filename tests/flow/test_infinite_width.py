"""`InfiniteWidth` against closed theories where they are exact, and what it is refused for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import mfnet
from mfnet.compute.seeding import generator
from mfnet.flow import InfiniteWidth
from mfnet.network import MeanFieldNetwork
from mfnet.theory import Draw, KernelFlow, LinearClosure, MeanField, cost
from mfnet.theory.overlay import drawn_nodes

T = np.array([0.0, 1.0, 5.0, 20.0, 60.0])


def drawn(M=16, N=120, d=8, flip=0.0, seed=0, init="independent"):
    """Nodes of a run, and its examples, some with reversed labels."""
    rng = np.random.default_rng(seed)
    x, x_test, direction = rng.normal(size=(N, d)), rng.normal(size=(500, d)), np.eye(d)[0]
    y = np.sign(x[:, 0]) * np.where(rng.random(N) < flip, -1.0, 1.0)
    network = MeanFieldNetwork(M, d, generator=generator(seed, "network"), init=init, dtype=torch.float64)
    return Draw(network.a0.numpy(), network.w0.numpy(), x, y, x_test, np.sign(x_test[:, 0]), direction)


@pytest.mark.parametrize("init", ["independent", "balanced"])
def test_a_linear_network_is_the_linear_closure(init):
    """Exact there at M = ∞, on any examples; so are passive nodes. Two sizes differ by the error of steps alone."""
    draw = drawn(flip=0.1, init=init)
    theory = InfiniteWidth(1.0, activation="linear").of_draw(lambda: draw)
    closed = LinearClosure(MeanField(d=8, activation="linear"), resolution=0.005).of_draw(lambda: draw)
    ours, limit = theory.series(T), closed.series(T)
    for name in ("gamma", "loss", "displacement", "test_error"):
        np.testing.assert_allclose(
            ours[name].value, limit[name].value, atol=0.02 * limit[name].value.max(), err_msg=name
        )
    assert theory.sizes(T) == (64, 128)
    start = draw.a0[:6], draw.w0[:6, 0], np.linalg.norm(draw.w0[:6, 1:], axis=1)
    for found, expected in zip(theory.nodes(T, *start), closed.nodes(T, *start), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.02 * abs(expected).max())


def test_a_lazy_network_is_the_kernel_flow():
    """α → ∞: the flow of the limit kernel, apart from the scatter of 2M′ = 128d nodes, 0.5/√(2M′) an element."""
    draw = drawn()
    model = MeanField(d=8, alpha=1e4)
    t = model.time_scale * np.array([0.0, 0.1, 1.0, 5.0])
    ours = InfiniteWidth(1e4, first=16, largest=32).of_draw(lambda: draw).series(t)
    limit = KernelFlow(model).of_draw(lambda: draw).series(t)
    np.testing.assert_allclose(ours["gamma"].value, limit["gamma"].value, rtol=0.03)
    np.testing.assert_allclose(ours["test_error"].value, limit["test_error"].value, atol=0.02)
    np.testing.assert_allclose(ours["loss"].value, limit["loss"].value, atol=0.02 * limit["loss"].value[0])


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_passive_nodes_that_start_where_active_ones_do_go_where_they_go(activation):
    """The run's nodes are the 2M′ ones of the theory itself, and take the same steps, to rounding of float32."""
    draw = drawn()
    nodes = MeanFieldNetwork(
        128, 8, generator=generator(0, "infinite width", 128), init="balanced", dtype=torch.float64
    )
    draw = draw._replace(a0=nodes.a0.numpy(), w0=nodes.w0.numpy())
    theory = InfiniteWidth(1.0, activation=activation, rtol=1.0, atol=1.0).of_draw(lambda: draw)
    w_perp0 = np.linalg.norm(draw.w0[:, 1:], axis=1)
    found = theory.nodes(T, draw.a0, draw.w0[:, 0], w_perp0)
    end = theory._solve(T)[1].flow.objective.networks.nodes
    active = end.a[0].numpy(), end.w[0, :, 0].numpy(), end.w[0, :, 1:].norm(dim=1).numpy()
    start = draw.a0, draw.w0[:, 0], w_perp0
    for ours, theirs, then in zip(found, active, start, strict=True):
        assert np.linalg.norm(ours[-1] - theirs) < 1e-3 * np.linalg.norm(theirs - then)
    if activation == "relu":  # to rounding of float32
        invariant = found.a**2 - found.w_par**2 - found.w_perp**2
        np.testing.assert_allclose(invariant, np.broadcast_to(invariant[0], invariant.shape), atol=1e-3)


def test_more_nodes_are_taken_until_two_networks_agree():
    draw = drawn(N=60, flip=0.1)
    few = InfiniteWidth(1.0, rtol=10.0, atol=1.0).of_draw(lambda: draw)
    many = InfiniteWidth(1.0, rtol=1e-9, largest=9).of_draw(lambda: draw)
    assert few.sizes(T) == (64, 128)
    assert many.sizes(T) == (128, 256)  # 512 = 16 · 4d would be more than 9 · 4d
    curve = few.series(T)["test_error"]
    assert (curve.lower <= curve.value).all()
    assert (curve.upper >= curve.value).all()
    assert (curve.upper - curve.lower)[1:].max() > 0.0


def test_a_prediction_is_the_same_again_and_leaves_the_global_random_state_alone():
    draw, state = drawn(), torch.get_rng_state()
    first, again, other = (InfiniteWidth(1.0, seed=seed).of_draw(lambda: draw).series(T) for seed in (0, 0, 1))
    for name, curve in first.items():
        np.testing.assert_array_equal(curve.value, again[name].value)
    assert not np.array_equal(first["gamma"].value, other["gamma"].value)
    assert torch.equal(torch.get_rng_state(), state)


def test_after_the_end_the_networks_rest():
    draw, t = drawn(N=20), np.array([0.0, 100.0, 3000.0, 4000.0])
    series = InfiniteWidth(1.0).of_draw(lambda: draw).series(t)
    assert series["unsatisfied"].value[-1] == 0.0
    assert series["mean_force"].value[-1] == 0.0
    assert series["gamma"].value[-1] == series["gamma"].value[-2]
    smooth = InfiniteWidth(1.0, loss="logistic").of_draw(lambda: draw).series(t)
    assert smooth["unsatisfied"].value[-2] == 0.0
    assert smooth["gamma"].value[-1] > smooth["gamma"].value[-2]  # which still has a force


def test_its_cost_is_told_before_it_starts(monkeypatch, capsys):
    monkeypatch.setattr(cost, "TOLD", 0.0)
    InfiniteWidth(1.0).of_draw(drawn).series(T)
    assert capsys.readouterr().err.startswith("mfnet: infinite_width trains M=64 and 128 nodes, N=120: about ")


def test_nodes_of_another_draw_are_not_known():
    draw = drawn()
    assert drawn_nodes(draw, np.array([0.123]), np.array([0.0])) is None
    theory = InfiniteWidth(1.0).of_draw(lambda: draw)
    assert theory.nodes(T, np.array([0.123]), np.zeros(1), np.ones(1)) is None


def test_balanced_nodes_are_told_apart_though_they_have_their_a_in_common():
    draw = drawn(init="balanced")
    found = drawn_nodes(draw, draw.a0, np.float32(draw.w0[:, 0]).astype(float))
    np.testing.assert_array_equal(found, np.arange(16))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"first": 0}, "first=0 must be a whole number of at least 1"),
        ({"first": 4, "largest": 7}, "largest=7 is below twice first=4"),
        ({"rtol": 0.0}, "rtol=0.0 must be above 0"),
        ({"atol": math.nan}, "atol=nan must be above 0"),
    ],
)
def test_one_error_for_what_is_not_allowed(settings, said):
    with pytest.raises(ValueError, match=said):
        InfiniteWidth(1.0, **settings)


def test_without_a_draw_there_is_nothing_to_predict():
    with pytest.raises(ValueError, match="give it the run's draw"):
        InfiniteWidth(1.0).series(T)


# ---------------------------------------------------------------- over runs

SMALL = {"M": 40, "N": 100, "d": 8, "schedule": {"t_max": 30.0, "per_decade": 3}, "logger": []}


@pytest.mark.unchecked
def test_it_is_laid_over_a_run_with_its_nodes_and_band():
    run = mfnet.train(**SMALL, overlay=["infinite_width"])
    for name in ("gamma", "unsatisfied", "mean_force", "loss", "train_error", "test_error", "displacement"):
        assert {f"{name}_infinite_width{edge}" for edge in ("", "_lo", "_hi")} <= set(run.history)
    assert run.nodes["a_infinite_width"].shape == run.nodes["a"].shape
    moved = run.nodes["a"][-1] - run.nodes["a"][0]
    assert np.abs(run.nodes["a_infinite_width"][-1] - run.nodes["a"][-1]).max() < 0.5 * np.abs(moved).max()


@pytest.mark.unchecked
def test_an_activation_and_a_loss_of_ones_own_go_with_it():
    """Given as objects, or by their dotted names; no other theory knows them."""

    class Steep(mfnet.MarginLoss):
        def __call__(self, m):
            return torch.exp(-m / 2)

    own = {"network": {"activation": lambda z: z.tanh()}, "loss": Steep, "theory": None}
    run = mfnet.train(**SMALL, **own, overlay=["infinite_width"])
    assert abs(run.history["gamma_infinite_width"] - run.history["gamma_network"]).max() < 0.2
    named = mfnet.train(**SMALL, network={"activation": torch.tanh}, theory=None, overlay=["infinite_width"])
    assert named.history["gamma_infinite_width"].iloc[-1] > 0.0


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"replicas": 2}, "overlay.infinite_width._target_=.*speaks of one run; use replicas=1, or leave it out"),
        ({"data": "online", "flow": "rotation"}, "speaks of a fixed training set, and these data are new at each step"),
        ({"overlay": [], "theory": "infinite_width", "theory__first": 9}, "largest=16 is below twice first=9"),
    ],
)
def test_one_line_for_runs_that_it_cannot_speak_of(settings, said):
    with pytest.raises(mfnet.SettingError, match=said):
        mfnet.train(**{**SMALL, "overlay": ["infinite_width"], **settings})


@pytest.mark.unchecked
def test_it_is_predicted_without_a_run(command, tmp_path):
    small = ["M=40", "N=100", "d=8", "schedule=listed", "schedule.times=[1,10]"]
    done = command("predict", *small, "theory=infinite_width", "hydra.run.dir=p").ok()
    assert "test_error" in done.out
    header = (tmp_path / "p" / "history.csv").read_text().splitlines()[0]
    assert "test_error_theory_lo" in header

"""Whatever a setting is given: it is refused in one line, or the run can be made; nothing is written by a refusal."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mfnet
from mfnet.record.directory import RunDirectory
from mfnet.setup.names import keys
from mfnet.setup.settings import BY_KEY, SYMBOLS_AND_GROUPS
from mfnet.training import Training
from support.command import call

#: Types are not checked at run time here, where they would be refused for another reason.
pytestmark = pytest.mark.unchecked

SMALL = {"M": 8, "N": 60, "d": 6, "data.n_test": 40, "trainer.accelerator": "cpu", "logger": []}

#: Choices of groups, by which every setting is reached.
CONTEXTS = (
    {},
    {"data": "latent", "theory": "hydrodynamic"},
    {"data": "mixture", "flow": "sgd", "theory": "none"},
    {"data": "elongated", "flow": "adam", "theory": "finite_width"},
    {"data": "radial", "flow": "heun", "theory": "kernel_flow"},
    {"data": "online", "flow": "euler", "schedule": "listed"},
    {"overlay": ["laziness", "node_agreement", "later_kernel"], "theory": "linear_closure"},
    {"data": "digits", "theory": "infinite_width", "overlay": ["baselines"]},
)

SIZES = ("M", "trainer.accelerator", "logger")


def asked(context):
    """The choices of a context, for a small run."""
    real = context.get("data") == "digits"
    return {**{key: value for key, value in SMALL.items() if not real or key in SIZES}, **context}


@cache
def known(context):
    """The settings of a context, and the groups that they are in."""
    leaves = keys(mfnet.Setup.of(**asked(CONTEXTS[context])).config)
    every = {*leaves, *(leaf.rpartition(".")[0] for leaf in leaves), *BY_KEY} - {"", "ckpt", "batch", "objective"}
    return sorted(key for key in every if key.partition(".")[0] in SYMBOLS_AND_GROUPS)


#: Numbers at which floating point, integers or memory end, and words that are none.
ODD = [None, True, -1, 0, 1, 2**63, 10**400, -0.5, 1e-300, 1e-30, 1e-12, 1.5, 1e9, 1e30, 1e300]
ODD += [
    float("nan"),
    float("inf"),
    "",
    "abc",
    "a.b",
    "..",
    "x" * 300,
    "1e5",
    "null",
    "auto",
    "${d}",
    "${nope}",
    "mfnet.theory.Theory",
]
ODD += [[], [1], [None], ["a", "b"], [1.0, 1.0000000000000002], {}, {"a": 1}, {"_target_": None}, {"_target_": 3}]

VALUES = st.one_of(
    st.sampled_from(ODD),
    st.integers(-3, 10**20),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.sampled_from(ODD), max_size=3),
    st.dictionaries(st.sampled_from(["_target_", "_partial_", "name", "x"]), st.sampled_from(ODD), max_size=3),
)


@st.composite
def changed(draw):
    context = draw(st.integers(0, len(CONTEXTS) - 1))
    return context, draw(st.sampled_from(known(context))), draw(VALUES)


def outcome(context, key, value, directory):
    """What is said of a setting that is refused; else None, and the run can be made."""
    try:
        setup = mfnet.Setup.of(**{**asked(CONTEXTS[context]), key: value})
        assert Training(setup, directory).headline
    except mfnet.SettingError as error:
        return str(error)
    return None


@pytest.mark.parametrize("context", range(len(CONTEXTS)))
def test_every_context_can_be_run(context, tmp_path):
    assert Training(mfnet.Setup.of(**asked(CONTEXTS[context])), RunDirectory(tmp_path / "run")).headline


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(change=changed())
def test_any_value_of_any_setting_is_refused_in_a_line_or_can_be_run(change, tmp_path):
    said = outcome(*change, RunDirectory(tmp_path / "run"))
    assert said is None or (said and "\n" not in said)
    assert list(tmp_path.iterdir()) == []


GROUPS = ("network", "loss", "data", "flow", "theory", "mean_field", "hydrodynamic", "schedule", "stop", "trainer")

REFUSED = [
    *([f"++{group}={value}"] for group in GROUPS for value in ("null", "3")),
    *([f"~{group}"] for group in (*GROUPS, "callbacks")),
    *([f"data.seed={value}"] for value in ("abc", "-1", "1.5", "null", "[1]", "'{a: 1}'")),
    *([f"++trainer.callbacks={value}"] for value in ("[a]", "[null]", "abc")),
    *([f"++theory.{key}"] for key in ("mean_field=null", "mean_field=3", "M=3", "M=a.b", "init=balanced", "init=3")),
    ["++callbacks.node_log=null"],
    ["+callbacks.x=3"],
    ["+callbacks.x=null"],
    ["data.d=null"],
    ["data.d=3"],
    ["data.n_train=100"],
    ["data.radius=3"],
    ["++data.stretch=2"],
    ["data=mixture", "data.inputs=normal"],
    ["data=radial", "data.radius.a=[1]"],
    ["data=digits", "++data.source=abc"],
    ["data=digits", "++data.preparation=abc"],
    ["flow._target_=3"],
    ["flow._partial_=3"],
    ["flow=sgd", "flow.optimizer=null"],
    ["flow=sgd", "flow.optimizer.momentum=null"],
    ["flow=sgd", "flow.seed=abc"],
    ["flow=sgd", "flow.batch_size=1000000000000"],
    ["mean_field.d=3"],
    ["mean_field.flip=0.1"],
    ["mean_field.inputs=sphere"],
    ["mean_field.dt=1e9"],
    ["hydrodynamic.alpha=2"],
    ["hydrodynamic.d=abc"],
    ["network.a_std=1e200"],
    ["data=elongated", "data.stretch=1e300"],
    ["data=elongated", "data.stretch=1e-300"],
    ["h=1" + 30 * "0"],
    ["schedule.t_max=1e-300"],
    ["schedule=listed", "schedule.times=[1.0,1.0000000000000002]"],
    ["theory=infinite_width", "theory.seed=abc"],
    ["theory=kernel_closure", "theory.resolution=1e-9"],
    ["overlay=[laziness]", "overlay.moving_kernel.mean_field=3"],
    ["overlay=[laziness]", "overlay.moving_kernel.n=0"],
    ["overlay=[baselines]", "callbacks.baselines.seed=[null]"],
    ["logger=[csv]", "logger.csv.name=true"],
    ["+overlay." + 300 * "x" + "._target_=mfnet.theory.Theory"],
]


@pytest.mark.parametrize("typed", REFUSED, ids=lambda typed: " ".join(typed)[:60])
def test_what_is_no_setting_costs_one_line_and_nothing_else(typed, tmp_path):
    ended = call("train", *typed, cwd=tmp_path)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert typed[-1].lstrip("+~").partition("=")[0].split(".")[0][:20] in ended.err
    assert list(Path(tmp_path).iterdir()) == []


HOPELESS = [
    (["schedule.per_decade=1000000000"], "observations"),
    (["mean_field.dt=1e-9"], "e+12 steps"),
    (["flow=euler", "flow.dt=1e-30"], "e+33 steps"),
    (["flow=euler", "schedule.t_max=1e30"], "steps"),
    (["flow.rtol=1e-12"], "1e+11 steps"),
    (["flow=heun", "flow.rtol=1e-12", "flow.atol=0"], "steps"),
    (["flow.dt_max=1e-20"], "steps"),
    (["flow.safety=1e-12"], "steps"),
]


@pytest.mark.parametrize(("typed", "number"), HOPELESS, ids=lambda given: " ".join(given)[:60])
def test_a_hopeless_number_of_steps_is_told_beforehand(typed, number, tmp_path):
    ended = call("train", *typed, cwd=tmp_path)
    assert ended.status == 2
    assert number in ended.err
    assert ended.err.count("\n") == 1
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"mean_field.dt": 0.5},
        {"mean_field.inputs": "empirical"},
        {"data.seed": 7},
        {"data.inputs": "sphere"},
        {"data": "elongated", "data.stretch": 3},
        {"flow": "adam", "flow.optimizer.lr": None},
        {"theory": "finite_width", "alpha": 1},
        {"overlay": {"other": {"_target_": "mfnet.theory.MeanField", "d": 50}}},
    ],
    ids=str,
)
def test_what_may_differ_from_the_run_is_taken(settings, tmp_path):
    assert Training(mfnet.Setup.of(**{**SMALL, **settings}), RunDirectory(tmp_path / "run")).headline

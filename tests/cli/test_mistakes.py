"""Mistakes in what is typed: each costs one line and leaves nothing."""

from __future__ import annotations

import pytest
import torch

import mfnet.cli.train
from support.command import call

SETTINGS = [
    (["alpha=-1"], "alpha=-1"),
    (["alpha=inf"], "alpha=inf"),
    (["alpha=abc"], "alpha=abc"),
    (["alhpa=1"], "did you mean alpha"),
    (["+foo=1"], "foo=1"),
    (["+flow.foo=1"], "flow.foo=1"),
    (["d=1"], "d=1"),
    (["M=0"], "M=0"),
    (["M=1.5"], "M=1.5"),
    (["N=0"], "N=0"),
    (["h=0"], "h=0"),
    (["data.flip=0.5"], "data.flip=0.5"),
    (["schedule.t_max=0"], "schedule.t_max=0"),
    (["schedule=listed", "schedule.times=[0]"], "not all 0"),
    (["data=nope"], "must be one of binary, breast_cancer, "),
    (["data=radial", "data.radius.name=norm"], "data.radius"),
    (["network.activation=gelu", "flow=rotation"], "use flow=averaged"),
    (["network.activation=gelu", "flow=adaptive_rotation"], "use flow=averaged"),
    (["flow.rtol=0"], "flow.rtol=0"),
    (["network.a_std=0"], "network.a_std=0"),
    (["data=elongated", "data.stretch=-1"], "data.stretch=-1"),
    (["theory=linear_closure", "theory.resolution=0"], "resolution=0"),
    (["theory=kernel_flow", "theory.rtol=-1"], "rtol=-1"),
    (["overlay=[laziness]", "network.activation=gelu"], "homogeneous activation"),
    (["overlay=[nope]"], "must be one of"),
    (["overlay=[kernel_closure]", "trainer.devices=2", "trainer.divide=nodes"], "trainer.divide=rows"),
    (["overlay=[laziness]", "trainer.devices=2", "trainer.divide=nodes"], "trainer.divide=rows"),
    (["overlay=[baselines]", "replicas=2"], "use replicas=1"),
    (["flow.dt=1"], "flow.dt"),
    (["stop.satisfied=1.5"], "stop.satisfied=1.5"),
    (["stop.test_error_rise=0.5"], "stop.test_error_rise=0.5"),
    (["flow._target_=no.such.Flow"], "no.such.Flow"),
    (["trainer.precision=half"], "trainer.precision=half"),
    (["N=1000000000", "d=10000"], "GiB"),
    (["hydra.run.dir=taken"], "hydra.run.dir=taken"),
    (["ckpt=missing.ckpt"], "ckpt=missing.ckpt"),
    (["ckpt=taken/foreign.ckpt"], "ckpt=taken/foreign.ckpt"),
    (["alpha=1,2"], "--multirun"),
    (["-m", "alpha=1,-1"], "alpha=-1"),
    (["-m", "alpha=1,2", "hydra.sweep.dir=taken/foreign.ckpt"], "is a file"),
    (["-m", "alpha=1,1.0"], "ask for it once"),
    (["-m", "alpha=range(0)"], "the sweep is empty"),
    (["-m", "alhpa=1,2"], "did you mean alpha"),
    (["-m", "alpha=1,2", "ckpt=taken/foreign.ckpt"], "leave out ckpt"),
]

TABLE = ["data=csv", "data.source.file=nope.csv", "data.source.label=y"]

REAL_DATA = [
    (["data=digits", "d=20"], "d=20: these data have d=64"),
    (["data=digits", "N=5000"], "N=5000: scikit-learn's digits leaves 267"),
    (["data=digits", "data.positive=3"], "data.positive=3: must be a list"),
    (["data=digits", "data.positive=[11]"], "data.positive=[11]"),
    (["data=digits", "data.negative=null", "data.positive=null"], "say which are +1"),
    (["data=digits", "data.test_share=1"], "data.test_share=1"),
    (["data=digits", "data.preparation.scale=unit"], "column 'pixel_0_0' is constant"),
    (["data=digits", "data.preparation.scale=half"], "must be one of global, unit, none"),
    (["data=digits", "data.preparation.components=64"], "has rank"),
    (["data=digits", "+data.preparation.foo=1"], "data.preparation.foo=1"),
    (["data=digits", "data.source.name=iris"], "data.source.name=iris"),
    (["data=binary"], "data.source=None: must name a source"),
    (["data=idx"], "data.source.folder=None"),
    (["data=idx", "data.source.folder=nope"], "data.source.folder=nope: there is no such folder"),
    (["data=csv", "data.source.file=nope.csv", "data.source.label=y"], "data.source.file=nope.csv"),
    (["data=csv", "data.source.file=nope.csv"], "data.source.label=None"),
    (["data=npz", "data.source.file=nope.npz"], "data.source.file=nope.npz"),
    ([*TABLE, "data.source.separator=ab"], "data.source.separator=ab: must be one character, as in 'data."),
    ([*TABLE, 'data.source.separator=""'], "data.source.separator=: must be one character"),
    ([*TABLE, "data.source.separator=1"], "data.source.separator=1: must be one character"),
    (
        [*TABLE, "data.source.decimal=;"],
        "cannot be read; quote it: 'data.source.decimal=\";\"'",
    ),
    ([*TABLE, 'data.source.decimal=";"'], "data.source.decimal=;: must be . or"),
    ([*TABLE, "data.source.encoding=utf-99"], "data.source.encoding=utf-99: must be an encoding of text"),
    ([*TABLE, "data.source.encoding=hex"], "data.source.encoding=hex: must be an encoding of text"),
    ([*TABLE, "data.source.encoding=8"], "data.source.encoding=8: must be an encoding of text"),
    ([*TABLE, "data.source.missing=mean"], "data.source.missing=mean: must be one of refuse, drop"),
    ([*TABLE, "data.source.exclude=id"], "data.source.exclude=id: must be a list of names of columns"),
    (
        ["data=csv", "data.source.file=nope.csv", "data.source.label=[y]"],
        "data.source.label=['y']: must be the name of the column",
    ),
    ([*TABLE, "data.positive=[>50K]"], "cannot be read; quote it: 'data.positive=[\">50K\"]'"),
    (["-m", *TABLE, "data.positive=[>50K],[a]"], "cannot be read; quote it: 'data.positive=[\">50K\"],[a]'"),
    ([*TABLE, "data.positive=[[a]]"], "data.positive=[['a']]: must be a list of classes"),
    ([*TABLE, "data.positive=[{a: 1}]"], "data.positive=[{'a': 1}]: must be a list of classes"),
    (
        ["data=idx", "data.source.folder=.", "data.source.prefix=[a]"],
        "data.source.prefix=['a']: must be what the names",
    ),
    (["data=idx", "data.source.folder=.", "data.source.prefix=a"], "data.source.prefix=a: must be the prefix of a set"),
    (["data=idx", "data.source.folder=."], "data.source.folder=.: has no file train-images-idx?-ubyte"),
    (["data=normal", "N=null"], "N=null: these data are drawn"),
    (["data=normal", "d=null"], "d=null: these data are drawn"),
    (["data=mixture", "data.separation=-1"], "data.separation=-1"),
    (["-m", "data=digits", "data.positive=[3],[11]"], "data.positive=[11]"),
    (["data=digits", "trainer.devices=2", "trainer.divide=nodes"], "trainer.divide=rows"),
    (
        ["overlay=[node_agreement]", "trainer.devices=2", "trainer.divide=nodes"],
        "callbacks.node_agreement=NodeAgreement",
    ),
    (["overlay=[node_agreement]", "callbacks.node_agreement.r2=1"], "callbacks.node_agreement.r2=1"),
    (["overlay=[baselines]", "callbacks.baselines.n_kernel=0"], "callbacks.baselines.n_kernel=0"),
]

REPLICAS = [
    (["replicas=0"], "replicas=0"),
    (["replicas=2", "flow=sgd"], "has one state for all nodes"),
    (["replicas=2", "overlay=[laziness]"], "speaks of one run"),
    (["replicas=2", "theory=kernel_closure"], "speaks of one run"),
    (["replicas=2", "overlay=[realised_width]"], "speaks of one run"),
    (["replicas=1000000"], "GiB"),
]

PROCESSES = [
    (["trainer.devices=0"], "trainer.devices=0"),
    (["trainer.devices=2.5"], "trainer.devices=2.5"),
    (["trainer.devices=2", "trainer.divide=both"], "must be one of rows, nodes"),
    (["trainer.devices=2", "flow=sgd"], "trainer.devices=2"),
    (["trainer.nodes=2"], "torchrun"),
    (["trainer.devices=5", "trainer.divide=nodes", "M=4"], "M=4"),
    (["trainer.devices=5", "N=4"], "N=4"),
    (["-m", "trainer.devices=1,2", "trainer.accelerator=cpu"], "leave out -m"),
]

GRAMMAR = [
    (["=3"], "must be"),
    (["flow=3"], "flow=3: must be one of adam"),
    (["flow=null"], "flow=null: must be one of adam"),
    (["overlay=null"], "[] for none"),
    (["logger=[]", "theory=null"], "theory=null: must be one of auto"),
    (["logger=[csv]", "overlay=[mean_field,linear_closure]", "flow=null"], "flow=null: must be one of adam"),
    (["~flow"], "flow: every run has it"),
    (["~alpha"], "alpha: every run has it"),
    (["~trainer.devices"], "trainer.devices: every run has it"),
    (["~foo"], "foo"),
    (["alpha"], "missing EQUAL"),
    (["alpha=[1"], "[1"),
    (["alpha='1"], "'1"),
    (["-m", "alpha=[1"], "alpha=[1: cannot be read"),
    (["-m", "alpha='1"], "alpha='1: cannot be read"),
    (["-m", "alpha=choice("], "alpha=choice(: cannot be read"),
    (["-m", "alpha=choice()"], "alpha=choice(): cannot be read"),
    (["-m", "alpha=range()"], "alpha=range(): cannot be read"),
    (["-m", "seed=range(1,2,0)"], "seed=range(1,2,0): "),
    (["-m", "alpha=interval()"], "alpha=interval(): cannot be read"),
    (["-m", "alpha=interval(1,2)"], "use choice, range, glob, or hydra/sweeper=optuna"),
    (["-m", "alpha=nope(1,2)"], "Unknown function 'nope'"),
    (["-m", "alpha=glob(*)"], "alpha=glob(*): glob takes choices of a group"),
    (["-m", "flow=glob(nope*)"], "flow=glob(nope*): glob takes choices of a group"),
    (["-m", "hydra.sweep.dir=a,b"], "hydra.sweep.dir=a,b: has one value for all runs"),
    (["-m", "alpha=1,2", "hydra/launcher=nope"], "must be one of basic"),
    (["-m", "flow=euler,averaged", "flow.dt=0.1"], "flow.dt=0.1"),
]

NEAR = [
    (["lr=0.1"], "flow.dt: a learning rate"),
    (["+lr=0.1"], "flow.dt: a learning rate"),
    (["width=100"], "it is called M"),
    (["network.width=100"], "it is called M"),
    (["hidden_size=100"], "it is called M"),
    (["n=300"], "it is called N"),
    (["D=3"], "did you mean d?"),
    (["ALPHA=2"], "did you mean alpha?"),
    (["batch_size=10"], "flow.batch_size"),
    (["flow.batch_size=10"], "it goes with flow=adam or flow=sgd"),
    (["epochs=3"], "schedule.t_max"),
    (["max_steps=3"], "schedule.t_max"),
    (["tmax=3"], "did you mean schedule.t_max?"),
    (["schedule.times=[1]"], "it goes with schedule=listed"),
    (["schedule.perdecade=4"], "did you mean schedule.per_decade?"),
    (["per_decade=4"], "did you mean schedule.per_decade?"),
    (["activation=gelu"], "network.activation"),
    (["momentum=0.9"], "flow.optimizer.momentum"),
    (["trainer.gpus=1"], "it is called trainer.devices"),
    (["+trainer.gpus=1"], "it is called trainer.devices"),
    (["trainer.max_epochs=3"], "use schedule.t_max"),
    (["+trainer.max_epochs=3"], "use schedule.t_max"),
    (["+trainer.gradient_clip_val=1"], "flow.rtol bounds the error of a step"),
    (["data.separation=1"], "it goes with data=latent or data=mixture"),
    (["data.flp=0.1"], "did you mean data.flip?"),
    (["data=cifar"], "did you mean cifar10?"),
    (["flow=rk4"], "must be one of adam, adaptive_rotation, averaged"),
    (["overlay=[closure]"], "did you mean linear_closure or kernel_closure?"),
    (["logger=[tensorbord]"], "did you mean tensorboard?"),
    (["loss=hing"], "did you mean hinge?"),
    (["-m", "loss=hing,hinge"], "did you mean hinge?"),
]

MISTAKES = [*SETTINGS, *GRAMMAR, *NEAR, *REAL_DATA, *REPLICAS, *PROCESSES]


@pytest.fixture
def here(tmp_path):
    """A directory with a file that is no checkpoint, in another one."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "foreign.ckpt").write_bytes(b"not a checkpoint")
    return tmp_path


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_costs_one_line_and_nothing_else(arguments, expected, here):
    ended = call("train", *arguments, cwd=here)
    assert ended.status == 2
    assert expected in ended.err
    assert ended.err.count("\n") == 1
    assert ended.out == ""
    assert [path.name for path in here.rglob("*")] == ["taken", "foreign.ckpt"]


def test_a_gpu_that_is_not_there_is_named(command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = command("train", "trainer.accelerator=gpu")
    assert ended.status == 2
    assert "trainer.accelerator=gpu" in ended.err


def test_more_gpus_than_there_are(command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    ended = command("train", "trainer.devices=2")
    assert ended.status == 2
    assert "trainer.devices=2: torch sees 1 GPU here" in ended.err


def test_an_interruption_before_a_run_has_begun_costs_one_line(command, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(mfnet.cli.train, "in_its_directory", interrupt)
    ended = command("train")
    assert (ended.status, ended.err) == (130, "mfnet: interrupted\n")


def test_help_and_unknown_commands(command):
    assert "mfnet train -m" in command("--help").ok().out
    unknown = command("trian")
    assert unknown.status == 2
    assert "train, predict, reproduce, collect, figures, validate" in unknown.err

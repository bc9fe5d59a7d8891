"""The runs of a sweep, composed from what Hydra has composed once, against Hydra's own composition of each."""

from __future__ import annotations

import itertools

import pytest
from omegaconf import OmegaConf, open_dict

from mfnet.cli.arguments import Arguments
from mfnet.cli.grid import Sweep
from mfnet.setup.compose import compose, task
from mfnet.setup.errors import SettingError
from mfnet.setup.setup import Setup

#: Sweeps of every kind of override: plain values, groups, additions, lists, parts, quotes, and Hydra's own settings.
SWEEPS = [
    ["alpha=0.1,1,1e3", "seed=range(3)", "M=20"],
    ["flow=euler,averaged", "seed=3,1", "flow.rtol=0.01,0.02", "flow=averaged"],
    ["data=digits", "data.positive=[1],[3,5]", "seed=0,1", "M=10"],
    ["+flow.extra=1,2", "seed=0,1"],
    ["data.flip=0,0.1", "data=normal,sphere", "hydra.sweep.subdir=${hydra.job.num}_${hydra.job.override_dirname}"],
    ["loss.name=hinge,logistic", "overlay=[],[laziness]", "network.init=independent,balanced"],
    ["schedule={t_max: 3.0},{t_max: 5.0}", "seed=0,1"],
    ["objective='a b',test_error", "h=choice(1,2)", "++stop.satisfied=0.5,0.9", "ckpt=null"],
    ["N=null,100", "seed=0,1"],
    ["seed=1", "hydra.job.config.override_dirname.exclude_keys=[seed]", "alpha=1,2"],
]  # fmt: skip


def swept(overrides):
    return Arguments.read(["-m", *overrides])


@pytest.mark.parametrize("overrides", SWEEPS, ids=lambda overrides: " ".join(overrides)[:60])
def test_every_run_is_composed_as_hydra_would(overrides):
    """Key for key with all that is Hydra's own, whatever was composed before, also those that are read anew."""
    asked = swept(overrides)
    with asked.source.opened():
        sweep = Sweep.read(asked)
        compositions = []
        for number in range(len(sweep)):
            lines = sweep.expanded(number)
            expected = compose([*sweep.own, "hydra.mode=MULTIRUN", *lines], sweep.config_name)
            found = [sweep._composer(lines), sweep._composer(lines, copied=True)]
            compositions.append((lines, found[1], expected))
            for each in found:
                assert OmegaConf.to_container(each, resolve=False) == OmegaConf.to_container(expected, resolve=False)
                assert OmegaConf.to_container(each.hydra.job) == OmegaConf.to_container(expected.hydra.job)
        for _, found, expected in compositions:  # none has been changed by a later one
            assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(expected)


def test_runs_are_those_of_setups_alone():
    """Real data say N and d for each, and leave nothing behind for the next."""
    asked = swept(["data=digits", "M=10", "data.positive=[1],[3,5]", "seed=0,1", "alpha=1,10"])
    with asked.source.opened():
        sweep = Sweep.read(asked)
        jobs = list(sweep.jobs())
        for job in jobs:
            alone = Setup.resolved(task(compose(job.overrides, sweep.config_name)))
            assert job.setup == alone
            assert job.directory.name == alone.name
            composed = job.compose()
            assert (composed.N, composed.d) == (alone.N, alone.d)
            assert composed.hydra.sweep.subdir == alone.name
    assert len({job.setup.N for job in jobs}) == 2


def test_the_last_setting_varies_fastest_and_a_range_is_not_written_out():
    asked = swept(["M=10,20", "alpha=1,2,3", "seed=range(1,1000001)"])
    with asked.source.opened():
        sweep = Sweep.read(asked)
        assert len(sweep) == 6_000_000
        product = itertools.product([10, 20], [1, 2, 3], [1, 2])
        few = [sweep.expanded(block * 1_000_000 + i) for block in range(6) for i in range(2)]
        assert few == [[f"M={M}", f"alpha={alpha}", f"seed={seed}"] for M, alpha, seed in product]
        job = sweep.job(5_999_999)
        assert (job.setup.M, job.setup.alpha, job.setup.seed) == (20, 3.0, 1_000_000)
        assert not isinstance(sweep.axes["seed"], list)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=0,0"], "are one run"),
        (["seed=interval(0,1)"], "takes values one by one"),
        (["alpha=1,-1"], "alpha=-1"),
        (["alpha=1,abc"], "alpha=abc"),
        (["flow.rtol=0.1,0.2", "seed=0"], "flow.rtol=0.2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_any_run_is_told(overrides, expected):
    asked = swept(overrides)
    with asked.source.opened(), pytest.raises(SettingError, match=expected):
        list(Sweep.read(asked).jobs())


def test_a_number_is_what_a_launcher_would_give():
    asked = swept(["seed=4,5", "hydra.sweep.subdir=${hydra.job.num}-${hydra.job.id}"])
    with asked.source.opened():
        first, second = Sweep.read(asked).jobs()
        assert [job.directory.name for job in (first, second)] == ["0-0", "1-1"]
        with open_dict(first.compose()) as composed:
            assert composed.hydra.job.id == "0"

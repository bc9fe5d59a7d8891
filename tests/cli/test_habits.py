"""Hydra's habits: options anywhere, one's own configs, the grammar of sweeps, sweepers, and going on with a run."""

from __future__ import annotations

import shlex
import shutil
import time
import traceback
from contextlib import contextmanager
from unittest import mock

import hydra
import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl

import mfnet.cli.jobs
import mfnet.cli.run
from mfnet.cli.parts import plans
from mfnet.flow import Averaged
from mfnet.theory import MeanField
from support.command import NO_EVENTS, assert_same_files, rows, summary

#: A network that is trained at once.
TINY = ["M=10", "N=60", "d=5", "data.n_test=50", "schedule.per_decade=2", "trainer.accelerator=cpu", *NO_EVENTS]
SHORT = [*TINY, "schedule.t_max=2"]


@pytest.fixture
def here(tmp_path):
    """A directory with one of the user's own configs in another, whose name has a space."""
    (tmp_path / "my confs" / "experiment").mkdir(parents=True)
    (tmp_path / "my confs" / "experiment" / "mine.yaml").write_text("# @package _global_\nM: 17\nalpha: 3.0\n")
    (tmp_path / "my confs" / "experiment" / "wrong.yaml").write_text("# @package _global_\nalpha: -1\n")
    (tmp_path / "my confs" / "experiment" / "unreadable.yaml").write_text("M: [1\n")
    (tmp_path / "my confs" / "experiment" / "unknown.yaml").write_text("# @package _global_\nalhpa: 1\n")
    (tmp_path / "my confs" / "other.yaml").write_text("defaults:\n  - train\n  - _self_\nM: 23\n")
    return tmp_path


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["N=300", "--cfg", "job"], {"N": 300}),
        (["--cfg", "job", "N=300"], {"N": 300}),
        (["N=300", "--cfg", "job", "M=20"], {"N": 300, "M": 20}),
        (["-c", "job", "N=300", "--resolve"], {"N": 300}),
        (["--config-dir", "my confs", "experiment=mine", "--cfg", "job"], {"M": 17, "alpha": 3.0}),
        (["experiment=mine", "--config-dir", "my confs", "--cfg", "job"], {"M": 17, "alpha": 3.0}),
        (["experiment=mine", "--config-dir=my confs", "--cfg", "job"], {"M": 17, "alpha": 3.0}),
        (["experiment=mine", "-cd", "my confs", "--cfg", "job", "M=9"], {"M": 9, "alpha": 3.0}),
        (["experiment=mine", "--cfg", "job", "--config-path", "my confs"], {"M": 17, "alpha": 3.0}),
        (["--config-dir", "my confs", "--config-name", "other", "--cfg", "job"], {"M": 23, "alpha": 1.0}),
        (["--config-path", "my confs", "-cn", "other.yaml", "--cfg", "job"], {"M": 23, "alpha": 1.0}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_stand_anywhere(arguments, expected, here, command):
    shown = yaml.safe_load(command("train", *arguments).ok().out)
    assert {key: shown[key] for key in expected} == expected
    assert sorted(path.name for path in here.iterdir()) == ["my confs"]


@pytest.mark.parametrize("arguments", [["N=300", "--help"], ["--help", "N=300"], ["-h", "N=300"]], ids=" ".join)
def test_help_shows_the_settings_that_are_given(arguments, command):
    assert "N: 300" in command("train", *arguments).ok().out.replace("'N'", "N")


@pytest.mark.parametrize("arguments", [["--info", "searchpath", "N=3"], ["N=3", "--info", "searchpath"]], ids=" ".join)
def test_info_names_the_directories(arguments, here, command):
    out = command("train", *arguments, "--config-dir", "my confs").ok().out
    assert out.index("pkg://mfnet.conf") < out.index("my confs")


def test_hydras_own_help(command):
    assert "--config-dir" in command("train", "--hydra-help").ok().out
    assert "--config-dir" in command("train", "M=3", "--hydra-help").ok().out


def test_a_search_path_of_ones_own_goes_with_a_directory(here, command):
    (here / "more" / "experiment").mkdir(parents=True)
    (here / "more" / "experiment" / "third.yaml").write_text("# @package _global_\nM: 29\n")
    search = f"hydra.searchpath=[file://{here}/more]"
    for name, M in (("mine", 17), ("third", 29)):
        out = command("train", "--config-dir", "my confs", search, f"experiment={name}", "--cfg", "job").ok().out
        assert yaml.safe_load(out)["M"] == M


OPTIONS = [
    (["--frobnicate"], "--frobnicate: there is no option"),
    (["M=3", "-x"], "-x: there is no option"),
    (["N=3", "--config-dir"], "--config-dir"),
    (["--config-dir", "nope"], "--config-dir nope: there is no such directory"),
    (["--config-path", "nope", "--cfg", "job"], "--config-path nope: there is no such directory"),
    (["--config-dir", "nope", "--cfg", "job"], "--config-dir nope: there is no such directory"),
    (["--config-name"], "--config-name"),
    (["--config-name", "nope"], "--config-name nope: there is no such config; there are train"),
    (["--config-name", "nope", "--cfg", "job"], "--config-name nope: there is no such config"),
    (["--cfg"], "--cfg"),
    (["--cfg", "nope"], "'nope'"),
    (["--cfg", "job", "alhpa=1"], "did you mean alpha"),
    (["--cfg", "job", "--package", "nope"], "--package nope"),
    (["--cfg", "job", "-m", "alpha=1,2"], "--cfg and --multirun: one at a time"),
    (["--help", "alhpa=1"], "did you mean alpha"),
    (["--info", "nope"], "'nope'"),
    (["--resolve"], "--cfg job"),
    (["--package", "hydra"], "--cfg job"),
    (["--experimental-rerun", "x"], "ckpt="),
    (["--config-dir", "my confs", "experiment=wrong"], "alpha=-1"),
    (["--config-path", "my confs", "-m", "experiment=mine,wrong"], "alpha=-1"),
    (["--config-dir", "my confs", "-m", "experiment=wrong", "seed=0,1"], "alpha=-1"),
    (["--config-dir", "my confs", "experiment=mien"], "did you mean mine"),
    (["--config-dir", "my confs", "experiment=unreadable"], "unreadable.yaml"),
    (["--config-dir", "my confs", "experiment=unknown"], "did you mean alpha"),
    (["--config-dir", "my confs/other.yaml"], "there is no such directory"),
]


@pytest.mark.parametrize(("arguments", "expected"), OPTIONS, ids=[" ".join(a) for a, _ in OPTIONS])
def test_a_mistake_in_an_option_costs_one_line(arguments, expected, here, command):
    ended = command("train", *arguments)
    assert ended.status == 2
    assert ended.err.startswith("mfnet: error: ")
    assert expected in ended.err
    assert ended.err.count("\n") == 1
    assert ended.out == ""
    assert [path.name for path in here.iterdir()] == ["my confs"]


# ---------------------------------------------------------------- sweeps


@pytest.mark.parametrize("option", ["--config-dir", "--config-path"])
def test_a_sweep_of_ones_own_config_is_checked_summarised_and_goes_on(option, here, command):
    asked = ["train", option, "my confs", "-m", "experiment=mine", "seed=0,1", *SHORT[1:]]
    first = command(*asked).ok()
    assert first.out.startswith("2 runs in multirun: 2 new; 2 side by side in one batch; about ")
    assert "2 of 2 runs complete in multirun" in first.out
    found = [summary(path.parent)["config"] for path in (here / "multirun").glob("*/summary.json")]
    assert sorted((config["M"], config["alpha"], config["seed"]) for config in found) == [(17, 3.0, 0), (17, 3.0, 1)]
    before = {path: path.stat().st_mtime_ns for path in (here / "multirun").rglob("*")}
    assert command(*asked).ok().out.startswith("2 runs in multirun: 2 complete\n")
    assert {path: path.stat().st_mtime_ns for path in (here / "multirun").rglob("*")} == before


GRAMMAR = [
    (["alpha=1,10"], "alpha", [1, 10]),
    (["alpha=choice(1,10)"], "alpha", [1, 10]),
    (["alpha=sort(10,1)"], "alpha", [1, 10]),
    (["alpha=tag(scale,choice(1,10))"], "alpha", [1, 10]),
    (["seed=range(2)"], "seed", [0, 1]),
    (["flow=glob(*rotation)"], "flow", ["mfnet.flow.AdaptiveRotation", "mfnet.flow.Rotation"]),
    (["flow=euler,rotation", "flow.dt=0.1"], "flow", ["mfnet.flow.Euler", "mfnet.flow.Rotation"]),
    (["hydra.mode=MULTIRUN", "seed=0,1"], "seed", [0, 1]),
]


@pytest.mark.parametrize(("settings", "key", "values"), GRAMMAR, ids=[" ".join(settings) for settings, _, _ in GRAMMAR])
def test_the_grammar_of_sweeps(settings, key, values, command, tmp_path):
    """Runs are started in the order of their values, as far as these have one."""
    multirun = [] if "hydra.mode=MULTIRUN" in settings else ["-m"]
    with mock.patch("mfnet.cli.run._train_in_sweep") as started:
        command("train", *multirun, *SHORT, *settings, "batch=false")
    found = [getattr(call.args[0], key) for call in started.call_args_list]
    assert [value["_target_"] if key == "flow" else value for value in found] == values


@pytest.mark.parametrize("prepared", [False, True])
def test_shuffled_runs_are_in_the_directories_that_were_checked(prepared, command, tmp_path):
    """Also where directories are numbered, and the config itself shuffles; each time an order is drawn once."""
    (tmp_path / "confs" / "experiment").mkdir(parents=True)
    experiment = "# @package _global_\nhydra: {sweeper: {params: {seed: 'shuffle(range(9))'}}}\n"
    (tmp_path / "confs" / "experiment" / "mixed.yaml").write_text(experiment)
    asked = ["--config-dir", "confs", "experiment=mixed"] if prepared else ["seed=shuffle(range(9))"]
    checked = {}

    def remember(jobs, **more):
        checked.update({job.directory: job.setup.seed for job in jobs})
        return plans(jobs, **more)

    with (
        mock.patch("mfnet.cli.run._train_in_sweep") as started,
        mock.patch("mfnet.cli.sweep.plans", side_effect=remember),
    ):
        command("train", "-m", *SHORT, *asked, "hydra.sweep.subdir=${hydra.job.num}", "batch=false")
    found = {call.args[1].path.relative_to(tmp_path): call.args[0].seed for call in started.call_args_list}
    assert found == checked
    assert sorted(found.values()) == list(range(9))


def test_a_numbered_directory_of_another_run_is_not_taken_for_this_one(command, tmp_path):
    asked = ["train", "-m", *SHORT, "hydra.sweep.subdir=${hydra.job.num}"]
    command(*asked, "seed=0,1").ok()
    ended = command(*asked, "seed=1,0")
    assert ended.status == 2
    assert "has another run" in ended.err
    assert ended.err.count("\n") == 1
    command("train", "ckpt=multirun/1/checkpoints/last.ckpt", "schedule.t_max=4").ok()
    assert "2 complete" in command(*asked, "seed=0,1").ok().out  # one of which goes further


def test_a_sweep_in_a_dated_directory_is_told_of_where_it_is(command, tmp_path):
    out = command("train", "-m", *SHORT, "seed=0,1", "hydra.sweep.dir=at_${now:%S-%f}").ok().out
    (directory,) = tmp_path.iterdir()
    assert f"2 of 2 runs complete in {directory.name}" in out


# ---------------------------------------------------------------- sweepers that choose


def optuna(*settings):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    few = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    return ["train", "-m", *few, *SHORT, *settings]


def test_optuna_searches_for_the_best_run(command, tmp_path):
    asked = optuna("alpha=tag(log, interval(0.1,10))", "M=int(interval(8,12))", "objective=test_error")
    out = command(*asked).ok().out
    assert "3 runs in multirun: 3 complete" in out
    ends = [summary(path.parent) for path in (tmp_path / "multirun").glob("*/summary.json")]
    assert len({end["config"]["alpha"] for end in ends}) == 3
    assert all(0.1 <= end["config"]["alpha"] <= 10 and 8 <= end["config"]["M"] <= 12 for end in ends)
    assert f"best_value: {min(end['test_error'] for end in ends)}" in out


def test_equal_trials_share_a_directory(command, tmp_path):
    out = command(*optuna("alpha=choice(1)", "objective=test_error")).ok().out
    assert out.count("ended by") == 1
    assert "1 run in multirun: 1 complete" in out


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], "as in objective=test_error"),
        (["objective=nope"], "objective=nope: must be a number of summary.json"),
        (["objective=tset_error"], "did you mean test_error"),
        (["objective=test_error", "d=1"], "d=1"),
        (["objective=test_error", "theory=kernel_flow", "theory.rtol=-1"], "rtol=-1"),
        (["objective=test_error", "seed=interval(0,9)"], "must be a whole number"),
        (["objective=test_error", "alhpa=interval(0,9)"], "did you mean alpha"),
    ],
)
def test_a_mistake_beside_a_search_costs_one_line(settings, expected, command, tmp_path):
    ended = command(*optuna("alpha=interval(1,2)", *settings))
    assert ended.status == 2
    assert expected in ended.err
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- going on


def test_a_run_of_ones_own_config_goes_on_without_it(here, command):
    """Bit for bit, when the config is no longer there."""
    settings = ["--config-dir", "my confs", "experiment=mine", *TINY[1:], "schedule.t_max=20"]
    command("train", *settings, "hydra.run.dir=whole").ok()
    with interrupted(after=3):
        assert command("train", *settings, "hydra.run.dir=cut").status == 130
    assert 1 < len(rows(here / "cut")) < len(rows(here / "whole"))
    shutil.rmtree(here / "my confs")
    command("train", "ckpt=cut/checkpoints/last.ckpt", "schedule.t_max=20").ok()
    assert summary(here / "cut")["config"] == summary(here / "whole")["config"]
    assert summary(here / "cut")["config"]["M"] == 17
    assert_same_files(here / "cut", here / "whole")


@contextmanager
def interrupted(after):
    """Ctrl-C when so many intervals between observations are behind."""
    step, taken = Averaged.step, []

    def counted(*arguments, **more):
        taken.append(1)
        if len(taken) > after:
            raise KeyboardInterrupt
        return step(*arguments, **more)

    with mock.patch.object(Averaged, "step", counted):
        yield


def test_how_to_go_on_can_be_typed_as_it_is_said(command, tmp_path):
    """In a shell, with whatever is in the name of the directory."""
    with interrupted(after=3):
        ended = command("train", *TINY, "schedule.t_max=5", "hydra.run.dir='it\\'s, my run (1)'")
    assert ended.status == 130
    words = shlex.split(ended.err.strip().partition("go on with: ")[2])
    command(*words[1:]).ok()
    assert rows(tmp_path / "it's, my run (1)")[-1]["t"] == 5.0


def test_ctrl_c_ends_a_sweep_that_then_goes_on(command, tmp_path):
    asked = ["train", "-m", *TINY, "schedule.t_max=5", "seed=0,1"]
    with interrupted(after=3):
        ended = command(*asked)
    assert ended.status == 130
    assert "Traceback" not in ended.err
    assert "the same command goes on" in ended.out
    assert command(*asked).ok().out.startswith("2 runs in multirun: 2 cut off; 2 side by side")
    with interrupted(after=3):
        command(*asked[:-1], "seed=2,3", "batch=false")
    ended = command(*asked[:-1], "seed=2,3", "batch=false").ok()
    assert ended.out.startswith("2 runs in multirun: 1 cut off, 1 new; about ")


@pytest.fixture
def ended(command, tmp_path):
    """A run that has ended at t = 2."""
    command("train", *SHORT, "hydra.run.dir=r").ok()
    return tmp_path / "r"


CHANGES = [
    (["theory=mean_field"], lambda end: end["config"]["theory"]["_target_"] == "mfnet.theory.MeanField"),
    (["overlay=[kernel_closure]"], lambda end: list(end["config"]["overlay"]) == ["kernel_closure"]),
    (["overlay=[node_agreement]"], lambda end: "node_agreement" in end["config"]["callbacks"]),
    (["stop.satisfied=0.9"], lambda end: end["config"]["stop"]["satisfied"] == 0.9),
    (["logger=csv"], lambda end: list(end["config"]["logger"]) == ["csv"]),
    (["+callbacks.x._target_=lightning.pytorch.callbacks.Timer"], lambda end: "x" in end["config"]["callbacks"]),
    (["theory.M=${M}"], lambda end: end["config"]["theory"]["M"] == 10),
    (["~stop.stationary"], lambda end: "stationary" not in end["config"]["stop"]),
    (["+theory@overlay.mine=kernel_closure"], lambda end: list(end["config"]["overlay"]) == ["mine"]),
]


@pytest.mark.parametrize(("changes", "holds"), CHANGES, ids=[" ".join(changes) for changes, _ in CHANGES])
def test_what_is_seen_may_change_when_a_run_goes_on(changes, holds, ended, command):
    before = rows(ended)
    command("train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=4", *changes).ok()
    end, after = summary(ended), rows(ended)
    assert holds(end)
    assert end["config"]["M"] == 10
    assert after[-1]["t"] == 4.0
    assert [row["gamma_network"] for row in after[: len(before)]] == [row["gamma_network"] for row in before]


def test_a_run_goes_on_to_listed_times(ended, command):
    listed = ["schedule=listed", "schedule.times=[1,3,4]"]
    command("train", "ckpt=r/checkpoints/last.ckpt", *listed).ok()
    assert [row["t"] for row in rows(ended)][-2:] == [3.0, 4.0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["alpha=2"], "alpha=2: the run of this checkpoint has 1.0"),
        (["flow=euler"], "flow="),
        (["experiment=rich"], "experiment=rich: this run keeps its own settings"),
        (["seed=1,2"], "one value a setting"),
        (["~alpha"], "alpha: every run has it"),
        (["~stop.nope"], "~stop.nope"),
        (["schedule.nope=1"], "schedule.nope"),
        (["nope=1"], "nope=1: there is no setting of this name"),
        (["logger=nope"], "must be one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_computed_may_not_change(changes, expected, ended, command):
    before = {path: path.stat().st_mtime_ns for path in ended.rglob("*")}
    refused = command("train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=4", *changes)
    assert refused.status == 2
    assert expected in refused.err
    assert refused.err.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in ended.rglob("*")} == before


@pytest.mark.parametrize("name", ["my run", "it's", "alpha=1,M=2", 'a "b"', "r[1]{2}", "π (1)"])
def test_paths_are_taken_as_they_are(name, command, tmp_path):
    """Unquoted for a checkpoint that is there; in Hydra's quotes wherever a path is not yet."""
    quoted = "'" + name.replace("'", "\\'") + "'"
    command("train", *SHORT, f"hydra.run.dir={quoted}").ok()
    run = tmp_path / name
    command("train", f"ckpt={name}/checkpoints/last.ckpt", "schedule.t_max=3").ok()
    assert rows(run)[-1]["t"] == 3.0
    in_quotes = "'" + f"{name}/checkpoints/last.ckpt".replace("'", "\\'") + "'"
    command("train", f"ckpt={in_quotes}", "schedule.t_max=4").ok()
    assert rows(run)[-1]["t"] == 4.0


# ---------------------------------------------------------------- at once


def counted(target, name, **more):
    return mock.patch.object(target, name, autospec=True, side_effect=getattr(target, name), **more)


def test_settings_are_composed_and_resolved_once(command):
    """And the mean-field solution is made once."""
    made = []
    whole = MeanField.__post_init__

    def post_init(self):
        made.append({frame.name for frame in traceback.extract_stack(limit=8)})
        whole(self)

    with (
        counted(hydra, "compose") as composed,
        counted(mfnet.setup.setup, "resolved") as resolved,
        mock.patch.object(MeanField, "__post_init__", post_init),
        mock.patch.object(Averaged, "step", side_effect=KeyboardInterrupt),
    ):
        command("train", *SHORT)
    solutions = [by for by in made if "replace" not in by]
    assert (composed.call_count, resolved.call_count, len(solutions)) == (1, 1, 1)


def test_the_first_step_comes_at_once(command):
    """A third of a second of work at the default settings on a core that is idle; others may use the machine too."""
    seconds = []

    def step(*_, **__):
        seconds.append(time.process_time() - began)
        raise KeyboardInterrupt

    for _ in range(3):
        began = time.process_time()
        with mock.patch.object(Averaged, "step", step):
            command("train", "trainer.accelerator=cpu")
    assert len(seconds) == 3
    assert min(seconds) < 1.0


def test_a_sweep_composes_no_more_than_it_needs(command):
    """Once for what all runs share, and once for all that differ in plain values alone."""
    with (
        counted(ConfigLoaderImpl, "load_configuration") as loaded,
        mock.patch("mfnet.cli.run._train_in_sweep"),
    ):
        command("train", "-m", *SHORT, "seed=range(5)", "alpha=1,2", "flow=euler,averaged", "batch=false")
    assert loaded.call_count == 1 + 2


def test_an_experiment_whose_settings_would_be_lost_is_told(command, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "bar.yaml").write_text("alpha: 2.0\n")
    ended = command("train", "--config-dir", "mine", "experiment=bar")
    assert ended.status == 2
    assert "# @package _global_" in ended.err
    assert ended.err.count("\n") == 1

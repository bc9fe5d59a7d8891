"""Files of a run that somebody else may have written: nothing that they name is executed or imported."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
from contextlib import suppress
from pathlib import Path

import mfnet.conf
import pytest
import torch
import yaml

import mfnet
from mfnet.setup.pieces import may_be_stored, own_pieces, resolve, trusting
from support.command import NO_EVENTS, rows, summary

CONF = Path(mfnet.conf.__file__).parent

TINY = ["M=10", "N=40", "d=5", "data.n_test=50", "schedule.per_decade=2", "schedule.t_max=2", *NO_EVENTS]

#: Places where a config names a piece, each with the settings beside it.
PLACES = [
    "callbacks.x",
    "logger.x",
    "overlay.x",
    "theory",
    "flow",
    "data",
    "schedule",
    "stop",
    "mean_field",
    "loss.name",
]
PLACES += [
    "network.activation",
    "data.draw",
    "callbacks.node_log.n",
    "trainer.strategy",
    "flow.optimizer",
    "hydrodynamic",
]

#: What ran a command, wrote or imported something: of Python, of mfnet's libraries, of its own modules, and by detours.
NAMES = {
    "os.system": {"command": "touch ran"},
    "subprocess.run": {"args": ["touch", "ran"]},
    "pathlib.Path.touch": {"self": "ran"},
    "torch.utils.collect_env.run": {"command": "touch ran"},
    "torch.load": {"f": "evil.pt", "weights_only": False},
    "joblib.load": {"filename": "evil.pkl"},
    "pandas.read_pickle": {"filepath_or_buffer": "evil.pkl"},
    "mfnet.cli.main": {"argv": ["--version"]},
    "mfnet.training.train.shutil.rmtree": {"path": "kept"},
    "mfnet.theory:os": {},
    "never_imported.anything": {},
    "sympy.sympify": {"a": "__import__('os').system('touch ran')"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that can go on."""
    from support.command import call

    cwd = tmp_path_factory.mktemp("whole")
    call("train", *TINY, "hydra.run.dir=r", cwd=cwd).ok()
    return cwd / "r"


@pytest.fixture
def forged(whole, tmp_path, monkeypatch):
    """Puts something else into the configs that a copy of the run has kept, and returns it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "never_imported.py").write_text("open('ran', 'w').close()")
    (tmp_path / "own_pieces.py").write_text("def mean(observation):\n    return {'mean_a': 1.0}\n")
    (tmp_path / "kept").mkdir()

    def forge(place, piece):
        run = tmp_path / "r"
        shutil.copytree(whole, run)
        checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        kept = json.loads((run / "summary.json").read_text())
        for config in (checkpoint["mfnet"]["config"], kept["config"]):
            *groups, leaf = place.split(".")
            inner = config
            for group in groups:
                inner = inner[group]
            inner[leaf] = copy.deepcopy(piece)
        torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
        (run / "summary.json").write_text(json.dumps(kept))
        return run

    return forge


def assert_nothing_ran(folder):
    assert not (folder / "ran").exists()
    assert (folder / "kept").exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "key", [*(f"{place}._target_" for place in PLACES), "network.activation", "loss.name", "data.rule"]
)
def test_what_may_be_named_is_mfnets_own(key, name):
    assert not may_be_stored(key, name)
    config = {}
    inner = config
    *groups, leaf = key.split(".")
    for group in groups:
        inner = inner.setdefault(group, {})
    inner[leaf] = name
    assert own_pieces(config) == {key: name}
    with trusting([], "stop"), pytest.raises(mfnet.SettingError, match="is not mfnet's"):
        resolve(key, name)


def test_every_class_of_the_configs_may_be_named():
    files = [yaml.safe_load(path.read_text()) for path in CONF.rglob("*.yaml")]
    named = {name for config in files for name in targets(config)}
    assert len(named) > 40
    assert [name for name in sorted(named) if not may_be_stored("x._target_", name)] == []
    for key, name in (("network.activation", "torch.sin"), ("network.activation", "torch.special.erf")):
        assert may_be_stored(key, name)
        assert not may_be_stored("callbacks.x._target_", name)


def targets(config):
    """Every class that a config names."""
    for key, value in config.items() if isinstance(config, dict) else ():
        if key == "_target_" and value is not None:
            yield value
        yield from targets(value)


#: Every place with one name, and one place with every name.
PAIRS = [(place, "torch.utils.collect_env.run") for place in PLACES] + [("callbacks.x", name) for name in NAMES]


@pytest.mark.parametrize(("place", "name"), PAIRS)
def test_what_a_checkpoint_names_is_not_executed(place, name, forged, command, tmp_path):
    """It is left out where it only looks at the run, and else refused; in either case in a line that names it."""
    is_name = place in ("loss.name", "network.activation")
    forged(place, name if is_name else {"_target_": name, **NAMES[name]})
    ended = command("train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=3")
    assert_nothing_ran(tmp_path)
    assert "Traceback" not in ended.err
    assert ended.status in (0, 2)
    if place.startswith(("callbacks", "logger", "overlay")):
        ended.ok()
        assert ended.err.count("\n") == 1
        assert ended.err.startswith(f"mfnet: {place}._target_={name} is left out")
    else:
        assert ended.status == 2
        assert ended.err.count("\n") == 1


LOADED = ["theory", "overlay.x", "network.activation", "loss.name", "data", "mean_field"]


@pytest.mark.parametrize(
    ("place", "name"),
    [(place, "torch.utils.collect_env.run") for place in LOADED] + [("theory", name) for name in NAMES],
)
def test_what_a_directory_names_is_not_executed(place, name, forged, command, tmp_path):
    is_name = place in ("loss.name", "network.activation")
    run = forged(place, name if is_name else {"_target_": name, **NAMES[name]})
    loaded = mfnet.load(run)
    assert len(loaded.history) > 2
    for what in ("network", "theories"):
        with suppress(mfnet.SettingError, KeyError):  # a setting that is missing
            getattr(loaded, what)
    mfnet.collect(run)
    command("collect", str(run)).ok()
    command("figures", str(run)).ok()
    assert_nothing_ran(tmp_path)


def test_pieces_of_ones_own_go_on_if_they_are_named_again(command, tmp_path, monkeypatch):
    """As is said when a run is interrupted; without that, the column is left empty from there on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_looks.py").write_text("def mean_a(observation):\n    return float(observation.t)\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = ["network.activation=torch.tanh", "+callbacks.mean._target_=own_looks.mean_a"]
    command("train", *TINY, *own, "hydra.run.dir=r").ok()
    shutil.copytree(tmp_path / "r", tmp_path / "s")
    ended = command("train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=4").ok()
    line = ended.err.splitlines()[0]
    assert line.startswith("mfnet: callbacks.mean._target_=own_looks.mean_a is left out")
    assert "mean" not in summary(tmp_path / "r")["config"]["callbacks"]
    assert rows(tmp_path / "r")[-1]["t"] == 4.0
    said = shlex.split(line.partition("if you trust it: ")[2])
    command("train", "ckpt=s/checkpoints/last.ckpt", "schedule.t_max=4", *said).ok()
    assert [row["mean_network"] for row in rows(tmp_path / "s")] == [row["t"] for row in rows(tmp_path / "s")]


def test_what_computes_is_refused_until_it_is_named_again(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_sine.py").write_text("import torch\n\n\ndef sine(z):\n    return torch.sin(z)\n")
    monkeypatch.syspath_prepend(tmp_path)
    command("train", *TINY, "network.activation=own_sine.sine", "hydra.run.dir=r").ok()
    asked = ["train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=4"]
    ended = command(*asked)
    assert ended.status == 2
    assert ended.err.startswith("mfnet: error: network.activation=own_sine.sine: is not mfnet's")
    command(*asked, "network.activation=own_sine.sine").ok()
    assert rows(tmp_path / "r")[-1]["t"] == 4.0
    assert mfnet.load(tmp_path / "r").network.a.shape == (10,)  # its module is imported, and the user's

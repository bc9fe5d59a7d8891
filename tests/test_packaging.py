"""The wheel holds everything that the command needs; so does the editable install, from another directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from support.processes import cold

ROOT = Path(__file__).parents[1]


def predict(cwd, **environment):
    cold("predict", "experiment=lazy", "hydra.run.dir=p", cwd=cwd, environment=environment).ok()
    assert (cwd / "p" / "history.csv").exists()


@pytest.mark.slow
def test_the_editable_install_works_elsewhere(tmp_path):
    predict(tmp_path)


@pytest.mark.slow
def test_the_wheel_works_elsewhere(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    (tmp_path / "elsewhere").mkdir()
    predict(tmp_path / "elsewhere", PYTHONPATH=str(unpacked))
    code = "import mfnet, sys; sys.exit(not mfnet.__file__.startswith(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    subprocess.run([sys.executable, "-c", code, str(unpacked)], cwd=tmp_path, env=environment, check=True)


def test_every_package_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "mfnet").rglob("__init__.py")}
    assert set(listed) == found | {"mfnet.conf"}

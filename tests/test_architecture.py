"""Imports point one way: definitions → numerics → training → cli, and the theory stands alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mfnet

ROOT = Path(mfnet.__file__).parent

#: Rooms from the bottom up; a module may import from its own room and from those before it.
ROOMS = [
    ("theory",),
    ("record",),
    ("compute",),
    ("network",),
    ("setup",),
    ("collection", "flow", "data"),
    ("figures",),
    ("training",),
    ("claims",),
    ("cli",),
    ("__main__",),
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}

#: Packages that only some rooms may import.
ONLY_IN = {"hydra": {"cli", "setup"}, "omegaconf": {"cli", "setup"}, "matplotlib": {"figures", "training"}}
TORCH_FREE = {"theory", "record", "setup", "collection", "figures"}


def imported(path):
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imported(path):
        top, *rest = name.split(".")
        if top == "mfnet" and rest and rest[0] in RANK:
            assert RANK[rest[0]] <= RANK[room], f"{room} imports {name}"
        assert room in ONLY_IN.get(top, {room}), f"{room} imports {top}"
        assert not (room in TORCH_FREE and top in ("torch", "lightning", "torchmetrics")), f"{room} imports {top}"


def test_the_theory_imports_nothing_that_trains():
    code = "import sys, mfnet.theory; sys.exit(bool({'torch', 'lightning', 'hydra', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_command_imports_what_it_needs():
    """The theory alone answers in two seconds, of which torch and tables would take most."""
    slow = "torch", "lightning", "matplotlib", "pandas"
    code = f"import sys, mfnet.cli.command; sys.exit(bool(set({slow}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_room_is_known():
    rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms == set(RANK)

"""What a table was made with: machine, versions, commit and date; no name or path of the machine is in it."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).resolve().parents[2]

#: Where the results are written unless another place is asked for.
PAGE = ROOT / ".github" / "benchmarks.md"


def machine(device: torch.device) -> str:
    """The processor, its cores and the threads in use, or the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name, cores = names[0] if names else platform.processor(), psutil.cpu_count(logical=False)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name} ({capability}), {cores} cores, {counted(torch.get_num_threads(), 'thread')}"


def counted(n: int, what: str) -> str:
    """A number of things."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def versions() -> str:
    """Of what the numbers depend on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "mfnet"))
    return f"Python {platform.python_version()}, {packages}"


def commit() -> str:
    """The commit of the repository, with a + if the files are not those of the commit; the results do not count."""
    try:
        changed = _git("status", "--porcelain", "--", ".", f":(exclude){PAGE.relative_to(ROOT)}")
        return _git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def provenance(device: torch.device, commit: str) -> str:
    """What is to be known of a table."""
    date = datetime.now(UTC).date().isoformat()
    return f"{machine(device)}; {versions()}; commit {commit}, {date}"

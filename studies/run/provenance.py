"""Which code made a result, and where: versions of what it stands on, the processor, and its own commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "nnsight", "numpy")
ROOT = Path(__file__).parents[2]  # of the checkout; where the package is installed, the folder of all packages


def versions() -> dict[str, str | None]:
    """Installed versions of what decides a number; None for what is not installed. Imports none of them."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def runs_on() -> dict[str, Any]:
    """The processor's name and the threads of torch, on which the last bits of a fit and of a reply depend."""
    return {"processor": processor(), "threads": torch.get_num_threads()}


def processor() -> str:
    """The name of the machine's processor, or of its kind."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    name = next((line.partition(": ")[2] for line in lines if "model name" in line), platform.processor())
    return name or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of this code, with "-dirty" after it where files were changed since; None outside its repository."""
    # Installed inside somebody's project, the package lies in that project's repository, whose commit says nothing.
    if Path(_git("rev-parse", "--show-toplevel") or os.devnull).resolve() != ROOT.resolve():
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None


def _git(*words: str) -> str:
    """What git says about the package's folder, "" where it says nothing."""
    try:
        found = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()

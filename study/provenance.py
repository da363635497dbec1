"""Where numbers come from: versions, hardware, and the code that ran."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "scikit-learn")

SOURCES = (".py", ".j2", ".css", ".js", ".csv")
"""Suffixes of source files: code, templates and tables."""


@cache
def code_version() -> str:
    """The git commit of the checkout, with `+changes` if it isn't clean; else the sources' hash."""
    root = Path(__file__).resolve().parent.parent
    if (root / ".git").exists():
        # The repository is named, as a git hook's environment names another one. When it is named,
        # git doesn't check who owns the checkout (safe.directory).
        repository = [f"--git-dir={root / '.git'}", f"--work-tree={root}"]
        try:
            commit = subprocess.run(
                ["git", *repository, "describe", "--always", "--dirty=+changes", "--abbrev=12"],
                capture_output=True,
                text=True,
                check=True,
                cwd=root,
                env={k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            )
            return f"git {commit.stdout.strip()}"
        except (OSError, subprocess.CalledProcessError):
            pass  # no git, or a checkout without a commit
    return f"sources {sources('study', 'trainables', 'analysis')}"


@cache
def sources(*names: str) -> str:
    """Hash of all source files of these packages: 12 hexadecimal digits."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in names:
        for source in sorted((root / package).rglob("*")):
            if source.suffix in SOURCES:
                digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def processor() -> str:
    """Name of the processor, or else of its architecture."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name() -> str:
    """Name of the GPU, or else of the processor."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}

"""What several tests share: real digits, few of them, and double precision; the command
line as a process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.data import CLASSES, Dataset, Split, load

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The tests' networks are tiny: threads would only wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture
def double_precision():
    """Everything in float64, for tests of equality up to rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def digits():
    """The dataset `mnist-5k`."""
    return load("mnist-5k")


def first_of_each_class(split, count):
    chosen = [np.flatnonzero(split.labels == digit)[:count] for digit in range(CLASSES)]
    indices = np.stack(chosen, axis=1).reshape(-1)
    return Split(split.images[indices], split.labels[indices])


@pytest.fixture(scope="session")
def few_digits(digits):
    """100 training, 30 validation and 50 test images of `mnist-5k`, as many of each class."""
    return Dataset(
        "few-digits",
        first_of_each_class(digits.train, 10),
        first_of_each_class(digits.validation, 3),
        first_of_each_class(digits.test, 5),
    )


@pytest.fixture
def copied_packages(tmp_path):
    """A copy of the three packages, to which a test may add."""
    for package in ("study", "trainables", "analysis"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / "copy" / package, ignore=ignored)
    return tmp_path / "copy"


@pytest.fixture(scope="session")
def run_study():
    """`python -m study …` as a process of its own, from the checkout or a copy of it, after
    some lines of Python if need be."""

    def run(*arguments, folder=ROOT, first=None):
        program = ["-m", "study"]
        if first is not None:
            main = "import sys; from study.__main__ import main; sys.exit(main())"
            program = ["-c", f"{first}; {main}"]
        return subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run

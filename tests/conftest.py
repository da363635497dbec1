"""What several tests share: real digits, few of them, and double precision."""

import numpy as np
import pytest
import torch

from trainables.data import CLASSES, Dataset, Split, load


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

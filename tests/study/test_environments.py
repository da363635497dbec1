"""A study on a machine with every unusual condition at once."""

import os

import pytest

from tests.environments import CONDITIONS, run

LEFT_OUT = ("HOME unset", "a terminal without colours")
"""Opposites of other conditions."""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount and to be another user")
def test_tiny_study_runs_on_an_unusual_machine():
    """`make environments` tries each condition alone."""
    done = run(*(name for name in CONDITIONS if name not in LEFT_OUT))
    *output, last = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert last.startswith("report: ")
    assert "writing the report ?" in output  # … in ASCII
    assert "\x1b" not in done.stdout

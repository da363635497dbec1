"""Values computed from measurements. The measurements themselves are not asserted."""

import json
import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmarks import share, table
from benchmarks.commands import run
from benchmarks.measure import Line, Options, Sample, Stratum, extrapolate, time_in_turns


def test_sample_has_a_median():
    assert Sample((3.0, 1.0, 2.0)).median == 2
    assert Sample((4.0, 1.0)).median == 2.5


def test_ratios_are_taken_turn_by_turn():
    """A machine that is slow in one turn is slow for both."""
    assert Sample((10.0, 40.0)).ratios_to(Sample((5.0, 10.0))).values == (2, 4)


def test_functions_take_turns_after_the_warm_up():
    now, calls = [0.0], []

    def takes(name, seconds):
        def function():
            calls.append(name)
            now[0] += seconds[len([c for c in calls if c == name]) - 1]

        return function

    functions = {"a": takes("a", [50, 1, 2]), "b": takes("b", [50, 3, 5])}
    found = time_in_turns(functions, repeats=2, warm_up=1, clock=lambda: now[0])
    assert calls == ["a", "b"] * 3
    assert found == {"a": Sample((1.0, 2.0)), "b": Sample((3.0, 5.0))}


def test_fits_are_extrapolated_with_their_spread():
    # Four fits in 10 s of wall-clock are 2.5 s each, 100 of them 250 s. Their own seconds have
    # mean 5 and standard deviation √(16/3), which over √4 is the standard error of the mean.
    total, spread = extrapolate([Stratum(100, 10.0, (3.0, 7.0, 3.0, 7.0))])
    assert total == 250
    assert spread == pytest.approx(2 * 250 * (math.sqrt(16 / 3) / 5 / 2))
    exact = Stratum(10, 4.0, (4.0, 4.0))
    assert extrapolate([exact, exact]) == (40, 0)


def test_targets_are_judged_by_the_median():
    value = Sample((7.0, 9.0, 20.0))
    assert Line("a", value, "×", at_least=8).reached is True
    assert Line("a", value, "×", at_least=9.1).reached is False
    assert Line("a", value, "s", at_most=9).reached is True
    assert Line("a", value, "s", at_most=8).reached is False
    assert Line("a", value, "s").reached is None


def test_overhead_is_time_without_cells(monkeypatch):
    blocks = [{"seconds": 4.0, "started": 100.0}, {"seconds": 5.0, "started": 100.0}]
    experiments = [{"name": name, "cells": []} for name in ("autoencoder", "fewshot")]
    store = SimpleNamespace(
        plan=lambda: {"experiments": experiments}, provenance=lambda cells: blocks
    )
    monkeypatch.setattr(share, "assignment", lambda options: (None, store))
    monkeypatch.setattr(share.os, "cpu_count", lambda: 2)
    of_autoencoders, of_a_block = share.rays_share(Options())
    assert of_autoencoders.value.median == pytest.approx(10)
    assert of_a_block.value.median == 0.5


def test_table_shows_medians_ranges_and_missed_targets():
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    lines = [
        Line("slow", Sample((7.0, 9.0, 784.2)), "×", at_least=10, quality="MSE 0.01", note="once"),
        Line("fast", Sample((3.0,)), "s", at_most=5, note="with Ray"),
    ]
    table.print_table(console, "title", lines)
    text = console.export_text()
    for part in ("9 × (7 … 784, n = 3)", "≥ 10", "NO", "MSE 0.01; once", "3 s (n = 1)", "yes"):
        assert part in text


def test_file_has_every_single_value(tmp_path):
    path = tmp_path / "new" / "out.json"
    line = Line("a", Sample((2.0, 1.0)), "s", at_most=2, details={"x": 1})
    table.write_json(path, {"machine": {"cores": 2}}, {"question": [line]})
    content = json.loads(path.read_text())
    assert content["machine"] == {"cores": 2}
    (found,) = content["results"]["question"]
    assert found["values"] == [2, 1] and found["median"] == 1.5 and found["n"] == 2
    assert (found["min"], found["max"], found["reached"]) == (1, 2, True)
    assert found["details"] == {"x": 1}


def test_command_times_its_lines_and_fails_with_output():
    done = run("-c", "print('one'); print('two')")
    assert [line for _, line in done.lines] == ["one", "two"]
    assert 0 < done.seconds_until("one") <= done.seconds_until("two") <= done.seconds
    with pytest.raises(LookupError, match="never printed 'three'"):
        done.seconds_until("three")
    with pytest.raises(RuntimeError, match="code 3:\nthe reason"):  # an output as it is
        run("-c", "import sys; print('the reason'); sys.exit(3)")


def test_command_stops_at_the_awaited_line():
    done = run("-c", "import time; print('here'); time.sleep(60)", stop_at="here")
    assert [line for _, line in done.lines] == ["here"]
    assert done.seconds < 50

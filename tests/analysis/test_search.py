"""The report on a search: its numbers by hand, then its figures."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import distribution_to_json

from analysis import search
from study.search.spaces import Choice, Real, Steps

KNOWN = {
    dimension.name: dimension.distribution()
    for dimension in (Real("learning_rate", 1e-3, 1e-1), Steps("width", 8, 24, step=8),
                      Choice("activation", ("gelu", "relu", "silu")))
}  # fmt: skip


def trial(number, state, params, curve, value=None, **more):
    values = None if value is None else [value]
    return {"number": number, "state": state, "params": params, "values": values,
            "curve": curve, "cell": f"{number:016x}", **more}  # fmt: skip


def settings(rate, width, activation):
    return {"learning_rate": rate, "width": width, "activation": activation}


@pytest.fixture
def content():
    """Four trials of at most 3 epochs: two in full, one stopped after the first, one failed."""
    return {
        "name": "autoencoder-d2", "experiment": "autoencoder", "dataset": "mnist-5k",
        "epochs": 3, "replicates": 2, "rungs": [1], "seconds": 5.0,
        "columns": ["val_mse"], "directions": ["minimize"],
        "dimensions": {k: json.loads(distribution_to_json(v)) for k, v in KNOWN.items()},
        "trials": [
            trial(0, "complete", settings(1e-2, 8, "gelu"), [[1, 0.4], [2, 0.3], [3, 0.25]], 0.25,
                  parameters=100, seconds=2.0, replicates=2),
            trial(1, "complete", settings(1e-1, 24, "silu"), [[1, 0.3], [2, 0.2], [3, 0.2]], 0.2,
                  parameters=300, seconds=1.0, replicates=2),
            trial(2, "pruned", settings(1e-3, 16, "relu"), [[1, 0.5]]),
            trial(3, "fail", settings(1e-1, 8, "relu"), [], reason="diverged"),
        ],
    }  # fmt: skip


def test_trials_as_a_table(content):
    table = search.trials(content)
    assert table["state"].tolist() == ["ran in full", "ran in full", "stopped early", "failed"]
    assert table["val_mse"].tolist()[:3] == [0.25, 0.2, 0.5]
    assert table["epochs"].tolist() == [3, 3, 1, 0]
    assert table["width"].tolist() == [8, 24, 16, 8]


def test_epochs_spent_against_all_trials_in_full(content):
    assert search.epochs_used(content) == (7, 12)


def test_cell_computed_before_counts_in_full(content):
    content["trials"][0]["curve"] = []
    assert search.epochs_used(content) == (7, 12)


def test_coordinates_use_the_scale_of_their_dimension(content):
    placed = search.coordinates(content).set_index("trial")
    assert placed["learning_rate"].tolist() == pytest.approx([0.5, 1.0, 0.0, 1.0])
    assert placed["width"].tolist() == pytest.approx([0.0, 1.0, 0.5, 0.0])
    assert placed["activation"].tolist() == pytest.approx([0.0, 1.0, 0.5, 0.5])


def decided_by(content, matters, count=40):
    """The metric depends on one setting alone."""
    draw = np.random.default_rng(0)
    content["trials"] = []
    for number in range(count):
        params = settings(
            10 ** draw.uniform(-3, -1),
            int(draw.choice([8, 16, 24])),
            str(draw.choice(["gelu", "relu", "silu"])),
        )
        value = float(KNOWN[matters].to_internal_repr(params[matters]))
        content["trials"].append(trial(number, "complete", params, [[1, value], [3, value]], value))
    return content


@pytest.mark.parametrize("matters", ["width", "activation"])
def test_only_setting_that_matters_is_important(matters, content):
    table = search.importances(decided_by(content, matters))
    assert table["stage"].unique().tolist() == [
        "after epoch 1, all trials",
        "at the end, those in full",
    ]
    for _, stage in table.groupby("stage"):
        shares = stage.set_index("setting")["importance"]
        assert shares[matters] > 0.9
        assert shares.sum() == pytest.approx(1)
        assert set(stage["trials"]) == {40}


def test_too_few_trials_have_no_importances(content):
    assert search.importances(content).empty


def rows_of(scores):
    return pd.DataFrame(
        [(cell, value) for cell, values in scores.items() for value in values],
        columns=["cell", "val_mse"],
    )


def test_verdicts_separate_choosing_and_fresh_seeds(content):
    rows = rows_of({"a" * 16: [0.21, 0.23], "b" * 16: [0.27, 0.28]})
    content |= {"winner": 1, "winner_cell": "a" * 16, "start_cell": "b" * 16}
    first, second, third = search.verdicts(content, rows)
    assert "4 trials, 2 ran in full, 1 stopped early, 1 failed; 7 of the 12 epochs" in first
    assert "(58 %)" in first
    assert "trial 1: learning_rate 0.1, width 24, activation silu" in second
    assert "0.20000 on the 2 seeds that chose it" in second
    assert third.startswith("On 2 fresh seeds it is 0.22000 ± 0.01414 SD; the recipe that")
    assert "0.27500 ± 0.00707 SD on the same seeds (-20.0 %)." in third


def test_one_seed_and_trial_have_no_spread_or_plural(content):
    rows = rows_of({"a" * 16: [0.21], "b" * 16: [0.28]})
    content |= {"winner": 1, "winner_cell": "a" * 16, "start_cell": "b" * 16}
    content["trials"] = [trial for trial in content["trials"] if trial["number"] == 1]
    first, second, third = search.verdicts(content, rows)
    assert ": 1 trial, 1 ran in full" in first
    assert second.endswith("seeds that chose it.")
    alone = "(one model, so no SD)"
    assert third.startswith(f"On 1 fresh seed it is 0.21000 {alone}; ")
    assert f"0.28000 {alone} on the same seeds (-25.0 %)." in third


def test_search_that_found_nothing_better_says_so(content):
    rows = rows_of({"a" * 16: [0.21, 0.23]})
    content |= {"winner": 0, "winner_cell": "a" * 16, "start_cell": "a" * 16}
    assert search.verdicts(content, rows)[-1].endswith("the recipe that the search started from.")


@pytest.mark.parametrize("rows", [pd.DataFrame(), rows_of({"c" * 16: [0.2]})])
def test_search_without_a_winner_says_so(content, rows):
    assert "has not ended" in search.verdicts(content, rows)[-1]


def rendered(figure):
    figure.savefig(io.BytesIO(), format="png")
    return figure


def test_curve_of_a_full_trial_reaches_its_end(content):
    """Few-shot trials have scores at rungs only, cells computed before have none."""
    content["trials"][0]["curve"] = [[1, 0.4]]
    content["trials"][1]["curve"] = []
    table = search.curves(content)
    assert table[table["trial"] == 0][["epoch", "value"]].values.tolist() == [[1, 0.4], [3, 0.25]]
    assert table[table["trial"] == 1][["epoch", "value"]].values.tolist() == [[3, 0.2]]
    assert table[table["trial"] == 2][["epoch", "value"]].values.tolist() == [[1, 0.5]]


def test_epochs_before_the_comparison_do_not_count(content):
    """As in a search of `lp-ft`, whose second stage has three epochs."""
    for trial in content["trials"]:
        trial["curve"] = [[epoch + 200, value] for epoch, value in trial["curve"]]
    content |= {"epochs": 203, "epochs_before": 200}
    assert search.epochs_used(content) == (7, 12)


def test_figures_draw_every_trial(content):
    curves = rendered(search.draw_curves(content)).axes[0]
    solid = [line for line in curves.lines if len(line.get_xdata()) == 3]
    crosses = [line for line in curves.lines if line.get_marker() == "x"]
    dots = [line for line in curves.lines if line.get_marker() == "o"]
    assert (len(solid), len(crosses), len(dots)) == (2, 1, 2)
    assert rendered(search.draw_curves(content)).axes[1].patches[0].get_height() == 7

    lines = rendered(search.draw_coordinates(content)).axes[0].lines
    assert sum(len(line.get_xdata()) == 3 and line.get_marker() == "None" for line in lines) == 3

    pareto = rendered(search.draw_pareto(content)).axes
    assert [len(axes.lines[0].get_xdata()) for axes in pareto] == [2, 2]
    assert len(pareto[0].lines[1].get_xdata()) == 2  # fewer parameters, and less error
    assert len(pareto[1].lines[1].get_xdata()) == 1  # the quicker one is the better one


def test_most_important_setting_is_on_top(content):
    table = search.importances(decided_by(content, "width"))
    axes = rendered(search.draw_importances(table)).axes[0]
    assert axes.get_yticklabels()[-1].get_text() == "width"


def test_one_trial_in_full_is_drawn_too(content):
    """A single point has no range for a scale, colours or a front."""
    content["trials"] = content["trials"][:1]
    (curve,) = (
        line
        for line in rendered(search.draw_curves(content)).axes[0].lines
        if list(line.get_ydata()) == [value for _, value in content["trials"][0]["curve"]]
    )
    assert list(curve.get_xdata()) == [epoch for epoch, _ in content["trials"][0]["curve"]]

    axes = rendered(search.draw_coordinates(content)).axes[0]
    (line,) = (
        line for line in axes.lines if line.get_marker() == "None" and len(line.get_xdata()) == 3
    )
    low, high = axes.get_ylim()
    assert all(low <= height <= high for height in line.get_ydata())

    for axes in rendered(search.draw_pareto(content)).axes:
        points, _, ringed = axes.lines[:3]
        assert len(points.get_xdata()) == len(ringed.get_xdata()) == 1
        assert points.get_ydata()[0] == ringed.get_ydata()[0] == content["trials"][0]["values"][0]

"""Which setting is best, and which lines nothing beats, by hand."""

import pandas as pd
import pytest

from analysis.selection import best_setting, front, with_common_replicates


def test_the_best_setting_is_of_those_with_all_values_or_else_with_the_most():
    rows = pd.DataFrame(
        [(1, 1, "a", 0.9), (1, 2, "a", 0.1), (1, 2, "b", 0.3), (2, 2, "a", 0.2), (2, 2, "b", 0.4)],
        columns=["depth", "width", "over", "score"],
    )
    best = best_setting(rows, ["depth", "width"], "over", "score")
    assert best == (2, 2)
    assert best_setting(rows, ["depth", "width"], "over", "score", "min") == (1, 2)
    # None has all three: compared by what those with two share, which is b.
    rows.loc[4] = (2, 2, "b", 0.2)
    rows.loc[3] = (2, 2, "c", 0.9)
    assert best_setting(rows, ["depth", "width"], "over", "score") == (1, 2)


def test_common_replicates_are_those_of_every_cell():
    rows = pd.DataFrame(
        [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("", pd.NA)],
        columns=["cell", "replicate"],
    ).astype({"replicate": "Int64"})
    common = with_common_replicates(rows)
    assert common["cell"].tolist() == ["a", "a", "b", "b", ""]
    assert with_common_replicates(rows[:4]).equals(rows[:4])


TABLE = pd.DataFrame({"val_mse": [0.3, 0.2, 0.25, 0.2], "parameters": [10, 20, 30, 40]})


def test_the_front_is_what_nothing_beats_in_both():
    assert front(TABLE, "val_mse", "parameters").index.tolist() == [0, 1]
    more = TABLE.assign(val_mse=1 - TABLE["val_mse"])
    assert front(more, "val_mse", "parameters", "max").index.tolist() == [0, 1]


@pytest.mark.parametrize("step", [1, -1])
def test_of_lines_that_cost_the_same_only_the_best_is_on_the_front(step):
    cells = pd.DataFrame(
        {"parameters": [100, 100, 200, 200], "test_mse": [0.05, 0.04, 0.041, 0.03],
         "cell": list("abcd")}
    )[::step]  # fmt: skip
    assert front(cells, "test_mse", "parameters")["cell"].tolist() == ["b", "d"]


def test_what_costs_nobody_knows_what_is_not_on_the_front():
    unknown = pd.DataFrame({"val_mse": [0.01], "parameters": [float("nan")]})
    table = pd.concat([TABLE, unknown], ignore_index=True)
    assert front(table, "val_mse", "parameters").index.tolist() == [0, 1]

"""The best setting and the Pareto front, by hand."""

import pandas as pd
import pytest

from analysis.selection import best_setting, front, with_common_replicates


def test_best_setting_needs_all_values_or_the_most():
    rows = pd.DataFrame(
        [(1, 1, "a", 0.9), (1, 2, "a", 0.1), (1, 2, "b", 0.3), (2, 2, "a", 0.2), (2, 2, "b", 0.4)],
        columns=["depth", "width", "over", "score"],
    )
    best = best_setting(rows, ["depth", "width"], "over", "score")
    assert best == (2, 2)
    assert best_setting(rows, ["depth", "width"], "over", "score", "min") == (1, 2)
    # No setting has all three: those with two are compared by b, which they share.
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


def test_front_holds_undominated_lines():
    assert front(TABLE, "val_mse", "parameters").index.tolist() == [0, 1]
    more = TABLE.assign(val_mse=1 - TABLE["val_mse"])
    assert front(more, "val_mse", "parameters", "max").index.tolist() == [0, 1]


@pytest.mark.parametrize("step", [1, -1])
def test_front_has_only_the_best_line_of_each_cost(step):
    cells = pd.DataFrame(
        {"parameters": [100, 100, 200, 200], "test_mse": [0.05, 0.04, 0.041, 0.03],
         "cell": list("abcd")}
    )[::step]  # fmt: skip
    assert front(cells, "test_mse", "parameters")["cell"].tolist() == ["b", "d"]


def test_line_of_unknown_cost_is_not_on_the_front():
    unknown = pd.DataFrame({"val_mse": [0.01], "parameters": [float("nan")]})
    table = pd.concat([TABLE, unknown], ignore_index=True)
    assert front(table, "val_mse", "parameters").index.tolist() == [0, 1]

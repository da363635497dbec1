"""Question 1's tables and sentences against known truths."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from analysis import reconstruction
from analysis.reconstruction.checks import batch_changes, layer_changes
from analysis.reconstruction.errors import slope_over_dimension, with_every_dimension
from analysis.results import Results
from analysis.selection import curves, deepest_rows
from analysis.source import Source
from study.store import Block, Store
from trainables.autoencoder import train as autoencoder
from trainables.contract import Report


def rows_where(error, depths=(2, 3), dims=(2, 4, 8), replicates=3):
    """Rows whose test error is `error(depth, d)` times a replicate's own factor."""
    lines = []
    for depth in depths:
        for dim in dims:
            for replicate in range(replicates):
                mse = error(depth, dim) * (1 + 0.01 * replicate)
                lines.append(
                    {"cell": f"{depth}-{dim}", "replicate": replicate, "latent_dim": dim,
                     "depth": depth, "batch_size": 32, "epochs": 4, "width": 16,
                     "network": "convolutional",
                     "test_mse": mse, "val_mse": mse, "parameters": 100 * dim * depth,
                     "train_seconds": 1.0 * depth}
                )  # fmt: skip
    return pd.DataFrame(lines)


PCA_LINE = pd.DataFrame({"latent_dim": [2, 4, 8], "pca_mse": [0.06, 0.05, 0.04]})


def test_pca_errors_match_scikit_learn(digits):
    train = digits.train.images.reshape(len(digits.train), -1) / 255
    test = digits.test.images.reshape(len(digits.test), -1) / 255
    fitted = PCA(8, svd_solver="full").fit(train)
    restored = fitted.inverse_transform(fitted.transform(test))
    error = reconstruction.pca_errors(digits, [2, 8]).set_index("latent_dim")["pca_mse"]
    assert error[8] == pytest.approx(((restored - test) ** 2).mean(), rel=1e-6)
    assert error[2] == pytest.approx(0.0566, abs=5e-4)


def test_stored_linear_autoencoder_reaches_pca(digits, tmp_path):
    config = autoencoder.Config(
        8, depth=1, width=8, epochs=6, activation="none", learning_rate=1e-2
    )
    outcome = autoencoder.train(config, range(2), digits, Report())
    store = Store(tmp_path)
    store.create()
    settings = vars(config)
    store.write_block(Block("0" * 16, range(2)), settings, None, outcome, {})
    cell = {"id": "0" * 16, "config": settings, "replicates": 2}
    plan = {
        "dataset": "mnist-5k",
        "fingerprint": digits.fingerprint,
        "experiments": [{"name": "autoencoder", "axes": {}, "cells": [cell]}],
    }
    results = Results(store, plan, {}, Source(plan))
    pca = reconstruction.pca_errors(results.dataset, [8])
    table = reconstruction.summary(results.of("autoencoder"), pca)
    ratio = table["test_mse"][0] / table["pca_mse"][0]
    assert 0.99 < ratio < 1.02
    _, errors = reconstruction.image_errors(results, "0" * 16, replicate=1)
    assert errors.mean() == pytest.approx(outcome.rows[1]["test_mse"], rel=1e-5)


def test_summary_gives_means_intervals_and_names_cells():
    table = reconstruction.summary(rows_where(lambda depth, dim: 0.1 / dim), PCA_LINE)
    line = table[(table["depth"] == 2) & (table["latent_dim"] == 4)].iloc[0]
    assert line["test_mse"] == pytest.approx(0.025 * 1.01)
    # Three values one step of 1 % apart: t(0.975, 2) · SD / √3.
    assert line["high"] - line["test_mse"] == pytest.approx(4.3027 * 0.00025 / np.sqrt(3), rel=1e-3)
    assert (line["replicates"], line["cells"], line["pca_mse"]) == (3, "2-4", 0.05)


def test_best_model_is_chosen_by_validation():
    rows = rows_where(lambda depth, dim: 0.1 / dim)
    rows.loc[0, "val_mse"], rows.loc[1, "test_mse"] = 1e-6, 1e-6
    assert reconstruction.best_model(rows).name == 0


@pytest.mark.parametrize(
    ("exponent", "word"), [(-1, "The error falls"), (1, "The error rises"), (0, "undecided")]
)
def test_sentence_on_d_follows_the_data(exponent, word):
    rows = rows_where(lambda depth, dim: 0.01 * dim**exponent)
    if exponent == 0:  # each replicate has its own trend: up, down or none
        signs = np.where(rows["replicate"] == 0, 1, np.where(rows["replicate"] == 1, -1, 0))
        rows["test_mse"] *= rows["latent_dim"] ** (0.1 * signs)
    sentence = reconstruction.conclusions(rows, PCA_LINE)[1]
    assert word in sentence


@pytest.mark.parametrize(("factor", "word"), [(0.9, "3 layers are better"), (1.1, "worse")])
def test_sentence_on_layers_follows_the_data(factor, word):
    rows = rows_where(lambda depth, dim: 0.1 / dim * (factor if depth == 3 else 1))
    rows["test_mse"] *= 1 + 0.001 * np.sin(np.arange(len(rows)))
    sentence = reconstruction.conclusions(rows, PCA_LINE)[2]
    assert word in sentence
    assert f"{100 * (factor - 1):+.0f}" in sentence


def test_interval_of_the_slope_is_over_replicates():
    rows = rows_where(lambda depth, dim: 0.1 / dim)
    rows["test_mse"] *= rows["latent_dim"] ** (0.1 * rows["replicate"])
    slope = slope_over_dimension(with_every_dimension(rows))
    assert slope.estimate == pytest.approx(-0.9)
    # Slopes -1, -0.9 and -0.8: t(0.975, 2) · SD / √3. Twice as many, by depth, would be narrower.
    assert slope.high - slope.estimate == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-3)
    assert slope.n == 3
    assert "n = 3)" in reconstruction.conclusions(rows, PCA_LINE)[1]


def test_slope_over_d_uses_complete_settings_only():
    rows = rows_where(lambda depth, dim: 0.1 * depth**3 / dim)
    # In means over all rows, d = 8 would be better because the bad depth is missing.
    part = rows[(rows["depth"] != 3) | (rows["latent_dim"] == 2)]
    assert set(with_every_dimension(part)["depth"]) == {2}
    sentence = reconstruction.conclusions(part, PCA_LINE)[1]
    assert "multiplies it by 0.500 [0.500, 0.500]" in sentence
    assert "over the 1 of 2 settings" in sentence
    # If no setting has every d: one of those that have the most.
    part = rows[(rows["depth"] == 2) != (rows["latent_dim"] == 2)]
    assert set(with_every_dimension(part)["depth"]) == {2}
    assert set(with_every_dimension(part)["latent_dim"]) == {4, 8}
    # A line needs two d.
    part = rows[(rows["depth"] == 2) == (rows["latent_dim"] == 2)].query("latent_dim < 8")
    assert not [s for s in reconstruction.conclusions(part, PCA_LINE) if "a doubling" in s]


def test_one_replicate_has_values_without_intervals():
    rows = rows_where(lambda depth, dim: 0.1 / dim, replicates=1)
    _, slope, layers = reconstruction.conclusions(rows, PCA_LINE)
    assert slope.endswith("multiplies the error by 0.500 (n = 1, no interval).")
    assert layers.endswith("+0.0 % error (n = 1, no interval).")
    drawn = reconstruction.draw_error_by_dimension(rows, PCA_LINE)
    (bars, *_) = drawn.axes[0].containers
    assert not bars.has_yerr  # one of length 0 would look like certainty


def test_last_panel_shows_the_change_by_more_layers():
    """3 layers have 10 % less error at d = 2, and 10 % more at d = 4 and 8."""
    rows = rows_where(lambda depth, dim: 0.1 * ((0.9 if dim == 2 else 1.1) if depth == 3 else 1))
    *_, changes = reconstruction.draw_error_by_dimension(rows, PCA_LINE).axes
    assert changes.get_title() == "3 layers instead of 2"
    (estimates, *_) = changes.containers
    assert estimates.lines[0].get_ydata() == pytest.approx([-10, 10, 10])


@pytest.mark.parametrize(("noise", "depends"), [(0.001, True), (0.5, False)])
def test_dependence_on_d_needs_both_signs_significant(noise, depends):
    better = {2: 0.8, 4: 1.0, 8: 1.25}
    rows = rows_where(lambda depth, dim: 0.1 / dim * (better[dim] if depth == 3 else 1))
    draw = np.random.default_rng(0)
    rows["test_mse"] *= np.exp(noise * draw.normal(size=len(rows)))
    said = [s for s in reconstruction.conclusions(rows, PCA_LINE) if "depends on d" in s]
    assert len(said) == depends
    if depends:
        assert "3 layers have the smaller mean error at d = 2; 2 layers at d = 8 (" in said[0]


# --- the same at other settings ----------------------------------------------------------------


def at_other_settings():
    """A grid at 4 epochs, where 3 layers are better at d = 2 and worse at d = 8; at 16 epochs they
    are better at both. Batch 64 costs 10 % at equal epochs and gains 5 % at equal updates;
    doubling the width gains 20 %."""

    def lines(error, depths=(3,), dims=(2, 8), replicates=4, **changed):
        settings = {"batch_size": 32, "epochs": 4, "width": 16, **changed}
        phase = sum(settings.values())
        return [
            {"cell": f"{depth}-{dim}-{settings}", "replicate": replicate, "latent_dim": dim,
             "depth": depth, **settings, "network": "convolutional", "val_mse": 1.0,
             "test_mse": error(depth, dim) * (1 + 0.02 * replicate) * np.exp(
                 0.002 * np.sin(7 * replicate + depth + dim + phase))}
            for depth in depths for dim in dims for replicate in range(replicates)
        ]  # fmt: skip

    def at_4(depth, dim):
        return 0.1 / dim * (1 if depth == 2 else 0.9 if dim == 2 else 1.1)

    def at_16(depth, dim):
        return 0.08 / dim * 0.9 ** (depth - 2)

    grid = lines(at_4, depths=(2, 3))
    grid += lines(at_4, replicates=8)[8:]  # encoders of classifiers
    longer = lines(at_16, depths=(2, 3), replicates=3, epochs=16)
    batches = lines(lambda *at: 1.1 * at_4(*at), batch_size=64)
    batches += lines(lambda *at: 0.95 * at_4(*at), batch_size=64, epochs=8)
    widths = lines(lambda *at: 1.25 * at_4(*at), dims=(8,), width=8)
    widths += lines(lambda *at: 0.8 * at_4(*at), dims=(8,), width=32)
    every = [*grid, *longer, *batches, *widths]
    return pd.DataFrame(grid).drop_duplicates(), pd.DataFrame(every).drop_duplicates()


def test_checks_find_the_constructed_changes():
    _, every = at_other_settings()
    table = reconstruction.checks(every)
    found = {
        (line["question"], line["epochs"], line["latent_dim"]): line for _, line in table.iterrows()
    }
    layers = "3 layers instead of 2"
    for key, percent, n in (
        ((layers, 4, 2), -10, 4), ((layers, 4, 8), 10, 4), ((layers, 16, 2), -10, 3),
        ((layers, 16, 8), -10, 3), (("16 channels instead of 8", 4, 8), -20, 4),
        (("32 channels instead of 16", 4, 8), -20, 4),
    ):  # fmt: skip
        assert found[key]["percent"] == pytest.approx(percent, abs=0.5), key
        assert found[key]["low"] < found[key]["percent"] < found[key]["high"]
        assert found[key]["n"] == n, key
    batches = table[table["question"].str.startswith("batch 64 instead of 32")]
    assert batches["percent"].tolist() == pytest.approx([10, -5], abs=0.5)
    assert batches["epochs"].tolist() == [4, 8]
    assert batches["latent_dim"].isna().all()
    assert len(table) == 8


def test_order_reversed_by_a_larger_budget_is_stated():
    grid, every = at_other_settings()
    said = " ".join(reconstruction.conclusions(grid, PCA_LINE, every))
    assert "It depends on d after 4 epochs: 3 layers have the smaller mean error at d = 2" in said
    assert "Trained for 16 epochs instead, 3 layers change the error of 2 by -" in said
    assert "(n = 3): the order is reversed at d = 8." in said
    assert "batch 64 instead of 32, as many epochs: +10." in said
    assert "batch 64 instead of 32, as many updates: -" in said
    assert "Fewer and more weights at the same depth (3 layers, d = 8, 4 epochs" in said
    assert "; after 16 epochs, at d = 2, 8, by " in said
    holding = every.assign(epochs=every["epochs"].replace(16, 99))
    holding.loc[holding["epochs"] == 99, "test_mse"] = 0.1 * np.exp(
        0.01 * holding["replicate"] - 0.2 * (holding["depth"] == 3) * (holding["latent_dim"] == 2)
    )
    assert "no decided order is reversed" in " ".join(
        reconstruction.conclusions(grid, PCA_LINE, holding)
    )


def test_one_replicate_without_pca_has_no_intervals():
    alone = [table[table["replicate"] == 0] for table in at_other_settings()]
    said = " ".join(reconstruction.conclusions(alone[0], PCA_LINE[:0], alone[1]))
    assert not re.search(r"nan|95 %|PCA", said)
    for change in (r"as many epochs: \+\d+\.\d", r"16 channels instead of 8: -\d+\.\d"):
        assert re.search(change + r" % \(n = 1, no interval\);", said), change


def test_layer_changes_are_decided_or_negligible():
    rows = rows_where(
        lambda depth, dim: 0.1 / dim * (0.8 if (depth, dim) == (3, 2) else 1), replicates=12
    )
    rows["test_mse"] *= np.exp(1e-4 * np.sin(np.arange(len(rows))))
    table = layer_changes(rows, negligible_below=0.01).set_index("latent_dim")
    assert table["interval"].unique().tolist() == ["95 % anytime-valid"]
    assert table["p_holm"][2] < 0.05 and not table["negligible"][2]
    assert table["negligible"][[4, 8]].all()
    assert not layer_changes(rows, negligible_below=1e-5)["negligible"].any()
    assert not layer_changes(rows)["negligible"].any()


@pytest.mark.parametrize(
    ("sizes", "questions"),
    [
        ([64], ["64 instead of 32, as many epochs", "64 instead of 32, as many updates"]),
        ([64, 80], ["64 instead of 32, as many epochs", "64 instead of 32, as many updates"]),
        ([48], ["48 instead of 32, as many epochs"]),
        ([], []),
    ],
)
def test_equal_updates_are_those_of_a_whole_multiple(sizes, questions):
    grid, _ = at_other_settings()
    grid = grid[grid["depth"] == 3]
    larger = [grid.assign(batch_size=size, epochs=e) for size in sizes for e in (4, 8)]
    table = batch_changes(pd.concat([grid, *larger]))
    said = table["question"].drop_duplicates() if len(table) else []
    assert list(said) == [f"batch {question}" for question in questions]


def test_depths_look_different_where_colours_run_out():
    grid, _ = at_other_settings()
    rows = pd.concat([grid.assign(depth=d, cell=f"{d}") for d in range(1, 10)])
    rows = rows.assign(parameters=100 * rows["depth"], train_seconds=rows["depth"])
    drawn = reconstruction.draw_cost(rows).axes[0].lines
    looks = [(x.get_color(), x.get_marker()) for x in drawn if "layer" in x.get_label()]
    assert len(looks) == len(set(looks)) == 9


def test_checks_are_drawn_one_line_each():
    _, every = at_other_settings()
    table = reconstruction.checks(every)
    drawn = reconstruction.draw_checks(table)
    axes = drawn.axes[0]
    assert len(axes.get_yticklabels()) == len(table)
    points = [x for bars in axes.containers for x in bars.lines[0].get_xdata()]
    assert sorted(points) == pytest.approx(sorted(table["percent"]))


def test_figures_draw_every_replicate():
    rows = rows_where(lambda depth, dim: 0.1 / dim)
    drawn = reconstruction.draw_error_by_dimension(rows, PCA_LINE)
    for axes, title in zip(drawn.axes, ("2 layers", "3 layers"), strict=False):
        dots = [line for line in axes.lines if line.get_marker() == "."]
        assert sum(len(line.get_xdata()) for line in dots) == 9
        assert axes.get_title() == title
    assert drawn.axes[0].get_ylabel().startswith("mean squared error per pixel")


# --- widths, networks and recipes ---------------------------------------------------------------


def two_widths():
    """A grid of two widths: the wider one has 20 % less error, at every d and depth."""
    wide = rows_where(lambda depth, dim: 0.08 / dim).assign(width=32)
    rows = pd.concat([rows_where(lambda depth, dim: 0.1 / dim), wide], ignore_index=True)
    return rows.assign(cell=rows["cell"] + "-" + rows["width"].astype(str))


def recipe():
    """Every d has settings of its own, as in the preset `best`; 3 layers gain 10 % at each."""
    rows = rows_where(lambda depth, dim: 0.1 / dim * (0.9 if depth == 3 else 1))
    rows["test_mse"] *= np.exp(0.001 * np.sin(np.arange(len(rows))))
    at_2 = rows["latent_dim"] == 2
    rows.loc[at_2, ["batch_size", "width", "network", "epochs"]] = [128, 32, "mlp", 25]
    return rows


def test_widths_are_curves_of_their_own():
    rows = two_widths()
    assert list(curves(rows)) == ["batch 32, 16 channels", "batch 32, 32 channels"]
    assert set(deepest_rows(rows)["cell"]) == {"3-2-16", "3-4-16", "3-8-16"}
    panel = reconstruction.draw_error_by_dimension(rows, PCA_LINE).axes[0]
    means = [bars.lines[0].get_ydata() for bars in panel.containers]
    assert means[0] == pytest.approx(np.array([0.05, 0.025, 0.0125]) * 1.01)
    assert means[1] == pytest.approx(np.array([0.04, 0.02, 0.01]) * 1.01)
    table = reconstruction.summary(rows, PCA_LINE)
    assert table["width"].tolist() == [16] * 3 + [32] * 3 + [16] * 3 + [32] * 3
    # Without d = 8 of the wide ones at 3 layers, a mean over all would rise there.
    part = rows[rows["cell"] != "3-8-32"]
    assert set(with_every_dimension(part)["cell"]) == set(rows["cell"]) - {
        "3-2-32",
        "3-4-32",
        "3-8-32",
    }
    assert "over the 3 of 4 settings of depth and width with the most d" in " ".join(
        reconstruction.conclusions(part, PCA_LINE)
    )


def test_failed_cells_of_another_network_give_no_layer_effect():
    """A residual network has half the error; without its cells of 2 layers, none is compared."""
    plain = rows_where(lambda depth, dim: 0.1 / dim)
    residual = rows_where(lambda depth, dim: 0.05 / dim, depths=(3,)).assign(network="resnet")
    rows = pd.concat([plain, residual], ignore_index=True)
    assert layer_changes(rows)["percent"].tolist() == pytest.approx([0, 0, 0])
    table = reconstruction.checks(rows)
    found = table[table["question"] == "resnet instead of convolutional"]
    assert found["latent_dim"].tolist() == [2, 4, 8]
    assert found["percent"].tolist() == pytest.approx([-50] * 3)
    assert (
        "Other kinds of network at the same depth (3 layers, unadjusted 95 % Student t, paired by "
        "replicate, n = 3): resnet instead of convolutional (d = 2, 4 epochs): -50.0"
    ) in " ".join(reconstruction.conclusions(rows, PCA_LINE))


def test_a_recipe_is_one_curve_over_every_d():
    rows = recipe()
    assert list(curves(rows)) == ["batch 32 or 128"]
    assert set(deepest_rows(rows)["latent_dim"]) == {2, 4, 8}
    assert len(with_every_dimension(rows)) == len(rows)
    assert batch_changes(rows).empty
    said = reconstruction.conclusions(rows, PCA_LINE)
    assert len([s for s in said if "3 layers are better than 2 on average over d: -10" in s]) == 1


def test_holm_counts_every_d_of_a_recipe():
    table = layer_changes(recipe())
    assert len(table) == 3
    smallest = table.loc[table["p"].idxmin()]
    assert smallest["p_holm"] == pytest.approx(3 * smallest["p"])


def test_budgets_of_a_minibatch_are_compared_over_the_same_d():
    """At d = 8 alone batch 64 is twice as bad; its cell of equal updates is missing."""
    _, every = at_other_settings()
    other = every["batch_size"] == 64
    every.loc[other & (every["latent_dim"] == 8), "test_mse"] *= 2
    part = every[~(other & (every["latent_dim"] == 8) & (every["epochs"] == 8))]
    percent = batch_changes(part).set_index("question")["percent"]
    assert percent.tolist() == pytest.approx([10, -5], abs=0.5)


def test_minibatches_of_two_depths_are_told_apart():
    _, every = at_other_settings()
    same = every[every["epochs"].isin([4, 8])]
    shallow = same[(same["depth"] == 3) & (same["batch_size"] == 64)].assign(depth=2)
    found = batch_changes(pd.concat([every, shallow]))["question"].tolist()
    assert found[:2] == [f"batch 64 instead of 32, as many epochs, {n} layers" for n in (2, 3)]

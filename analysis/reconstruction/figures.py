"""Errors and reconstructions, drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.results import Results
from analysis.selection import front
from analysis.style import (
    COLOURS,
    MARKERS,
    class_axis,
    draw_series,
    error_bars,
    figure,
    image_grid,
    latent_dim_axis,
    on_paper,
    plain_log_ticks,
    styled,
)
from study.words import counted
from trainables.data import pixels

ERROR = "mean squared error per pixel, test images"


def series(rows: pd.DataFrame) -> list[tuple[int, int]]:
    """The (depth, batch size) combinations, each a line of the figures."""
    pairs = rows[["depth", "batch_size"]].drop_duplicates().sort_values(["depth", "batch_size"])
    return [(int(depth), int(batch)) for depth, batch in pairs.itertuples(index=False)]


@styled()
def draw_error_by_dimension(
    rows: pd.DataFrame, pca: pd.DataFrame, depth: int | None = None
) -> Figure:
    """Test error against d: every replicate, means with intervals, and PCA, if `pca` has lines.
    `depth` draws the autoencoders of that many layers alone, on the same scale."""
    made, axes = figure()
    every = series(rows)
    offsets = np.linspace(-0.02, 0.02, len(every)) if len(every) > 1 else [0.0]
    for index, (layers, batch) in enumerate(every):
        if depth is not None and layers != depth:
            continue
        part = rows[(rows["depth"] == layers) & (rows["batch_size"] == batch)]
        label = f"{counted(layers, 'layer')}, batch {batch}"
        draw_series(axes, part, "latent_dim", "test_mse", label, index, offset=offsets[index])
    if len(pca):
        axes.plot(pca["latent_dim"], pca["pca_mse"], color="#666666", linestyle=":", marker="x",
                  label="PCA, same split")  # fmt: skip
    latent_dim_axis(axes, rows["latent_dim"])
    axes.set_ylabel(ERROR)
    axes.set_ylim(0, 1.05 * max([*pca["pca_mse"], rows["test_mse"].max()]))
    axes.legend()
    return made


@styled()
def draw_cost(rows: pd.DataFrame) -> Figure:
    """Test error against the number of parameters and against training time, by depth; the
    cells that no other beats in both are ringed and joined (Pareto front)."""
    made, both = figure(columns=2, width=10, sharey=True)
    columns = {
        "parameters": "parameters (encoder and decoder)",
        "train_seconds": "training time of a replicate (s)",
    }
    cells = rows.groupby("cell").mean(numeric_only=True).reset_index()
    for axes, (column, label) in zip(both, columns.items(), strict=True):
        for index, (depth, part) in enumerate(cells.groupby("depth")):
            axes.plot(part[column], part["test_mse"], MARKERS[index], color=COLOURS[index],
                      label=counted(depth, "layer"))  # fmt: skip
        best = front(cells, "test_mse", column)
        axes.step(best[column], best["test_mse"], where="post", color="#444444", linewidth=1)
        axes.plot(best[column], best["test_mse"], "o", markersize=11, fillstyle="none",
                  color="#444444", label="Pareto front")  # fmt: skip
        for dim, part in best.groupby("latent_dim"):
            least = part.loc[part["test_mse"].idxmin()]
            axes.annotate(f"d = {int(dim)}", (least[column], least["test_mse"]),
                          textcoords="offset points", xytext=(-8, -13), fontsize=8)  # fmt: skip
        axes.set_xlabel(label)
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
        axes.margins(x=0.12, y=0.1)
    both[0].set_ylabel(ERROR)
    both[1].legend()
    return made


@styled()
def draw_histories(history: pd.DataFrame) -> Figure:
    """Validation error (solid) and training error (dotted) by epoch, mean over replicates; one
    panel a depth, one line a latent dimension, at the first batch size."""
    first = history[history["batch_size"] == history["batch_size"].min()]
    depths = sorted(first["depth"].unique())
    made, panels = figure(columns=len(depths), width=5 * len(depths), sharey=True, squeeze=False)
    dims = sorted(first["latent_dim"].unique())
    for axes, depth in zip(panels[0], depths, strict=True):
        for index, dim in enumerate(dims):
            part = first[(first["depth"] == depth) & (first["latent_dim"] == dim)]
            means = part.groupby("epoch")[["train_mse", "val_mse"]].mean()
            colour = COLOURS[index % 7]
            axes.plot(means.index, means["val_mse"], color=colour, marker=MARKERS[index % 7],
                      markersize=4, label=f"d = {dim}")  # fmt: skip
            axes.plot(means.index, means["train_mse"], color=colour, linestyle=":")
        axes.set_title(counted(depth, "layer"))
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
    panels[0][0].set_ylabel("mean squared error per pixel\nvalidation (solid), training (dotted)")
    panels[0][-1].legend(ncols=2, fontsize=8)
    return made


@styled()
def draw_error_by_class(table: pd.DataFrame) -> Figure:
    """Mean test error of the best model on each class with its interval over images."""
    made, axes = figure(width=max(6.0, min(14.0, 0.35 * len(table))), height=3)
    places = np.arange(len(table))
    reach = error_bars(table["test_mse"], table["low"], table["high"])
    axes.errorbar(places, table["test_mse"], yerr=reach, fmt="o", color=COLOURS[0], capsize=3)
    class_axis(axes.xaxis, list(table["class"]))
    axes.margins(y=0.15)
    axes.set_xlabel("class")
    axes.set_ylabel("mean squared error\nper pixel")
    axes.set_ylim(bottom=0)
    return made


@styled()
def draw_reconstructions(
    results: Results, restored: np.ndarray, errors: np.ndarray, columns: int = 12
) -> Figure:
    """Test images above their reconstructions `restored` (N, C, H, W): those with the least
    `errors` (N,), those around the median, and those with the largest."""
    order = np.argsort(errors)
    columns = min(columns, len(order))
    middle = (len(order) - columns) // 2
    chosen = {
        "least error": order[:columns],
        "median": order[middle : middle + columns],
        "largest error": order[-columns:],
    }
    made, panels = figure(rows=3, width=8, height=4.9)
    for axes, (name, indices) in zip(panels, chosen.items(), strict=True):
        both = np.stack([pixels(results.test_images[indices]).numpy(), restored[indices]])
        image_grid(axes, on_paper(both, results.dataset.is_dark))
        span = f"{errors[indices].min():.4f} … {errors[indices].max():.4f}"
        axes.set_title(f"{name}: {span} (above the image, below its reconstruction)", fontsize=9)
    return made

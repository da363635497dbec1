"""Plots of errors and reconstructions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.reconstruction.checks import change
from analysis.results import Results
from analysis.selection import curves, front
from analysis.style import (
    COLOURS,
    Series,
    StyledFigure,
    attach_notes,
    cells_of,
    class_axis,
    draw_estimates,
    draw_series,
    error_bars,
    figure,
    from_zero,
    image_grid,
    latent_dim_axis,
    marks,
    on_paper,
    plain_log_ticks,
    styled,
)
from study.words import counted
from trainables.data import pixels

ERROR = "mean squared error per pixel, test images"


@styled()
def draw_error_by_dimension(rows: pd.DataFrame, pca: pd.DataFrame) -> Figure:
    """Draw the test error against d, one panel per depth.

    A panel has every replicate, means with intervals, and PCA if `pca` has rows. With several
    depths, a last panel has the change from the fewest to the most layers in per cent: the curves
    themselves are too close to tell apart.
    """
    depths = sorted(int(depth) for depth in rows["depth"].unique())
    lines = curves(rows)
    made = StyledFigure(figsize=(max(8.0, 3.6 * (len(depths) + 1)), 4.2), layout="constrained")
    panels = [made.add_subplot(1, len(depths) + (len(depths) > 1), 1)]
    panels += [
        made.add_subplot(1, len(depths) + 1, 1 + place, sharey=panels[0])
        for place in range(1, len(depths))
    ]
    offsets = np.linspace(-0.02, 0.02, len(lines)) if len(lines) > 1 else [0.0]
    for axes, depth in zip(panels, depths, strict=True):
        for index, (name, line) in enumerate(lines.items()):
            series = Series(name, index, offsets[index], within=(0, np.inf))
            of_depth = line[line["depth"] == depth]
            draw_series(axes, of_depth, "latent_dim", "test_mse", series)
        if len(pca):
            axes.plot(
                pca["latent_dim"],
                pca["pca_mse"],
                color="#666666",
                linestyle=":",
                marker="x",
                label="PCA, same split",
            )
        axes.set_title(counted(depth, "layer"))
        latent_dim_axis(axes, rows["latent_dim"], apart=1.3)
    panels[0].set_ylabel(ERROR)
    from_zero(panels[0])
    panels[0].legend()
    if len(depths) > 1:
        _draw_changes(made.add_subplot(1, len(depths) + 1, len(depths) + 1), lines, depths)
    return made


def _draw_changes(axes: Axes, lines: dict[str, pd.DataFrame], depths: list[int]) -> None:
    """Draw the change of the error from the fewest to the most layers, by d, for each of `lines`,
    the `curves` over d."""
    for index, (name, rows) in enumerate(lines.items()):
        table = change(rows, {"depth": depths[0]}, {"depth": depths[-1]}, ["latent_dim"])
        if len(table):
            series = Series(name, index, 0.04 * (index - (len(lines) - 1) / 2))
            draw_estimates(axes, table, "latent_dim", "percent", series)
    axes.axhline(0, color="#444444", linewidth=1)
    axes.set_title(f"{depths[-1]} layers instead of {depths[0]}")
    axes.set_ylabel("change of the error (%)")
    latent_dim_axis(axes, pd.concat(lines)["latent_dim"], apart=1.3)


@styled()
def draw_cost(rows: pd.DataFrame) -> Figure:
    """Draw the test error against the number of parameters and against training time, by depth.

    In each panel, the cells that no other beats in both error and cost are ringed and joined (the
    Pareto front).
    """
    made, both = figure(columns=2, width=10, sharey=True)
    columns = {
        "parameters": "parameters (encoder and decoder)",
        "train_seconds": "training time of a replicate (s)",
    }
    cells = rows.groupby("cell").mean(numeric_only=True).reset_index()
    for axes, (column, label) in zip(both, columns.items(), strict=True):
        for index, (depth, part) in enumerate(cells.groupby("depth")):
            (drawn,) = axes.plot(
                part[column],
                part["test_mse"],
                linestyle="",
                **marks(index),
                label=counted(depth, "layer"),
            )
            attach_notes(drawn, "d = " + part["latent_dim"].astype(int).astype(str), cells_of(part))
        best = front(cells, "test_mse", column)
        axes.step(best[column], best["test_mse"], where="post", color="#444444", linewidth=1)
        axes.plot(
            best[column],
            best["test_mse"],
            "o",
            markersize=11,
            fillstyle="none",
            color="#444444",
            label="Pareto front",
        )
        axes.margins(x=0.12, y=0.1)
        axes.set_xscale("log")
        for dim, part in best.groupby("latent_dim"):
            least = part.loc[part["test_mse"].idxmin()]
            # To the left and below: a falling front has no other mark there.
            axes.annotate(
                f"d = {int(dim)}",
                (least[column], least["test_mse"]),
                ha="right",
                va="top",
                textcoords="offset points",
                xytext=(-5, -3),
                fontsize=8,
            )
        axes.set_xlabel(label)
        plain_log_ticks(axes.xaxis)
    both[0].set_ylabel(ERROR)
    both[1].legend()
    return made


@styled()
def draw_histories(history: pd.DataFrame) -> Figure:
    """Draw validation error (solid) and training error (dotted) by epoch, mean over replicates.

    One panel per depth, one line per latent dimension; `history` is of one of the `curves`.
    """
    depths = sorted(history["depth"].unique())
    made, panels = figure(columns=len(depths), width=5 * len(depths), sharey=True, squeeze=False)
    dims = sorted(history["latent_dim"].unique())
    for axes, depth in zip(panels[0], depths, strict=True):
        for index, dim in enumerate(dims):
            part = history[(history["depth"] == depth) & (history["latent_dim"] == dim)]
            means = part.groupby("epoch")[["train_mse", "val_mse"]].mean()
            axes.plot(
                means.index,
                means["val_mse"],
                **marks(index),
                markersize=4,
                label=f"d = {dim}",
            )
            axes.plot(means.index, means["train_mse"], color=marks(index)["color"], linestyle=":")
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
    """Draw the mean test error of the best model on each class with its interval over images."""
    made, axes = figure(width=max(6.0, min(14.0, 0.35 * len(table))), height=3)
    places = np.arange(len(table))
    reach = error_bars(table["test_mse"], table["low"], table["high"])
    axes.errorbar(places, table["test_mse"], yerr=reach, fmt="o", color=COLOURS[0], capsize=3)
    class_axis(axes.xaxis, list(table["class"]))
    axes.margins(y=0.15)
    axes.set_xlabel("class")
    axes.set_ylabel("mean squared error\nper pixel")
    from_zero(axes)
    return made


@styled()
def draw_reconstructions(results: Results, restored: np.ndarray, errors: np.ndarray) -> Figure:
    """Draw test images above their reconstructions `restored` (N, C, H, W).

    The three panels have the images with the least `errors` (N,), those around the median, and
    those with the largest.
    """
    order = np.argsort(errors)
    columns = min(12, len(order))
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

"""The latent explorer: the part of the report in which a reader moves through the latent space.

The page contains everything that it shows, computed beforehand: pictures as PNG sprite sheets, the
judges' readings as numbers. It needs no server and no network.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from analysis.document import uri
from analysis.interpolation.judge import Judges
from analysis.interpolation.lines import (
    ImagePairs,
    cells_by_dimension,
    class_pairs,
    image_pairs,
    interpolate,
    pixel_blend,
)
from analysis.interpolation.scorecard import INTERPOLATION, PIXEL_BLEND, RECONSTRUCTION, means
from analysis.results import Results
from analysis.style import on_paper
from trainables.data import Dataset, pixels
from trainables.networks import Autoencoder

ALPHAS = tuple(step / 20 for step in range(21))
"""The weights of I₁'s code at which the slider stops."""
MOST_DIMENSIONS = 16
"""Most latent dimensions of the explorer, evenly spaced among the study's. Each takes 80 kB."""
EXAMPLES = 3
"""Pairs of test images offered for each pair of classes: the first of the scorecard."""
GRID = 25
"""Decoded points along each side of the map."""
POINTS = 600
"""Maximum number of test images on the map."""
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7",
           "#56B4E9", "#B87A00", "#882255", "#7A7A1F", "#332288")  # fmt: skip
"""One colour per class, after Okabe & Ito (2008) and Tol (2021). Not everybody can tell ten colours
apart, so the map draws each image as the first letters of its class."""
LARGEST = 48
"""Maximum length of a picture's longer side in pixels; larger pictures are scaled down."""

SCORES = {
    "confidence": "confi\u00addence",  # soft hyphen: a phone may break the word there
    "outside": "outside the two",
    "both": "both at once",
    "cross_dissolve": "from cross-dissolve",
    "nearest": "nearest real",
    "mse": "end-point error",
}
"""Columns of the table of scores: measures of the scorecard and their headings."""


def content(results: Results, judges: Judges, scorecard: pd.DataFrame) -> dict[str, Any]:
    """The values of the template `explorer.html.j2`, of replicate 0 of `explorer_cells`.

    `scorecard` gives the scores over many image pairs. Parts that the study lacks (no d = 2, no
    test image of a class) are left out, and the page says so.
    """
    models = {d: results.first_autoencoder(cell) for d, cell in explorer_cells(results).items()}
    plane = cells_by_dimension(results).get(2)  # `explorer_cells` may leave it out
    data = results.dataset
    pairs = [image_pairs(results, pair) for pair in class_pairs(results)]
    replicates = scorecard.groupby("latent_dim")["replicate"].nunique()
    return {
        "dims": list(models),
        "dims_in_all": len(cells_by_dimension(results)),
        "data": {
            "alphas": ALPHAS,
            "pairs": [lines_of(models, images, judges, data) for images in pairs],
            "map": plane and map_of(results, results.first_autoencoder(plane), judges),
            "classes": data.classes,
            "colours": [COLOURS[n % len(COLOURS)] for n in range(len(data.classes))],
            "size": picture_size(data.image_shape[1:]),
        },
        "judge": judges.description(),
        "scores": scores(scorecard),
        "measures": SCORES,
        "counts": scorecard["example"].max() + 1,
        "replicates": sorted(set(replicates)),
    }


def explorer_cells(results: Results) -> dict[int, str]:
    """The cells of the explorer by latent dimension: `MOST_DIMENSIONS` at most, evenly spaced."""
    cells = list(cells_by_dimension(results).items())
    count = min(len(cells), MOST_DIMENSIONS)
    return dict(cells[at] for at in np.linspace(0, len(cells) - 1, count).astype(int))


def readings(data: Mapping[str, Any], cells: Mapping[int, str]) -> pd.DataFrame:
    """Table of the judges' readings of every picture of the lines.

    `data` is `content(…)["data"]`, `cells` is `explorer_cells(…)`.

    Columns `pair`, `images` (which example), `latent_dim` ("pixel blend" without a model),
    `alpha`, `class`, `percent` (its probability), `percent_first`, `percent_second` (the
    probabilities of I₁'s and I₂'s class), `cells`.
    """
    models = [*cells.items(), (PIXEL_BLEND, "none: images")]
    lines = [
        (
            line["name"],
            row // len(models) + 1,
            models[row % len(models)][0],
            alpha,
            data["classes"][reading[0]],
            *reading[1:],
            models[row % len(models)][1],
        )
        for line in data["pairs"]
        for row, of_row in enumerate(line["readings"])
        for alpha, reading in zip(ALPHAS, of_row, strict=True)
    ]
    columns = ["pair", "images", "latent_dim", "alpha", "class", "percent", "percent_first",
               "percent_second", "cells"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


# --- lines between two classes ------------------------------------------------------------------


def lines_of(
    models: dict[int, Autoencoder], images: ImagePairs, judges: Judges, data: Dataset
) -> dict[str, Any]:
    """Sprite sheet of one pair of classes, and the judges' reading of each picture in it.

    The sheet has one column per α. For each example it has one row per model and one for the pixel
    blend. `readings[row][column]` is [class, its probability, the probabilities of I₁'s and of
    I₂'s class], in per cent.
    """
    first, second = images.first[:EXAMPLES], images.second[:EXAMPLES]
    paths = [interpolate(model, first, second, ALPHAS)[1] for model in models.values()]
    paths.append(pixel_blend(first, second, ALPHAS))
    # (E · (models + 1), A, C, H, W): the rows of one example are adjacent.
    rows = torch.stack(paths, dim=1).flatten(0, 1)
    probabilities = judges(rows.flatten(0, 1)).reshape(*rows.shape[:2], -1)
    percent = np.rint(100 * probabilities).astype(int)
    readings = np.stack(
        [percent.argmax(axis=2), percent.max(axis=2), *(percent[:, :, d] for d in images.pair)],
        axis=2,
    )
    return {
        "name": images.name,
        "classes": images.pair,
        "examples": len(first),
        "sprite": sprite(rows, data.is_dark),
        "readings": readings.tolist(),
    }


def scores(scorecard: pd.DataFrame) -> dict[str, list[tuple[str, list[float]]]]:
    """Rows of the table of scores by pair of classes: d, and means of `SCORES` over replicates.

    One row per latent dimension and one for the pixel blend.
    """
    tables: dict[str, list[tuple[str, list[float]]]] = {}
    averages = means(scorecard, ["pair", "control", "latent_dim"])
    for pair, rows in averages.groupby("pair", sort=False):
        between, ends, blend = (
            rows[rows["control"] == control].set_index("latent_dim")
            for control in (INTERPOLATION, RECONSTRUCTION, PIXEL_BLEND)
        )
        shown = between.assign(mse=ends["mse"])[list(SCORES)].sort_index()
        lines = [(str(d), [float(v) for v in values]) for d, *values in shown.itertuples()]
        lines.append((PIXEL_BLEND, [float(value) for value in blend[list(SCORES)].iloc[0]]))
        tables[str(pair)] = lines
    return tables


# --- the map -----------------------------------------------------------------------------------


@torch.no_grad()
def map_of(results: Results, model: Autoencoder, judges: Judges) -> dict[str, Any]:
    """The latent plane of a model with d = 2: a grid of decoded points, and test images.

    The grid spans the codes without the outermost hundredth on each side; row 0 has the largest
    z₂. `points` are [x, y, class], with x and y in thousandths of the sides from the top left.
    """
    parts = results.test_images[:5000].split(250)
    codes = torch.cat([model.encoder(pixels(part)) for part in parts]).numpy()
    bounds = _bounds(codes)
    across, up = (np.linspace(low, high, GRID) for low, high in bounds)
    z1, z2 = np.meshgrid(across, up[::-1])
    grid = torch.from_numpy(np.stack([z1, z2], axis=-1).reshape(-1, 2).astype(np.float32))
    decoded = model.decoder(grid)
    probabilities = judges(decoded)
    readings = np.stack(
        [probabilities.argmax(axis=1), np.rint(100 * probabilities.max(axis=1)).astype(int)], axis=1
    )
    # The bounds are the middles of the outermost tiles, so these reach half a step beyond.
    place = [
        (codes[:, axis] - low) / (high - low) * (GRID - 1) / GRID + 0.5 / GRID
        for axis, (low, high) in enumerate(bounds)
    ]
    x, y = np.rint(1000 * place[0]), np.rint(1000 * (1 - place[1]))
    inside = (x > 0) & (x < 1000) & (y > 0) & (y < 1000)
    points = np.stack([x, y, results.test_labels[: len(codes)].numpy()], axis=1)[inside]
    return {
        "size": GRID,
        "bounds": [[round(float(low), 3), round(float(high), 3)] for low, high in bounds],
        "sprite": sprite(decoded.unflatten(0, (GRID, GRID)), results.dataset.is_dark),
        "readings": readings.tolist(),
        "points": points[:POINTS].astype(int).tolist(),
        "classes": sorted({int(label) for label in points[:POINTS, 2]}),
    }


def _bounds(codes: NDArray[np.floating]) -> list[tuple[float, float]]:
    """The range of each coordinate of `codes` (N, 2) without the outermost hundredth per side."""
    bounds = []
    for low, high in np.percentile(codes, [1, 99], axis=0).T:
        # A coordinate that never changes still needs two ends.
        margin = 0.5 if low == high else 0.0
        bounds.append((float(low) - margin, float(high) + margin))
    return bounds


# --- pictures ----------------------------------------------------------------------------------


def picture_size(sides: Sequence[int]) -> tuple[int, int]:
    """Height and width of the picture of an image with these `sides` (height, width)."""
    height, width = sides
    shrink = min(1.0, LARGEST / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def sprite(images: torch.Tensor, is_dark: bool) -> str:
    """Images (rows, columns, C, H, W) in [0, 1] side by side, as a PNG data URI."""
    rows, columns, channels = images.shape[:3]
    flat = images.flatten(0, 1)
    if (size := picture_size(flat.shape[2:])) != flat.shape[2:]:
        flat = functional.interpolate(flat, size, mode="area")
    pictures = on_paper(flat, is_dark).reshape(rows, columns, *size, 3)
    sheet = pictures.transpose(0, 2, 1, 3, 4).reshape(rows * size[0], columns * size[1], 3)
    colours = np.rint(255 * sheet).astype(np.uint8)
    buffer = io.BytesIO()
    picture = Image.fromarray(colours[..., 0] if channels == 1 else colours)
    picture.save(buffer, format="PNG", optimize=True)
    return uri("image/png", buffer.getvalue())

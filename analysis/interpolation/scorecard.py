"""The scorecard: every measure of every model, for the same pairs of test images.

`scorecard` makes the table and says what its columns are; `summary` and `by_replicate` average it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from analysis.interpolation.judge import Judge, Reader, RealImages, judge_of
from analysis.interpolation.lines import (
    ALPHAS,
    IMAGES_PER_PAIR,
    PAIRS,
    ImagePairs,
    cells_by_dimension,
    image_pairs,
    interpolate,
    pixel_blend,
)
from analysis.interpolation.measures import (
    cycle_error,
    distance_from_cross_dissolve,
    judged,
    path_over_chord,
    smoothness,
    spread,
)
from analysis.results import Results
from analysis.statistics import mean_interval
from trainables.data import pixels
from trainables.networks import Autoencoder

INTERPOLATION, RECONSTRUCTION = "interpolation", "reconstruction"
PIXEL_BLEND, REAL = "pixel blend", "real images"
CONTROLS = (INTERPOLATION, RECONSTRUCTION, PIXEL_BLEND, REAL)
"""What the rows of a scorecard are about: decoded midpoints; decoded end points D(E(I)); ½I₁ + ½I₂;
the images I₁ and I₂ themselves. The last two involve no model."""

MEASURES = {
    "confidence": "judge's confidence",
    "entropy": "judge's entropy (nats)",
    "outside": "probability outside the two digits",
    "both": "both digits at once (0 … 1)",
    "cross_dissolve": "distance from cross-dissolve",
    "nearest": "distance to nearest real image\n(1: that of a typical test image)",
    "path": "path length / chord",
    "smoothness": "unevenness of the path",
    "mean_distance": "cosine distance from real images,\nmean over the path",
    "cycle": "cycle error (spreads of the codes)",
    "mse": "mean squared error per pixel",
}
"""The measures of a scorecard and what axes call them; `scorecard` defines them."""


def scorecard(
    results: Results,
    pairs: Sequence[tuple[int, int]] = PAIRS,
    images_per_pair: int = IMAGES_PER_PAIR,
    judge: Judge | None = None,
) -> pd.DataFrame:
    """One line a model, pair of digits and control: means over the same pairs of test images.

    Columns: `cell`, `replicate`, `latent_dim`, `pair`, `control` (see `CONTROLS`; `pixel blend`
    and `real images` have no cell), `image_pairs`, `judge_accuracy`, and the measures, NaN where
    one doesn't apply:

    - `confidence`, `entropy` (nats), `outside` (probability of the eight other digits) and
      `both` (twice the probability of the less likely of the two digits) to the judge;
    - `cross_dissolve`: `distance_from_cross_dissolve`; 0 is pure cross-dissolve;
    - `nearest`: distance to the nearest training image over that of a typical test image;
    - `path`, `smoothness`: `path_over_chord` and `smoothness` of the decoded path in 10 steps;
    - `mean_distance`: cosine distance to the nearest training image, mean over the path
      (Berthelot et al. 2018);
    - `cycle`: ‖E(D(z)) − z‖ over the root mean square distance of test codes from their mean;
    - `mse`: squared error per pixel of the end points D(E(I)).

    The autoencoders are those of `cells_by_dimension`, with all their replicates.
    """
    judge = judge or judge_of(results.dataset)
    real = RealImages(results.dataset)
    chosen = [image_pairs(results, pair, images_per_pair) for pair in pairs]
    lines = [line for images in chosen for line in _without_model(images, judge, real)]
    test = pixels(results.test_images[:1000])
    for latent_dim, cell in cells_by_dimension(results).items():
        for replicate, model in enumerate(results.autoencoders(cell)):
            with torch.no_grad():
                unit = spread(model.encoder(test))
            about = {"cell": cell, "replicate": replicate, "latent_dim": latent_dim}
            for images in chosen:
                for line in _with_model(model, unit, images, judge, real):
                    lines.append({**about, **line})
    columns = ["cell", "replicate", "latent_dim", "pair", "control", "image_pairs"]
    table = pd.DataFrame(lines, columns=[*columns, *MEASURES])
    table.insert(len(columns), "judge_accuracy", judge.accuracy)
    table = table.astype({"replicate": "Int64", "latent_dim": "Int64"})
    return table.fillna({"cell": ""}).astype(dict.fromkeys(MEASURES, float))


def _with_model(
    model: Autoencoder, unit: float, images: ImagePairs, read: Reader, real: RealImages
) -> list[dict[str, object]]:
    codes, path = interpolate(model, images.first, images.second)
    about = {"pair": images.name, "image_pairs": len(path)}
    middle = len(ALPHAS) // 2
    between = {
        **judged(read, path[:, middle], images.pair),
        **_along(path, real),
        "cross_dissolve": _mean(distance_from_cross_dissolve(path)),
        "nearest": _mean(real.distances(path[:, middle])),
        "cycle": _mean(cycle_error(model, codes[:, middle], path[:, middle], unit)),
    }
    end_codes = torch.cat([codes[:, -1], codes[:, 0]])
    restored = torch.cat([path[:, -1], path[:, 0]])
    originals = torch.cat([images.first, images.second])
    ends = {
        **judged(read, restored, images.pair),
        "nearest": _mean(real.distances(restored)),
        "cycle": _mean(cycle_error(model, end_codes, restored, unit)),
        "mse": _mean((restored - originals).square().flatten(1).mean(dim=1)),
    }
    return [
        {**about, "control": INTERPOLATION, **between},
        {**about, "control": RECONSTRUCTION, **ends},
    ]


def _without_model(images: ImagePairs, read: Reader, real: RealImages) -> list[dict[str, object]]:
    about = {"pair": images.name, "image_pairs": len(images.first)}
    path = pixel_blend(images.first, images.second)
    middle = path[:, path.shape[1] // 2]
    originals = torch.cat([images.first, images.second])
    return [
        {**about, "control": PIXEL_BLEND, **judged(read, middle, images.pair),
         **_along(path, real), "nearest": _mean(real.distances(middle))},
        {**about, "control": REAL, **judged(read, originals, images.pair),
         "nearest": _mean(real.distances(originals))},
    ]  # fmt: skip


def _along(path: Tensor, real: RealImages) -> dict[str, float]:
    return {
        "path": _mean(path_over_chord(path)),
        "smoothness": _mean(smoothness(path)),
        "mean_distance": _mean(real.cosine_distances(path.flatten(0, 1))),
    }


def _mean(values: Tensor) -> float:
    """Without what can't be measured, such as the path between two images that decode alike."""
    return float(values.nanmean())


# --- over replicates -----------------------------------------------------------------------------


def by_replicate(table: pd.DataFrame, control: str) -> pd.DataFrame:
    """The rows of a scorecard with one control, averaged over pairs of digits: one line a model
    (`cell`, `replicate`, `latent_dim`, the measures)."""
    rows = table[table["control"] == control]
    keys = ["cell", "replicate", "latent_dim"]
    return rows.groupby(keys, dropna=False)[list(MEASURES)].mean().reset_index()


def by_pair(scorecard: pd.DataFrame) -> pd.DataFrame:
    """One line a latent dimension, control and pair of digits: means over replicates.

    Columns `latent_dim`, `control`, `pair`, the measures, `cells` ("none: images" where no model
    has a part).
    """
    keys = ["latent_dim", "control", "pair", "cell"]
    means = scorecard.groupby(keys, dropna=False, sort=False)[list(MEASURES)].mean().reset_index()
    return means.assign(cells=means.pop("cell").replace("", "none: images"))


def summary(scorecard: pd.DataFrame) -> pd.DataFrame:
    """One line a latent dimension, control and measure: its mean over pairs and replicates.

    Columns `latent_dim`, `control`, `measure`, `mean`, `low`, `high`, `n` (replicates),
    `interval` (its kind), `cells`. The interval is over replicates, for these image pairs: what
    other models, not other images, would give. Controls without a model have none.
    """
    lines = []
    for control in CONTROLS:
        models = by_replicate(scorecard, control)
        for latent_dim, group in models.groupby("latent_dim", dropna=False):
            for measure in MEASURES:
                values = group[measure].dropna()
                if values.empty:
                    continue
                interval = mean_interval(values)
                kind = interval.kind if interval.bounded else ""
                lines.append((latent_dim, control, measure, interval.estimate, interval.low,
                              interval.high, interval.n, kind,
                              group["cell"].iloc[0] or "none: images"))  # fmt: skip
    columns = ["latent_dim", "control", "measure", "mean", "low", "high", "n", "interval", "cells"]
    return pd.DataFrame(lines, columns=columns).astype({"latent_dim": "Int64"})

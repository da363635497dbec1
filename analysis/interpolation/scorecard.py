"""The scorecard: every measure of every model, for the same pairs of test images.

`scorecard` makes the table and documents its columns; the functions below it average the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import cache
from analysis.interpolation.judge import Judges, RealImages, evenly_spaced
from analysis.interpolation.lines import (
    IMAGES_PER_PAIR,
    ImagePairs,
    cells_by_dimension,
    class_pairs,
    image_pairs,
    interpolate,
    pixel_blend,
)
from analysis.interpolation.measures import (
    code_spread,
    cycle_error,
    distance_from_cross_dissolve,
    judge_readings,
    path_over_chord,
    seen_by_most,
    smoothness,
)
from analysis.results import Results
from analysis.statistics import mean_interval
from analysis.statistics.interval import FloatArray
from analysis.threads import parallel_map
from trainables.fewshot.codes import encode
from trainables.networks import Autoencoder, Decoder

INTERPOLATION, RECONSTRUCTION = "interpolation", "reconstruction"
PIXEL_BLEND, REAL = "pixel blend", "real images"
CONTROLS = (INTERPOLATION, RECONSTRUCTION, PIXEL_BLEND, REAL)
"""What a scorecard's rows measure, in the column `control`: decoded midpoints, and the three that
they are compared with: decoded end points D(E(I)), the pixel blend ½I₁ + ½I₂, and the test images
themselves. The last two involve no model."""

MEASURES = {
    "counted": "share of pairs that count",
    "confidence": "judges' confidence",
    "relative": "confidence relative to the end points'",
    "entropy": "judges' entropy (nats)",
    "outside": "probability outside the two classes",
    "both": "both classes at once (0 … 1)",
    "cross_dissolve": "distance from cross-dissolve",
    "nearest": "distance to nearest real image\n(1: that of a typical test image)",
    "mean_distance": "cosine distance from real images,\nmean over the path",
    "smoothness": "unevenness of the path of\nnearest real images",
    "path": "path length / chord",
    "cycle": "cycle error (spreads of the codes)",
    "mse": "mean squared error per pixel\nof the end points",
}
"""The measures of a scorecard with their axis labels; `scorecard` defines them."""

READINGS = ("confidence", "relative", "entropy", "outside", "both")
"""The measures that judges give; NaN for images without labels."""

MODELS_AT_ONCE = 8
"""Models of one cell that one thread loads at a time."""

OF_EVERY_PAIR = ("counted", "mse")
"""The measures of end points that are averaged over all pairs, not only over those that count."""


def scorecard(
    results: Results,
    judges: Judges | None,
    cells: Mapping[str, int] | None = None,
    images_per_pair: int = IMAGES_PER_PAIR,
) -> pd.DataFrame:
    """One row per model, pair of test images, control and judge.

    Columns: `cell`, `replicate`, `latent_dim`, `pair` (the two classes), `example` (which pair of
    images), `control` (see `CONTROLS`; `pixel blend` and `real images` have no cell), `judge`, and
    the measures, NaN if one doesn't apply:

    - `counted`: 1 if the pair counts, else 0. A pair counts if most judges see the right class in
      both end points (of the model, or the test images themselves);
    - `confidence`, `entropy` (nats), `outside` (probability of all other classes) and
      `both` (twice the probability of the less likely of the two classes), by this judge;
    - `relative`: its confidence in the midpoint over its mean confidence in the end points;
    - `cross_dissolve`: `distance_from_cross_dissolve`; 0 is pure cross-dissolve;
    - `nearest`: distance to the nearest training image over that of a typical test image;
    - `path`: `path_over_chord` of the decoded path in 10 steps;
    - `mean_distance`: cosine distance to the nearest training image, mean over the path, and
      `smoothness` of the path of these images (both Berthelot et al. 2018);
    - `cycle`: ‖E(D(z)) − z‖ over the root mean square distance of test codes from their mean;
    - `mse`: squared error per pixel of the end points D(E(I)).

    Without judges, for images without labels, every pair counts and the judges' readings are NaN.
    Raises ValueError if images have labels and `judges` is None.

    Rows of end points and of real images have the mean over the two. All models get the same pairs
    of images. The autoencoders are all replicates of `cells`, a mapping from cell to d; by default
    those of `cells_by_dimension`.
    """
    if judges is None and results.dataset.classes:
        raise ValueError(f"the images of {results.dataset.name} have labels: give judges")
    reader = Reader(judges, RealImages(results.dataset))
    chosen = [image_pairs(results, pair, images_per_pair) for pair in class_pairs(results)]
    tables = [
        table.assign(cell="") for images in chosen for table in _without_model(images, reader)
    ]
    if cells is None:
        cells = {cell: d for d, cell in cells_by_dimension(results).items()}

    test = evenly_spaced(results.test_images, 1000)

    pairs = [[*images.pair, images.name] for images in chosen]
    inputs = [results.dataset.fingerprint, pairs, images_per_pair, judges and judges.weights_hash]

    def measure(model: Autoencoder) -> pd.DataFrame:
        return pd.concat(_with_model(model, test, chosen, reader))

    def of_models(part: tuple[str, range]) -> pd.DataFrame:
        cell, replicates = part
        models = zip(replicates, results.autoencoders(cell, replicates), strict=True)
        of_part = [
            cache.model_table(f"scorecard-{cell}", model, inputs, measure).assign(
                replicate=replicate
            )
            for replicate, model in models
        ]
        return pd.concat(of_part).assign(cell=cell, latent_dim=cells[cell])

    parts = [
        (cell, every[first : first + MODELS_AT_ONCE])
        for cell in cells
        for every in [results.replicates(cell)]
        for first in range(0, len(every), MODELS_AT_ONCE)
    ]
    tables += parallel_map(of_models, parts)
    about = ["cell", "replicate", "latent_dim", "pair", "example", "control", "judge"]
    table = pd.concat(tables, ignore_index=True).reindex(columns=[*about, *MEASURES])
    return table.astype({"replicate": "Int64", "latent_dim": "Int64"})


@dataclass(frozen=True)
class Reader:
    """What pictures are compared with."""

    judges: Judges | None
    """None for images without labels."""
    real: RealImages


def _with_model(
    model: Autoencoder,
    test: Tensor,
    chosen: Sequence[ImagePairs],
    reader: Reader,
) -> list[pd.DataFrame]:
    """Two tables per pair of classes; `test` (N, C, H, W) sets the unit of length of codes."""
    unit = code_spread(encode(model, test))
    if isinstance(model.decoder, Decoder):  # a user's own decoder may not support it
        model.decoder.to(memory_format=torch.channels_last)  # 45 µs per image on a CPU, not 70
    return [table for pairs in chosen for table in _of_pairs(model, unit, pairs, reader)]


def _of_pairs(
    model: Autoencoder, unit: float, images: ImagePairs, reader: Reader
) -> list[pd.DataFrame]:
    codes, path = interpolate(model, images.first, images.second)
    middle, ends = _middle_and_ends(path)
    middle_codes, end_codes = _middle_and_ends(codes)
    originals = torch.cat([images.first, images.second])
    of_middle = {
        "cross_dissolve": distance_from_cross_dissolve(path),
        "cycle": cycle_error(model, middle_codes, middle, unit),
    }
    of_ends = {
        "cycle": _of_both(cycle_error(model, end_codes, ends, unit)),
        "mse": _of_both((ends - originals).square().flatten(1).mean(dim=1)),
    }
    return _tables(images, path, reader, {INTERPOLATION: of_middle, RECONSTRUCTION: of_ends})


def _without_model(images: ImagePairs, reader: Reader) -> list[pd.DataFrame]:
    blend = pixel_blend(images.first, images.second)
    return _tables(images, blend, reader, {PIXEL_BLEND: {}, REAL: {}})


def _tables(
    images: ImagePairs, path: Tensor, reader: Reader, others: Mapping[str, Mapping[str, Tensor]]
) -> list[pd.DataFrame]:
    """Midpoints and end points of `path` (P, A, C, H, W): a table of one row per judge and pair of
    images for each.

    `others` has the control and the other measures, (P,) each, of the midpoints; then of the ends.
    """
    middle, ends = _middle_and_ends(path)
    between, at_ends, counted = _readings(reader.judges, middle, ends, images.pair)
    distances, cosine_distances, nearest = (
        part.unflatten(0, path.shape[:2]) for part in reader.real.nearest(path.flatten(0, 1))
    )
    middle_distances, end_distances = _middle_and_ends(distances)
    of_middle = {
        "counted": counted,
        "nearest": middle_distances,
        "path": path_over_chord(path),
        "mean_distance": cosine_distances.mean(dim=1),
        "smoothness": smoothness(nearest),
    }
    of_ends = {"counted": counted, "nearest": _of_both(end_distances)}
    tables = []
    for (control, more), readings, values in zip(
        others.items(), (between, at_ends), (of_middle, of_ends), strict=True
    ):
        judges, pairs = readings["confidence"].shape
        columns = {
            "pair": images.name,
            "example": np.tile(np.arange(pairs), judges),
            "control": control,
            "judge": np.repeat(np.arange(judges), pairs),
            **{name: reading.ravel() for name, reading in readings.items()},
            **{name: np.tile(value.double(), judges) for name, value in {**values, **more}.items()},
        }
        tables.append(pd.DataFrame(columns))
    return tables


def _readings(
    judges: Judges | None, middle: Tensor, ends: Tensor, pair: tuple[int, int]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray], Tensor]:
    """Readings of midpoints and of end points, (J, P) each, and which pairs count, (P,).

    `middle` is (P, C, H, W). `ends` is (2P, C, H, W), all of I₁ before all of I₂; their readings
    are means over the two.
    """
    if judges is None:
        unknown = dict.fromkeys(READINGS, np.full((1, len(middle)), np.nan))
        return unknown, unknown, torch.ones(len(middle))
    probabilities = judges.by_judge(ends)
    of_first, of_second = np.split(probabilities, 2, axis=1)
    counted = seen_by_most(of_first, pair[0]) & seen_by_most(of_second, pair[1])
    of_ends = {
        name: np.stack(np.split(values, 2, axis=1)).mean(axis=0)
        for name, values in judge_readings(probabilities, pair).items()
    }
    of_middle = judge_readings(judges.by_judge(middle), pair)
    of_middle["relative"] = of_middle["confidence"] / of_ends["confidence"]
    return of_middle, of_ends, torch.from_numpy(counted)


def _middle_and_ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """Midpoints (P, …) and end points (2P, …), all of I₁ before all of I₂, of `line` (P, A, …)."""
    return line[:, line.shape[1] // 2], torch.cat([line[:, -1], line[:, 0]])


def _of_both(values: Tensor) -> Tensor:
    """Mean over the two ends of each pair, (P,), of `values` (2P,), all of I₁ before all of I₂."""
    return values.unflatten(0, (2, -1)).mean(dim=0)


# --- averages ------------------------------------------------------------------------------------


def counted_by_every_model(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose pair of images counts in every model of its replicate."""
    pairs = rows.groupby(["replicate", "pair", "example"])
    return rows[pairs["counted"].transform("min") == 1]


def means(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Mean measures by `keys`, over the pairs that count (measures `OF_EVERY_PAIR`: all pairs)."""
    measures = table[list(MEASURES)].where(table["counted"] == 1)
    measures[list(OF_EVERY_PAIR)] = table[list(OF_EVERY_PAIR)]
    groups = measures.groupby([table[key] for key in keys], dropna=False, sort=False)
    return groups.mean().reset_index()


def by_replicate(table: pd.DataFrame, control: str) -> pd.DataFrame:
    """`means` of one control: one row per model (`cell`, `replicate`, `latent_dim`)."""
    return means(table[table["control"] == control], ["cell", "replicate", "latent_dim"])


def by_model(scorecard: pd.DataFrame) -> pd.DataFrame:
    """`means` by model, control and pair of classes, with the column `cells` of other tables."""
    models = means(scorecard, ["cell", "replicate", "latent_dim", "pair", "control"])
    return models.assign(cells=models.pop("cell").replace("", "none: images"))


def by_pair(scorecard: pd.DataFrame) -> pd.DataFrame:
    """One row per latent dimension, control and pair of classes: means over replicates.

    Columns `latent_dim`, `control`, `pair`, the measures, `cells` ("none: images" without a model).
    """
    models = by_model(scorecard)
    keys = ["latent_dim", "control", "pair", "cells"]
    averages = models.groupby(keys, dropna=False, sort=False)[list(MEASURES)].mean().reset_index()
    return averages.assign(cells=averages.pop("cells"))


def summary(scorecard: pd.DataFrame) -> pd.DataFrame:
    """One row per latent dimension, control and measure: means over pairs, judges and replicates.

    Columns `latent_dim`, `control`, `measure`, `mean`, `low`, `high`, `n` (replicates),
    `interval` (its kind), `cells`. The interval is over replicates, for these image pairs and
    judges: it covers other models, not other images. Controls without a model have none.
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

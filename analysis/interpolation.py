"""Question 2: what lies on the straight line between the codes of two digits.

D(α·E(I₁) + (1 − α)·E(I₂)) for α from 0, which is I₂, to 1, which is I₁. A picture that shows
both digits at once is the known failure of this, cross-dissolve: it is what averaging the pixels
gives, without any model. So a midpoint is measured in three ways: does it pass for a digit (to a
judge that learnt from real digits alone), how far is it from a mere cross-dissolve, and are the
ends of the line still the two images?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.correlation import deepest
from analysis.judge import FloatArray, Judge, Reader, RealImages, both, entropy, judge_of, outside
from analysis.results import Results
from analysis.statistics import Interval, mean_interval, verdict
from analysis.style import COLOURS, MARKERS, draw_series, figure, latent_dim_axis
from trainables.data import pixels
from trainables.networks import Autoencoder

PAIRS = ((4, 7), (8, 9), (3, 4), (5, 1))
"""The assignment's pairs of digits (of I₁ and of I₂)."""
STRIP_DIMS = (2, 8, 14, 30)
"""The latent dimensions that its strips show."""
ALPHAS = tuple(step / 10 for step in range(11))
"""Weights of I₁'s code: 0, 0.1 … 1."""
IMAGES_PER_PAIR = 40
"""Pairs of test images that a scorecard takes of each pair of digits."""

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


# --- images and models -------------------------------------------------------------------------


@dataclass(frozen=True)
class ImagePairs:
    """Test images of two digits, the same ones for every model."""

    pair: tuple[int, int]
    """The digits of `first` and `second`."""
    first: Tensor
    """I₁, (P, 1, 28, 28) in [0, 1]."""
    second: Tensor
    """I₂, the same."""

    @property
    def name(self) -> str:
        """As the column `pair` has it: "4-7"."""
        return "-".join(map(str, self.pair))


def image_pairs(
    results: Results, pair: tuple[int, int], count: int = IMAGES_PER_PAIR, seed: int = 0
) -> ImagePairs:
    """`count` random pairs of test images of two digits, or as many as the rarer digit allows.

    No image occurs twice. Raises ValueError where the test split has none of a digit.
    """
    labels = results.test_labels.numpy()
    draw = np.random.default_rng([seed, *pair])
    chosen = []
    for digit in pair:
        images = np.flatnonzero(labels == digit)
        if not len(images):
            raise ValueError(f"the test split of {results.dataset.name} has no {digit}")
        chosen.append(draw.permutation(images))
    count = min(count, *map(len, chosen))
    first, second = (pixels(results.test_images[indices[:count]]) for indices in chosen)
    return ImagePairs(pair, first, second)


def cells_by_dimension(results: Results) -> dict[int, str]:
    """The cell that stands for each latent dimension, in the order of these: the one with the
    most layers at the first batch size."""
    rows = results.of("autoencoder")
    if rows.empty:
        return {}
    cells = deepest(rows).drop_duplicates("latent_dim").sort_values("latent_dim")
    return {int(d): str(cell) for d, cell in zip(cells["latent_dim"], cells["cell"], strict=True)}


@torch.no_grad()
def interpolate(
    model: Autoencoder, first: Tensor, second: Tensor, alphas: Sequence[float] = ALPHAS
) -> tuple[Tensor, Tensor]:
    """Codes (P, A, d) on the lines from E(second), α = 0, to E(first), α = 1, and what they
    decode to, (P, A, 1, 28, 28)."""
    weights = torch.tensor(alphas, dtype=first.dtype).view(1, -1, 1)
    ends = [model.encoder(images).unsqueeze(1) for images in (first, second)]
    codes = weights * ends[0] + (1 - weights) * ends[1]
    decoded = torch.cat([model.decoder(part) for part in codes.flatten(0, 1).split(1000)])
    return codes, decoded.unflatten(0, codes.shape[:2])


# --- measures ----------------------------------------------------------------------------------


def path_over_chord(path: Tensor) -> Tensor:
    """How much longer the way through `path` (P, A, 1, 28, 28) is than the straight line between
    its ends, as Euclidean distances of pixels: (P,), at least 1; NaN where the ends coincide."""
    return _steps(path).sum(dim=1) / _chord(path)


def smoothness(path: Tensor) -> Tensor:
    """How uneven the steps of `path` (P, A, 1, 28, 28) are: (P,), 0 for equal steps along a
    straight line.

    The longest step over the distance of the ends, less 1/(A − 1): Berthelot et al. 2018,
    "Understanding and improving interpolation in autoencoders via an adversarial regularizer",
    section 4.1, with the distance of pixels for their angle of a line.
    """
    steps = _steps(path)
    return steps.amax(dim=1) / _chord(path) - 1 / steps.shape[1]


def distance_from_cross_dissolve(path: Tensor) -> Tensor:
    """How far the midpoint of `path` (P, A, 1, 28, 28), A odd, is from the pixel blend of its
    ends, over half the distance of these: (P,).

    0 is pure cross-dissolve: both digits at once, as a linear decoder shows them. 1 is as far
    from the blend as the ends are.
    """
    start, end, middle = path[:, 0], path[:, -1], path[:, path.shape[1] // 2]
    return _norm(middle - (start + end) / 2) / (_chord(path) / 2)


def spread(codes: Tensor) -> float:
    """Root mean square distance of `codes` (N, d) from their mean: a model's unit of length."""
    return float((codes - codes.mean(dim=0)).square().sum(dim=1).mean().sqrt())


@torch.no_grad()
def cycle_error(model: Autoencoder, codes: Tensor, images: Tensor, unit: float) -> Tensor:
    """‖E(D(z)) − z‖ of `codes` z (N, d) that decode to `images` (N, 1, 28, 28), (N,), over
    `unit`, the `spread` of the codes of the test images. 1 is as far off as the mean code is."""
    return (model.encoder(images) - codes).norm(dim=1) / unit


def judged(read: Reader, images: Tensor, pair: tuple[int, int]) -> dict[str, float]:
    """Mean `confidence` (the largest probability), `entropy`, `outside` and `both` of `images`
    (N, 1, 28, 28) to a judge."""
    probabilities = read(images)
    values: dict[str, FloatArray] = {
        "confidence": probabilities.max(axis=1),
        "entropy": entropy(probabilities),
        "outside": outside(probabilities, *pair),
        "both": both(probabilities, *pair),
    }
    return {name: float(value.mean()) for name, value in values.items()}


# --- strips ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strips:
    """One pair of images and the lines between their codes under several models."""

    pair: tuple[int, int]
    """The digits of I₁ and I₂."""
    first: FloatArray
    """I₁, (28, 28) in [0, 1]: α = 1."""
    second: FloatArray
    """I₂, the same: α = 0."""
    alphas: tuple[float, ...]
    """The A weights of I₁'s code."""
    decoded: dict[int, FloatArray]
    """By latent dimension: (A, 28, 28)."""
    blend: FloatArray
    """The control without a model: α·I₁ + (1 − α)·I₂, (A, 28, 28)."""
    cells: dict[int, str]
    """By latent dimension: the cell of the model."""


def strips(
    results: Results,
    pair: tuple[int, int],
    dims: Sequence[int] | None = None,
    replicate: int = 0,
    example: int = 0,
    alphas: Sequence[float] = ALPHAS,
) -> Strips:
    """The strips of one of the scorecard's pairs of test images, under one replicate a dimension.

    `dims` are those of `STRIP_DIMS` that are finished, or else all that are; dimensions that
    aren't finished are left out. Raises ValueError where the test split lacks one of the digits.
    """
    cells = cells_by_dimension(results)
    wanted = [d for d in dims or STRIP_DIMS if d in cells] or list(cells)
    images = image_pairs(results, pair)
    first, second = (part[example : example + 1] for part in (images.first, images.second))
    decoded = {}
    for latent_dim in wanted:
        model = results.autoencoders(cells[latent_dim])[replicate]
        decoded[latent_dim] = interpolate(model, first, second, alphas)[1][0, :, 0].numpy()
    return Strips(
        pair, first[0, 0].numpy(), second[0, 0].numpy(), tuple(alphas), decoded,
        pixel_blend(first, second, alphas)[0, :, 0].numpy(), {d: cells[d] for d in wanted},
    )  # fmt: skip


def draw_strip(shown: Strips, gap: int = 2, margin: int = 10) -> Figure:
    """One row a latent dimension and one for the pixel blend, α growing to the right, I₂ on the
    left and I₁ on the right of each."""
    rows = [*shown.decoded.values(), shown.blend]
    names = [*(f"d = {latent_dim}" for latent_dim in shown.decoded), "pixel blend"]
    side, columns = shown.blend.shape[1], len(shown.alphas)
    # Left edges of the columns: I₂, a margin, the strip, a margin, I₁.
    lefts = [0, *(side + margin + column * (side + gap) for column in range(columns))]
    lefts.append(lefts[-1] + side + margin)
    sheet = np.ones((len(rows) * (side + gap) - gap, lefts[-1] + side))
    for row, images in enumerate(rows):
        top = row * (side + gap)
        for left, image in zip(lefts, [shown.second, *images, shown.first], strict=True):
            sheet[top : top + side, left : left + side] = 1 - image
    made, axes = figure(width=8, height=0.5 + 8 * sheet.shape[0] / sheet.shape[1])
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks([row * (side + gap) + side / 2 for row in range(len(rows))], names)
    weights = ["0", *(f"{alpha:g}" for alpha in shown.alphas[1:-1]), "1"]
    labels = [f"test image\nI₂: {shown.pair[1]}", *weights, f"test image\nI₁: {shown.pair[0]}"]
    axes.set_xticks([left + side / 2 for left in lefts], labels, fontsize=9)
    axes.set_xlabel("α, the weight of the code of I₁", fontsize=9)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return made


# --- the scorecard -----------------------------------------------------------------------------


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


def pixel_blend(first: Tensor, second: Tensor, alphas: Sequence[float] = ALPHAS) -> Tensor:
    """α·first + (1 − α)·second, pixel by pixel: (P, A, 1, 28, 28)."""
    weights = torch.tensor(alphas, dtype=first.dtype).view(1, -1, 1, 1, 1)
    return weights * first.unsqueeze(1) + (1 - weights) * second.unsqueeze(1)


def _along(path: Tensor, real: RealImages) -> dict[str, float]:
    return {
        "path": _mean(path_over_chord(path)),
        "smoothness": _mean(smoothness(path)),
        "mean_distance": _mean(real.cosine_distances(path.flatten(0, 1))),
    }


def _mean(values: Tensor) -> float:
    """Without what can't be measured, such as the path between two images that decode alike."""
    return float(values.nanmean())


def _norm(images: Tensor) -> Tensor:
    return images.flatten(-3).norm(dim=-1)


def _steps(path: Tensor) -> Tensor:
    return _norm(path[:, 1:] - path[:, :-1])


def _chord(path: Tensor) -> Tensor:
    """Distance of the ends of `path` (P, A, 1, 28, 28): (P,), NaN where they coincide."""
    chord = _norm(path[:, -1] - path[:, 0])
    return torch.where(chord > 0, chord, torch.nan)


# --- over replicates ---------------------------------------------------------------------------


def by_replicate(table: pd.DataFrame, control: str) -> pd.DataFrame:
    """The rows of a scorecard with one control, averaged over pairs of digits: one line a model
    (`cell`, `replicate`, `latent_dim`, the measures)."""
    rows = table[table["control"] == control]
    keys = ["cell", "replicate", "latent_dim"]
    return rows.groupby(keys, dropna=False)[list(MEASURES)].mean().reset_index()


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
                              interval.high, interval.n, kind, group["cell"].iloc[0]))  # fmt: skip
    columns = ["latent_dim", "control", "measure", "mean", "low", "high", "n", "interval", "cells"]
    return pd.DataFrame(lines, columns=columns).astype({"latent_dim": "Int64"})


PANELS = ("confidence", "entropy", "outside", "both", "cross_dissolve", "mean_distance",
          "nearest", "path", "cycle")  # fmt: skip
"""The measures that `draw_scorecard` shows."""


def draw_scorecard(table: pd.DataFrame) -> Figure:
    """Each measure against d: midpoints and end points with every replicate as a dot, the mean
    and its 95 % Student-t interval; lines for the controls that no model has a part in.

    Raises ValueError where `table` has no model.
    """
    models = _models(table)
    made, panels = figure(columns=3, rows=3, width=10, height=8.6)
    lines = {PIXEL_BLEND: ("--", "#555555"), REAL: (":", "#000000")}
    for axes, measure in zip(panels.flat, PANELS, strict=True):
        for index, (control, label) in enumerate(
            {INTERPOLATION: "midpoint, α = 0.5", RECONSTRUCTION: "end points D(E(I))"}.items()
        ):
            part = models[control].dropna(subset=measure)
            if len(part):
                draw_series(axes, part, "latent_dim", measure, label, index)
        for control, (style, colour) in lines.items():
            value = by_replicate(table, control)[measure].mean()
            if np.isfinite(value):
                axes.axhline(value, linestyle=style, color=colour, linewidth=1.2, label=control)
        latent_dim_axis(axes, _spaced(models[INTERPOLATION]["latent_dim"].unique()))
        axes.set_title(MEASURES[measure], fontsize=10)
        _from_zero(axes, measure)
    handles: dict[str, Artist] = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    made.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
    return made


def draw_trade_off(table: pd.DataFrame) -> Figure:
    """What a model shows between two digits against what it makes of the digits: the judge's
    confidence in midpoints, and their distance from cross-dissolve, over the error of the end
    points, by d. Every replicate a dot, means with 95 % Student-t intervals.

    Raises ValueError where `table` has no model.
    """
    models = _models(table)
    points = (
        models[INTERPOLATION]
        .drop(columns="mse")
        .merge(models[RECONSTRUCTION][["cell", "replicate", "mse"]], on=["cell", "replicate"])
    )
    made, panels = figure(columns=2, width=10, height=4.2)
    for axes, measure in zip(panels, ("confidence", "cross_dissolve"), strict=True):
        for index, (latent_dim, part) in enumerate(points.groupby("latent_dim")):
            _draw_point(axes, part, "mse", measure, f"{latent_dim}", index)
        blend = by_replicate(table, PIXEL_BLEND)[measure].mean()
        if np.isfinite(blend):
            axes.axhline(blend, linestyle="--", color="#555555", linewidth=1.2, label=PIXEL_BLEND)
            axes.legend(loc="upper right")
        axes.margins(y=0.12)
        axes.set_xlim(left=0)
        axes.set_xlabel("error of the end points D(E(I))\n(mean squared error per pixel)")
    panels[0].set_ylabel("judge's confidence in the midpoint")
    panels[1].set_ylabel("distance of the midpoint from cross-dissolve")
    made.suptitle("labels: latent dimension d; better is up and to the left", fontsize=9)
    return made


def _draw_point(axes: Axes, part: pd.DataFrame, x: str, y: str, label: str, index: int) -> None:
    colour, marker = COLOURS[index % 7], MARKERS[index % 7]
    across, up = mean_interval(part[x]), mean_interval(part[y])
    axes.plot(part[x], part[y], ".", color=colour, alpha=0.4, markersize=4)
    axes.errorbar(
        across.estimate, up.estimate, xerr=_reach(across), yerr=_reach(up), color=colour,
        marker=marker, capsize=2.5, markersize=6,
    )  # fmt: skip
    foot = up.low if up.bounded else up.estimate
    axes.annotate(label, (across.estimate, foot), xytext=(0, -4), textcoords="offset points",
                  ha="center", va="top", fontsize=8)  # fmt: skip


def _models(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    models = {control: by_replicate(table, control) for control in (INTERPOLATION, RECONSTRUCTION)}
    if models[INTERPOLATION].empty:
        raise ValueError("the scorecard has no model: no autoencoder is finished")
    return models


def _spaced(dims: Sequence[int]) -> list[int]:
    """The dimensions whose labels have room on the logarithmic axis of a small panel."""
    kept: list[int] = []
    for latent_dim in sorted(map(int, dims)):
        if not kept or latent_dim >= 1.25 * kept[-1]:
            kept.append(latent_dim)
    return kept


def _from_zero(axes: Axes, measure: str) -> None:
    axes.set_ylim(bottom=0.98 if measure == "path" else 0)
    if measure == "confidence":
        axes.set_ylim(top=1.05)
    if measure == "entropy":
        axes.set_ylim(top=max(0.8, axes.get_ylim()[1]))
        axes.axhline(np.log(2), color=COLOURS[2], linewidth=1)
        axes.text(0.02, np.log(2), "ln 2", ha="left", va="top", fontsize=8,
                  transform=axes.get_yaxis_transform())  # fmt: skip


def _reach(interval: Interval) -> list[list[float]] | None:
    if not interval.bounded:
        return None
    return [[interval.estimate - interval.low], [interval.high - interval.estimate]]


# --- conclusions -------------------------------------------------------------------------------


def paired(
    table: pd.DataFrame, measure: str, low: int, high: int, control: str = INTERPOLATION
) -> Interval:
    """Interval for the mean of `measure` at d = `high` less that at d = `low`, over replicates:
    replicate r has the same seeds and the same image pairs at both."""
    models = by_replicate(table, control).set_index("replicate")
    at = {d: models.loc[models["latent_dim"] == d, measure] for d in (low, high)}
    return mean_interval((at[high] - at[low]).dropna().to_numpy(float))


def conclusions(table: pd.DataFrame) -> list[str]:
    """Which d is better and why, from the numbers of a scorecard: sentences that change with
    them, and say "undecided" where the interval includes no difference."""
    models = by_replicate(table, INTERPOLATION)
    dims = sorted(int(d) for d in models["latent_dim"].unique())
    if len(dims) < 2:
        done = f"only d = {dims[0]} is finished" if dims else "no autoencoder is finished"
        return [f"Which d interpolates better can't be said: {done}."]
    low, high = dims[0], dims[-1]
    plausible = paired(table, "confidence", low, high)
    dissolve = paired(table, "cross_dissolve", low, high)
    ends = paired(table, "mse", low, high, RECONSTRUCTION)
    return [
        _which_and_why(plausible, dissolve, ends, low, high),
        _best(table, dims),
        _compared(table, "confidence", low, high, plausible,
                  "the judge takes midpoints for a digit with {more} confidence at"),
        _end_points(table, low, high),
        _compared(table, "cross_dissolve", low, high, dissolve,
                  "midpoints are {more} distant from cross-dissolve at"),
        _both_at_once(table, low, high),
    ]  # fmt: skip


def conclusion(table: pd.DataFrame) -> str:
    """`conclusions` as one paragraph."""
    return " ".join(conclusions(table))


def _which_and_why(
    plausible: Interval, dissolve: Interval, ends: Interval, low: int, high: int
) -> str:
    better = verdict(plausible, str(high), str(low), "")
    if not better:
        return (
            f"Whether d = {low} or d = {high} interpolates better is undecided: the interval of "
            "the difference in the plausibility of midpoints includes 0."
        )
    size = "larger" if better == str(high) else "smaller"
    # Signs turned so that above 0 speaks for the d that is better.
    toward = 1 if size == "larger" else -1
    reasons = [
        _sided(ends, -toward, "its end points are more faithful", "its end points are less "
               "faithful", "whether its end points are more faithful is undecided"),
        _sided(dissolve, toward, "its midpoints are farther from mere cross-dissolve",
               "its midpoints are closer to mere cross-dissolve, which is the price",
               "whether its midpoints are closer to mere cross-dissolve is undecided"),
    ]  # fmt: skip
    return (
        f"The {size} d is better: midpoints are more plausible at d = {better}; "
        f"{reasons[0]}, and {reasons[1]}."
    )


def _sided(interval: Interval, toward: int, positive: str, negative: str, undecided: str) -> str:
    if toward < 0:
        positive, negative = negative, positive
    return verdict(interval, positive, negative, undecided)


def _compared(
    table: pd.DataFrame, measure: str, low: int, high: int, difference: Interval, start: str
) -> str:
    """`start`, with "more" or "less" for {more}, and both means with their difference."""
    means = by_replicate(table, INTERPOLATION).groupby("latent_dim")[measure].mean()
    claim = start.format(more=verdict(difference, "more", "less", "more or less"))
    undecided = f"it is undecided whether {claim}"
    sentence = verdict(difference, claim, claim, undecided)
    return (
        f"{sentence[0].upper()}{sentence[1:]} d = {high} than at d = {low}: {means[high]:.3f} "
        f"against {means[low]:.3f}, difference {_signed(difference)} ({difference.kind}, paired "
        f"by replicate, n = {difference.n})."
    )


def _end_points(table: pd.DataFrame, low: int, high: int) -> str:
    """How much of what the judge thinks of midpoints it thinks of the end points already."""
    ends = by_replicate(table, RECONSTRUCTION)
    between = by_replicate(table, INTERPOLATION)
    lost = ends.merge(between, on=["cell", "replicate", "latent_dim"], suffixes=("", "_between"))
    lost["lost"] = lost["confidence"] - lost["confidence_between"]
    means = lost.groupby("latent_dim")[["confidence", "lost"]].mean()
    of = lost.set_index("replicate")
    at = {d: of.loc[of["latent_dim"] == d, "lost"] for d in (low, high)}
    difference = mean_interval((at[high] - at[low]).dropna().to_numpy(float))
    compared = verdict(
        difference, "the larger d loses more", "the smaller d loses more",
        "which loses more is undecided",
    )  # fmt: skip
    return (
        f"In the end points D(E(I)) themselves its confidence is "
        f"{means.loc[low, 'confidence']:.3f} at d = {low} and {means.loc[high, 'confidence']:.3f} "
        f"at d = {high}; from there to the midpoint it loses {means.loc[low, 'lost']:.3f} and "
        f"{means.loc[high, 'lost']:.3f}: {compared} (difference {_signed(difference)})."
    )


def _both_at_once(table: pd.DataFrame, low: int, high: int) -> str:
    """The original's reason for a larger d, as a number."""
    difference = paired(table, "both", low, high)
    means = by_replicate(table, INTERPOLATION).groupby("latent_dim")["both"].mean()
    blend = by_replicate(table, PIXEL_BLEND)["both"].mean()
    claim = verdict(
        difference,
        f"Both digits are seen at once more at d = {high} than at d = {low}",
        f"Both digits are seen at once less at d = {high} than at d = {low}",
        f"Whether both digits are seen at once more at d = {high} or at d = {low} is undecided",
    )
    return (
        f"{claim} ({means[high]:.3f} against {means[low]:.3f}, difference {_signed(difference)}); "
        f"it is what a blend of pixels does without any model ({blend:.3f}), so more of it is a "
        "failure to interpolate and not a merit."
    )


def _best(table: pd.DataFrame, dims: Sequence[int]) -> str:
    """The d with the most plausible midpoints, which others may be as good, and the control."""
    models = by_replicate(table, INTERPOLATION)
    means = models.groupby("latent_dim")["confidence"].mean()
    best = int(means.idxmax())
    others = [d for d in dims if d != best]
    as_good = [d for d in others if not paired(table, "confidence", d, best).excludes(0)]
    rivals = f"; not told apart from it: d = {', '.join(map(str, as_good))}" if as_good else ""
    blend = by_replicate(table, PIXEL_BLEND)["confidence"].mean()
    interval = mean_interval(models.loc[models["latent_dim"] == best, "confidence"])
    control = verdict(
        interval,
        "more than in a blend of pixels",
        "less than in a blend of pixels",
        "undecided whether more or less than in a blend of pixels",
        null=blend,
    )
    return (
        f"The most plausible midpoints are those of d = {best}: the judge's mean confidence is "
        f"{interval.text(3)}, {control} ({blend:.3f}){rivals}."
    )


def _signed(difference: Interval) -> str:
    if not difference.bounded:
        return f"{difference.estimate:+.3f} [no interval]"
    return f"{difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"

"""Section 2: interpolation between two images."""

from __future__ import annotations

import pandas as pd

from analysis import betas, interpolation
from analysis.correlation import epochs_of, longer_rows, models_sentence
from analysis.document import Document, Glance
from analysis.interpolation import explorer
from analysis.interpolation.judge import Judges, judges_of
from analysis.report.captions import STUDENT, bars, intervals
from analysis.report.correlation import write_betas
from analysis.results import Results
from study.words import counted


def write(document: Document, results: Results) -> None:
    """Write the section: conclusions, strips, the scorecard, β and the explorer."""
    section = document.section(
        "interpolation",
        "2 · Interpolation",
        "What does D(α·E(I₁) + (1 − α)·E(I₂)) show between two different images, and is a higher "
        "d better?",
    )
    judges, every = measure_models(results)
    longer = longer_rows(results)
    shown = [*interpolation.cells_by_dimension(results).values(), ""]  # "": without a model
    scorecard = every[every["cell"].isin(shown)].reset_index(drop=True)
    section.conclusions = interpolation.conclusions(scorecard)
    models = interpolation.by_replicate(scorecard, interpolation.INTERPOLATION)
    measure = "relative" if models["relative"].notna().any() else "nearest"
    sentence = interpolation.at_a_glance(section.conclusions)
    section.glance = Glance.of(sentence, models[measure], models["latent_dim"])
    if len(longer):
        section.conclusions += interpolation.after_longer_training(
            scorecard, every[every["cell"].isin(longer["cell"])], epochs_of(longer)
        )
    section.cells = sorted(set(scorecard["cell"]) - {""})
    for pair in interpolation.class_pairs(results):
        strips = interpolation.strips(results, pair)
        first, second = strips.names
        document.figure(
            f"interpolation_{pair[0]}_{pair[1]}",
            interpolation.draw_strip(strips),
            f"From {second} to {first}: decoded points of the line between their codes "
            "(replicate 0), with the two test images on either side; below, the blend of "
            "their pixels.",
        )
    _scorecard(document, results, judges, scorecard)
    by_beta = betas.midpoints_by_beta(results, every)
    write_betas(document, "interpolation_betas", by_beta, betas.MIDPOINT_MEASURES)
    if judges is None:
        return
    document.heading("Explore")
    content = explorer.content(results, judges, scorecard)
    document.explorer(content)
    readings = explorer.readings(content["data"], explorer.explorer_cells(results))
    document.download("interpolation_explorer", readings, "All the readings")


def measure_models(results: Results) -> tuple[Judges | None, pd.DataFrame]:
    """Return the judges, and the scorecard of every model of the section; both are cached."""
    judges = judges_of(results.dataset) if results.classes else None
    cells = {cell: d for d, cell in interpolation.cells_by_dimension(results).items()}
    for rows in (longer_rows(results), betas.rows_by_beta(results)):
        if len(rows):
            cells |= dict(zip(rows["cell"], rows["latent_dim"], strict=True))
    return judges, interpolation.scorecard(results, judges, cells)


def _scorecard(
    document: Document, results: Results, judges: Judges | None, scorecard: pd.DataFrame
) -> None:
    models = scorecard[scorecard["cell"] != ""]
    document.heading("The scorecard")
    count, pairs = int(scorecard["example"].max()) + 1, scorecard["pair"].nunique()
    judged = f"{counted(count, 'pair')} of held-out images, the same for every model."
    if judges:
        judged = (
            f"Each of the {counted(pairs, 'pair')} of classes has up to {judged} "
            f"{judges.description()} A pair counts if most judges see the right class in both "
            "decoded end points; the other pairs enter only the share of pairs that count and the "
            "error of the end points. A midpoint that shows both classes at once is a failure: it "
            "is cross-dissolve, which averaging pixels gives without any model."
        )
    document.text(
        f"{models_sentence(results)} {judged} Unevenness "
        "is ACAI's smoothness score (Berthelot et al. 2018): the longest step from one nearest "
        "real image to the next, divided by the distance from the first to the last, minus 1/10. "
        "Here a step is a distance of pixels; in ACAI it is an angle between drawn strokes."
    )
    document.figure(
        "interpolation_scorecard",
        interpolation.draw_scorecard(scorecard),
        "Midpoints (α = 0.5) and controls against d, over the pairs that count at that d: if they "
        f"are few, they are easy ones; {intervals(models)}, for these image pairs and judges.",
    )
    document.figure(
        "interpolation_trade_off",
        interpolation.draw_trade_off(scorecard),
        "Quality of the midpoint (left) and its distance from cross-dissolve (right), against the "
        "error of the end points; "
        f"{bars(STUDENT, models['replicate'].nunique())}.",
    )
    compared = interpolation.Comparison.of(scorecard)
    if len(compared.dims) > 1:
        trends = interpolation.trends_by_measure(compared)
        document.table(
            "interpolation_trends",
            trends,
            "Which d is better by each measure: trends over log₂ d on the pairs that count at each "
            "of these d, p values corrected for the number of measures (Holm)",
            shown=trends.drop(columns=["interval"]),
        )
    document.table(
        "interpolation",
        interpolation.summary(scorecard),
        "The scorecard by latent dimension, means over replicates",
    )
    document.table(
        "interpolation_pairs",
        interpolation.by_pair(scorecard),
        "The scorecard by latent dimension and pair of classes, means over replicates",
    )
    document.download(
        "interpolation_models",
        interpolation.by_model(scorecard),
        "The scorecard by model and pair of classes",
    )
